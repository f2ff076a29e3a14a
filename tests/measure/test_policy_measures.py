"""Policy measures by hand."""

import numpy as np
import pytest

from retrodict.errors import UnusableInput
from retrodict.measure.policies import label_efficiency, normalised_return, success


def test_returns_lie_between_random_and_expert_and_are_not_clipped() -> None:
    found = normalised_return(np.array([[2.0, 6.0], [10.0, 12.0], [0.0, 4.0]]), random=2.0, expert=10.0)
    assert found.tolist() == [[0.0, 0.5], [1.0, 1.25], [-0.25, 0.25]]


@pytest.mark.parametrize("expert", [2.0, 1.0])
def test_an_expert_no_better_than_random_gives_no_scale(expert: float) -> None:
    with pytest.raises(UnusableInput, match="expert"):
        normalised_return(np.array([2.0]), random=2.0, expert=expert)


def test_success_has_wilsons_interval() -> None:
    found = success(np.array([True] * 8 + [False] * 2))
    assert (found.value, found.count) == (0.8, 10)
    assert found.low == pytest.approx(0.49016, abs=1e-5)
    control = success(np.zeros(10))
    assert (control.value, control.low) == (0.0, 0.0)


BUDGETS = np.array([16, 64, 256])


def test_labels_are_interpolated_in_their_logarithm() -> None:
    # 0.9 lies halfway between 0.8 and 1.0, so N is the geometric mean of 64 and 256.
    assert label_efficiency(BUDGETS, np.array([0.2, 0.8, 1.0]), full=1.0) == pytest.approx(128.0)
    assert label_efficiency(BUDGETS, np.array([0.2, 0.9, 1.0]), full=1.0) == pytest.approx(64.0)


def test_never_enough_always_enough_and_enough_by_luck() -> None:
    assert label_efficiency(BUDGETS, np.array([0.2, 0.5, 0.89]), full=1.0) is None
    assert label_efficiency(BUDGETS, np.array([0.9, 0.9, 0.95]), full=1.0) == 16.0
    # 16 labels passed once, 64 did not: the passing does not count.
    assert label_efficiency(BUDGETS, np.array([0.95, 0.8, 1.0]), full=1.0) == pytest.approx(128.0)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: success(np.array([])),
        lambda: success(np.array([0.5])),
        lambda: normalised_return(np.array([]), 0.0, 1.0),
        lambda: normalised_return(np.array([1.0]), np.nan, 1.0),
        lambda: label_efficiency(BUDGETS, np.array([0.1, 0.2]), full=1.0),
        lambda: label_efficiency(BUDGETS[::-1], np.array([0.1, 0.2, 0.3]), full=1.0),
        lambda: label_efficiency(np.array([0, 1]), np.array([0.1, 0.2]), full=1.0),
        lambda: label_efficiency(BUDGETS, np.array([0.1, 0.2, 0.3]), full=0.0),
    ],
)
def test_unusable_arrays_are_refused(refused: object) -> None:
    with pytest.raises(UnusableInput):
        refused()  # type: ignore[operator]
