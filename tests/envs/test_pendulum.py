"""The pendulum: as Gymnasium's, many at once, told and drawn."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.envs.catalog import make
from retrodict.envs.pendulum import Pendulum
from retrodict.envs.rollout import expert, rollout, score, uniform
from retrodict.errors import UnusableInput
from retrodict.run.collect import schema_of


def test_it_moves_and_costs_as_that_of_gymnasium() -> None:
    world, other = Pendulum(1), gymnasium.make("Pendulum-v1").unwrapped
    world.reset(seed=3)
    other.reset(seed=0)
    other.state = np.array([world._now["angle"][0], world._now["speed"][0]])
    draw = np.random.default_rng(0)
    for _ in range(200):
        torque = draw.uniform(-3, 3, (1, 1)).astype(np.float32)
        seen, reward, *_ = other.step(torque[0])
        _, rewards, terminated, truncated, _ = world.step(torque)
        assert world.sensed()[0] == pytest.approx(seen, abs=1e-4)
        assert rewards[0] == pytest.approx(reward, abs=1e-4)
    assert (terminated[0], truncated[0]) == (False, True)


def test_starts_cover_what_gymnasiums_do() -> None:
    world = Pendulum(500)
    world.reset(seed=0)
    assert np.abs(world._now["angle"]).max() == pytest.approx(np.pi, abs=0.05)
    assert np.abs(world._now["speed"]).max() == pytest.approx(1, abs=0.02)


def test_the_rod_is_drawn_where_it_points() -> None:
    world = Pendulum(4, size=32)
    state = world.state()
    state["angle"] = np.array([0.0, np.pi / 2, np.pi, -np.pi / 2])  # up, left, down, right: as Gymnasium counts
    frames = world.restore(state)[..., 0].astype(float) - 20
    halves = [[f[:16].sum(), f[16:].sum(), f[:, :16].sum(), f[:, 16:].sum()] for f in frames]
    assert [int(np.argmax(half)) for half in halves] == [0, 2, 1, 3]


def test_play_brings_numbers_into_clips_and_batches() -> None:
    world = make("pendulum", 2)
    clips = [clip for clip, _, _ in rollout(world, range(2), uniform(world))]
    assert clips[0].proprio is not None
    assert clips[0].proprio.shape == (1, 201, 3)
    cache = Cache.build(MemoryStore(schema_of(world), clips))
    assert (cache.proprio, cache.view(proprio=3).proprio) == (3, 3)
    whole = Steps.all(cache).batch(np.array([7, 207]))
    assert whole.proprio is not None
    assert whole.proprio[1].equal(clips[1].proprio[0, 7:9])


def test_the_expert_swings_it_up_and_random_play_does_not() -> None:
    world = Pendulum(32)
    levels = range(64)
    assert np.mean(score(world, levels, expert(world))["returns"]) > -250
    assert -1400 < np.mean(score(world, levels, uniform(world))["returns"]) < -1050


def test_a_picture_of_a_few_pixels_is_refused() -> None:
    with pytest.raises(UnusableInput, match="8 pixels"):
        Pendulum(1, size=4)
