"""Intervals: how far a figure can be trusted. One seed has no interval, and says so with None.

wilson               share of successes          Wilson, JASA 1927
exact_lower          one-sided, guaranteed       Clopper & Pearson, Biometrika 1934
t_interval           mean over a few seeds       Student, Biometrika 1908
bootstrap_mean       mean over many values       Efron, Annals of Statistics 1979 (percentile)
bootstrap_ratio      sum over sum, by units      the same; units are what is independent, such as episodes
stratified_bootstrap IQM over seeds x tasks      Agarwal et al., NeurIPS 2021
paired_difference    a - b on the same cases     percentile bootstrap of the differences
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Floats, floats, same_length, same_shape
from retrodict.rng import numpy_rng

DRAWS = 2000  # bootstrap draws: the ends of a 95 % interval move by about 3 % of its width between seeds


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; `low` and `high` are None where `count` independent units cannot carry one."""

    value: float
    low: float | None
    high: float | None
    count: int
    level: float = 0.95

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (n = {self.count}: not a comparison)"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: int, count: int, level: float = 0.95) -> Estimate:
    """Returns the share of successes with Wilson's two-sided score interval, which stays inside 0..1."""
    _counts(successes, count, level)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # At the ends the formula equals 0 or 1 but for rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == count else middle + half
    return Estimate(share, low, high, count, level)


def exact_lower(successes: int, count: int, level: float = 0.95) -> float:
    """Returns the one-sided lower bound of a share that is right with at least probability `level`.

    It is the p at which `successes` or more out of `count` has probability 1 - level. When all succeed it is
    (1 - level)^(1/count): 59 faultless cases are needed for 0.95 at level 0.95.
    """
    _counts(successes, count, level)
    if successes == 0:
        return 0.0
    k = np.arange(successes, count + 1)
    choose = np.array([math.lgamma(count + 1) - math.lgamma(i + 1) - math.lgamma(count - i + 1) for i in k])
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        reached = float(np.exp(choose + k * math.log(middle) + (count - k) * math.log1p(-middle)).sum())
        low, high = (middle, high) if reached < 1 - level else (low, middle)
    return low


def t_quantile(share: float, freedom: int) -> float:
    """Returns the quantile of Student's t with this many degrees of freedom, by bisection of its exact distribution."""
    if not 0 < share < 1 or freedom < 1:
        raise UnusableInput(f"expected 0 < share < 1 and freedom >= 1; got {share} and {freedom}")
    if share < 0.5:
        return -t_quantile(1 - share, freedom)
    low, high = 0.0, 1.0
    while _t_below(high, freedom) < share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def t_interval(values: Floats, level: float = 0.95, within: tuple[float, float] | None = None) -> Estimate:
    """Returns the mean over a few seeds with Student's t interval; one seed gets no interval.

    `within` is the range that the figure can take, such as (0, 1) for a share: what lies outside of it cannot be the
    truth, so the interval is cut to it, which loses no coverage.
    """
    values = floats("values", values)
    _leveled(level)
    low, high = within or (-math.inf, math.inf)
    if float(values.min()) < low or float(values.max()) > high:
        raise UnusableInput(
            f"values from {values.min():g} to {values.max():g} lie outside of the range {low:g}..{high:g}"
        )
    count, mean = len(values), float(values.mean())
    if count == 1:
        return Estimate(mean, None, None, 1, level)
    half = t_quantile(0.5 + level / 2, count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), count, level)


def iqm(values: Floats) -> float:
    """Returns the interquartile mean: a quarter of the values is dropped at each end, rounded down."""
    ordered = np.sort(floats("values", values, axes=None), axis=None)
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


def bootstrap_mean(values: Floats, level: float = 0.95, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Returns the mean with a percentile bootstrap interval; too narrow below about ten values (use `t_interval`)."""
    values = floats("values", values)
    _leveled(level)
    count, mean = len(values), float(values.mean())
    if count == 1:
        return Estimate(mean, None, None, 1, level)
    rng = numpy_rng(seed, "measure/bootstrap")
    means = np.array([values[rng.integers(count, size=count)].mean() for _ in range(draws)])
    return Estimate(mean, *_percentiles(means, level), count, level)


def bootstrap_ratio(parts: Floats, wholes: Floats, level: float = 0.95, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Returns the mean over columns k of Σ parts[n, k] / Σ wholes[n, k]; the units n are drawn again with replacement.

    A column whose whole is 0 is left out, as it is in a draw that misses it.

    Raises:
        UnusableInput: a whole is negative, or all of them are 0.
    """
    parts, wholes = floats("parts", parts, axes=2), floats("wholes", wholes, axes=2)
    same_shape(parts=parts, wholes=wholes)
    _leveled(level)
    if wholes.min() < 0 or wholes.max() == 0:
        raise UnusableInput(f"wholes must be 0 or more, and one above 0; got {wholes.min():g}..{wholes.max():g}")
    count = len(parts)
    value = float(_ratios(parts.sum(0)[None], wholes.sum(0)[None])[0])
    if count == 1:
        return Estimate(value, None, None, 1, level)
    drawn = numpy_rng(seed, "measure/ratio").multinomial(count, np.full(count, 1 / count), draws).astype(np.float64)
    totals = drawn @ wholes
    there = totals.max(1) > 0
    return Estimate(value, *_percentiles(_ratios((drawn @ parts)[there], totals[there]), level), count, level)


def _ratios(parts: Floats, wholes: Floats) -> Floats:
    """Mean over the columns of each row that have a whole."""
    there = wholes > 0
    shares = np.divide(parts, wholes, out=np.zeros_like(parts), where=there)
    return np.asarray(shares.sum(1) / there.sum(1))


def stratified_bootstrap(
    scores: Floats,
    statistic: Callable[[Floats], float] = iqm,
    level: float = 0.95,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """Returns a statistic of scores[seeds, tasks]; seeds are drawn with replacement within each task.

    `count` is the number of seeds. The interval speaks of new seeds on these tasks, not of new tasks.
    """
    scores = floats("scores", scores, axes=2)
    _leveled(level)
    seeds, tasks = scores.shape
    value = statistic(scores)
    if seeds == 1:
        return Estimate(value, None, None, 1, level)
    rng = numpy_rng(seed, "measure/stratified")
    column = np.arange(tasks)
    drawn = np.array([statistic(scores[rng.integers(seeds, size=(seeds, tasks)), column]) for _ in range(draws)])
    return Estimate(value, *_percentiles(drawn, level), seeds, level)


def paired_difference(a: Floats, b: Floats, level: float = 0.95, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Returns the mean of a - b, where a[i] and b[i] met the same case (seed, level or step)."""
    a, b = floats("a", a), floats("b", b)
    same_length(a=a, b=b)
    return bootstrap_mean(a - b, level, seed, draws)


def _percentiles(values: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _t_below(t: float, freedom: int) -> float:
    """Distribution function for t >= 0: the finite series of Abramowitz & Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    first = 1 if freedom % 2 == 0 else 2
    term, total = 1.0, 0.0
    for step in range(first, freedom, 2):
        total += term
        term *= step / (step + 1) * cosine**2
    if freedom % 2 == 0:
        inside = sine * total
    else:
        inside = 2 / math.pi * (angle + sine * cosine * total)
    return 0.5 + inside / 2


def _counts(successes: int, count: int, level: float) -> None:
    _leveled(level)
    if count < 1 or not 0 <= successes <= count:
        raise UnusableInput(f"expected 0 <= successes <= count and count >= 1; got {successes} of {count}")


def _leveled(level: float) -> None:
    if not 0 < level < 1:
        raise UnusableInput(f"expected a level between 0 and 1, such as 0.95; got {level}")
