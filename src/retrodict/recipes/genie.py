"""Genie: a world that is played by codes which were found in video alone: tokens, latent actions, MaskGIT dynamics.

Claim   pressing one code has one effect, and a few labels tie the codes to real keys
Tiny    3 to 5 minutes a seed on a CPU core (BabyAI 9 to 13, the maze 16): sprites effect_consistency,
        judged_controllability
Paper   Bruce et al., Genie: Generative Interactive Environments (ICML 2024)
Run     retrodict train genie --data D --out RUN --size tiny

On the maze the mouse is five pixels of 4,096: finer latent actions tell its moves apart, tokens that weigh what moves
keep it, and dynamics whose like tokens begin alike heed the codes, if less than on the others. Tokens limit it: a judge
reads less than half of the moves off real next frames that went through them (`encoded`), as all of the picture changes
a little. So cells whose token stays keep their pixels, and only what changes is drawn. Tried on one seed of other
levels, which is no committed result, and no better in the same time: tokens of 4 pixels, which are four times as many
(learnt ones, and the nearest of 1,024 and 2,048 patches), tokens of fixed codes, and more weight for what moves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.errors import UnknownName, UnusableInput
from retrodict.figures.claims import Figure
from retrodict.label.clone import Shape, clone_codes
from retrodict.models import tokenizers
from retrodict.models.frame_world import Mixing
from retrodict.models.latent_action import LatentAction, LatentForward, LatentInverse, nearest
from retrodict.models.losses import explaining
from retrodict.models.token_world import MaskedWorld, filling_in
from retrodict.nn.conv import patch_for
from retrodict.nn.quantize import token_code
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import LATER, Run
from retrodict.spaces import ActionSpace

FIGURES = {
    "effect_consistency": Figure("sprites", "effect_consistency", 200, target=0.9),
    "judged_controllability": Figure("sprites", "judged_controllability", 200, target=0.9),
    "delta_psnr": Figure("sprites", "delta_psnr", 200),
    "drift": Figure("sprites", "drift", 200),
    "bits_recovered": Figure("sprites", "bits_recovered", 200),
    "success_200": Figure("sprites", "success", 200),
    "babyai_bits_recovered": Figure("babyai", "bits_recovered", 200, "babyai"),
    "babyai_delta_psnr": Figure("babyai", "delta_psnr", 200, "babyai"),
    "babyai_judged_controllability": Figure("babyai", "judged_controllability", 200, "babyai"),
    "babyai_drift": Figure("babyai", "drift", 200, "babyai"),
    "babyai_success_200": Figure("babyai", "success", 200, "babyai"),
    "maze_bits_recovered": Figure("maze", "bits_recovered", 200, "maze"),
    "maze_delta_psnr": Figure("maze", "delta_psnr", 200, "maze"),
    "maze_judged_controllability": Figure("maze", "judged_controllability", 200, "maze"),
    "maze_drift": Figure("maze", "drift", 200, "maze"),
}

UNLABELLED = True  # trains without any label as well


@dataclass(frozen=True)
class Tokens:
    """Settings of the tokenizer: `patches` that were seen, a `conv` net, or `video`, a net over space and time."""

    kind: str = "patches"  # (paper: video)
    patch: int = 0  # pixels a side, 0: the largest up to 8 that gives 7 a side (paper: 4)
    codes: int = 256  # values of a token (paper: 1024)
    apart: float = 4.0  # root mean squared distance of two patches of the book, in bytes
    frames: int = 1  # seen at once (paper: 16)
    width: int = 64  # of the net (paper: 512)
    depth: int = 2  # of encoder and decoder each (paper: 8)


@dataclass(frozen=True)
class Dynamics:
    """Settings of the MaskGIT dynamics."""

    width: int = 64  # of the transformer (paper: 512)
    depth: int = 3  # blocks (paper: 12)
    heads: int = 4  # of attention (paper: 8)
    memory: int = 1  # frames looked back at (paper: 15)
    passes: int = 6  # to fill in a frame (paper: 25)
    temperature: float = 0.7  # of the draw (paper: 2)


@dataclass(frozen=True)
class Config:
    """Settings of tokenizer, latent actions, dynamics, and the policy over codes."""

    tokens: Tokens = field(default_factory=Tokens)  # of frames
    codes: int = 6  # latent actions (paper: 8, and 6 for CoinRun)
    code_width: int = 16  # of a latent action's vector (paper: 32)
    last_steps: bool = False  # whether latent actions also learn from the last step of each episode (paper: yes)
    inputs: str = "difference"  # of the latent action model (paper: frames)
    pool: str = "changed"  # of the latent action model
    width: int = 32  # channels of the latent action model (paper: 512)
    depth: int = 2  # layers of the latent action model (paper: 8)
    decoder: Mixing = field(default_factory=Mixing)  # of the latent action model, thrown away after it
    dynamics: Dynamics = field(default_factory=Dynamics)  # of tokens, given codes
    policy: Shape = field(default_factory=lambda: Shape(32, 128))  # over codes
    tokenise: Fit = field(default_factory=lambda: Fit(200, 64))
    explain: Fit = field(default_factory=lambda: Fit(900, 64, 2e-3, 0.0))
    fill: Fit = field(default_factory=lambda: Fit(600, 16, 3e-3))
    clone: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))
    decode: Fit = field(default_factory=lambda: Fit(300, 64, 2e-2))
    action_patch: int = field(default=0, metadata=LATER)  # pixels a side, 0: the largest up to 8 that gives 7 a side
    moving: float = field(default=0.0, metadata=LATER)  # how much more what moves weighs in `conv` tokens (own)
    changing: float = field(default=0.0, metadata=LATER)  # how much more tokens that change weigh in the dynamics (own)
    alike: bool = field(default=False, metadata=LATER)  # whether like tokens begin alike in the dynamics (own)
    keeps: bool = field(default=False, metadata=LATER)  # whether cells whose token stays keep their pixels (own)
    levels: tuple[int, ...] = field(default=(), metadata=LATER)  # of tokens of fixed codes (FSQ); none: learnt


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(
        Tokens(codes=16), 8, 8, width=8, depth=1, decoder=Mixing("conv", 8, 1), dynamics=Dynamics(16, 1, 2, 2, 2),
        policy=Shape(8, 16), tokenise=few, explain=few, fill=few, clone=few, decode=few,
    )  # fmt: skip


def tiny() -> Config:
    """The committed settings."""
    return Config()


def babyai() -> Config:
    """For views that move: whole frames in, and latent actions that may look anywhere."""
    return Config(
        inputs="both", pool="flatten", decoder=Mixing("attention"), dynamics=Dynamics(96, 4, memory=2),
        explain=Fit(1000, 64, 2e-3, 0.0), fill=Fit(1500, 16, 2e-3),
    )  # fmt: skip


def maze() -> Config:
    """For textured video in which little moves: a learned tokenizer that weighs it, and finer latent actions."""
    return Config(
        Tokens("conv", 8, 1024, width=64), 8, tokenise=Fit(5000, 16, 3e-3, 0.0), dynamics=Dynamics(temperature=0.3),
        explain=Fit(1500, 64, 2e-3, 0.0), fill=Fit(2600, 16, 4e-3, warmup=0.05, floor=0.2),
        clone=Fit(300, 64, 2e-3), action_patch=4, moving=0.5, changing=3.0, alike=True, keeps=True,
    )  # fmt: skip


def paper() -> Config:
    """The published settings of the CoinRun study, at this latent action model's kind of layers."""
    long = Fit(200_000, 36, 3e-5, 1e-4, 0.025, 0.1)
    return Config(
        Tokens("video", 4, 1024, frames=16, width=512, depth=8), 6, 32, True, "frames", "flatten", 512, 8,
        Mixing("attention", 512, 8), Dynamics(512, 12, 8, 15, 25, 2.0), Shape(256, 512), long, long, long,
        Fit(100_000, 256, 3e-4),
    )  # fmt: skip


def tokenizer(cfg: Config, run: Run) -> tokenizers.Tokenizer:
    """Fits the tokenizer to the video.

    Raises:
        UnknownName: no such kind.
        UnusableInput: tokens of another kind than `conv` are to weigh what moves, or patches to have levels.
    """
    video, own, fit = run.data.unlabelled, cfg.tokens, cfg.tokenise
    cache, patch = video.cache, own.patch or patch_for(video.cache.size)
    view = cache.view(own.frames, own.frames - 1)
    if cfg.moving and own.kind != "conv":
        raise UnusableInput(f"only `conv` tokens weigh what moves; set moving to 0 for tokens of kind {own.kind}")
    if own.kind == "patches":
        if cfg.levels:
            raise UnusableInput("patches are the codes of tokens of kind patches; set levels for `conv` or `video`")
        book = tokenizers.PatchTokenizer(view, patch, own.codes, own.apart)
        return run.loop("tokens", book, tokenizers.learning_patches, fit.steps, video.shown(view), fit.batch)
    code = token_code(own.codes, 32, cfg.levels)
    learned: tokenizers.LearnedTokenizer
    with rng.isolated(run.seed, "tokens"):
        if own.kind == "conv":
            learned = tokenizers.ConvTokenizer(view, code, patch, own.width, own.depth, moving=cfg.moving)
        elif own.kind == "video":
            learned = tokenizers.VideoTokenizer(view, code, patch, own.width, own.depth)
        else:
            raise UnknownName("kind of tokenizer", own.kind, ["patches", "conv", "video"])
    seen = cache.view(2) if cfg.moving else view  # what moves is seen in two frames
    return run.fit("tokens", learned, tokenizers.tokenizing, video.shown(seen), fit)


def latent_action(cfg: Config, run: Run) -> LatentAction[LatentForward]:
    """Finds the codes that explain the next frame.

    What ends an episode often looks like no action (reaching a goal that vanishes), so that a spare code comes to mean
    it, whatever led there. Without those steps all codes are actions; `coded` says which of them the last steps were.
    """
    cache = run.data.unlabelled.cache
    patch = cfg.action_patch or patch_for(cache.size)
    code = {"kind": "vq", "positions": 1, "codes": cfg.codes, "width": cfg.code_width}
    with rng.isolated(run.seed, "actions"):
        inverse = LatentInverse(cache.view(2), code, cfg.inputs, cfg.pool, "grid", patch, cfg.width, cfg.depth)
        explains = LatentForward(cache.view(), code, cfg.decoder.mix, patch, cfg.decoder.width, cfg.decoder.depth)
        model = LatentAction(inverse, explains)
    video = run.data.unlabelled if cfg.last_steps else run.data.unlabelled.without_last()
    return run.fit("actions", model, explaining, video.shown(inverse.view), cfg.explain)


def coded(cfg: Config, run: Run, actions: LatentAction[LatentForward]) -> Steps:
    """The code of every step; of last steps, from which none was learnt, the one that foretells what came."""
    codes = run.label("codes", actions.inverse, run.data.unlabelled)
    if cfg.last_steps:
        return codes
    last = codes.only(np.flatnonzero(codes.index + 1 == codes.cache.last[codes.index]))
    found = run.map("last codes", partial(nearest, world=actions.world), last, uses=(actions,))["actions"].numpy()
    values = {name: codes.columns[name][codes.index] for name in ("actions", "source", "confidence")}
    values["actions"][np.isin(codes.index, last.index)] = found
    digest = hashlib.sha256(found.tobytes()).hexdigest()[:16]
    return codes.with_actions(values["actions"], values["source"], values["confidence"], digest)


def dynamics(
    cfg: Config, run: Run, tokens: tokenizers.Tokenizer, codes: Steps, space: ActionSpace, stage: str = "dynamics"
) -> MaskedWorld:  # fmt: skip
    """Learns which tokens follow which, given the codes, or other actions.

    A clip begins one frame before those that are looked back at: they bear their codes, then, as when it is played.
    """
    own = cfg.dynamics
    with rng.isolated(run.seed, "dynamics"):
        size = (own.width, own.depth, own.heads, own.memory)
        world = MaskedWorld(
            tokens, space, *size, passes=own.passes, temperature=own.temperature, alike=cfg.alike, keeps=cfg.keeps
        )
    seen = codes.shown(codes.cache.view(own.memory + 2, own.memory))
    return run.fit(stage, world, partial(filling_in, changing=cfg.changing), seen, cfg.fill)


def train(cfg: Config, run: Run) -> System:
    """Tokens, latent actions, dynamics; then the codes are cloned and named with the labels."""
    tokens = tokenizer(cfg, run)
    actions = latent_action(cfg, run)
    codes = coded(cfg, run, actions)
    world = dynamics(cfg, run, tokens, codes, actions.inverse.space)
    system = clone_codes(run, actions, cfg.policy, cfg.clone, 0, cfg.decode, codes)
    return replace(system, encoder=tokens, forward=world)
