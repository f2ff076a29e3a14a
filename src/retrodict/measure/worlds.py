"""How good a world model is: does it beat the last frame, does it obey, does an action mean one thing?

Frames are any numbers with rows first; errors are mean squared. Whether the action read off a generated frame is the
one asked for (cycle agreement, design section 7) is `labels.agreement` of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Floats, Ints, floats, numbers, same_length, same_shape

CAP = 60.0  # dB; without it one frame that is exactly right outweighs all others


@dataclass(frozen=True, slots=True)
class HorizonError:
    """Mean squared error by step ahead, and that of showing the last seen frame for ever.

    `skill` is 1 - model / copy: 1 is perfect, 0 no better than copying; None where copying makes no error.
    """

    model: Floats
    copy: Floats
    skill: tuple[float | None, ...]


def error_by_horizon(predicted: Floats, truth: Floats, last: Floats) -> HorizonError:
    """Compares predicted[n, k, ...] with truth[n, k, ...] for k steps after the seen frame last[n, ...]."""
    predicted, truth = floats("predicted", predicted, axes=None), floats("truth", truth, axes=None)
    last = floats("last", last, axes=None)
    same_shape(predicted=predicted, truth=truth)
    if truth.ndim < 2 or last.shape != truth.shape[:1] + truth.shape[2:]:
        raise UnusableInput(
            f"last has shape {last.shape}; expected that of truth {truth.shape} without its second axis"
        )
    rest = tuple(i for i in range(truth.ndim) if i != 1)
    model = np.asarray(((predicted - truth) ** 2).mean(rest))
    copy = np.asarray(((last[:, None] - truth) ** 2).mean(rest))
    skill = tuple(float(1 - m / c) if c > 0 else None for m, c in zip(model, copy, strict=True))
    return HorizonError(model, copy, skill)


def psnr(truth: Floats, predicted: Floats, peak: float = 255.0) -> float:
    """Returns the mean over rows of 10 log10(peak² / mse) in dB, each row capped at 60."""
    truth, predicted = floats("truth", truth, axes=None), floats("predicted", predicted, axes=None)
    same_shape(truth=truth, predicted=predicted)
    if peak <= 0:
        raise UnusableInput(f"peak must be positive; got {peak}")
    error = ((truth - predicted) ** 2).reshape(len(truth), -1).mean(1)
    floor = peak**2 / 10 ** (CAP / 10)
    return float((10 * np.log10(peak**2 / np.maximum(error, floor))).mean())


def delta_psnr(truth: Floats, inferred: Floats, sampled: Floats, peak: float = 255.0) -> float:
    """Returns PSNR with inferred actions minus PSNR with actions drawn at random; 0 means that actions change nothing.

    Says nothing about what they mean. Source: Genie (Bruce et al., ICML 2024), at four frames after the prompt.
    """
    return psnr(truth, inferred, peak) - psnr(truth, sampled, peak)


def action_sensitivity(loss: float, shuffled: float) -> float:
    """Returns loss with actions permuted within the batch / loss with the true ones; 1 means that they are ignored."""
    floats("losses", [loss, shuffled])
    if loss <= 0 or shuffled < 0:
        raise UnusableInput(f"expected loss > 0 and shuffled >= 0; got {loss} and {shuffled}")
    return shuffled / loss


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
