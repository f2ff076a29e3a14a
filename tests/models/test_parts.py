"""Parts as roles: inverse models, policies and frame worlds against themselves, step by step and all at once."""

from __future__ import annotations

import importlib
import itertools
import json
import pkgutil
from collections.abc import Iterator

import pytest
import torch

from retrodict import models
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.errors import NoLikelihood, UnusableInput
from retrodict.models.actor_critic import ActorCritic, ThroughTokens
from retrodict.models.controller import Controller
from retrodict.models.encoder import FrameEncoder
from retrodict.models.ensemble import Ensemble
from retrodict.models.evolution import CMAES
from retrodict.models.familiarity import Familiarity
from retrodict.models.filtered import Filtered
from retrodict.models.frame_world import FrameForward, FrameWorld, NextFrame
from retrodict.models.gaussian_vae import GaussianVAE
from retrodict.models.imagination import Dreamer, FeatureActor
from retrodict.models.inverse import INPUTS, POOLS, Inverse
from retrodict.models.latent_action import (
    CodeAdapter,
    FeatureForward,
    LabelledInverse,
    LatentAction,
    LatentForward,
    LatentInverse,
)
from retrodict.models.mdn_rnn import MDNRNN
from retrodict.models.next_token_world import NextTokenWorld
from retrodict.models.policy import ClipPolicy, Points
from retrodict.models.recall_world import RecallWorld
from retrodict.models.rssm import RSSM
from retrodict.models.tdmpc import LatentWorld, Prior
from retrodict.models.token_world import MaskedWorld, TokenWorld
from retrodict.models.tokenizers import ConvTokenizer, LearnedTokenizer, PatchTokenizer, Tokenizer, VideoTokenizer
from retrodict.nn.conv import normalise, to_bytes
from retrodict.nn.part import Part, build
from retrodict.nn.quantize import code_space
from retrodict.roles import ForwardModel, InverseModel, Policy, View
from retrodict.run.run import Views
from retrodict.spaces import ActionSpace, Distribution, categorical, continuous

SIZE = (12, 12)
SPACE = ActionSpace((categorical("move", ("stay", "go", "back")),))
SMALL = {"patch": 4, "width": 4, "depth": 1}


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def clip(rows: int = 2, length: int = 6, segment: list[int] | None = None, seed: int = 0) -> Clip:
    noise = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (rows, length, 3, *SIZE), generator=noise).to(torch.uint8)
    names = None if segment is None else torch.tensor([segment] * rows, dtype=torch.int32)
    return Clip(frames=frames, segment=names)


def inverse(**more: object) -> Inverse:
    return Inverse(View(2, size=SIZE), SPACE, **SMALL, **more).eval()  # type: ignore[arg-type]


def world(frames: int = 1, **more: object) -> FrameForward:
    return FrameForward(View(frames, frames - 1, size=SIZE), SPACE, **{**SMALL, **more}).eval()  # type: ignore[arg-type]


def latent(positions: int = 2) -> LatentAction:
    code = {"kind": "vq", "positions": positions, "codes": 4, "width": 4}
    inverse = LatentInverse(View(2, size=SIZE), code, **SMALL)
    return LatentAction(inverse, LatentForward(View(1, size=SIZE), code, **SMALL)).eval()


def encoder(frozen: bool = False) -> FrameEncoder:
    return FrameEncoder(View(size=SIZE), **SMALL, frozen=frozen).eval()


def features() -> LatentAction[FeatureForward]:
    """The core with a vector instead of codes, features as input and target, and a label head."""
    seen = encoder()
    inverse = LatentInverse(View(2, size=SIZE), {"kind": "none", "width": 5}, "features", **SMALL, encoder=seen)
    world = FeatureForward(View(size=SIZE), 5, seen, width=4, depth=1)
    return LatentAction(inverse, world, LabelledInverse(inverse, SPACE, hidden=3)).eval()


def policy(frames: int = 1, every: int = 1, **more: object) -> ClipPolicy:
    view = View(frames, frames - 1, every, size=SIZE)
    return ClipPolicy(view, SPACE, **SMALL, hidden=8, **more).eval()  # type: ignore[arg-type]


FEATURES = View(size=SIZE, features=24)


def recurrent() -> RSSM:
    return RSSM(View(size=SIZE), SPACE, deter=16, hidden=8, stoch=2, classes=4, units=8, blocks=4, channels=8, bins=7)


def planned() -> LatentWorld:
    return LatentWorld(View(size=SIZE), SPACE, 16, 16, 16, critics=2, bins=7)


PARTS = {
    "Inverse": lambda: inverse(hidden=8, dropout=0.3),
    "FrameForward": lambda: world(2, mix="attention"),
    "LatentInverse": lambda: latent().inverse,
    "LatentForward": lambda: latent().world,
    "LatentAction": features,
    "LabelledInverse": lambda: features().head,
    "FeatureForward": lambda: features().world,
    "FrameEncoder": lambda: encoder(frozen=True),
    "ClipPolicy": lambda: policy(3, pool="points"),
    "Ensemble": lambda: Ensemble([inverse(hidden=8), inverse(hidden=8)]),
    "Familiarity": lambda: Familiarity(View(size=SIZE), 4, size=3),
    "CodeAdapter": lambda: CodeAdapter(SPACE, code_space(1, 4), hidden=3),
    "PatchTokenizer": lambda: PatchTokenizer(View(size=SIZE), 4, 6),
    "ConvTokenizer": lambda: ConvTokenizer(View(size=SIZE), VQ, 4, 4, 1),
    "VideoTokenizer": lambda: VideoTokenizer(View(2, 1, size=SIZE), VQ, 4, 4, 1, 2),
    "MaskedWorld": lambda: MaskedWorld(PatchTokenizer(View(size=SIZE), 4, 6), SPACE, 4, 1, 2, 2, 1, passes=2),
    "RecallWorld": lambda: RecallWorld(
        PatchTokenizer(View(size=SIZE), 4, 6), SPACE, width=8, depth=1, heads=2, memory=2
    ),
    "NextTokenWorld": lambda: NextTokenWorld(PatchTokenizer(View(size=SIZE), 4, 6), SPACE, 4, 1, 2, 2, True),
    "ActorCritic": lambda: ActorCritic(View(size=SIZE), SPACE, "grid", 4, 4, 1, 4),
    "ThroughTokens": lambda: ThroughTokens(
        PatchTokenizer(View(size=SIZE), 4, 6), ActorCritic(View(size=SIZE), SPACE, "grid", 4, 4, 1, 4)
    ),
    "RSSM": lambda: recurrent(),
    "Dreamer": lambda: Dreamer(recurrent(), 8, 1, bins=7),
    "FeatureActor": lambda: FeatureActor(FEATURES, SPACE, 8, 1),
    "Filtered": lambda: Filtered(recurrent(), FeatureActor(FEATURES, SPACE, 8, 1)),
    "GaussianVAE": lambda: GaussianVAE(View(size=SIZE), 1, (4, 4)),
    "MDNRNN": lambda: MDNRNN(GaussianVAE(View(size=SIZE), 1, (4, 4)), SPACE, 8, 2),
    "Controller": lambda: Controller(FEATURES, SPACE),
    "CMAES": lambda: CMAES(3, 4),
    "LatentWorld": lambda: planned(),
    "Prior": lambda: Prior(planned()),
}
ABSTRACT = (Part, FrameWorld, Tokenizer, LearnedTokenizer, TokenWorld)
VQ = {"kind": "vq", "positions": 1, "codes": 6, "width": 3}


def test_every_part_of_the_models_is_built_again_from_its_description() -> None:
    found = set()
    for module in pkgutil.iter_modules(models.__path__, "retrodict.models."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, Part) and value not in ABSTRACT:
                found.add(name)
    assert found == set(PARTS)
    for make in PARTS.values():
        part = make()
        described = json.loads(json.dumps(part.describe()))
        again = build(described)
        again.load_state_dict(part.state_dict())
        assert json.loads(json.dumps(again.describe())) == described
        assert getattr(again, "view", None) == getattr(part, "view", None)
        assert getattr(again, "space", None) == getattr(part, "space", None)


def test_parts_fill_their_roles() -> None:
    assert isinstance(inverse(), InverseModel)
    assert isinstance(latent().inverse, InverseModel)
    assert isinstance(world(), ForwardModel)
    assert isinstance(latent().world, ForwardModel)
    assert isinstance(policy(), Policy)


@pytest.mark.parametrize(("inputs", "pool"), list(itertools.product(INPUTS, POOLS)))
def test_an_inverse_answers_a_clip_as_it_answers_each_step_alone(inputs: str, pool: str) -> None:
    part = inverse(inputs=inputs, pool=pool, encoder=encoder() if inputs == "features" else None)
    part.temperature.fill_(2.0)
    whole = clip(segment=[0, 0, 0, 1, 1, 1])
    answer = part.infer(whole).params
    assert answer.shape == (2, 5, 3)
    for t in range(5):
        alone = part.infer(whole.cut(t, t + 2)).params[:, 0]
        assert torch.allclose(answer[:, t], alone, atol=1e-5)
        assert whole.frames is not None
        if t != 2:  # step 2 joins two episodes: it is shown the last frame of the first one twice
            assert torch.allclose(alone * 2.0, part.belief(whole.frames[:, t : t + 2]).params, atol=1e-5)


def test_an_inverse_of_changes_does_not_care_where_or_on_what_it_happens() -> None:
    """`difference` and `changed`: the same change on another ground, a patch away, gets the same answer."""
    frames = torch.full((1, 2, 3, 36, 36), 100, dtype=torch.uint8)
    part = Inverse(View(2, size=(36, 36)), SPACE, "difference", "changed", **SMALL).eval()
    frames[0, 1, :, 12:16, 12:16] = 200
    moved = torch.roll(frames, (4, 8), (3, 4))
    darker = frames - 50
    answer = part.infer(Clip(frames=frames)).params
    assert torch.allclose(part.infer(Clip(frames=moved)).params, answer, atol=1e-5)
    assert torch.allclose(part.infer(Clip(frames=darker)).params, answer, atol=1e-5)
    frames[0, 1, :, 20:24, 12:16] = 0
    assert not torch.allclose(part.infer(Clip(frames=frames)).params, answer, atol=1e-3)


@pytest.mark.parametrize("change", [{"inputs": "all"}, {"pool": "max"}])
def test_unknown_inputs_and_pools_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(UnusableInput, match="must be one of"):
        inverse(**change)
    with pytest.raises(UnusableInput, match=r"'flatten' or 'points'"):
        policy(pool="max")
    with pytest.raises(UnusableInput, match="no frame after the present"):
        ClipPolicy(View(2, 0, size=SIZE), SPACE, **SMALL)


def test_points_do_not_change_when_everything_moves() -> None:
    points = Points(4, 3)
    grid = torch.zeros(1, 4, 12, 12)
    grid[0, :, 3:6, 3:6] = 30 * torch.randn(4, 3, 3)
    with torch.no_grad():
        points.sharpness.fill_(2.0)
        first, moved = points(grid), points(torch.roll(grid, (3, 4), (2, 3)))
    assert first.shape == (1, 4)
    assert torch.allclose(first, moved, atol=1e-3)
    assert first.abs().max() > 0.1


@pytest.mark.parametrize(("frames", "every"), [(1, 1), (2, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("segment", [None, [0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 2, 2]])
def test_a_policy_with_memory_answers_as_one_that_sees_everything(
    frames: int, every: int, segment: list[int] | None
) -> None:
    part, whole = policy(frames, every), clip(length=7, segment=segment)
    memory = None
    for t in range(7):
        past = whole.cut(0, 1) if t == 0 else whole.cut(t - 1, t + 1)
        belief, memory = part.act(past, memory)
        assert torch.allclose(belief.params, part.act(whole.cut(0, t + 1))[0].params, atol=1e-5)
    assert (memory is None) == (frames == 1)


def test_observing_in_pieces_equals_observing_at_once() -> None:
    for segment in (None, [0, 0, 1, 1, 1, 1]):
        part, whole = world(3), clip(segment=segment)
        at_once = part.observe(whole)
        state = part.observe(whole.cut(0, 2))
        for start, stop in ((1, 3), (2, 5), (4, 6)):
            state = part.observe(whole.cut(start, stop), state)
        assert torch.equal(state["frames"], at_once["frames"])  # type: ignore[index, call-overload]


def test_a_dream_starts_with_the_last_seen_frame_and_follows_the_prediction() -> None:
    part, whole = world(2), clip()
    assert whole.frames is not None
    actions = SPACE.one_hot(torch.tensor([[0, 1, 2], [2, 2, 0]]))
    dream, state = part.imagine(part.observe(whole), actions, 3, torch.Generator())
    assert dream.frames is not None
    assert dream.frames.shape == (2, 4, 3, *SIZE)
    assert torch.equal(dream.frames[:, 0], whole.frames[:, -1])
    assert torch.equal(dream.actions, actions)  # type: ignore[arg-type]
    window = whole.frames[:, -2:]
    for step in range(3):
        expected = to_bytes(part.predict(window, actions[:, step]))
        assert torch.equal(dream.frames[:, step + 1], expected)
        window = torch.stack([window[:, 1], expected], 1)
    assert torch.equal(state["frames"], window)  # type: ignore[index, call-overload]
    assert part.imagine(state, actions, 0, torch.Generator())[0].length == 1
    assert part.decode(dream) is dream


def test_dreaming_on_equals_dreaming_at_once() -> None:
    part, whole = world(2), clip()
    actions = SPACE.one_hot(torch.tensor([[0, 1, 2, 1]] * 2))
    at_once, _ = part.imagine(part.observe(whole), actions, 4, torch.Generator())
    first, state = part.imagine(part.observe(whole), actions[:, :2], 2, torch.Generator())
    second, _ = part.imagine(state, actions[:, 2:], 2, torch.Generator())
    assert torch.equal(torch.cat([first.frames, second.frames[:, 1:]], 1), at_once.frames)  # type: ignore[index, list-item, arg-type]


@pytest.mark.parametrize("frames", [1, 3])
def test_a_policy_is_stepped_inside_with_its_memory(frames: int) -> None:
    """It is shown what it would be shown outside: the dream so far."""
    part, actor, whole = world(2), policy(frames), clip()
    dream, _ = part.imagine(part.observe(whole), actor, 4, torch.Generator().manual_seed(1))
    noise = torch.Generator().manual_seed(1)
    seen = whole.cut(4, 6)  # the world's own window comes first
    for step in range(4):
        action = actor.act(seen)[0].sample(noise)
        assert torch.equal(action, dream.actions[:, step])  # type: ignore[index]
        joined = torch.cat([seen.frames, dream.frames[:, step + 1 : step + 2]], 1)  # type: ignore[index, list-item]
        seen = Clip(frames=joined)


def test_a_frame_world_does_not_choose_and_a_latent_one_draws_codes_as_often_as_used() -> None:
    with pytest.raises(UnusableInput, match="does not choose"):
        world().imagine(world().observe(clip()), None, 1, torch.Generator())
    model = latent(positions=1)
    model.inverse.quantiser.used.copy_(torch.tensor([[0.0, 3.0, 1.0, 0.0]]))
    frames = torch.zeros(4000, 1, 3, *SIZE, dtype=torch.uint8)
    share = model.world.choose(frames, torch.Generator().manual_seed(0)).mean(0)
    assert torch.allclose(share, torch.tensor([0.0, 0.75, 0.25, 0.0]), atol=0.03)


def test_log_prob_is_a_gaussian_of_the_error_by_hand() -> None:
    part = world()
    part.variance.fill_(0.5)
    whole = clip(rows=1, length=2)
    assert whole.frames is not None
    actions = SPACE.one_hot(torch.tensor([[1]]))
    error = part.predict(whole.frames[:, :1], actions[:, 0]) - normalise(whole.frames[:, 1])
    answer = part.log_prob(whole.with_(actions=actions))
    assert answer.shape == (1, 1)
    assert answer.item() == pytest.approx(-(error**2).sum().item() / (2 * 0.5), rel=1e-5)
    with pytest.raises(NoLikelihood):
        part.log_prob(whole)


def test_a_world_that_learnt_gives_the_true_action_more_probability(sprites: Views) -> None:
    cache = sprites.unlabelled.cache
    steps = Steps.all(cache)
    part = FrameForward(View(size=(36, 36)), cache.space, patch=4, width=16, depth=2)
    optimiser = torch.optim.AdamW(part.parameters(), lr=5e-3)
    for number in range(150):
        batch = steps.draw(32, "train", number)
        assert batch.frames is not None
        assert batch.actions is not None
        error = (part.predict(batch.frames[:, :1], batch.actions[:, 0]) - normalise(batch.frames[:, 1])) ** 2
        optimiser.zero_grad()
        error.mean().backward()
        optimiser.step()
        part.note_error(error.mean())
    moving = [
        i
        for i in range(len(steps))
        if not bool((cache.frames[steps.index[i]] == cache.frames[steps.index[i] + 1]).all())
    ]
    held = steps.batch(torch.tensor(moving[:100]).numpy())
    assert held.actions is not None
    logs = torch.stack([
        part.eval().log_prob(held.with_(actions=torch.eye(5)[a].expand(100, 1, 5).contiguous()))[:, 0] for a in range(5)
    ])  # fmt: skip
    right = logs.argmax(0) == held.actions[:, 0].argmax(-1)
    assert float(right.float().mean()) > 0.8  # chance is 0.25
    assert float(part.variance) < 0.5  # it began at 1


@pytest.mark.parametrize("view", [View(2, 0, size=SIZE), View(2, 1, 2, size=SIZE), View(1, 1, size=SIZE)])
def test_a_next_frame_model_sees_the_last_frames_only(view: View) -> None:
    with pytest.raises(UnusableInput, match="sees the last frames"):
        NextFrame(view, 3, "conv", 4, 4, 1)


def test_a_next_frame_model_refuses_patches_and_mixes_it_does_not_have() -> None:
    with pytest.raises(UnusableInput, match="does not divide"):
        world(patch=5)
    with pytest.raises(UnusableInput, match="'conv' or 'attention'"):
        world(mix="unet")
    with pytest.raises(UnusableInput, match="action for every step"):
        world().predict(torch.zeros(1, 1, 3, *SIZE, dtype=torch.uint8), None)


def test_the_latent_forward_model_never_sees_the_next_frame() -> None:
    """Given the code, nothing of the next frame reaches the prediction; the code's gradient reaches the inverse."""
    model = latent().train()
    frames = clip(rows=5, length=2).frames
    assert frames is not None
    other = frames.clone()
    other[:, 1] = 255 - other[:, 1]
    quantised = torch.randn(5, 8)
    first = model.world.net(frames[:, :1], quantised)
    error, _, _ = model.explain(frames)
    assert torch.equal(first, model.world.net(other[:, :1], quantised))
    through = torch.autograd.grad(error, list(model.inverse.to_code.parameters()))
    assert all(bool(g.abs().sum() > 0) for g in through)
    model.eval()
    codes = SPACE_CODES.one_hot(torch.tensor([0, 1, 2, 3, 0]))
    single = latent(1).world
    assert torch.equal(single.predict(frames[:, :1], codes), single.predict(other[:, :1], codes))


SPACE_CODES = code_space(1, 4)


def test_a_latent_belief_names_the_code_that_training_takes() -> None:
    model, whole = latent(), clip()
    assert whole.frames is not None
    belief = model.inverse.infer(whole)
    _, _, codes = model.explain(whole.frames[:, 2:4])
    mode = belief.mode()[:, 2].view(2, 2, 4)
    assert torch.equal(mode.argmax(-1), codes)
    assert model.inverse.quantiser is model.world.quantiser


def adapter() -> CodeAdapter:
    """Code 0 is stay, code 1 go, code 2 either go or back."""
    part = CodeAdapter(SPACE, code_space(1, 3))
    table = torch.tensor([[1.0, 1e-6, 1e-6], [1e-6, 1.0, 1e-6], [1e-6, 0.5, 0.5]])
    with torch.no_grad():
        for layer, weights in ((part.to_action, table.log().T), (part.to_inner, torch.eye(3) * 5)):
            layer.weight.copy_(weights)  # type: ignore[operator, union-attr]
            layer.bias.zero_()  # type: ignore[operator, union-attr]
    return part


def test_a_table_mixes_beliefs_over_codes_exactly() -> None:
    part = adapter()
    probabilities = torch.tensor([[[0.5, 0.1, 0.4]]])
    decoded = part.decode(Distribution(part.inner, probabilities.log()), clip(1, 2)).probabilities()
    assert torch.allclose(decoded, torch.tensor([[[0.5, 0.1 + 0.2, 0.2]]]), atol=1e-4)
    assert part.encode(SPACE.one_hot(torch.tensor([[2, 0]])), clip(1, 3)).argmax(-1).tolist() == [[2, 0]]


def test_an_adapter_to_numbers_answers_the_likeliest_code() -> None:
    space = ActionSpace((continuous("push", ("x",)),))
    part = CodeAdapter(space, code_space(1, 3))
    belief = Distribution(part.inner, torch.randn(2, 4, 3))
    expected = part.to_action(belief.mode())
    assert torch.equal(part.decode(belief, clip(2, 5)).params, expected)
    assert part.encode(torch.randn(2, 4, 1), clip(2, 5)).sum(-1).tolist() == [[1.0] * 4] * 2


def test_the_adapter_learns_both_directions() -> None:
    part = CodeAdapter(SPACE, code_space(1, 3))
    codes, actions = torch.eye(3), torch.eye(3)[[1, 2, 0]]
    optimiser = torch.optim.AdamW(part.parameters(), lr=0.1)
    for _ in range(80):
        optimiser.zero_grad()
        part.loss(codes, actions).backward()
        optimiser.step()
    belief = part.decode(Distribution.point(part.inner, codes[:, None]), clip(3, 2))
    assert torch.equal(belief.mode()[:, 0], actions)
    assert torch.equal(part.encode(actions[:, None], clip(3, 2))[:, 0], codes)
