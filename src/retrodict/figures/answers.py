"""What an inverse model answers on held-out steps, and the measures of that: right or wrong, sure or not, bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.errors import UnusableInput
from retrodict.label.infer import infer_steps
from retrodict.measure import labels, latents
from retrodict.roles import InverseModel

PARTWISE = ("r2", "press_f1", "interval_cover")


@dataclass(frozen=True)
class Answers:
    """What an inverse model says about test steps: merged classes, confidence, the sets of what is left open, and the
    truth."""

    names: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    sets: np.ndarray  # n k; without limits, the answer alone

    @property
    def correct(self) -> np.ndarray:
        """Which steps are right."""
        return np.asarray(self.truth == self.predicted)

    @property
    def accuracy(self) -> float:
        """Share of steps that are right."""
        return float(self.correct.mean())

    @staticmethod
    def joined(several: Sequence[Answers]) -> Answers:
        """Puts the answers of several seeds together."""
        columns = ([getattr(each, name) for each in several] for name in ("truth", "predicted", "confidence", "sets"))
        return Answers(several[0].names, *map(np.concatenate, columns))


def answers(inverse: InverseModel, cache: Cache, limits: Sequence[float] = ()) -> Answers:
    """Labels every known test step; `limits` are those of its sets (`label.verdict.held_out`)."""
    segment = inverse.space.discrete
    if segment is None:
        raise UnusableInput("label accuracy needs a single choice of values")
    steps = Steps.all(cache).known()
    belief = infer_steps(inverse, steps)
    truth = inverse.space.classes(steps.target_actions())
    first = [segment.merged.index(number) for number in range(len(segment.merged_names))]
    found = torch.tensor(list(limits)) if limits else torch.full((inverse.space.parameters,), torch.inf)
    return Answers(
        segment.merged_names,
        truth.numpy(),
        inverse.space.classes(belief.mode()).numpy(),
        belief.confidence().double().clamp(0, 1).numpy(),
        belief.bounds(found)[:, 1, first].numpy() > 0.5,
    )


def _gain(given: Answers) -> float:
    """How many more of the labels are right when the least sure fifth is left out."""
    curve = labels.risk_coverage(given.confidence, given.correct)
    at = min(int(np.searchsorted(curve.coverage, 0.8)), len(curve.risk) - 1)
    return float(1 - curve.risk[at]) - given.accuracy


OF_ANSWERS: dict[str, Callable[[Answers], float]] = {
    "label_accuracy": lambda given: given.accuracy,
    "probe_accuracy": lambda given: given.accuracy,
    "calibration_error": lambda given: labels.calibration(given.confidence, given.correct).error,
    "set_cover": lambda given: float(given.sets[np.arange(len(given.truth)), given.truth].mean()),
    "set_size": lambda given: float(given.sets.sum(1).mean()),
    "gain_at_80": _gain,
}


def codes(inverse: InverseModel, *caches: Cache) -> np.ndarray:
    """Returns the joint code number of every known step of these caches, in order: equal codes, equal numbers."""
    rows = []
    for cache in caches:
        mode = infer_steps(inverse, Steps.all(cache).known()).mode()
        rows.append(np.stack([mode[:, columns].argmax(-1).numpy() for _, columns, _ in inverse.space.slices()], 1))
    return latents.joint_codes(np.concatenate(rows))


def partwise(inverse: InverseModel, test: Cache, evidence: Mapping[str, Any] | None, name: str) -> dict[str, float]:
    """Measures every number or key of an action by itself: {name: the mean, name.COLUMN: each}."""
    steps = Steps.all(test).known()
    belief, truth = infer_steps(inverse, steps), steps.target_actions()
    kind = "binary" if name == "press_f1" else "continuous"
    index = [
        i for s, columns, _ in inverse.space.slices() if s.kind == kind for i in range(columns.start, columns.stop)
    ]
    if not index:
        raise UnusableInput(f"{name} needs {kind} parts of an action; there are {inverse.space.columns}")
    names = [inverse.space.columns[i] for i in index]
    said, true = belief.mode()[:, index].numpy(), truth[:, index].numpy()
    if name == "r2":
        each: Mapping[str, float | None] = labels.axis_scores(true, said, names).r2_by_axis
    elif name == "press_f1":
        each = {n: labels.press_scores(t >= 0.5, s >= 0.5).f1 for n, t, s in zip(names, true.T, said.T, strict=True)}
    elif evidence is None:
        raise UnusableInput(f"{name} cannot be measured: the system holds no held-out answers")
    else:
        low, high = belief.bounds(torch.tensor(evidence["limits"])).unbind(-2)
        inside = ((truth >= low) & (truth <= high)).double().mean(0)[index]
        each = dict(zip(names, inside.tolist(), strict=True))
    known = {column: value for column, value in each.items() if value is not None}
    return {name: float(np.mean(list(known.values()))), **{f"{name}.{column}": v for column, v in known.items()}}


def bits(inverse: InverseModel, test: Cache) -> latents.Information:
    """Mutual information of an inverse's codes with the (merged) true actions."""
    truth = test.space.classes(Steps.all(test).known().target_actions()).numpy()
    return latents.information(codes(inverse, test), truth)
