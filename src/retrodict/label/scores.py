"""Scores of answers to recorded steps, part by part, as plain JSON values."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from retrodict.label.verdict import agree, commonest
from retrodict.measure.intervals import wilson
from retrodict.measure.labels import AxisScores, axis_scores, calibration, class_scores, risk_coverage
from retrodict.segments import GAUSSIAN
from retrodict.spaces import ActionSpace, Distribution

SEEN = 0.5  # R² below which the frames are said to hardly show a number


def scores(belief: Distribution, truth: Float[Tensor, "n d"]) -> dict[str, Any]:
    """Scores labels as plain JSON values: over merged classes for a single choice, else part by part."""
    space = belief.space
    segment = space.discrete
    if segment is None:
        return {"steps": len(truth), **_by_part(belief, truth)}
    right = space.classes(truth), space.classes(belief.mode())
    found = class_scores(right[0].numpy(), right[1].numpy(), segment.merged_names)
    correct = (right[0] == right[1]).numpy()
    sure = belief.confidence().clamp(0, 1).numpy()
    bound, kept = wilson(int(correct.sum()), len(correct)), risk_coverage(sure, correct)
    return {
        "steps": found.steps, "accuracy": found.accuracy, "low": bound.low, "high": bound.high,
        "balanced_accuracy": found.balanced_accuracy, "majority": found.majority,
        "majority_class": found.majority_class, "calibration_error": calibration(sure, correct).error,
        "area_under_risk_coverage": kept.area, "log_likelihood": _mean(belief.log_prob(truth, merge=True)),
        "recall": found.recall, "classes": list(segment.merged_names), "confusion": found.confusion.tolist(),
    }  # fmt: skip


def _by_part(belief: Distribution, truth: Float[Tensor, "n d"]) -> dict[str, Any]:
    """Scores every part of an action by itself: R² by axis for numbers, else the share that is right."""
    found: dict[str, Any] = {}
    for segment, columns, _ in belief.space.slices():
        said, true = belief.mode()[:, columns], truth[:, columns]
        if segment.kind in GAUSSIAN and bool((true != true[0]).any()):
            scored = axis_scores(true.numpy(), said.numpy(), segment.columns)
            found |= {f"r2_{segment.name}": scored.r2, **{f"r2_{name}": r2 for name, r2 in scored.r2_by_axis.items()}}
            found["hardly_seen"] = [*found.get("hardly_seen", ()), *_hardly_seen(scored)]
            continue
        alone = ActionSpace((segment,))
        constant = commonest(alone, true).expand_as(true)
        for name, answer in (("accuracy", said), ("majority", constant)):
            found[f"{name}_{segment.name}"] = float(agree(alone, answer, true).float().mean())
    return found


def _hardly_seen(scored: AxisScores) -> list[str]:
    return [name for name, r2 in scored.r2_by_axis.items() if r2 < SEEN]


def _mean(values: Tensor) -> float | None:
    mean = float(values.mean())
    return mean if math.isfinite(mean) else None  # a belief of exactly zero in what happened
