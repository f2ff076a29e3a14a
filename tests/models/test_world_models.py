"""V, M and C of World Models: sizes, losses by hand, restarts, temperature, what is told of ends, acting on frames."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.errors import Incompatible, NoFrames, NoLikelihood, UnusableInput
from retrodict.models.controller import Controller
from retrodict.models.filtered import Filtered
from retrodict.models.gaussian_vae import GaussianVAE, autoencoding, resampled
from retrodict.models.mdn_rnn import END_WEIGHT, MDNRNN, Expected, foretelling
from retrodict.nn.part import Part, build
from retrodict.recipes import world_models
from retrodict.roles import Memory, View
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, continuous

MOVES = ActionSpace((categorical("move", ("left", "stay", "right")),))
DRIVE = ActionSpace((continuous("drive", ("steer", "gas", "brake")),))
VIEW = View(size=(8, 8))


def small(**more: Any) -> MDNRNN:
    with rng.isolated("small"):
        return MDNRNN(GaussianVAE(VIEW, 3, (4, 4, 4)), MOVES, 6, 2, **more).eval()


def video(rows: int, length: int, *address: int | str) -> Clip:
    noise = rng.torch_rng("video", *address)
    moves = torch.randint(0, 3, (rows, length - 1), generator=noise)
    frames = torch.randint(0, 256, (rows, length, 3, 8, 8), generator=noise, dtype=torch.uint8)
    return Clip(frames=frames, actions=MOVES.one_hot(moves))


def count(part: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def test_the_published_sizes_have_the_published_numbers_of_parameters() -> None:
    cfg = world_models.paper()
    vae = GaussianVAE(View(size=(64, 64)), cfg.numbers, cfg.channels, cfg.kernels)
    race = MDNRNN(vae, DRIVE, cfg.hidden, cfg.mixtures, ends=False, rewards=False)
    shown = replace(race.view, features=race.features)
    assert count(vae) == 4_348_547
    assert count(race) - count(vae) == 422_368
    assert count(Controller(shown, DRIVE)) == 867
    doom = GaussianVAE(View(size=(64, 64)), 64, cfg.channels, cfg.kernels)
    turn = ActionSpace((continuous("turn", ("right",)),))
    take_cover = MDNRNN(doom, turn, 512, 5, rewards=False, restarts=True, cell=True)
    assert count(doom) == 4_446_915
    assert count(take_cover) - count(doom) == 1_678_785
    assert count(Controller(replace(doom.view, features=take_cover.features), turn, bias=False)) == 1_088


@pytest.mark.parametrize("size", [(32, 32), (45, 37), (16, 64)])
def test_frames_of_any_size_come_back_in_their_size(size: tuple[int, int]) -> None:
    vae = GaussianVAE(View(size=size), 5, (4, 8, 8))
    frames = torch.zeros(2, 3, 3, *size, dtype=torch.uint8)
    encoded = vae.encode(Clip(frames=frames))
    assert encoded.features is not None
    assert encoded.features.shape == (2, 3, vae.latent)
    drawn = vae.decode(encoded).frames
    assert drawn is not None
    assert drawn.shape == frames.shape


def test_what_an_autoencoder_cannot_do_is_said() -> None:
    with pytest.raises(UnusableInput, match="one frame at a time"):
        GaussianVAE(View(2, 1, size=(8, 8)))
    with pytest.raises(UnusableInput, match="use fewer"):
        GaussianVAE(View(size=(4, 4)), 4, (4, 4, 4))
    with pytest.raises(UnusableInput, match="frames of"):
        GaussianVAE(View(size=(32, 32)), 4, (4, 4, 4, 4), (5, 5, 6, 6))
    with pytest.raises(UnusableInput, match="a kernel for each"):
        GaussianVAE(View(size=(64, 64)), 4, (4, 4, 4, 4), (5, 5))
    with pytest.raises(NoFrames):
        small().vae.decode(video(1, 2))
    with pytest.raises(NoLikelihood):
        small().log_prob(Clip(frames=video(1, 2).frames))
    with pytest.raises(UnusableInput, match="temperature"):
        small(temperature=0.0)


def test_the_loss_of_v_is_summed_error_and_what_lies_above_the_free_nats() -> None:
    """Frames are drawn as 0 where the decoder is zero; a mean of m costs m²/2 nats, free up to 1.5 in all."""
    vae = GaussianVAE(VIEW, 3, (4, 4, 4))
    for parameter in vae.parameters():
        parameter.data.zero_()
    clip = Clip(frames=torch.full((2, 1, 3, 8, 8), 255, dtype=torch.uint8))
    error = 3 * 64 * 1.0
    for mean, nats in ((0.5, 1.5), (2.0, 6.0)):  # 3 m² / 2, and log variance 0 costs nothing
        vae.mean[1].bias.data.fill_(mean)  # type: ignore[index]
        loss = autoencoding(vae, clip, rng.torch_rng(0))["all"].detach()
        assert float(loss) == pytest.approx(error + nats, rel=1e-5)


def test_v_finds_a_small_thing_on_dark_ground() -> None:
    """Else the world has no shots, and the loss looks well all the same: all but 16 of 256 pixels are right."""
    with rng.isolated("dot"):
        vae = GaussianVAE(View(size=(16, 16)), 2, (16, 32))
    optimiser = torch.optim.Adam(vae.parameters(), 4e-3)

    def dots(rows: int, *address: int | str) -> Clip:
        frames = torch.full((rows, 1, 3, 16, 16), 16, dtype=torch.uint8)
        for row, (y, x) in enumerate(torch.randint(0, 13, (rows, 2), generator=rng.torch_rng(*address)).tolist()):
            frames[row, 0, :, y : y + 4, x : x + 4] = 255
        return Clip(frames=frames)

    for step in range(120):
        loss = autoencoding(vae, dots(32, "dots", step), rng.torch_rng("noise", step))["all"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    clip = dots(32, "test")
    with torch.no_grad():
        drawn = vae.decode(vae.encode(clip)).frames
    assert drawn is not None
    assert clip.frames is not None
    error = ((drawn.float() - clip.frames) / 255).square().sum((2, 3, 4)).mean()
    whole = 3 * 16 * ((255 - 16) / 255) ** 2
    assert float(error) < 0.5 * whole


def test_latents_are_drawn_with_the_spread_that_is_believed() -> None:
    drawn = resampled(torch.full((20_000,), 3.0), torch.full((20_000,), math.log(4.0)), rng.torch_rng(0))
    assert float(drawn.mean()) == pytest.approx(3, abs=0.06)
    assert float(drawn.std()) == pytest.approx(2, abs=0.05)


def mixture(temperature: float, count: int) -> Tensor:
    share = torch.tensor([0.9, 0.1]).log().expand(count, 1, 2)
    mean = torch.tensor([-10.0, 10.0]).expand(count, 1, 2)
    nothing = torch.zeros(count)
    expected = Expected(share, mean, torch.zeros(count, 1, 2), nothing, nothing)
    return expected.sample(temperature, rng.torch_rng("mixture"))[:, 0]


def test_density_and_draws_of_a_mixture() -> None:
    nothing = torch.zeros(1)
    share = torch.tensor([[[0.25, 0.75]]]).log()
    expected = Expected(share, torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[0.0, math.log(0.5)]]]), nothing, nothing)

    def normal(x: float, mean: float, std: float) -> float:
        return math.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))

    by_hand = math.log(0.25 * normal(1.0, 0, 1) + 0.75 * normal(1.0, 2, 0.5))
    assert float(expected.log_prob(torch.tensor([[1.0]]))) == pytest.approx(by_hand, rel=1e-5)
    for temperature in (0.5, 1.0, 2.0):  # weights w^(1/τ), noise of τ^(1/2)
        drawn = mixture(temperature, 20_000)
        odds = 9 ** (1 / temperature)
        assert float((drawn < 0).float().mean()) == pytest.approx(odds / (1 + odds), abs=0.01)
        assert float(drawn[drawn < 0].std()) == pytest.approx(math.sqrt(temperature), abs=0.03)


def test_the_loss_of_m_by_hand() -> None:
    """With a silent head every latent has a standard normal ahead, an end the logit 0, and a reward 0."""
    world = small()
    world.head.weight.data.zero_()
    world.head.bias.data.zero_()
    latent = torch.tensor([[[1.0, 2.0, 0.0], [0.5, 0.0, -1.0], [9.0, 9.0, 9.0]]])
    believed = torch.cat([latent, torch.full_like(latent, -60.0)], -1)
    clip = Clip(
        features=believed, actions=torch.zeros(1, 2, 3), rewards=torch.tensor([[2.0, 5.0]]),
        ends=torch.tensor([[1.0, 0.0]]), segment=torch.tensor([[0, 0, -1]], dtype=torch.int32),
    )  # fmt: skip
    density = 0.5 * math.log(2 * math.pi) + 0.5 * (0.25 + 0 + 1) / 3
    loss = foretelling(world, clip, rng.torch_rng(0))["all"].detach()
    assert float(loss) == pytest.approx(density + END_WEIGHT * math.log(2) + 4.0, rel=1e-5)  # the last step is not real
    with pytest.raises(UnusableInput, match="learns rewards"):
        foretelling(world, clip.with_(rewards=None), rng.torch_rng(0))
    with pytest.raises(UnusableInput, match="begin within"):
        foretelling(world, clip.with_(segment=torch.tensor([[0, 1, 1]], dtype=torch.int32)), rng.torch_rng(0))


@pytest.mark.parametrize("by", [0, 1, -1])
def test_what_follows_and_what_is_earned_belong_to_the_action_of_their_step(by: int) -> None:
    """Rewards and next latents are the action's own number, or the last or the next one's. The first step is asked for,
    as later ones remember the last action; in it only the own action can be known."""
    world, noise = small(ends=False), rng.torch_rng("aligned")
    climb = torch.optim.Adam(world.groups()["all"], 2e-2)
    for _ in range(150):
        moves = torch.randint(0, 3, (64, 7), generator=noise)
        told = moves.roll(by, 1)[:, 1:6].float() - 1  # of frame t, with by = 0: the action of step t - 1
        latent = told[..., None].expand(-1, -1, 3)
        clip = Clip(
            features=torch.cat([latent, torch.full_like(latent, -6)], -1),  # b 5 means and log variances
            actions=MOVES.one_hot(moves[:, 2:6]), rewards=told[:, 1:],  # of the step that leads to the frame
        )  # fmt: skip
        climb.zero_grad()
        foretelling(world, clip, noise)["all"].backward()
        climb.step()
    known, _ = world.unroll(latent[:, :1], clip.actions[:, :1], torch.zeros(64, 1))  # type: ignore[index]
    expected = world.expected(known[:, 0])
    reward = float((expected.reward - told[:, 1]).square().mean().detach())
    follows = float(((expected.mix.exp() * expected.mean).sum(-1) - latent[:, 1]).square().mean())
    if by == 0:
        assert max(reward, follows) < 0.1
    else:  # a guess is 2/3 off
        assert min(reward, follows) > 0.5


def test_an_end_is_told_as_often_as_it_occurs_though_it_weighs_more() -> None:
    """One step in five ends; the likeliest logit under the weights is log(0.2 W / 0.8), and told is 0.2."""
    world = small()
    world.head.weight.data.zero_()
    world.head.bias.data.zero_()
    world.head.bias.data[0] = math.log(0.2 * END_WEIGHT / 0.8)
    dream, _ = world.imagine(world.observe(video(2, 1)), torch.zeros(2, 3, 3), 3, rng.torch_rng(0))
    assert dream.ends is not None
    assert torch.allclose(dream.ends, torch.full((2, 3), 0.2), atol=1e-6)


def same(first: Any, second: Any, rows: slice = slice(None)) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.allclose(value, second[name][rows], atol=1e-6), name


@pytest.mark.parametrize("restarts", [False, True])
def test_observing_two_episodes_is_observing_the_second_alone(restarts: bool) -> None:
    world, one, two = small(restarts=restarts), video(2, 4, 1), video(2, 3, 2)
    assert one.frames is not None and one.actions is not None and two.frames is not None and two.actions is not None  # noqa: PT018
    between = MOVES.one_hot(torch.tensor([[0], [2]]))
    segment = torch.tensor([0] * 4 + [1] * 3, dtype=torch.int32).expand(2, -1)
    both = Clip(
        frames=torch.cat([one.frames, two.frames], 1), segment=segment,
        actions=torch.cat([one.actions, between, two.actions], 1),
    )  # fmt: skip
    same(world.observe(two), world.observe(both))
    half = world.observe(both.cut(0, 3))
    same(world.observe(both.cut(2, 7), half), world.observe(both))  # the last frame seen, and what is new
    logs = world.log_prob(both)
    assert torch.allclose(logs[:, 4:], world.log_prob(two), atol=1e-5)
    assert logs[:, 3].tolist() == [0.0, 0.0]


def test_an_action_matters_where_it_is_known_and_not_where_it_is_missing() -> None:
    world, clip = small(), video(2, 3)
    told = world.observe(clip)
    blind = world.observe(Clip(frames=clip.frames))
    missing = world.observe(clip.with_(source=torch.zeros(2, 2, dtype=torch.uint8)))
    assert isinstance(told, dict)
    assert isinstance(blind, dict)
    assert not torch.allclose(told["h"], blind["h"])  # type: ignore[arg-type]
    same(missing, blind)


def test_training_and_acting_know_the_same() -> None:
    world, clip = small(), video(3, 5)
    assert clip.frames is not None
    assert clip.actions is not None
    latent = world.vae.posterior(clip.frames)[0]
    known, _ = world.unroll(latent[:, :-1], clip.actions, torch.zeros(3, 4))
    state = world.observe(clip)
    assert isinstance(state, dict)
    assert torch.allclose(known[:, -1], state["h"], atol=1e-6)  # type: ignore[arg-type]
    assert torch.allclose(latent[:, -1], state["z"], atol=1e-6)  # type: ignore[arg-type]


def test_a_dream_tells_features_rewards_and_ends_and_frames_when_asked() -> None:
    world, clip = small(), video(2, 2)
    state, actions = world.observe(clip), MOVES.one_hot(torch.ones(2, 3, dtype=torch.long))
    dream, after = world.imagine(state, actions, 3, rng.torch_rng(0))
    assert dream.features is not None
    assert dream.features.shape == (2, 4, 3 + 6)
    assert isinstance(after, dict)
    assert torch.equal(dream.features[:, -1], torch.cat([after["z"], after["h"]], 1))  # type: ignore[list-item]
    assert dream.rewards is not None
    assert dream.rewards.shape == (2, 3)
    decoded = world.decode(dream).frames
    assert decoded is not None
    assert decoded.shape == (2, 4, 3, 8, 8)
    half, middle = world.imagine(state, actions[:, :1], 1, rng.torch_rng(0))
    assert half.features is not None
    assert torch.equal(half.features, dream.features[:, :2])  # the first of the same noise
    with pytest.raises(UnusableInput, match="does not choose"):
        world.imagine(middle, None, 1, rng.torch_rng(0))
    silent, _ = small(ends=False, rewards=False).imagine(state, actions, 3, rng.torch_rng(0))
    assert silent.rewards is None
    assert silent.ends is None


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_a_dream_is_drawn_at_its_temperature(temperature: float) -> None:
    """With a silent head every latent has a standard normal ahead."""
    world = small(temperature=temperature)
    world.head.weight.data.zero_()
    world.head.bias.data.zero_()
    state, actions = world.observe(video(1000, 2)), MOVES.one_hot(torch.ones(1000, 3, dtype=torch.long))
    with torch.no_grad():
        dream, _ = world.imagine(state, actions, 3, rng.torch_rng("temperature"))
    assert dream.features is not None
    assert dream.features[:, 1:, :3].std(0).flatten().tolist() == pytest.approx([math.sqrt(temperature)] * 9, rel=0.1)


def test_controllers_side_by_side_answer_as_each_alone() -> None:
    shown = replace(VIEW, features=2)
    mixed = ActionSpace((
        categorical("move", ("a", "b")), Segment("keys", "binary", ("k",)),
        continuous("steer", ("x",), low=-1.0, high=3.0),
    ))  # fmt: skip
    crowd = Controller(shown, mixed, count=2)
    crowd.weights.copy_(torch.randn(crowd.weights.shape, generator=rng.torch_rng("crowd")))
    clip = Clip(features=torch.randn(6, 2, 2, generator=rng.torch_rng("features")))
    whole = crowd.act(clip)[0].mode()
    for number in range(2):
        alone = Controller(shown, mixed)
        alone.load_state_dict({"weights": crowd.weights[number : number + 1]})
        rows = range(3 * number, 3 * number + 3)
        assert torch.allclose(alone.act(clip.pick(rows))[0].mode(), whole[rows.start : rows.stop], atol=1e-5)
        feature = clip.features[rows.start, -1]  # type: ignore[index]
        score = alone.weights[0, :4] + feature @ alone.weights[0, 4:].view(2, 4)
        steer = -1 + (math.tanh(float(score[3])) + 1) * 2
        by_hand = [float(score[0] >= score[1]), float(score[0] < score[1]), float(score[2] > 0), steer]
        assert whole[rows.start].tolist() == pytest.approx(by_hand, abs=1e-4)
    with pytest.raises(UnusableInput, match="without them"):
        Controller(VIEW, MOVES)
    with pytest.raises(UnusableInput, match="Filtered"):
        crowd.act(video(2, 1))


class Counting(Part):
    """A policy that remembers how many features it was shown in all, and says that, modulo 3."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view, self.space = view, MOVES

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        seen = past.length if memory is None else past.length - 1
        total = torch.full((past.rows,), seen) if memory is None else memory + seen  # type: ignore[operator]
        return Distribution.point(MOVES, MOVES.one_hot(total % 3)), total


def test_a_policy_on_features_acts_on_frames_with_the_state_as_its_memory() -> None:
    world, clip = small(), video(2, 5)
    assert clip.frames is not None
    controller = Controller(replace(VIEW, features=world.features), MOVES)
    controller.weights.copy_(torch.randn(controller.weights.shape, generator=rng.torch_rng("controller")))
    policy, memory, chosen = Filtered(world, controller), None, []
    for t in range(5):  # as in a game: the last frame seen and the new one, with the action between
        belief, memory = policy.act(clip.cut(max(0, t - 1), t + 1), memory)
        state = world.observe(clip.cut(0, t + 1))
        now, _ = world.imagine(state, None, 0, rng.torch_rng(0))
        assert torch.equal(belief.mode(), controller.act(now)[0].mode())
        chosen.append(belief.mode())
    whole, _ = policy.act(clip)
    assert torch.equal(whole.mode(), chosen[-1])
    built = build(policy.describe())
    built.load_state_dict(policy.state_dict())
    assert torch.equal(built.act(clip)[0].mode(), chosen[-1])  # type: ignore[operator]


def test_without_being_told_a_policy_takes_it_that_it_did_what_it_chose() -> None:
    world, clip = small(), video(2, 2)
    policy = Filtered(world, Counting(replace(VIEW, features=world.features)))
    first, memory = policy.act(clip.cut(0, 1))
    assert first.mode().argmax(1).tolist() == [1, 1]
    second, after = policy.act(Clip(frames=clip.frames), memory)
    assert second.mode().argmax(1).tolist() == [2, 2]  # the inner policy remembers, too
    told = world.observe(clip.with_(actions=first.mode().unsqueeze(1)))
    assert isinstance(after, dict)
    same(told, after["state"])


def test_a_policy_of_another_world_is_refused() -> None:
    world = small()
    with pytest.raises(Incompatible, match="speaks"):
        Filtered(world, Controller(replace(VIEW, features=world.features), DRIVE))
    with pytest.raises(Incompatible, match="this world has 9"):
        Filtered(world, Controller(replace(VIEW, features=4), MOVES)).act(video(1, 1))
