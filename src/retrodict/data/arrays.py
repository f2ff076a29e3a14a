"""Episodes that come as arrays: LAPO's npz chunks here, HDF5 in `hdf5.py`; both become recordings the same way."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from numpy.lib import format as npy
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.action_schema import infer_space, lay_out
from retrodict.data.recordings import Recording
from retrodict.data.schema import Schema
from retrodict.data.store import READ_BYTES
from retrodict.errors import UnusableInput
from retrodict.spaces import ActionSpace

CAMERA = "observation.image"
CERTAIN = 0.8  # share of marks at which the picture has to change more on one side
_KINDS = {(action, flag) for action in "iuf" for flag in "biu"}  # dtypes of ta and done
_BROKEN = (OSError, ValueError, KeyError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile, TokenError)


@dataclass(frozen=True, slots=True)
class Arrays:
    """One episode of T frames: T-1 actions as they were recorded, and how to read its frames.

    `cameras` maps names to shapes (height, width, channels), in the order of the channels that `frames` returns.
    `ends` says at which steps the episode terminated.
    """

    id: str
    file: Path
    actions: npt.NDArray[Any]
    cameras: Mapping[str, tuple[int, int, int]]
    frames: Callable[[], UInt8[Tensor, "1 t c h w"]]
    proprio: npt.NDArray[np.float32] | None = None
    names: tuple[str, ...] = ()  # of the columns of proprio
    rewards: npt.NDArray[np.float32] | None = None
    ends: npt.NDArray[np.float32] | None = None
    choices: int = 0  # how many there are, where the file says so
    text: str = ""
    source: npt.NDArray[np.float32] | None = None  # as `Clip.source`; none: all actions are recorded
    confidence: npt.NDArray[np.float32] | None = None


def recordings(
    episodes: Sequence[Arrays], space: ActionSpace | None, fps: int, text: str
) -> tuple[Schema, list[Recording]]:
    """Returns the schema and the recordings of episodes that are alike.

    Raises:
        UnusableInput: they differ in what they hold, or their actions do not fit the space.
    """
    first = episodes[0]
    for episode in episodes:
        kinds = [(dict(one.cameras), one.names, one.actions.shape[1:]) for one in (episode, first)]
        if kinds[0] != kinds[1]:
            held, others = (
                f"{one.id} holds {cameras} {names} and actions of shape {shape}"
                for one, (cameras, names, shape) in zip((episode, first), kinds, strict=True)
            )
            raise UnusableInput(f"{held}, {others}; import them apart")
    if space is None:
        space = infer_space(np.concatenate([episode.actions for episode in episodes]))
        if first.choices and (only := space.discrete) is not None and only.width < first.choices:
            space = infer_space(np.array([first.choices - 1]))
    rewards = all(episode.rewards is not None and episode.ends is not None for episode in episodes)
    result = []
    for episode in episodes:
        try:
            actions = lay_out(episode.actions, space)
        except UnusableInput as error:
            raise UnusableInput(f"{episode.id}: {error}") from error
        clip = Clip(
            actions=torch.from_numpy(actions)[None],
            source=None if episode.source is None else torch.from_numpy(episode.source.astype(np.uint8))[None],
            confidence=None if episode.confidence is None else torch.from_numpy(episode.confidence)[None],
            proprio=None if episode.proprio is None else torch.from_numpy(episode.proprio)[None],
            rewards=torch.from_numpy(episode.rewards)[None] if rewards and episode.rewards is not None else None,
            ends=torch.from_numpy(episode.ends)[None] if rewards and episode.ends is not None else None,
            text=(episode.text or text,),
        )
        result.append(Recording(episode.id, {episode.id: (episode.file,)}, clip, frames=episode.frames))
    return Schema(space, first.cameras, fps, False, first.names, rewards), result


def read_npz(path: Path, name: str) -> list[Arrays]:
    """Returns the episodes of a chunk: `obs` (frames), `ta` (the action at each) and `done`, which cuts it.

    `ta[t]` was chosen at frame t and leads to frame t+1. Writers differ in whether `done[t]` marks the last frame of an
    episode or the first of the next: the larger change of picture says which; where it does not, the marked frame is
    dropped. Nothing of a step across a cut is kept. Source: schmidtdominik/LAPO, data_loader.py.

    Raises:
        UnusableInput: an array is absent, damaged, of another type or length, or larger than can be read at once.
    """
    obs, taken, done = (_member(str(path), key, path.stat().st_mtime_ns) for key in ("obs", "ta", "done"))
    if obs.dtype != np.uint8 or obs.ndim != 4 or obs.shape[3] not in (1, 3) or min(obs.shape) == 0:
        raise UnusableInput(f"{path}: obs is {obs.dtype} {obs.shape}; expected uint8 (frames, height, width, 3)")
    if {len(taken), *done.shape} != {len(obs)} or done.ndim != 1 or (taken.dtype.kind, done.dtype.kind) not in _KINDS:
        raise UnusableInput(
            f"{path}: ta is {taken.dtype} {taken.shape} and done {done.dtype} {done.shape}; expected an action and a "
            f"flag for each of {len(obs)} frames"
        )
    return [
        Arrays(
            f"{name}:{start:06d}", path, taken[start : stop - 1], {CAMERA: (obs.shape[1], obs.shape[2], obs.shape[3])},
            lambda start=start, stop=stop: _frames(path, start, stop),  # type: ignore[misc]
        )
        for start, stop in _spans(obs, done.astype(bool))
    ]  # fmt: skip


def _spans(obs: npt.NDArray[np.uint8], done: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yields (first frame, last frame + 1) of each episode of two frames or more."""
    marked = np.flatnonzero(done)
    inner = marked[(marked > 0) & (marked < len(obs) - 1)]
    later = np.array([np.sign(_change(obs, t) - _change(obs, t - 1)) for t in inner])
    cuts = {0, len(obs)}
    if not len(inner) or (later < 0).mean() < CERTAIN:  # a mark may be on the last frame
        cuts |= {int(t) + 1 for t in marked}
    if not len(inner) or (later > 0).mean() < CERTAIN:  # a mark may be on the first frame
        cuts |= {int(t) for t in marked}
    edges = sorted(cuts)
    yield from ((a, b) for a, b in pairwise(edges) if b - a > 1)


def _change(obs: npt.NDArray[np.uint8], t: int) -> float:
    return float(np.abs(obs[t + 1].astype(np.int16) - obs[t]).mean())


def _frames(path: Path, start: int, stop: int) -> UInt8[Tensor, "1 t c h w"]:
    pixels = _member(str(path), "obs", path.stat().st_mtime_ns)[start:stop]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))[None]


@lru_cache(maxsize=3)
def _member(path: str, key: str, changed: int) -> npt.NDArray[Any]:
    """Reads one array of a zip archive, after its header is found to say exactly as many bytes as there are."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist()]
            if names.count(f"{key}.npy") != 1:
                raise UnusableInput(f"{path} holds {sorted(names)[:9]}; expected one obs.npy, ta.npy and done.npy")
            entry = archive.getinfo(f"{key}.npy")
            if entry.file_size > READ_BYTES:
                raise UnusableInput(f"{path}: {key} takes {entry.file_size} bytes, more than {READ_BYTES}; split it")
            with archive.open(entry) as file:
                read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
                shape, fortran, dtype = read(file)
                data = file.read()  # checks the archive's own sum
            if dtype.kind not in "biuf" or len(data) != dtype.itemsize * int(np.prod(shape, dtype=object)):
                raise ValueError(f"{key} claims {dtype} {shape}, and {len(data)} bytes follow")
            array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{key} holds numbers that are not finite")
            return array
    except _BROKEN as error:
        raise UnusableInput(f"{path}: {key} cannot be read: {type(error).__name__}: {error}") from error
