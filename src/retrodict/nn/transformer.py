"""A transformer over space and time whose memory is a tree: what it has seen is kept once, and never read again.

Frames are a grid of tokens; a block looks around within the frame, then back in time at the same cell (Bruce et al.,
Genie, ICML 2024), then through a feed-forward net. With a grid of one cell it is a plain transformer over a sequence.
Time is told by how far two moments lie apart, so that a world may run for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from retrodict.errors import UnusableInput
from retrodict.nn.masks import Mask
from retrodict.tree import Tree, child, leaf

Pair = tuple[Tensor, Tensor]  # keys and values: b g h s e
STRIDE = 8.0  # of a bias in logits: at the others' pace it would take thousands of steps to point anywhere


@dataclass(frozen=True)
class Sight:
    """How queries lie to keys (a number for each relation, from 0), and which of them are seen (None: all)."""

    relation: Int[Tensor, "b s k"]
    seen: Bool[Tensor, "b s k"] | None = None


class Attention(nn.Module):
    """Multi-head attention among groups of tokens, with a learned bias for each of their relations: b g s d -> b g s d.

    A head may so look one cell to the left, or one frame back, whatever is there (Shaw et al. 2018; T5, Raffel 2020).
    """

    def __init__(self, width: int, heads: int, relations: int) -> None:
        super().__init__()
        if width % heads:
            raise UnusableInput(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width, bias=False)
        self.outward = nn.Linear(width, width)
        self.relation = nn.Parameter(torch.zeros(relations, heads))

    def forward(
        self, x: Float[Tensor, "b g s d"], sight: Sight, kept: Pair | None = None
    ) -> tuple[Float[Tensor, "b g s d"], Pair]:
        """Returns what each token finds, and its keys and values; `kept` are those of earlier tokens."""
        queries, keys, values = rearrange(self.inward(x), "b g s (m h e) -> m b g h s e", m=3, h=self.heads)
        mine = (keys, values)
        if kept is not None:
            keys, values = torch.cat([kept[0], keys], 3), torch.cat([kept[1], values], 3)
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self._bias(sight))
        return self.outward(rearrange(found, "b g h s e -> b g s (h e)")), mine

    def _bias(self, sight: Sight) -> Float[Tensor, "b 1 h s k"]:
        bias = STRIDE * self.relation[sight.relation]  # b s k h
        if sight.seen is not None:
            bias = bias.masked_fill(~sight.seen.unsqueeze(-1), -1e9)  # finite: padding that sees nothing stays a number
        return rearrange(bias, "b s k h -> b 1 h s k")


class Block(nn.Module):
    """Attention within the frame, attention in time, a look at the next cells, and a feed-forward net.

    A frame of one cell has neither the first nor the third. The look is a depthwise convolution, by which it is known
    at once what lay beside a cell a moment ago (Chu et al., conditional positional encodings, as in C-ViViT and LAPA).
    """

    around_sight: Tensor

    def __init__(self, grid: tuple[int, int], width: int, heads: int, reach: int) -> None:
        super().__init__()
        rows, columns = grid
        self.grid, many = grid, grid != (1, 1)
        self.around = Attention(width, heads, (2 * rows - 1) * (2 * columns - 1)) if many else None
        self.beside = nn.Conv2d(width, width, 3, padding=1, groups=width) if many else None
        self.register_buffer("around_sight", offsets(rows, columns).unsqueeze(0), persistent=False)
        self.back = Attention(width, heads, 2 * reach + 1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, x: Float[Tensor, "b t n d"], sight: Sight, kept: Pair | None
    ) -> tuple[Float[Tensor, "b t n d"], Pair]:
        """Returns the tokens, and what the attention in time keeps of them."""
        if self.around is not None:
            x = x + self.around(self.norms[0](x), Sight(self.around_sight))[0]
        found, mine = self.back(rearrange(self.norms[1](x), "b t n d -> b n t d"), sight, kept)
        x = x + rearrange(found, "b n t d -> b t n d")
        if self.beside is not None:
            frames = rearrange(x, "b t (y x) d -> (b t) d y x", y=self.grid[0])
            x = x + rearrange(self.beside(frames), "(b t) d y x -> b t (y x) d", b=len(x))
        return x + self.net(self.norms[2](x)), mine


def offsets(rows: int, columns: int) -> Int[Tensor, "n n"]:
    """Numbers the ways in which one cell of a grid lies to another: the same for all pairs with the same offset."""
    y, x = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    down, across = y[:, None] - y + rows - 1, x[:, None] - x + columns - 1
    return down * (2 * columns - 1) + across


class SpaceTime(nn.Module):
    """A stack of blocks under one mask in time: b t n d -> b t n d.

    A cache is a tree of fixed shape: `at` holds the time kept in each slot (-1: none), and each layer its keys and
    values. Nothing depends on how a sequence is cut into calls (up to rounding). Moments more than `reach` apart are
    equally far.
    """

    def __init__(self, grid: tuple[int, int], width: int, depth: int, heads: int, mask: Mask, reach: int = 16) -> None:
        super().__init__()
        self.cells, self.width, self.heads, self.mask, self.reach = grid[0] * grid[1], width, heads, mask, reach
        self.blocks = nn.ModuleList(Block(grid, width, heads, reach) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def empty(self, rows: int, device: torch.device | str = "cpu") -> dict[str, Tree]:
        """A cache that holds nothing."""
        slots = self.mask.slots
        nothing = torch.zeros(rows, self.cells, self.heads, slots, self.width // self.heads, device=device)
        layers: list[Tree] = [(nothing.clone(), nothing.clone()) for _ in self.blocks]
        return {"at": torch.full((rows, slots), -1, device=device), "layers": layers}

    def forward(
        self, x: Float[Tensor, "b t n d"], times: Int[Tensor, "b t"], cache: Tree = None, draft: bool = False
    ) -> tuple[Float[Tensor, "b t n d"], dict[str, Tree]]:
        """Returns the tokens' features, and a cache of these tokens alone (not of a fixed shape; see `extend`).

        A `draft` sees what is kept from before its own moment, and of the new tokens its own moment alone: so all
        frames of a clip can be drafted at once after the clip itself was taken in, each as if it came next.
        """
        at, layers = _cache(cache)
        sight = self._sight(times, at, draft)
        new: list[Tree] = []
        for number, block in enumerate(self.blocks):
            x, mine = block(x, sight, None if layers is None else layers[number])
            new.append(mine)
        return self.norm(x), {"at": times, "layers": new}

    def _sight(self, times: Tensor, at: Tensor | None, draft: bool) -> Sight:
        mask = self.mask
        seen, apart = mask.seen(times, times), mask.apart(times, times)
        if draft:
            seen = seen & (apart == 0)
        if at is not None:
            before, far = mask.seen(times, at), mask.apart(times, at)
            if draft:
                before = before & (far > 0)
            seen, apart = torch.cat([before, seen], 2), torch.cat([far, apart], 2)
        return Sight(apart.clamp(-self.reach, self.reach) + self.reach, seen)

    def extend(self, cache: Tree, new: Tree) -> dict[str, Tree]:
        """Returns a cache of fixed shape that holds the new tokens too; what nobody will see any more gives way."""
        at, layers = _cache(cache)
        times, pairs = _cache(new)
        assert at is not None
        assert layers is not None
        assert times is not None
        assert pairs is not None
        slots = self.mask.slots
        last = torch.maximum(at.amax(1), times.amax(1)).unsqueeze(1)
        fixed = self.mask.sinks * self.mask.block
        stays = (times >= 0) & ((times < fixed) | (times > last - self.mask.memory * self.mask.block))
        slot = torch.where(stays, self.mask.slot(times), slots)  # one more slot takes what is dropped
        kept: list[Tree] = [
            tuple(_placed(old, fresh, slot[:, None, None, :, None], 3) for old, fresh in zip(pair, mine, strict=True))
            for pair, mine in zip(layers, pairs, strict=True)
        ]
        return {"at": _placed(at, times, slot, 1), "layers": kept}


def _placed(old: Tensor, new: Tensor, slot: Tensor, axis: int) -> Tensor:
    spare = old.narrow(axis, 0, 1)
    return torch.cat([old, spare], axis).scatter(axis, slot.expand_as(new), new).narrow(axis, 0, old.shape[axis])


def _cache(cache: Tree) -> tuple[Tensor | None, list[Pair] | None]:
    if cache is None:
        return None, None
    layers = child(cache, "layers")
    assert isinstance(layers, list | tuple)
    return leaf(cache, "at"), list(layers)  # type: ignore[arg-type]
