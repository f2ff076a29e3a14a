"""Whether labels can be trusted: the share that is right among labels a model had not seen, beside the best constant.

A recipe keeps that evidence as `System.about["held_out"]`, which `held_out` makes from cross-fitted answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from retrodict.errors import UnusableInput
from retrodict.measure.calibrate import abstention_threshold, labels_needed, limits
from retrodict.measure.intervals import wilson
from retrodict.spaces import ActionSpace, Distribution

HELD_OUT = "held_out"  # key of System.about
LEVEL = 0.9  # probability with which a set or an interval holds the true action
PRECISION = 0.8  # share of labels that should be right, unless another is asked for

Word = Literal["usable", "usable with abstention", "not actions", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A plain word on labels, the reason, and the evidence; `low` and `high` are Wilson's 95 % interval.

    Steps whose confidence is below `abstain_below` are to be left out.
    """

    word: Word
    reason: str
    labels: int = 0
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    majority: float | None = None
    abstain_below: float = 0.0

    @property
    def usable(self) -> bool:
        """True when the labels, or those that remain after abstention, can be trained on."""
        return self.word in ("usable", "usable with abstention")


def held_out(belief: Distribution, truth: Float[Tensor, "n d"]) -> dict[str, Any]:
    """Makes evidence, as plain JSON, of answers to labels that the model had not seen.

    `belief` has axis n and is calibrated. An answer is right when every segment is: the same value (indistinguishable
    ones count as the same), or a number within the segment's tolerance. `majority` is the share that the best
    constant answer gets right; `labels` tells the labels, in their order. `limits` are those of sets and intervals that
    hold the truth with probability `LEVEL` (`Distribution.bounds`).
    """
    if not len(truth):
        raise UnusableInput("a verdict needs at least one label that the model had not seen")
    correct = agree(belief.space, belief.mode(), truth)
    constant = commonest(belief.space, truth).expand_as(truth)
    found = limits(belief, truth, LEVEL)
    return {
        "limits": [round(value, 6) for value in found.tolist()],
        "correct": [int(flag) for flag in correct.tolist()],
        "confidence": [round(value, 6) for value in belief.confidence().clamp(0, 1).tolist()],
        "majority": float(agree(belief.space, constant, truth).float().mean()),
        "labels": hashlib.sha256(truth.numpy().tobytes()).hexdigest()[:16],
    }


def judge(evidence: Mapping[str, Any] | None, precision: float = PRECISION) -> Verdict:
    """Judges labels by evidence that `held_out` made; `precision` is the share that should be right.

    "not actions": the lower bound of the share that is right does not exceed what the best constant gets right.
    "usable": it reaches the precision. Between the two: "usable with abstention".
    """
    if evidence is None:
        return Verdict("unknown", "no label was held out to measure with; give labels of these videos to measure")
    correct, confidence = torch.tensor(evidence["correct"]), torch.tensor(evidence["confidence"]).double()
    count, majority = len(correct), float(evidence["majority"])
    share = wilson(int(correct.sum()), count)
    assert share.low is not None  # Wilson always gives both
    told = f"{share.value:.0%} of {count} held-out labels are right ({share.low:.0%} to {share.high:.0%})"
    told += f"; always the same answer gets {majority:.0%}"
    verdict = Verdict("usable", told, count, share.value, share.low, share.high, majority)
    if share.low <= majority:
        return replace(verdict, word="not actions")
    if share.low >= precision:
        return verdict
    found = abstention_threshold(confidence.numpy(), correct.bool().numpy(), precision)
    if found is None:
        needed = labels_needed(precision)
        told += f"; kept is what the model is {precision:.0%} sure of (a guarantee takes {needed} or more labels)"
    else:
        told += f"; what is kept is right to at least {precision:.0%}"
    below = precision if found is None else found
    return replace(verdict, word="usable with abstention", reason=told, abstain_below=below)


def agree(space: ActionSpace, first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Bool[Tensor, "n"]:
    """True where two actions are the same in every segment: merged values, keys, or numbers within tolerance."""
    same = torch.ones(len(first), dtype=torch.bool)
    for segment, columns, _ in space.slices():
        a, b = first[:, columns], second[:, columns]
        if segment.kind in ("categorical", "code"):
            merged = torch.tensor(segment.merged)
            same &= merged[a.argmax(-1)] == merged[b.argmax(-1)]
        elif segment.kind == "binary":
            same &= ((a >= 0.5) == (b >= 0.5)).all(-1)
        else:
            same &= ((a - b).abs() <= segment.tolerance * (segment.high - segment.low)).all(-1)
    return same


def commonest(space: ActionSpace, actions: Float[Tensor, "n d"]) -> Float[Tensor, "1 d"]:
    """The best constant answer: per segment the commonest merged value or key state, or the median."""
    parts = []
    for segment, columns, _ in space.slices():
        part = actions[:, columns]
        if segment.kind in ("categorical", "code"):
            merged = torch.tensor(segment.merged)
            top = merged[part.argmax(-1)].bincount().argmax()
            value = int((merged == top).nonzero()[0])
            parts.append(torch.nn.functional.one_hot(torch.tensor(value), segment.width).float())
        elif segment.kind == "binary":
            parts.append((part.mean(0) >= 0.5).float())
        else:
            parts.append(part.median(0).values)
    return torch.cat(parts)[None]
