"""Optical flow without learning: how far each pixel moved between two frames.

Where the picture of a thing differs between two places, its motion often does not, so an inverse model of flow can keep
its meaning where one of pixels loses it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LEVELS, ROUNDS, WINDOW = 3, 3, 5  # halvings of the frame (the whole one included), updates at each, pixels around
_DAMPING = 1e-3  # of the normal equations: where the picture is flat, nothing is claimed to move


def optical_flow(first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
    """Returns (down, right) in pixels by which each pixel of `first` moved, from frames in [-0.5, 0.5].

    Pyramidal Lucas-Kanade (Lucas & Kanade 1981; Bouguet 2000): least squares of the change in brightness over a window,
    from coarse to fine, repeated on what is left. Finds motions of a few pixels of what has texture or edges.
    """
    pairs = [(first.mean(1, keepdim=True), second.mean(1, keepdim=True))]
    while len(pairs) < LEVELS and min(pairs[-1][0].shape[-2:]) >= 2 * WINDOW:
        a, b = pairs[-1]
        pairs.append((F.avg_pool2d(a, 2, ceil_mode=True), F.avg_pool2d(b, 2, ceil_mode=True)))
    flow = first.new_zeros(len(first), 2, *pairs[-1][0].shape[-2:])
    for a, b in reversed(pairs):
        if flow.shape[-2:] != a.shape[-2:]:
            flow = 2 * F.interpolate(flow, a.shape[-2:], mode="bilinear", align_corners=False)
        down, right = _slopes(a)
        yy, xx, yx = _around(down * down), _around(right * right), _around(down * right)
        area = (yy + _DAMPING) * (xx + _DAMPING) - yx**2
        for _ in range(ROUNDS):
            change = _moved_back(b, flow) - a
            y, x = _around(down * change), _around(right * change)
            step = torch.cat([(xx + _DAMPING) * y - yx * x, (yy + _DAMPING) * x - yx * y], 1) / area
            flow = flow - step.clamp(-1, 1)  # beyond a pixel the slopes say nothing
    return flow


def _slopes(a: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences down and right; the edge repeats."""
    wide = F.pad(a, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2, (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2


def _around(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)


def _moved_back(b: Tensor, flow: Tensor) -> Tensor:
    """Reads the second frame where each pixel of the first went; outside, its edge repeats."""
    height, width = b.shape[-2:]
    y = torch.arange(height, device=b.device, dtype=b.dtype).view(-1, 1) + flow[:, 0]
    x = torch.arange(width, device=b.device, dtype=b.dtype) + flow[:, 1]
    grid = torch.stack([2 * (x + 0.5) / width - 1, 2 * (y + 0.5) / height - 1], -1)
    return F.grid_sample(b, grid, mode="bilinear", padding_mode="border", align_corners=False)
