"""Forecast: how good labels would be with more of them, from how good they are with fewer.

Networks trained on parts of the labels answer labels that they have not seen. Power laws with a floor (Cortes et al.,
NeurIPS 1994) go through the last of these points: as many different ones as the labels leave open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Floats
from retrodict.rng import numpy_rng

SHARES = (0.25, 0.5, 0.75, 1.0)  # parts of the labels that networks are trained on
TARGET = 0.95
FEWEST = 24  # labels below which nothing is foretold
FURTHEST = 16  # times as many labels as there are: beyond, nothing is foretold either
DRAWS = 1000
NOISE = 0.03  # of an accuracy from one training to the next (own)
_SHARES = 1 - (1 - (np.arange(12) + 0.5) / 12) ** (1 / 3)  # quantiles of Beta(1, 3): floors are mostly low (own)
_RATES, _FLOORS = (
    grid.ravel()
    for grid in np.meshgrid(np.geomspace(0.3, 1.2, 12), _SHARES)  # what learning curves are like (own)
)
_FLOORS = _FLOORS[:, None]

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
    """Curves that agree with what was measured, one per draw: error = last * (floor + (1 - floor) * times^-rate).

    correct[n, j] says whether label n was answered rightly by a network trained on counts[j] others; `last` is the
    error at counts[-1], the most, and `times` how many times as many labels there are. Each draw takes labels with
    replacement, beside one that is always wrong and one that is always right (Laplace), as few faultless labels prove
    nothing. Of rates and floors (shares of the error that no label takes away) one pair is drawn, by a prior and by how
    well it explains the smaller parts; heavy tails keep the leap with which learning sets in from ruling the rest.

    Raises:
        UnusableInput: even the network trained on most labels is hardly better than the constant, of accuracy `chance`.
    """

    def __init__(self, correct: Floats, counts: Floats, chance: float, seed: int = 0) -> None:
        mean, n = correct.mean(0), len(correct)
        if mean[-1] <= chance + 2 * math.sqrt(mean[-1] * (1 - mean[-1]) / n):
            raise UnusableInput("a network trained on these labels is hardly better than always the same answer")
        sides = np.concatenate([correct, np.zeros((1, len(counts))), np.ones((1, len(counts)))])
        rng, self.most = numpy_rng(seed, "forecast"), float(counts[-1])
        error = 1 - np.stack([sides[rng.integers(n + 2, size=n + 2)].mean(0) for _ in range(DRAWS)])
        error = np.clip(error + NOISE * rng.standard_normal(error.shape), 0.5 / (n + 2), 1.0)
        times = np.asarray(counts[:-1], float) / self.most
        law = _FLOORS + (1 - _FLOORS) * times ** -_RATES[..., None]  # pairs x counts
        spread = sides.mean(0)[:-1] * (1 - sides.mean(0)[:-1]) / n + NOISE**2
        misfit = (error[:, None, :-1] - error[:, None, -1:] * law) ** 2 / spread  # draws x pairs x counts
        score = np.log1p(misfit / 3).sum(-1) * -2  # Student's t with 3 degrees of freedom
        pick = (score + rng.gumbel(size=score.shape)).argmax(1)
        self.last, self.rate, self.floor = error[:, -1], _RATES[pick], _FLOORS[pick, 0]

    def accuracy(self, labels: float) -> Floats:
        """Returns the accuracy with this many labels, by draw."""
        left = self.floor + (1 - self.floor) * (labels / self.most) ** -self.rate
        return np.asarray(1 - self.last * left)

    def needed(self, accuracy: float) -> Floats:
        """Returns how many labels reach an accuracy, by draw; infinite where the floor is above."""
        room = ((1 - accuracy) / self.last - self.floor) / (1 - self.floor)
        return np.where(room > 0, self.most * np.maximum(room, 1e-9) ** (-1 / self.rate), np.inf)


def forecast(
    correct: Floats, counts: Floats, labels: int, chance: float, fps: float, target: float = TARGET, seed: int = 0
) -> Forecast:
    """Says how many more labels a target takes, or that these labels cannot say; arguments as `LearningCurve`.

    `counts` are the labels that networks were trained on, `labels` how many there are; fps is steps per second.
    """
    points = zip(counts, correct.mean(0), strict=True)
    start = Forecast(target, labels, tuple({"x": int(x), "value": float(y)} for x, y in points))
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
    return f"{minutes:,.0f} minutes" if minutes >= 2 else f"{max(2, math.ceil(60 * minutes))} seconds"


def _ahead(curve: LearningCurve, labels: int) -> Point:
    low, middle, high = np.quantile(curve.accuracy(labels), [0.025, 0.5, 0.975])
    return {"x": labels, "value": float(middle), "low": float(low), "high": float(high)}
