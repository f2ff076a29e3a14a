"""How good a world model is: does it beat the last frame, does it obey, does an action mean one thing?

Frames are bytes or any numbers on their scale, 0..255; errors are mean squared. Intervals are over units that are
independent of each other, such as episodes or states, never over frames. Definitions: design, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrodict.errors import UnusableInput
from retrodict.measure import labels
from retrodict.measure.inputs import Flags, Floats, Ints, flags, floats, numbers, same_length, same_shape, shares
from retrodict.measure.intervals import Estimate, bootstrap_ratio
from retrodict.rng import numpy_rng

CAP = 60.0  # dB; without it one frame that is exactly right outweighs all others
PEAK = 255.0
MOVED = 5.0  # grey levels by which a pixel must change to count as moving; what a codec changes is less
HEEDED, OBEYED = 1.05, 2.0  # how many times as wrong the next frame is after another action: bounds of the words

Word = Literal["obeys", "obeys in part", "ignores its actions", "unknown"]


def row_errors(predicted: Floats, truth: Floats, last: Floats, moving: bool = False) -> tuple[Floats, Floats]:
    """Returns the mean squared error of predicted[n, k, c, h, w], and of last[n, c, h, w] shown k times: each "n k".

    With `moving`, errors at pixels that the truth shows as they were in the last seen frame count as 0.
    """
    predicted, truth = floats("predicted", predicted, axes=5), floats("truth", truth, axes=5)
    last = floats("last", last, axes=4)
    same_shape(predicted=predicted, truth=truth)
    if last.shape != truth.shape[:1] + truth.shape[2:]:
        raise UnusableInput(f"last has shape {last.shape}; expected that of truth {truth.shape} without its second")
    change = truth - last[:, None]
    counted = np.abs(change).max(2, keepdims=True) > MOVED if moving else np.ones_like(change[:, :, :1], bool)
    model, copy = (((e * counted) ** 2).mean((2, 3, 4)) for e in (predicted - truth, change))
    return model, copy


@dataclass(frozen=True, slots=True)
class HorizonError:
    """Mean squared error by step ahead, and that of showing the last seen frame for ever.

    `skill` is 1 - model / copy, with an interval over units: 1 is perfect, 0 no better than copying; None where copying
    makes no error.
    """

    model: Floats
    copy: Floats
    skill: tuple[Estimate | None, ...]


def error_by_horizon(model: Floats, copy: Floats, unit: Ints | None = None) -> HorizonError:
    """Joins the errors "n k" of `row_errors`; rows of one `unit` (each its own by default) belong together."""
    model, copy = floats("model", model, axes=2), floats("copy", copy, axes=2)
    same_shape(model=model, copy=copy)
    own, still = by_unit(model, unit), by_unit(copy, unit)
    skill = tuple(_skill(own[:, [k]], still[:, [k]]) for k in range(model.shape[1]))
    return HorizonError(model.mean(0), copy.mean(0), skill)


def _skill(model: Floats, copy: Floats) -> Estimate | None:
    if copy.max() == 0:
        return None
    return _complement(bootstrap_ratio(model, copy))


def _complement(share: Estimate) -> Estimate:
    low, high = (None if end is None else 1 - end for end in (share.high, share.low))
    return Estimate(1 - share.value, low, high, share.count, share.level)


def by_unit(values: Floats, unit: Ints | None) -> Floats:
    """Returns the sums of values[n, ...] over the rows of each unit."""
    if unit is None:
        return values
    same_length(values=values, unit=unit)
    _, group = np.unique(unit, return_inverse=True)
    sums = np.zeros((int(group.max()) + 1, *values.shape[1:]))
    np.add.at(sums, group, values)
    return sums


def mean_over(values: Floats, unit: Ints | None = None) -> Estimate:
    """Returns the mean over rows of values[n] with an interval over units."""
    values = floats("values", values)
    return bootstrap_ratio(by_unit(values, unit)[:, None], by_unit(np.ones_like(values), unit)[:, None])


def decibels(error: Floats, peak: float = PEAK) -> Floats:
    """Returns the PSNR of mean squared errors, 10 log10(peak² / error) in dB, at most 60 each."""
    if peak <= 0:
        raise UnusableInput(f"peak must be positive; got {peak}")
    return np.asarray(10 * np.log10(peak**2 / np.maximum(error, peak**2 / 10 ** (CAP / 10))))


def drift(model: Floats, unit: Ints | None = None) -> tuple[Estimate, ...]:
    """Returns by how many dB frame k of a rollout is worse than its first, from errors "n k"; the first is 0."""
    quality = decibels(floats("model", model, axes=2))
    return tuple(mean_over(quality[:, 0] - quality[:, k], unit) for k in range(quality.shape[1]))


def delta_psnr(inferred: Floats, sampled: Floats, unit: Ints | None = None) -> Estimate:
    """Returns PSNR with inferred actions minus PSNR with actions drawn at random, from errors "n" of the same frames.

    0 means that actions change nothing. Says nothing about what they mean. Source: Genie (Bruce et al., ICML 2024), at
    four frames after the prompt.
    """
    inferred, sampled = floats("inferred", inferred), floats("sampled", sampled)
    same_length(inferred=inferred, sampled=sampled)
    return mean_over(decibels(inferred) - decibels(sampled), unit)


def action_sensitivity(own: Floats, other: Floats, unit: Ints | None = None) -> Estimate:
    """Returns error "n" after other actions / error after the right ones; 1 means that actions are ignored.

    Each error counts as that of 60 dB at least, so that a perfect world has a number, too.
    """
    own, other = floats("own", own), floats("other", other)
    same_length(own=own, other=other)
    if min(own.min(), other.min()) < 0:
        raise UnusableInput("a squared error is 0 or more")
    least = PEAK**2 / 10 ** (CAP / 10)
    parts, wholes = (by_unit(np.maximum(error, least), unit)[:, None] for error in (other, own))
    return bootstrap_ratio(parts, wholes)


def verdict(sensitivity: Estimate) -> Word:
    """Says in words whether a world obeys, by the lower end of the interval of its sensitivity to wrong actions.

    It ignores its actions where wrong ones are not shown to make the next frame 5 % worse, and obeys where they are
    shown to make it at least twice as bad. Of one unit nothing is known.
    """
    if sensitivity.low is None:
        return "unknown"
    if sensitivity.low < HEEDED:
        return "ignores its actions"
    return "obeys" if sensitivity.low >= OBEYED else "obeys in part"


def effect_consistency(codes: Ints, effects: Floats) -> float:
    """Returns 1 - variance of effects[n, d] within a code / total variance: 1 when a code always does the same.

    Both variances are unbiased (n - K and n - 1 degrees of freedom), so that codes without meaning score 0 on average
    and at times below, however many there are.

    Raises:
        UnusableInput: nothing moves, or no code was tried twice.
    """
    codes, effects = numbers("codes", codes), floats("effects", effects, axes=2)
    count = same_length(codes=codes, effects=effects)
    _, group, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    if len(sizes) == count:
        raise UnusableInput(f"each of {count} codes was tried once; consistency needs a code tried twice")
    total = float(((effects - effects.mean(0)) ** 2).sum()) / (count - 1)
    if total == 0:
        raise UnusableInput("all effects are equal; there is nothing to be consistent about")
    means = np.zeros((len(sizes), effects.shape[1]))
    np.add.at(means, group, effects)
    means /= sizes[:, None]
    within = float(((effects - means[group]) ** 2).sum()) / (count - len(sizes))
    return 1 - within / total


def agreement_by(asked: Ints, read: Ints) -> dict[int, float]:
    """Returns for every value that was asked for the share of its cases in which the same was read."""
    asked, read = numbers("asked", asked), numbers("read", read)
    same_length(asked=asked, read=read)
    return {int(value): float((read[asked == value] == value).mean()) for value in np.unique(asked)}


@dataclass(frozen=True, slots=True)
class Control:
    """How often a judge reads off a generated frame what was asked for, macro-averaged over classes of true actions.

    A class that no request stands for is never done, and counts as such: a world whose codes all mean one action
    cannot be controlled. An action *shows* in a state where its real next frame is its own. A frame to which several
    classes lead belongs to the one that the judge most often reads off such frames (staying, of all moves into walls).
    `score` is over what shows, `raw` over everything. `blocked`, over the rest, is how often the judge reads what it
    reads off the real next frame (None where all show): a world that walks through walls scores low. `shuffled` and
    `random` are `score` with requests that the world was not given (permuted within each state; drawn anew): chance.
    `real` is `score` of the real next frames: the ceiling. `encoded` is that of those frames as an encoder keeps them:
    the ceiling of a world that draws whole frames through it. `by` is the share of each request (None: it never shows).
    """

    score: Estimate
    raw: Estimate
    blocked: Estimate | None
    shuffled: Estimate
    random: Estimate
    real: Estimate
    encoded: Estimate | None
    by: tuple[float | None, ...]


def controllability(
    read: Ints, means: Ints, real: Ints, merged: Ints, alike: Flags, seed: int = 0, encoded: Ints | None = None
) -> Control:
    """Judges m states with k requests and a real action values of c classes.

    read[m, k] is the class that the judge reads off the frame generated for a request, means[m, k] the one that the
    request stands for; real[m, a] what it reads off the real next frame of action value a, which is of class merged[a],
    and encoded[m, a] off that frame encoded and decoded; alike[m, c, d] says that a value of class c and one of class d
    have the same real next frame.
    """
    same_shape(read=read, means=means)
    if not len(read) == len(real) == len(alike) or real.shape[1] != len(merged) or alike.shape[1] != merged.max() + 1:
        raise UnusableInput(f"shapes disagree: read {read.shape}, real {real.shape}, alike {alike.shape}")
    if encoded is not None:
        same_shape(real=real, encoded=encoded)
    rng, rows = numpy_rng(seed, "measure/control"), np.arange(len(read))[:, None]
    requests = np.tile(np.arange(read.shape[1]), (len(read), 1))
    order, drawn = rng.permuted(requests, axis=1), rng.integers(read.shape[1], size=read.shape)
    first = np.unique(merged, return_index=True)[1]  # a value of each class
    shows = _owned(alike, real, merged)
    told, hits, ever = shows[rows, means], read == means, np.ones_like(shows)
    return Control(
        score=_macro(hits, told, means, shows),
        raw=_macro(hits, np.ones_like(told), means, ever),
        blocked=None if told.all() else _macro(read == real[rows, first[means]], ~told, means, ~ever),
        shuffled=_macro(read[rows, order] == means, told, means, shows),
        random=_macro(read[rows, drawn] == means, told, means, shows),
        real=_ceiling(real[:, first], shows),
        encoded=None if encoded is None else _ceiling(encoded[:, first], shows),
        by=tuple(float(hit[on].mean()) if on.any() else None for hit, on in zip(hits.T, told.T, strict=True)),
    )


def _ceiling(read: Ints, shows: Flags) -> Estimate:
    """The score of frames "m c", one of each class."""
    classes = np.arange(read.shape[1])
    return _macro(read == classes, shows, np.tile(classes, (len(read), 1)), shows)


def _owned(alike: Flags, real: Ints, merged: Ints) -> Flags:
    """True where a class's real next frame counts as its own: "m c"."""
    shared = real[(alike.sum(2) > 1)[:, merged]]  # readings of frames to which several classes lead
    weight = 1 + np.bincount(shared, minlength=alike.shape[1])
    return np.asarray((alike * weight).argmax(2) == np.arange(alike.shape[1]))


def _macro(hits: Flags, counted: Flags, means: Ints, due: Flags) -> Estimate:
    """The share of hits "m k" in each class, averaged over classes; what is due "m c" and not asked for is missed."""
    of = means[:, :, None] == np.arange(due.shape[1])  # m k c
    parts = ((hits & counted)[:, :, None] & of).sum(1)
    wholes = (counted[:, :, None] & of).sum(1)
    missed = due & ~of.any(1)
    return bootstrap_ratio(parts.astype(np.float64), (wholes + missed).astype(np.float64))


@dataclass(frozen=True, slots=True)
class RewardFit:
    """Predicted rewards against true ones: mean of predicted - true, and R² (None where all true ones are equal)."""

    bias: float
    r2: float | None


def reward_fit(truth: Floats, predicted: Floats) -> RewardFit:
    """Compares predicted[n] with truth[n]; always predicting the mean has R² 0, worse than that is negative."""
    truth, predicted = floats("truth", truth), floats("predicted", predicted)
    same_length(truth=truth, predicted=predicted)
    total = float(((truth - truth.mean()) ** 2).sum())
    r2 = 1 - float(((truth - predicted) ** 2).sum()) / total if total > 0 else None
    return RewardFit(float((predicted - truth).mean()), r2)


@dataclass(frozen=True, slots=True)
class EndFit:
    """Stated probabilities of an end against ends: calibration error, and Brier skill over the rate of ends.

    Always stating that rate has skill 0; None where every step is an end or none is.
    """

    error: float
    rate: float
    skill: float | None


def end_fit(ended: Flags, probability: Floats) -> EndFit:
    """Compares probability[n] with ended[n]. Source of the skill: Brier (1950), against the base rate."""
    ended, probability = flags("ended", ended), shares("probability", probability)
    found, rate = labels.calibration(probability, ended), float(ended.mean())
    return EndFit(found.error, rate, 1 - found.brier / (rate * (1 - rate)) if 0 < rate < 1 else None)
