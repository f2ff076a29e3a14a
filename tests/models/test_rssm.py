"""The recurrent world: its switches, its sizes, and the mistakes that others shipped."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retrodict import rng
from retrodict.clip import Clip
from retrodict.errors import NoLikelihood, UnknownName, UnusableInput
from retrodict.models.filtered import Filtered
from retrodict.models.imagination import Dreamer, FeatureActor, dreaming
from retrodict.models.rssm import RSSM, modelling, spread_out
from retrodict.nn.part import Part
from retrodict.nn.recurrent import BlockLinear
from retrodict.roles import View
from retrodict.spaces import ActionSpace, categorical, continuous

SPACE = ActionSpace((categorical("move", ("a", "b", "c")),))
NUMBERS = View(1, proprio=2)
SMALL: dict[str, Any] = {"deter": 16, "hidden": 16, "stoch": 4, "classes": 4, "units": 16, "blocks": 4, "channels": 8}
VERSIONS: dict[str, dict[str, Any]] = {
    "V1": {"cell": "plain", "latent": "gaussian", "act": "elu", "normed": "none", "bins": 0},
    "V2": {"cell": "normed", "latent": "categorical", "act": "elu", "normed": "none", "bins": 0, "mixed": 0.0},
    "V3": {"cell": "blocks", "latent": "categorical", "bins": 41},
}


def world(version: str = "V3", view: View = NUMBERS, **more: Any) -> RSSM:
    with rng.isolated("rssm", version):
        part = RSSM(view, SPACE, **SMALL | VERSIONS[version] | more)
        nn.init.normal_(part.reward[1].weight, std=0.1)  # it begins at 0
    return part


def clip(rows: int = 3, length: int = 6, seed: int = 0, view: View = NUMBERS) -> Clip:
    draw = rng.torch_rng(seed, "clip")
    frames = torch.randint(0, 256, (rows, length, 3, *view.size), generator=draw, dtype=torch.uint8)
    return Clip(
        frames=None if view.proprio else frames,
        proprio=torch.randn(rows, length, 2, generator=draw) if view.proprio else None,
        actions=F.one_hot(torch.randint(0, 3, (rows, length - 1), generator=draw), 3).float(),
        rewards=torch.randn(rows, length - 1, generator=draw), ends=torch.zeros(rows, length - 1),
        segment=torch.zeros(rows, length, dtype=torch.int32),
    )  # fmt: skip


def joined(a: Clip, b: Clip) -> Clip:
    """Two episodes in a row; the step between them belongs to neither."""
    parts: dict[str, Any] = {}
    for name in ("proprio", "actions", "rewards", "ends"):
        first, second = getattr(a, name), getattr(b, name)
        between = [] if name == "proprio" else [torch.ones_like(first[:, :1])]
        parts[name] = torch.cat([first, *between, second], 1)
    assert a.segment is not None
    assert b.segment is not None
    return Clip(**parts, segment=torch.cat([a.segment, b.segment + 1], 1))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_episode_forgets_the_one_before_with_its_last_action(version: str) -> None:
    part, a, b = world(version), clip(seed=1), clip(seed=2)
    alone, after = part.unroll(b), part.unroll(joined(a, b))
    for name in ("h", "z", "post", "prior"):
        assert torch.allclose(getattr(after, name)[:, a.length :], getattr(alone, name), atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_seeing_in_pieces_is_seeing_the_whole(version: str, cut: int) -> None:
    part, whole = world(version), clip()
    state = part.observe(whole.cut(0, cut))
    for t in range(cut - 1, whole.length - 1):
        state = part.observe(whole.cut(t, t + 2), state)
    once = part.observe(whole)
    for name in ("h", "z"):
        assert torch.allclose(state[name], once[name], atol=1e-5)  # type: ignore[index, call-overload]
    kept = part.observe(whole.cut(3, 4), once)  # nothing new: what is known stays
    assert torch.equal(kept["h"], once["h"])  # type: ignore[index, call-overload]


def test_a_state_is_kept_where_rows_go_on_and_begins_where_they_do_not() -> None:
    part, a, b = world(), clip(seed=1), clip(seed=2)
    state = part.observe(a)
    both = joined(a, b)
    told = part.observe(both.cut(a.length - 1, a.length + 1), state)
    assert torch.allclose(told["h"], part.observe(b.cut(0, 1))["h"], atol=1e-6)  # type: ignore[index, call-overload]


@pytest.mark.parametrize("version", VERSIONS)
def test_imagining_what_happened_is_the_prior_along_it(version: str) -> None:
    part, seen = world(version), clip()
    state = part.observe(seen.cut(0, 2))
    assert seen.actions is not None
    dream, after = part.imagine(state, seen.actions[:, 1:3], 2, rng.torch_rng(0))
    h, z = state["h"], state["z"]  # type: ignore[index, call-overload]
    once = part.step(h, z, seen.actions[:, 1])
    assert dream.features is not None
    assert torch.equal(dream.features[:, 0], torch.cat([z, h], -1))
    assert torch.equal(dream.features[:, 1, -16:], once)
    assert torch.equal(after["h"], dream.features[:, 2, -16:])  # type: ignore[index, call-overload]
    assert dream.rewards is not None
    assert torch.equal(dream.rewards, part.rewarded(dream.features[:, 1:]))
    assert part.decode(dream).proprio.shape == (3, 3, 2)  # type: ignore[union-attr]


def test_a_policy_on_features_is_shown_them_and_one_on_frames_is_shown_frames() -> None:
    view = View(1, size=(16, 16))
    part = world(view=view, patch=4)
    seen: list[str] = []

    class Looks(FeatureActor):
        def act(self, past: Clip, memory: Any = None) -> Any:
            seen.append("features" if past.frames is None else "frames")
            return super().act(past.with_(features=torch.zeros(past.rows, 1, part.features)), memory)

    for features in (part.features, 0):
        actor = Looks(replace(view, features=part.features), SPACE, 8, 1)
        actor.view = replace(view, features=features)
        dream, _ = part.imagine(part.observe(clip(view=view)), actor, 2, rng.torch_rng(1))
        assert dream.actions is not None
        assert dream.actions.sum(-1).eq(1).all()
    assert seen == ["features"] * 2 + ["frames"] * 2


def test_divergences_by_hand() -> None:
    normal = world("V1")
    a = torch.tensor([[0.0, 1.0, 0, 0, 1, 2, 1, 1]])  # means, then deviations
    b = torch.tensor([[1.0, 1.0, 0, 0, 1, 1, 1, 1]])
    by_hand = 0.5 + (math.log(0.5) + (4 + 0) / 2 - 0.5)
    assert float(normal.divergence(a, b)) == pytest.approx(by_hand)
    assert float(normal.divergence(a, a)) == 0
    choices = world("V2")
    p, q = torch.tensor([0.5, 0.25, 0.125, 0.125]), torch.full((4,), 0.25)
    logs = p.log().repeat(4)[None], q.log().repeat(4)[None]
    assert float(choices.divergence(*logs)) == pytest.approx(4 * (0.5 * math.log(2) - 0.25 * math.log(2)), rel=1e-5)


def test_a_drawn_choice_has_the_gradient_of_its_probabilities() -> None:
    part = world("V2")
    logits = torch.randn(2, 16, generator=rng.torch_rng(1)).requires_grad_()
    drawn = part.latent(part.belief(logits), part.noise(2, rng.torch_rng(2)))
    assert sorted(set(drawn.flatten().tolist())) == [0, 1]
    weights = torch.arange(16.0)
    (straight,) = torch.autograd.grad((drawn * weights).sum(), logits)
    p = logits.view(2, 4, 4).softmax(-1).flatten(1)
    (wanted,) = torch.autograd.grad((p * weights).sum(), logits)
    assert torch.allclose(straight, wanted, atol=1e-6)


def test_draws_come_as_often_as_they_are_likely_and_some_are_even() -> None:
    part = world("V3")
    said = torch.tensor([[4.0, 0, 0, 0] * 4]).expand(4000, -1)
    belief = part.belief(said)
    share = part.latent(belief, part.noise(4000, rng.torch_rng(0))).view(-1, 4, 4).mean((0, 1))
    assert share.tolist() == pytest.approx(belief[0, :4].exp().tolist(), abs=0.01)
    assert float(belief[0, 1].exp()) == pytest.approx(0.99 / (math.exp(4) + 3) + 0.0025)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("view", [NUMBERS, View(1, size=(8, 8))], ids=["numbers", "frames"])
def test_what_a_world_has_wrong_is_this_sum(version: str, view: View) -> None:
    """What was seen, at every frame that is there; rewards and ends of every step that is real, in their weights."""
    part, given = world(version, view, patch=4, sharp=7.0, unit=2.0), clip(2, 4, view=view)
    ends, segment = torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.int32)
    ends[0, 2], segment[1, 2:] = 1.0, -1
    given = given.with_(ends=ends, segment=segment)
    with torch.no_grad():
        found = float(modelling(part, given, rng.torch_rng(0), 0.0, 0.0, ended=3.0, rewarded=5.0)["all"])
        features = part.unroll(given, rng.torch_rng(0)).features
        painted, said, over = part.brush(features.flatten(0, 1)), part.reward(features), part.end(features)[..., 0]
    total, new = 0.0, version == "V3"
    for row, t in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)):
        made = painted[4 * row + t]
        if view.proprio:
            x = given.proprio[row, t]  # type: ignore[index]
            aim, weight = x.sign() * x.abs().log1p() if new else x, 7.0
        else:
            aim, weight = given.frames[row, t] / 255 - 0.5, 4096 / 64  # type: ignore[index]
        total += (1.0 if new else 0.5) * weight * float(((made - aim) ** 2).sum()) / 6
    for row, t in ((0, 0), (0, 1), (0, 2), (1, 0)):
        earned, chance = float(given.rewards[row, t]) / 2, float(over[row, t + 1].sigmoid())  # type: ignore[index]
        if new:
            reward = -float((part.bins.encode(torch.tensor(earned)) * said[row, t + 1].log_softmax(-1)).sum())  # type: ignore[union-attr]
        else:
            reward = 0.5 * (float(said[row, t + 1, 0]) - earned) ** 2
        end = -math.log(chance if ends[row, t] else 1 - chance)
        total += (5 * reward + 3 * end) / 4
    assert found == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_world_of_video_without_rewards_learns_and_tells_none(version: str) -> None:
    with rng.isolated("silent"):
        part = RSSM(NUMBERS, SPACE, outcomes=False, **SMALL | VERSIONS[version])
    given = clip().with_(rewards=None, ends=None)
    loss = modelling(part, given, rng.torch_rng(0), dyn=0.0, rep=0.0)["all"]
    with torch.no_grad():
        wrong = part.mistaken(part.unroll(given, rng.torch_rng(0)).features.flatten(0, 1), given)
    assert float(loss.detach()) == pytest.approx(float(wrong.mean()), rel=1e-5)
    dream, _ = part.imagine(part.observe(given), torch.zeros(3, 2, 3), 2, rng.torch_rng(0))
    assert (dream.rewards, dream.ends, dream.length) == (None, None, 3)
    assert not any(name.startswith(("reward.", "end.")) for name, _ in part.named_parameters())
    with pytest.raises(UnusableInput, match="tells rewards and ends"):
        Dreamer(part, 8, 1)


def test_a_gaussian_latent_is_never_narrower_than_a_tenth() -> None:
    said = torch.tensor([[0.5, -1.0, 2.0, 0.0, -50.0, 0.0, 1.0, 3.0]])
    mean, deviation = world("V1").belief(said).chunk(2, -1)
    assert mean.tolist() == said[:, :4].tolist()
    assert deviation[0].tolist() == pytest.approx([0.1, 0.1 + math.log(2), 0.1 + math.log1p(math.e), 3.1486], abs=1e-4)


def test_each_side_of_the_balance_teaches_its_own_side() -> None:
    part, seen = world(), clip(length=1)  # later, what was drawn connects both
    for weights, side in (({"dyn": 1.0, "rep": 0.0}, "prior"), ({"dyn": 0.0, "rep": 1.0}, "post")):
        loss = modelling(part, seen, rng.torch_rng(0), free=0.0, **weights)["all"]
        none = modelling(part, seen, rng.torch_rng(0), dyn=0.0, rep=0.0)["all"]
        reached = {
            name for name, parameter in part.named_parameters() if name.startswith(("prior.", "post."))
            for gradient in torch.autograd.grad(loss - none, parameter, retain_graph=True, allow_unused=True)
            if gradient is not None and bool(gradient.abs().max() > 1e-6)
        }  # fmt: skip
        assert {name.split(".")[0] for name in reached} == {side}


def test_divergences_below_what_is_free_cost_and_teach_nothing() -> None:
    part, seen = world(), clip()
    found = part.unroll(seen, rng.torch_rng(0))
    apart = part.divergence(found.post, found.prior).detach()
    largest, smallest = float(apart.max()), float(apart.min())
    base = float(modelling(part, seen, rng.torch_rng(0), dyn=0.0, rep=0.0)["all"].detach())
    for each in (True, False):
        loss = modelling(part, seen, rng.torch_rng(0), dyn=1.0, rep=0.0, free=largest + 1, each=each)["all"]
        assert float(loss) == pytest.approx(base + largest + 1, rel=1e-5)
        gradients = torch.autograd.grad(loss, list(part.prior.parameters()), allow_unused=True)
        assert all(gradient is None or bool((gradient == 0).all()) for gradient in gradients)
    between = (largest + smallest) / 2  # of every frame: some pay. of the mean: it is below or above as a whole
    mean = float(apart.mean())
    loss = modelling(part, seen, rng.torch_rng(0), dyn=1.0, rep=0.0, free=between, each=False)["all"]
    assert float(loss) == pytest.approx(base + max(mean, between), rel=1e-5)
    loss = modelling(part, seen, rng.torch_rng(0), dyn=1.0, rep=0.0, free=between, each=True)["all"]
    assert float(loss) > base + max(mean, between) + 1e-6


@pytest.mark.parametrize(("shift", "learns"), [(0, True), (-1, False), (1, False)])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_reward_belongs_to_the_step_that_earned_it(version: str, shift: int, learns: bool) -> None:
    """What is seen counts the steps and says nothing of actions; a reward is the action's own number, or the next or
    the last one's. The first step is asked for: of later ones the state remembers the last action."""
    length = 9
    draw = rng.torch_rng(5)
    index = torch.randint(0, 2, (32, length - 1), generator=draw)
    proprio = torch.arange(length).float().expand(32, -1)[..., None].repeat(1, 1, 2) / 10
    earned = (index * 2.0 - 1).roll(shift, 1)
    data = Clip(proprio=proprio, actions=F.one_hot(index, 3).float(), rewards=earned, ends=torch.zeros(32, length - 1))
    part = world(version, stoch=2)
    nn.init.zeros_(part.reward[1].weight)  # as it begins
    optimiser = torch.optim.Adam(part.parameters(), 1e-2)
    state_free = {"dyn": 0.5, "rep": 0.5, "free": 0.1, "each": False, "rewarded": 10.0}
    for step in range(150):
        optimiser.zero_grad()
        modelling(part, data, rng.torch_rng(step), **state_free)["all"].backward()  # type: ignore[arg-type]
        optimiser.step()
    with torch.no_grad():  # from before the step is taken, by what is imagined
        state = part.observe(data.cut(0, 1))
        said = part.imagine(state, data.actions[:, :1], 1, rng.torch_rng(0))[0].rewards  # type: ignore[index]
    assert said is not None
    error = float((said[:, 0] - earned[:, 0]).square().mean())
    assert error < 0.01 if learns else error > 0.5  # the mean's is 1


def test_padding_and_what_is_not_known_teach_nothing() -> None:
    part, seen = world(), clip()
    assert seen.segment is not None
    segment = seen.segment.clone()
    segment[:, 4:] = -1
    padded = seen.with_(segment=segment)
    assert padded.proprio is not None
    assert padded.rewards is not None
    other = padded.with_(proprio=padded.proprio.clone(), rewards=padded.rewards.clone())
    other.proprio[:, 4:], other.rewards[:, 4:] = 7.0, 7.0  # type: ignore[index]
    same = [float(modelling(part, one, rng.torch_rng(0))["all"]) for one in (padded, other)]
    assert same[0] == same[1]
    withheld = padded.with_(source=torch.zeros(3, 5, dtype=torch.uint8))
    changed = withheld.with_(actions=torch.ones(3, 5, 3))
    assert torch.equal(part.unroll(withheld).h, part.unroll(changed).h)


@pytest.mark.parametrize("version", ["V2", "V3"])  # V1's are those of a preset: tests/recipes/test_practice.py
def test_sizes_are_those_of_the_papers(version: str) -> None:
    frames, walk = View(1, size=(64, 64)), ActionSpace((continuous("joints", tuple("abcdef")),))
    if version == "V2":
        keys, grey = ActionSpace((categorical("key", [str(i) for i in range(18)]),)), replace(frames, channels=1)
        part = RSSM(
            grey, keys, "normed", "categorical", 600, 600, 32, 32, 400, 4, 2, "strided", 48, 8, "elu", "none", 1, 1,
            bins=0,
        )  # fmt: skip
        assert weights(part) == 19_973_579  # 19.98 M
    else:
        for view, count in ((replace(frames, proprio=24), 640_867), (frames, 686_846)):
            part = RSSM(view, walk, "blocks", "categorical", 512, 64, 32, 4, 64, 1, 3, "pooled", 4)
            agent = Dreamer(part, 64)
            assert weights(agent) - weights(agent.slow) == count


def weights(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


@pytest.mark.parametrize(("eyes", "version"), [("strided", "V1"), ("strided", "V2"), ("pooled", "V3")])
def test_eyes_of_the_papers_see_and_paint_frames_of_64_pixels(eyes: str, version: str) -> None:
    view = View(1, size=(64, 64))
    part = world(version, view, eyes=eyes, channels=2)
    found = part.unroll(clip(2, 2, view=view))
    assert part.decode(Clip(features=found.features)).frames.shape == (2, 2, 3, 64, 64)  # type: ignore[union-attr]
    with pytest.raises(UnusableInput, match="64x64"):
        world(version, View(1, size=(36, 36)), eyes=eyes)


def test_weights_are_drawn_as_asked_and_zeros_stay() -> None:
    part = RSSM(NUMBERS, SPACE, **SMALL)
    spread_out(part, "normal")
    first = part.cell.fronts[0][0].weight
    assert float(first.detach().std()) == pytest.approx(1 / math.sqrt(16), rel=0.15)
    assert float(first.detach().abs().max()) <= 2 * 1.1368 / math.sqrt(16)
    assert not part.reward[1].weight.any()
    blocks = BlockLinear(64, 256, 4)
    for kind, deviation, most in (("normal", 1 / 8, 2 * 1.1368 / 8), ("even", math.sqrt(2 / 320), math.sqrt(6 / 320))):
        spread_out(blocks, kind)
        assert float(blocks.weight.detach().std()) == pytest.approx(deviation, rel=0.05)
        assert float(blocks.weight.detach().abs().max()) <= most
    with pytest.raises(UnknownName, match="uniform"):
        spread_out(part, "uniform")


def test_an_agent_begins_nearly_even_and_its_slow_critic_as_its_critic() -> None:
    agent = Dreamer(world("V3"), 64, 1, bins=7).begin("normal", 0.01)
    assert float(agent.actor.head.weight.detach().std()) == pytest.approx(0.01 / 8, rel=0.25)
    assert not agent.actor.head.bias.any()
    for (name, slow), fast in zip(agent.slow.state_dict().items(), agent.critic.state_dict().values(), strict=True):
        assert slow.equal(fast), name
    assert not agent.critic.net[1].weight.any()  # type: ignore[union-attr]
    plain = Dreamer(world("V2"), 64, 1).begin("even")
    assert float(plain.actor.head.weight.detach().std()) == pytest.approx(math.sqrt(2 / (64 + 5)), rel=0.25)
    assert all(a.equal(b) for a, b in zip(plain.slow.parameters(), plain.critic.parameters(), strict=True))


def test_wrong_use_is_refused() -> None:
    part = world()
    with pytest.raises(UnusableInput, match="2 recorded numbers and the clip has none"):
        part.observe(clip(view=View(1, size=(8, 8))))
    with pytest.raises(UnusableInput, match="give it actions or a policy"):
        part.imagine(part.observe(clip()), None, 1, rng.torch_rng(0))
    with pytest.raises(UnusableInput, match="rewards and ends"):
        modelling(part, clip().with_(rewards=None), rng.torch_rng(0))
    with pytest.raises(NoLikelihood):
        part.log_prob(clip())
    for bad in ({"cell": "lstm"}, {"latent": "mixture"}):
        with pytest.raises(UnknownName):
            world(**bad)
    with pytest.raises(UnusableInput, match="sees one frame"):
        world(view=View(2))
    with pytest.raises(UnusableInput, match="features"):
        FeatureActor(NUMBERS, SPACE)


def agent_of(version: str, **more: Any) -> Dreamer:
    with rng.isolated("agent", version):
        bins = VERSIONS[version]["bins"]
        return Dreamer(world(version), 16, 1, bins=bins, **more)


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_each_loss_reaches_its_own_part(gradient: str) -> None:
    agent = agent_of("V3")
    losses = dreaming(agent, clip(), rng.torch_rng(0), horizon=3, gradient=gradient)
    for name, parameters in agent.groups().items():
        gradients = torch.autograd.grad(losses[name], parameters, retain_graph=True, allow_unused=True)
        assert any(one is not None and bool(one.abs().sum() > 0) for one in gradients), name


def test_a_start_that_is_an_end_or_padding_has_no_future() -> None:
    agent, seen = agent_of("V1"), clip()
    assert seen.segment is not None
    ended = seen.with_(segment=torch.full_like(seen.segment, -1))
    losses = dreaming(agent, ended, rng.torch_rng(0), horizon=2, scaled=False, slow_weight=0.0, replayed=0.0)
    assert (float(losses["actor"]), float(losses["critic"])) == (0, 0)


def test_values_of_what_was_seen_are_returns_of_its_own_rewards() -> None:
    """With a critic of 0 and no imagined rewards, what is learnt is the discounted sum of what follows."""
    agent = agent_of("V1")
    for part in (agent.world.reward[1], agent.critic.net[1]):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    seen = clip(2, 4)
    told = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    ends = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    seen = seen.with_(rewards=told, ends=ends)
    settings: dict[str, Any] = {"horizon": 1, "discount": 0.5, "trace": 1.0, "scaled": False, "slow_weight": 0.0}
    plain = dreaming(agent, seen, rng.torch_rng(0), replayed=0.0, **settings)["critic"]
    both = dreaming(agent, seen, rng.torch_rng(0), replayed=1.0, **settings)["critic"]
    returns = [1 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4, 4, 1 + 0.5 * 2, 2, 4]
    assert float(both - plain) == pytest.approx(sum(0.5 * r**2 for r in returns) / 6, rel=1e-4)


def test_the_slow_critic_follows_as_it_is_told() -> None:
    for slow, after in ((0.25, 0.25 * 2.0), (2.0, 0.0), (0.0, 0.0)):
        agent = agent_of("V1", slow=slow)
        with torch.no_grad():
            agent.critic.net[1].bias += 2.0
        agent.after_step(0, 1.0)
        assert float(agent.slow.net[1].bias.detach()) == pytest.approx(after)
        agent.after_step(1, 1.0)
        assert float(agent.slow.net[1].bias.detach()) == pytest.approx({0.25: 0.875, 2.0: 2.0, 0.0: 0.0}[slow])


def test_returns_are_measured_by_their_own_range() -> None:
    agent = agent_of("V1").train()
    nn.init.constant_(agent.world.reward[1].bias, 0.0)
    dreaming(agent, clip(), rng.torch_rng(0), horizon=3)
    first = float(agent.spread)
    assert first > 0
    agent.eval()
    dreaming(agent, clip(), rng.torch_rng(0), horizon=3)
    assert float(agent.spread) == first  # looking does not move it


def test_acting_sees_what_training_saw() -> None:
    part, seen = world(), clip()
    actor = FeatureActor(replace(NUMBERS, features=part.features, proprio=0), SPACE, 8, 1)
    policy = Filtered(part, actor)
    belief, memory = policy.act(seen.cut(0, 3))
    belief, _ = policy.act(seen.cut(2, 4), memory)
    wanted = actor.belief(part.unroll(seen.cut(0, 4)).features[:, -1])
    assert torch.allclose(belief.params, wanted.params, atol=1e-5)
    assert isinstance(policy, Part)


def test_rewards_are_learnt_in_units_and_told_as_they_are() -> None:
    part, seen = world("V1"), clip()
    tenfold = world("V1", unit=10.0)
    tenfold.load_state_dict(part.state_dict())
    assert seen.rewards is not None
    larger = seen.with_(rewards=10 * seen.rewards)
    same = [float(modelling(*pair, rng.torch_rng(0))["all"]) for pair in ((part, seen), (tenfold, larger))]
    assert same[0] == pytest.approx(same[1])
    features = part.unroll(seen).features
    assert torch.allclose(tenfold.rewarded(features), 10 * part.rewarded(features))
    with pytest.raises(UnusableInput, match="unit"):
        world(unit=0.0)


def test_a_motor_gives_no_more_than_it_can() -> None:
    torque = ActionSpace((continuous("torque", ("joint",), -2.0, 2.0, center=(0.0,), scale=(2.0,)),))
    with rng.isolated("rssm"):
        part = RSSM(NUMBERS, torque, **SMALL | VERSIONS["V1"])
    asked = torch.tensor([[[5.0]], [[2.0]], [[-1.0]]])
    assert part.acted(asked).flatten().tolist() == [1.0, 1.0, -0.5]
    for lost in (math.nan, math.inf):
        assert not part.acted(torch.full((1, 1, 1), lost)).isfinite().any()  # it must show
    asked.requires_grad_()
    part.acted(asked).sum().backward()
    assert asked.grad is not None
    assert asked.grad.flatten().tolist() == [0.0, 0.5, 0.5]  # to ask for more changes nothing


@pytest.mark.parametrize("version", ["V1", "V3"])
def test_the_error_of_numbers_weighs_what_it_is_told_to(version: str) -> None:
    seen = clip()
    part, sharp = world(version), world(version, sharp=50.0)
    features = part.unroll(seen).features.flatten(0, 1)
    assert torch.allclose(sharp.mistaken(features, seen), 50 * part.mistaken(features, seen))
