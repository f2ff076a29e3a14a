"""DreamerV1: an actor that follows the gradient of imagined rewards back through the world.

Claim   values are learnt in imagination, and an action by how what is imagined depends on it
Tiny    about 5 minutes a seed on a CPU core: pendulum_return
Paper   Hafner et al., Dream to Control: Learning Behaviors by Latent Imagination (ICLR 2020)
Run     retrodict train dreamer_v1 --data D --env E --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from retrodict.data.batch import Steps
from retrodict.figures.claims import Figure
from retrodict.label.practice import practised
from retrodict.models.imagination import Dreamer, dreaming
from retrodict.models.rssm import RSSM, Size
from retrodict.roles import System, View
from retrodict.run.loop import Fit
from retrodict.run.run import LATER, Run
from retrodict.spaces import ActionSpace

FIGURES = {"pendulum_return": Figure("pendulum", "return", 0, target=-300.0, steps=11_000)}
PLAYS = True  # in a world while it learns, where the run has one


@dataclass(frozen=True)
class Config:
    """Settings of world, actor and critic."""

    # of the world, and of actor and critic (paper: 200, 200, 30, none, 400, 2, strided 32)
    size: Size = field(default_factory=Size)
    frames: int = 20  # of a replayed sequence (paper: 50)
    free: float = 0.1  # nats of divergence that cost nothing (paper: 3)
    horizon: int = 12  # imagined steps (paper: 15)
    discount: float = 0.99  # of a reward, per step (paper: 0.99)
    trace: float = 0.95  # λ of the returns (paper: 0.95)
    sharp: float = 100.0  # weight of the error of seen numbers (paper: 1, of pixels)
    unit: float = 0.0  # of rewards, 0: the root mean square of those recorded (paper: 1, of rewards up to 1)
    ended: float = 10.0  # weight of ends (paper: 10)
    actor_pace: float = 0.1  # learning rate of the actor, of the world's (paper: 0.13)
    critic_pace: float = 0.3  # of the critic (paper: 0.13)
    actor_layers: int = field(default=0, metadata=LATER)  # of the actor, 0: `size.layers` (paper: 4)
    critic_layers: int = field(default=0, metadata=LATER)  # of the critic, 0: as many as the actor (paper: 3)
    steps: int = 10_000  # steps played while it is trained, in a run that has a world
    practise: Fit = field(default_factory=lambda: Fit(3_000, 32, 1e-3, 0.0, 0.02, 1.0, 100.0))


def micro() -> Config:
    """Settings for contract tests."""
    return Config(Size(16, 16, 4, 1, 16, channels=8), 6, horizon=3, steps=40, practise=Fit(8, 4, 1e-3, 0.0, clip=100.0))


def tiny() -> Config:
    """The committed settings."""
    return Config()


def paper() -> Config:
    """The published settings for 64 pixels."""
    size, long = Size(200, 200, 30, 1, 400, 2, "strided", 32), Fit(200_000, 50, 6e-4, 0.0, 0.0, 1.0, 100.0)
    return Config(
        size, 50, 3.0, 15, sharp=1.0, unit=1.0, actor_pace=0.13, critic_pace=0.13, actor_layers=4, critic_layers=3,
        steps=1_000_000, practise=long,
    )  # fmt: skip


def train(cfg: Config, run: Run) -> System:
    """Learns a world, an actor and a critic side by side."""
    unit = cfg.unit or _unit(run.data.labelled)

    def agent(view: View, space: ActionSpace, patch: int) -> Dreamer:
        own = cfg.size
        size = (own.deter, own.hidden, own.stoch, 1, own.units, own.layers, 2, own.eyes, own.channels, patch)
        world = RSSM(view, space, "plain", "gaussian", *size, "elu", "none", 1, bins=0, unit=unit, sharp=cfg.sharp)
        return Dreamer(
            world, own.units, cfg.actor_layers or own.layers, "elu", "none", 0, 0.0, cfg.actor_pace, cfg.critic_pace,
            mixed=0.0, critic_layers=cfg.critic_layers,
        ).begin("even")  # fmt: skip

    loss = partial(
        dreaming, horizon=cfg.horizon, discount=cfg.discount, trace=cfg.trace, entropy=0.0, gradient="dynamics",
        scaled=False, slow_weight=0.0, replayed=0.0, dyn=0.5, rep=0.5, free=cfg.free, each=False, ended=cfg.ended,
    )  # fmt: skip
    return practised(run, agent, loss, cfg.frames, cfg.size.patch, cfg.steps, cfg.practise)


def _unit(steps: Steps) -> float:
    """Root mean square of the recorded rewards, 1 where there are none or nothing was earned."""
    earned = steps.columns.get("rewards")
    size = 0.0 if earned is None else float(np.sqrt(np.mean(earned[steps.index] ** 2)))
    return size or 1.0
