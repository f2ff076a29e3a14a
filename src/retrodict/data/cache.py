"""Cache: every frame that training needs, decoded once, at the size it needs, as one memory-mapped uint8 array.

A random window costs a gather from memory, 10 to 30 times less than seeking in a video.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.data.schema import Episodes, Schema
from retrodict.errors import UnusableInput
from retrodict.roles import View
from retrodict.spaces import ActionSpace

OUTCOMES = ("rewards", "ends")  # columns of datasets that have them
PROPRIO = "proprio"  # the same, of frames in the place of steps
PIECE_BYTES = 32 << 20  # of frames at their own size that are resized at once
_builds = itertools.count()


class Cache:
    """All frames of some episodes side by side, with one action, source and so on per frame (the last unused)."""

    def __init__(
        self,
        frames: npt.NDArray[np.uint8],
        starts: npt.NDArray[np.int64],
        ids: tuple[str, ...],
        space: ActionSpace,
        columns: dict[str, npt.NDArray[Any]],
        texts: tuple[str, ...],
        fps: int,
        digest: str,
        cameras: tuple[str, ...],
    ) -> None:
        self.frames, self.starts, self.ids, self.space = frames, starts, ids, space
        self.columns, self.texts, self.fps, self.digest, self.cameras = columns, texts, fps, digest, cameras
        self.episode = np.repeat(np.arange(len(ids)), np.diff(starts)).astype(np.int32)  # episode number per frame
        self.first, self.last = starts[:-1][self.episode], starts[1:][self.episode] - 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the cached frames."""
        return int(self.frames.shape[2]), int(self.frames.shape[3])

    @property
    def channels(self) -> int:
        """Channels of the cached frames (cameras stack)."""
        return int(self.frames.shape[1])

    @property
    def proprio(self) -> int:
        """Number of recorded values beside each frame."""
        return self.columns[PROPRIO].shape[1] if PROPRIO in self.columns else 0

    def view(self, frames: int = 1, before: int = 0, proprio: int = 0) -> View:
        """What a model is shown that sees all cameras in the size and at the rate that they have here."""
        return View(frames, before, 1, float(self.fps), self.size, self.channels, self.cameras, proprio)

    def steps(self, ids: Sequence[str] | None = None) -> npt.NDArray[np.int64]:
        """Frame numbers t at which a real step begins, in the named episodes (all by default)."""
        chosen = np.ones(len(self.episode), bool)
        if ids is not None:
            known = {id: number for number, id in enumerate(self.ids)}
            chosen = np.isin(self.episode, [known[id] for id in ids])
        chosen &= np.arange(len(self.episode)) < self.last
        return np.flatnonzero(chosen).astype(np.int64)

    @staticmethod
    def build(
        source: Episodes, size: tuple[int, int] | None = None, folder: Path | None = None, limit_gb: float = 20.0
    ) -> Cache:
        """Decodes all episodes to `size` (their own by default), into a file in `folder` or into memory.

        A finished file with the same digest is used again. Frames are streamed, so memory does not grow with episodes.

        Raises:
            UnusableInput: there are no episodes or no frames, or they need more than `limit_gb` or than the disk has.
        """
        if not source.ids:
            raise UnusableInput("the dataset holds no episodes; record or import some first")
        if not source.schema.cameras:
            raise UnusableInput("the dataset has no camera, so there are no frames to learn from; use one that has")
        lengths = source.lengths
        starts = np.concatenate([[0], np.cumsum([lengths[id] for id in source.ids])]).astype(np.int64)
        height, width = size or source.schema.size
        shape = (int(starts[-1]), source.schema.channels, int(height), int(width))
        _refuse_outsized(math.prod(shape) / 1e9, limit_gb)
        digest = hashlib.sha256(f"{source.digest}|{shape}".encode()).hexdigest()[:16]
        frames, fresh = _frame_array(shape, folder, digest)
        columns = _columns(shape[0], source.schema)
        texts = []
        for number, id in enumerate(source.ids):
            clip = source.read(id, frames=False)
            rows = slice(int(starts[number]), int(starts[number + 1]))
            if fresh:
                _fill_frames(frames[rows], source, id)
            fill_columns(columns, clip, rows)
            texts.append(clip.text[0] if clip.text else "")
        if fresh and folder is not None:
            frames = _finish(frames, folder, digest)
        schema, cameras = source.schema, tuple(source.schema.cameras)
        return Cache(frames, starts, source.ids, schema.space, columns, tuple(texts), int(schema.fps), digest, cameras)


def piece_of(schema: Schema) -> int:
    """Number of frames to take from a stream at once, so that they fit in PIECE_BYTES."""
    height, width = schema.size
    return max(1, PIECE_BYTES // max(1, schema.channels * height * width))


def resize(frames: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resizes uint8 frames "t c h w" by area averaging; the same size is returned as it is."""
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    return F.interpolate(frames.float(), size=tuple(size), mode="area").round().to(torch.uint8)


def _refuse_outsized(need: float, limit: float) -> None:
    if need > limit:
        raise UnusableInput(
            f"the frame cache needs {need:.1f} GB and {limit:g} GB are allowed; raise --cache-gb, or train at a "
            "smaller frame size"
        )


def _fill_frames(target: npt.NDArray[np.uint8], source: Episodes, id: str) -> None:
    count = 0
    for piece in source.stream(id, piece_of(source.schema)):
        target[count : count + piece.shape[1]] = resize(piece[0], target.shape[2:]).numpy()
        count += piece.shape[1]
    assert count == len(target), f"episode {id!r} streams {count} frames and is {len(target)} long"


def _columns(rows: int, schema: Schema) -> dict[str, npt.NDArray[Any]]:
    return {
        **{name: np.zeros(rows, np.float32) for name in OUTCOMES if schema.rewards},
        **({PROPRIO: np.zeros((rows, len(schema.proprio)), np.float32)} if schema.proprio else {}),
        "actions": np.zeros((rows, schema.space.width), np.float32),
        "source": np.full(rows, MISSING, np.uint8),
        "confidence": np.zeros(rows, np.float32),
    }


def fill_columns(columns: dict[str, npt.NDArray[Any]], clip: Clip, rows: slice) -> None:
    """Writes an episode's values to these rows of the columns."""
    steps = slice(rows.start, rows.stop - 1)
    for name in OUTCOMES:
        if name in columns:
            columns[name][steps] = getattr(clip, name)[0].numpy()
    if PROPRIO in columns:
        columns[PROPRIO][rows] = clip.proprio[0].numpy()  # type: ignore[index]
    if clip.actions is None:
        return
    columns["actions"][steps] = clip.actions[0].numpy()
    columns["source"][steps] = RECORDED if clip.source is None else clip.source[0].numpy()
    columns["confidence"][steps] = 1.0 if clip.confidence is None else clip.confidence[0].numpy()


def _frame_array(shape: tuple[int, ...], folder: Path | None, digest: str) -> tuple[npt.NDArray[np.uint8], bool]:
    """Returns the frame array and whether it must be filled; a file has its name only when it is whole."""
    if folder is None:
        return np.empty(shape, np.uint8), True
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    done = folder / f"{digest}.frames"
    if done.exists() and done.stat().st_size == math.prod(shape):
        return np.memmap(done, np.uint8, "r", shape=shape), False
    free = shutil.disk_usage(folder).free
    if math.prod(shape) > free:  # filling a mapped file on a full disk would kill the process without a word
        raise UnusableInput(
            f"the frame cache needs {math.prod(shape) / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; make "
            "room, or train at a smaller frame size"
        )
    while True:
        with (folder / f"{digest}.{os.getpid()}.{next(_builds)}.tmp").open("w+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the mapping keeps the file open, and so the lock, as long as it lives
            if os.fstat(file.fileno()).st_nlink:  # else it was swept away before it was locked
                return np.memmap(file, np.uint8, "w+", shape=shape), True


def _sweep(folder: Path) -> None:
    """Removes the unfinished files of processes that were killed; those of living ones are locked."""
    for path in folder.glob("*.tmp"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):  # it is being filled, or was finished this moment
            continue


def _finish(frames: npt.NDArray[np.uint8], folder: Path, digest: str) -> npt.NDArray[np.uint8]:
    """Gives a filled frame file its name."""
    assert isinstance(frames, np.memmap)
    frames.flush()
    done = folder / f"{digest}.frames"
    os.replace(str(frames.filename), done)
    return np.memmap(done, np.uint8, "r", shape=frames.shape)
