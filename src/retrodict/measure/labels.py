"""How good labels are: right or wrong, how sure, and how much better than saying the same thing always.

Class numbers come in already merged (`ActionSpace.classes`): what two frames cannot tell apart is one class. A figure
that the data leave undefined is None or is named as excluded, never NaN. Definitions: design, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrodict.errors import UnknownName, UnusableInput
from retrodict.measure.inputs import Flags, Floats, Ints, flags, floats, numbers, same_length, same_shape, shares

BINS = 10  # of the published calibration error, which is the equal-mass one: every bin rests on as many steps


@dataclass(frozen=True, slots=True)
class PressScores:
    """One yes-or-no part (a key, a gripper, "anything but null"), scored on its yes.

    `recall` is None where nothing was pressed, `precision` where nothing was predicted, `f1` where neither was.
    """

    pressed: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores over merged classes; rows of `confusion` are true classes, columns predicted ones.

    `recall` is None for a class that never occurs, and `balanced_accuracy` leaves such classes out. `majority` is the
    accuracy of always saying `majority_class`, the commonest true class: the best that any constant can do here.
    `non_null_accuracy` is over the steps whose true class is not the null class, and `non_null` scores those steps
    with a wrong class counted as both a miss and a false alarm; None without a null class or without such steps.
    """

    steps: int
    accuracy: float
    balanced_accuracy: float
    recall: dict[str, float | None]
    majority: float
    majority_class: str
    confusion: Ints
    non_null_accuracy: float | None = None
    non_null: PressScores | None = None


def class_scores(truth: Ints, predicted: Ints, names: Sequence[str], null: str | None = None) -> ClassScores:
    """Scores predicted[n] against truth[n], both numbers of the merged classes `names`.

    Raises:
        UnknownName: `null` is not among the names.
    """
    truth, predicted = numbers("truth", truth, len(names)), numbers("predicted", predicted, len(names))
    steps = same_length(truth=truth, predicted=predicted)
    table = confusion(truth, predicted, len(names))
    per_class, right = table.sum(1), np.diag(table)
    recall = {name: _share(int(r), int(n)) for name, r, n in zip(names, right, per_class, strict=True)}
    commonest = int(per_class.argmax())
    non_null_accuracy, non_null = None, None
    if null is not None:
        if null not in names:
            raise UnknownName("class", null, names)
        non_null_accuracy, non_null = _beside_null(table, list(names).index(null))
    return ClassScores(
        steps=steps,
        accuracy=float(right.sum() / steps),
        balanced_accuracy=float(np.mean([share for share in recall.values() if share is not None])),
        recall=recall,
        majority=float(per_class[commonest] / steps),
        majority_class=names[commonest],
        confusion=table,
        non_null_accuracy=non_null_accuracy,
        non_null=non_null,
    )


def confusion(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """Returns counts[true class, predicted class]."""
    truth, predicted = numbers("truth", truth, classes), numbers("predicted", predicted, classes)
    same_length(truth=truth, predicted=predicted)
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def majority_baseline(truth: Ints, seen: Ints) -> float:
    """Returns the accuracy on `truth` of the commonest class among the labels `seen` (ties: the lowest number).

    This is the constant that somebody with these labels would choose; `ClassScores.majority` is the best constant.
    """
    commonest = int(np.bincount(numbers("seen", seen)).argmax())
    return float((numbers("truth", truth) == commonest).mean())


def press_scores(truth: Flags, predicted: Flags) -> PressScores:
    """Scores one key or gripper: precision, recall and F1 of "pressed" (van Rijsbergen 1979)."""
    truth, predicted = flags("truth", truth), flags("predicted", predicted)
    same_length(truth=truth, predicted=predicted)
    return _press(int((truth & predicted).sum()), int(truth.sum()), int(predicted.sum()))


@dataclass(frozen=True, slots=True)
class AxisScores:
    """Scores of continuous labels; `r2` is the mean over axes, so that an axis with a large unit does not drown others.

    An axis whose truth never changes has no R² and is named in `excluded`; `pearson` is None where the prediction of
    an axis never changes.
    """

    r2: float
    r2_by_axis: dict[str, float]
    pearson: dict[str, float | None]
    excluded: tuple[str, ...]


def axis_scores(truth: Floats, predicted: Floats, names: Sequence[str]) -> AxisScores:
    """Scores predicted[n, d] against truth[n, d]: R² = 1 - Σ(a - â)² / Σ(a - mean)² per axis, and Pearson's r.

    Always predicting the mean of `truth` scores 0; worse than that is negative.

    Raises:
        UnusableInput: no axis of the truth changes.
    """
    truth, predicted = floats("truth", truth, axes=2), floats("predicted", predicted, axes=2)
    same_shape(truth=truth, predicted=predicted)
    if truth.shape[1] != len(names):
        raise UnusableInput(f"{truth.shape[1]} axes have {len(names)} names; give one name per axis")
    r2: dict[str, float] = {}
    pearson: dict[str, float | None] = {}
    for axis, name in enumerate(names):
        a, b = truth[:, axis], predicted[:, axis]
        if _constant(a):
            continue
        centered, other = a - a.mean(), b - b.mean()
        r2[name] = float(1 - ((a - b) ** 2).sum() / (centered**2).sum())
        pearson[name] = None if _constant(b) else float(_cosine(centered, other))
    if not r2:
        raise UnusableInput(f"no axis of the truth changes ({', '.join(names)}); R² is undefined")
    return AxisScores(float(np.mean(list(r2.values()))), r2, pearson, tuple(n for n in names if n not in r2))


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram: steps whose confidence lies in low..high."""

    low: float
    high: float
    steps: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence is from the share that is right.

    `error` is the published one, over equal-mass bins; `error_equal_width` is the older one (Guo et al., ICML 2017).
    Both are biased upwards, by at most about 0.4 sqrt(bins / steps). `brier` is the mean of (confidence - correct)².
    `bins` are the equal-mass ones.
    """

    error: float
    error_equal_width: float
    brier: float
    bins: tuple[Bin, ...]


def calibration(confidence: Floats, correct: Flags, bins: int = BINS) -> Calibration:
    """Returns the expected calibration error: Σ over bins of (share of steps) x |accuracy - mean confidence|.

    Equal confidences always share a bin, so that the order of the steps does not matter (Nguyen & O'Connor, EMNLP
    2015, for equal mass; Naeini et al., AAAI 2015, for equal width).
    """
    confidence, correct = shares("confidence", confidence), flags("correct", correct)
    steps = same_length(confidence=confidence, correct=correct)
    if bins < 1:
        raise UnusableInput(f"expected at least one bin; got {bins}")
    ordered = np.sort(confidence)
    starts = np.array([ordered[-(-i * steps // bins)] for i in range(1, bins) if -(-i * steps // bins) < steps])
    mass = _bins(confidence, correct, np.searchsorted(starts, confidence, side="right"))
    width = _bins(confidence, correct, np.minimum(confidence * bins, bins - 1).astype(np.int64))
    return Calibration(_error(mass), _error(width), float(((confidence - correct) ** 2).mean()), mass)


def brier(probabilities: Floats, truth: Ints) -> float:
    """Returns the Brier score over classes, mean of Σ_k (p_k - [truth = k])², in 0..2 (Brier 1950)."""
    probabilities = shares("probabilities", probabilities, axes=2)
    truth = numbers("truth", truth, probabilities.shape[1])
    same_length(probabilities=probabilities, truth=truth)
    return float(((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(1).mean())


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """What is wrong among the kept, by how much is kept; one point per distinct confidence, surest first.

    Keeping the steps with confidence >= threshold[i] keeps the share coverage[i], of which risk[i] is wrong. `area`
    is the mean risk over all coverages k/n (Geifman & El-Yaniv, NeurIPS 2017); equals the plain error rate when
    confidence says nothing.
    """

    threshold: Floats
    coverage: Floats
    risk: Floats
    area: float


def risk_coverage(confidence: Floats, correct: Flags) -> RiskCoverage:
    """Returns risk against coverage; steps of equal confidence enter together, at their mean risk."""
    confidence, correct = floats("confidence", confidence), flags("correct", correct)
    steps = same_length(confidence=confidence, correct=correct)
    levels, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=~correct)
    kept = np.cumsum(sizes)
    spread = np.repeat(wrong / sizes, sizes)  # expected errors when ties are broken at random
    area = (np.cumsum(spread) / np.arange(1, steps + 1)).mean()
    return RiskCoverage(-levels, kept / steps, np.cumsum(wrong) / kept, float(area))


def auroc(confidence: Floats, correct: Flags) -> float | None:
    """Returns the probability that a right label is surer than a wrong one (ties count half); 0.5 says nothing.

    None when all labels are right or all are wrong. Source: Hanley & McNeil, Radiology 1982.
    """
    confidence, correct = floats("confidence", confidence), flags("correct", correct)
    steps = same_length(confidence=confidence, correct=correct)
    right = int(correct.sum())
    if right in (0, steps):
        return None
    _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    rank = (np.cumsum(sizes) - (sizes - 1) / 2)[group]  # mean rank within a tie
    return float((rank[correct].sum() - right * (right + 1) / 2) / (right * (steps - right)))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two label sets say the same; `kappa` is 0 at chance and 1 at full agreement (Cohen 1960).

    `chance` is what two independent sets with these frequencies would share; at chance 1 there is no `kappa`.
    """

    share: float
    chance: float
    kappa: float | None


def agreement(first: Ints, second: Ints) -> Agreement:
    """Compares two sets of labels or codes of the same steps."""
    first, second = numbers("first", first), numbers("second", second)
    steps = same_length(first=first, second=second)
    size = int(max(first.max(), second.max())) + 1
    share = float((first == second).mean())
    counts = np.bincount(first, minlength=size) @ np.bincount(second, minlength=size)
    chance = float(counts / steps**2)
    return Agreement(share, chance, None if counts == steps**2 else (share - chance) / (1 - chance))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _press(hits: int, pressed: int, predicted: int) -> PressScores:
    return PressScores(
        pressed, predicted, _share(hits, predicted), _share(hits, pressed), _share(2 * hits, pressed + predicted)
    )


def _beside_null(table: Ints, null: int) -> tuple[float | None, PressScores | None]:
    hits = int(np.diag(table).sum() - table[null, null])
    pressed, predicted = int(table.sum() - table[null].sum()), int(table.sum() - table[:, null].sum())
    return (_share(hits, pressed), _press(hits, pressed, predicted)) if pressed else (None, None)


def _constant(values: Floats) -> bool:
    """True when the values differ by no more than rounding."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _cosine(a: Floats, b: Floats) -> float:
    return float((a @ b) / np.sqrt((a @ a) * (b @ b)))


def _bins(confidence: Floats, correct: Flags, number: Ints) -> tuple[Bin, ...]:
    found = []
    for i in np.unique(number):
        inside = confidence[number == i]
        accuracy = float(correct[number == i].mean())
        found.append(Bin(float(inside.min()), float(inside.max()), len(inside), float(inside.mean()), accuracy))
    return tuple(found)


def _error(bins: tuple[Bin, ...]) -> float:
    steps = sum(b.steps for b in bins)
    return sum(b.steps / steps * abs(b.accuracy - b.confidence) for b in bins)
