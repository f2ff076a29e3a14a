"""TD-MPC2: plans in a world without frames, whose critics say how a plan goes on.

Claim   a planner that learns its world while it acts swings up a pendulum in 4,000 steps (as it should in two
        seeds of three), and learns a game of choices
Tiny    about 3 minutes a seed on a CPU core (catch: 6): pendulum_return, catch_return, planning_gain_2000
Paper   Hansen, Su and Wang, TD-MPC2: Scalable, Robust World Models for Continuous Control (ICLR 2024)
Run     retrodict train tdmpc2 --data D --env E --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.cache import Cache
from retrodict.figures.claims import Figure
from retrodict.models.tdmpc import Bootstrap, LatentWorld, Prior, learning
from retrodict.models.tdmpc_weights import from_published
from retrodict.nn.part import Part
from retrodict.plan import Rewards, mppi
from retrodict.roles import Memory, System
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.spaces import Distribution

FIGURES = {
    "pendulum_return": Figure("pendulum", "return", 0, target=-250.0, steps=4_000),
    "catch_return": Figure("catch_online", "return", 0, "catch", 0.9, steps=7_000),
    "planning_gain_2000": Figure("pendulum", "planning_gain", 0, preset="half", target=0.0, seeds=8),
}
PLAYS = True  # in a world while it learns, where the run has one


@dataclass(frozen=True)
class Config:
    """Settings of the world, of planning in it, and of how much is played."""

    latent: int = 64  # features of a latent (paper: 512)
    hidden: int = 128  # width of all nets but the encoder (paper: 512)
    encoder: int = 128  # width of the encoder (paper: 256)
    layers: int = 2  # of the encoder of numbers (paper: 2)
    critics: int = 2  # in the ensemble (paper: 5)
    dropout: float = 0.01  # in the critics' first layer (paper: 0.01)
    stacked: int = 1  # frames that are seen at once, where there are no numbers (paper: 3)
    shift: int = 0  # most pixels by which frames are moved about in training (paper: 3)
    discount: float = 0.0  # of a reward, per step; 0: by the longest episode's length, as published
    rho: float = 0.5  # weight of each further step of a window (paper: 0.5)
    consistency: float = 20.0  # weight of foreseen latents, beside 0.1 of rewards, values and ends (published code: 20)
    entropy: float = 1e-4  # weight of the policy's entropy (paper: 0.0001)
    horizon: int = 3  # steps learnt from and planned (paper: 3)
    samples: int = 128  # plans that are tried at once (paper: 512)
    iterations: int = 4  # of a decision (paper: 6)
    elites: int = 16  # best plans, to which the belief moves (paper: 64)
    proposals: int = 8  # plans of the policy among them (paper: 24)
    temperature: float = 2.0  # of the elites' weights, in units of return (paper: 2, as 1 / 0.5)
    played: int = 3000  # own steps, where the run has a world
    before: Fit = field(default_factory=lambda: Fit(1000, 128, 1e-3, 0.0, 0.0, 1.0, 20.0))  # on what was recorded
    fit: Fit = field(default_factory=lambda: Fit(3000, 128, 1e-3, 0.0, 0.0, 1.0, 20.0))  # while it plays


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8, 3e-3, 0.0, 0.0, 1.0, 20.0)
    return Config(16, 16, 16, samples=16, iterations=2, elites=4, proposals=2, played=40, before=few, fit=few)


def tiny() -> Config:
    """The committed settings."""
    return Config()


def half() -> Config:
    """The same after 1,000 own steps."""
    return replace(tiny(), played=1000, fit=replace(tiny().fit, steps=1000))


def catch() -> Config:
    """For the game of catch: 5,000 own steps, an entropy and a temperature on its scale of rewards, and foreseen
    latents that weigh less: a reward at the end of a game is all that tells pictures apart."""
    before, fit = replace(tiny().before, steps=2000), replace(tiny().fit, steps=4000)
    return replace(tiny(), consistency=0.3, entropy=0.01, temperature=0.1, played=5000, before=before, fit=fit)


def paper() -> Config:
    """The published settings: 5 M weights, an update for each step, a million of them."""
    before, fit = (Fit(steps, 256, 3e-4, 0.0, 0.0, 1.0, 20.0) for steps in (2_500, 1_000_000))
    return Config(512, 512, 256, 2, 5, 0.01, 3, 3, 0.0, 0.5, 20.0, 1e-4, 3, 512, 6, 64, 24, 2.0, 1_000_000, before, fit)


class Planned(Part):
    """MPPI in a latent world, with what the world's policy would do among the plans."""

    def __init__(
        self, world: LatentWorld, discount: float = 0.99, horizon: int = 3, samples: int = 512, iterations: int = 6,
        elites: int = 64, proposals: int = 24, temperature: float = 2.0, explore: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.prior, self.view, self.space = Prior(world), world.view, world.space
        self.planner = mppi(
            world, Rewards(discount, Bootstrap(world)), horizon, samples, iterations, elites, temperature,
            policy=self.prior, proposals=proposals, explore=explore, seed=seed,
        )  # fmt: skip
        self.planner.captured = True

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        return self.planner.act(past, memory)


def planned(world: LatentWorld, cfg: Config, discount: float, seed: int, explore: bool = False) -> Planned:
    """The planner of these settings."""
    return Planned(
        world, discount, cfg.horizon, cfg.samples, cfg.iterations, cfg.elites, cfg.proposals, cfg.temperature,
        explore, seed,
    )  # fmt: skip


def discount_for(cache: Cache) -> float:
    """1 - 5 / the longest episode's steps, within 0.95 and 0.995."""
    return float(np.clip(1 - 5 / (np.diff(cache.starts).max() - 1), 0.95, 0.995))


def train(cfg: Config, run: Run) -> System:
    """Learns from what was recorded, then while it plays by planning in what it knows."""
    steps = run.data.labelled
    cache, stacked = steps.cache, 1 if steps.cache.proprio else cfg.stacked
    discount = cfg.discount or discount_for(cache)
    with rng.isolated(run.seed, "world"):
        world = LatentWorld(
            cache.view(stacked, stacked - 1, cache.proprio), cache.space, cfg.latent, cfg.hidden, cfg.encoder,
            cfg.layers, cfg.critics, dropout=cfg.dropout, episodic=bool(cache.columns.get("ends", np.zeros(1)).any()),
        )  # fmt: skip
    loss = partial(
        learning, discount=discount, rho=cfg.rho, consistency=cfg.consistency, entropy=cfg.entropy, shift=cfg.shift
    )
    seen = steps.shown(cache.view(stacked + cfg.horizon, stacked - 1))
    world = run.fit("recorded", world, loss, seen, cfg.before)
    playing = partial(planned, cfg=cfg, discount=discount, seed=run.seed, explore=True)
    world = run.fit("played", world, loss, run.replay(seen, playing, cfg.played, whole=False), cfg.fit)
    return System(forward=world, policy=planned(world, cfg, discount, run.seed))


def published(weights: Any, name: str) -> System:
    """The system of a published checkpoint, read by `foreign_weights.read_weights`, as its authors plan with it.

    A discount is not part of such a file: it is that of 500 decisions, as in the tasks that the files are of.
    """
    world = from_published(weights)
    return System(forward=world, policy=planned(world, paper(), 0.99, 0), about={"recipe": "tdmpc2", "weights": name})
