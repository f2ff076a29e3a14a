"""Masks: which moments of a sequence a query may look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from retrodict.errors import UnusableInput


@dataclass(frozen=True)
class Mask:
    """A rule over times; a time below 0 is padding that nobody sees.

    `block` times in a row are one moment, whose parts see each other (block-causal: the tokens of a frame). With
    `causal` nothing later is seen; with a `memory` only so many moments before one's own are, and, however long ago,
    the first `sinks` moments (Xiao et al., Efficient streaming language models with attention sinks, ICLR 2024).
    """

    causal: bool = True
    block: int = 1
    memory: int = 0  # 0: all
    sinks: int = 0

    def __post_init__(self) -> None:
        if self.block < 1 or self.memory < 0 or self.sinks < 0 or (self.sinks and not self.memory):
            raise UnusableInput(f"a mask has block >= 1, memory >= 0, and sinks only beside a memory; got {self}")

    def moments(self, times: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
        """The moment that each time belongs to."""
        return torch.div(times, self.block, rounding_mode="floor")

    def seen(self, queries: Int[Tensor, "b q"], keys: Int[Tensor, "b k"]) -> Bool[Tensor, "b q k"]:
        """Which keys each query sees."""
        apart = self.apart(queries, keys)
        seen = (keys >= 0).unsqueeze(1).expand_as(apart)
        if self.causal:
            seen = seen & (apart >= 0)
        if self.memory:
            first = (self.moments(keys) < self.sinks).unsqueeze(1)
            seen = seen & ((apart.abs() <= self.memory) | first)
        return seen

    def apart(self, queries: Int[Tensor, "b q"], keys: Int[Tensor, "b k"]) -> Int[Tensor, "b q k"]:
        """How many moments each key lies before each query."""
        return self.moments(queries).unsqueeze(2) - self.moments(keys).unsqueeze(1)

    @property
    def slots(self) -> int:
        """How many times a cache must keep.

        Raises:
            UnusableInput: without end, or times may see later ones.
        """
        if not self.causal or not self.memory:
            raise UnusableInput("a cache of fixed shape needs a causal mask with a memory")
        return (self.sinks + self.memory) * self.block

    def slot(self, times: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
        """Where in such a cache a time is kept: the first moments stay, the others go round."""
        fixed = self.sinks * self.block
        return torch.where(times < fixed, times, fixed + (times - fixed) % (self.memory * self.block))


FULL = Mask(causal=False)
CAUSAL = Mask()
