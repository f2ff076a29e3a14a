"""Genie play: recorded values that become words, at the recipe's own door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict.clip import MISSING, Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.errors import UnknownName, UnusableInput
from retrodict.figures.recall_figures import WORDS
from retrodict.recipes import genie_play
from retrodict.recipes.genie_play import with_events
from retrodict.run.run import Run, Views
from retrodict.spaces import ActionSpace, Segment, categorical, continuous

MOVE = categorical("move", ("left", "paint", "stay", "glow"))
EVENTS = "paint=a ring;glow=a light"


def recorded(space: ActionSpace, actions: torch.Tensor, source: torch.Tensor | None = None) -> Steps:
    frames = torch.arange(len(actions) + 1).byte().view(1, -1, 1, 1, 1).expand(-1, -1, 3, 8, 8).contiguous() * 9
    clip = Clip(frames=frames, actions=actions[None], source=None if source is None else source[None])
    return Steps.all(Cache.build(MemoryStore(Schema(space, {"observation.image": (8, 8, 3)}, 10), [clip])))


def test_values_become_words_and_all_else_stays() -> None:
    space = ActionSpace((MOVE,))
    steps = recorded(space, space.one_hot(torch.tensor([0, 1, 2, 3, 1])))
    told, spoken = with_events(steps, EVENTS, "stay")
    assert [segment.values for segment in spoken.segments[:1]] == [("left", "stay")]
    assert [spoken.describe(action) for action in told.target_actions()] == [
        {"move": "left", "event": ""}, {"move": "stay", "event": "a ring"}, {"move": "stay", "event": ""},
        {"move": "stay", "event": "a light"}, {"move": "stay", "event": "a ring"},
    ]  # fmt: skip
    assert np.array_equal(told.batch(np.arange(5)).frames, steps.batch(np.arange(5)).frames)  # type: ignore[arg-type]
    assert told.digest != steps.digest
    assert with_events(steps, "", "stay") == (steps, space)


def test_steps_without_an_action_stay_without() -> None:
    space = ActionSpace((MOVE,))
    source = torch.tensor([1, MISSING, 1], dtype=torch.uint8)
    steps = recorded(space, space.one_hot(torch.tensor([0, 0, 1])), source)
    told, _ = with_events(steps, EVENTS, "stay")
    assert told.columns["source"][told.index].tolist() == source.tolist()


def test_what_is_no_value_of_a_single_choice_is_refused() -> None:
    space = ActionSpace((MOVE,))
    steps = recorded(space, space.one_hot(torch.zeros(2)))
    with pytest.raises(UnknownName, match="'paints'"):
        with_events(steps, "paints=a ring", "stay")
    with pytest.raises(UnknownName, match="'wait'"):
        with_events(steps, EVENTS, "wait")
    with pytest.raises(UnusableInput, match="VALUE=WORDS"):
        with_events(steps, "paint", "stay")
    axes = ActionSpace((continuous("arm", ("x", "y")),))
    with pytest.raises(UnusableInput, match="single choice"):
        with_events(recorded(axes, torch.zeros(2, 2)), EVENTS, "stay")


def test_the_figures_ask_in_the_words_that_the_recipe_was_taught() -> None:
    assert genie_play.tiny().events == f"paint={WORDS}"


def test_a_run_speaks_moves_and_words(tmp_path: Path) -> None:
    from dataclasses import replace

    from retrodict.envs.rollout import expert, rollout
    from retrodict.envs.scroll import Scroll

    world = Scroll(4, stride=8, paint=True, limit=12)
    clips = [clip for clip, _, _ in rollout(world, range(4), expert(world))]
    cache = Cache.build(MemoryStore(Schema(world.actions, {"observation.image": (32, 32, 3)}, 10), clips))
    views = Views(Steps.all(cache, hidden=True), Steps.all(cache).known())
    with Run(tmp_path, views) as run:
        system = genie_play.train(replace(genie_play.micro(), events=genie_play.tiny().events), run)
    assert system.forward is not None
    kinds: list[Segment] = list(system.forward.space.segments)
    assert [(segment.name, segment.kind) for segment in kinds] == [("move", "categorical"), ("event", "text")]
