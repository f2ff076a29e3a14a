"""TD-MPC2: losses and answers against plain derivations, published weights in both layouts, choices and ends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from retrodict import cli, rng
from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.data.cache import Cache
from retrodict.data.foreign_weights import read_weights
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.envs.world import layout as layout_of
from retrodict.errors import NoFrames, NoLikelihood, UnusableInput
from retrodict.models import tdmpc
from retrodict.models.tdmpc import Bootstrap, LatentWorld, Prior, learning
from retrodict.models.tdmpc_weights import from_published
from retrodict.nn.simnorm import ManyLinear, SimNorm
from retrodict.recipes.tdmpc2 import Planned, discount_for, micro, planned
from retrodict.roles import View
from retrodict.run.checkpoint import load_system
from retrodict.spaces import ActionSpace, Distribution, categorical, continuous

AXES = ActionSpace((continuous("arm", ("x", "y"), -2.0, 4.0, center=(0.5, 0.5), scale=(2.0, 2.0)),))
MOVES = ActionSpace((categorical("move", ("left", "stay", "right")),))
BOTH = ActionSpace((categorical("move", ("left", "right")), continuous("arm", ("x",), -1.0, 1.0)))


def world(space: ActionSpace = AXES, see: View | None = None, **settings: Any) -> LatentWorld:
    with rng.isolated("tdmpc test"):
        made = LatentWorld(see or View(proprio=3), space, 16, 24, 20, critics=3, **settings)
        for parameter in made.parameters():  # zeros at the end would hide mistakes
            parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return made


def numbers(space: ActionSpace, rows: int = 5, steps: int = 3) -> Clip:
    draw = torch.Generator().manual_seed(1)
    even = Distribution(space, torch.zeros(rows, steps, space.parameters))
    return Clip(
        proprio=torch.randn(rows, steps + 1, 3, generator=draw), actions=even.sample(draw),
        rewards=torch.randn(rows, steps, generator=draw), ends=torch.zeros(rows, steps),
    )  # fmt: skip


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# A second derivation, of published names and plain functions alone.


def layer(table: dict[str, Tensor], name: str, x: Tensor, act: str = "mish") -> Tensor:
    x = x @ table[f"{name}.weight"].T + table[f"{name}.bias"]
    if act == "none":
        return x
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = x * table[f"{name}.ln.weight"] + table[f"{name}.ln.bias"]
    if act == "mish":
        return x * torch.tanh(torch.log1p(torch.exp(x)))
    e = torch.exp(x.view(*x.shape[:-1], -1, 8))
    return (e / e.sum(-1, keepdim=True)).view(x.shape)


def net(table: dict[str, Tensor], name: str, x: Tensor, last: str = "none") -> Tensor:
    for number, act in enumerate(("mish", "mish", last)):
        x = layer(table, f"{name}.{number}", x, act)
    return x


def number(logits: Tensor) -> Tensor:
    p = torch.exp(logits - logits.logsumexp(-1, keepdim=True))
    x = (p * torch.linspace(-10, 10, logits.shape[-1])).sum(-1)
    return x.sign() * (x.abs().exp() - 1)


def critic(table: dict[str, Tensor], member: int, x: Tensor) -> Tensor:
    mine = {f"q.{name.removeprefix('_Qs.params.')}": value[member] for name, value in table.items() if "_Qs" in name}
    return net(mine, "q", x)


def foretold(table: dict[str, Tensor], z: Tensor, units: Tensor) -> Tensor:
    """Latents "b k+1 d" that follow from actions."""
    path = [z]
    for t in range(units.shape[1]):
        path.append(net(table, "_dynamics", torch.cat([path[-1], units[:, t]], -1), "softmax"))
    return torch.stack(path, 1)


def plans_worth(table: dict[str, Tensor], path: Tensor, units: Tensor) -> Tensor:
    """Rewards, each at 0.99 of the one before, and behind them what critics hold of the policy's likeliest action."""
    total = torch.zeros(len(path))
    for t in range(units.shape[1]):
        total += 0.99**t * number(net(table, "_reward", torch.cat([path[:, t], units[:, t]], -1)))
    z = path[:, -1]
    told = torch.cat([z, torch.tanh(net(table, "_pi", z)[:, : units.shape[-1]])], -1)
    members = [number(critic(table, member, told)) for member in range(3)]
    return total + 0.99 ** units.shape[1] * sum(members) / 3


def published(observed: int = 6, actions: int = 2, latent: int = 16, hidden: int = 24) -> dict[str, Tensor]:
    """Weights under today's names, without the copies of critics."""
    draw, told, table = noise(3), latent + actions, {}

    def normed(name: str, inputs: int, outputs: int, *many: int, ln: bool = True) -> None:
        for kind, shape in (
            ("weight", (outputs, inputs)),
            ("bias", (outputs,)),
            ("ln.weight", (outputs,)),
            ("ln.bias", (outputs,)),
        ):
            if ln or "ln" not in kind:
                table[f"{name}.{kind}"] = torch.randn(*many, *shape, generator=draw) * 0.4

    normed("_encoder.state.0", observed, 20)
    normed("_encoder.state.1", 20, latent)
    for name, inputs, outputs, many in (
        ("_dynamics", told, latent, ()),
        ("_reward", told, 101, ()),
        ("_pi", latent, 2 * actions, ()),
        ("_Qs.params", told, 101, (3,)),
    ):
        normed(f"{name}.0", inputs, hidden, *many)
        normed(f"{name}.1", hidden, hidden, *many)
        normed(f"{name}.2", hidden, outputs, *many, ln=name == "_dynamics")
    return table


def lagging(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """Target critics, which lag behind: by their published name after `_target_Qs`, with other values."""
    return {name.removeprefix("_Qs"): 0.5 - value for name, value in table.items() if "_Qs" in name}


def current(table: dict[str, Tensor]) -> dict[str, Any]:
    copies = {name.replace("_Qs.params.", "_detach_Qs_params."): v for name, v in table.items() if "_Qs" in name}
    copies |= {f"_target_Qs{name.replace('.', '_', 1)}": value for name, value in lagging(table).items()}
    rest = {"_Qs.params.__batch_size": torch.Size([3]), "_Qs.params.__device": torch.device("cpu"),
            "log_std_min": torch.tensor(-10.0), "log_std_dif": torch.tensor(12.0)}  # fmt: skip
    return {"model": {**table, **copies, **rest}}


def older(table: dict[str, Tensor]) -> dict[str, Any]:
    kinds = ("weight", "bias", "ln.weight", "ln.bias")
    found = {name: value for name, value in table.items() if "_Qs" not in name}
    targets = lagging(table)
    for name in targets:
        place, _, kind = name.removeprefix(".params.").partition(".")
        at = 4 * int(place) + kinds.index(kind)
        found |= {f"_Qs.params.{at}": table[f"_Qs{name}"], f"_target_Qs.params.{at}": targets[name]}
    return {"model": found}


@pytest.mark.parametrize("layout", [current, older])
def test_published_weights_answer_as_a_second_derivation(layout: Any, tmp_path: Path) -> None:
    table = published()
    torch.save(layout(table), tmp_path / "theirs.pt")
    made = from_published(read_weights(tmp_path / "theirs.pt"))
    assert made.space == layout_of(spaces.Box(-1, 1, (2,))), "so that it acts where the task does"
    draw = noise(5)
    seen, units = torch.randn(4, 6, generator=draw), torch.rand(4, 3, 2, generator=draw) * 2 - 1
    z = layer(table, "_encoder.state.1", layer(table, "_encoder.state.0", seen), "softmax")
    path, close = foretold(table, z, units), {"rtol": 1e-5, "atol": 1e-5}
    with torch.no_grad():
        state = made.observe(Clip(proprio=seen.unsqueeze(1)))
        torch.testing.assert_close(state["z"], z, **close)
        clip, _ = made.imagine(state, units, 3, noise())
        torch.testing.assert_close(clip.features, path, **close)
        told = torch.cat([path[:, :-1], units], -1).flatten(0, 1)
        torch.testing.assert_close(made.reward(told), net(table, "_reward", told), **close)
        late = {f"_Qs{name}": value for name, value in lagging(table).items()}
        for critics, theirs in ((made.critics, table), (made.targets, late)):
            every = torch.stack([critic(theirs, member, told) for member in range(3)])
            torch.testing.assert_close(critics(told), every, **close)
        mean = torch.tanh(net(table, "_pi", path[:, -1])[:, :2])
        torch.testing.assert_close(Prior(made).act(clip)[0].mode(), mean, **close)
        planner = Planned(made, 0.99, samples=32, elites=4, proposals=2).planner
        torch.testing.assert_close(planner.score(clip), plans_worth(table, path, units), **close)


@pytest.mark.parametrize("layout", [current, older])
def test_a_step_of_planning_is_the_published_one(layout: Any) -> None:
    """Two iterations by hand: scores of all plans, the elites' weights, the spread of what is drawn next, and the
    answer, which is one of the last elites."""
    table = published()
    made = from_published(layout(table))
    thinker = Planned(made, 0.99, samples=512, iterations=2, elites=8, proposals=2)
    tried: list[Tensor] = []
    worth = thinker.planner.worth
    thinker.planner.worth = lambda now, plans: tried.append(plans) or worth(now, plans)  # type: ignore[method-assign, func-returns-value]
    seen = torch.randn(1, 6, generator=noise(8))
    with torch.no_grad():
        answer, memory = thinker.act(Clip(proprio=seen.unsqueeze(1)))
    z = layer(table, "_encoder.state.1", layer(table, "_encoder.state.0", seen), "softmax")
    for iteration in (0, 1):
        plans = tried[iteration][0]
        top = plans_worth(table, foretold(table, z.expand(512, -1), plans), plans).topk(8)
        elites, weight = plans[top.indices], torch.exp(0.5 * (top.values - top.values.max()))
        weight = (weight / weight.sum())[:, None, None]
        mean = (weight * elites).sum(0)
        if iteration == 0:
            spread = (weight * (elites - mean) ** 2).sum(0).sqrt().clamp(0.05, 2)
            drawn = tried[1][0][3:]  # behind the likeliest plan and two of the policy
            assert tried[1][0][0].allclose(mean, atol=1e-5)
            for share, away in ((0.25, -0.6745), (0.5, 0.0), (0.75, 0.6745)):  # of a normal draw, ends included
                ours, theirs = drawn.quantile(share, 0), (mean + away * spread).clamp(-1, 1)
                assert bool(((ours - theirs).abs() < 0.2 * spread).all()), (share, ours, theirs)
    torch.testing.assert_close(memory["plan"][0], mean, rtol=1e-5, atol=1e-5)  # type: ignore[index, call-overload]
    assert (elites[:, 0] - answer.mode()[0]).abs().amax(1).min() < 1e-5


def test_weights_of_other_kinds_are_refused_by_name() -> None:
    table = published()
    for change, word in (
        ({"_task_emb.weight": torch.ones(2, 96)}, "several tasks"),
        ({"log_std_min": torch.tensor(-5.0)}, "log_std_min"),
        ({"_extra.weight": torch.ones(2)}, "_extra.weight is 2"),
        ({"_pi.2.bias": torch.ones(3)}, r"prior\.2\.bias is 3"),
        ({"_dynamics.2.weight": None}, "lacks dynamics"), ({"_reward.1.bias": None}, r"reward\.1\.bias is absent"),
        ({"_pi.0.bias": torch.ones(24, dtype=torch.int32)}, "floats"),
        ({"_pi.0.bias": torch.full((24,), float("nan"))}, r"finite; prior\.0\.bias"),
    ):  # fmt: skip
        bad = {name: value for name, value in {**current(table)["model"], **change}.items() if value is not None}
        with pytest.raises(UnusableInput, match=word):
            from_published({"model": bad})
    for value in ([1], {3: 4}, {"model": 5}):
        with pytest.raises(UnusableInput, match=r"table of weights|lacks"):
            from_published(value)


def test_the_command_writes_a_run_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(current(published()), tmp_path / "theirs.pt")
    line = ["data", "convert-checkpoint", "tdmpc2", str(tmp_path / "theirs.pt"), "--out", str(tmp_path / "run")]
    assert cli.main(line) == 0
    assert "with forward, policy" in capsys.readouterr().out
    system = load_system(tmp_path / "run")
    past = Clip(proprio=torch.randn(1, 1, 6, generator=noise()))
    with torch.no_grad():
        belief, _ = system.policy.act(past)  # type: ignore[union-attr]
    assert bool((belief.mode().abs() <= 1).all())
    assert cli.main(line) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_frames_of_published_weights_are_three_of_64_pixels() -> None:
    table = {name: value for name, value in published(latent=64).items() if "_encoder" not in name}
    for place, (inputs, side) in zip((2, 4, 6, 8), ((9, 7), (4, 5), (4, 3), (4, 3)), strict=True):
        table |= {f"_encoder.rgb.{place}.weight": 0.1 * torch.randn(4, inputs, side, side),
                  f"_encoder.rgb.{place}.bias": torch.zeros(4)}  # fmt: skip
    made = from_published(current(table))
    assert (made.view.frames, made.view.before, made.view.size) == (3, 2, (64, 64))
    frames = torch.randint(0, 256, (1, 3, 3, 64, 64), dtype=torch.uint8)
    x = frames.float().flatten(1, 2) / 255 - 0.5
    for place, stride in ((2, 2), (4, 2), (6, 2), (8, 1)):
        x = F.conv2d(x, table[f"_encoder.rgb.{place}.weight"], stride=stride)
        x = x.relu() if place < 8 else x
    with torch.no_grad():
        z = made.observe(Clip(frames=frames))["z"]
    torch.testing.assert_close(z, x.flatten(1).view(1, -1, 8).softmax(-1).flatten(1), rtol=1e-5, atol=1e-5)


def test_sizes_have_the_published_number_of_weights() -> None:
    space = ActionSpace((continuous("action", tuple("abcdef")),))
    sizes = {1: (128, 384, 256, 2, 2), 5: (512, 512, 256, 2, 5), 19: (768, 1024, 1024, 3, 5)}
    counts = {}
    for name, (latent, hidden, encoder, layers, critics) in sizes.items():
        with torch.device("meta"):
            made = LatentWorld(View(proprio=24), space, latent, hidden, encoder, layers, critics)
        counts[name] = sum(p.numel() for p in made.parameters() if p.requires_grad)
    assert counts[5] == 4_960_618
    assert [round(counts[name] / 1e6, places) for name, places in ((1, 2), (19, 1))] == [1.21, 18.1]


def test_a_latent_is_choices_and_values_begin_at_nothing() -> None:
    x = SimNorm(8)(torch.randn(2, 3, 16))
    torch.testing.assert_close(x.view(2, 3, 2, 8).sum(-1), torch.ones(2, 3, 2))
    fresh = LatentWorld(View(proprio=3), AXES, 16, 24, 20)
    z = fresh.encode(numbers(AXES))
    assert torch.equal(fresh.value(z), torch.zeros(5, 4))
    assert torch.equal(fresh.imagine({"z": z[:, 0]}, None, 2, noise())[0].rewards, torch.zeros(5, 2))


@pytest.mark.parametrize("space", [AXES, MOVES])
def test_losses_are_those_of_the_paper(space: ActionSpace) -> None:
    """Sums over rows and steps by hand: an episode that ends, one that is cut, and a step whose action is missing."""
    part = world(space, episodic=True, dropout=0.0)
    clip, b, h = numbers(space), 5, 3
    ends, segment = torch.zeros(b, h), torch.zeros(b, h + 1, dtype=torch.int32)
    source = torch.full((b, h), RECORDED, dtype=torch.uint8)
    ends[0, 2], ends[1, 1], segment[1, 3:], segment[2, 2:], source[3, 1] = 1, 1, -1, -1, MISSING
    clip = clip.with_(ends=ends, segment=segment, source=source)
    part.scale.fill_(3.0)
    found = learning(part, clip, noise(2), discount=0.9, rho=0.5, entropy=0.1)
    draw, seen = noise(2), part.encode(clip)
    pairs = torch.randperm(3, generator=draw)[:2]
    said, weight, _ = part.proposals(seen[:, 1:], draw)
    total = consistency = rewards = values = over = torch.zeros(())
    path = [seen[:, 0]]
    counts = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]])
    for t in range(h):
        told = torch.cat([path[-1], part.units(clip.actions[:, t])], -1)
        path.append(part.dynamics(told))
        for row in range(b):
            if not counts[row, t]:
                continue
            mine = 0.5**t / (b * h)
            consistency = consistency + mine * (path[-1][row] - seen[row, t + 1]).square().mean()
            rewards = rewards + mine * part.numbers.loss(part.reward(told[row]), clip.rewards[row, t])
            ahead = 0.0
            for k in range(len(said)):
                pair = part.targets(torch.cat([seen[row, t + 1], said[k, row, t]]).view(1, -1))[pairs, 0]
                ahead = ahead + weight[k, row, t] * part.numbers.mean(pair).min()
            goal = clip.rewards[row, t] + 0.9 * (1 - ends[row, t]) * ahead
            each = part.numbers.loss(part.critics(told[row : row + 1])[:, 0], goal.expand(3).detach())
            values = values + mine * each.mean()
            chance = part.termination(path[-1][row]).sigmoid()[0]
            over = over - (chance if ends[row, t] else 1 - chance).log() / (b * h)
    total = 20 * consistency + 0.1 * (rewards + values + over)
    torch.testing.assert_close(found["world"], total, rtol=1e-4, atol=1e-5)
    assert found["encoder"] is found["world"]

    where, pair = torch.stack(path, 1).detach(), torch.randperm(3, generator=draw)[:2]
    said, weight, unsure = part.proposals(where, draw)
    worth = torch.zeros(b, h + 1)
    for row in range(b):
        for t in range(h + 1):
            for k in range(len(said)):
                held = part.critics(torch.cat([where[row, t], said[k, row, t]]).view(1, -1))[pair, 0]
                worth[row, t] += weight[k, row, t] * part.numbers.mean(held).mean()
    low, high = np.quantile(worth[:, 0].detach().numpy(), [0.05, 0.95])
    scale = 3.0 + 0.01 * (max(1.0, high - low) - 3.0)
    assert float(part.scale) == pytest.approx(scale, rel=1e-5)
    policy = torch.zeros(())
    for row in range(b):
        for t in range(h + 1):
            if t == 0 or (counts[row, t - 1] and not ends[row, t - 1]):
                policy = policy - 0.5**t * (worth[row, t] / scale + 0.1 * unsure[row, t]) / (b * (h + 1))
    torch.testing.assert_close(found["policy"], policy, rtol=1e-4, atol=1e-5)
    gradient = torch.autograd.grad(found["policy"], part.groups()["policy"])
    assert all(float(g.abs().sum()) > 0 for g in gradient)


def test_weights_begin_small_and_frames_are_moved_whole() -> None:
    part = LatentWorld(View(proprio=3), AXES, 64, 96, 80)
    for layer in (m for m in part.modules() if isinstance(m, ManyLinear) and bool(m.weight.any())):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    frames = torch.arange(8 * 9, dtype=torch.uint8).view(1, 1, 1, 8, 9).repeat(40, 3, 1, 1, 1)
    moved = tdmpc._moved(Clip(frames=frames), 2, noise()).frames
    assert moved is not None
    found = set()
    for row in moved:
        assert torch.equal(row, row[:1].expand(3, -1, -1, -1))  # all frames of a row alike
        first = int(row[0, 0, 4, 4]) - int(frames[0, 0, 0, 4, 4])
        down, across = round(first / 9), first - 9 * round(first / 9)
        found.add((down, across))
        inner = row[0, 0, 2:-2, 2:-2]
        assert torch.equal(inner, frames[0, 0, 0, 2 + down : 6 + down, 2 + across : 7 + across])
    assert {down for down, _ in found} == {across for _, across in found} == {-2, -1, 0, 1, 2}


def test_a_reward_counts_for_as_long_as_an_episode_is() -> None:
    def cache(steps: int) -> Cache:
        clips = [Clip(frames=torch.zeros(1, t + 1, 3, 4, 4, dtype=torch.uint8)) for t in (3, steps)]
        return Cache.build(MemoryStore(Schema(MOVES, {"observation.image": (4, 4, 3)}, 10), clips))

    assert [discount_for(cache(steps)) for steps in (20, 200, 500, 2000)] == pytest.approx([0.95, 0.975, 0.99, 0.995])


def test_the_policy_of_a_choice_is_weighed_over_all_its_values() -> None:
    part = world(MOVES)
    z = part.encode(numbers(MOVES))
    units, weight, entropy = part.proposals(z, noise())
    assert units.shape == (3, 5, 4, 3)
    torch.testing.assert_close(weight.sum(0), torch.ones(5, 4))
    p = part.believed(z).probabilities()
    torch.testing.assert_close(weight.movedim(0, -1), p)
    torch.testing.assert_close(entropy, -(p * p.log()).sum(-1))


def test_several_segments_are_drawn_with_gradients() -> None:
    part = world(BOTH)
    z = part.encode(numbers(BOTH))
    units, weight, _ = part.proposals(z, noise())
    assert units.shape == (1, 5, 4, 3)
    assert set(units[..., :2].unique().tolist()) == {0.0, 1.0}
    for column in (0, 2):
        g = torch.autograd.grad(units[..., column].square().sum(), part.prior[-1].weight, retain_graph=True)[0]
        assert float(g.abs().sum()) > 0
    assert float(weight.mean()) == 1


def test_the_prior_of_an_axis_is_within_its_bounds_and_touches_the_squashed_one() -> None:
    part = world(AXES)
    with torch.no_grad():
        z = part.encode(numbers(AXES, 400, 1))[:, 0]
        belief, _ = Prior(part).act(Clip(features=z.unsqueeze(1)))
        said = part.prior(z)
        mean, log_std = said[:, :2], -10 + 6 * (said[:, 2:].tanh() + 1)
    middle = 1.0 + 3.0 * mean.tanh()
    torch.testing.assert_close(belief.mode(), middle)
    small = 1e-3
    slope = (3 * (mean + small).tanh() - 3 * (mean - small).tanh()) / (2 * small)
    wanted = (log_std.exp() * slope.clamp_min(3e-4)).log()
    torch.testing.assert_close(belief.params[:, 2:] + math.log(2.0), wanted, rtol=2e-2, atol=2e-2)


def test_its_policy_draws_in_the_world_as_it_is_trained_from_behind_tanh() -> None:
    part = world(AXES)
    with torch.no_grad():
        part.prior[-1].bias.add_(torch.tensor([1.5, -1.0, 2.0, 2.0]))
        state = {"z": part.encode(numbers(AXES, 1, 1))[:, 0].expand(4000, -1)}
        clip, _ = part.imagine(state, Prior(part), 1, rng.torch_rng("drawn"))
        trained = part.proposals(state["z"], rng.torch_rng("trained"))[0][0]
    assert clip.actions is not None
    units = part.units(clip.actions[:, 0])
    assert bool((units.abs() <= 1).all())
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        torch.testing.assert_close(units.quantile(share, 0), trained.quantile(share, 0), atol=0.05, rtol=0)


def test_the_entropy_of_axes_is_the_published_scaled_one() -> None:
    part = world(AXES)
    z = part.encode(numbers(AXES))
    _, _, entropy = part.proposals(z, noise(4))
    said = part.prior(z)
    log_std = -10 + 6 * (said[..., 2:].tanh() + 1)
    drawn = torch.randn(said[..., :2].shape, generator=noise(4))
    log_prob = torch.distributions.Normal(0.0, 1.0).log_prob(drawn) - log_std
    torch.testing.assert_close(entropy, -2 * log_prob.sum(-1))


def test_critics_at_once_are_critics_one_by_one_and_targets_follow() -> None:
    part = world()
    x = torch.randn(7, 18)
    part.eval()
    every = part.critics(x)
    for member in (2, 0):
        torch.testing.assert_close(part.critics(x, torch.tensor([member]))[0], every[member])
    old = [p.clone() for p in part.targets.parameters()]
    part.after_step(0, 1.0)
    for was, now, goal in zip(old, part.targets.parameters(), part.critics.parameters(), strict=True):
        torch.testing.assert_close(now.data, 0.99 * was + 0.01 * goal)
    assert not any(p.requires_grad for p in part.targets.parameters())
    part.train()
    assert not part.targets.training


def test_critics_drop_features_of_their_first_layer_in_training_and_their_targets_never_do() -> None:
    part = world(dropout=0.3, episodic=True)
    part.train()
    first = part.critics.layers[0]
    assert [layer.dropout for layer in part.critics.layers] == [0.3, 0.0, 0.0]
    first.weight.data.zero_()
    first.bias.data.fill_(5.0)  # what is dropped stands out of the mean, what is kept does not
    first.ln["weight"].data.fill_(1.0)
    first.ln["bias"].data.zero_()
    x = torch.randn(2000, 18, generator=noise())
    with rng.isolated("dropout"):
        said = first(x, None)
        targets = part.targets(x)
    assert float((said < 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert targets.equal(part.targets(x))
    part.eval()
    assert torch.equal(first(x, None), torch.zeros_like(said))  # all features alike


def test_rewards_belong_to_the_step_in_which_they_are_got() -> None:
    """The reward is the action itself: it is learnt, and from rewards moved by a step to either side it is not."""

    def error(by: int) -> float:
        part, draw = world(MOVES, dropout=0.0), noise(9)
        climb = torch.optim.Adam(part.groups()["world"], 1e-2)
        for _ in range(120):
            actions = F.one_hot(torch.randint(0, 3, (16, 4), generator=draw), 3).float()
            rewards = actions.argmax(-1).float().roll(by, 1)[:, 1:]
            clip = Clip(proprio=torch.zeros(16, 4, 3), actions=actions[:, 1:], rewards=rewards, ends=torch.zeros(16, 3))
            climb.zero_grad()
            learning(part, clip, draw)["world"].backward()
            climb.step()
        with torch.no_grad():
            made, _ = part.imagine(part.observe(clip.cut(0, 1)), clip.actions, 3, draw)
        return float((made.rewards - clip.actions.argmax(-1)).abs().mean())

    assert error(0) < 0.15
    assert error(1) > 0.4
    assert error(-1) > 0.4


def test_a_frame_follows_from_the_action_before_it() -> None:
    """A frame shows the action that led to it: it is foreseen, and frames that show another step's action are not."""

    def foreseen(by: int) -> float:
        part, draw = world(MOVES, dropout=0.0), noise(9)
        climb = torch.optim.Adam([*part.groups()["encoder"], *part.groups()["world"]], 3e-3)
        for _ in range(150):
            actions = F.one_hot(torch.randint(0, 3, (32, 6), generator=draw), 3).float()
            shown = actions.roll(by, 1)[:, 1:5]  # of frame t, with by = 0: the action of step t - 1
            rewards = shown[:, :3].argmax(-1).float()  # of what is seen, so that latents tell it
            clip = Clip(proprio=shown, actions=actions[:, 2:5], rewards=rewards, ends=torch.zeros(32, 3))
            climb.zero_grad()
            learning(part, clip, draw)["world"].backward()
            climb.step()
        with torch.no_grad():
            made, _ = part.imagine(part.observe(clip.cut(0, 1)), clip.actions, 1, draw)
            every = part.encode(Clip(proprio=torch.eye(3).unsqueeze(1)))[:, 0]
        nearest = torch.cdist(made.features[:, 1], every).argmin(-1)
        return float((nearest == shown[:, 1].argmax(-1)).float().mean())

    assert foreseen(0) > 0.9
    assert foreseen(1) < 0.7
    assert foreseen(-1) < 0.7


def test_acting_sees_what_training_saw() -> None:
    see = View(frames=2, before=1, size=(16, 16))
    part = world(MOVES, see)
    frames = torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8, generator=noise())
    with torch.no_grad():
        every = part.encode(Clip(frames=frames))
        state: Any = None
        for t in range(4):
            state = part.observe(Clip(frames=frames[:, max(0, t - 1) : t + 1]), state)
            torch.testing.assert_close(state["z"], every[:, t])
            shown = frames[:, [max(0, t - 1), t]]
            torch.testing.assert_close(Prior(part).act(Clip(frames=shown))[0].params, part.believed(every[:, t]).params)


def test_it_has_no_frames_and_no_likelihood() -> None:
    part = world()
    clip, _ = part.imagine(part.observe(numbers(AXES)), None, 2, noise())
    assert clip.features.shape == (5, 3, 16)
    assert torch.equal(clip.ends, torch.zeros(5, 2))
    with pytest.raises(NoFrames):
        part.decode(clip)
    with pytest.raises(NoLikelihood):
        part.log_prob(clip)
    with pytest.raises(UnusableInput, match="3 recorded numbers and the clip has none"):
        part.observe(Clip(frames=torch.zeros(1, 1, 3, 64, 64, dtype=torch.uint8)))
    with pytest.raises(UnusableInput, match="rewards and ends"):
        learning(part, numbers(AXES).with_(rewards=None), noise())
    with pytest.raises(UnusableInput, match="judge its latents"):
        Bootstrap(part)(numbers(AXES))


@pytest.mark.parametrize("space", [AXES, MOVES, BOTH])
def test_a_planner_plans_with_the_value_behind_its_plans(space: ActionSpace) -> None:
    part = world(space, episodic=True).eval()
    thinker = planned(part, micro(), 0.9, 0)
    clip = numbers(space)
    with torch.no_grad():
        belief, memory = thinker.act(clip.cut(0, 1).with_(actions=None, rewards=None, ends=None))
        again, _ = thinker.act(clip.cut(0, 2).with_(actions=None, rewards=None, ends=None), memory)
        made, _ = part.imagine(part.observe(clip.cut(0, 1)), clip.actions, 3, noise())
        score = thinker.planner.score(made)
    assert belief.params.shape == again.params.shape == (5, space.parameters)
    goes_on = np.cumprod(0.9 * (1 - made.ends.numpy()), 1)
    wanted = made.rewards[:, 0].numpy() + (goes_on[:, :-1] * made.rewards[:, 1:].numpy()).sum(1)
    wanted += goes_on[:, -1] * part.value(made.features[:, -1]).detach().numpy()
    np.testing.assert_allclose(score.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_encoders_that_were_published_learn_more_slowly() -> None:
    def pace(view: View) -> float:
        return LatentWorld(view, AXES, 16, 24, 20).paces()["encoder"]

    assert [pace(view) for view in (View(proprio=3), View(size=(64, 64)), View(size=(16, 16)))] == [0.3, 0.3, 1.0]
