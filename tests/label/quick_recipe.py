"""Quick: an inverse model and its cross-fitted evidence, as small as labelling needs.

Claim   enough labels of a simple world are learnt in seconds
Tiny    seconds on one core
Paper   none
Run     retrodict label VIDEOS --labels labels.csv --out D --recipe quick_recipe.py
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.label.verdict import HELD_OUT, held_out
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.nn.conv import patch_for
from retrodict.roles import System, View
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.spaces import Distribution


@dataclass(frozen=True)
class Config:
    """Settings."""

    folds: int = 2  # parts of the labels (own)
    fit: Fit = field(default_factory=lambda: Fit(120, 32, 4e-3))


def micro() -> Config:
    """Hardly any training."""
    return Config(fit=Fit(2, 8))


def tiny() -> Config:
    """Enough for sprites."""
    return Config()


paper = tiny


def fitted(cfg: Config, run: Run, steps: Steps, name: str) -> Inverse:
    """Trains one inverse model on these steps."""
    view = View(2, 0, size=steps.cache.size, channels=steps.cache.channels)
    with rng.isolated(run.seed, name):
        patch = patch_for(view.size)
        part = Inverse(view, steps.cache.space, "difference", "changed", "grid", patch, width=16, depth=1, hidden=32)
    return run.fit(name, part, labelled, steps.shown(view), cfg.fit)


def train(cfg: Config, run: Run) -> System:
    """Trains on all labels, and once without each fold for the evidence."""
    few = run.data.labelled
    params, truth = [], []
    for number in range(cfg.folds):
        rest, held = few.fold(cfg.folds, number, run.seed)
        part = fitted(cfg, run, rest, f"fold/{number}")
        with torch.no_grad():
            params += [part.infer(clip)[:, 0].params for _, clip in held.shown(part.view).batches(256)]
        truth.append(held.target_actions())
    inverse = fitted(cfg, run, few, "inverse")
    belief = Distribution(few.cache.space, torch.cat(params))
    return System(inverse=inverse, about={HELD_OUT: held_out(belief, torch.cat(truth))})
