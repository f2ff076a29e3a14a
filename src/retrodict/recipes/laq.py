"""LAQ: the latent action quantiser of LAPA; a code is what changed between the features of two frames.

Claim   codes of feature changes are found without labels, and a few labels name them; distractors take them over
Tiny    about 2 minutes a seed on 2 CPU cores: sprites bits_recovered, label_accuracy_64
Paper   Ye et al., Latent Action Pretraining from Videos (LAPA; ICLR 2025)
Run     retrodict train laq --data D --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field

from retrodict import rng
from retrodict.figures.claims import Figure
from retrodict.label.clone import Shape, clone_codes
from retrodict.models.encoder import FrameEncoder
from retrodict.models.frame_world import Mixing
from retrodict.models.latent_action import LatentAction, LatentForward, LatentInverse
from retrodict.models.losses import explaining
from retrodict.nn.conv import patch_for
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import Run

FIGURES = {
    "bits_recovered": Figure("sprites", "bits_recovered", target=1.8, seeds=5),
    "label_accuracy_64": Figure("sprites", "label_accuracy", seeds=5),
    "label_accuracy_64_distractors": Figure("sprites_distractors", "label_accuracy", seeds=5),
    "bits_recovered_distractors": Figure("sprites_distractors", "bits_recovered", seeds=5),
}


UNLABELLED = True  # trains without any label as well


@dataclass(frozen=True)
class Config:
    """Settings of the quantiser, the policy over its codes and the names of the codes."""

    positions: int = 1  # codes per step (paper: 4)
    codes: int = 8  # values of a code (paper: 8)
    code_width: int = 32  # width of a code vector (paper: 32)
    restart_every: int = 20  # steps between restarts of dead codes (paper: 10 to 500, and never after step 5,000)
    pool: str = "changed"  # how the grid of feature changes becomes one vector (paper: a small CNN)
    width: int = 32  # channels of encoder and inverse (paper: 1024)
    depth: int = 1  # 3x3 layers of the encoder and of the inverse (paper: transformers of depth 8)
    world: Mixing = field(default_factory=Mixing)  # of the forward model (paper: attention, 1024, 8)
    policy: Shape = field(default_factory=lambda: Shape(32, 128))  # over codes (own)
    quantise: Fit = field(default_factory=lambda: Fit(900, 64, 2e-3, 0.0))
    clone: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))
    decode: Fit = field(default_factory=lambda: Fit(300, 64, 2e-2))


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(width=8, world=Mixing("conv", 8, 1), policy=Shape(8, 16), quantise=few, clone=few, decode=few)


def tiny() -> Config:
    """The committed settings."""
    return Config()


def paper() -> Config:
    """Published codes, batch and schedule at this net's kind of layers (laq_trainer of the authors' code)."""
    return Config(
        positions=4, width=256, depth=4, world=Mixing("attention", 256, 8), policy=Shape(256, 512),
        quantise=Fit(100_000, 64, 1e-4, 0.0, 0.0, 1.0, 0.5), clone=Fit(100_000, 256, 3e-4),
    )  # fmt: skip


def quantiser(cfg: Config, run: Run) -> LatentAction[LatentForward]:
    """Builds the inverse of feature changes and the forward model that sees the same features, untrained by it."""
    cache = run.data.unlabelled.cache
    patch, one = patch_for(cache.size), cache.view()
    code = {"kind": "nsvq", "positions": cfg.positions, "codes": cfg.codes, "width": cfg.code_width}
    with rng.isolated(run.seed, "quantiser"):
        encoder = FrameEncoder(one, "grid", patch, cfg.width, cfg.depth)
        inverse = LatentInverse(cache.view(2), code, "features", cfg.pool, "grid", patch, cfg.width, cfg.depth, encoder)
        world = LatentForward(one, code, cfg.world.mix, patch, cfg.world.width, cfg.world.depth, encoder)
        return LatentAction(inverse, world, restart_every=cfg.restart_every)


def train(cfg: Config, run: Run) -> System:
    """Quantises the changes of all video, clones the codes, and names them with the labels."""
    model = quantiser(cfg, run)
    model = run.fit("quantiser", model, explaining, run.data.unlabelled.shown(model.view), cfg.quantise)
    return clone_codes(run, model, cfg.policy, cfg.clone, 0, cfg.decode)
