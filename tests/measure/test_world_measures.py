"""World measures by hand, with a copying world, a deaf one and meaningless codes as controls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from retrodict.errors import UnusableInput
from retrodict.measure.intervals import Estimate
from retrodict.measure.worlds import (
    action_sensitivity,
    agreement_by,
    by_unit,
    controllability,
    decibels,
    delta_psnr,
    drift,
    effect_consistency,
    end_fit,
    error_by_horizon,
    mean_over,
    reward_fit,
    row_errors,
    verdict,
)


def pixels(*rows: list[list[float]]) -> np.ndarray:
    """Rows of steps of pixels, as n k c h w with one channel and one line."""
    return np.array(rows, float)[:, :, None, None]


def test_errors_by_hand_on_all_and_on_moving_pixels() -> None:
    truth = pixels([[10, 0], [20, 0]])  # one row, two steps, two pixels, of which the first moves
    predicted = pixels([[10, 0], [10, 10]])
    last = np.zeros((1, 1, 1, 2))
    model, copy = row_errors(predicted, truth, last)
    assert model.tolist() == [[0, 100]]
    assert copy.tolist() == [[50, 200]]
    model, copy = row_errors(predicted, truth, last, moving=True)  # the second pixel no longer counts
    assert model.tolist() == [[0, 50]]
    assert copy.tolist() == [[50, 200]]
    still = row_errors(predicted, pixels([[5, 0], [5, 0]]), last, moving=True)  # what a codec changes is no motion
    assert [part.tolist() for part in still] == [[[0, 0]], [[0, 0]]]


def test_skill_by_horizon_by_hand() -> None:
    found = error_by_horizon(np.array([[0.0, 1], [0, 3]]), np.array([[2.0, 2], [2, 6]]))
    assert found.model.tolist() == [0, 2]
    assert found.copy.tolist() == [2, 4]
    assert [one.value for one in found.skill if one] == [1, 0.5]
    sure = found.skill[0]
    assert sure is not None
    assert (sure.low, sure.high) == (1, 1)


def test_a_world_that_copies_the_last_frame_has_no_skill() -> None:
    rng = np.random.default_rng(0)
    truth, last = rng.uniform(0, 255, (4, 3, 2, 5, 5)), rng.uniform(0, 255, (4, 2, 5, 5))
    copied = np.broadcast_to(last[:, None], truth.shape)
    for moving in (False, True):
        found = error_by_horizon(*row_errors(copied, truth, last, moving))
        assert [(one.value, one.low, one.high) for one in found.skill if one] == [(0, 0, 0)] * 3
        assert error_by_horizon(*row_errors(truth, copied, last, moving)).skill == (None, None, None)


def test_rows_of_one_episode_are_one_unit() -> None:
    assert by_unit(np.array([[1.0], [2], [4]]), np.array([7, 3, 7])).tolist() == [[2], [5]]
    model, copy = np.random.default_rng(0).uniform(size=(2, 40, 1))
    alone = error_by_horizon(model, copy).skill[0]
    joined = error_by_horizon(model, copy, np.zeros(40, int)).skill[0]
    assert alone is not None
    assert joined is not None
    assert joined.value == pytest.approx(alone.value)
    assert (joined.low, joined.count) == (None, 1)  # one episode has no interval, however many frames it has
    assert alone.low is not None
    assert alone.high is not None
    assert alone.low < alone.value < alone.high


def test_each_error_is_capped_before_anything_is_averaged() -> None:
    exact, tenth = 0.0, 25.5**2  # an error of a tenth of the peak: 20 dB
    assert decibels(np.array([exact, tenth])).tolist() == [60, pytest.approx(20)]
    assert mean_over(decibels(np.array([exact, tenth]))).value == pytest.approx((60 + 20) / 2)
    assert decibels(np.array([1e-18])).tolist() == [60]
    assert decibels(np.array([0.1**2]), peak=1.0).tolist() == [pytest.approx(20)]


def test_drift_is_what_is_lost_since_the_first_step() -> None:
    errors = np.array([[25.5, 255, 2550], [25.5, 25.5, 25.5]]) * 25.5
    assert [one.value for one in drift(errors)] == [0, pytest.approx(5), pytest.approx(10)]
    assert [one.value for one in drift(np.full((3, 4), 9.0))] == [0, 0, 0, 0]


def test_delta_psnr_is_zero_when_actions_change_nothing() -> None:
    errors = np.array([25.5**2, 255.0**2])
    assert delta_psnr(errors, errors) == Estimate(0, 0, 0, 2)
    assert delta_psnr(np.full(2, 25.5**2), np.full(2, 255.0**2)).value == pytest.approx(20)


def test_sensitivity_and_its_words() -> None:
    own = np.array([1.0, 3])
    assert action_sensitivity(own, 2 * own) == Estimate(2, 2, 2, 2)
    assert verdict(action_sensitivity(own, 2 * own)) == "obeys"
    assert verdict(action_sensitivity(own, 1.5 * own)) == "obeys in part"
    assert verdict(action_sensitivity(own, own)) == "ignores its actions"
    assert verdict(action_sensitivity(own[:1], 9 * own[:1])) == "unknown"
    perfect = action_sensitivity(np.zeros(2), np.full(2, 6.5025))  # 100 times the error of 60 dB
    assert perfect.value == pytest.approx(100)
    assert action_sensitivity(np.zeros(2), np.zeros(2)).value == 1


def test_a_difference_that_may_be_luck_is_no_obedience() -> None:
    rng = np.random.default_rng(1)
    own = rng.exponential(size=12)
    luck = action_sensitivity(own, rng.permutation(own) * 1.04)
    assert verdict(luck) == "ignores its actions"


def test_effect_consistency_by_hand() -> None:
    # Sum of squares 10 in all (3 degrees of freedom), 1 within the codes (2 degrees): 1 - 0.5 / (10 / 3).
    effects = np.array([[0.0], [1.0], [3.0], [4.0]])
    assert effect_consistency(np.array([0, 0, 7, 7]), effects) == pytest.approx(1 - 0.5 * 3 / 10)
    assert effect_consistency(np.array([0, 0, 7, 7]), np.array([[0.0], [0.0], [3.0], [3.0]])) == 1.0


def test_codes_without_meaning_score_zero_on_average_however_many_there_are() -> None:
    rng = np.random.default_rng(0)
    found = [effect_consistency(rng.integers(0, 30, 60), rng.normal(size=(60, 2))) for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.03)  # uncorrected it would be 0.4


def test_agreement_by_code() -> None:
    assert agreement_by(np.array([0, 0, 4, 4, 4]), np.array([0, 1, 4, 4, 0])) == {0: 0.5, 4: pytest.approx(2 / 3)}


def test_control_by_hand() -> None:
    """Two states, classes stay and up; in the second, up is blocked and looks like stay."""
    alike = np.array([np.eye(2), np.ones((2, 2))], bool)
    means, merged = np.array([[0, 1], [0, 1]]), np.arange(2)
    real = np.array([[0, 1], [0, 0]])  # what the judge reads off the real frames: it makes no mistake
    found = controllability(real, means, real, merged, alike)  # the world does what is real
    assert (found.score.value, found.real.value) == (1, 1)
    assert found.raw.value == 0.75  # up is not read where it is blocked
    assert found.blocked is not None
    assert found.blocked.value == 1
    assert found.by == (1, 1)  # staying shows in both states, going up in the first
    deaf = controllability(np.zeros((2, 2), int), means, real, merged, alike)  # always stays
    assert deaf.score.value == 0.5
    assert deaf.by == (1, 0)
    ghost = controllability(means, means, real, merged, alike)  # goes up through the wall
    assert (ghost.score.value, ghost.raw.value) == (1, 1)
    assert ghost.blocked is not None
    assert ghost.blocked.value == 0
    assert ghost.encoded is None  # it was not asked about an encoder
    poor = controllability(means, means, np.array([[0, 0], [0, 0]]), merged, alike)  # a judge that never reads up
    assert poor.real.value == 0.5
    lost = controllability(real, means, real, merged, alike, encoded=np.zeros((2, 2), int))  # an encoder without motion
    assert lost.encoded is not None
    assert (lost.real.value, lost.encoded.value) == (1, 0.5)


def test_a_world_whose_codes_all_mean_one_action_is_not_controlled_by_it() -> None:
    """Whatever is asked for, it goes up, which is what all of its codes are said to mean."""
    up, merged = np.ones((9, 4), int), np.arange(5)
    alike, real = np.broadcast_to(np.eye(5, dtype=bool), (9, 5, 5)), np.tile(merged, (9, 1))
    found = controllability(up, up, real, merged, alike)
    assert found.by == (1, 1, 1, 1)
    for share in (found.score, found.raw, found.shuffled, found.random):
        assert share.value == pytest.approx(0.2)


def test_a_frame_that_several_lead_to_belongs_to_what_is_read_off_it() -> None:
    """Three moves that are each blocked in one state, and staying, which comes last."""
    alike = np.tile(np.eye(4, dtype=bool), (3, 1, 1))
    for move in range(3):
        alike[move, move, 3] = alike[move, 3, move] = True
    real = np.tile(np.arange(4), (3, 1))
    real[range(3), range(3)] = 3
    means = np.tile(np.arange(4), (3, 1))
    found = controllability(real, means, real, np.arange(4), alike)
    assert found.by == (1, 1, 1, 1)
    assert found.real.value == 1
    still = controllability(np.full((3, 4), 3), means, real, np.arange(4), alike)
    assert still.by == (0, 0, 0, 1)
    assert still.blocked is not None
    assert still.blocked.value == 1


def test_a_perfect_world_is_at_the_ceiling_and_its_controls_at_chance() -> None:
    rng = np.random.default_rng(0)
    means = np.tile(np.array([0, 1, 2, 3, 4, 0, 1]), (400, 1))  # seven codes for five actions
    alike, merged = np.broadcast_to(np.eye(5, dtype=bool), (400, 5, 5)), np.arange(5)
    found = controllability(means, means, np.tile(merged, (400, 1)), merged, alike)
    assert (found.score.value, found.raw.value, found.real.value, found.blocked) == (1, 1, 1, None)
    for control in (found.shuffled, found.random):
        assert control.value == pytest.approx(0.2, abs=0.03)
    noise = controllability(rng.integers(0, 5, (400, 7)), means, np.tile(merged, (400, 1)), merged, alike)
    for value in (noise.score.value, noise.shuffled.value, noise.random.value):
        assert value == pytest.approx(0.2, abs=0.03)


def test_rewards_and_ends_by_hand() -> None:
    truth = np.array([0.0, 0, 1, 1])
    assert reward_fit(truth, truth + 0.5).bias == 0.5
    assert reward_fit(truth, np.array([0, 0, 1, 0.5])).r2 == pytest.approx(1 - 0.25 / 1)
    assert reward_fit(truth, np.full(4, 0.5)).r2 == 0  # the mean tells nothing
    assert reward_fit(np.ones(3), np.ones(3)).r2 is None
    ended = np.array([0, 0, 0, 1])
    assert end_fit(ended, np.full(4, 0.25)).skill == pytest.approx(0)  # neither does the rate
    assert end_fit(ended, np.full(4, 0.25)).error == pytest.approx(0)  # though it is calibrated
    sure = end_fit(ended, ended.astype(float))
    assert (sure.error, sure.rate, sure.skill) == (0, 0.25, 1)
    assert end_fit(np.zeros(3), np.zeros(3)).skill is None


@pytest.mark.parametrize(
    "refused",
    [
        lambda: row_errors(np.zeros((1, 2, 1, 1, 3)), np.zeros((1, 2, 1, 1, 3)), np.zeros((1, 1, 1, 2))),
        lambda: row_errors(np.zeros((0, 2, 1, 1, 3)), np.zeros((0, 2, 1, 1, 3)), np.zeros((0, 1, 1, 3))),
        lambda: error_by_horizon(np.zeros((2, 3)), np.zeros((2, 2))),
        lambda: decibels(np.zeros(2), peak=0.0),
        lambda: action_sensitivity(np.array([-1.0]), np.array([1.0])),
        lambda: action_sensitivity(np.array([1.0]), np.array([np.inf])),
        lambda: effect_consistency(np.array([0, 1]), np.array([[0.0], [1.0]])),
        lambda: effect_consistency(np.array([0, 0, 1]), np.ones((3, 2))),
        lambda: controllability(
            np.zeros((2, 3), int), np.zeros((2, 2), int), np.zeros((2, 2), int), np.arange(2), np.ones((2, 2, 2), bool)
        ),
        lambda: controllability(
            np.zeros((2, 2), int), np.zeros((2, 2), int), np.zeros((1, 2), int), np.arange(2), np.ones((2, 2, 2), bool)
        ),
        lambda: end_fit(np.array([0, 1]), np.array([0.5, 1.5])),
        lambda: reward_fit(np.zeros(2), np.zeros(3)),
    ],
)
def test_unusable_arrays_are_refused(refused: Callable[[], object]) -> None:
    with pytest.raises(UnusableInput):
        refused()
