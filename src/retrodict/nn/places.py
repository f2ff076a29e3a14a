"""Attention by place: what was seen is kept where it was seen, and found from wherever one has gone to since.

Every token has a place in a plane. Features are rotated by it (Su et al., RoFormer, 2021), so that what a head finds
depends on how far apart two places lie. Who moves the places decides what they mean: see `models.recall_world`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from retrodict.errors import UnusableInput
from retrodict.nn.masks import Mask
from retrodict.nn.transformer import Attention, Pair, Sight, SpaceTime, offsets
from retrodict.tree import Tree, child, leaf

NEAREST, FARTHEST = 5.0, 60.0  # cells in which the fastest and the slowest rotation come round


def turned(x: Float[Tensor, "b h s e"], places: Float[Tensor, "b s 2"]) -> Float[Tensor, "b h s e"]:
    """Rotates pairs of features by the row and the column of their place, at rates that form a geometric series."""
    series = torch.linspace(0, 1, x.shape[-1] // 4, device=x.device)
    rates = 2 * math.pi / NEAREST * (NEAREST / FARTHEST) ** series
    angles = (places.unsqueeze(-1) * rates).flatten(-2).unsqueeze(1)  # b 1 s e/2
    (first, second), cos, sin = x.chunk(2, -1), angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Looking(nn.Module):
    """Attention within the frame, attention to all that is kept, feed-forward net.

    Beside what is kept lies an answer of zeros, for where nothing that fits was seen.
    """

    around_sight: Tensor

    def __init__(self, grid: tuple[int, int], width: int, heads: int) -> None:
        super().__init__()
        if width % (4 * heads):
            raise UnusableInput(f"{heads} heads of two rotated axes need a width that {4 * heads} divides; got {width}")
        self.heads = heads
        self.around = Attention(width, heads, (2 * grid[0] - 1) * (2 * grid[1] - 1))
        self.register_buffer("around_sight", offsets(*grid).unsqueeze(0), persistent=False)
        self.asking, self.keeping = nn.Linear(width, width), nn.Linear(width, 2 * width)
        nn.init.constant_(self.asking.bias, 2.0)  # at first what lies near is found, whatever it is
        nn.init.ones_(self.keeping.bias[:width])
        self.nothing = nn.Parameter(torch.zeros(heads, 1, width // heads))
        self.outward = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def keep(self, x: Float[Tensor, "b t n d"], places: Float[Tensor, "b t n 2"]) -> Pair:
        """Keys and values of frames (b n h t e), in the form in which `SpaceTime` keeps them."""
        told = self.keeping(self.norms[0](x))
        keys, values = rearrange(told, "b t n (m h e) -> m b h (t n) e", m=2, h=self.heads)
        parts = (turned(keys, places.flatten(1, 2)), values)
        keys, values = (rearrange(part, "b h (t n) e -> b n h t e", t=x.shape[1]) for part in parts)
        return keys, values

    def forward(
        self, x: Float[Tensor, "b t n d"], places: Float[Tensor, "b t n 2"], kept: Pair, seen: Bool[Tensor, "b 1 q k"]
    ) -> Float[Tensor, "b t n d"]:
        """Returns the tokens with what they found; the first that is `seen` is the answer of zeros."""
        x = x + self.around(self.norms[1](x), Sight(self.around_sight))[0]
        asked = rearrange(self.asking(self.norms[2](x)), "b t n (h e) -> b h (t n) e", h=self.heads)
        keys, values = (rearrange(part, "b n h t e -> b h (t n) e") for part in kept)
        nothing = self.nothing.expand(len(x), -1, -1, -1)
        keys, values = torch.cat([nothing, keys], 2), F.pad(values, (0, 0, 1, 0))
        found = F.scaled_dot_product_attention(turned(asked, places.flatten(1, 2)), keys, values, attn_mask=seen)
        x = x + self.outward(rearrange(found, "b h (t n) e -> b t n (h e)", t=x.shape[1]))
        return x + self.net(self.norms[3](x))  # type: ignore[no-any-return]


class Places(SpaceTime):
    """A stack of blocks that look back at all tokens of the frames before, each at its place: b t n d -> b t n d.

    Of a frame that is taken in, only the keys and values of its tokens as they are remain, in a cache of fixed shape:
    a frame costs the same after a minute as after an hour, and of what it was drafted from nothing is computed twice.
    """

    def __init__(self, grid: tuple[int, int], width: int, depth: int, heads: int, mask: Mask) -> None:
        super().__init__(grid, width, 0, heads, mask)
        self.blocks = nn.ModuleList(Looking(grid, width, heads) for _ in range(depth))

    def forward(
        self, x: Float[Tensor, "b t n d"], times: Int[Tensor, "b t"], cache: Tree = None, draft: bool = False,
        places: Tensor | None = None,
    ) -> tuple[Float[Tensor, "b t n d"], dict[str, Tree]]:  # fmt: skip
        """Takes frames in, at `places` (b t n 2): returns them as they are, and a cache of them alone (see `extend`).

        A `draft` sees itself and what is kept from before its own moment; its features are returned.
        """
        assert places is not None, "every token has its place"
        if not draft:
            return x, {"at": times, "layers": [block.keep(x, places) for block in self.blocks]}  # type: ignore[operator]
        at = leaf(cache, "at")
        before = self.mask.seen(times, at) & (self.mask.apart(times, at) > 0)
        seen = before.repeat_interleave(self.cells, 1).repeat_interleave(self.cells, 2)
        seen = F.pad(seen, (1, 0), value=True).unsqueeze(1)
        for block, kept in zip(self.blocks, child(cache, "layers"), strict=True):  # type: ignore[arg-type]
            x = block(x, places, kept, seen)
        return self.norm(x), {"at": times, "layers": []}
