"""LAOM: a latent action without a quantiser explains features of the next frame, and labels train it from the start.

Claim   where other things move too, a few labels during training make the latent action the agent's
Tiny    about 3 minutes a seed on 2 CPU cores: sprites with distractors label_accuracy_64_distractors
Paper   Nikulin et al., Latent Action Learning Requires Supervision in the Presence of Distractors (LAOM; ICML 2025)
Run     retrodict train laom --data D --out RUN --size tiny
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from functools import partial

import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.figures.claims import Figure
from retrodict.label.clone import Shape, clone
from retrodict.label.crossfit import alarms, calibrate, cross_fit
from retrodict.models.encoder import FrameEncoder, frozen_encoder
from retrodict.models.frame_world import Mixing
from retrodict.models.latent_action import FeatureForward, LabelledInverse, LatentAction, LatentInverse
from retrodict.models.losses import labelled
from retrodict.nn.conv import patch_for
from retrodict.roles import System, View
from retrodict.run.checkpoint import load_system
from retrodict.run.loop import Fit
from retrodict.run.run import Run

FIGURES = {
    "label_accuracy_64_distractors": Figure("sprites_distractors", "label_accuracy", target=0.80, seeds=5),
    "bits_recovered_distractors": Figure("sprites_distractors", "bits_recovered", seeds=5),
}


@dataclass(frozen=True)
class Config:
    """Settings of the latent action, its label head and cloning."""

    ahead: int = 1  # the later frame of a pair lies 1 to this many steps ahead (paper: 10)
    latent: int = 16  # numbers of a latent action (paper: 8,192)
    beta: float = 0.0  # price per nat of a Gaussian latent, 0: no bottleneck (paper: 0)
    features: str = ""  # folder of a saved system whose features are input and target; none: own ones (paper: none)
    follow: float = 0.01  # share by which the target follows the encoder each step (paper: 0.001)
    weight: float = 1.0  # of the labels beside the next frame (paper: 0.001, of a squared error)
    few: int = 32  # labelled rows per batch, beside fit.batch rows of video (paper: 128)
    dropout: float = 0.2  # before the label head (own)
    pool: str = "changed"  # how the grid of feature changes becomes one vector (paper: flatten)
    width: int = 32  # channels of encoder and inverse (paper: 96, 192, 192)
    depth: int = 1  # 3x3 layers of the encoder and of the inverse (paper: residual stacks)
    world: Mixing = field(default_factory=lambda: Mixing(depth=2))  # of the forward model (paper: dense, 1024, 3)
    policy: Shape = field(default_factory=lambda: Shape(32, 128))  # of cloning (own)
    fit: Fit = field(default_factory=lambda: Fit(900, 64, 2e-3))
    clone: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))


def micro() -> Config:
    """Settings for contract tests."""
    some = Fit(8, 16)
    return Config(ahead=2, width=8, world=Mixing("conv", 8, 1), policy=Shape(8, 16), few=16, fit=some, clone=some)


def tiny() -> Config:
    """The committed settings."""
    return Config()


def paper() -> Config:
    """Published pair, batch and rates at this net's kind of layers (the label weight is that of a likelihood here)."""
    return Config(
        ahead=10, latent=8192, follow=0.001, weight=0.01, few=128, dropout=0.0, pool="flatten", width=96, depth=4,
        world=Mixing("conv", 1024, 3), policy=Shape(96, 1024), fit=Fit(100_000, 512, 1e-4, 0.0, 0.03),
        clone=Fit(100_000, 512, 1e-4, 0.0, 0.03),
    )  # fmt: skip


def latent_action(cfg: Config, run: Run, name: str) -> LatentAction[FeatureForward]:
    """Builds the inverse with its label head, and the forward model of features; the name seeds the weights."""
    cache = run.data.unlabelled.cache
    patch, one = patch_for(cache.size), cache.view()
    kind = {"kind": "gaussian", "beta": cfg.beta} if cfg.beta else {"kind": "none"}
    with rng.isolated(run.seed, name):
        if cfg.features:
            encoder = frozen_encoder(load_system(cfg.features))
        else:
            encoder = FrameEncoder(one, "grid", patch, cfg.width, cfg.depth)
        inverse = LatentInverse(
            cache.view(2), {**kind, "width": cfg.latent}, "features", cfg.pool,
            "grid", patch, cfg.width, cfg.depth, encoder,
        )  # fmt: skip
        world = FeatureForward(one, cfg.latent, encoder, cfg.follow, *astuple(cfg.world))
        head = LabelledInverse(inverse, run.data.labelled.cache.space, dropout=cfg.dropout)
    return LatentAction(inverse, world, head)


def together(
    model: LatentAction[FeatureForward], clips: Mapping[str, Clip], noise: torch.Generator, weight: float
) -> dict[str, Tensor]:
    """Error of the next frame's features, seen in pairs of any distance, plus what the labels say of the latent."""
    video = clips["video"]
    assert video.frames is not None
    assert video.segment is not None
    real = (video.segment[:, 1:] >= 0).sum(1)  # frames of the episode ahead; those after its end only repeat the last
    steps = 1 + (torch.rand(len(real), generator=noise, device=real.device) * real.clamp_min(1)).long()
    far = video.frames[torch.arange(len(steps), device=steps.device), steps]
    error, price, _ = model.explain(video.frames[:, :2], far)
    likelihood = labelled(model.head, clips["few"], noise)["all"]
    return {"all": error + price + weight * likelihood}


def fitted(cfg: Config, run: Run, few: Steps, name: str) -> LatentAction[FeatureForward]:
    """Trains on all video and these labels at once."""
    model = latent_action(cfg, run, name)
    video = run.data.unlabelled.shown(View(cfg.ahead + 1))
    data = {"video": (video, cfg.fit.batch), "few": (few.shown(model.view), cfg.few)}
    return run.fit(name, model, partial(together, weight=cfg.weight), data, cfg.fit)


def train(cfg: Config, run: Run) -> System:
    """Trains the latent action together with the labels, calibrates, labels all video, and clones the labels."""
    few = run.data.labelled
    model = fitted(cfg, run, few, "model")
    head, evidence = model.head, {}
    if len(few) > 1:
        belief, truth, _ = cross_fit(run, lambda rest, name: fitted(cfg, run, rest, f"model/{name}").head)
        evidence = calibrate(head, belief, truth)
    labels = run.label("labels", head, run.data.unlabelled)
    policy = clone(run, labels, head.space, cfg.policy, cfg.clone)
    return System(
        encoder=model.world.target, inverse=head, policy=policy, about={"alarms": alarms(run, model), **evidence}
    )
