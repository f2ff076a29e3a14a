"""How well a policy acts, on a scale from random to expert, and how many labels it took."""

from __future__ import annotations

import math

import numpy as np

from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Flags, Floats, Ints, flags, floats, numbers, same_length
from retrodict.measure.intervals import Estimate, wilson


def normalised_return(returns: Floats, random: float, expert: float) -> Floats:
    """Returns (R - random) / (expert - random) for any shape: 0 is random, 1 the expert; neither end is clipped.

    Raises:
        UnusableInput: the expert is no better than random, so that the scale has no direction.
    """
    returns = floats("returns", returns, axes=None)
    floats("random and expert", [random, expert])
    if expert <= random:
        raise UnusableInput(f"the expert's return {expert} is not above random's {random}; no scale lies between them")
    return (returns - random) / (expert - random)


def success(succeeded: Flags, level: float = 0.95) -> Estimate:
    """Returns the share of episodes that succeeded, with Wilson's interval over episodes (of one trained policy)."""
    succeeded = flags("succeeded", succeeded)
    return wilson(int(succeeded.sum()), len(succeeded), level)


def label_efficiency(labels: Ints, scores: Floats, full: float, share: float = 0.9) -> float | None:
    """Returns the number of labels from which the score stays at or above share x full, or None if it never does.

    `scores` belong to the budgets `labels` (rising) and `full` is the score of cloning from all labels, all on a scale
    whose zero means something (success or normalised return). Between two budgets the score is taken as linear in
    log N. When the smallest budget is already enough, that budget is the answer, and fewer might do.
    """
    labels, scores = numbers("labels", labels), floats("scores", scores)
    count = same_length(labels=labels, scores=scores)
    if labels[0] < 1 or (np.diff(labels) <= 0).any():
        raise UnusableInput(f"budgets must rise from at least 1; got {labels.tolist()}")
    if full <= 0 or not 0 < share <= 1:
        raise UnusableInput(f"expected full > 0 and 0 < share <= 1; got {full} and {share}")
    goal = share * full
    short = np.flatnonzero(scores < goal)
    if len(short) == 0:
        return float(labels[0])
    last = int(short[-1])
    if last == count - 1:
        return None
    part = (goal - scores[last]) / (scores[last + 1] - scores[last])
    return float(math.exp(math.log(labels[last]) + part * math.log(labels[last + 1] / labels[last])))
