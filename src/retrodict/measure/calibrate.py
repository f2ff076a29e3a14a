"""Makes confidence mean what it says, and says below which confidence to abstain.

Everything here must be fitted on answers that the model gave to labels it was not trained on: cut the labels into
`folds`, train without one fold at a time, and put the answers to the folds together (cross-fitting).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Flags, Floats, Ints, flags, floats, numbers, same_length, shares
from retrodict.measure.intervals import exact_lower
from retrodict.rng import numpy_rng

LOWEST, HIGHEST = 0.1, 10.0  # bracket of the temperature; few faultless labels would ask for zero
_GRID = 41  # first look at log T: with merged classes the loss may have two valleys
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature and the mean negative log likelihood (nats per label) at 1 and at `value`.

    `at_edge` says that the labels asked for more than the bracket allows, as a few faultless labels do.
    """

    value: float
    before: float
    after: float
    at_edge: bool


def fit_temperature(logits: Floats, truth: Ints, merged: Sequence[int] | None = None) -> Temperature:
    """Finds the temperature in 0.1..10 at which softmax(logits[n, k] / T) explains the labels best.

    `merged` gives each of the k values its class (`Segment.merged`) and `truth` holds classes; by default every value
    is its own class. Source: Guo et al., ICML 2017, with the likelihood taken after merging.
    """
    logits = floats("logits", logits, axes=2)
    classes = np.arange(logits.shape[1]) if merged is None else numbers("merged", np.asarray(merged))
    if len(classes) != logits.shape[1]:
        raise UnusableInput(f"merged has {len(classes)} entries for {logits.shape[1]} logits; give one class per value")
    truth = numbers("truth", truth, int(classes.max()) + 1)
    same_length(logits=logits, truth=truth)
    alike = classes == truth[:, None]

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        inside = np.logaddexp.reduce(np.where(alike, scaled, -np.inf), axis=1)
        return float((np.logaddexp.reduce(scaled, axis=1) - inside).mean())

    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), _GRID)
    best = int(np.argmin([loss(float(x)) for x in grid]))
    log_t = _golden(loss, float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _GRID - 1)]))
    at_edge = log_t - grid[0] < 1e-3 or grid[-1] - log_t < 1e-3
    return Temperature(math.exp(log_t), loss(0.0), loss(log_t), bool(at_edge))


def match_accuracy(logits: Floats, truth: Ints, merged: Sequence[int] | None = None) -> float:
    """Finds the temperature of class probabilities at which mean confidence equals accuracy.

    With few held-out labels this is far steadier than the likeliest temperature, which follows the worst single
    mistake. The accuracy is (correct + 1) / (n + 2), so that faultless labels do not ask for certainty. What no
    temperature in 0.01..100 reaches gives the nearer end. Source: expectation consistency, Clarté et al., arXiv
    2303.02644.
    """
    logits = floats("logits", logits, axes=2)
    classes = np.arange(logits.shape[1]) if merged is None else numbers("merged", np.asarray(merged))
    truth = numbers("truth", truth, int(classes.max()) + 1)
    count = same_length(logits=logits, truth=truth)
    top = logits.max(1, keepdims=True)
    shares_ = np.exp(logits - top) @ np.eye(int(classes.max()) + 1)[classes]
    whole = np.log(np.maximum(shares_, np.finfo(float).tiny))  # log probability of each class, up to a constant
    correct = float((whole.argmax(1) == truth).sum())  # no temperature changes which class is likeliest
    wanted = (correct + 1) / (count + 2)

    def mean_confidence(log_t: float) -> float:
        scaled = whole / math.exp(log_t)
        return float((1 / np.exp(scaled - scaled.max(1, keepdims=True)).sum(1)).mean())

    low, high = math.log(0.01), math.log(100.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_confidence(middle) > wanted else (low, middle)
    return math.exp(low)


def folds(count: int, parts: int, seed: int) -> list[Ints]:
    """Cuts label numbers 0..count-1 at random into `parts` held-out folds whose sizes differ by at most one.

    Raises:
        UnusableInput: fewer than two folds, or more folds than labels.
    """
    if not 2 <= parts <= count:
        raise UnusableInput(f"cannot cut {count} labels into {parts} folds; expected 2..{count} folds")
    order = numpy_rng(seed, "measure/folds").permutation(count)
    return [np.sort(part).astype(np.int64) for part in np.array_split(order, parts)]


def conformal_cutoff(true_probability: Floats, level: float = 0.95) -> float:
    """Returns the probability from which a class belongs to the answer set, so that sets hold the truth with
    probability `level` or more on steps exchangeable with these.

    `true_probability` holds what the model gave to the true class of each label. With fewer than level / (1 - level)
    labels (19 for 0.95) the answer is 0: only the set of all classes keeps the promise. A set may be empty.
    Source: Sadinle et al., JASA 2019, with the finite-sample quantile of Vovk et al. 2005.
    """
    values = np.sort(shares("true_probability", true_probability))[::-1]
    rank = _rank(len(values), level)
    return float(values[rank - 1]) if rank <= len(values) else 0.0


def conformal_sets(probabilities: Floats, cutoff: float) -> Flags:
    """Returns which classes belong to the answer set of each step, [n, k]."""
    return np.asarray(shares("probabilities", probabilities, axes=2) >= cutoff)


def conformal_margin(residuals: Floats, level: float = 0.95) -> float | None:
    """Returns m such that prediction ± m holds the true number with probability `level` or more.

    None with fewer than level / (1 - level) labels, where no finite margin keeps the promise. Source: Lei et al.,
    JASA 2018.
    """
    values = np.sort(np.abs(floats("residuals", residuals)))
    rank = _rank(len(values), level)
    return float(values[rank - 1]) if rank <= len(values) else None


def labels_needed(precision: float, level: float = 0.95) -> int:
    """Returns how many faultless labels it takes to support a precision: 59 for 0.95 at level 0.95."""
    if not (0 < precision < 1 and 0 < level < 1):
        raise UnusableInput(f"expected precision and level between 0 and 1; got {precision} and {level}")
    return math.ceil(math.log(1 - level) / math.log(precision) - 1e-9)


def abstention_threshold(confidence: Floats, correct: Flags, precision: float, level: float = 0.95) -> float | None:
    """Returns the lowest confidence above which kept labels are right with at least this precision, or None.

    With probability `level` or more the precision of what is kept is no lower than asked for; None when these labels
    cannot support that (`labels_needed` says how many faultless ones would). The bound is Clopper & Pearson's, as
    Wilson's one-sided bound promises too much near 1. Looking at many thresholds and taking the kindest would break
    the promise too, so few coverages are tried (all, 4/5, 16/25 ... of the labels) and share 1 - level among them.
    """
    confidence, correct = floats("confidence", confidence), flags("correct", correct)
    count = same_length(confidence=confidence, correct=correct)
    sizes: list[int] = []
    size = count
    while size >= labels_needed(precision, 1 - (1 - level) / (len(sizes) + 1)):
        sizes.append(size)
        size = size * 4 // 5
    order = np.sort(confidence)[::-1]
    for size in sizes:
        kept = confidence >= order[size - 1]
        if exact_lower(int(correct[kept].sum()), int(kept.sum()), 1 - (1 - level) / len(sizes)) >= precision:
            return float(order[size - 1])
    return None


def _rank(count: int, level: float) -> int:
    if not 0 < level < 1:
        raise UnusableInput(f"expected a level between 0 and 1, such as 0.95; got {level}")
    return math.ceil((count + 1) * level - 1e-9)


def _golden(loss: Callable[[float], float], low: float, high: float) -> float:
    """Finds the minimum of a function with one valley between low and high."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-5:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2
