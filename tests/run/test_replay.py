"""Replay: what a part plays while it is trained is a function of the step, also after a kill."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.growing import Growing
from retrodict.data.memory import MemoryStore
from retrodict.envs.catch import FALL, Catch
from retrodict.envs.pendulum import Pendulum
from retrodict.envs.rollout import rollout, uniform
from retrodict.errors import Incompatible, StaleStage, UnusableInput
from retrodict.nn.part import Part
from retrodict.roles import Memory, View
from retrodict.run.collect import schema_of
from retrodict.run.log import Log
from retrodict.run.loop import Fit, weights_hash
from retrodict.run.replay import Replay
from retrodict.run.run import Run, Views
from retrodict.spaces import Distribution

FIT = Fit(steps=12, batch=4, rate=0.1, clip=0.0)


class Leaning(Part):
    """A policy that does not look: three logits."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3))
        self.view, self.space = View(1, 0, 1, 10.0, (16, 16)), Catch(1).actions

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        return Distribution(self.space, self.logits.expand(past.rows, -1)), None


def to_the_left(part: Leaning, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    assert clip.frames is not None
    return {"all": -part.logits[0] + 1e-6 * clip.frames.float().mean() * part.logits.sum()}


def recorded(episodes: int = 3) -> Steps:
    world = Catch(1)
    clips = [clip for clip, _, _ in rollout(world, range(episodes), uniform(world))]
    return Steps.all(Cache.build(MemoryStore(schema_of(world), clips)))


def played(steps: int = 60, copies: int = 1) -> Replay:
    return Replay(recorded(), Catch(copies), lambda part: part, steps)


def trained(folder: Path, log: Log | None = None, steps: int = 60) -> Leaning:
    data = recorded()
    with Run(folder, Views(data, data), log=log, commit_steps=3, world=lambda: Catch(1)) as run:
        return run.fit("lean", Leaning(), to_the_left, run.replay(data, lambda part: part, steps), FIT)


def test_own_steps_are_a_function_of_the_training_step() -> None:
    replay = played(60)
    found = [len(replay.at(step, 12, Leaning(), 0).cache.ids) for step in range(12)]
    wanted = [3 + -(-5 * (step + 1) // FALL) for step in range(12)]  # 5 steps for each of 12, 13 in an episode
    assert found == wanted
    assert len(replay.at(2, 12, Leaning(), 0).cache.ids) == wanted[2]  # also later, when more was played


def test_what_lies_beyond_a_checkpoint_is_not_told() -> None:
    replay = played(60)
    replay.at(2, 12, Leaning(), 0)
    early = replay.returns()
    replay.at(11, 12, Leaning(), 0)
    late = replay.returns()
    replay.at(2, 12, Leaning(), 0)  # as after a kill, when more was kept than the checkpoint has seen
    assert replay.returns() == early
    assert early != late


def test_copies_play_together() -> None:
    replay = played(20, copies=4)
    assert len(replay.at(0, 1, Leaning(), 0).cache.ids) == 3 + 4


def test_what_was_recorded_stays_and_what_was_played_is_of_own_levels() -> None:
    replay, data = played(), recorded()
    steps = replay.at(11, 12, Leaning(), 0)
    assert np.array_equal(steps.cache.frames[: len(data.cache.frames)], data.cache.frames)
    clip = next(c for c, _, _ in rollout(Catch(1), [500_000], lambda c: torch.eye(3)[steps_taken(steps, 3)]))
    assert clip.frames is not None
    own = steps.cache.frames[steps.cache.starts[3] : steps.cache.starts[4]]
    assert np.array_equal(own, clip.frames[0].numpy())


def steps_taken(steps: Steps, episode: int) -> list[int]:
    """The action of a step of an episode, one call after the other."""
    counter = taken.setdefault(episode, 0)
    taken[episode] += 1
    return [int(steps.columns["actions"][steps.cache.starts[episode] + counter].argmax())]


taken: dict[int, int] = {}


def test_windows_lie_inside_their_episode() -> None:
    data = recorded()
    narrow = data.shown(View(4, 2)).whole()
    clip = narrow.batch(np.arange(len(narrow)))
    assert bool(clip.real.all())
    assert len(narrow) == 3 * (FALL - 2)
    wide = data.shown(View(30, 28)).whole()
    assert wide.index.tolist() == [FALL - 1 + episode * (FALL + 1) for episode in range(3)]


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    class Kill(BaseException):
        pass

    class Killing(Log):
        def step(self, step: int, values: dict[str, float]) -> None:
            super().step(step, values)
            if step == 7:
                raise Kill

    whole = trained(tmp_path / "whole")
    with pytest.raises(Kill):
        trained(tmp_path / "killed", Killing(quiet=True))
    again = trained(tmp_path / "killed")
    assert weights_hash(again) == weights_hash(whole)
    curves = [curve(tmp_path / name) for name in ("whole", "killed")]
    assert curves[0] == curves[1]
    assert curves[0][-1]["played/return"] <= 0  # a paddle at the left catches a fifth
    with pytest.raises(StaleStage, match="data"):
        trained(tmp_path / "whole", steps=61)


@dataclass(frozen=True)
class Settings:
    eager: float = 1.0


def eagerly(part: Leaning, cfg: Settings) -> Leaning:
    return part


def test_who_plays_otherwise_is_another_stage(tmp_path: Path) -> None:
    data = recorded()

    def fitted(cfg: Settings) -> None:
        with Run(tmp_path, Views(data, data), world=lambda: Catch(1)) as run:
            run.fit("lean", Leaning(), to_the_left, run.replay(data, partial(eagerly, cfg=cfg), 20), FIT)

    fitted(Settings())
    fitted(Settings())
    with pytest.raises(StaleStage, match="data"):
        fitted(Settings(2.0))


def test_a_share_of_time_that_holds_all_steps_changes_nothing(tmp_path: Path) -> None:
    data = recorded()
    with Run(tmp_path, Views(data, data), world=lambda: Catch(1), seconds={"lean": 600.0}) as run:
        found = run.fit("lean", Leaning(), to_the_left, run.replay(data, lambda part: part, 60), FIT)
    assert weights_hash(found) == weights_hash(trained(tmp_path / "whole"))


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "stages" / "lean" / "metrics.jsonl").read_text().splitlines()]


def test_a_run_without_a_world_has_what_was_recorded(tmp_path: Path) -> None:
    data = recorded()
    with Run(tmp_path, Views(data, data)) as run:
        assert isinstance(run.replay(data, lambda part: part, 60), Steps)


def test_episodes_of_another_size_are_refused() -> None:
    world = Catch(1, size=32)
    clip, _, _ = next(rollout(world, [0], uniform(world)))
    with pytest.raises(UnusableInput, match=r"frames of \(3, 16, 16\)"):
        Growing(recorded()).append([clip])
    with pytest.raises(UnusableInput, match="one step or more"):
        played(0)


def test_another_world_than_the_recorded_is_refused() -> None:
    for world, said in ((Catch(1, size=32), "frames"), (Pendulum(1), "actions"), (Catch(1, fps=5), "frames/s")):
        with pytest.raises(Incompatible, match=f"has {said}"):
            Replay(recorded(), world, lambda part: part, 5)


def test_growing_holds_the_fewest_that_suffice() -> None:
    grown, world = Growing(recorded()), Catch(1)
    grown.append([clip for clip, _, _ in rollout(world, range(10, 16), uniform(world))])
    asked: list[Any] = [grown.holding(steps, group) for steps, group in ((0, 1), (13, 1), (14, 1), (14, 3), (79, 1))]
    assert asked == [0, 1, 2, 3, None]
    assert len(grown.first(2)) == 5 * FALL


def test_windows_may_reach_beyond_their_episode_where_a_loss_masks_them() -> None:
    recorded_steps = recorded().shown(View(4, 0))
    replay = Replay(recorded_steps, Catch(1), lambda part: part, 60, whole=False)
    steps = replay.at(11, 12, Leaning(), 0)
    assert len(steps) == 8 * FALL
    assert int((~steps.batch(np.arange(len(steps))).real).sum()) == 8 * (1 + 2)
    whole = Replay(recorded_steps, Catch(1), lambda part: part, 60)
    assert len(whole.at(11, 12, Leaning(), 0)) == 8 * (FALL - 2)
    assert whole.digest != replay.digest
