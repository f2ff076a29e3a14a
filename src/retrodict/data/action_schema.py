"""An action schema: what the parts of an action are, as a JSON file that a person reads and corrects.

{"segments": [
  {"name": "move", "kind": "categorical", "values": ["left", "right", "stay"], "indistinguishable": []},
  {"name": "keys", "kind": "binary", "values": ["jump", "fire"]},
  {"name": "arm", "kind": "continuous", "values": ["x", "y"], "unit": "m", "range": [-0.1, 0.1],
   "relative": true, "tolerance": 0.1}]}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrodict.data.durable import to_json
from retrodict.errors import UnknownName, UnusableInput
from retrodict.segments import KINDS, ONE_HOT, Segment, axes, categorical, continuous
from retrodict.spaces import ActionSpace


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _list(value: Any, each: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(each, value))


_NUMBERS: dict[str, Callable[[Any], bool]] = {  # what only a continuous segment has, and what it may be
    "unit": _text,
    "range": lambda value: _list(value, _finite) and len(value) == 2 and value[0] < value[1],
    "relative": lambda value: isinstance(value, bool),
    "tolerance": lambda value: _finite(value) and value > 0,
}
_KEYS: dict[str, Callable[[Any], bool]] = {
    "name": _text, "kind": _text, "values": lambda value: _list(value, _text),
    "indistinguishable": lambda value: _list(value, lambda group: _list(group, _text)), **_NUMBERS,
}  # fmt: skip


def schema_json(space: ActionSpace) -> dict[str, Any]:
    """Returns an action space in the form that a person reads."""
    return {"segments": [_segment_json(segment) for segment in space.segments]}


def _segment_json(segment: Segment) -> dict[str, Any]:
    told: dict[str, Any] = {"name": segment.name, "kind": segment.kind, "values": list(segment.values)}
    if segment.kind in ONE_HOT:
        told["indistinguishable"] = [list(group) for group in segment.groups]
    if segment.kind == "continuous":
        told |= {"unit": segment.unit, "range": [segment.low, segment.high], "relative": segment.relative}
        told["tolerance"] = segment.tolerance
    return told


def read_schema(path: Path | str) -> ActionSpace:
    """Reads an action schema.

    Raises:
        UnusableInput: the file is no such schema; the message names the segment and the key.
    """
    path = Path(path)
    try:
        told = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableInput(f"{path} cannot be read as an action schema (JSON): {error}") from error
    try:
        if not isinstance(told, dict) or not isinstance(told.get("segments"), list):
            raise UnusableInput('expected {"segments": [...]}')
        for name in told:
            if name != "segments":
                raise UnknownName("key of an action schema", name, ["segments"])
        return ActionSpace(tuple(_segment(entry) for entry in told["segments"]))
    except UnusableInput as error:
        raise UnusableInput(f"{path}: {error}") from error


def _segment(told: Any) -> Segment:
    if not isinstance(told, dict) or not {"name", "kind", "values"} <= set(told):
        raise UnusableInput(f"a segment needs name, kind and values; got {told!r:.80}")
    for key, value in told.items():
        if key not in _KEYS:
            raise UnknownName(f"key of segment {told['name']!r}", key, _KEYS)
        if key in _NUMBERS and told["kind"] != "continuous":
            raise UnusableInput(f"segment {told['name']!r} is {told['kind']}; only a continuous one has {key!r}")
        if not _KEYS[key](value):
            raise UnusableInput(f"segment {told['name']!r}: {key} cannot be {value!r:.80}")
    if told["kind"] not in KINDS:
        raise UnknownName("action kind", told["kind"], KINDS)
    more = {key: told[key] for key in ("unit", "relative", "tolerance") if key in told}
    low, high = told.get("range", (-1.0, 1.0))
    groups = tuple(map(tuple, told.get("indistinguishable", ())))
    return Segment(told["name"], told["kind"], tuple(told["values"]), groups, low=low, high=high, **more)


def schema_file(out: Path) -> Path:
    """Returns where the schema of a dataset is kept for a person: beside it."""
    return out.with_name(f"{out.name}.actions.json")


def keep_schema(space: ActionSpace, out: Path) -> list[str]:
    """Writes an inferred action space beside the dataset `out`, unless a file is there, and returns what to tell."""
    path, text = schema_file(out), to_json(schema_json(space))
    lines = [f"{segment.name}: {_words(segment)}" for segment in space.segments]
    if path.exists() and path.read_bytes() != text:
        return [*lines, f"these actions were inferred; {path} says otherwise, and is used with --schema {path}"]
    path.write_bytes(text)
    return [*lines, f"these actions were inferred; where that is wrong, correct {path} and give it as --schema"]


def _words(segment: Segment) -> str:
    if segment.kind != "continuous":
        return f"{segment.kind}, {', '.join(segment.values)}"
    kind = "relative" if segment.relative else "absolute"
    return f"continuous, {', '.join(segment.values)}, {kind}, {segment.low:g}..{segment.high:g} {segment.unit}".rstrip()


def infer_space(actions: npt.NDArray[Any], name: str = "action") -> ActionSpace:
    """Returns the space of recorded actions, shape (n,) or (n, d).

    Whole numbers are choices from 0 to the largest (several columns: a choice each, or keys where all are 0 or 1),
    truth values are keys, other numbers one continuous segment with the smallest and largest as its range.

    Raises:
        UnusableInput: choices below 0, or numbers that are not finite.
    """
    columns = actions.reshape(len(actions), -1)
    names = [str(i) for i in range(columns.shape[1])]
    if columns.dtype.kind == "b" or (columns.dtype.kind in "iu" and len(names) > 1 and columns.max(initial=0) <= 1):
        return ActionSpace((Segment(name, "binary", tuple(names)),))
    if columns.dtype.kind in "iu":
        if columns.min(initial=0) < 0 or columns.max(initial=0) > 4095:
            raise UnusableInput(f"choices are numbered 0..4095; got {columns.min()}..{columns.max()}")
        counts = columns.max(0, initial=0).astype(int) + 1
        each = [name] if len(names) == 1 else [f"{name}.{axis}" for axis in names]
        choices = [categorical(n, [str(i) for i in range(k)]) for n, k in zip(each, counts, strict=True)]
        return ActionSpace(tuple(choices))
    if not columns.size:
        return ActionSpace((continuous(name, names),))
    return ActionSpace((axes(name, names, columns.astype(np.float64)),))


def lay_out(actions: npt.NDArray[Any], space: ActionSpace) -> npt.NDArray[np.float32]:
    """Returns recorded actions, shape (n,) or (n, d), as rows of a space: choices become one-hot columns.

    Raises:
        UnusableInput: they do not fit the space.
    """
    columns = actions.reshape(len(actions), -1)
    wanted = sum(1 if segment.kind in ONE_HOT else segment.width for segment in space.segments)
    if columns.shape[1] != wanted:
        raise UnusableInput(f"actions have {columns.shape[1]} columns; the action space takes {wanted}")
    parts, at = [], 0
    for segment in space.segments:
        chosen = segment.kind in ONE_HOT
        part = columns[:, at : at + (1 if chosen else segment.width)]
        if (chosen or segment.kind == "binary") and not np.isin(part, np.arange(segment.width if chosen else 2)).all():
            most = segment.width - 1 if chosen else 1
            raise UnusableInput(f"segment {segment.name!r} takes whole numbers 0..{most}; the actions hold others")
        parts.append(np.eye(segment.width, dtype=np.float32)[part[:, 0].astype(np.int64)] if chosen else part)
        at += part.shape[1]
    return np.concatenate(parts, 1).astype(np.float32)
