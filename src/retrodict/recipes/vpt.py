"""VPT: a windowed, non-causal inverse model from few labels labels all the video, and a policy clones the labels.

Claim   64 labels are worth nearly all of them: label accuracy and success close to cloning from all labels
Tiny    about 2 minutes a seed on 2 CPU cores: BabyAI babyai_label_accuracy_64 and babyai_success_64
Paper   Baker et al., Video PreTraining: Learning to Act by Watching Unlabeled Online Videos (2022)
Run     retrodict train vpt --data D --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.figures.claims import Figure
from retrodict.label.clone import Shape, clone
from retrodict.label.crossfit import calibrate, cross_fit
from retrodict.label.infer import infer_steps
from retrodict.models.encoder import frozen_encoder
from retrodict.models.ensemble import Ensemble
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.models.policy import ClipPolicy
from retrodict.nn.conv import patch_for
from retrodict.roles import System
from retrodict.run.checkpoint import load_system
from retrodict.run.loop import Fit
from retrodict.run.run import LATER, Run
from retrodict.spaces import Distribution

FIGURES = {
    "babyai_label_accuracy_64": Figure("babyai", "label_accuracy", target=0.82),
    "babyai_success_64": Figure("babyai", "success", target=0.75),
    "calibration_error": Figure("babyai", "calibration_error", target=0.05, at_most=True, pooled=True),
    "set_cover_90": Figure("babyai", "set_cover", target=0.87, pooled=True),
    "set_size_90": Figure("babyai", "set_size", pooled=True),
    "gain_at_80": Figure("babyai", "gain_at_80", target=0.03, pooled=True),
    "foreign_refused": Figure("babyai", "foreign_refused", target=0.95),
    "own_refused": Figure("babyai", "own_refused", target=0.20, at_most=True),
    "label_accuracy_64": Figure("sprites", "label_accuracy", target=0.90, seeds=5),
    "label_accuracy_64_distractors": Figure("sprites_distractors", "label_accuracy", target=0.85, seeds=5),
    "success_64": Figure("sprites", "success", target=0.90, seeds=5),
    "texture_agreement_64": Figure("sprites", "texture_agreement", seeds=5),
    "maze_label_accuracy_64": Figure("maze", "label_accuracy", preset="maze", target=0.88),
    "coinrun_label_accuracy_64": Figure("coinrun", "label_accuracy", preset="maze", seeds=1),
    "coinrun_success_64": Figure("coinrun", "success", preset="maze", seeds=1),
    "arm_r2_1min": Figure("arm", "r2", 1200, "arm", target=0.80),
    "arm_gripper_f1_1min": Figure("arm", "press_f1", 1200, "arm"),
    "arm_interval_cover_1min": Figure("arm", "interval_cover", 1200, "arm", target=0.85),
    "arm_success_1min": Figure("arm", "success", 1200, "arm", target=0.64),
    "arm_r2_10min": Figure("arm", "r2", 12_000, "arm_labels", target=0.85),
    "arm_gripper_f1_10min": Figure("arm", "press_f1", 12_000, "arm_labels", target=0.93),
    "arm_latency_r2": Figure("arm_latency", "r2", 1200, "arm_labels", target=0.75),
    "arm_latency_found": Figure("arm_latency", "shift", 1200, "arm_labels", target=2.0),
    "arm_latency_r2_as_given": Figure("arm_latency", "r2", 1200, "arm_as_given"),
    "arm_front_r2_1min": Figure("arm_front", "r2", 1200, "arm_labels"),
}


@dataclass(frozen=True)
class Config:
    """Settings of the inverse model and of cloning. Inputs are compared by cross-fitting inside the labels."""

    # pairs of what the inverse is shown and how it pools, compared on held-out labels (own)
    inputs: tuple[tuple[str, str], ...] = (("difference", "changed"), ("both", "flatten"), ("both", "mean_max"))
    # pixels a side of the inverse's patches, compared with them; 0: the largest up to 8 that gives 7 a side (own)
    patches: tuple[int, ...] = (0,)
    compared: int = 4  # parts of the labels for the cross-fitting that compares (own)
    folds: int = 8  # parts of the labels for the cross-fitting that calibrates; its nets are the inverse model (own)
    repeats: int = 3  # cross-fittings that calibrate, each with its own parts: one alone is a matter of luck (own)
    frames: int = 2  # frames shown (paper: 128)
    before: int = 0  # of these, before the present one (paper: half)
    width: int = 32  # channels of the encoder (paper: 64, 128, 128)
    depth: int = 2  # 3x3 layers after the patches (own)
    hidden: int = 128  # width of the dense layer (paper: 4096)
    dropout: float = 0.2  # before the head (own)
    choose: Fit = field(default_factory=lambda: Fit(150, 32, 2e-3))
    fit: Fit = field(default_factory=lambda: Fit(400, 32, 2e-3))
    pool: str = "flatten"  # of the policy
    clone: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))
    # frames by which effects may come late; the one in whose frames held-out labels are likeliest is taken (own)
    shifts: tuple[int, ...] = field(default=(0,), metadata=LATER)
    # pixels a side of the policy's patches, 0: the largest up to 8 that gives 7 a side (own)
    policy_patch: int = field(default=0, metadata=LATER)
    policy_width: int = field(default=0, metadata=LATER)  # channels of the policy, 0: `width` (own)
    points: int = field(default=4, metadata=LATER)  # of the policy's pool `points` (Levine et al.: 32)
    # folder of a saved system whose frozen features the input `features` compares; none: no such input (own)
    features: str = field(default="", metadata=LATER)
    policy: bool = field(default=True, metadata=LATER)  # False: labels alone, no cloning (own)


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(
        inputs=(("both", "flatten"),), compared=2, folds=2, repeats=1, width=8, depth=1, hidden=16, choose=few, fit=few,
        clone=few,
    )  # fmt: skip


def tiny() -> Config:
    """The committed settings."""
    return Config()


def maze() -> Config:
    """For Procgen's maze, whose cells are smaller than 8 pixels: finer patches are compared as well."""
    return Config(patches=(0, 4))


def arm() -> Config:
    """For a robot's cameras at 64 pixels: small motions of small things, whose effect may come late."""
    return Config(
        inputs=(("both", "mean_max"),), patches=(4,), folds=4, repeats=1, choose=Fit(200, 32, 4e-3),
        fit=Fit(800, 32, 4e-3), pool="points", clone=Fit(1200, 64, 1e-3), shifts=(0, 1, 2, 3), policy_patch=2,
        policy_width=16, points=16,
    )  # fmt: skip


def arm_labels() -> Config:
    """The same without a policy."""
    return replace(arm(), policy=False)


def arm_as_given() -> Config:
    """The same labels without looking for a delay."""
    return replace(arm_labels(), shifts=(0,))


def paper() -> Config:
    """Published batch and schedule at this net's kind of input (the paper's net has 0.5 B parameters)."""
    long = Fit(100_000, 128, 3e-4)
    return Config(frames=16, before=8, width=128, depth=6, hidden=1024, fit=long, clone=Fit(200_000, 256, 1.81e-4))


Front = tuple[str, str, int]  # inputs, pool and patch of an inverse model


def fronts(cfg: Config) -> list[Front]:
    """What is compared: every input at every patch."""
    return [(inputs, pool, patch) for patch in cfg.patches for inputs, pool in cfg.inputs]


def inverse_for(cfg: Config, data: Steps, front: Front, *address: int | str) -> Inverse:
    """Builds the inverse model for this data's frames; the address seeds its weights."""
    view = data.cache.view(cfg.frames, cfg.before)
    inputs, pool, patch = front
    with rng.isolated(*address):
        patch = patch or patch_for(data.cache.size)
        encoder = frozen_encoder(load_system(cfg.features)) if inputs == "features" and cfg.features else None
        size = (patch, cfg.width, cfg.depth, cfg.hidden, cfg.dropout)
        return Inverse(view, data.cache.space, inputs, pool, "grid", *size, encoder)


def cross_fitted(
    cfg: Config, run: Run, front: Front, folds: int, fit: Fit, stage: str, repeats: int = 1
) -> tuple[Distribution, Tensor, list[Inverse]]:
    """Answers every label by models of this front that have not seen it (`label.crossfit`)."""

    def model(rest: Steps, name: str) -> Inverse:
        name = f"{stage}/{_name(front)}/{name}"
        part = inverse_for(cfg, rest, front, run.seed, name)
        return run.fit(name, part, labelled, rest.shown(part.view), fit)

    return cross_fit(run, model, folds, repeats)


def choose_front(cfg: Config, run: Run) -> tuple[Front, dict[str, float]]:
    """Compares the fronts on held-out labels by likelihood (nats per label); returns the best and the table."""
    every = fronts(cfg)
    if len(every) == 1:
        return every[0], {}
    table = {}
    for front in every:
        belief, truth, _ = cross_fitted(cfg, run, front, cfg.compared, cfg.choose, "choose")
        table[_name(front)] = float(belief.log_prob(truth, merge=True).mean())
    return max(every, key=lambda front: table[_name(front)]), table


def _name(front: Front) -> str:
    inputs, pool, patch = front
    return f"{inputs}+{pool}" + (f"+{patch}" if patch else "")


def fit_inverse(cfg: Config, run: Run, front: Front) -> tuple[Ensemble, dict[str, Any]]:
    """Fits the inverse model, and returns it with the evidence of how good it is.

    Its members are the nets of a cross-fitting, so that each label was seen by all but one of them. The temperatures
    are those at which answers to labels that a net had not seen are, class by class, as sure as they are right.
    """
    belief, truth, models = cross_fitted(cfg, run, front, cfg.folds, cfg.fit, "inverse", cfg.repeats)
    inverse = Ensemble(models[: len(models) // cfg.repeats])
    return inverse, calibrate(inverse, belief, truth, cfg.repeats)


def train(cfg: Config, run: Run) -> System:
    """Finds the delay, chooses the front, fits and calibrates the inverse, labels all video, clones the labels."""
    cfg, shifts = align(cfg, run)
    front, table = choose_front(cfg, run)
    inverse, evidence = fit_inverse(cfg, run, front)
    about = {"front": list(front), "compared": table, "shift": -cfg.before, "shifts": shifts, **evidence}
    return System(inverse=inverse, policy=_policy(cfg, run, inverse) if cfg.policy else None, about=about)


def _policy(cfg: Config, run: Run, inverse: Ensemble) -> ClipPolicy:
    labels, width = run.label("labels", inverse, run.data.unlabelled), cfg.policy_width or cfg.width
    shape = Shape(width, cfg.hidden, cfg.pool, cfg.depth, cfg.policy_patch, cfg.points)
    return clone(run, labels, inverse.space, shape, cfg.clone)


def align(cfg: Config, run: Run) -> tuple[Config, dict[str, float]]:
    """Finds how many frames late effects show, by the likelihood of the last fifth of the labels given the others.

    Returns the settings that look there, and the table in nats per label.
    """
    few, table = run.data.labelled, dict[str, float]()
    if len(cfg.shifts) == 1:
        return replace(cfg, before=cfg.before - cfg.shifts[0]), table
    rest, held = few.only(np.arange(len(few) * 4 // 5)), few.only(np.arange(len(few) * 4 // 5, len(few)))
    for shift in cfg.shifts:
        shifted, name = replace(cfg, before=cfg.before - shift), f"align/{shift}"
        model = inverse_for(shifted, rest, fronts(cfg)[0], run.seed, "align")
        model = run.fit(name, model, labelled, rest.shown(model.view), cfg.choose)
        belief = infer_steps(model, held, run.device)
        table[str(shift)] = float(belief.log_prob(held.target_actions(), merge=True).mean())
    best = max(cfg.shifts, key=lambda shift: table[str(shift)])
    run.log.say(f"effects show {best} frames late, by {len(held)} held-out labels")
    return replace(cfg, before=cfg.before - best), table
