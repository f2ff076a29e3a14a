"""Plans of policies that never look: the best that can be done without seeing, and doing nothing.

What beats none of these has not learnt to look.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from retrodict.envs.rollout import open_loop, score
from retrodict.envs.world import World
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.segments import Segment

LENGTHS = (1, 2, 3, 4, 6, 8, 10, 12, 14)  # steps of a swing to one side
RESTS = (0, 3)  # steps between two swings


def _worth(world: World, seeds: Sequence[int], plan: Tensor, seed: int = 0) -> tuple[float, float]:
    """Share of successes and mean return of a plan on these seeds."""
    played = score(world, seeds, open_loop(world, plan, seed))
    return float(np.mean(played["success"])), float(np.mean(played["returns"]))


def blind(world: World, train_seeds: Sequence[int], samples: int = 16, seed: int = 0) -> Tensor:
    """Returns the plan of the best policy that never looks (see `open_loop`), chosen on training seeds only.

    For a single choice, value probabilities "v": tried are each distinguishable value alone, each pair half and half,
    and `samples` random mixtures. Otherwise one action "1 d": every key pressed or not with every axis at its lowest,
    middle or highest. All are tried on the first quarter of the seeds, the best quarter of them on all. Most successes
    win, then the highest return.
    """
    if not train_seeds:
        raise UnusableInput("the search for a blind policy needs at least one training seed")
    family = _constants(world) if world.actions.discrete is None else _mixtures(world.actions.discrete, samples, seed)
    return best_of(world, family, train_seeds, seed)


def best_of(world: World, plans: Sequence[Tensor], train_seeds: Sequence[int], seed: int = 0) -> Tensor:
    """The best of these plans: all are tried on the first quarter of the seeds, the best quarter of them on all."""
    few = train_seeds[: (len(train_seeds) + 3) // 4]
    plans = sorted(plans, key=lambda plan: _worth(world, few, plan, seed), reverse=True)
    return max(plans[: (len(plans) + 3) // 4], key=lambda plan: _worth(world, train_seeds, plan, seed))


def _corners(segment: Segment) -> Tensor:
    """Each distinguishable value alone."""
    return torch.eye(segment.width)[[segment.merged.index(number) for number in range(max(segment.merged) + 1)]]


def _mixtures(segment: Segment, samples: int, seed: int) -> list[Tensor]:
    corners = _corners(segment)
    pairs = [(corners[i] + corners[j]) / 2 for i in range(len(corners)) for j in range(i)]
    mixtures = torch.from_numpy(numpy_rng(seed, "blind").dirichlet(np.ones(len(corners)), samples)).float() @ corners
    return [*corners, *pairs, *mixtures]


def _constants(world: World) -> list[Tensor]:
    choices: list[list[tuple[float, ...]]] = []
    for segment in world.actions.segments:
        if segment.kind == "categorical":
            choices.append([tuple(row) for row in torch.eye(segment.width).tolist()])
            continue
        ends = (0.0, 1.0) if segment.kind == "binary" else (segment.low, (segment.low + segment.high) / 2, segment.high)
        choices += [[(value,) for value in ends]] * segment.width
    return [torch.tensor([sum(parts, ())]) for parts in itertools.product(*choices)]


def idle(world: World) -> Tensor | None:
    """The plan "1 d" that does nothing: the value "stay" of a single choice, else zeros; None where nothing is none."""
    segment = world.actions.discrete
    if segment is not None:
        return world.actions.vector({segment.name: "stay"})[None] if "stay" in segment.values else None
    if all(each.kind != "categorical" for each in world.actions.segments):
        return torch.zeros(1, world.actions.width)
    return None


def swings(world: World) -> list[Tensor]:
    """Plans "k d" that go to one side and to the other, so many steps each, with and without a rest between.

    Sides are all pairs of distinguishable values of a single choice but the idle one, else the ends of each axis.
    """
    rest, segment, plans = idle(world), world.actions.discrete, []
    moves = [] if segment is None else [v for v in _corners(segment) if rest is None or not torch.equal(v, rest[0])]
    for one, other in itertools.combinations(moves, 2) if segment else _ends(world):
        for length, pause in itertools.product(LENGTHS, RESTS if rest is not None else (0,)):
            still = [] if rest is None else [rest[0]] * pause
            plans.append(torch.stack([one] * length + still + [other] * length + still))
    return plans


def _ends(world: World) -> list[tuple[Tensor, Tensor]]:
    pairs = []
    for segment, columns, _ in world.actions.slices():
        if segment.kind == "continuous":
            for column in range(columns.start, columns.stop):
                low, high = torch.zeros(world.actions.width), torch.zeros(world.actions.width)
                low[column], high[column] = segment.low, segment.high
                pairs.append((low, high))
    return pairs
