"""Decoding tokens: which are settled when (MaskGIT), and drawing from logits."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from retrodict.errors import UnusableInput


def schedule(tokens: int, passes: int) -> tuple[int, ...]:
    """How many of `tokens` are settled after each pass: floor(n (1 - cos(π i / 2 k))), and all after the last.

    Few at first, when little is known, and at least one a pass. Source: Chang et al., MaskGIT (CVPR 2022), cosine.
    """
    if passes < 1 or tokens < 1:
        raise UnusableInput(f"expected at least one token and one pass; got {tokens} and {passes}")
    passes, settled = min(passes, tokens), 0
    table = []
    for number in range(1, passes + 1):
        open_share = math.cos(math.pi / 2 * number / passes)
        settled = min(max(math.floor(tokens * (1 - open_share)), settled + 1), tokens - (passes - number))
        table.append(settled)
    table[-1] = tokens
    return tuple(table)


def draw(
    logits: Float[Tensor, "*n k"], rng: torch.Generator, temperature: float = 1.0, top: int = 0
) -> Int[Tensor, "*n"]:
    """Draws a token from each row; at temperature 0 the likeliest, with `top` among that many likeliest (0: all)."""
    if temperature < 0:
        raise UnusableInput(f"a temperature is 0 or more; got {temperature}")
    if temperature == 0:
        return logits.argmax(-1)
    if 0 < top < logits.shape[-1]:
        least = logits.topk(top, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return (logits / temperature + gumbel(logits.shape, rng, logits.device)).argmax(-1)


def gumbel(shape: torch.Size | tuple[int, ...], rng: torch.Generator, device: torch.device) -> Float[Tensor, "*n"]:
    """Noise with which the largest of logits plus noise is a draw from them."""
    uniform = torch.rand(shape, generator=rng, device=device).clamp_(1e-9, 1 - 1e-7)
    return -(-uniform.log()).log()


def settle(
    tokens: Int[Tensor, "b n"], logits: Float[Tensor, "b n k"], open_: Tensor, count: int, rng: torch.Generator,
    temperature: float, doubt: float,
) -> tuple[Int[Tensor, "b n"], Tensor]:  # fmt: skip
    """One pass of MaskGIT: draws every open token and settles the surest, until `count` of a row are settled.

    `open_` (b n) marks what is not settled yet; `doubt` scales the Gumbel noise on log confidence by which the surest
    are found. Returns the tokens, and what is still open.
    """
    drawn = torch.where(open_, draw(logits, rng, temperature), tokens)
    sure = logits.log_softmax(-1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    if doubt > 0:
        sure = sure + doubt * gumbel(sure.shape, rng, sure.device)
    sure = sure.masked_fill(~open_, torch.inf)
    surest = sure.topk(count, -1).indices
    return drawn, torch.ones_like(open_).scatter(-1, surest, False)
