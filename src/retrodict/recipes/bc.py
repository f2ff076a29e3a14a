"""BC: behavioural cloning, the baseline and the last link of every label route.

Claim   with all 20,000 recorded actions cloning nearly equals the expert; with 64 it does not
Tiny    about 1 minute a seed on 2 CPU cores: sprites success_64 and success_64_flat
Paper   Pomerleau, Efficient training of artificial neural networks for autonomous navigation (1991)
Run     retrodict train bc --data D --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field

from retrodict.figures.claims import Figure
from retrodict.label.clone import Shape, clone
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import LATER, Run

FIGURES = {
    "babyai_success_64": Figure("babyai", "success"),
    "babyai_success_200": Figure("babyai", "success", 200),
    "babyai_success_all": Figure("babyai", "success", labels=0, target=0.95),
    "success_64": Figure("sprites", "success", preset="equivariant", seeds=5),
    "success_200": Figure("sprites", "success", 200, "equivariant"),
    "success_64_flat": Figure("sprites", "success", seeds=5),
    "success_all": Figure("sprites", "success", labels=0, seeds=5),
    "state_only_all": Figure("sprites", "state_only", labels=0, seeds=5),
    "sprites_distractors_state_only_all": Figure("sprites_distractors", "state_only", labels=0, seeds=5),
    "babyai_state_only_all": Figure("babyai", "state_only", labels=0),
    "maze_state_only_all": Figure("maze", "state_only", labels=0),
    "arm_success_all": Figure("arm", "success", 0, "arm", target=0.75),
    "arm_success_1min": Figure("arm", "success", 1200, "arm"),
}


@dataclass(frozen=True)
class Config:
    """Settings of cloning."""

    pool: str = "flatten"  # flatten: place matters; points: translation-invariant (own)
    width: int = 32  # channels of the encoder (own)
    depth: int = 2  # 3x3 layers after the patches (own)
    hidden: int = 128  # width of the dense layers (own)
    fit: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))
    patch: int = field(default=0, metadata=LATER)  # pixels a side, 0: the largest up to 8 that gives 7 a side (own)
    points: int = field(default=4, metadata=LATER)  # of the pool `points` (Levine et al.: 32)


def micro() -> Config:
    """Settings for contract tests."""
    return Config(width=8, depth=1, hidden=16, fit=Fit(8, 8))


def tiny() -> Config:
    """The committed settings."""
    return Config()


def equivariant() -> Config:
    """As indifferent to place as the inverse nets: what counts is where things are to one another."""
    return Config(pool="points")


def arm() -> Config:
    """For a robot's cameras at 64 pixels, as the policy of `vpt.arm()`."""
    return Config(pool="points", width=16, fit=Fit(1200, 64, 1e-3), patch=2, points=16)


def paper() -> Config:
    """Settings for long runs."""
    return Config(width=64, depth=4, hidden=512, fit=Fit(50_000, 256, 3e-4))


def train(cfg: Config, run: Run) -> System:
    """Clones the labelled steps."""
    data = run.data.labelled
    shape = Shape(cfg.width, cfg.hidden, cfg.pool, cfg.depth, cfg.patch, cfg.points)
    return System(policy=clone(run, data, data.cache.space, shape, cfg.fit))
