"""Sprites: moves, borders, distractors, textures, exact state."""

from __future__ import annotations

import numpy as np
import pytest

from retrodict.envs.sprites import GRID, TEXTURES, Sprites, render, track
from retrodict.errors import UnknownName, UnusableInput

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def put(world: Sprites, agent: tuple[int, int], goal: tuple[int, int]) -> None:
    state = world.state()
    state["agent"][:], state["goal"][:] = agent, goal
    world.restore(state)


def test_a_level_is_a_pure_function_of_its_seed() -> None:
    many, one = Sprites(3, distractors=2), Sprites(1, distractors=2)
    frames, _ = many.reset(seed=[5, 6, 7])
    again, _ = one.reset(seed=7)
    assert np.array_equal(frames[2], again[0])
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.parametrize(
    ("action", "cell"), [(STAY, (4, 4)), (UP, (3, 4)), (DOWN, (5, 4)), (LEFT, (4, 3)), (RIGHT, (4, 5))]
)
def test_actions_move_the_red_agent_by_one_cell(action: int, cell: tuple[int, int]) -> None:
    world = Sprites(1, size=45)
    world.reset(seed=0)
    put(world, (4, 4), (8, 8))
    frames, *_ = world.step(np.array([action]))
    assert tuple(world.state()["agent"][0]) == cell
    red = np.argwhere((frames[0] == (220, 40, 40)).all(-1))
    assert len(red) == 25
    assert tuple(red[0] // 5) == cell
    assert tuple(red[-1] // 5) == cell


def test_a_move_into_a_border_looks_like_stay() -> None:
    world = Sprites(1)
    world.reset(seed=0)
    put(world, (0, 3), (8, 8))
    before = render(world.state())
    after, *_ = world.step(np.array([UP]))
    assert np.array_equal(before, after)
    moved, *_ = world.step(np.array([LEFT]))
    assert not np.array_equal(after, moved)


def test_reaching_the_goal_ends_the_episode_with_success() -> None:
    world = Sprites(2)
    world.reset(seed=0)
    put(world, (2, 2), (2, 3))
    _, rewards, terminated, truncated, infos = world.step(np.array([RIGHT, LEFT]))
    assert rewards.tolist() == [1.0, 0.0]
    assert terminated.tolist() == [True, False]
    assert not truncated.any()
    assert infos["success"].tolist() == [True, False]


def test_the_limit_truncates_without_success() -> None:
    world = Sprites(1, limit=3)
    world.reset(seed=0)
    put(world, (0, 0), (8, 8))
    ends = [world.step(np.array([STAY]))[2:5] for _ in range(3)]
    assert [bool(truncated[0]) for _, truncated, _ in ends] == [False, False, True]
    assert not ends[-1][0][0]
    assert not ends[-1][2]["success"][0]


def test_distractors_keep_their_speed_and_bounce_inside_the_board() -> None:
    world = Sprites(8, distractors=3)
    world.reset(seed=0)
    put(world, (0, 0), (8, 8))
    earlier = world.state()
    assert np.abs(earlier["velocity"]).max(-1).min() == 1  # none stands still
    for _ in range(25):
        world.step(np.zeros(8, int))
        state = world.state()
        assert state["distractors"].min() >= 0
        assert state["distractors"].max() < GRID
        assert np.array_equal(np.abs(state["velocity"]), np.abs(earlier["velocity"]))
        assert np.array_equal(state["distractors"] - earlier["distractors"], state["velocity"])
        earlier = state


@pytest.mark.parametrize("textures", TEXTURES)
def test_a_texture_changes_looks_and_keeps_the_state(textures: str) -> None:
    plain, other = Sprites(4, distractors=1), Sprites(4, distractors=1, textures=textures)
    plain.reset(seed=3)
    other.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(5):
        actions = rng.integers(0, 5, 4)
        frames, *_ = plain.step(actions)
        drawn, *_ = other.step(actions)
    assert all(np.array_equal(plain.state()[name], other.state()[name]) for name in plain.state())
    assert np.array_equal(render(plain.state(), textures), drawn)  # the same states under the other's texture
    assert np.array_equal(render(other.state(), "plain"), frames)
    if textures != "plain":
        grounds = [tuple(np.unique(frame.reshape(-1, 3), axis=0).ravel()) for frame in drawn]
        assert len(set(grounds)) == 4  # each level has its own colours


def test_a_ground_is_less_saturated_than_any_sprite() -> None:
    world = Sprites(16, textures="noise+checker+stripes")
    frames, _ = world.reset(seed=0)
    state = world.state()
    for frame, agent, goal in zip(frames.astype(int), state["agent"], state["goal"], strict=True):
        spread = (frame.max(-1) - frame.min(-1))[2::4, 2::4]  # one pixel a cell
        sprites = [spread[tuple(agent)], spread[tuple(goal)]]
        spread[tuple(agent)] = spread[tuple(goal)] = 0
        assert spread.max() < min(sprites) / 3


def test_several_textures_are_shared_out_over_levels() -> None:
    mixed = render(_states(), "plain+checker")
    plain, checker = render(_states(), "plain"), render(_states(), "checker")
    is_plain = [np.array_equal(a, b) for a, b in zip(mixed, plain, strict=True)]
    assert 5 < sum(is_plain) < 35
    assert not any(np.array_equal(a, b) for a, b in zip(checker, plain, strict=True))


def _states() -> dict[str, np.ndarray]:
    world = Sprites(40)
    world.reset(seed=0)
    return world.state()


def test_restore_replays_exactly() -> None:
    world, other = Sprites(3, distractors=2, textures="noise"), Sprites(3, distractors=2, textures="noise")
    world.reset(seed=1)
    world.step(np.array([1, 2, 3]))
    saved = world.state()
    after = [world.step(world.expert())[0] for _ in range(4)]
    other.restore(saved)
    for frames in after:
        assert np.array_equal(other.step(other.expert())[0], frames)
    with pytest.raises(UnusableInput, match="another world"):
        Sprites(3).restore(saved)


def test_the_expert_walks_a_shortest_path() -> None:
    world = Sprites(64)
    world.reset(seed=0)
    state = world.state()
    distance = np.abs(state["agent"] - state["goal"]).sum(1)
    while not world.done.all():
        _, _, _, _, infos = world.step(world.expert())
    assert infos["success"].all()
    assert np.array_equal(world.steps, distance)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnusableInput, match="multiple of 9"):
        Sprites(1, size=40)
    with pytest.raises(UnknownName, match="'stripes'"):
        Sprites(1, textures="stripe")
    world = Sprites(1)
    world.reset(seed=0)
    with pytest.raises(UnusableInput, match="0\\.\\.4"):
        world.step(np.array([5]))


@pytest.mark.parametrize(("size", "distractors"), [(36, 0), (45, 3), (9, 1)])
def test_the_agent_is_found_by_its_colour(size: int, distractors: int) -> None:
    world = Sprites(40, size, distractors)
    frames, _ = world.reset(seed=0)
    for _ in range(6):
        assert np.array_equal(track(frames), world.state()["agent"])
        frames, *_ = world.step(world.expert())
    blurred = (frames // 2 + 40).astype(np.uint8)  # as a generated frame may be
    assert np.array_equal(track(blurred), world.state()["agent"])
