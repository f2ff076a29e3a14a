"""HDF5 files: Minari's, robomimic's, ALOHA's, or any with a group of observations and actions per episode.

An episode of T observations has T-1 actions (Minari) or T, of which the last leads to no frame and is dropped: action
t was chosen at observation t. Sources: Farama Minari (hdf5_storage.py), robomimic's page on datasets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.data.arrays import CAMERA, Arrays
from retrodict.data.store import READ_BYTES
from retrodict.errors import MissingPackage, Undecodable, UnusableInput

SUFFIXES = (".hdf5", ".h5")
OBSERVATIONS, ACTIONS, STATES = ("observations", "obs"), ("actions", "action"), ("states", "state")
ENDS = ("terminations", "dones")
EXPORTED = "first"  # attribute of an episode that we wrote, whose actions say where they are from
DEEPEST = 4  # groups within groups
_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py makes of a broken file


def read_hdf5(path: Path, name: str) -> list[Arrays]:
    """Returns the episodes of a file, their frames unread.

    Raises:
        UnusableInput: it is damaged or holds no episode, or links to elsewhere, or something cannot be told apart.
        MissingPackage: h5py is not there.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise MissingPackage("h5py", "reading HDF5", "pip install 'retrodict[h5]'") from None
    try:
        with h5py.File(path, "r") as file:
            found = [_episode(group, f"{name}:{group.name[1:]}".rstrip(":"), path) for group in _groups(file, set())]
    except _BROKEN as error:
        raise UnusableInput(f"{path} cannot be read as HDF5: {type(error).__name__}: {error}") from error
    if not found:
        raise UnusableInput(f"{path}: no group holds {' or '.join(OBSERVATIONS)} and {' or '.join(ACTIONS)}")
    return found


def _groups(group: Any, seen: set[Any], depth: int = 0) -> Iterator[Any]:
    """Yields the groups that are episodes, in order of their numbers; one that has two names, once."""
    if _first(group, OBSERVATIONS) is not None and _first(group, ACTIONS) is not None:
        yield group
    elif depth < DEEPEST:
        for key in sorted(group, key=lambda key: (len(key), key)):
            if hasattr(inner := _own(group, key), "keys") and inner not in seen:
                seen.add(inner)
                yield from _groups(inner, seen, depth + 1)


def _own(group: Any, key: str) -> Any:
    """Returns a member that lies in this very file."""
    import h5py

    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise UnusableInput(f"{group.file.filename}: {key} in {group.name} links to elsewhere; copy its data here")
    member = group[key]
    if isinstance(member, h5py.Dataset) and (member.is_virtual or member.external):
        raise UnusableInput(f"{group.file.filename}: {member.name} keeps its data elsewhere; copy it here")
    return member


def _first(group: Any, names: tuple[str, ...]) -> Any:
    return next((_own(group, name) for name in names if name in group), None)


def _episode(group: Any, id: str, path: Path) -> Arrays:
    import h5py

    pictures: dict[str, tuple[str, tuple[int, ...]]] = {}
    columns: dict[str, npt.NDArray[Any]] = {}
    text = ""
    for label, dataset in _leaves(_first(group, OBSERVATIONS), ""):
        if dataset.dtype == np.uint8 and dataset.ndim in (3, 4):
            pictures[f"observation.{label}" if label else CAMERA] = (dataset.name, dataset.shape)
        elif h5py.check_string_dtype(dataset.dtype) is not None:
            text = text or "".join(np.ravel(dataset.asstr()[()])[:1])
        else:
            columns[label or "state"] = _numbers(dataset)
    states = _first(group, STATES)
    if states is not None:
        columns["state"] = _numbers(states)
    actions = _numbers(_first(group, ACTIONS))
    lengths = {shape[0] for _, shape in pictures.values()} | {len(values) for values in columns.values()}
    if len(lengths) != 1 or len(actions) not in (n := lengths.pop(), n - 1) or n < 1:
        raise UnusableInput(f"{path}: {group.name} has {len(actions)} actions for observations of other lengths")
    proprio = np.concatenate([v.reshape(n, -1) for v in columns.values()], 1).astype(np.float32) if columns else None
    names = tuple(f"{k}.{i}" for k, v in columns.items() for i in range(v[:1].size))
    rewards, ours = _steps(group, "rewards", n), EXPORTED in group.attrs
    source, confidence = (_steps(group, key, n) if ours else None for key in ("source", "confidence"))
    ends = next((found for key in ENDS if (found := _steps(group, key, n)) is not None), None)
    return Arrays(
        id, path, actions[: n - 1], {name: _shape(shape) for name, (_, shape) in pictures.items()},
        lambda: _frames(path, [name for name, _ in pictures.values()]), proprio, names, rewards, ends,
        _choices(path), text, source, confidence,
    )  # fmt: skip


def _leaves(member: Any, label: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not hasattr(member, "keys"):
        yield label, member
    elif depth < DEEPEST:
        for key in sorted(member):
            yield from _leaves(_own(member, key), f"{label}.{key}" if label else key, depth + 1)


def _numbers(dataset: Any) -> npt.NDArray[Any]:
    if not hasattr(dataset, "dtype") or dataset.dtype.kind not in "biuf" or not 1 <= dataset.ndim <= 2:
        raise UnusableInput(f"{dataset.file.filename}: expected pictures (uint8) or numbers, and met {dataset}")
    if dataset.size * dataset.dtype.itemsize > READ_BYTES:
        raise UnusableInput(f"{dataset.file.filename}: {dataset.name} takes more than {READ_BYTES} bytes; split it")
    return np.asarray(dataset[()])


def _steps(group: Any, key: str, frames: int) -> npt.NDArray[np.float32] | None:
    """Returns one number per step, where the group has them: Minari keeps as many as actions."""
    member = _own(group, key) if key in group else None
    if getattr(member, "shape", None) not in ((frames - 1,), (frames,)):
        return None
    return _numbers(member)[: frames - 1].astype(np.float32)


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of pictures (t, h, w), (t, h, w, c) or (t, c, h, w)."""
    if len(shape) == 3:
        return shape[1], shape[2], 1
    if shape[3] in (1, 3):
        return shape[1], shape[2], shape[3]
    if shape[1] in (1, 3):
        return shape[2], shape[3], shape[1]
    raise UnusableInput(f"pictures of shape {shape} have neither 1 nor 3 channels")


def _frames(path: Path, names: list[str]) -> UInt8[Tensor, "1 t c h w"]:
    import h5py

    cameras = []
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                pixels = file[name][()]
                if pixels.ndim == 3 or pixels.shape[3] in (1, 3):
                    pixels = pixels.reshape(len(pixels), *_shape(pixels.shape)).transpose(0, 3, 1, 2)
                cameras.append(pixels)
    except _BROKEN as error:
        raise Undecodable(path, f"its pictures cannot be read: {type(error).__name__}: {error}") from error
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(cameras, 1)))[None]


def _choices(path: Path) -> int:
    """Returns how many actions Minari's metadata says there are to choose from, or 0."""
    file = path.with_name("metadata.json")
    try:
        told: Any = json.loads(file.read_bytes())["action_space"] if file.is_file() else "{}"
        space: Mapping[str, Any] = json.loads(told)
        return int(space["n"]) if space.get("type") == "Discrete" and not space.get("start", 0) else 0
    except (*_BROKEN, AttributeError, RecursionError) as error:
        raise UnusableInput(f"{file} cannot be read as Minari's metadata: {type(error).__name__}: {error}") from error
