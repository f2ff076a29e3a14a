"""DreamerV2: latents that are choices, and an actor that is told how much better an imagined return was than expected.

Claim   a world of discrete latents is good enough to learn a game in, from pixels
Tiny    about 6 minutes a seed on a CPU core: catch_return
Paper   Hafner et al., Mastering Atari with Discrete World Models (ICLR 2021)
Run     retrodict train dreamer_v2 --data D --env E --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from retrodict.figures.claims import Figure
from retrodict.label.practice import practised
from retrodict.models.imagination import Dreamer, dreaming
from retrodict.models.rssm import RSSM, Size
from retrodict.roles import System, View
from retrodict.run.loop import Fit, SteadyFit
from retrodict.run.run import Run
from retrodict.spaces import ActionSpace

FIGURES = {
    "catch_return": Figure("catch_online", "return", 0, target=0.9, steps=7_000),
    "catch_return_gaussian": Figure("catch_online", "return", 0, "gaussian", steps=7_000),
}
PLAYS = True  # in a world while it learns, where the run has one


@dataclass(frozen=True)
class Config:
    """Settings of world, actor and critic."""

    latent: str = "categorical"  # or gaussian, as of V1 (paper: categorical)
    # of the world, and of actor and critic (paper: 600, 600, 32, 32, 400, 4, strided 48)
    size: Size = field(default_factory=lambda: Size(128, channels=32))
    frames: int = 16  # of a replayed sequence (paper: 50)
    divergence: float = 0.1  # weight of the world's divergence (paper: 0.1)
    balance: float = 0.8  # share of it that pulls the prior (paper: 0.8)
    horizon: int = 10  # imagined steps (paper: 15)
    discount: float = 0.99  # of a reward, per step (paper: 0.999)
    trace: float = 0.95  # λ of the returns (paper: 0.95)
    entropy: float = 1e-2  # weight (paper: 1e-3)
    ended: float = 5.0  # weight of ends (paper: 5)
    slow: float = 100.0  # steps after which the slow critic is copied (paper: 100)
    actor_pace: float = 0.5  # learning rate of the actor, of the world's (paper: 0.2)
    critic_pace: float = 0.5  # of the critic (paper: 0.5)
    steps: int = 5_000  # played while it is trained, in a run that has a world
    practise: Fit = field(default_factory=lambda: Fit(4_000, 16, 1e-3, 1e-6, 0.02, 1.0, 100.0))


def micro() -> Config:
    """Settings for contract tests."""
    size, few = Size(16, 16, 4, 4, 16, 1, channels=8), Fit(8, 4, 3e-3, 0.0, clip=100.0)
    return Config(size=size, frames=6, horizon=3, slow=2.0, critic_pace=5.0, steps=40, practise=few)


def tiny() -> Config:
    """The committed settings."""
    return Config()


def gaussian() -> Config:
    """The same with the latents of V1: the paper's own ablation."""
    return Config("gaussian", Size(128, stoch=32, channels=32))


def paper() -> Config:
    """The published settings for Atari, with frames of 64 pixels.

    Published weights lose a millionth in each update; AdamW takes its decay times the rate, so it is divided by that.
    """
    size = Size(600, 600, 32, 32, 400, 4, "strided", 48)
    long = SteadyFit(3_125_000, 16, 2e-4, 1e-6 / 2e-4, 0.0, 1.0, 100.0)
    return Config(
        "categorical", size, 50, horizon=15, discount=0.999, entropy=1e-3, actor_pace=0.2, steps=50_000_000,
        practise=long,
    )  # fmt: skip


def train(cfg: Config, run: Run) -> System:
    """Learns a world, an actor and a critic side by side."""
    axes = any(segment.kind == "continuous" for segment in run.data.labelled.cache.space.segments)

    def agent(view: View, space: ActionSpace, patch: int) -> Dreamer:
        has = cfg.size
        sizes = (has.deter, has.hidden, has.stoch, has.classes, has.units, has.layers, 2, has.eyes, has.channels)
        world = RSSM(view, space, "normed", cfg.latent, *sizes, patch, "elu", "none", 1, mixed=0.0, bins=0)
        rates = (cfg.slow, cfg.actor_pace, cfg.critic_pace)
        return Dreamer(world, has.units, has.layers, "elu", "none", 0, *rates, mixed=0.0).begin("even")

    loss = partial(
        dreaming, horizon=cfg.horizon, discount=cfg.discount, trace=cfg.trace, entropy=cfg.entropy,
        gradient="dynamics" if axes else "reinforce", scaled=False, slow_values=True, slow_weight=0.0, replayed=0.0,
        dyn=cfg.divergence * cfg.balance, rep=cfg.divergence * (1 - cfg.balance), free=0.0, each=False,
        ended=cfg.ended,
    )  # fmt: skip
    return practised(run, agent, loss, cfg.frames, cfg.size.patch, cfg.steps, cfg.practise)
