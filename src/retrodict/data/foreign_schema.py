"""What the metadata of a LeRobot folder say: its cameras, what actions mean, and the hashes of an export of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrodict.data.export import EXPORT_FILE
from retrodict.data.lerobot import BOUNDS
from retrodict.data.schema import Schema
from retrodict.data.stats import Moments
from retrodict.errors import Damaged, UnknownName, UnusableInput
from retrodict.segments import scaled_axes
from retrodict.spaces import UNKNOWN, ActionSpace, continuous


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what a broken file makes of its reader into Damaged, naming the file."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(path, "a LeRobot dataset's file", f"{type(error).__name__}: {error}") from error


def folder_schema(
    folder: Path, info: Mapping[str, Any], exported: Mapping[str, Any], cameras: Sequence[str] | None, actions: bool
) -> Schema:
    """Returns the schema of a folder whose meta/info.json says `info`; see `read_export` and `foreign.open_foreign`."""
    features = info["features"]
    known = [name for name, feature in features.items() if feature["dtype"] in ("image", "video")]
    for name in cameras or ():
        if name not in known:
            raise UnknownName("camera", name, known)
    chosen = {name: _camera_shape(features[name]) for name in (known if cameras is None else cameras)}
    kinds = {features[name]["dtype"] for name in chosen}
    if len(kinds) > 1 or len({shape[:2] for shape in chosen.values()}) > 1:
        raise UnusableInput(f"{folder} has cameras of several kinds or sizes: {chosen}; choose some (--camera NAME)")
    if "action" not in features and actions:
        raise UnusableInput(f"{folder} has no feature named 'action'; there are {sorted(features)}")
    if info["fps"] != int(info["fps"]):
        raise UnusableInput(f"{folder} has {info['fps']} frames/s; a dataset has a whole number")
    rewards = "next.reward" in features and "next.done" in features
    state = features.get("observation.state")
    proprio = () if state is None else _names(state)
    space = _space(folder, exported, features["action"]) if "action" in features else UNKNOWN
    bounds = set(BOUNDS) <= set(features)
    return Schema(space, chosen, int(info["fps"]), kinds == {"video"}, proprio, rewards, bounds)


def read_export(folder: Path) -> dict[str, Any]:
    """What an export of ours says of itself; empty for a dataset of others."""
    path = folder / EXPORT_FILE
    if not path.is_file():
        return {}
    with reading(path):
        told: dict[str, Any] = dict(json.loads(path.read_bytes()))
    return told


def records_of(folder: Path, exported: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of the files of an export of ours."""
    with reading(folder / EXPORT_FILE):
        records = {str(name): dict(record) for name, record in exported.get("files", {}).items()}
        for name, record in records.items():
            if ".." in Path(name).parts or not (isinstance(record["bytes"], int) and isinstance(record["sha256"], str)):
                raise ValueError(f"{name} has no bytes and SHA-256, or lies elsewhere")
    return records


def _space(folder: Path, exported: Mapping[str, Any], feature: Mapping[str, Any]) -> ActionSpace:
    if exported:
        with reading(folder / EXPORT_FILE):
            space = Schema.from_json(exported["schema"]).space
        if list(space.columns) == list(_names(feature)):
            return space
    names, whole, each = _names(feature), folder / "meta/stats.json", folder / "meta/episodes_stats.jsonl"
    if whole.is_file():
        with reading(whole):
            return _told(names, [json.loads(whole.read_bytes())["action"]])
    if each.is_file():  # v2.1 tells of every episode by itself
        with reading(each):
            lines = each.read_text("utf-8").splitlines()
            return _told(names, [json.loads(line)["stats"]["action"] for line in lines])
    return ActionSpace((continuous("action", names),))


def _told(names: tuple[str, ...], told: Sequence[Mapping[str, Any]]) -> ActionSpace:
    moments = reduce(Moments.merge, map(Moments.of_published, told))
    if moments.mean.shape != (len(names),):
        raise ValueError(f"its statistics of the action are of {moments.mean.size} numbers; there are {len(names)}")
    std = np.sqrt(moments.square / moments.count)
    return ActionSpace((scaled_axes("action", names, moments.low, moments.high, moments.mean, std),))


def _names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of a vector's elements: a list, {"motors": [...]}, {name: position}, or made up."""
    names, width = feature.get("names"), int(np.prod(feature["shape"]))
    if isinstance(names, dict):
        inner = list(names.values())
        names = inner[0] if len(inner) == 1 and isinstance(inner[0], list) else list(names)
    if not isinstance(names, list) or len(set(map(str, names))) != width:
        names = list(range(width))
    return tuple(str(name) for name in names)


def _camera_shape(feature: Mapping[str, Any]) -> tuple[int, int, int]:
    a, b, c = (int(side) for side in feature["shape"])
    first = str((feature.get("names") or ["height"])[0])
    return (b, c, a) if first.startswith("channel") else (a, b, c)
