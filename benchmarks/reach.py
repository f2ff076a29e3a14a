"""Planning in a world of latent actions: from one picture of a game to another, with few labels.

Usage: python benchmarks/reach.py --setting sprites [--labels 200] [--starts 100]
       python benchmarks/reach.py --setting babyai --run RUN    a trained run of genie, instead of one of its own

The world learnt from video without actions; LABELS recorded actions say which code is which (`genie`). From states of
levels that no recording has, cem looks for actions whose imagined end is nearest to the frame that the recorded player
came to STEPS steps later, takes the first in the game, looks, and plans again. Reached is what is pixel for pixel the
same. Beside it: the same plans with the names of actions exchanged, random actions, and those that were recorded.
Writes shares with Wilson's intervals to results/comparisons/reach.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import RECORDED, Clip
from retrodict.data.cache import Cache
from retrodict.envs.rollout import expert, rollout
from retrodict.envs.world import World
from retrodict.figures import trial
from retrodict.figures.claims import commit_of_source
from retrodict.measure.intervals import wilson
from retrodict.plan import Reach, cem
from retrodict.recipes import genie
from retrodict.roles import ForwardModel, System
from retrodict.run.checkpoint import load_system
from retrodict.run.log import Log
from retrodict.run.run import Run, versions

FIRST = trial.TEST + 500_000  # of the levels that are planned in
SEEN = 4  # frames before the start that a planner is shown, at most
SAMPLES, ITERATIONS, ELITES = 48, 3, 8


@dataclass(frozen=True)
class Start:
    """A state of a level, and what is to be reached from it."""

    level: int
    clip: Clip  # up to the start
    goal: Tensor  # c h w
    way: Tensor  # k d, the recorded actions to it


def starts(chosen: trial.Setting, number: int, steps: int) -> list[Start]:
    """States drawn from levels that no recording has, one of each, whose goal looks different."""
    world, found = trial.world_of(chosen, 16), list[Start]()
    actor = expert(world, chosen.random, 1, chosen.held)
    for clip, level in zip((c for c, _, _ in rollout(world, range(FIRST, FIRST + 4 * number), actor)), count(FIRST)):
        assert clip.frames is not None
        assert clip.actions is not None
        if clip.steps < steps:
            continue
        at = int(rng.numpy_rng("reach", level).integers(0, clip.steps - steps + 1))
        goal = clip.frames[0, at + steps]
        if not torch.equal(goal, clip.frames[0, at]):
            found.append(Start(level, clip.cut(0, at + 1), goal, clip.actions[0, at : at + steps]))
        if len(found) == number:
            break
    return found


def begun(world: World, start: Start) -> None:
    """Brings the game to a start."""
    world.reset(seed=[start.level])
    for action in [] if start.clip.actions is None else start.clip.actions[0]:
        world.step(world.native(action.unsqueeze(0)))


def reached(world: World, start: Start, actions: Tensor) -> bool:
    """Whether actions "k d" lead from a start to its goal."""
    begun(world, start)
    for action in actions:
        frames, *_ = world.step(world.native(action.unsqueeze(0)))
    return bool(np.array_equal(frames[0].transpose(2, 0, 1), start.goal.numpy()))


def planned(world: World, start: Start, forward: ForwardModel, seed: int) -> Tensor:
    """What a planner does, who looks after every step: actions "k d"."""
    begun(world, start)
    seen = start.clip.cut(max(0, start.clip.length - SEEN), start.clip.length)
    past, taken = seen.only("frames", "actions", "source"), list[Tensor]()
    for left in range(len(start.way), 0, -1):
        planner = cem(forward, Reach(start.goal), left, SAMPLES, ITERATIONS, ELITES, seed=seed)
        taken.append(planner.act(past)[0].mode()[0])
        frames, *_ = world.step(world.native(taken[-1].unsqueeze(0)))
        new = torch.from_numpy(frames).permute(0, 3, 1, 2).unsqueeze(1)
        assert past.frames is not None
        known = torch.full((1, past.length), RECORDED, dtype=torch.uint8)
        before = taken[-1].view(1, 1, -1)
        acted = before if past.actions is None else torch.cat([past.actions, before], 1)
        past = Clip(frames=torch.cat([past.frames, new], 1), actions=acted, source=known)
    return torch.stack(taken)


def learnt(where: str, labels: int, folder: Path, log: Log) -> System:
    """Trains genie on video of a setting, with so many labels."""
    chosen = trial.setting(where)
    with trial.recorded(chosen, 0, folder / "data", log.say) as store:
        cache = Cache.build(store, folder=folder / "cache")
    with Run(folder / "run", trial.views(cache, labels, 0), 0, log=log) as run:
        return genie.train(getattr(genie, where if where in ("babyai", "maze") else "tiny")(), run)


def main() -> None:
    """Plans, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", default="sprites")
    parser.add_argument("--run", type=Path, default=None)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/reach"))
    parser.add_argument("--out", type=Path, default=Path("results/comparisons/reach.json"))
    given = parser.parse_args()
    log, chosen = Log(), trial.setting(given.setting)
    home = given.folder / given.setting
    system = load_system(given.run) if given.run else learnt(given.setting, given.labels, home, log)
    forward = system.decoded().forward
    assert forward is not None
    space, world = forward.space, trial.world_of(chosen, 1)
    other = rng.numpy_rng("reach", "names").permutation(space.width)
    hits: dict[str, list[bool]] = {name: [] for name in ("planned", "names exchanged", "random", "recorded")}
    for number, start in enumerate(starts(chosen, given.starts, given.steps)):
        plan = planned(world, start, forward, number)
        chance = rng.numpy_rng("reach", "random", number).integers(0, space.width, given.steps)
        ways = (plan, plan[:, other], space.one_hot(torch.from_numpy(chance)), start.way)
        for name, way in zip(hits, ways, strict=True):
            hits[name].append(reached(world, start, way))
        log.say(f"{number + 1}: { ({name: sum(found) for name, found in hits.items()}) }")
    shares = {name: wilson(sum(found), len(found)) for name, found in hits.items()}
    told: dict[str, Any] = {
        name: {key: round(value, 4) for key, value in (("value", at.value), ("low", at.low), ("high", at.high))}
        for name, at in shares.items()
    } | {"starts": given.starts, "steps": given.steps, "labels": given.labels, "seeds": 1, "commit": commit_of_source()}
    settings = json.loads(given.out.read_text())["settings"] if given.out.exists() else {}
    whole = {"settings": settings | {given.setting: told}, "command": "python benchmarks/reach.py --setting SETTING"}
    given.out.write_text(json.dumps(whole | {"versions": versions()}, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
