"""Catch: falling, catching, chance, exact state, and pictures that can be read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from retrodict.envs.catch import COLUMNS, FALL, GRID, Catch, read, render
from retrodict.envs.rollout import expert, score, uniform
from retrodict.errors import UnusableInput

LEFT, STAY, RIGHT = range(3)


def put(world: Catch, column: int, paddle: int) -> None:
    state = world.state()
    state["column"][:], state["paddle"][:] = column, paddle
    world.restore(state)


def every_state() -> dict[str, np.ndarray]:
    columns = zip(*itertools.product(range(FALL + 1), range(COLUMNS), range(COLUMNS)), strict=True)
    return dict(zip(("row", "column", "paddle"), map(np.array, columns), strict=True))


@pytest.mark.parametrize(("action", "place"), [(LEFT, 1), (STAY, 2), (RIGHT, 3)])
def test_actions_move_the_paddle_and_the_ball_falls(action: int, place: int) -> None:
    world = Catch(1)
    world.reset(seed=0)
    put(world, 0, 2)
    world.step(np.array([action]))
    assert world.state()["paddle"].tolist() == [place]
    assert world.state()["row"].tolist() == [1]


def test_the_paddle_stops_at_the_walls() -> None:
    world = Catch(2)
    world.reset(seed=0)
    for _ in range(FALL):
        world.step(np.array([LEFT, RIGHT]))
    assert world.state()["paddle"].tolist() == [0, COLUMNS - 1]


def test_the_episode_ends_where_the_ball_lands_with_one_or_minus_one() -> None:
    world = Catch(2)
    world.reset(seed=0)
    put(world, 3, 2)
    for _ in range(FALL - 1):
        _, rewards, terminated, *_ = world.step(np.array([STAY, STAY]))
        assert not rewards.any()
        assert not terminated.any()
    _, rewards, terminated, truncated, infos = world.step(np.array([RIGHT, STAY]))
    assert rewards.tolist() == [1.0, -1.0]
    assert terminated.all()
    assert not truncated.any()
    assert infos["success"].tolist() == [True, False]


def test_a_catch_is_worth_what_was_asked_for() -> None:
    world = Catch(2, reward=100.0)
    assert sorted(set(score(world, range(30), uniform(world))["returns"])) == [-100, 100]


def test_the_expert_catches_all_and_chance_one_in_five() -> None:
    world = Catch(64)
    assert score(world, range(64), expert(world))["returns"] == [1.0] * 64
    returns = score(world, range(1500), uniform(world))["returns"]
    assert abs(np.mean(returns) + 0.6) < 0.08  # four standard errors of 0.8 / sqrt(1500)


def test_all_starts_occur() -> None:
    world = Catch(400)
    world.reset(seed=0)
    state = world.state()
    assert len(set(zip(state["column"].tolist(), state["paddle"].tolist(), strict=True))) == COLUMNS**2


@pytest.mark.parametrize("size", [16, 48])
def test_every_state_has_its_own_picture_and_is_read_off_it(size: int) -> None:
    state = every_state()
    frames = render(state, size)
    assert len({frame.tobytes() for frame in frames}) == len(frames)
    found = read(frames)
    assert found["seen"].all()
    for name, value in state.items():
        assert np.array_equal(found[name], value)
    blurred = (0.6 * frames + 0.4 * frames.mean((1, 2), keepdims=True)).astype(np.uint8)
    assert np.array_equal(read(blurred)["column"], state["column"])


def test_a_ball_that_is_gone_is_not_seen() -> None:
    frames = render(every_state())
    frames[:, : GRID - 1] = frames[:, :1, :1].min(0)
    assert not read(frames)["seen"].any()


def test_restore_replays_exactly() -> None:
    world, other = Catch(3), Catch(3, size=32)
    world.reset(seed=1)
    world.step(np.array([0, 1, 2]))
    saved = world.state()
    after = [world.step(world.expert())[0] for _ in range(4)]
    other.restore(saved)
    for frames in after:
        assert np.array_equal(other.step(other.expert())[0][:, ::2, ::2], frames)
    with pytest.raises(UnusableInput, match="another world"):
        Catch(2).restore(saved)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnusableInput, match="multiple of 16"):
        Catch(1, size=20)
    world = Catch(1)
    world.reset(seed=0)
    with pytest.raises(UnusableInput, match="0\\.\\.2"):
        world.step(np.array([3]))
