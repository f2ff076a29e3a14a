"""World Models: a controller that evolves in a dream, and then plays the game.

Claim   a linear controller that never played lives twice as long as chance, by practice in a dream of random play
Tiny    about 2 minutes a seed on a CPU core: dodge_ratio_to_random
Paper   Ha and Schmidhuber, World Models (2018)
Run     retrodict train world_models --data D --out RUN --size tiny

Dreams at a temperature of 0.5 promise as much as those at 1 and 1.25, and the game gives less of it (`dream_return`
beside `return`) in two seeds of three, as where a controller lives off what a dream is too sure of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from retrodict import rng
from retrodict.figures.claims import Figure
from retrodict.models.controller import Controller
from retrodict.models.evolution import CMAES, evolving
from retrodict.models.filtered import Filtered
from retrodict.models.gaussian_vae import GaussianVAE, autoencoding, latents
from retrodict.models.mdn_rnn import MDNRNN, foretelling
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import Run

FIGURES = {
    "dodge_ratio_to_random": Figure("dodge", "ratio_to_random", 0, target=2.0, steps=30_000),
    "dodge_ratio_to_random_t0.5": Figure("dodge", "ratio_to_random", 0, preset="cool"),
    "dodge_ratio_to_random_t1.25": Figure("dodge", "ratio_to_random", 0, preset="warm"),
}


@dataclass(frozen=True)
class Config:
    """Settings of V (the autoencoder), M (the recurrent model) and C (the controller)."""

    numbers: int = 2  # that each cell of V's grid becomes; with kernels, a frame (paper: 32 for the race, 64 for Doom)
    channels: Sequence[int] = (16, 32, 64)  # of V's layers (paper: 32, 64, 128, 256)
    kernels: Sequence[int] = ()  # of V's decoder, pixels; (): the encoder's mirror (paper: 5, 5, 6, 6)
    hidden: int = 128  # of M's LSTM (paper: 256 for the race, 512 for Doom)
    mixtures: int = 5  # Gaussians for each latent number (paper: 5)
    sequence: int = 48  # steps that M learns from at once (paper: 999 for the race, 500 for Doom)
    temperature: float = 1.0  # of dreams (paper: 1.15 for Doom)
    candidates: int = 32  # controllers of a generation (paper: 64)
    spread: float = 0.1  # of the first generation's weights (paper: 0.1)
    dreams: int = 8  # episodes that a candidate is judged by (paper: 16)
    horizon: int = 150  # steps of a dream (paper: 2100 for Doom)
    generations: int = 100  # of evolution (paper: about 1,800)
    see: Fit = field(default_factory=lambda: Fit(1000, 32, 2e-3, 0.0, clip=0.0))
    foretell: Fit = field(default_factory=lambda: Fit(700, 64, 3e-3, 0.0))


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(
        1, (4, 4, 4), hidden=8, mixtures=2, sequence=4, candidates=4, dreams=2, horizon=3, generations=4, see=few,
        foretell=Fit(8, 8, 1e-2),
    )  # fmt: skip


def tiny() -> Config:
    """The committed settings."""
    return Config()


def cool() -> Config:
    """Dreams surer of what comes than the world is: a controller may learn to live off their mistakes."""
    return replace(tiny(), temperature=0.5)


def warm() -> Config:
    """Dreams less sure of what comes than the world is."""
    return replace(tiny(), temperature=1.25)


def paper() -> Config:
    """The published sizes and rates for the race; M tells ends and rewards besides, so that C dreams, as for Doom."""
    return Config(
        32, (32, 64, 128, 256), (5, 5, 6, 6), 256, sequence=999, temperature=1.15, candidates=64, dreams=16,
        horizon=2100, generations=1800, see=Fit(1_000_000, 50, 1e-4, 0.0, 0.0, 1.0, 0.0),
        foretell=Fit(4000, 100, 1e-3, 0.0, 0.0, 1.0),
    )  # fmt: skip


def train(cfg: Config, run: Run) -> System:
    """Compresses frames, foretells what becomes of them, and evolves a controller in what is foretold."""
    video, steps = run.data.unlabelled, run.data.labelled.rewarded()
    with rng.isolated(run.seed, "vae"):
        vae = GaussianVAE(video.cache.view(), cfg.numbers, cfg.channels, cfg.kernels)
    vae = run.fit("vae", vae, autoencoding, video, cfg.see)
    seen = run.map("latents", partial(latents, vae=vae), video, uses=(vae,))["latents"]
    with rng.isolated(run.seed, "world"):
        world = MDNRNN(vae, steps.cache.space, cfg.hidden, cfg.mixtures, temperature=cfg.temperature)
    coming = replace(steps.with_features(video.per_frame(seen.numpy())), after=cfg.sequence)
    world = run.fit("world", world, foretelling, coming, cfg.foretell)
    view = replace(world.view, features=world.features)
    crowd = Controller(view, world.space, count=cfg.candidates)
    evolution = CMAES(crowd.weights.shape[1], cfg.candidates, cfg.spread)
    practice = partial(evolving, world=world.cpu(), controller=crowd, steps=cfg.horizon)
    evolution = run.loop("controller", evolution, practice, cfg.generations, video.begins(), cfg.dreams)
    best = Controller(view, world.space)
    best.load_state_dict({"weights": evolution.mean.float().unsqueeze(0)})
    return System(encoder=vae, forward=world, policy=Filtered(world, best))
