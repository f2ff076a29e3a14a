"""Video files as a store keeps them: one per episode and camera, frame k at k / fps, read through the guard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.data.guarded import GRID, decoder
from retrodict.data.schema import Schema
from retrodict.data.stats import Moments
from retrodict.errors import Undecodable

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an episode's frames lie: from `start` seconds on in a video file, which is number `number` of a dataset."""

    path: Path
    number: int
    start: float = 0.0


def encode(path: Path, frames: Frames, fps: int) -> None:
    """Writes frames of shape (t, 3, h, w) as an mp4 file (lossy)."""
    from retrodict.data.video import Writer

    with Writer(path, frames.shape[2], frames.shape[3], fps) as writer:
        writer.add(frames.transpose(0, 2, 3, 1))


def link(source: Path, target: Path) -> None:
    """Gives a file a second name, or copies it where the file system cannot."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def chunks(path: Path, length: int, fps: int, size: tuple[int, int], start: float = 0.0) -> Iterator[Frames]:
    """Yields `length` frames as (n, h, w, 3) from `start` seconds on, each checked to be at start + k / fps.

    Raises:
        Undecodable: the file has other frames, times or sides than these.
    """
    count = 0
    for frames, times in decoder.frames(path, start, start + (length - 0.5) / fps):
        if frames.shape[1:3] != size:
            got = f"{frames.shape[2]}x{frames.shape[1]}"
            raise Undecodable(path, f"its frames are {got} pixels; expected {size[1]}x{size[0]}")
        off = np.abs(times - start - (count + np.arange(len(times))) / fps)
        if off.max() > GRID:
            at = int(off.argmax())
            raise Undecodable(path, f"frame {count + at} is at {times[at]:.4f} s; expected frame / {fps}")
        count += len(times)
        yield frames
    if count != length:
        raise Undecodable(path, f"it has {count} frames from {start:g} s on; expected {length}")


def examine(path: Path, length: int, schema: Schema, name: Path) -> Moments:
    """Decodes a whole file, checks that it has exactly `length` frames on the grid, and returns its statistics.

    `name` is what messages call it: a file that is being staged goes by its source.

    Raises:
        Undecodable: as `chunks`; also when more frames follow.
    """
    try:
        facts = decoder.facts(path)
        if facts.frames != length or facts.rotation:
            got = f"{facts.frames} frames, turned by {facts.rotation}°"
            raise Undecodable(path, f"it has {got}; expected {length}, by 0°")
        return statistics(path, length, schema)
    except Undecodable as error:
        raise Undecodable(name, error.why) from None


def statistics(path: Path, length: int, schema: Schema, start: float = 0.0) -> Moments:
    """Decodes `length` frames from `start` seconds on, checked as by `chunks`, and returns their statistics."""
    total: Moments | None = None
    for frames in chunks(path, length, schema.fps, schema.size, start):
        moments = Moments.of_frames(frames.transpose(0, 3, 1, 2))
        total = moments if total is None else total.merge(moments)
    assert total is not None  # length >= 1, and chunks() counted
    return total


def read(paths: Sequence[Path], length: int, schema: Schema) -> UInt8[Tensor, "1 t c h w"]:
    """Returns all frames of an episode; one file per camera, in order."""
    cameras = [np.concatenate(list(chunks(path, length, schema.fps, schema.size))) for path in paths]
    return _stacked(cameras)


def stream(
    paths: Sequence[Path], length: int, schema: Schema, frames: int, starts: Sequence[float] = ()
) -> Iterator[UInt8[Tensor, "1 n c h w"]]:
    """Yields the frames of an episode in order, `frames` at a time (the last may be fewer).

    `starts` says where in each camera's file the episode begins, in seconds (0 by default).
    """
    cameras = [
        _even(chunks(path, length, schema.fps, schema.size, start), frames)
        for path, start in zip(paths, starts or [0.0] * len(paths), strict=True)
    ]
    for parts in zip(*cameras, strict=True):
        yield _stacked(parts)


def _stacked(cameras: Sequence[Frames]) -> UInt8[Tensor, "1 t c h w"]:
    """Joins the frames of several cameras, each (t, h, w, 3), along the channels."""
    pixels = cameras[0] if len(cameras) == 1 else np.concatenate(cameras, 3)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))[None]


def _even(source: Iterator[Frames], count: int) -> Iterator[Frames]:
    """Cuts chunks of any length into chunks of `count`."""
    kept: list[Frames] = []
    have = 0
    for chunk in source:
        kept.append(chunk)
        have += len(chunk)
        if have >= count:
            joined = np.concatenate(kept)
            whole = have - have % count
            for i in range(0, whole, count):
                yield joined[i : i + count]
            kept, have = [joined[whole:]], have - whole
    if have:
        yield np.concatenate(kept)
