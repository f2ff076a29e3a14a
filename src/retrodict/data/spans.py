"""What every writer of an export works with: spans of episodes, their frames, and files that are on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.cache import piece_of
from retrodict.data.durable import make_folder, sync
from retrodict.data.schema import Episodes, Schema


@dataclass(frozen=True, slots=True)
class Span:
    """Steps first .. stop - 1 of an episode, to be an episode of its own: its clip, from time 0."""

    first: int
    stop: int
    clip: Clip


class Writer(Protocol):
    """Writes spans in one format into a folder; `holds` says whether their clips bring the frames."""

    holds: bool
    rows: int
    steps: int
    encoded: int

    def add(self, id: str, spans: Sequence[Span]) -> None:
        """Writes the spans of one episode of the source, in order."""
        ...

    def finish(self) -> None:
        """Writes what is left, once there was a span; files are on the disk then."""
        ...


def store(path: Path, data: bytes) -> None:
    """Writes a file of a folder that is being made, and forces it to the disk."""
    make_folder(path.parent)
    path.write_bytes(data)
    sync(path)
    sync(path.parent)


def encode(files: Sequence[Mapping[str, Path]], source: Episodes, id: str, rows: Sequence[tuple[int, int]]) -> None:
    """Encodes runs of frames (first, last + 1) of an episode: one mp4 file a run and camera, in bounded memory."""
    from retrodict.data.video import Writer as Mp4

    for number, pieces in groupby(cut(source, id, rows), itemgetter(0)):
        for path in files[number].values():
            make_folder(path.parent)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(Mp4(p, *source.schema.size, source.schema.fps)) for p in files[number].values()
            ]
            for _, frames in pieces:
                for writer, pixels in zip(writers, by_camera(frames, source.schema), strict=True):
                    writer.add(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))  # grey as colour
        for path in files[number].values():
            sync(path)
            sync(path.parent)


def by_camera(frames: UInt8[Tensor, "n c h w"], schema: Schema) -> list[npt.NDArray[np.uint8]]:
    """Takes stacked cameras apart: an array (n, h, w, channels) each."""
    parts = torch.split(frames, [shape[2] for shape in schema.cameras.values()], 1)
    return [part.permute(0, 2, 3, 1).numpy() for part in parts]


def cut(source: Episodes, id: str, rows: Sequence[tuple[int, int]]) -> Iterable[tuple[int, UInt8[Tensor, "m c h w"]]]:
    """Yields (number of the run, some of its frames) for runs (first, last + 1) in growing order."""
    at = 0
    for piece in source.stream(id, piece_of(source.schema)) if rows else ():
        for number, (first, end) in enumerate(rows):
            part = piece[0, max(0, first - at) : max(0, end - at)]
            if len(part):
                yield number, part
        at += piece.shape[1]
