"""Cross-fitting: answers to the user's own labels by models that have not seen them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from retrodict.data.batch import Steps
from retrodict.label.infer import infer_steps
from retrodict.label.verdict import HELD_OUT, held_out
from retrodict.measure.calibrate import temperatures
from retrodict.models.ensemble import Ensemble
from retrodict.models.inverse import Inverse
from retrodict.models.latent_action import CodeAdapter, LabelledInverse, LatentAction, LatentInverse
from retrodict.models.losses import decoding
from retrodict.roles import DecodedInverse, InverseModel
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.spaces import Distribution

FOLDS = 4  # parts of the labels
PARTS = 32  # parts of the answers, each calibrated by the others

M = TypeVar("M", bound=InverseModel)


def cross_fit(
    run: Run, fit: Callable[[Steps, str], M], folds: int = FOLDS, repeats: int = 1
) -> tuple[Distribution, Float[Tensor, "n d"], list[M]]:
    """Answers every label by a model that has not seen it: (beliefs, true actions, the models), repeat after repeat.

    `fit(rest, name)` returns an inverse model of true actions that has seen the labels `rest` alone; `name` is for its
    stage. Within a repeat, answers are in the order of the labels, so that recipes can be compared label by label.
    """
    few, params, truth, models = run.data.labelled, [], [], []
    folds = min(folds, len(few))
    for repeat in range(repeats):
        answers, parts = [], []
        for number in range(folds):
            rest, held = few.fold(folds, number, run.seed, repeat)
            models.append(fit(rest, f"{repeat}.{number}"))
            answers.append(infer_steps(models[-1], held, run.device).params)
            parts.append(held)
        order = torch.from_numpy(np.argsort(np.concatenate([part.index for part in parts])))
        params.append(torch.cat(answers)[order])
        truth.append(torch.cat([part.target_actions() for part in parts])[order])
    return Distribution(few.cache.space, torch.cat(params)), torch.cat(truth), models


def calibrate(
    inverse: Inverse | Ensemble | LabelledInverse, belief: Distribution, truth: Float[Tensor, "n d"], repeats: int = 1
) -> dict[str, Any]:
    """Sets the temperatures at which cross-fitted answers are, class by class, as sure as they are right.

    Returns the evidence for `System.about`, in which each label stands once.
    """
    inverse.temperature.copy_(temperatures(belief, truth, repeats))
    return {HELD_OUT: held_out(apart(belief, truth, repeats), truth[: len(truth) // repeats])}


def apart(belief: Distribution, truth: Float[Tensor, "n d"], repeats: int = 1) -> Distribution:
    """The first repeat's beliefs at temperatures that were found without the label that each answers.

    A label that took part in its own temperature would look surer where it happens to be right, and a threshold found
    on such confidence promises too much.
    """
    once = len(truth) // repeats
    parts = min(once, PARTS)
    if parts < 2:
        return belief[:once].scaled(temperatures(belief, truth, repeats))
    part, params = torch.arange(len(truth)) % once % parts, belief.params[:once].clone()
    for number in range(parts):
        others, mine = part != number, torch.arange(once) % parts == number
        found = temperatures(belief[others], truth[others], repeats)
        params[mine] = belief[:once][mine].scaled(found).params
    return Distribution(belief.space, params)


def name_codes(run: Run, adapter: CodeAdapter, inverse: LatentInverse, cfg: Fit) -> tuple[CodeAdapter, dict[str, Any]]:
    """Fits an adapter on all labels, and once without each fold; returns it and the evidence for `System.about`.

    The label head `after`: the codes were found without labels, which now name them. With a single label there is
    nothing to hold out, and no evidence.
    """
    start, few = deepcopy(adapter), run.data.labelled.shown(inverse.view)
    loss = partial(decoding, inverse=inverse)

    def fold(rest: Steps, name: str) -> InverseModel:
        named = run.fit(f"adapter/{name}", deepcopy(start), loss, rest.shown(inverse.view), cfg)
        return DecodedInverse(inverse, named)

    adapter = run.fit("adapter", adapter, loss, few, cfg)
    return adapter, {HELD_OUT: held_out(*cross_fit(run, fold)[:2])} if len(few) > 1 else {}


def alarms(run: Run, model: LatentAction[Any]) -> dict[str, float]:
    """Returns `LatentAction.alarms` of windows drawn from all video."""
    clip = run.data.unlabelled.shown(model.view).draw(256, run.seed, "alarms").to(run.device)
    assert clip.frames is not None
    return model.alarms(clip.frames)
