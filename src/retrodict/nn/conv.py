"""Convolutional blocks over frames. Inputs are floats in [-0.5, 0.5], axes "n c h w"."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.errors import UnusableInput


def normalise(frames: UInt8[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
    """Turns bytes into floats in [-0.5, 0.5]."""
    return (frames / 255.0).sub_(0.5)  # in place: fresh memory costs more than the arithmetic


def to_bytes(frames: Float[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n c h w"]:
    """Turns floats in [-0.5, 0.5] back into bytes; what lies outside is at the nearest byte, as a screen shows it."""
    return ((frames.clamp(-0.5, 0.5) + 0.5) * 255.0).round().to(torch.uint8)


class PatchGrid(nn.Module):
    """Cuts a frame into square patches and mixes each with its neighbours: n c h w -> n width h/patch w/patch.

    Patches as large as a world's cells make the net see cells; the 3x3 layers make it translation-equivariant.
    """

    def __init__(self, channels: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, patch, stride=patch), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Returns the grid of patch features."""
        return self.layers(x)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip, ReLU first (Impala, Espeholt et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Returns x plus its change."""
        return x + self.second(torch.relu(self.first(torch.relu(x))))  # type: ignore[no-any-return]


class Impala(nn.Module):
    """The Impala encoder: per stack a 3x3 convolution, a 3/2 max pool and two residual blocks. n c h w -> n d y x."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [Residual(width), Residual(width)]
            channels = width
        self.layers = nn.Sequential(*layers, nn.ReLU())

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Returns the encoded grid."""
        return self.layers(x)  # type: ignore[no-any-return]


class Refine(nn.Module):
    """A 3x3 convolution of the normalised features, around a skip (GroupNorm and swish, as in VQGAN and IRIS)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(8, width // 4 or 1), width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Returns x plus its change."""
        return x + self.conv(nn.functional.silu(self.norm(x)))  # type: ignore[no-any-return]


def stem(kind: str, channels: int, patch: int, width: int, depth: int) -> nn.Module:
    """Builds the front of a net: `grid` (patches), `impala` (three stacks of width, 2 width, 2 width) or `refine`.

    The last normalises features over each frame, so that small things on an even ground stand out.
    """
    if kind == "grid":
        return PatchGrid(channels, patch, width, depth)
    if kind == "impala":
        return Impala(channels, (width, 2 * width, 2 * width))
    if kind == "refine":
        return nn.Sequential(nn.Conv2d(channels, width, patch, stride=patch), *(Refine(width) for _ in range(depth)))
    raise UnusableInput(f"stem must be 'grid', 'impala' or 'refine'; got {kind!r}")


def stem_shape(module: nn.Module, channels: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """Returns (d, y, x) of a stem's output for frames of this size."""
    if any(side < 1 for side in size):
        raise UnusableInput(f"frames must be at least 1 pixel; got {size}")
    with torch.no_grad():
        out = module(torch.zeros(1, channels, *size))
    return int(out.shape[1]), int(out.shape[2]), int(out.shape[3])


def patch_for(size: tuple[int, int], at_least: int = 7) -> int:
    """The largest patch up to 8 pixels that divides a frame into at least `at_least` patches a side."""
    for patch in range(8, 0, -1):
        if size[0] % patch == 0 and size[1] % patch == 0 and min(size) // patch >= at_least:
            return patch
    raise UnusableInput(f"no patch of 1..8 pixels divides frames of {size} into {at_least} a side; resize the frames")
