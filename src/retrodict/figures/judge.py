"""A judge: an inverse model of other data, another seed and another architecture than whatever it judges.

It reads true actions off pairs of frames, real or generated. No recipe looks through convolutions with pooling (the
front called `impala`), sees these levels, or gets all labels, so a world cannot please it by sharing its mistakes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.store import Store
from retrodict.errors import UnusableInput
from retrodict.label.infer import infer_steps
from retrodict.measure.intervals import Estimate, wilson
from retrodict.measure.labels import axis_scores
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.run.log import Log
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views

SEED = 800  # of its recording (levels from 800,000,000) and of its weights: no trial has it
FRAMES, RANDOM = 12_000, 0.6  # of its recording: every action in every place, also where it would be foolish
FIT = Fit(500, 64, 2e-3)


@dataclass(frozen=True, slots=True)
class Judge:
    """The inverse model, and how well it reads held-out steps, always told beside what it judges.

    Of choices that is the share which it reads rightly, of numbers their mean R². Steps whose action does not show,
    such as moves into a wall, are among them.
    """

    inverse: Inverse
    accuracy: Estimate


def trained(
    folder: Path | None, record: Callable[[Path], Store], test: Cache, fit: Fit, log: Log | None = None
) -> Judge:  # fmt: skip
    """Records what a judge learns from and trains it, in a folder where it is found again; tests it on `test`.

    Raises:
        UnusableInput: there is no folder to keep it in, or the action is neither a single choice nor numbers alone.
    """
    if folder is None:
        raise UnusableInput("a judge has to be trained first; name a folder to keep it in")
    space = test.space
    if space.discrete is None and not all(segment.kind == "continuous" for segment in space.segments):
        raise UnusableInput(f"a judge reads a single choice of values, or numbers; the actions are {space.columns}")
    if log is not None:
        log.say(f"a judge learns to read actions, a minute or two, unless it is there already: {folder}")
    with record(folder / "data") as store:
        steps = Steps.all(Cache.build(store, folder=folder / "cache")).known()
    with rng.isolated(SEED, "judge"):
        part = Inverse(test.view(2, 0), space, "both", "flatten", "impala", width=8, hidden=96, dropout=0.1)
    with Run(folder / "run", Views(Steps.all(steps.cache, hidden=True), steps), SEED, log=log) as run:
        inverse = run.fit("judge", part, labelled, steps.shown(part.view), fit)
    held = Steps.all(test).known()
    read, true = infer_steps(inverse, held).mode(), held.target_actions()
    if space.discrete is None:
        fits = axis_scores(true.numpy(), read.numpy(), space.columns).r2_by_axis.values()
        return Judge(inverse, Estimate(float(np.mean([fit for fit in fits if fit is not None])), None, None, len(true)))
    right = space.classes(read) == space.classes(true)
    return Judge(inverse, wilson(int(right.sum()), len(right)))
