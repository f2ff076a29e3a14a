"""Scroll: panning, borders, looks away and back, paint that stays, exact state."""

from __future__ import annotations

import numpy as np
import pytest

from retrodict.envs.rollout import expert, rollout
from retrodict.envs.scroll import MOVES, OPPOSITE, TILE, WINDOW, Scroll, render
from retrodict.errors import UnusableInput

LEFT, RIGHT, UP, DOWN, STAY, PAINT = range(6)


def put(world: Scroll, row: int, column: int) -> np.ndarray:
    state = world.state()
    state["corner"][:] = row, column
    return world.restore(state)


@pytest.mark.parametrize("stride", [4, 8])
def test_actions_pan_the_window_over_one_plane(stride: int) -> None:
    world = Scroll(1, stride=stride)
    world.reset(seed=0)
    before = put(world, 32, 32)[0]
    for action, (down, across) in enumerate(MOVES[:5] * stride):
        put(world, 32, 32)
        after = world.step(np.array([action]))[0][0]
        there = slice(max(0, down), WINDOW + min(0, down)), slice(max(0, across), WINDOW + min(0, across))
        here = slice(max(0, -down), WINDOW + min(0, -down)), slice(max(0, -across), WINDOW + min(0, -across))
        assert np.array_equal(after[here], before[there])
        assert np.array_equal(after, before) == (action == STAY)


def test_the_window_stops_at_the_border() -> None:
    world = Scroll(4, screens="2x3")
    world.reset(seed=0)
    for _ in range(20):
        world.step(np.arange(4))
    corner = world.state()["corner"]
    assert corner[0, 1] == corner[2, 0] == 0
    assert corner[1, 1] == 2 * WINDOW
    assert corner[3, 0] == WINDOW
    assert (world.room().min(1) == 0).all()
    before = render(world.state())
    assert np.array_equal(world.step(np.arange(4))[0], before)


def test_whoever_goes_away_and_back_sees_the_same() -> None:
    world = Scroll(8)
    world.reset(seed=3)
    for away in range(4):
        before, steps = render(world.state()), int(world.room()[:, away].min())
        for _ in range(steps):
            world.step(np.full(8, away))
        for _ in range(steps):
            frames, *_ = world.step(np.full(8, OPPOSITE[away]))
        assert np.array_equal(frames, before)


def test_the_recorded_player_looks_away_and_comes_back() -> None:
    world = Scroll(6, limit=80)
    again, moves = 0, []
    for clip, success, _ in rollout(world, range(6), expert(world)):
        assert clip.frames is not None
        assert clip.actions is not None
        assert clip.ends is not None
        assert clip.steps == 80
        assert not success
        assert clip.ends.sum() == 0
        seen = [frame.numpy().tobytes() for frame in clip.frames[0]]
        moves.append(clip.actions[0].argmax(-1).numpy())
        turns = [t for t in range(1, 80) if moves[-1][t] < 4 and OPPOSITE[moves[-1][t]] == moves[-1][t - 1]]
        again += sum(seen[t - 1] == seen[t + 1] for t in turns)
        assert len(set(seen)) < len(seen) - 15  # it sees much again
    assert again > 20
    assert set(np.concatenate(moves)) == {LEFT, RIGHT, UP, DOWN, STAY}


def test_a_window_tells_where_it_is() -> None:
    world = Scroll(1, stride=8)
    world.reset(seed=5)
    state = {name: np.repeat(value, 81, 0) for name, value in world.state().items()}
    state["corner"] = np.stack(np.divmod(np.arange(81), 9), 1) * 8
    assert len({frame.tobytes() for frame in render(state)}) == 81


def test_paint_stays_where_it_is_put() -> None:
    world = Scroll(1, paint=True)
    world.reset(seed=2)
    before = put(world, 32, 32)
    painted, *_ = world.step(np.array([PAINT]))
    changed = np.argwhere((painted != before).any((0, 3)))
    middle = WINDOW // 2
    assert changed.min() >= middle
    assert changed.max() < middle + TILE
    for action in [LEFT] * 8 + [RIGHT] * 8:
        after, *_ = world.step(np.array([action]))
    assert np.array_equal(after, painted)
    assert np.array_equal(world.step(np.array([PAINT]))[0], painted)
    world.reset(seed=2)
    assert np.array_equal(put(world, 32, 32), before)
    assert (Scroll(1, paint=True).actions.width, Scroll(1).actions.width) == (6, 5)


def test_no_level_has_the_painted_mark_of_its_own() -> None:
    world = Scroll(50, paint=True)
    frames, _ = world.reset(seed=0)
    magenta = (frames == (255, 60, 230)).all(-1)
    assert not magenta.any()
    assert (world.step(np.full(50, PAINT))[0] == (255, 60, 230)).all(-1).any((1, 2)).all()


def test_a_level_is_a_pure_function_of_its_seed_and_restores_exactly() -> None:
    many, one = Scroll(3, paint=True), Scroll(1, paint=True)
    frames, _ = many.reset(seed=[5, 6, 7])
    assert np.array_equal(frames[2], one.reset(seed=7)[0][0])
    assert not np.array_equal(frames[0], frames[1])
    for _ in range(10):
        many.step(many.expert())
    saved, other = many.state(), Scroll(3, paint=True)
    after = [many.step(many.expert())[0] for _ in range(10)]
    other.restore(saved)
    for frames in after:
        assert np.array_equal(other.step(other.expert())[0], frames)
    with pytest.raises(UnusableInput, match="another world"):
        Scroll(3, screens="1x4").restore(saved)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnusableInput, match="rows x columns"):
        Scroll(1, screens="3")
    with pytest.raises(UnusableInput, match="stride"):
        Scroll(1, stride=5)
    world = Scroll(1)
    world.reset(seed=0)
    with pytest.raises(UnusableInput, match="0\\.\\.4"):
        world.step(np.array([PAINT]))
