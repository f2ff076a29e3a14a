"""Intervals against published tables, closed forms and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrodict.errors import UnusableInput
from retrodict.measure.intervals import (
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    exact_lower,
    iqm,
    paired_difference,
    stratified_bootstrap,
    t_interval,
    t_quantile,
    wilson,
)


def test_wilson_of_eight_in_ten() -> None:
    # (0.8 + 0.19207 ± 1.95996 sqrt(0.016 + 0.0096036)) / 1.384146
    found = wilson(8, 10)
    assert (found.value, found.count) == (0.8, 10)
    assert found.low == pytest.approx(0.49016, abs=1e-5)
    assert found.high == pytest.approx(0.94332, abs=1e-5)


@given(st.integers(1, 300), st.data())
def test_wilson_stays_inside_and_mirrors(count: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, count))
    found, mirror = wilson(successes, count), wilson(count - successes, count)
    assert found.low is not None
    assert found.high is not None
    assert mirror.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(1 - mirror.high)


def test_exact_lower_needs_59_faultless_cases_for_95_percent() -> None:
    assert exact_lower(59, 59) == pytest.approx(0.05 ** (1 / 59))
    assert exact_lower(59, 59) >= 0.95 > exact_lower(58, 58)
    assert exact_lower(0, 10) == 0.0


@given(st.integers(2, 40), st.data())
def test_exact_lower_is_where_the_tail_equals_one_minus_level(count: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(1, count))
    bound = exact_lower(successes, count, 0.9)
    tail = sum(math.comb(count, k) * bound**k * (1 - bound) ** (count - k) for k in range(successes, count + 1))
    assert tail == pytest.approx(0.1, abs=1e-9)


@pytest.mark.parametrize(
    ("share", "freedom", "table"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 4, 2.77645), (0.95, 5, 2.01505), (0.995, 30, 2.74999)],
)
def test_t_quantiles_agree_with_the_printed_table(share: float, freedom: int, table: float) -> None:
    assert t_quantile(share, freedom) == pytest.approx(table, rel=1e-5)
    assert t_quantile(1 - share, freedom) == pytest.approx(-table, rel=1e-5)


def test_t_interval_by_hand() -> None:
    # mean 2, standard deviation 1, half width 4.30265 / sqrt(3)
    found = t_interval(np.array([1.0, 2.0, 3.0]))
    assert found.value == 2.0
    assert found.high == pytest.approx(2 + 4.30265 / math.sqrt(3), rel=1e-5)
    assert found.low == pytest.approx(2 - 4.30265 / math.sqrt(3), rel=1e-5)


def test_t_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        found = t_interval(rng.normal(size=3), level=0.9)
        covered += found.low < 0 < found.high  # type: ignore[operator]
    low, high = wilson(covered, 600, 0.999).low, wilson(covered, 600, 0.999).high
    assert low < 0.9 < high  # type: ignore[operator]


def test_iqm_drops_a_quarter_at_each_end() -> None:
    assert iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm(np.array([1.0, 2, 6])) == 3.0  # too few to drop any


def test_one_seed_has_no_interval() -> None:
    for found in (
        t_interval(np.array([0.5])),
        bootstrap_mean(np.array([0.5])),
        stratified_bootstrap(np.array([[0.4, 0.6]]), lambda s: float(s.mean())),
        paired_difference(np.array([0.9]), np.array([0.4])),
    ):
        assert (found.value, found.low, found.high, found.count) == (pytest.approx(0.5), None, None, 1)
        assert "not a comparison" in str(found)


def test_bootstrap_of_a_coin_matches_its_binomial_spread() -> None:
    found = bootstrap_mean(np.array([0.0, 1.0] * 50))
    assert found.value == 0.5
    assert found.low == pytest.approx(0.4, abs=0.02)  # 0.5 ± 1.96 * 0.05
    assert found.high == pytest.approx(0.6, abs=0.02)


def test_bootstrap_depends_on_its_seed_and_nothing_else() -> None:
    values = np.sqrt(np.arange(30.0))
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_strata_keep_the_difference_between_tasks_out_of_the_interval() -> None:
    # Tasks differ, seeds agree: new seeds would give the same figure, so the interval has no width.
    found = stratified_bootstrap(np.array([[0.0, 10.0, 20.0, 30.0]] * 3))
    assert (found.value, found.low, found.high, found.count) == (15.0, 15.0, 15.0, 3)
    # Seeds differ within one task: the mean of three draws out of 0, 3, 6 reaches from 0 to 6.
    spread = stratified_bootstrap(np.array([[0.0], [3.0], [6.0]]), lambda s: float(s.mean()), level=0.99)
    assert (spread.value, spread.low, spread.high) == (3.0, 0.0, 6.0)


def test_pairing_removes_what_both_share() -> None:
    levels = np.array([0.0, 5.0, 10.0, 15.0])
    found = paired_difference(levels + 1, levels)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    same = paired_difference(levels, levels)  # control: nothing differs
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_estimates_print_for_people() -> None:
    assert str(Estimate(0.5, 0.25, 0.75, 4)) == "0.500 [0.250, 0.750]"


@pytest.mark.parametrize(
    "refused",
    [
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
        lambda: wilson(1, 2, level=1.0),
        lambda: t_interval(np.array([])),
        lambda: t_interval(np.array([1.0, np.nan])),
        lambda: bootstrap_mean(np.array([])),
        lambda: stratified_bootstrap(np.array([1.0, 2.0])),
        lambda: paired_difference(np.array([1.0, 2.0]), np.array([1.0])),
        lambda: t_quantile(0.5, 0),
    ],
)
def test_what_carries_no_information_is_refused(refused: object) -> None:
    with pytest.raises(UnusableInput):
        refused()  # type: ignore[operator]


def test_an_interval_is_cut_to_the_range_of_the_figure() -> None:
    plain, share = t_interval(np.array([0.98, 1.0])), t_interval(np.array([0.98, 1.0]), within=(0.0, 1.0))
    assert plain.high is not None
    assert plain.high > 1.0
    assert (share.value, share.low, share.high) == (plain.value, plain.low, 1.0)
    with pytest.raises(UnusableInput, match=r"outside of the range 0\.\.1"):
        t_interval(np.array([0.5, 1.2]), within=(0.0, 1.0))


def test_a_ratio_of_sums_is_drawn_by_units() -> None:
    one = bootstrap_ratio(np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]]))
    assert (one.value, one.low, one.high, one.count) == (1, 0.5, 1.5, 2)
    same = bootstrap_ratio(np.full((9, 2), 2.0), np.full((9, 2), 4.0))
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)
    macro = bootstrap_ratio(np.array([[1.0, 0, 0], [1, 0, 0]]), np.array([[1.0, 9, 0], [1, 9, 0]]))
    assert macro.value == 0.5  # columns count alike, whatever their size; one without a whole does not count
    alone = bootstrap_ratio(np.ones((1, 1)), np.ones((1, 1)))
    assert (alone.value, alone.low) == (1, None)


def test_a_ratio_agrees_with_the_bootstrap_of_a_mean() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    ratio, mean = bootstrap_ratio(values[:, None], np.ones((60, 1))), bootstrap_mean(values)
    assert ratio.value == pytest.approx(mean.value)
    assert ratio.low == pytest.approx(mean.low, abs=0.05)
    assert ratio.high == pytest.approx(mean.high, abs=0.05)


@pytest.mark.parametrize("wholes", [[[0.0], [0.0]], [[1.0], [-1.0]], [[1.0]], [[1.0], [np.nan]]])
def test_a_ratio_without_a_whole_is_refused(wholes: list[list[float]]) -> None:
    with pytest.raises(UnusableInput):
        bootstrap_ratio(np.ones((2, 1)), np.array(wholes))
