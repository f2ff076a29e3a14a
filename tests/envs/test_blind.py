"""Plans that never look: the search for the best, swings, and doing nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrodict.envs.blind import best_of, blind, idle, swings
from retrodict.envs.catalog import make
from retrodict.envs.dodge import Dodge
from retrodict.envs.pendulum import Pendulum
from retrodict.envs.rollout import open_loop, score
from retrodict.envs.sprites import Sprites
from retrodict.errors import UnusableInput


def test_the_blind_search_finds_the_better_half_of_the_family() -> None:
    world = Sprites(16)
    found = blind(world, range(32), samples=4)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)
    fresh = range(1000, 1200)
    assert sum(score(world, fresh, open_loop(world, found))["success"]) > sum(
        score(world, fresh, open_loop(world, torch.eye(5)[0]))["success"]
    )


def test_a_search_needs_levels() -> None:
    with pytest.raises(UnusableInput, match="at least one"):
        blind(Sprites(1), [])


def test_a_swing_goes_to_both_sides_of_a_choice() -> None:
    plans = [plan.argmax(1).tolist() for plan in swings(Dodge(1))]
    assert [0, 2] in plans
    assert [0, 0, 1, 1, 1, 2, 2, 1, 1, 1] in plans
    assert all(1 not in (plan[0], plan[-1]) or plan[-1] == 1 for plan in plans)  # staying is no side


def test_a_swing_goes_to_both_ends_of_an_axis() -> None:
    plans = [plan[:, 0].tolist() for plan in swings(Pendulum(1))]
    assert [-2.0, 2.0] in plans
    assert [-2.0, -2.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0] in plans


def test_nothing_is_what_a_world_calls_staying_or_no_torque() -> None:
    plan = idle(Sprites(1))
    assert plan is not None
    assert plan.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0]]
    torque = idle(Pendulum(1))
    assert torque is not None
    assert torque.tolist() == [[0.0]]
    minigrid = pytest.importorskip("minigrid")
    assert minigrid
    assert idle(make("babyai", 1)) is None  # each of its keys may do something


def test_the_best_plan_is_the_one_that_earns_most_on_the_training_levels() -> None:
    world = Dodge(8, limit=60)
    plans, levels = [torch.eye(3)[[number]] for number in range(3)], range(8)
    returns = [float(np.mean(score(world, levels, open_loop(world, plan))["returns"])) for plan in plans]
    alike = best_of(world, [plan for plan in plans for _ in range(4)], levels)  # so that a quarter is kept
    assert alike.equal(plans[int(np.argmax(returns))])
