"""BabyAI: the same frames, rewards and missions as minigrid itself; a bot that bears random actions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("minigrid")

import gymnasium
from minigrid.wrappers import RGBImgPartialObsWrapper

from retrodict.envs.babyai import ACTIONS, BabyAI
from retrodict.envs.catalog import make
from retrodict.envs.rollout import expert, rollout, score, uniform
from retrodict.errors import UnknownName, UnusableInput


@pytest.mark.parametrize("level", ["BabyAI-GoToRedBall-v0", "BabyAI-UnlockPickup-v0"])
def test_frames_rewards_and_missions_are_minigrids(level: str) -> None:
    n, rng = 4, np.random.default_rng(0)
    world = BabyAI(n, level=level)
    theirs = [RGBImgPartialObsWrapper(gymnasium.make(level, max_steps=64)) for _ in range(n)]
    frames, _ = world.reset(seed=50)
    for row, env in enumerate(theirs):
        seen, _ = env.reset(seed=50 + row)
        assert np.array_equal(frames[row], seen["image"])
        assert world.texts()[row] == seen["mission"]
    running = set(range(n))
    for _ in range(40):
        actions = rng.integers(0, 7, n)
        frames, rewards, terminated, _, _ = world.step(actions)
        for row in sorted(running):
            seen, reward, over, _, _ = theirs[row].step(int(actions[row]))
            assert np.array_equal(frames[row], seen["image"])
            assert (rewards[row], terminated[row]) == (reward, over)
            if over:
                running.discard(row)


def test_turning_right_then_left_gives_the_same_frame() -> None:
    world = BabyAI(4)
    before, _ = world.reset(seed=0)
    turned, *_ = world.step(np.full(4, ACTIONS.index("right")))
    after, *_ = world.step(np.full(4, ACTIONS.index("left")))
    assert np.array_equal(before, after)
    assert all(not np.array_equal(a, b) for a, b in zip(before, turned, strict=True))


def test_the_bot_solves_levels_also_among_random_actions() -> None:
    world = BabyAI(8)
    assert np.mean(score(world, range(50), expert(world))["success"]) >= 0.98
    assert np.mean(score(world, range(50), expert(world, 0.2, 1))["success"]) >= 0.98
    assert np.mean(score(world, range(50), uniform(world))["success"]) < 0.6


def test_recording_does_not_depend_on_the_batch() -> None:
    runs = [list(rollout(world, range(6), expert(world, 0.2, 1))) for world in (BabyAI(1), BabyAI(4))]
    for (a, *_), (b, *_) in zip(*runs, strict=True):
        assert a.frames is not None
        assert b.frames is not None
        assert a.text == b.text
        assert a.text in {("go to the red ball",), ("go to a red ball",)}
        assert np.array_equal(a.frames, b.frames)


def test_a_bot_that_lost_track_is_replaced() -> None:
    world = BabyAI(4)
    world.reset(seed=0)
    for action in (0, 3, 2, 4, 1, 5, 2):  # it was not asked about any of these
        world.step(np.full(4, action))
    for _ in range(40):
        world.step(world.expert())
    assert world.step(world.expert())[4]["success"].all()


def test_silent_keys_form_one_group_only_where_they_are_silent() -> None:
    assert make("babyai").actions.segments[0].merged_names == ("left", "right", "forward", "pickup/drop/toggle/done")
    assert make("BabyAI-UnlockPickup-v0").actions.segments[0].groups == ()


def test_unknown_levels_and_sizes_are_refused() -> None:
    with pytest.raises(UnknownName, match="GoToRedBall"):
        BabyAI(1, level="GoToRedBal")
    with pytest.raises(UnusableInput, match="multiple of 7"):
        BabyAI(1, size=64)
