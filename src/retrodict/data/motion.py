"""Motion: what optical flow between neighbouring frames says of every step, without labels and without training.

It is measured on small frames, so that an episode costs little more than its decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict.data.cache import piece_of, resize
from retrodict.data.schema import Episodes
from retrodict.nn.conv import normalise
from retrodict.nn.flow import optical_flow

SIDE, LEAST, WHOLE = 48, 28, 4  # pixels of a small frame: most a side, fewest a side, and what sides are multiples of
CHANGED = 4.0  # grey levels of 255 from which a pixel counts as changed
_CHUNK = 64  # frames at once

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Motion:
    """What happens in each step (n) of an episode, by camera (k)."""

    still: Values  # n k: the two frames are equal, pixel by pixel
    change: Values  # n k: mean change of pixels, 0..255
    moved: Values  # n k: share of the pixels that change
    far: Values  # n k: mean distance of the changed pixels, in small pixels
    pan: Values  # n k 2: (down, right) by which the view moves, in shares of its sides
    explained: Values  # n k: share of all flow that one affine motion of the view explains

    def __len__(self) -> int:
        return len(self.still)

    @property
    def camera(self) -> npt.NDArray[np.bool_]:
        """Where the view itself moves: most of it changes, and one motion explains most of the flow. n k"""
        return np.asarray((self.moved >= 0.3) & (self.explained >= 0.5) & (self.far >= 0.25))


def join(parts: Sequence[Motion]) -> Motion:
    """Joins the motion of steps that follow each other, or of several episodes."""
    return Motion(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Motion)))


def small_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) of small frames: at most SIDE pixels a side, at least LEAST, in multiples of WHOLE."""
    scale = min(1.0, SIDE / max(size))
    height, width = (max(LEAST, round(side * scale / WHOLE) * WHOLE) for side in size)
    return height, width


def watch(source: Episodes, id: str, keep: bool) -> tuple[Motion | None, UInt8[Tensor, "t c y x"] | None]:
    """Streams one episode: its motion (None without a step to see), and its frames made small, if they are to be kept.

    Raises: as `source.stream`.
    """
    if not source.schema.cameras:
        return None, None
    size, cameras = small_size(source.schema.size), [shape[2] for shape in source.schema.cameras.values()]
    parts, kept = [], []
    last: tuple[Tensor, Tensor] | None = None
    for piece in source.stream(id, min(_CHUNK, piece_of(source.schema))):
        frames, small = piece[0], resize(piece[0], size)
        kept += [small] if keep else []
        if last is not None:
            frames, small = torch.cat([last[0], frames]), torch.cat([last[1], small])
        if len(frames) > 1:
            parts.append(motion(frames, small, cameras))
        last = frames[-1:], small[-1:]
    return (join(parts) if parts else None), (torch.cat(kept) if kept else None)


def motion(frames: UInt8[Tensor, "t c h w"], small: UInt8[Tensor, "t c y x"], cameras: Sequence[int]) -> Motion:
    """Measures the steps between at least two frames; `cameras` are the channels of each."""
    parts = torch.split(frames, list(cameras), 1)
    still = np.stack([(part[1:] == part[:-1]).flatten(1).all(1).numpy() for part in parts], 1)
    found = [_flowing(normalise(part)) for part in torch.split(small, list(cameras), 1)]
    return Motion(still, *(np.stack([one[i] for one in found], 1) for i in range(len(found[0]))))


def _flowing(x: Float[Tensor, "t c y x"]) -> tuple[Values, ...]:
    """Change, moved, far, pan and explained of one camera; an affine motion is fitted to the flow (least squares)."""
    n, (height, width) = len(x) - 1, x.shape[-2:]
    change = 255 * (x[1:] - x[:-1]).abs().mean(1)  # n y x
    flow = optical_flow(x[:-1], x[1:]).flatten(2).transpose(1, 2)  # n p 2
    weight = (change > CHANGED).float().flatten(1)[..., None]  # n p 1
    count = weight.sum((1, 2)).clamp_min(1)
    y, z = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    terms = torch.stack([torch.ones_like(y), y, z], -1).flatten(0, 1).expand(n, -1, -1)  # n p 3
    gram = terms.transpose(1, 2) @ (weight * terms) + 1e-3 * torch.eye(3)
    fitted = torch.linalg.solve(gram, terms.transpose(1, 2) @ (weight * flow))  # n 3 2
    energy = (weight * flow**2).sum((1, 2))
    rest = (weight * (flow - terms @ fitted) ** 2).sum((1, 2))
    found = (
        change.mean((1, 2)), weight.mean((1, 2)), (weight[..., 0] * flow.norm(dim=-1)).sum(1) / count,
        fitted[:, 0] / torch.tensor([height, width]), torch.where(energy > 0, 1 - rest / energy.clamp_min(1e-9), 0.0),
    )  # fmt: skip
    return tuple(part.numpy() for part in found)
