"""What a latent world costs to train and to plan in, beside straightforward versions, all in one run.

Usage: python benchmarks/worlds.py [--rounds 5] [--out results/comparisons/worlds.json]

Training: updates per second of DreamerV3's tiny size, and of the same losses with every head called once for a frame,
as the formulas are written; the share of this machine's measured peak (a large matrix product) that an update's
arithmetic makes; and how cost grows with frames of a sequence, rows of a batch and width of the memory (exponents, by
least squares on logarithms). Planning: milliseconds for imagining the candidates of a decision in one batch, and one
after the other. All take turns, the best round of each counts, and torch uses one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from retrodict import rng
from retrodict.claims import commit_of_source
from retrodict.clip import Clip
from retrodict.models.imagination import Dreamer, dreaming
from retrodict.models.rssm import RSSM
from retrodict.roles import State, View
from retrodict.run.run import versions
from retrodict.spaces import ActionSpace, categorical

SPACE = ActionSpace((categorical("move", ("left", "stay", "right")),))
VIEW = View(1, size=(16, 16))
HORIZON = 10


def agent_of(deter: int = 128) -> Dreamer:
    """An untrained agent: speed does not depend on weights."""
    with rng.isolated("benchmark"):
        return Dreamer(RSSM(VIEW, SPACE, deter=deter, channels=32, patch=4, bins=63), bins=63).train()


def batch(rows: int = 16, frames: int = 16) -> Clip:
    """Random frames, actions and rewards."""
    draw = rng.torch_rng("benchmark", rows, frames)
    index = torch.randint(0, 3, (rows, frames - 1), generator=draw)
    return Clip(
        frames=torch.randint(0, 256, (rows, frames, 3, 16, 16), generator=draw, dtype=torch.uint8),
        actions=F.one_hot(index, 3).float(), rewards=torch.randn(rows, frames - 1, generator=draw),
        ends=torch.zeros(rows, frames - 1),
    )  # fmt: skip


def update(agent: Dreamer, clip: Clip, loss: Callable[..., dict[str, torch.Tensor]]) -> None:
    """Losses and all gradients."""
    losses = loss(agent, clip, rng.torch_rng("benchmark", "noise"), horizon=HORIZON)
    for name, parameters in agent.groups().items():
        torch.autograd.grad(losses[name], parameters, retain_graph=True, allow_unused=True)


class OneByOne(RSSM):
    """The same world with its heads called once for every frame."""

    def mistaken(self, features: torch.Tensor, clip: Clip) -> torch.Tensor:
        """The reconstruction's error, frame by frame."""
        each = features.view(clip.rows, clip.length, -1)
        parts = [super(OneByOne, self).mistaken(each[:, t], clip.cut(t, t + 1)) for t in range(clip.length)]
        return torch.stack(parts, 1).flatten()

    def rewarded(self, features: torch.Tensor) -> torch.Tensor:
        """Rewards, frame by frame."""
        return torch.stack([super(OneByOne, self).rewarded(features[:, t]) for t in range(features.shape[1])], 1)

    def ended(self, features: torch.Tensor) -> torch.Tensor:
        """Ends, frame by frame."""
        return torch.stack([super(OneByOne, self).ended(features[:, t]) for t in range(features.shape[1])], 1)


def plain_of(agent: Dreamer) -> Dreamer:
    """The same agent, eyes and all heads called frame by frame."""
    twin = agent_of(agent.world.deter)
    twin.load_state_dict(agent.state_dict())
    twin.world.__class__ = OneByOne
    for part in (twin.world.eyes.net, twin.critic, twin.slow, twin.world.reward):
        _by_frame(part)
    return twin


def _by_frame(part: torch.nn.Module) -> None:
    """Lets a module see 16 rows at a time."""
    whole = part.forward

    def pieces(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(0, -2) if x.ndim == 3 else x
        out = torch.cat([whole(piece) for piece in flat.split(16)])
        return out.view(*x.shape[:-1], *out.shape[1:]) if x.ndim == 3 else out

    part.forward = pieces  # type: ignore[method-assign, assignment]


def best(*works: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds of each, the best of so many turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for spent, work in zip(times, works, strict=True):
            began = time.perf_counter()
            work()
            spent.append(time.perf_counter() - began)
    return [min(spent) for spent in times]


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """By which power cost grows."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def planning(agent: Dreamer, samples: int, rounds: int) -> dict[str, float]:
    """Milliseconds of imagining all candidates of a plan together, and one by one."""
    world = agent.world.eval()
    state: State = world.observe(batch(1, 4))
    assert isinstance(state, dict)
    wide: State = {name: value.repeat_interleave(samples, 0) for name, value in state.items()}  # type: ignore[union-attr]
    actions = F.one_hot(torch.randint(0, 3, (samples, HORIZON), generator=rng.torch_rng("plan")), 3).float()

    @torch.no_grad()
    def together() -> None:
        world.imagine(wide, actions, HORIZON, rng.torch_rng("plan"))

    @torch.no_grad()
    def apart() -> None:
        for row in range(samples):
            world.imagine(state, actions[row : row + 1], HORIZON, rng.torch_rng("plan"))

    one, many = best(together, apart, rounds=rounds)
    return {"together_ms": one * 1e3, "one_by_one_ms": many * 1e3, "ratio": many / one}


def main() -> None:
    """Measures, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    agent, clip = agent_of(), batch()
    plain = plain_of(agent)
    big = torch.randn(1024, 1024)
    ours, naive, product = best(
        lambda: update(agent, clip, dreaming), lambda: update(plain, clip, dreaming), lambda: big @ big,
        rounds=chosen.rounds,
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        update(agent, clip, dreaming)
    share = counter.get_total_flops() / ours / (2 * 1024**3 / product)
    grows = {}
    for name, sizes, made in (
        ("frames", [8, 16, 32], lambda size: (agent_of(), batch(frames=size))),
        ("rows", [8, 16, 32], lambda size: (agent_of(), batch(rows=size))),
        ("width", [128, 256, 512], lambda size: (agent_of(size), batch())),
    ):
        works = [partial(update, *made(size), dreaming) for size in sizes]
        grows[name] = round(exponent(sizes, best(*works, rounds=max(2, chosen.rounds // 2))), 2)
    plan = {name: round(value, 2) for name, value in planning(agent, chosen.samples, chosen.rounds).items()}
    found = {
        "updates_per_second": round(1 / ours, 2), "plain_updates_per_second": round(1 / naive, 2),
        "ratio": round(naive / ours, 2), "share_of_peak": round(share, 3), "exponents": grows,
        f"planning_{chosen.samples}_x_{HORIZON}": plan,
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    if chosen.out is not None:
        told = {"command": "python benchmarks/worlds.py", "commit": commit_of_source(), "versions": versions()}
        chosen.out.write_text(json.dumps({**found, **told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
