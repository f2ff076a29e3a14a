"""Actions as vectors beside the tokens of frames: one for each segment, with one of its own for what is not known."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from retrodict.segments import GAUSSIAN, Segment, normaliser
from retrodict.spaces import ActionSpace


class Letters(nn.Module):
    """Reads a short text, given as bytes padded with -1: triples of letters, the strongest of each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(257, width)
        self.triples = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Linear(width, width)

    def forward(self, text: Float[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Returns one vector per text."""
        seen = self.letters((text + 1).long().clamp(0, 256)).transpose(1, 2)
        return self.out(torch.relu(self.triples(seen)).amax(-1))  # type: ignore[no-any-return]


class ActionTokens(nn.Module):
    """Embeds each segment of an action: (b k a) -> (b k segments d)."""

    def __init__(self, space: ActionSpace, width: int) -> None:
        super().__init__()
        self.space, self.count = space, len(space.segments)
        self.unknown = nn.Parameter(torch.randn(self.count, width) * 0.02)
        self.readers = nn.ModuleList(_reader(segment, width) for segment in space.segments)

    def forward(self, actions: Float[Tensor, "b k a"], known: Bool[Tensor, "b k s"]) -> Float[Tensor, "b k s d"]:
        """Returns a vector for each segment; where one is not known, as an empty text is not, the one that says so."""
        vectors = []
        for (segment, columns, _), reader in zip(self.space.slices(), self.readers, strict=True):
            value = actions[..., columns]
            if segment.kind in GAUSSIAN:
                center, scale = normaliser(segment, value)
                value = (value - center) / scale
            vectors.append(reader(value.flatten(0, 1)).view(*value.shape[:2], -1))
        told = (known & ~self.silent(actions)).unsqueeze(-1)
        return torch.where(told, torch.stack(vectors, 2), self.unknown)

    def silent(self, actions: Float[Tensor, "*n a"]) -> Bool[Tensor, "*n s"]:
        """Which segments are texts without a letter."""
        empty = [
            (actions[..., columns] < 0).all(-1) if segment.kind == "text" else torch.zeros_like(actions[..., 0]).bool()
            for segment, columns, _ in self.space.slices()
        ]
        return torch.stack(empty, -1)


def _reader(segment: Segment, width: int) -> nn.Module:
    if segment.kind == "text":
        return Letters(width)
    if segment.kind in GAUSSIAN:
        return nn.Sequential(nn.Linear(segment.width, width), nn.GELU(), nn.Linear(width, width))
    return nn.Linear(segment.width, width)
