"""What a latent world costs to train and to plan in, beside straightforward versions, all in one run.

Usage: python benchmarks/worlds.py [--rounds 5] [--compile default] [--out results/comparisons/worlds.json]

Training: updates (losses and all gradients) per second of DreamerV3, TD-MPC2 and M of World Models in their tiny sizes,
and of the same losses in a version as one writes down the formulas: every head called once for a frame, critics one
after the other; the share of this machine's measured peak (a large matrix product) that an update's arithmetic makes;
and how cost grows with frames of a sequence, rows of a batch and width (exponents, by least squares on logarithms).

Planning: milliseconds for imagining the candidates of a decision in one batch, and one after the other; and of a
decision of every planner, for one state, for eight at once, and for eight one after the other. A world that draws, as
DreamerV3's does, is asked row by row in either case.

With --compile the nets are compiled, too. All take turns, the best round of each counts, and torch uses one thread.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from retrodict import rng, tree
from retrodict.cli.act import PLANNERS, thinking
from retrodict.clip import Clip
from retrodict.figures.claims import commit_of_source
from retrodict.models.gaussian_vae import GaussianVAE
from retrodict.models.imagination import Dreamer, dreaming
from retrodict.models.mdn_rnn import MDNRNN, Expected, foretelling
from retrodict.models.rssm import RSSM
from retrodict.models.tdmpc import LatentWorld, learning
from retrodict.nn.part import Part
from retrodict.nn.simnorm import Critics
from retrodict.roles import ForwardModel, View
from retrodict.run.compiled import EAGER, WAYS, Compiled
from retrodict.run.run import versions
from retrodict.spaces import ActionSpace, categorical, continuous

CHOICES = ActionSpace((categorical("move", ("left", "stay", "right")),))
AXES = ActionSpace((continuous("push", ("x", "y")),))  # for plans: gradients need axes
VIEW = View(1, size=(16, 16))
HORIZON = 10
STATES = 8  # planned for at once


# Worlds: untrained, as speed does not depend on weights.


def agent_of(deter: int, space: ActionSpace = CHOICES) -> Dreamer:
    """DreamerV3, of a width of its memory."""
    return Dreamer(RSSM(VIEW, space, deter=deter, channels=32, patch=4, bins=63), bins=63)


def latent_world_of(hidden: int, space: ActionSpace = CHOICES) -> LatentWorld:
    """TD-MPC2 with the published five critics, of a width of its nets."""
    return LatentWorld(VIEW, space, 64, hidden, 128, critics=5)


def recurrent_of(hidden: int) -> MDNRNN:
    """M of World Models, of a width of its memory."""
    return MDNRNN(GaussianVAE(VIEW), CHOICES, hidden)


def played(rows: int, frames: int, space: ActionSpace = CHOICES) -> Clip:
    """Random frames, actions and rewards."""
    draw = rng.torch_rng("benchmark", rows, frames)
    if space.discrete is not None:
        actions = F.one_hot(torch.randint(0, 3, (rows, frames - 1), generator=draw), 3).float()
    else:
        actions = 2 * torch.rand(rows, frames - 1, space.width, generator=draw) - 1
    return Clip(
        frames=torch.randint(0, 256, (rows, frames, 3, 16, 16), generator=draw, dtype=torch.uint8),
        actions=actions, rewards=torch.randn(rows, frames - 1, generator=draw), ends=torch.zeros(rows, frames - 1),
    )  # fmt: skip


def encoded(rows: int, frames: int) -> Clip:
    """The same with what V believes of frames in their place: means and log variances."""
    numbers = 2 * recurrent_of(8).vae.latent
    return played(rows, frames).with_(
        frames=None, features=torch.randn(rows, frames, numbers, generator=rng.torch_rng("benchmark", rows, "encoded"))
    )


# The same worlds as one writes down the formulas.


class OneByOne(RSSM):
    """The world of an agent with its heads called once for every frame."""

    def mistaken(self, features: Tensor, clip: Clip) -> Tensor:
        """The reconstruction's error, frame by frame."""
        each = features.view(clip.rows, clip.length, -1)
        parts = [super(OneByOne, self).mistaken(each[:, t], clip.cut(t, t + 1)) for t in range(clip.length)]
        return torch.stack(parts, 1).flatten()

    def rewarded(self, features: Tensor) -> Tensor:
        """Rewards, frame by frame."""
        return torch.stack([super(OneByOne, self).rewarded(features[:, t]) for t in range(features.shape[1])], 1)

    def ended(self, features: Tensor) -> Tensor:
        """Ends, frame by frame."""
        return torch.stack([super(OneByOne, self).ended(features[:, t]) for t in range(features.shape[1])], 1)


class Apart(Critics):
    """Critics that are asked one after the other."""

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Returns logits of the chosen members."""
        members = range(self.members) if chosen is None else chosen.tolist()
        return torch.stack([self.one(x, member) for member in members])

    def one(self, x: Tensor, member: int) -> Tensor:
        """Returns logits of one member."""
        for layer in self.layers:
            x = F.linear(x, layer.weight[member], layer.bias[member])
            if hasattr(layer, "ln"):
                x = F.dropout(x, layer.dropout, self.training)
                x = F.mish(F.layer_norm(x, x.shape[-1:], layer.ln["weight"][member], layer.ln["bias"][member]))
        return x


class FrameByFrame(MDNRNN):
    """A recurrent model that takes in a frame, and reads off what it expects, before the next."""

    def unroll(self, latent: Tensor, actions: Tensor, first: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        """What is known after each frame, and the memory."""
        known = []
        for t in range(latent.shape[1]):
            now = slice(t, t + 1)
            step, memory = super().unroll(latent[:, now], actions[:, now], first[:, now], memory)
            known.append(step)
        return torch.cat(known, 1), memory

    def expected(self, known: Tensor) -> Expected:
        """What is expected after each frame."""
        each = [super(FrameByFrame, self).expected(known[:, t]) for t in range(known.shape[1])]
        return Expected(*(torch.stack(parts, 1) for parts in zip(*each, strict=True)))


def plain_agent(agent: Dreamer) -> Dreamer:
    """The same agent, eyes and all heads called frame by frame."""
    twin = deepcopy(agent)
    twin.world.__class__ = OneByOne
    for net in (twin.world.eyes.net, twin.critic, twin.slow, twin.world.reward):
        by_rows(net, 16)
    return twin


def plain_latent_world(world: LatentWorld) -> LatentWorld:
    """The same world, its critics asked one after the other, all nets called frame by frame."""
    twin = deepcopy(world)
    twin.critics.__class__ = twin.targets.__class__ = Apart
    for net in (twin.encoder, twin.reward, twin.prior):
        by_rows(net, 128)
    return twin


def plain_recurrent(world: MDNRNN) -> MDNRNN:
    """The same world frame by frame."""
    twin = deepcopy(world)
    twin.__class__ = FrameByFrame
    return twin


def by_rows(net: torch.nn.Module, rows: int) -> None:
    """Lets a net see so many rows at a time."""
    whole = net.forward

    def pieces(x: Tensor) -> Tensor:
        flat = x.flatten(0, -2) if x.ndim == 3 else x
        out = torch.cat([whole(piece) for piece in flat.split(rows)])
        return out.view(*x.shape[:-1], *out.shape[1:]) if x.ndim == 3 else out

    net.forward = pieces  # type: ignore[method-assign, assignment]


@dataclass(frozen=True)
class World:
    """What is trained, on what, by which loss, its straightforward version, and its tiny size."""

    made: Callable[[int], Any]  # of a width
    drawn: Callable[[int, int], Clip]  # of rows and frames
    loss: Callable[..., dict[str, Tensor]]
    plain: Callable[[Any], Part]
    width: int
    rows: int
    frames: int


WORLDS = {
    "dreamer_v3": World(agent_of, played, partial(dreaming, horizon=HORIZON), plain_agent, 128, 16, 16),
    "tdmpc2": World(latent_world_of, played, learning, plain_latent_world, 128, 128, 4),
    "world_models": World(recurrent_of, encoded, foretelling, plain_recurrent, 128, 64, 49),
}


# What is measured.


def best(*works: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds of each, the best of so many turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for spent, work in zip(times, works, strict=True):
            began = time.perf_counter()
            work()
            spent.append(time.perf_counter() - began)
    return [min(spent) for spent in times]


def update(part: Part, clip: Clip, loss: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
    """Losses and all gradients; groups that share a loss share its backward pass."""
    losses, groups = loss(part, clip, rng.torch_rng("benchmark", "noise")), part.groups()
    for total in {id(value): value for value in losses.values()}.values():
        parameters = [p for name, value in losses.items() if value is total for p in groups[name]]
        torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    return losses


def sized(world: World, width: int, rows: int, frames: int) -> tuple[Part, Clip]:
    """A part in training, and a batch for it."""
    with rng.isolated("benchmark"):
        return world.made(width).train(), world.drawn(rows, frames)


def refuse_unlike(part: Part, plain: Part, clip: Clip, loss: Callable[..., dict[str, Tensor]]) -> None:
    """Raises AssertionError where losses of the two versions differ by more than rounding; nothing is dropped out."""
    ours, theirs = (update(version.eval(), clip, loss) for version in (part, plain))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)
    part.train()
    plain.train()


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """By which power cost grows."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 2)


def growth(world: World, rounds: int) -> dict[str, float]:
    """By which powers an update's cost grows: from half to twice the frames and rows, and to four times the width."""
    usual = {"frames": world.frames, "rows": world.rows, "width": world.width}
    found = {}
    for name, size in usual.items():
        sizes = [size, 2 * size, 4 * size] if name == "width" else [size // 2, size, 2 * size]
        works = [partial(update, *sized(world, **{**usual, name: each}), world.loss) for each in sizes]
        found[name] = exponent(sizes, best(*works, rounds=max(2, rounds // 2)))
    return found


def flops(work: Callable[[], Any]) -> int:
    """Floating point operations of matrix products and convolutions, the LSTM's among them."""
    plainly = torch.backends.mkldnn.flags(enabled=False)  # otherwise an LSTM is one operation that is not counted
    with warnings.catch_warnings(action="ignore"), plainly, FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def training(world: World, rounds: int, how: str) -> dict[str, Any]:
    """Updates per second beside the straightforward version, share of the measured peak, and growth."""
    part, clip = sized(world, world.width, world.rows, world.frames)
    plain, big = world.plain(part), torch.randn(1024, 1024)
    refuse_unlike(part, plain, clip, world.loss)
    works: list[Callable[[], Any]] = [
        partial(update, part, clip, world.loss),
        partial(update, plain, clip, world.loss),
        lambda: big @ big,
    ]
    if how != EAGER:
        works.append(partial(update, part, clip, Compiled(world.loss, how)))
        works[-1]()
    ours, naive, product, *fast = best(*works, rounds=rounds)
    found = {
        "updates_per_second": round(1 / ours, 2), "plain_updates_per_second": round(1 / naive, 2),
        "ratio": round(naive / ours, 2), "share_of_peak": round(flops(works[0]) / ours / (2 * 1024**3 / product), 3),
    }  # fmt: skip
    if fast:
        found["compiled_updates_per_second"] = round(1 / fast[0], 2)
    return {**found, "exponents": growth(world, rounds)}


@torch.no_grad()
def imagining(world: ForwardModel, samples: int, rounds: int) -> dict[str, float]:
    """Milliseconds of imagining all candidates of a plan together, and one by one."""
    state = world.observe(played(1, 4, AXES))
    wide = tree.repeat(state, samples)
    actions = played(samples, HORIZON + 1, AXES).actions
    assert actions is not None

    def together() -> None:
        world.imagine(wide, actions, HORIZON, rng.torch_rng("plan"))

    def apart() -> None:
        for row in range(samples):
            world.imagine(state, actions[row : row + 1], HORIZON, rng.torch_rng("plan"))

    one, many = best(together, apart, rounds=rounds)
    return milliseconds(together_ms=one, one_by_one_ms=many)


@torch.no_grad()
def deciding(world: Any, name: str, rounds: int, fast: Callable[..., Any] | None) -> dict[str, float]:
    """Milliseconds of a decision of a planner, as `retrodict act --planner` makes it in an episode that goes on."""
    planner = thinking(name, world, 8, 4 if name == "gradient" else 64)
    memory, seen = planner.act(played(STATES, 4, AXES))[1], played(STATES, 2, AXES)
    rows = [torch.tensor([row]) for row in range(STATES)]
    singles = [(seen.pick(row), tree.pick(memory, row)) for row in rows]
    one, many = partial(planner.act, *singles[0]), partial(planner.act, seen, memory)

    def apart() -> None:
        for single in singles:
            planner.act(*single)

    works: dict[str, Callable[[], Any]] = {"one_ms": one, "together_ms": many, "one_by_one_ms": apart}
    if fast is not None:
        works |= {
            "compiled_one_ms": partial(fast, world, one, None),
            "compiled_together_ms": partial(fast, world, many, None),
        }
        works["compiled_one_ms"](), works["compiled_together_ms"]()
    return milliseconds(**dict(zip(works, best(*works.values(), rounds=rounds), strict=True)))


def milliseconds(**seconds: float) -> dict[str, float]:
    """The same in milliseconds, and how many times as long one by one takes as together."""
    ratio = round(seconds["one_by_one_ms"] / seconds["together_ms"], 2)
    return {**{name: round(value * 1e3, 2) for name, value in seconds.items()}, "ratio": ratio}


def planning(samples: int, rounds: int, how: str) -> dict[str, Any]:
    """Imagining and deciding in the worlds that are planned in."""
    with rng.isolated("benchmark"):
        worlds: dict[str, Any] = {"dreamer_v3": agent_of(128, AXES).world, "tdmpc2": latent_world_of(128, AXES)}
    found = {}
    for name, world in worlds.items():
        world.eval()
        fast = None if how == EAGER else Compiled(lambda part, work, noise: work(), how)
        found[name] = {
            f"imagining_{samples}_x_{HORIZON}": imagining(world, samples, rounds),
            **{planner: deciding(world, planner, rounds, fast) for planner in PLANNERS},
        }
    return found


def main() -> None:
    """Measures, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--compile", choices=[EAGER, *(way for way in WAYS if way != "graphs")], default=EAGER)
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "training": {name: training(world, chosen.rounds, chosen.compile) for name, world in WORLDS.items()},
        "planning": planning(chosen.samples, chosen.rounds, chosen.compile),
    }
    print(json.dumps(found, indent=1))
    if chosen.out is not None:
        line = "python benchmarks/worlds.py" + ("" if chosen.compile == EAGER else f" --compile {chosen.compile}")
        told = {
            "command": f"{line} --out results/comparisons/{chosen.out.name}",
            "commit": commit_of_source(),
            "versions": versions(),
        }
        chosen.out.write_text(json.dumps({**found, **told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
