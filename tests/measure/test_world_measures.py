"""World measures by hand, with a copying world and meaningless codes as controls."""

import numpy as np
import pytest

from retrodict.errors import UnusableInput
from retrodict.measure.worlds import action_sensitivity, delta_psnr, effect_consistency, error_by_horizon, psnr


def test_error_by_horizon_by_hand() -> None:
    truth = np.array([[[1.0, 0.0], [2.0, 0.0]]])  # one row, two steps, two pixels
    predicted = np.array([[[1.0, 0.0], [1.0, 1.0]]])
    found = error_by_horizon(predicted, truth, last=np.zeros((1, 2)))
    assert found.model.tolist() == [0.0, 1.0]
    assert found.copy.tolist() == [0.5, 2.0]
    assert found.skill == (1.0, 0.5)


def test_a_world_that_copies_the_last_frame_has_no_skill() -> None:
    rng = np.random.default_rng(0)
    truth, last = rng.uniform(size=(4, 3, 2, 5, 5)), rng.uniform(size=(4, 2, 5, 5))
    found = error_by_horizon(np.broadcast_to(last[:, None], truth.shape), truth, last)
    assert found.skill == (0.0, 0.0, 0.0)
    still = error_by_horizon(truth[:, :1], np.broadcast_to(last[:, None], (4, 1, 2, 5, 5)), last)
    assert still.skill == (None,)


def test_psnr_caps_each_row_before_averaging() -> None:
    truth = np.zeros((2, 4))
    predicted = np.stack([np.zeros(4), np.full(4, 25.5)])  # exact, and an error of a tenth of the peak: 20 dB
    assert psnr(truth, predicted) == pytest.approx((60 + 20) / 2)
    assert psnr(truth, np.full((2, 4), 1e-9)) == pytest.approx(60.0)
    assert psnr(truth, np.full((2, 4), 0.1), peak=1.0) == pytest.approx(20.0)


def test_delta_psnr_is_zero_when_actions_change_nothing() -> None:
    truth, frames = np.zeros((1, 4)), np.full((1, 4), 25.5)
    assert delta_psnr(truth, frames, frames) == 0.0
    assert delta_psnr(truth, frames, np.full((1, 4), 255.0)) == pytest.approx(20.0)


def test_action_sensitivity() -> None:
    assert action_sensitivity(0.5, 2.0) == 4.0
    assert action_sensitivity(0.5, 0.5) == 1.0


def test_effect_consistency_by_hand() -> None:
    # Sum of squares 10 in all (3 degrees of freedom), 1 within the codes (2 degrees): 1 - 0.5 / (10 / 3).
    effects = np.array([[0.0], [1.0], [3.0], [4.0]])
    assert effect_consistency(np.array([0, 0, 7, 7]), effects) == pytest.approx(1 - 0.5 * 3 / 10)
    assert effect_consistency(np.array([0, 0, 7, 7]), np.array([[0.0], [0.0], [3.0], [3.0]])) == 1.0


def test_codes_without_meaning_score_zero_on_average_however_many_there_are() -> None:
    rng = np.random.default_rng(0)
    found = [effect_consistency(rng.integers(0, 30, 60), rng.normal(size=(60, 2))) for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.03)  # uncorrected it would be 0.4


@pytest.mark.parametrize(
    "refused",
    [
        lambda: error_by_horizon(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), np.zeros((1, 2))),
        lambda: error_by_horizon(np.zeros((0, 2, 3)), np.zeros((0, 2, 3)), np.zeros((0, 3))),
        lambda: psnr(np.zeros((1, 2)), np.zeros((1, 3))),
        lambda: psnr(np.zeros((1, 2)), np.zeros((1, 2)), peak=0.0),
        lambda: action_sensitivity(0.0, 1.0),
        lambda: action_sensitivity(np.inf, 1.0),
        lambda: effect_consistency(np.array([0, 1]), np.array([[0.0], [1.0]])),
        lambda: effect_consistency(np.array([0, 0, 1]), np.ones((3, 2))),
    ],
)
def test_unusable_arrays_are_refused(refused: object) -> None:
    with pytest.raises(UnusableInput):
        refused()  # type: ignore[operator]
