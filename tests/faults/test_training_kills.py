"""F1: training killed with SIGKILL at random moments ends with the same loss curve and the same weights."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from pendulum_samples import short, swings

from retrodict import rng
from retrodict.check import load_recipe, recipes
from retrodict.envs.sprites import Sprites
from retrodict.envs.world import World
from retrodict.models.inverse import Inverse
from retrodict.models.losses import cloning, labelled
from retrodict.models.policy import ClipPolicy
from retrodict.roles import System, View
from retrodict.run import checkpoint
from retrodict.run.loop import Fit, weights_hash
from retrodict.run.run import Run, Views

FULL = os.environ.get("RETRODICT_FAULTS") == "full"
KILLS = 100 if FULL else 10
RECIPES = dict.fromkeys(recipes(), 100) if FULL else {"lapo": 4}  # the contract kills each recipe twice more
ONLINE = dict.fromkeys(
    ("dreamer_v1", "dreamer_v2", "dreamer_v3", "tdmpc2"), 100 if FULL else 4
)  # that play while they learn
FIT = Fit(steps=10, batch=4)


def pipeline(folder: Path, views: Views) -> None:
    """Fit, label, fit on the labels, save: what label routes do."""
    space = views.labelled.cache.space
    with Run(folder, views, commit_steps=2) as run:
        with rng.isolated("weights"):
            inverse = Inverse(View(2, size=(36, 36)), space, patch=4, width=4, depth=1, hidden=8, dropout=0.2)
            policy = ClipPolicy(View(size=(36, 36)), space, patch=4, width=4, depth=1, hidden=8)
        inverse = run.fit("inverse", inverse, labelled, views.labelled, FIT)
        labels = run.label("labels", inverse, views.unlabelled.only(np.arange(100)))
        policy = run.fit("policy", policy, cloning, labels, FIT)
        run.finish(System(inverse=inverse, policy=policy), {})


def recipe(name: str, world: Callable[[], World] | None = None) -> Callable[[Path, Views], None]:
    """A recipe's smallest preset, all stages of it; with a world, it plays there meanwhile."""
    module = load_recipe(name)

    def train(folder: Path, views: Views) -> None:
        with Run(folder, views, commit_steps=2, world=world) as run:
            run.finish(module.train(module.micro(), run), {})

    return train


def outcome(folder: Path) -> dict[str, object]:
    """All that must be equal: hex of every number of every curve, hashes of all weights."""
    found: dict[str, object] = {
        role: weights_hash(part) for role, part in checkpoint.load_system(folder).parts().items()
    }
    for path in (folder / "stages").rglob("metrics.jsonl"):
        lines = path.read_text().splitlines()
        found[str(path.relative_to(folder))] = [
            {name: float(value).hex() for name, value in json.loads(line).items()} for line in lines
        ]
    return found


def in_child(work: Callable[[], None], kill_after: int) -> tuple[bool, int]:
    """Does the work in a forked process that kills itself at its n-th call of a function, Python's or C's
    (0: never). Returns whether it was killed, and how many calls it made when it was not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        calls = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += 1
            if calls == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.setprofile(count)
            work()
            sys.setprofile(None)
            os.write(writing, str(calls).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    killed = os.WIFSIGNALED(status)
    assert killed or os.WEXITSTATUS(status) == 0, "the child failed; its traceback is above"
    return killed, int(said or 0)


@pytest.mark.parametrize("what", ["stages", *RECIPES])
def test_killed_training_ends_as_if_nothing_had_happened(tmp_path: Path, sprites: Views, what: str) -> None:
    work = pipeline if what == "stages" else recipe(what)
    killed_at_random(tmp_path, sprites, work, RECIPES.get(what, KILLS), what)


def killed_at_random(
    tmp_path: Path, sprites: Views, work: Callable[[Path, Views], None], count: int, what: str
) -> None:  # fmt: skip
    """Does the work once whole, and again and again with kills, until there were so many; all must end alike."""
    work(tmp_path / "whole", sprites)  # here, so that children find all modules imported
    wanted = outcome(tmp_path / "whole")
    _, calls = in_child(partial(work, tmp_path / "counted", sprites), 0)
    assert outcome(tmp_path / "counted") == wanted
    kills, runs = 0, 0
    while kills < count:
        folder = tmp_path / f"run{runs}"
        for attempt in range(1000):
            moment = int(rng.numpy_rng("F1", runs, attempt).integers(1, calls))
            killed, _ = in_child(partial(work, folder, sprites), moment)
            if not killed:
                break
            kills += 1
        assert outcome(folder) == wanted
        leftovers = [p for p in folder.rglob(".*") if p.name != ".lock"] + list(folder.rglob("step-*"))
        assert not leftovers
        runs += 1
    print(f"{what}: {kills} kills in {runs} runs")


@pytest.mark.parametrize("name", ONLINE)
def test_killed_training_that_plays_ends_as_if_nothing_had_happened(tmp_path: Path, sprites: Views, name: str) -> None:
    killed_at_random(tmp_path, sprites, recipe(name, partial(Sprites, 2, 36)), ONLINE[name], f"{name} online")
    curves = [path.read_text() for path in (tmp_path / "whole" / "stages").rglob("metrics.jsonl")]
    assert any("played/return" in curve for curve in curves)


def test_killed_training_that_plays_by_numbers_and_axes_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    work = recipe("dreamer_v1", short)
    killed_at_random(tmp_path, swings(), work, 100 if FULL else 4, "pendulum online")
    curves = [path.read_text() for path in (tmp_path / "whole" / "stages").rglob("metrics.jsonl")]
    assert any("played/return" in curve for curve in curves)
