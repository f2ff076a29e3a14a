"""Auto: trains the candidates, compares them on the user's own labels, keeps the best, and leaves the evidence.

No method always wins, so which one does is measured: every candidate answers every label by a model that has not seen
it (cross-fitting), and the one with the most right answers is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from retrodict.data.durable import sync_write
from retrodict.errors import NonFinite, UnusableInput
from retrodict.label.job import FEWEST
from retrodict.label.verdict import HELD_OUT
from retrodict.measure.intervals import Estimate, paired_difference, wilson
from retrodict.roles import System
from retrodict.run.run import Run, Views

Training = Callable[[Run], System]

CANDIDATES = ("vpt", "lapo", "laq", "laom")  # recipes, in the order in which ties are settled
BUDGET = 30 * 60.0  # seconds for all of them together, unless another is given
MANY = 0.5  # share of labelled steps from which video without labels has little to add
EVIDENCE = "auto.json"


class Shares(dict[str, float]):
    """Time shares of a run's stages under one budget: each may take a third of what is then left of it."""

    def __init__(self, budget: float) -> None:
        super().__init__()
        self.ends = time.monotonic() + budget

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the seconds that a stage which begins now may train."""
        return max(1.0, (self.ends - time.monotonic()) / 3)


def left_out(data: Views) -> dict[str, str]:
    """Candidates that do not apply to these labels, each with the reason.

    Raises:
        UnusableInput: there are too few labels to compare by.
    """
    labels, steps, space = len(data.labelled), len(data.unlabelled), data.labelled.cache.space
    if labels < FEWEST:
        raise UnusableInput(f"{labels} steps have a label; auto compares by {FEWEST} or more. Name a recipe, or label")
    if labels >= MANY * steps:
        return dict.fromkeys(CANDIDATES[1:], f"{labels} of {steps} steps are labelled: video alone adds little")
    if space.discrete is None:
        return dict.fromkeys(("lapo", "laq"), "a code stands for one choice among values; these actions are more")
    return {}


def choose(run: Run, candidates: Mapping[str, Training], budget: float = 0.0) -> System:
    """Trains the candidates that apply, each in RUN/candidates/NAME, and returns the best with the evidence in `about`.

    Each may take what is left of `budget` (seconds, 0: BUDGET) shared among those still to come; its stages turn their
    shares into steps once and record them, so that a run that is stopped goes on alike. A candidate that meets numbers
    which are not finite is out. The table goes to the log and, as JSON, to RUN/auto.json.
    """
    out, ends = left_out(run.data), time.monotonic() + (budget or BUDGET)
    rows: list[dict[str, Any]] = []
    systems: dict[str, System] = {}
    for number, (name, train) in enumerate(candidates.items()):
        share = max(1.0, ends - time.monotonic()) / (len(candidates) - number)
        try:
            found = out[name] if name in out else _trained(run, name, train, share)
        except NonFinite as error:
            found = str(error)
        if isinstance(found, str):
            rows.append({"recipe": name, "left_out": found})
            continue
        systems[name], spent = found
        right = _right(systems[name])
        rows.append({"recipe": name, "right": asdict(wilson(int(right.sum()), len(right))), "seconds": spent})
    if not systems:
        raise UnusableInput(f"no candidate could be trained: {'; '.join(row['left_out'] for row in rows)}")
    best = max(systems, key=lambda name: _right(systems[name]).mean())
    told = systems[best].about[HELD_OUT]
    for row in rows:
        other = systems.get(row["recipe"])
        if other is None or row["recipe"] == best:
            continue
        if other.about[HELD_OUT]["labels"] != told["labels"]:
            raise UnusableInput(f"{row['recipe']} and {best} answered other labels; only answers to the same compare")
        row["behind"] = asdict(paired_difference(_right(systems[best]), _right(other)))
    evidence = {
        "kept": best, "labels": len(run.data.labelled), "majority": told["majority"],
        "budget": budget or BUDGET, "candidates": rows,
    }  # fmt: skip
    sync_write(run.folder / EVIDENCE, json.dumps(evidence, indent=1).encode())
    for line in table(evidence):
        run.log.say(line)
    return replace(systems[best], about={**systems[best].about, "recipe": best, "auto": evidence})


def table(evidence: Mapping[str, Any]) -> list[str]:
    """The evidence in words: a line per candidate, and what to make of it."""
    lines, close = [], []
    for row in evidence["candidates"]:
        if "left_out" in row:
            lines.append(f"{row['recipe']:>6}  left out: {row['left_out']}")
            continue
        line = f"{row['recipe']:>6}  {Estimate(**row['right'])} right, in {row['seconds']:.0f} s"
        if "behind" in row:
            line += f"; behind by {Estimate(**row['behind'])}"
            close += [row["recipe"]] if row["behind"]["low"] <= 0 else []
        lines.append(line)
    told = f"kept: {evidence['kept']}, by {evidence['labels']} labels that each model had not seen"
    told += f"; they do not tell it from {' and '.join(close)}" if close else ""
    told += f". Always the same answer gets {evidence['majority']:.3f}"
    return [*lines, f"{told}. The best of several is flattered a little by its own share."]


def _trained(run: Run, name: str, train: Training, share: float) -> tuple[System, float]:
    """Trains one candidate in a run of its own, or goes on with it; returns it and its seconds."""
    mark = f"{name}/"
    restart = tuple(stage.removeprefix(mark) for stage in run.restart if stage.startswith(mark))
    folder = run.folder / "candidates" / name
    with Run(folder, run.data, run.seed, run.device, run.log, restart, resume=run.resume, compile=run.compile) as inner:
        inner.seconds = Shares(share)
        system = inner.finish(train(inner), {"recipe": name})
    if HELD_OUT not in system.about or system.inverse is None:
        raise UnusableInput(f"recipe {name} keeps no answers to held-out labels, so that it cannot be compared")
    run.stages |= {mark + stage: entry for stage, entry in inner.stages.items()}
    return system, round(sum(float(stage["seconds"]) for stage in inner.stages.values()), 1)


def _right(system: System) -> np.ndarray:
    """1 for every held-out label that was answered rightly, in the order of the labels."""
    return np.asarray(system.about[HELD_OUT]["correct"], np.float64)
