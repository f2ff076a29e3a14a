"""LAPO: codes that explain the next frame are found without labels, cloned, and decoded with a few labels.

Claim   with codes that recover most bits of the action, few labels decode a policy that needs none to train
Tiny    about 3 minutes a seed on 2 CPU cores: sprites bits_recovered, probe_accuracy_64, success_64
Paper   Schmidt and Jiang, Learning to Act without Actions (ICLR 2024)
Run     retrodict train lapo --data D --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field

from retrodict import rng
from retrodict.data.cache import Cache
from retrodict.figures.claims import Figure
from retrodict.label.clone import Shape, clone_codes
from retrodict.models.latent_action import DECAYED, LatentAction, LatentForward, LatentInverse
from retrodict.models.losses import explaining
from retrodict.nn.conv import patch_for
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import Run

FIGURES = {
    "bits_recovered": Figure("sprites", "bits_recovered", target=1.8, seeds=5),
    "probe_accuracy_64": Figure("sprites", "probe_accuracy", target=0.90, seeds=5),
    "success_64": Figure("sprites", "success", target=0.85, seeds=5),
    "texture_agreement": Figure("sprites", "texture_agreement", seeds=5),
    "label_accuracy_64_distractors": Figure("sprites_distractors", "label_accuracy", seeds=5),
    "bits_recovered_distractors": Figure("sprites_distractors", "bits_recovered", seeds=5),
    "babyai_bits_recovered": Figure("babyai", "bits_recovered", preset="babyai"),
    "babyai_probe_accuracy_64": Figure("babyai", "probe_accuracy", preset="babyai"),
    "babyai_success_64": Figure("babyai", "success", preset="babyai"),
}


UNLABELLED = True  # trains without any label as well


@dataclass(frozen=True)
class Config:
    """Settings of the latent action model, the latent policy and the decoder."""

    before: int = 0  # frames before the present one that both models see (paper: 1)
    positions: int = 1  # codes per step (paper: 8)
    codes: int = 8  # values of a code (paper: 64)
    code_width: int = 16  # width of a code vector (paper: 16)
    books: int = 1  # codebooks shared among the positions (paper: 2)
    decay: float = 0.98  # of the codebook averages (paper: 0.999)
    commitment: float = 0.25  # weight of the commitment loss (paper: 0.05)
    restart_every: int = 40  # steps between restarts of dead codes (own)
    # no restarts after this step, so that codes settle; later while the rate has not decayed (own)
    restart_until: int = 700
    inputs: str = "difference"  # of the inverse (paper: frames)
    pool: str = "changed"  # of the inverse (paper: flatten)
    kind: str = "grid"  # front of the inverse (paper: impala)
    mix: str = "conv"  # of the forward model (paper: U-Net)
    width: int = 32  # channels of the inverse (paper: 64, 128, 128)
    depth: int = 2  # 3x3 layers of the inverse after the patches (own)
    forward_width: int = 48  # channels of the forward model (paper: 24 to 768)
    forward_depth: int = 3  # layers of the forward model (paper: 5 down, 6 up)
    policy_pool: str = "flatten"  # of the latent policy
    hidden: int = 128  # of the latent policy
    decoder: int = 0  # width of the decoder's hidden layer, 0: a table (paper: 128, 128)
    world: Fit = field(default_factory=lambda: Fit(900, 64, 2e-3, decay=0.0))
    clone: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))
    decode: Fit = field(default_factory=lambda: Fit(300, 64, 2e-2, decay=1e-2))


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(width=8, depth=1, forward_width=8, forward_depth=1, hidden=16, world=few, clone=few, decode=few)


def tiny() -> Config:
    """The committed settings."""
    return Config()


def babyai() -> Config:
    """For views that move: whole frames in, and a forward model in which a patch may look anywhere."""
    long = Fit(1000, 64, 2e-3, decay=0.0)
    return Config(inputs="both", pool="flatten", mix="attention", world=long, restart_until=800)


def paper() -> Config:
    """The published settings (config.yaml of the authors' code)."""
    return Config(
        before=1, positions=8, codes=64, code_width=16, books=2, decay=0.999, commitment=0.05, restart_until=0,
        inputs="frames", pool="flatten", kind="impala", width=64, forward_width=256, forward_depth=6, hidden=256,
        decoder=128, world=Fit(50_000, 128, 3e-4, 0.0, 0.001, 0.01, 2.0), clone=Fit(60_000, 128, 2e-4, 0.0, 1 / 60),
        decode=Fit(2_000, 128, 3e-4),
    )  # fmt: skip


def latent_action(cfg: Config, cache: Cache) -> LatentAction[LatentForward]:
    """Builds the inverse and the forward model around one codebook."""
    patch = patch_for(cache.size)
    code = {
        "kind": "vq", "positions": cfg.positions, "codes": cfg.codes, "width": cfg.code_width, "books": cfg.books,
        "decay": cfg.decay, "commitment": cfg.commitment,
    }  # fmt: skip
    inverse = LatentInverse(
        cache.view(cfg.before + 2, cfg.before), code, cfg.inputs, cfg.pool, cfg.kind, patch,
        cfg.width, cfg.depth,
    )  # fmt: skip
    world = LatentForward(
        cache.view(cfg.before + 1, cfg.before), code, cfg.mix, patch, cfg.forward_width,
        cfg.forward_depth,
    )  # fmt: skip
    settle = min(DECAYED, cfg.world.rate_at(cfg.restart_until) / cfg.world.rate)
    return LatentAction(inverse, world, None, cfg.restart_every, settle)


def train(cfg: Config, run: Run) -> System:
    """Explains the video by codes (eq. 2), clones the codes (eq. 3), and decodes them with the labels."""
    video = run.data.unlabelled
    with rng.isolated(run.seed, "model"):
        model = latent_action(cfg, video.cache)
    model = run.fit("model", model, explaining, video.shown(model.view), cfg.world)
    shape = Shape(cfg.width, cfg.hidden, cfg.policy_pool, cfg.depth)
    return clone_codes(run, model, shape, cfg.clone, cfg.decoder, cfg.decode)
