"""GAIA-1: captions become a part of actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrodict.check import preset
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.envs.road import Road
from retrodict.envs.road_view import captions, read_attributes
from retrodict.envs.rollout import expert, rollout
from retrodict.errors import UnknownName, UnusableInput
from retrodict.recipes import gaia1
from retrodict.run.collect import schema_of
from retrodict.run.run import Run, Views
from retrodict.serve.start import speeches_of


def driven(**options: Any) -> Cache:
    """Two short drives."""
    world = Road(2, limit=12, **options)
    return Cache.build(MemoryStore(schema_of(world), [clip for clip, _, _ in rollout(world, (3, 4), expert(world))]))


@pytest.fixture(scope="module")
def road() -> Cache:
    """Two drives that tell no numbers."""
    return driven()


def views(cache: Cache) -> Views:
    return Views(Steps.all(cache, hidden=True), Steps.all(cache).known())


def test_the_caption_of_what_a_step_leads_to_is_the_last_part_of_its_action(road: Cache, tmp_path: Path) -> None:
    with Run(tmp_path, views(road)) as run:
        steps, space = gaia1.described("road", run.data.labelled, run)
    assert [segment.name for segment in space.segments] == ["drive", "caption"]
    clip = steps.batch(np.arange(len(steps)))
    assert clip.actions is not None
    assert clip.frames is not None
    assert clip.actions[:, 0, :2].equal(Steps.all(road).known().target_actions())
    said = [space.describe(action)["caption"] for action in clip.actions[:, 0]]
    assert said == list(captions(read_attributes(clip.frames[:, 1].permute(0, 2, 3, 1).numpy())))
    assert bool(clip.known.all())
    assert len(set(said)) > 1


def test_captions_of_the_state_say_what_the_road_told_and_not_what_its_pictures_show(tmp_path: Path) -> None:
    told = driven(numbers=True)
    for start, stop in zip(told.first, told.last, strict=True):  # no picture shows this: bends to the right, always
        told.columns["proprio"][start : stop + 1, 2] = 2
    with Run(tmp_path, views(told)) as run:
        steps, space = gaia1.described("state", run.data.labelled, run)
    said = [str(space.describe(action)["caption"]) for action in steps.target_actions()]
    state = told.columns["proprio"][steps.index + 1]
    words = dict(zip(("weather", "traffic", "bend"), state.astype(np.int64).T, strict=True))
    assert said == list(captions(words))
    assert all(text.endswith("the road bends right") for text in said)


@pytest.mark.parametrize(
    ("spoilt", "what"), [(None, "no numbers"), (0.5, "that are others"), (3.0, r"go up to \[3, 1, 2\]")]
)
def test_data_without_the_state_is_refused(spoilt: float | None, what: str, tmp_path: Path) -> None:
    data = driven(numbers=spoilt is not None)
    if spoilt is not None:
        data.columns["proprio"][:, 1] = spoilt
    with Run(tmp_path, views(data)) as run, pytest.raises(UnusableInput, match=what):
        gaia1.described("state", run.data.labelled, run)


def test_an_inverse_model_says_how_the_car_was_driven_so_that_a_page_can_tell_whether_it_obeyed(
    road: Cache, tmp_path: Path
) -> None:
    with Run(tmp_path, views(road)) as run:
        system = gaia1.train(gaia1.micro(), run)
    assert system.inverse is not None
    assert system.inverse.space == road.space
    (speech,) = speeches_of(system, "run")
    assert speech.judge is system.inverse
    assert (speech.reach, speech.lag) == (1, 0)


def test_given_words_are_the_episodes_own_and_none_leaves_actions_alone(road: Cache, tmp_path: Path) -> None:
    with Run(tmp_path, views(road)) as run:
        plain, space = gaia1.described("none", run.data.labelled, run)
        assert (plain, space) == (run.data.labelled, road.space)
        steps, space = gaia1.described("given", run.data.labelled, run)
        with pytest.raises(UnknownName, match="captions"):
            gaia1.described("taken", run.data.labelled, run)
    said = [space.describe(action)["caption"] for action in steps.target_actions()]
    assert said == [road.texts[road.episode[t]] for t in steps.index]


def test_a_world_without_words_speaks_the_actions_that_were_recorded(road: Cache, tmp_path: Path) -> None:
    with Run(tmp_path, views(road)) as run:
        system = gaia1.train(replace(gaia1.micro(), captions="none"), run)
    assert system.forward is not None
    assert system.forward.space == road.space
    assert preset(gaia1, "paper").captions == "none"
