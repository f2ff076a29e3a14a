"""What latent actions are worth: how much of the action they carry, how few labels name them, what else they carry.

A good reconstruction proves none of it: codes with 0.03 of 2.2 bits of the action can reconstruct well. Codes are
numbers, one per step (`joint_codes` makes one of several); features are float vectors. Agreement of codes across
contexts or under a changed appearance is `labels.agreement` of the two sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Floats, Ints, floats, numbers, same_length, same_shape
from retrodict.rng import numpy_rng

Latents: TypeAlias = npt.NDArray[Any]  # codes[n] or features[n, d]


def joint_codes(codes: Ints) -> Ints:
    """Turns several codes per step, codes[n, g], into one number per step; equal rows get equal numbers."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.size == 0 or not np.issubdtype(codes.dtype, np.integer):
        raise UnusableInput(f"codes have shape {codes.shape} and dtype {codes.dtype}; expected whole numbers [n, g]")
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Usage:
    """How many of `size` codes are used, and how many equally likely ones they are worth (`perplexity`, 2^H)."""

    used: int
    size: int
    perplexity: float
    counts: Ints


def code_usage(codes: Ints, size: int) -> Usage:
    """Counts codes 0..size-1; one code used means a collapsed codebook."""
    counts = np.bincount(numbers("codes", codes, size), minlength=size).astype(np.int64)
    return Usage(int((counts > 0).sum()), size, float(2 ** _entropy(counts)), counts)


@dataclass(frozen=True, slots=True)
class Information:
    """Bits that codes carry about actions.

    `raw` is the mutual information of the counts, which is above zero even for codes drawn at random; `correction` is
    what it comes to when the codes are shuffled, and `corrected` the difference (around zero, so at times below it,
    for codes that say nothing; up to `correction` too low for codes that say all). `recovered` is corrected /
    `action_entropy`, None when the action never changes. `excess` = H(code | action) is what the codes carry beside.
    """

    raw: float
    correction: float
    corrected: float
    action_entropy: float
    recovered: float | None
    code_entropy: float
    excess: float


def information(codes: Ints, actions: Ints, seed: int = 0, shuffles: int = 20) -> Information:
    """Returns I(code; action) = Σ p(q,a) log2 p(q,a) / (p(q) p(a)) with a shuffle correction, in bits.

    Source: Shannon 1948; the correction as in Treves & Panzeri, Neural Computation 1995, found by shuffling.
    """
    codes, actions = numbers("codes", codes), numbers("actions", actions)
    same_length(codes=codes, actions=actions)
    if shuffles < 1:
        raise UnusableInput(f"expected at least one shuffle; got {shuffles}")
    rng = numpy_rng(seed, "measure/information")
    raw = _mutual(codes, actions)
    correction = float(np.mean([_mutual(rng.permutation(codes), actions) for _ in range(shuffles)]))
    of_action, of_code = _entropy(np.bincount(actions)), _entropy(np.bincount(codes))
    recovered = (raw - correction) / of_action if of_action > 0 else None
    return Information(raw, correction, raw - correction, of_action, recovered, of_code, of_code - raw)


class Probe(Protocol):
    """A small classifier from latents to action classes, fitted on few labels."""

    def predict(self, latents: Latents) -> Ints:
        """Returns a class per step."""
        ...


@dataclass(frozen=True, slots=True)
class TableProbe:
    """Names each code by its commonest class; `majority` names the codes that the labels never met."""

    table: Ints
    majority: int

    def predict(self, latents: Latents) -> Ints:
        """Returns a class per code."""
        codes = numbers("codes", latents)
        known = codes < len(self.table)
        named = self.table[np.where(known, codes, 0)]
        return np.where(known & (named >= 0), named, self.majority).astype(np.int64)


def fit_table(codes: Ints, truth: Ints) -> TableProbe:
    """Fits codes[n] to classes truth[n]; among a code's tied classes the commoner of all labels wins, then the lower
    number."""
    codes, truth = numbers("codes", codes), numbers("truth", truth)
    same_length(codes=codes, truth=truth)
    counts = np.zeros((int(codes.max()) + 1, int(truth.max()) + 1), np.int64)
    np.add.at(counts, (codes, truth), 1)
    overall = counts.sum(0)
    best = (counts * (len(truth) + 1) + overall).argmax(1)
    return TableProbe(np.where(counts.sum(1) > 0, best, -1), int(overall.argmax()))


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """Multinomial logistic regression: class = argmax((x - center) / scale · weights + bias)."""

    center: Floats
    scale: Floats
    weights: Floats
    bias: Floats

    def predict(self, latents: Latents) -> Ints:
        """Returns a class per feature vector."""
        standard = (floats("features", latents, axes=2) - self.center) / self.scale
        return np.asarray((standard @ self.weights + self.bias).argmax(1), np.int64)


def fit_linear(features: Floats, truth: Ints, strength: float = 1.0) -> LinearProbe:
    """Fits features[n, d] to classes truth[n]; minimises Σ cross-entropy + strength/2 |weights|², deterministically.

    Features are standardised by these n steps; one that never changes is left out. The bias is not penalised.
    Nesterov's accelerated gradient on a strongly convex loss, to a gradient of 1e-6 per label or 3,000 steps.
    """
    features, truth = floats("features", features, axes=2), numbers("truth", truth)
    steps = same_length(features=features, truth=truth)
    if strength <= 0:
        raise UnusableInput(f"strength must be positive; got {strength}")
    spread = features.std(0)
    moves = spread > 1e-12 * np.abs(features).max(0)
    center, scale = features.mean(0), np.where(moves, spread, 1.0)
    x = np.concatenate([np.where(moves, (features - center) / scale, 0.0), np.ones((steps, 1))], 1)
    decay = np.full((x.shape[1], 1), strength / steps)
    decay[-1] = 1e-6 / steps  # keeps the bias finite when one class is all there is
    target = np.eye(int(truth.max()) + 1)[truth]
    # Hessian of the softmax is at most 1/2 (Böhning 1992), so this step never overshoots.
    step = 1 / (0.5 * float(np.linalg.eigvalsh(x.T @ x / steps)[-1]) + float(decay.max()))
    weights = ahead = np.zeros((x.shape[1], target.shape[1]))
    pace = 1.0
    for _ in range(3000):
        gradient = x.T @ (_softmax(x @ ahead) - target) / steps + decay * ahead
        if np.abs(gradient).max() < 1e-6:
            break
        moved = ahead - step * gradient
        # Momentum that points uphill is dropped (O'Donoghue & Candès 2015).
        pace_next = 1.0 if float((gradient * (moved - weights)).sum()) > 0 else (1 + (1 + 4 * pace**2) ** 0.5) / 2
        weights, ahead = moved, moved + (pace - 1) / pace_next * (moved - weights)
        pace = pace_next
    return LinearProbe(center, scale, ahead[:-1], ahead[-1])


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """Test accuracy of probes fitted on `labels` labels; one accuracy per draw of the labels."""

    labels: int
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Mean over draws."""
        return float(np.mean(self.accuracies))


def probe_curve(
    latents: Latents,
    truth: Ints,
    test_latents: Latents,
    test_truth: Ints,
    labels: Sequence[int],
    draws: int = 5,
    seed: int = 0,
) -> tuple[ProbePoint, ...]:
    """Returns test accuracy by number of labels drawn at random; codes[n] get a table, features[n, d] a linear probe.

    Draw i is the same set for every kind of latents, and a smaller budget is a part of a larger one.
    """
    truth, test_truth = numbers("truth", truth), numbers("test_truth", test_truth)
    count = same_length(latents=latents, truth=truth)
    same_length(test_latents=test_latents, test_truth=test_truth)
    if not labels or min(labels) < 1 or max(labels) > count or draws < 1:
        raise UnusableInput(f"cannot draw {list(labels)} labels {draws} times out of {count} steps")
    found: dict[int, list[float]] = {size: [] for size in labels}
    for draw in range(draws):
        order = numpy_rng(seed, "measure/probe", draw).permutation(count)
        for size in labels:
            seen = order[:size]
            probe: Probe = (fit_table if latents.ndim == 1 else fit_linear)(latents[seen], truth[seen])
            found[size].append(float((probe.predict(test_latents) == test_truth).mean()))
    return tuple(ProbePoint(size, tuple(values)) for size, values in found.items())


def leak(cut_error: float, copy_error: float) -> float:
    """Returns how much of an unrelated frame the latent smuggles: 1 - cut_error / copy_error (the cut test).

    Pair each frame with a random frame of another clip: `cut_error` is the mean squared error of the forward model's
    answer from the latent of that pair, `copy_error` that of answering with the first frame. 1 means that the latent
    carries the frame, 0 or less that it does not.
    """
    floats("errors", [cut_error, copy_error])
    if cut_error < 0 or copy_error <= 0:
        raise UnusableInput(f"expected cut_error >= 0 and copy_error > 0; got {cut_error} and {copy_error}")
    return 1 - cut_error / copy_error


def transfer_distance(first: Floats, second: Floats) -> float:
    """Returns mean |z - z'|² over that of unrelated pairs: 0 when latents [n, d] survive a transfer, 1 at chance.

    `second` is inferred after `first` was acted out in another context, or under a changed appearance.
    """
    first, second = floats("first", first, axes=2), floats("second", second, axes=2)
    same_shape(first=first, second=second)
    apart = float((first.var(0) + second.var(0) + (first.mean(0) - second.mean(0)) ** 2).sum())
    if apart == 0:
        raise UnusableInput("all latents are equal; their distance says nothing about transfer")
    return float(((first - second) ** 2).sum(1).mean()) / apart


def _entropy(counts: Ints) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def _mutual(codes: Ints, actions: Ints) -> float:
    joint = np.unique(codes * (int(actions.max()) + 1) + actions, return_counts=True)[1]
    return _entropy(np.bincount(codes)) + _entropy(np.bincount(actions)) - _entropy(joint)


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float64)
