"""retrodict measure: how good a run's labels are, on recorded actions of another dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Loading
from retrodict.errors import Incompatible, UnusableInput

if TYPE_CHECKING:
    from torch import Tensor

    from retrodict.measure.labels import AxisScores
    from retrodict.spaces import Distribution

SEEN = 0.5  # R² below which the frames are said to hardly show a number


@dataclass(frozen=True, kw_only=True)
class Measure(Loading):
    """Measures a run's labels against recorded actions, beside always saying the commonest action."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder of the run."""
    data: Path
    """Dataset with recorded actions that the run has not seen."""
    episodes: int = 0
    """Only the first so many episodes (0: all)."""

    def run(self, line: str) -> int:
        """Infers every step, compares where an action was recorded."""
        from retrodict.data.foreign import open_dataset
        from retrodict.label.infer import recorded_answers
        from retrodict.run.checkpoint import load_system

        if self.episodes < 0:
            raise UnusableInput(f"--episodes must be 1 or more, or 0 for all; got {self.episodes}")
        self.admit()
        system = load_system(self.folder)
        inverse = system.decoded().inverse
        if inverse is None:
            raise UnusableInput(f"{self.folder} has no inverse model; score its policy with retrodict act")
        source = open_dataset(self.data)
        if source.schema.space != inverse.space:
            raise Incompatible(f"the run speaks {inverse.space.columns}; the dataset {source.schema.space.columns}")
        belief, truth = recorded_answers(inverse, source, source.ids[: self.episodes or None])
        seen = dict(system.about.get("data", {})).get("source") == source.digest
        told = {"run": str(self.folder), "data": str(self.data), "seen_in_training": seen, **scores(belief, truth)}
        lines = [f"{name:28}  {_plain(value)}" for name, value in told.items() if not isinstance(value, list | dict)]
        lines += [f"recall of {name:18}  {_plain(value)}" for name, value in told.get("recall", {}).items()]
        if hidden := told.get("hardly_seen"):
            lines.append(f"The frames hardly show {', '.join(hidden)}: R² below {SEEN}. Another camera may.")
        if seen:
            lines.append("This run was trained on this dataset: the figures say nothing about other video.")
        self.tell(told, lines)
        return DONE


def scores(belief: Distribution, truth: Tensor) -> dict[str, Any]:
    """Scores labels as plain JSON values: over merged classes for a single choice, else part by part."""
    from retrodict.measure.intervals import wilson
    from retrodict.measure.labels import calibration, class_scores, risk_coverage

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


def _by_part(belief: Distribution, truth: Tensor) -> dict[str, Any]:
    """Scores every part of an action by itself: R² by axis for numbers, else the share that is right."""
    from retrodict.label.verdict import agree, commonest
    from retrodict.measure.labels import axis_scores
    from retrodict.spaces import ActionSpace

    found: dict[str, Any] = {}
    for segment, columns, _ in belief.space.slices():
        said, true = belief.mode()[:, columns], truth[:, columns]
        if segment.kind == "continuous":
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


def _plain(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
