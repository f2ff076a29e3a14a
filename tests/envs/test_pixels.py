"""Pixels: a plain Gymnasium environment becomes a World, and pictures shrink by area."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from retrodict.cli.act import scored
from retrodict.envs.catalog import make
from retrodict.envs.pixels import Pixels, shrunk
from retrodict.envs.rollout import rollout, uniform
from retrodict.errors import MissingPackage, UnknownName, UnusableInput


class Lamp(gymnasium.Env):
    """A lamp that starts at a random brightness and is turned up or down; at 0 it is out, after 6 steps time is up."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012
    observation_space = spaces.Box(0, 255, (1,))
    action_space = spaces.MultiDiscrete([3, 2])

    def __init__(self, render_mode: str | None = None, grey: bool = False) -> None:
        self.render_mode, self.grey = render_mode, grey

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.light, self.age = int(self.np_random.integers(60, 200)), 0
        return np.array([self.light]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.light = int(np.clip(self.light + (int(action[0]) - 1) * 50, 0, 255))
        self.age += 1
        return np.array([self.light]), 0.5, self.light == 0, self.age == 6, {"is_success": self.light == 0}

    def render(self) -> np.ndarray:
        return np.full((30, 50) if self.grey else (30, 50, 3), self.light, np.uint8)


gymnasium.register("RetrodictTestLamp-v0", entry_point=Lamp, disable_env_checker=True)


def test_any_gymnasium_id_becomes_a_world() -> None:
    world = make("RetrodictTestLamp-v0", 3, size=16)
    frames, _ = world.reset(seed=0)
    assert frames.shape == (3, 16, 16, 3)
    assert world.fps == 7
    assert world.actions.columns == ("action0=0", "action0=1", "action0=2", "action1=0", "action1=1")
    brighter, rewards, *_ = world.step(np.array([[2, 0], [1, 0], [0, 1]]))
    assert (brighter[:, 0, 0, 0].astype(int) - frames[:, 0, 0, 0]).tolist() == [50, 0, -50]
    assert rewards.tolist() == [0.5, 0.5, 0.5]


def test_its_own_ends_and_limits_are_kept() -> None:
    world = Pixels(2, "RetrodictTestLamp-v0", size=8)
    world.reset(seed=0)
    for _ in range(8):
        frames, _, terminated, truncated, infos = world.step(np.array([[0, 0], [1, 0]]))
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]
    assert infos["success"].tolist() == [True, False]
    assert frames[0].max() == 0
    assert world.steps[1] == 6


def test_an_action_lasts_as_long_as_asked_and_its_rewards_add_up() -> None:
    world = make("RetrodictTestLamp-v0", 2, size=8, repeat=4)
    assert world.limit == 250
    assert world.fps == 2  # of 7
    before, _ = world.reset(seed=3)
    frames, rewards, terminated, truncated, _ = world.step(np.array([[1, 0], [0, 0]]))
    assert rewards[0] == 2.0
    assert frames[0].max() == before[0].max()
    assert terminated.tolist() == [False, True]  # four times darker is out
    assert 0.5 <= rewards[1] < 2.5
    _, rewards, _, truncated, _ = world.step(np.array([[1, 0], [0, 0]]))
    assert rewards.tolist() == [1.0, 0.0]  # six steps are all there are
    assert truncated.tolist() == [True, False]


def test_observations_are_told_as_numbers_where_they_are_asked_for() -> None:
    world = make("RetrodictTestLamp-v0", 2, size=8, numbers=True)
    assert world.proprio == ("0",)
    frames, _ = world.reset(seed=0)
    assert world.sensed().tolist() == frames[:, 0, 0, :1].astype(float).tolist()
    frames, *_ = world.step(np.array([[2, 0], [0, 0]]))
    assert world.sensed().tolist() == frames[:, 0, 0, :1].astype(float).tolist()
    assert Pixels(2, "RetrodictTestLamp-v0").sensed().shape == (2, 0)


class Rooms(Lamp):
    """Observes parts by name."""

    parts = spaces.Dict({"wall": spaces.Box(0, 1, (2, 1)), "age": spaces.Box(-1, 1, ())})
    observation_space = parts  # type: ignore[assignment]

    def reset(self, **given: Any) -> tuple[Any, dict]:
        super().reset(**given)
        return {"wall": np.array([[0.25], [0.5]]), "age": np.array(0.75)}, {}


gymnasium.register("RetrodictTestRooms-v0", entry_point=Rooms, disable_env_checker=True)


class Doors(Lamp):
    """Observes no numbers."""

    observation_space = spaces.Discrete(4)  # type: ignore[assignment]


gymnasium.register("RetrodictTestDoors-v0", entry_point=Doors, disable_env_checker=True)


def test_numbers_have_the_names_of_their_parts() -> None:
    world = Pixels(1, "RetrodictTestRooms-v0", size=8, numbers=True)
    world.reset(seed=0)
    named = dict(zip(world.proprio, world.sensed()[0].tolist(), strict=True))
    assert named == {"age.0": 0.75, "wall.0": 0.25, "wall.1": 0.5}
    with pytest.raises(UnusableInput, match="no numbers"):
        Pixels(1, "RetrodictTestDoors-v0", numbers=True)
    with pytest.raises(UnusableInput, match="1 or more"):
        Pixels(1, "RetrodictTestLamp-v0", repeat=0)


def test_nothing_is_drawn_where_numbers_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, blind = (Pixels(2, "RetrodictTestLamp-v0", size=8, numbers=True, pictures=p) for p in (True, False))
    monkeypatch.setattr(Lamp, "render", lambda self: pytest.fail("it was drawn"))
    with pytest.raises(pytest.fail.Exception, match="it was drawn"):
        seen.reset(seed=3)
    frames, _ = blind.reset(seed=3)
    told = blind.sensed()
    after, rewards, *_ = blind.step(np.array([[2, 0], [1, 0]]))
    assert frames.shape == after.shape == (2, 8, 8, 3)
    assert frames.max() == after.max() == 0
    assert rewards.tolist() == [0.5, 0.5]
    assert (blind.sensed() - told).ravel().tolist() == [50, 0]
    with pytest.raises(UnusableInput, match="numbers=true"):
        Pixels(1, "RetrodictTestLamp-v0", pictures=False)


def test_the_control_suite_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="shimmy"):
        make("dm_control/walker-walk-v0")


def test_rollouts_are_reproducible_and_independent_of_the_batch() -> None:
    runs = []
    for n in (1, 3):
        world = Pixels(n, "RetrodictTestLamp-v0", size=8)
        runs.append(list(rollout(world, range(5), uniform(world))))
    for (a, *ends_a), (b, *ends_b) in zip(*runs, strict=True):
        assert ends_a == ends_b
        assert np.array_equal(a.frames, b.frames)


def test_shrinking_takes_the_mean_of_the_area() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:2, :3] = 100
    picture[2:, 3:] = (0, 60, 200)
    assert shrunk(picture, (2, 2)).tolist() == [[[100] * 3, [0] * 3], [[0] * 3, [0, 60, 200]]]
    # Two new columns of three old ones each a half: (0 + 90/2) / 1.5 and (90/2 + 30) / 1.5.
    row = np.repeat(np.array([[[0], [90], [30]]], np.uint8), 3, axis=2)
    assert shrunk(row, (1, 2))[0, :, 0].tolist() == [30, 50]
    assert np.array_equal(shrunk(picture, (4, 6)), picture)


def test_a_simulator_that_is_not_installed_is_one_message() -> None:
    def absent(render_mode: str | None = None) -> None:
        raise ImportError("No module named 'nosuchsimulator'")

    gymnasium.register("RetrodictTestAbsent-v0", entry_point=absent, disable_env_checker=True)
    with pytest.raises(UnusableInput, match=r"RetrodictTestAbsent-v0 cannot be made .*nosuchsimulator"):
        Pixels(1, "RetrodictTestAbsent-v0")


def test_what_cannot_be_seen_is_refused() -> None:
    with pytest.raises(UnknownName):
        Pixels(1, "RetrodictTestLump-v0")
    with pytest.raises(UnusableInput, match="h x w x 3"):
        Pixels(1, "RetrodictTestLamp-v0", grey=True).reset(seed=0)
    with pytest.raises(UnusableInput, match="no scripted expert"):
        Pixels(1, "RetrodictTestLamp-v0").expert()


def test_what_a_success_is_is_told_or_left_open() -> None:
    lamp = Pixels(1, "RetrodictTestLamp-v0", size=8)
    list(rollout(lamp, [0], uniform(lamp)))
    assert lamp.tells_success
    pole = Pixels(1, "CartPole-v1", size=8)
    assert not pole.has_expert
    shown = scored(pole, range(2), uniform(pole))
    assert not pole.tells_success
    assert shown["success"] is shown["success_low"] is shown["success_high"] is None
    assert shown["mean_return"] == shown["mean_steps"] > 0
