"""Dodge: moving, falling shots, hits, chance, the expert's foresight, exact state, and pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrodict.envs.dodge import FALL, NONE, PLACES, RATE, SHOT, SIDE, SPREAD, STRIDE, WINDOW, Dodge, render
from retrodict.envs.rollout import expert, open_loop, score, uniform
from retrodict.errors import UnusableInput

LEFT, STAY, RIGHT = range(3)


def put(world: Dodge, player: int, **rows: int) -> None:
    """Puts the player at a place, and shots at places by row (r0 the top one); no other will be fired."""
    state = world.state()
    state["player"][:], state["shots"][:], state["fate"][:] = player, NONE, 1.0
    for name, place in rows.items():
        state["shots"][:, int(name[1:])] = place
    world.restore(state)


@pytest.mark.parametrize(
    ("start", "action", "place"), [(5, LEFT, 4), (5, STAY, 5), (5, RIGHT, 6), (0, LEFT, 0), (14, RIGHT, 14)]
)
def test_actions_move_the_player_between_the_walls_and_shots_fall(start: int, action: int, place: int) -> None:
    world = Dodge(1)
    world.reset(seed=0)
    put(world, start, r0=9, r4=2)
    _, rewards, terminated, *_ = world.step(np.array([action]))
    state = world.state()
    assert state["player"].tolist() == [place]
    assert [row for row in range(FALL) if state["shots"][0, row] != NONE] == [1, 5]
    assert rewards.tolist() == [1.0]
    assert not terminated.any()


@pytest.mark.parametrize(
    ("shot", "row", "dies"),
    [(5, 12, True), (6, 12, True), (4, 12, True), (7, 12, False), (5, 11, False), (5, 14, True), (5, 15, False)],
)
def test_a_shot_that_overlaps_the_player_ends_the_episode_without_a_reward(shot: int, row: int, dies: bool) -> None:
    world = Dodge(1)
    world.reset(seed=0)
    put(world, 5, **{f"r{row}": shot})
    frames, rewards, terminated, truncated, infos = world.step(np.array([STAY]))
    assert terminated.tolist() == [dies]
    assert rewards.tolist() == [0.0 if dies else 1.0]
    assert not truncated.any()
    assert not infos["success"].any()
    if dies:
        again = world.step(np.array([LEFT]))
        assert np.array_equal(again[0], frames)
        assert again[1].tolist() == [0.0]


def test_to_live_until_the_limit_is_a_success() -> None:
    world = Dodge(1, limit=3)
    world.reset(seed=0)
    put(world, 5)
    for _ in range(3):
        _, _, terminated, truncated, infos = world.step(np.array([STAY]))
    assert not terminated.any()
    assert truncated.all()
    assert infos["success"].all()


def test_half_of_the_shots_are_aimed_and_come_at_their_rate() -> None:
    world = Dodge(4000)
    world.reset(seed=0)
    world.step(np.full(4000, STAY))
    state = world.state()
    fired = state["shots"][:, 0] != NONE
    assert abs(fired.mean() - RATE) < 0.014  # four standard errors
    far = abs(state["shots"][:, 0] - state["player"])[fired & (state["player"] > 1) & (state["player"] < PLACES - 2)]
    beside = (2 * SPREAD + 1) / PLACES  # of those that fall anywhere
    assert abs((far <= SPREAD).mean() - (0.5 + 0.5 * beside)) < 0.16


def test_chance_lives_a_fifth_of_the_limit_and_the_expert_all_of_it() -> None:
    world = Dodge(100)
    lived = score(world, range(400), uniform(world))["returns"]
    assert 0.18 < np.mean(lived) / world.limit < 0.25
    assert score(world, range(20), expert(world))["returns"] == [world.limit] * 20
    still = score(world, range(100), open_loop(world, torch.eye(3)[STAY][None]))
    assert np.mean(still["returns"]) < 0.3 * world.limit
    assert still["lengths"] == [life + (life < world.limit) for life in still["returns"]]  # the step of a hit earns 0


def test_the_expert_steps_out_of_the_way_and_not_into_a_wall() -> None:
    world = Dodge(1)
    world.reset(seed=0)
    put(world, 5, r12=4)
    assert world.expert().tolist() == [RIGHT]
    put(world, 5, r12=6)
    assert world.expert().tolist() == [LEFT]
    put(world, 1, r11=2)  # the middle is too far
    assert world.expert().tolist() != [RIGHT]
    put(world, 3)
    assert world.expert().tolist() == [RIGHT]  # towards the middle


def test_pictures_show_player_and_shots_where_they_are() -> None:
    shots = np.full((1, FALL), NONE)
    shots[0, 3] = 6
    frame = render({"player": np.array([2]), "shots": shots})[0]
    lit = (frame == SHOT).all(2)
    assert lit.sum() == SIDE * SIDE
    assert lit[3 * STRIDE : 3 * STRIDE + SIDE, 6 * STRIDE : 6 * STRIDE + SIDE].all()
    blue = frame[..., 2] > 200
    assert blue.sum() == SIDE * SIDE
    assert blue[WINDOW - SIDE :, 2 * STRIDE : 2 * STRIDE + SIDE].all()


def test_restore_replays_exactly() -> None:
    world, other = Dodge(3), Dodge(3)
    world.reset(seed=1)
    for _ in range(30):
        world.step(np.array([LEFT, STAY, RIGHT]))
    saved = world.state()
    after = [world.step(world.expert())[0] for _ in range(20)]
    other.restore(saved)
    for frames in after:
        assert np.array_equal(other.step(other.expert())[0], frames)
    with pytest.raises(UnusableInput, match="another world"):
        Dodge(2).restore(saved)


def test_wrong_actions_are_refused() -> None:
    world = Dodge(1)
    world.reset(seed=0)
    with pytest.raises(UnusableInput, match="0\\.\\.2"):
        world.step(np.array([3]))
