"""DreamerV3: one setting for games of any reward: categorical latents, symlogs, returns in units of their own range.

Claim   the same settings learn games of any reward, from pixels or numbers, by practice in imagination
Tiny    10 to 12 minutes a seed on a CPU core: catch_return, catch_return_x0.01, catch_return_x100, pendulum_return
Paper   Hafner et al., Mastering Diverse Control Tasks through World Models (Nature 2025)
Run     retrodict train dreamer_v3 --data D --env E --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from retrodict.figures.claims import Figure
from retrodict.label.practice import practised
from retrodict.models.imagination import Dreamer, dreaming
from retrodict.models.rssm import RSSM
from retrodict.roles import System, View
from retrodict.run.loop import Fit, LaPropFit
from retrodict.run.run import Run
from retrodict.spaces import ActionSpace

FIGURES = {
    "catch_return": Figure("catch_online", "return", 0, target=0.9, steps=7_000),
    "catch_return_x0.01": Figure("catch_small", "return", 0, target=0.9, steps=7_000),
    "catch_return_x100": Figure("catch_large", "return", 0, target=0.9, steps=7_000),
    "pendulum_return": Figure("pendulum", "return", 0, target=-250.0, steps=6_000),
}
PLAYS = True  # in a world while it learns, where the run has one


@dataclass(frozen=True)
class Config:
    """Settings of world, actor and critic."""

    deter: int = 128  # width of the memory (paper: 8192)
    hidden: int = 64  # of layers in the world's core (paper: 1024)
    stoch: int = 16  # choices of a latent (paper: 32)
    classes: int = 8  # values of each (paper: 64)
    units: int = 64  # of layers in heads (paper: 1024)
    blocks: int = 8  # of the core (paper: 8)
    bins: int = 255  # of rewards and values (paper: 255)
    limit: float = 9.0  # symlog of the largest reward or value that they tell apart (paper: 20)
    eyes: str = "patches"  # patches, or 64 pixels `pooled` (paper: pooled)
    channels: int = 32  # of the eyes (paper: 64)
    patch: int = 0  # pixels a side, 0: the largest up to 8 that gives 4 a side (paper: none)
    sharp: float = 100.0  # weight of the error of seen numbers (paper: 1)
    frames: int = 16  # of a replayed sequence (paper: 64)
    horizon: int = 10  # imagined steps (paper: 15)
    discount: float = 0.997  # of a reward, per step (paper: 1 - 1/333)
    trace: float = 0.95  # λ of the returns (paper: 0.95)
    actor_pace: float = 0.3  # learning rate of the actor, of the world's (paper: 1)
    entropy: float = 1e-3  # weight, beside gains in units of the returns' range (paper: 3e-4)
    steps: int = 5_000  # played while it is trained, in a run that has a world
    practise: Fit = field(default_factory=lambda: LaPropFit(4_000, 16, 1e-3))


def micro() -> Config:
    """Settings for contract tests."""
    return Config(32, 16, 4, 4, 16, 4, 7, channels=8, frames=6, horizon=3, steps=40, practise=LaPropFit(8, 4, 1e-3))


def tiny() -> Config:
    """The committed settings, for every game."""
    return Config()


def paper() -> Config:
    """The published settings for 64 pixels, 200 million weights."""
    return Config(
        8192, 1024, 32, 64, 1024, 8, 255, 20.0, "pooled", 64, 0, 1.0, 64, 15, actor_pace=1.0, entropy=3e-4,
        steps=1_000_000, practise=LaPropFit(500_000, 16, 4e-5, warmup=0.002),
    )  # fmt: skip


def train(cfg: Config, run: Run) -> System:
    """Learns a world, an actor and a critic side by side."""

    def agent(view: View, space: ActionSpace, patch: int) -> Dreamer:
        world = RSSM(
            view, space, "blocks", "categorical", cfg.deter, cfg.hidden, cfg.stoch, cfg.classes, cfg.units,
            eyes=cfg.eyes, channels=cfg.channels, patch=patch, blocks=cfg.blocks, bins=cfg.bins, sharp=cfg.sharp,
            limit=cfg.limit,
        )  # fmt: skip
        made = Dreamer(world, cfg.units, bins=cfg.bins, limit=cfg.limit, actor_pace=cfg.actor_pace)
        return made.begin("normal", 0.01)

    loss = partial(dreaming, horizon=cfg.horizon, discount=cfg.discount, trace=cfg.trace, entropy=cfg.entropy)
    return practised(run, agent, loss, cfg.frames, cfg.patch, cfg.steps, cfg.practise)
