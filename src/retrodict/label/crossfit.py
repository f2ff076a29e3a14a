"""Cross-fitting: answers to the user's own labels by models that have not seen them, on the same folds for all."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from retrodict.data.batch import Steps
from retrodict.label.verdict import HELD_OUT, held_out
from retrodict.measure.calibrate import match_accuracy
from retrodict.models.inverse import Inverse
from retrodict.models.latent_action import CodeAdapter, LabelledInverse, LatentAction, LatentInverse
from retrodict.models.losses import decoding
from retrodict.roles import DecodedInverse, InverseModel
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.spaces import Distribution

FOLDS = 4  # parts of the labels


def cross_fit(run: Run, fit: Callable[[Steps, str], InverseModel]) -> tuple[Distribution, Float[Tensor, "n d"]]:
    """Answers every label by a model that has not seen it: (beliefs, true actions), both along axis n.

    `fit(rest, name)` returns an inverse model of true actions that has seen the labels `rest` alone; `name` is for its
    stage. A recipe's answers are in the order of every other's, so that two can be compared label by label.
    """
    few, params, truth = run.data.labelled, [], []
    folds = min(FOLDS, len(few))
    for number in range(folds):
        rest, held = few.fold(folds, number, run.seed)
        inverse = fit(rest, f"fold{number}")
        shown = held.shown(inverse.view)
        with torch.no_grad():
            for _, clip in shown.batches(512):
                params.append(inverse.infer(clip.to(run.device))[:, shown.target].params.cpu())
        truth.append(held.target_actions())
    return Distribution(few.cache.space, torch.cat(params)), torch.cat(truth)


def calibrate(inverse: Inverse | LabelledInverse, belief: Distribution, truth: Float[Tensor, "n d"]) -> dict[str, Any]:
    """Sets the temperature at which confidence equals accuracy on cross-fitted answers; returns the evidence."""
    segment = belief.space.discrete
    if segment is not None:
        classes = belief.space.classes(truth).numpy()
        inverse.temperature.fill_(match_accuracy(belief.params.double().numpy(), classes, segment.merged))
    return {HELD_OUT: held_out(belief.scaled(float(inverse.temperature)), truth)}


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
    return adapter, {HELD_OUT: held_out(*cross_fit(run, fold))} if len(few) > 1 else {}


def alarms(run: Run, model: LatentAction[Any]) -> dict[str, float]:
    """Returns `LatentAction.alarms` of windows drawn from all video."""
    clip = run.data.unlabelled.shown(model.view).draw(256, run.seed, "alarms").to(run.device)
    assert clip.frames is not None
    return model.alarms(clip.frames)
