"""Frames as pictures for people and back: cameras side by side, grey as colour; what differs; what fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.errors import Incompatible
from retrodict.roles import View
from retrodict.serve.messages import Picture

SEEN = 12  # difference in a colour, of 255, from which a pixel counts as changed
_QUIET = 0.3  # brightness of what a key does not change


def cameras(view: View) -> dict[str, tuple[int, int, int]]:
    """Returns each camera's (height, width, channels), as a dataset's schema has them.

    Raises:
        Incompatible: the channels are not those of colour or grey cameras.
    """
    each, rest = divmod(view.channels, len(view.cameras))
    if rest or each not in (1, 3):
        raise Incompatible(f"frames of {view.channels} channels from {len(view.cameras)} cameras are no pictures")
    return dict.fromkeys(view.cameras, (*view.size, each))


def picture_of(frame: UInt8[Tensor, "c h w"], view: View) -> Picture:
    """Returns a frame as a picture, its cameras from left to right."""
    each = view.channels // len(view.cameras)
    pixels = frame.cpu().numpy().reshape(len(view.cameras), each, *view.size)
    wide = pixels.transpose(2, 0, 3, 1).reshape(view.size[0], -1, each)  # n c h w -> h (n w) c
    return np.ascontiguousarray(wide if each == 3 else wide.repeat(3, 2))


def frame_of(picture: Picture, view: View) -> UInt8[Tensor, "c h w"]:
    """Returns a picture as a frame: `picture_of` backwards; colours become grey where the cameras are."""
    each = view.channels // len(view.cameras)
    colours = picture if each == 3 else np.rint(picture.mean(2, keepdims=True)).astype(np.uint8)
    split = colours.reshape(view.size[0], len(view.cameras), view.size[1], each).transpose(1, 3, 0, 2)
    return torch.from_numpy(np.ascontiguousarray(split).reshape(view.channels, *view.size))


def shape_of(view: View) -> tuple[int, int]:
    """Height and width of a view's picture."""
    return view.size[0], view.size[1] * len(view.cameras)


def differing(first: Picture, second: Picture) -> float:
    """Share of pixels that differ visibly, 0..1."""
    return float(_apart(first, second).mean())


def effect(before: Picture, after: Picture) -> Picture:
    """Returns `after` with everything that is as before turned down, so that what changed stands out."""
    quiet = (after * _QUIET).astype(np.uint8)
    return np.where(_apart(before, after)[..., None], after, quiet)


def part(before: Picture, after: Sequence[Picture]) -> tuple[slice, slice]:
    """Returns the square, of a third of the picture's height or more, in which anything changed."""
    height, width = before.shape[:2]
    changed = np.zeros((height, width), bool)
    for picture in after:
        changed |= _apart(before, picture)
    if not changed.any():
        return slice(0, height), slice(0, width)
    ends = [(int(places.min()), int(places.max()) + 1) for places in np.nonzero(changed)]
    side = min(height, width, max([height // 3, *(last - first + height // 9 for first, last in ends)]))
    corner = [(first + last - side) // 2 for first, last in ends]
    top, left = (max(0, min(size - side, at)) for size, at in zip((height, width), corner, strict=True))
    return slice(top, top + side), slice(left, left + side)


def fitted(picture: Picture, shape: tuple[int, int]) -> Picture:
    """Returns the middle of a picture at this height and width; a picture of the same size stays as it is."""
    if picture.shape[:2] == shape:
        return picture
    from PIL import Image, ImageOps

    height, width = shape
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.BOX))


def _apart(first: Picture, second: Picture) -> np.ndarray:
    apart: np.ndarray = np.abs(first.astype(np.int16) - second).max(2) >= SEEN
    return apart
