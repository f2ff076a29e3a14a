"""Small pictures as a video that people can look at: enlarged, side by side, and never half written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from retrodict.data.durable import refuse_place
from retrodict.errors import UnusableInput

Picture = UInt8[np.ndarray, "h w 3"]

TALL = 288  # pixels that pictures are enlarged to, by whole factors
GAP = 8  # pixels between pictures side by side


def beside(*pictures: Picture) -> Picture:
    """Returns pictures of one height side by side, enlarged, of even sides."""
    times = max(1, round(TALL / pictures[0].shape[0]))
    large = [picture.repeat(times, 0).repeat(times, 1) for picture in pictures]
    gap = np.zeros((len(large[0]), GAP, 3), np.uint8)
    wide = np.concatenate([part for picture in large for part in (gap, picture)][1:], 1)
    return np.pad(wide, (*((0, side % 2) for side in wide.shape[:2]), (0, 0)), mode="edge")


def refuse_unfit(path: Path) -> None:
    """Raises UnusableInput where no video can be written, before anything is played for it."""
    if path.is_dir():
        raise UnusableInput(f"expected the name of a video file; {path} is a folder")
    if path.suffix.lower() != ".mp4":
        raise UnusableInput(f"videos are written as mp4; call it {path.with_suffix('.mp4')}")
    refuse_place(path.absolute().parent)


def write(path: Path, pictures: Iterable[Picture], fps: int) -> None:
    """Writes pictures of one size as an mp4 file, in whose place nothing is seen until it is whole."""
    from retrodict.data.video import Writer

    path.parent.mkdir(parents=True, exist_ok=True)
    rest = iter(pictures)
    first = next(rest)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with Writer(aside, first.shape[0], first.shape[1], fps) as writer:
            for picture in chain([first], rest):
                writer.add(picture[None])
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
