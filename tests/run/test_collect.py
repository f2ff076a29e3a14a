"""Run.collect: a stage that plays, committed group by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.envs.rollout import Actor, uniform
from retrodict.envs.sprites import Sprites
from retrodict.errors import StaleStage
from retrodict.run import collect as collecting
from retrodict.run.run import Run, Views

LEVELS, HOW = range(7, 13), {"policy": "uniform"}


def counted(actor: Actor, calls: list[int], most: int = 10_000) -> Actor:
    def act(clip: Clip) -> Tensor:
        calls.append(1)
        if len(calls) > most:
            raise KeyboardInterrupt
        return actor(clip)

    return act


def test_a_stage_plays_once_and_other_levels_are_another_stage(tmp_path: Path, sprites: Views) -> None:
    world, calls = Sprites(2), list[int]()
    actor = counted(uniform(world), calls)
    with Run(tmp_path, sprites) as run:
        first = run.collect("played", world, LEVELS, actor, HOW)
    assert len(set(first.cache.episode.tolist())) == len(LEVELS)
    assert calls
    calls.clear()
    with Run(tmp_path, sprites) as run:
        again = run.collect("played", world, LEVELS, actor, HOW)
    assert not calls
    assert torch.equal(again.target_actions(), first.target_actions())
    with Run(tmp_path, sprites) as run, pytest.raises(StaleStage, match="levels"):
        run.collect("played", world, range(3), actor, HOW)
    with Run(tmp_path, sprites) as run, pytest.raises(StaleStage, match="policy was 'uniform' and is now 'other'"):
        run.collect("played", world, LEVELS, actor, {"policy": "other"})


def test_an_interrupted_one_goes_on_after_its_last_group(
    tmp_path: Path, sprites: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting.collect, "__defaults__", (0, None, 2))  # groups of two episodes
    world, calls = Sprites(2), list[int]()
    with Run(tmp_path / "whole", sprites) as run:
        whole = run.collect("played", world, LEVELS, counted(uniform(world), calls), HOW)
    with Run(tmp_path / "cut", sprites) as run, pytest.raises(KeyboardInterrupt):
        run.collect("played", world, LEVELS, counted(uniform(world), [], len(calls) * 2 // 3), HOW)
    rest = list[int]()
    with Run(tmp_path / "cut", sprites) as run:
        joined = run.collect("played", world, LEVELS, counted(uniform(world), rest), HOW)
    assert 0 < len(rest) < len(calls)
    assert np.array_equal(joined.cache.frames, whole.cache.frames)
    assert torch.equal(joined.target_actions(), whole.target_actions())
