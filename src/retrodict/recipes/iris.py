"""IRIS: a world said token by token, and an actor that practises in nothing else.

Claim   an actor that never acted learns the game inside a world model of random play
Tiny    about 5 minutes a seed on a CPU core: catch_return
Paper   Micheli, Alonso and Fleuret, Transformers are Sample-Efficient World Models (ICLR 2023)
Run     retrodict train iris --data D --out RUN --size tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from retrodict import rng
from retrodict.figures.claims import Figure
from retrodict.models.actor_critic import ActorCritic, ThroughTokens, practising
from retrodict.models.next_token_world import NextTokenWorld, saying
from retrodict.models.tokenizers import ConvTokenizer, tokenizing
from retrodict.nn.conv import patch_for
from retrodict.nn.quantize import token_code
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import LATER, Run

FIGURES = {
    "catch_return": Figure("catch", "return", 0, target=0.8),
    "catch_success": Figure("catch", "success", 0),
}


@dataclass(frozen=True)
class Config:
    """Settings of tokenizer, world, and actor-critic."""

    patch: int = 0  # pixels a side of a token, 0: the largest up to 8 that gives 2 a side (paper: 16)
    tokens: int = 128  # values of a token (paper: 512)
    code_width: int = 16  # of a token's vector (paper: 512)
    channels: int = 128  # of the tokenizer (paper: 64)
    actor: int = 32  # channels of the actor (paper: 32)
    width: int = 64  # of the transformer (paper: 256)
    depth: int = 2  # of the transformer (paper: 10)
    heads: int = 4  # of attention (paper: 4)
    memory: int = 4  # frames looked back at (paper: 19)
    dropout: float = 0.0  # in the transformer's inputs (paper: 0.1)
    hidden: int = 64  # of the actor's memory (paper: 512)
    burn: int = 2  # frames that the actor remembers when practice begins (paper: 20)
    horizon: int = 12  # imagined steps (paper: 20)
    discount: float = 0.995  # of a reward, per step (paper: 0.995)
    trace: float = 0.95  # λ of the returns (paper: 0.95)
    entropy: float = 0.03  # weight, beside gains of size 1 (paper: 0.001, beside gains as they are)
    tokenise: Fit = field(default_factory=lambda: Fit(1500, 64, 3e-3, 0.0))
    say: Fit = field(default_factory=lambda: Fit(3000, 32, 2e-3))
    practise: Fit = field(default_factory=lambda: Fit(700, 64, 2e-3, 0.0, clip=10.0))
    levels: tuple[int, ...] = field(default=(), metadata=LATER)  # of tokens of fixed codes (FSQ); none: learnt


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(
        tokens=16, code_width=4, channels=8, actor=8, width=16, depth=1, heads=2, memory=2, hidden=8, burn=1, horizon=2,
        tokenise=few, say=few, practise=few,
    )  # fmt: skip


def tiny() -> Config:
    """The committed settings."""
    return Config()


def paper() -> Config:
    """The published settings for Atari, without the perceptual loss, and offline: all data is recorded before."""
    return Config(
        16, 512, 512, 64, 32, 256, 10, 4, 19, 0.1, 512, 20, 20, entropy=0.001, tokenise=Fit(119_000, 256, 1e-4, 0.0),
        say=Fit(115_000, 64, 1e-4), practise=Fit(110_000, 64, 1e-4, 0.0, clip=10.0),
    )  # fmt: skip


def train(cfg: Config, run: Run) -> System:
    """Tokenises the frames, learns which token follows which, and practises in that."""
    steps = run.data.labelled.rewarded()
    view, space = steps.cache.view(), steps.cache.space
    patch = cfg.patch or patch_for(view.size, 2)
    code = token_code(cfg.tokens, cfg.code_width, cfg.levels)
    with rng.isolated(run.seed, "tokens"):
        tokens = ConvTokenizer(view, code, patch, cfg.channels)
    tokens = run.fit("tokens", tokens, tokenizing, run.data.unlabelled, cfg.tokenise)
    with rng.isolated(run.seed, "world"):
        world = NextTokenWorld(
            tokens, space, cfg.width, cfg.depth, cfg.heads, cfg.memory, outcomes=True, dropout=cfg.dropout
        )
    seen = steps.shown(steps.cache.view(cfg.memory + 2, cfg.memory))
    world = run.fit("world", world, saying, seen, cfg.say)
    with rng.isolated(run.seed, "actor"):
        actor = ActorCritic(view, space, width=cfg.actor, hidden=cfg.hidden)
    dream = partial(
        practising,
        world=world,
        tokenizer=tokens,
        horizon=cfg.horizon,
        discount=cfg.discount,
        trace=cfg.trace,
        entropy=cfg.entropy,
    )
    starts = steps.shown(steps.cache.view(cfg.burn + 1, cfg.burn))
    actor = run.fit("actor", actor, dream, starts, cfg.practise)
    return System(encoder=tokens, forward=world, policy=ThroughTokens(tokens, actor))
