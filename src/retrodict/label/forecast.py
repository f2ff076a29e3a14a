"""Forecast: how good labels would be with more of them, from how good they are with fewer.

Networks trained on parts of the labels answer labels that they have not seen. A power law with a floor, error = floor +
slope * labels^-rate (Cortes et al., NeurIPS 1994), goes through these points: many such curves, as far as the labels
leave them open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Floats
from retrodict.rng import numpy_rng

SHARES = (0.25, 0.4, 0.6, 0.8, 1.0)  # parts of the labels that networks are trained on
TARGET = 0.95
FEWEST = 24  # labels below which nothing is foretold
FURTHEST = 16  # times as many labels as there are: beyond, nothing is foretold either
DRAWS = 1000
NOISE = 0.02  # of an accuracy from one training to the next (own)
_RATES = np.geomspace(0.2, 2.0, 24)
_USUAL, _SPREAD = math.log(0.7), 0.6  # of the logarithm of rates: what learning curves are like (own)

Point = dict[str, float]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A learning curve and where it leads; `curve` has {"x": labels, "value": accuracy} of the parts measured.

    `ahead` is what to expect of more labels, with a 95 % interval. `needed` is how many more labels `target` takes,
    None when these labels cannot say; `low` and `high` are its interval (high None: perhaps never), `minutes` the
    length of as many steps. `reason` is the plain word.
    """

    target: float
    labels: int
    curve: tuple[Point, ...]
    ahead: tuple[Point, ...] = ()
    needed: int | None = None
    low: int | None = None
    high: int | None = None
    minutes: float | None = None
    reason: str = ""


class LearningCurve:
    """Curves that agree with what was measured: one per draw of a bootstrap over labels.

    correct[n, j] says whether label n was answered rightly by a network trained on counts[j] others. Each draw takes
    labels with replacement, beside one that is always wrong and one that is always right (Laplace), since few faultless
    labels prove nothing; and of the rates one by how well it explains them. Parts that are no better than the
    constant answer, of accuracy `chance`, are left out: there the law does not hold yet.

    Raises:
        UnusableInput: fewer than three parts remain.
    """

    def __init__(self, correct: Floats, counts: Floats, chance: float, seed: int = 0) -> None:
        mean, n = correct.mean(0), len(correct)
        useful = mean > chance + 2 * np.sqrt(mean * (1 - mean) / n)
        useful &= np.cumprod(useful[::-1])[::-1].astype(bool)  # from the first such part on
        if useful.sum() < 3:
            raise UnusableInput("networks trained on parts of these labels are hardly better than always one answer")
        correct, self.counts = correct[:, useful], np.asarray(counts, float)[useful]
        rng = numpy_rng(seed, "forecast")
        sides = np.concatenate([correct, np.zeros((1, len(self.counts))), np.ones((1, len(self.counts)))])
        error = 1 - np.stack([sides[rng.integers(n + 2, size=n + 2)].mean(0) for _ in range(DRAWS)])
        error += NOISE * rng.standard_normal(error.shape)
        share = sides.mean(0)
        weight = 1 / (share * (1 - share) / n + NOISE**2)
        self.rate, self.slope, self.floor = _drawn(self.counts / self.counts[-1], error, weight, rng)

    def accuracy(self, labels: float) -> Floats:
        """Returns the accuracy with this many labels, by draw."""
        return np.asarray(1 - self.floor - self.slope * (labels / self.counts[-1]) ** -self.rate)

    def needed(self, accuracy: float) -> Floats:
        """Returns how many labels reach an accuracy, by draw; infinite where the floor is above."""
        room = 1 - accuracy - self.floor
        with np.errstate(over="ignore"):
            times = (self.slope / np.maximum(room, 1e-12)) ** (1 / self.rate)
        return np.where(room > 0, times * self.counts[-1], np.inf)


def _drawn(x: Floats, error: Floats, weight: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Fits floor and slope >= 0 for every rate by weighted least squares, and draws a rate by its likelihood."""
    law = x ** -_RATES[:, None]  # rates x counts
    e = error[:, None]  # draws x 1 x counts
    total, sum_x, sum_xx = weight.sum(), (weight * law).sum(-1), (weight * law**2).sum(-1)
    sum_e, sum_xe = (weight * e).sum(-1), (weight * law * e).sum(-1)
    slope = (total * sum_xe - sum_x * sum_e) / (total * sum_xx - sum_x**2)
    slope = np.maximum(np.where(sum_e < slope * sum_x, sum_xe / sum_xx, slope), 0.0)  # a floor below zero is none
    floor = np.maximum((sum_e - slope * sum_x) / total, 0.0)
    misfit = (weight * (e - floor[..., None] - slope[..., None] * law) ** 2).sum(-1)
    misfit = misfit + ((np.log(_RATES) - _USUAL) / _SPREAD) ** 2
    pick, row = (-misfit / 2 + rng.gumbel(size=misfit.shape)).argmax(1), np.arange(len(error))
    return _RATES[pick], slope[row, pick], floor[row, pick]


def forecast(
    correct: Floats, counts: Floats, labels: int, chance: float, fps: float, target: float = TARGET, seed: int = 0
) -> Forecast:
    """Says how many more labels a target takes, or that these labels cannot say; arguments as `LearningCurve`.

    `counts` are the labels that networks were trained on, `labels` how many there are; fps is steps per second.
    """
    points = zip(counts, correct.mean(0), strict=True)
    start = Forecast(target, labels, tuple({"x": float(x), "value": float(y)} for x, y in points))
    if labels < FEWEST:
        return replace(start, reason=f"no forecast: {labels} labels are too few; give {FEWEST} or more")
    try:
        curve = LearningCurve(correct, counts, chance, seed)
    except UnusableInput as error:
        return replace(start, reason=f"no forecast: {error}")
    ahead = tuple(_ahead(curve, labels * times) for times in (1, 2, 4, 8, FURTHEST))
    start = replace(start, ahead=ahead)
    if ahead[0]["value"] >= target:
        told = f"{target:.0%} is about reached with {labels} labels ({ahead[0]['low']:.0%} to {ahead[0]['high']:.0%})"
        return replace(start, needed=0, low=0, minutes=0.0, reason=told)
    more = np.maximum(curve.needed(target) - labels, 0.0)
    low, middle, high = (float(value) for value in np.quantile(more, [0.025, 0.5, 0.975], method="nearest"))
    if middle > (FURTHEST - 1) * labels:
        best = f"{FURTHEST} times as many would give {ahead[-1]['low']:.0%} to {ahead[-1]['high']:.0%}"
        return replace(start, reason=f"no forecast: {labels} labels do not show a way to {target:.0%}; {best}")
    needed, least, most = math.ceil(middle), math.ceil(low), None if math.isinf(high) else math.ceil(high)
    span = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
    minutes = needed / fps / 60
    told = f"about {_length(minutes)} more of labels for {target:.0%}: {needed:,} steps ({span})"
    return replace(start, needed=needed, low=least, high=most, minutes=minutes, reason=told)


def _length(minutes: float) -> str:
    return f"{minutes:,.0f} minutes" if minutes >= 2 else f"{max(1, round(60 * minutes)):,} seconds"


def _ahead(curve: LearningCurve, labels: int) -> Point:
    low, middle, high = np.quantile(curve.accuracy(labels), [0.025, 0.5, 0.975])
    return {"x": float(labels), "value": float(middle), "low": float(low), "high": float(high)}
