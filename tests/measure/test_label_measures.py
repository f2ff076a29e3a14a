"""Label measures on cases small enough to count by hand, and on controls that must score nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrodict.errors import UnknownName, UnusableInput
from retrodict.measure.labels import (
    agreement,
    auroc,
    axis_scores,
    brier,
    calibration,
    class_scores,
    confusion,
    majority_baseline,
    press_scores,
    risk_coverage,
)

NAMES = ("stay", "left", "right", "jump")
TRUTH = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 0])


def test_class_scores_by_hand() -> None:
    found = class_scores(TRUTH, PREDICTED, NAMES, null="stay")
    assert found.steps == 10
    assert found.accuracy == 0.7
    assert found.recall == {"stay": 5 / 6, "left": 0.5, "right": 0.5, "jump": None}
    assert found.balanced_accuracy == pytest.approx((5 / 6 + 0.5 + 0.5) / 3)
    assert (found.majority, found.majority_class) == (0.6, "stay")
    assert found.confusion.tolist() == [[5, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    # 4 steps are not null, 2 of them right; 4 predictions are not null.
    assert found.non_null_accuracy == 0.5
    assert found.non_null is not None
    assert (found.non_null.precision, found.non_null.recall, found.non_null.f1) == (0.5, 0.5, 0.5)


def test_saying_stay_always_looks_good_only_in_accuracy() -> None:
    found = class_scores(TRUTH, np.zeros(10, int), NAMES, null="stay")
    assert found.accuracy == found.majority == 0.6
    assert found.balanced_accuracy == pytest.approx(1 / 3)  # chance for three classes
    assert found.non_null_accuracy == 0.0
    assert found.non_null is not None
    assert (found.non_null.f1, found.non_null.precision) == (0.0, None)


def test_without_non_null_steps_there_is_nothing_to_score() -> None:
    found = class_scores(np.zeros(3, int), np.array([0, 1, 0]), NAMES, null="stay")
    assert (found.non_null_accuracy, found.non_null) == (None, None)
    with pytest.raises(UnknownName, match="stay"):
        class_scores(TRUTH, PREDICTED, NAMES, null="sty")


def test_the_majority_of_the_labels_need_not_be_the_majority_of_the_steps() -> None:
    assert majority_baseline(TRUTH, np.array([1, 1, 0])) == 0.2
    assert majority_baseline(TRUTH, np.array([0, 0, 1])) == 0.6
    assert majority_baseline(TRUTH, np.array([2, 1])) == 0.2  # a tie goes to the lowest number


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_renaming_classes_changes_no_score(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    shuffled = np.array([2, 0, 3, 1])
    one = class_scores(truth, predicted, NAMES)
    two = class_scores(shuffled[truth], shuffled[predicted], NAMES)
    assert one.accuracy == two.accuracy
    assert one.balanced_accuracy == pytest.approx(two.balanced_accuracy)
    assert one.majority == two.majority
    assert confusion(truth, predicted, 4).sum() == len(pairs)


def test_keys_and_grippers() -> None:
    found = press_scores(np.array([1, 1, 1, 0, 0]), np.array([1, 0, 0, 1, 0]))
    assert (found.pressed, found.predicted) == (3, 2)
    assert (found.precision, found.recall, found.f1) == (0.5, pytest.approx(1 / 3), pytest.approx(0.4))
    never = press_scores(np.array([1, 0]), np.array([0, 0]))
    assert (never.precision, never.recall, never.f1) == (None, 0.0, 0.0)
    assert press_scores(np.array([0, 0]), np.array([0, 0])).f1 is None


def test_r2_is_averaged_over_axes_and_not_pooled() -> None:
    truth = np.array([[0.0, 0.0, 7.0], [2.0, 200.0, 7.0], [4.0, 400.0, 7.0]])
    predicted = np.array([[2.0, 0.0, 7.0], [2.0, 200.0, 8.0], [2.0, 400.0, 9.0]])
    found = axis_scores(truth, predicted, ("turn", "walk", "still"))
    assert found.r2_by_axis == {"turn": 0.0, "walk": 1.0}  # pooled it would be 0.9999
    assert found.r2 == 0.5
    assert found.pearson == {"turn": None, "walk": pytest.approx(1.0)}
    assert found.excluded == ("still",)


def test_r2_and_pearson_tell_scale_from_shape() -> None:
    truth = np.array([[-1.0], [0.0], [1.0]])
    found = axis_scores(truth, -2 * truth, ("x",))
    assert found.r2 == 1 - 18 / 2
    assert found.pearson["x"] == pytest.approx(-1.0)


def test_the_mean_scores_zero() -> None:
    truth = np.random.default_rng(0).normal(3.0, 2.0, (50, 3))
    found = axis_scores(truth, np.broadcast_to(truth.mean(0), truth.shape), ("x", "y", "z"))
    assert found.r2 == pytest.approx(0.0, abs=1e-12)


def test_an_unchanging_truth_has_no_r2() -> None:
    with pytest.raises(UnusableInput, match="R²"):
        axis_scores(np.full((4, 1), 0.1), np.zeros((4, 1)), ("x",))


def test_calibration_by_hand() -> None:
    confidence = np.array([0.2, 0.2, 0.6, 0.6, 0.9, 0.9])
    correct = np.array([0, 1, 1, 0, 1, 1])
    found = calibration(confidence, correct, bins=3)
    assert found.error == pytest.approx((0.3 + 0.1 + 0.1) / 3)
    assert [(b.steps, b.accuracy) for b in found.bins] == [(2, 0.5), (2, 0.5), (2, 1.0)]
    assert found.brier == pytest.approx((0.04 + 0.64 + 0.16 + 0.36 + 0.01 + 0.01) / 6)
    # Equal width 0..1/3..2/3..1 makes the same bins here, but not with two: 0.6 then joins 0.9.
    assert found.error_equal_width == pytest.approx(found.error)
    two = calibration(confidence, correct, bins=2)
    assert two.error_equal_width == pytest.approx(2 / 6 * 0.3 + 4 / 6 * abs(0.75 - 0.75))


def test_calibrated_confidence_scores_zero() -> None:
    confidence = np.repeat([0.0, 0.25, 0.5, 1.0], 4)
    correct = np.array([0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
    found = calibration(confidence, correct, bins=4)
    assert (found.error, found.error_equal_width) == (0.0, 0.0)


def test_calibration_error_is_no_larger_than_its_stated_bias_when_calibrated() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(20):
        confidence = rng.uniform(size=1000)
        errors.append(calibration(confidence, rng.uniform(size=1000) < confidence).error)
    assert 0.005 < np.mean(errors) < 0.4 * np.sqrt(10 / 1000)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30))
def test_the_order_of_steps_does_not_matter(steps: list[tuple[float, bool]]) -> None:
    confidence, correct = (np.array(column) for column in zip(*steps, strict=True))
    one, two = calibration(confidence, correct), calibration(confidence[::-1], correct[::-1])
    assert one.error == pytest.approx(two.error)
    assert sum(b.steps for b in one.bins) == len(steps)
    first, second = risk_coverage(confidence, correct), risk_coverage(confidence[::-1], correct[::-1])
    assert first.area == pytest.approx(second.area)


def test_brier_over_classes() -> None:
    assert brier(np.array([[0.7, 0.2, 0.1]]), np.array([1])) == pytest.approx(0.49 + 0.64 + 0.01)
    assert brier(np.eye(3), np.arange(3)) == 0.0


def test_risk_against_coverage_by_hand() -> None:
    found = risk_coverage(np.array([0.9, 0.8, 0.8, 0.1]), np.array([1, 1, 0, 0]))
    assert found.threshold.tolist() == [0.9, 0.8, 0.1]
    assert found.coverage.tolist() == [0.25, 0.75, 1.0]
    assert found.risk.tolist() == [0.0, pytest.approx(1 / 3), 0.5]
    assert found.area == pytest.approx((0 + 0.5 / 2 + 1 / 3 + 0.5) / 4)


def test_confidence_that_says_nothing() -> None:
    correct = np.array([1, 0, 1, 1, 0, 1, 1, 1])
    same = np.full(8, 0.7)
    assert risk_coverage(same, correct).area == pytest.approx(0.25)
    assert auroc(same, correct) == 0.5


def test_auroc_counts_pairs() -> None:
    # Right labels 0.9 and 0.4 against wrong ones 0.4 and 0.1: pairs win, win, tie, win.
    assert auroc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([1, 1, 0, 0])) == 3.5 / 4
    assert auroc(np.array([0.1, 0.9]), np.array([1, 0])) == 0.0
    assert auroc(np.array([0.1, 0.9]), np.array([1, 1])) is None


def test_agreement_beyond_chance() -> None:
    found = agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    assert (found.share, found.chance, found.kappa) == (0.75, 0.5, 0.5)
    control = agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))  # independent
    assert (control.share, control.kappa) == (0.5, 0.0)
    constant = agreement(np.array([1, 1]), np.array([1, 1]))
    assert (constant.share, constant.kappa) == (1.0, None)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: class_scores(np.array([], int), np.array([], int), NAMES),
        lambda: class_scores(np.array([0, 4]), np.array([0, 1]), NAMES),
        lambda: class_scores(np.array([0, -1]), np.array([0, 1]), NAMES),
        lambda: class_scores(np.array([0.0, 1.0]), np.array([0, 1]), NAMES),
        lambda: class_scores(np.array([0, 1]), np.array([0]), NAMES),
        lambda: axis_scores(np.zeros((2, 2)), np.zeros((2, 2)), ("x",)),
        lambda: axis_scores(np.array([[0.0], [np.inf]]), np.zeros((2, 1)), ("x",)),
        lambda: axis_scores(np.zeros((2, 2)), np.zeros((2, 1)), ("x", "y")),
        lambda: calibration(np.array([1.2]), np.array([1])),
        lambda: calibration(np.array([0.5]), np.array([0.5])),
        lambda: calibration(np.array([0.5]), np.array([1]), bins=0),
        lambda: risk_coverage(np.array([]), np.array([])),
        lambda: agreement(np.array([0]), np.array([0, 1])),
    ],
)
def test_unusable_arrays_are_refused(refused: object) -> None:
    with pytest.raises(UnusableInput):
        refused()  # type: ignore[operator]
