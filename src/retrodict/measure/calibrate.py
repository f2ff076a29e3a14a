"""Makes confidence mean what it says, and says below which confidence to abstain.

Everything here must be fitted on answers that the model gave to labels it was not trained on: cut the labels into
`folds`, train without one fold at a time, and put the answers to the folds together (cross-fitting).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Flags, Floats, Ints, flags, floats, numbers, same_length, shares
from retrodict.measure.intervals import exact_lower
from retrodict.segments import ONE_HOT, normaliser
from retrodict.spaces import Distribution

PRIOR = 4.0  # labels' worth of trust, for each predicted class, in what is true of all classes together


def match_accuracy(logits: Floats, truth: Ints, merged: Sequence[int] | None = None, repeats: int = 1) -> float:
    """Finds the temperature of class probabilities at which mean confidence equals accuracy.

    `logits` are [n, k]; `merged` gives each of the k values its class (`Segment.merged`) and `truth` holds classes; by
    default every value is its own class. With few held-out labels this is far steadier than the likeliest temperature,
    which follows the worst single mistake. The accuracy is (correct + 1) / (n + 2), so that faultless labels do not
    ask for certainty. What no temperature in 0.01..100 reaches gives the nearer end. Labels that were answered by
    several cross-fittings stand there `repeats` times and count once. Source: expectation consistency, Clarté et al.,
    arXiv 2303.02644.
    """
    whole, truth, _ = _by_class(logits, truth, merged)
    return _match(whole, ((whole.argmax(1) == truth).sum() / repeats + 1) / (len(truth) / repeats + 2))


def class_temperatures(logits: Floats, truth: Ints, merged: Sequence[int] | None = None, repeats: int = 1) -> Floats:
    """Finds a temperature for each of the k values: that at which answers of its class are as sure as they are right.

    A model may be faultless in one class and guess between two others with the same assurance, which no single
    temperature mends. The accuracy of a class is drawn to that of all, as if `PRIOR` more answers had it; a class
    that was never answered takes the temperature of all. Arguments: as `match_accuracy`.
    """
    whole, truth, classes = _by_class(logits, truth, merged)
    said = whole.argmax(1)
    correct = said == truth
    overall = float((correct.sum() / repeats + 1) / (len(truth) / repeats + 2))
    found = np.full(whole.shape[1], _match(whole, overall))
    for number in np.unique(said):
        mine = said == number
        right, count = correct[mine].sum() / repeats, mine.sum() / repeats
        found[number] = _match(whole[mine], (right + PRIOR * overall) / (count + PRIOR))
    return found[classes]


def temperatures(belief: Distribution, truth: Float[Tensor, "n d"], repeats: int = 1) -> Float[Tensor, "p"]:
    """Finds the temperatures (`Distribution.scaled`) that make a belief (axis n) as sure as it is right.

    `truth` holds actions that the model had not seen, each `repeats` times. A choice gets one temperature for each
    class that it may answer, a key one of its own, and an axis that at which its errors are as large as it says (root
    mean square); all lie in 0.01..100.
    """
    parts = []
    for segment, columns, parameters in belief.space.slices():
        params, actions = belief.params[..., parameters].double(), truth[..., columns].double()
        if segment.kind in ONE_HOT:
            classes = torch.tensor(segment.merged)[actions.argmax(-1)]
            found = class_temperatures(params.numpy(), classes.numpy(), segment.merged, repeats)
        elif segment.kind == "binary":
            keys = zip(params.unbind(-1), actions.unbind(-1), strict=True)
            both = [(np.stack([0 * x, x], 1), (on >= 0.5).long().numpy()) for x, on in keys]
            found = np.array([match_accuracy(logits, on, None, repeats) for logits, on in both])
        else:
            (mean, log_std), (center, scale) = params.chunk(2, -1), normaliser(segment, actions)
            error = ((actions - center) / scale - mean) * (-log_std).exp()
            spread = error.square().mean(0).sqrt().clamp(0.01, 100)
            found = torch.cat([torch.ones_like(spread), spread]).numpy()
        parts.append(torch.from_numpy(found))
    return torch.cat(parts).float()


def limits(belief: Distribution, truth: Float[Tensor, "n d"], level: float = 0.9) -> Float[Tensor, "p"]:
    """Finds the limits (`Distribution.bounds`) whose sets and intervals hold the true action with this probability.

    `belief` (axis n) is calibrated and `truth` was not seen by the model. Where labels are too few for the promise
    (9 for 0.9) a set holds every value; an axis then gets a half-width of 100 standard deviations. When the answers
    come from cross-fitting, the promise is that of cross-conformal prediction. Source: Vovk, Annals of Mathematics
    and Artificial Intelligence 2015; Sadinle et al., JASA 2019.
    """
    parts = []
    for segment, columns, parameters in belief.space.slices():
        part, actions = belief.params[..., parameters].double(), truth[..., columns].double()
        if segment.kind in ONE_HOT:
            classes = torch.tensor(segment.merged)[actions.argmax(-1)]
            given = belief.merged(segment.name).double().gather(-1, classes[:, None])[:, 0]
            parts.append(torch.full((segment.width,), conformal_cutoff(given.clamp(0, 1).numpy(), level)))
        elif segment.kind == "binary":
            given = torch.where(actions >= 0.5, part.sigmoid(), (-part).sigmoid())
            parts.append(torch.tensor([conformal_cutoff(key.numpy(), level) for key in given.unbind(-1)]))
        else:
            (mean, log_std), (center, scale) = part.chunk(2, -1), normaliser(segment, actions)
            error = ((actions - center) / scale - mean) * (-log_std).exp()
            found = [conformal_margin(axis.numpy(), level) for axis in error.unbind(-1)]
            parts.append(torch.tensor([0.0] * len(found) + [100.0 if f is None else f for f in found]))
    return torch.cat(parts).float()


def _by_class(logits: Floats, truth: Ints, merged: Sequence[int] | None) -> tuple[Floats, Ints, Ints]:
    """Returns log probabilities of the classes up to a constant [n, classes], the true classes, and each value's."""
    logits = floats("logits", logits, axes=2)
    classes = np.arange(logits.shape[1]) if merged is None else numbers("merged", np.asarray(merged))
    if len(classes) != logits.shape[1]:
        raise UnusableInput(f"merged has {len(classes)} entries for {logits.shape[1]} logits; give one class per value")
    truth = numbers("truth", truth, int(classes.max()) + 1)
    same_length(logits=logits, truth=truth)
    top = logits.max(1, keepdims=True)
    shares_ = np.exp(logits - top) @ np.eye(int(classes.max()) + 1)[classes]
    return np.log(np.maximum(shares_, np.finfo(float).tiny)), truth, classes


def _match(whole: Floats, wanted: float) -> float:
    """Finds the temperature in 0.01..100 at which the mean of the largest probability is `wanted`, by bisection."""
    gaps = whole - whole.max(1, keepdims=True)
    low, high = math.log(0.01), math.log(100.0)
    for _ in range(60):
        middle = (low + high) / 2
        mean = float((1 / np.exp(gaps / math.exp(middle)).sum(1)).mean())
        low, high = (middle, high) if mean > wanted else (low, middle)
    return math.exp(low)


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
