"""CarRacing: frames, actions, and an expert that follows the track."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from retrodict.envs.catalog import make
from retrodict.envs.rollout import expert, rollout
from retrodict.errors import MissingPackage

installed = importlib.util.find_spec("Box2D") is not None


@pytest.mark.skipif(installed, reason="Box2D is installed")
def test_a_missing_package_names_the_line_that_installs_it() -> None:
    with pytest.raises(MissingPackage, match="pip install 'retrodict\\[box2d\\]'"):
        make("car_racing")


@pytest.mark.skipif(not installed, reason="Box2D: pip install 'retrodict[box2d]'")
def test_the_expert_follows_the_track() -> None:
    world = make("car_racing", 1, limit=150)
    frames, _ = world.reset(seed=0)
    assert frames.shape == (1, 64, 64, 3)
    assert world.actions.columns == ("action.steer", "action.gas", "action.brake")
    assert world.action_space.contains(world.expert())
    ((clip, success, total),) = rollout(world, [0], expert(world))
    assert not success
    assert total > 40  # standing still costs 15
    assert clip.frames is not None
    assert len(np.unique(clip.frames[0, -1])) > 10
