"""DreamerV1: an actor that follows the gradient of imagined rewards back through the world.

Claim   values are learnt in imagination, and an action is changed by how the imagined future depends on it
Tiny    about 10 minutes a seed on 2 CPU cores: pendulum_return
Paper   Hafner et al., Dream to Control: Learning Behaviors by Latent Imagination (ICLR 2020)
Run     retrodict train dreamer_v1 --data D --env E --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from retrodict import rng
from retrodict.claims import Figure
from retrodict.data.batch import Steps
from retrodict.models.imagination import Dreamer, dreaming
from retrodict.models.rssm import RSSM, spread_out
from retrodict.nn.conv import patch_for
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import Run

FIGURES = {"pendulum_return": Figure("pendulum", "return", 0, target=-300.0)}


@dataclass(frozen=True)
class Config:
    """Settings of world, actor and critic."""

    deter: int = 64  # width of the memory (paper: 200)
    hidden: int = 64  # of layers in the world's core (paper: 200)
    stoch: int = 16  # numbers of a latent (paper: 30)
    units: int = 64  # of layers in heads (paper: 400)
    layers: int = 2  # of heads, actor and critic (paper: 2 for rewards, 3 for values, 4 for actions)
    eyes: str = "patches"  # patches, or 64 pixels `strided` (paper: strided)
    channels: int = 16  # of the eyes (paper: 32)
    patch: int = 0  # pixels a side, 0: the largest up to 8 that gives 4 a side (paper: none)
    frames: int = 20  # of a replayed sequence (paper: 50)
    free: float = 1.0  # nats of divergence that cost nothing (paper: 3)
    horizon: int = 12  # imagined steps (paper: 15)
    discount: float = 0.99  # of a reward, per step (paper: 0.99)
    trace: float = 0.95  # λ of the returns (paper: 0.95)
    unit: float = 0.0  # of rewards, 0: the root mean square of those recorded (paper: 1, of rewards up to 1)
    ended: float = 10.0  # weight of ends (paper: 10)
    actor_pace: float = 0.3  # learning rate of the actor, of the world's (paper: 0.13)
    critic_pace: float = 0.3  # of the critic (paper: 0.13)
    steps: int = 10_000  # played while it is trained, in a run that has a world
    practise: Fit = field(default_factory=lambda: Fit(3_000, 32, 1e-3, 0.0, 0.02, 1.0, 100.0))


def micro() -> Config:
    """Settings for contract tests."""
    return Config(16, 16, 4, 16, channels=8, frames=6, horizon=3, steps=40, practise=Fit(8, 4, 1e-3, 0.0, clip=100.0))


def tiny() -> Config:
    """The committed settings."""
    return Config()


def paper() -> Config:
    """The published settings for 64 pixels."""
    return Config(
        200, 200, 30, 400, 3, "strided", 32, 0, 50, 3.0, 15, actor_pace=0.13, critic_pace=0.13, steps=1_000_000,
        practise=Fit(200_000, 50, 6e-4, 0.0, 0.01, 1.0, 100.0),
    )  # fmt: skip


def train(cfg: Config, run: Run) -> System:
    """Learns a world, an actor and a critic side by side."""
    steps = run.data.labelled
    cache = steps.cache
    view = cache.view(proprio=cache.proprio)
    patch = cfg.patch or patch_for(view.size, 4)
    with rng.isolated(run.seed, "dreamer"):
        world = RSSM(
            view, cache.space, "plain", "gaussian", cfg.deter, cfg.hidden, cfg.stoch, 1, cfg.units, cfg.layers, 2,
            cfg.eyes, cfg.channels, patch, "elu", "none", 1, bins=0, unit=cfg.unit or _unit(steps),
        )  # fmt: skip
        agent = Dreamer(world, cfg.units, cfg.layers, "elu", "none", 0, 0.0, cfg.actor_pace, cfg.critic_pace, mixed=0.0)
        spread_out(agent, "even")
    loss = partial(
        dreaming, horizon=cfg.horizon, discount=cfg.discount, trace=cfg.trace, entropy=0.0, gradient="dynamics",
        scaled=False, slow_weight=0.0, replayed=0.0, dyn=0.5, rep=0.5, free=cfg.free, each=False, ended=cfg.ended,
    )  # fmt: skip
    seen = run.replay(steps.shown(cache.view(cfg.frames, cfg.frames - 2)), Dreamer.policy, cfg.steps)
    agent = run.fit("dreamer", agent, loss, seen, cfg.practise)
    return System(forward=agent.world, policy=agent.policy())


def _unit(steps: Steps) -> float:
    """Root mean square of the recorded rewards, 1 where there are none or nothing was earned."""
    earned = steps.columns.get("rewards")
    size = 0.0 if earned is None else float(np.sqrt(np.mean(earned[steps.index] ** 2)))
    return size or 1.0
