"""Labels from a CSV, JSONL or Parquet file: columns file, frame (or time) and the parts of the action.

`frame` counts from 0, `time` is in seconds; the action leads from that frame to the next. Without a given action
space, what a column holds decides: names or small whole numbers are choices, truth values are keys, other numbers and
lists of numbers are continuous.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrodict.errors import UnknownName, UnusableInput
from retrodict.segments import ONE_HOT, Segment, axes, categorical, segment_vector
from retrodict.spaces import ActionSpace

MOST_VALUES = 64  # whole numbers below this are read as choices
KEYS = ("file", "frame", "time")

Value = str | bool | list[float] | None  # numbers go by their text, as in a CSV file
Lines = list[tuple[int, dict[str, Value]]]


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of the file: at `frame` or at `time` (seconds) of `file`, this action was taken."""

    line: int
    file: str
    frame: int | None
    time: float | None
    action: Mapping[str, str | Sequence[float]]
    vector: tuple[float, ...]  # the action as the space lays it out


@dataclass(frozen=True, slots=True)
class Labels:
    """A label file: its path, for messages, the action space, and the rows."""

    path: Path
    space: ActionSpace
    rows: tuple[LabelRow, ...]

    def wrong(self, line: int, why: str) -> UnusableInput:
        """Returns the error that names a line."""
        return UnusableInput(f"{self.path}, line {line}: {why}")


def read_labels(path: Path | str, space: ActionSpace | None = None) -> Labels:
    """Reads a label file; with `space`, its columns and values must be those of that space.

    A segment is one column of its name (a name, a number, a list of numbers, or the pressed keys as `w+a`, or `none`),
    or one column to each of its own, such as `arm.x` and `arm.y`.

    Raises:
        UnusableInput: the file cannot be read, or a line is wrong; the message names it.
    """
    path = Path(path)
    read = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".parquet": _read_parquet}.get(
        path.suffix.lower(), _read_csv
    )
    header, lines = read(path)
    if not lines:
        raise UnusableInput(f"{path} holds no labels; give lines such as: file,frame,action / video.mp4,12,left")
    names = [name for name in header if name not in KEYS]
    _check_header(path, header, names, space)
    if space is None:
        space = ActionSpace(tuple(_segment(path, name, [(n, row[name]) for n, row in lines]) for name in names))
    labels = Labels(path, space, ())
    return Labels(path, space, tuple(_row(labels, line, row) for line, row in lines))


def _read_csv(path: Path) -> tuple[list[str], Lines]:
    lines: Lines = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(header):
                    raise UnusableInput(
                        f"{path}, line {reader.line_num}: {len(values)} values for the {len(header)} columns {header}"
                    )
                lines.append((reader.line_num, {n: v.strip() for n, v in zip(header, values, strict=True)}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableInput(f"{path} cannot be read as a CSV file of labels: {error}") from error
    return header, lines


def _read_jsonl(path: Path) -> tuple[list[str], Lines]:
    header: list[str] = []
    lines: Lines = []
    number = 0
    try:
        for number, text in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
            if text.strip():
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise TypeError(f"{type(row).__name__} in place of an object")
                header = header or list(row)
                if set(row) != set(header):
                    raise ValueError(f"keys {list(row)} in place of {header}")
                lines.append((number, {name: _plain(value) for name, value in row.items()}))
    except (OSError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnusableInput(f"{path}, line {number}: cannot be read as JSON lines of labels: {error}") from error
    return header, lines


def _read_parquet(path: Path) -> tuple[list[str], Lines]:
    try:
        table = pq.read_table(path, use_threads=False, partitioning=None, page_checksum_verification=True)
        rows = [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]
    except (OSError, pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UnusableInput(f"{path} cannot be read as a Parquet file of labels: {error}") from error
    return table.column_names, list(enumerate(rows, 1))


def _plain(value: Any) -> Value:
    if value is None or isinstance(value, str | bool):
        return value.strip() if isinstance(value, str) else value
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list) and all(isinstance(v, int | float) for v in value):
        return [float(v) for v in value]
    raise TypeError(f"a {type(value).__name__} where a name, a number or a list of numbers was expected")


def _check_header(path: Path, header: list[str], names: list[str], space: ActionSpace | None) -> None:
    want = "needs the columns file, frame (or time), and one or more for the action, such as: file,frame,action"
    if len(set(header)) != len(header) or "" in header:
        raise UnusableInput(f"{path}, line 1: every column needs a name of its own; got {header}")
    if "file" not in header or ("frame" in header) == ("time" in header) or not names:
        raise UnusableInput(f"{path}, line 1: a label file {want}; got {','.join(header)}")
    if space is not None:
        known = {name for s in space.segments for name in (s.name, *s.columns)}
        for name in names:
            if name not in known:
                raise UnusableInput(f"{path}, line 1: {UnknownName('action segment', name, known)}")
        if absent := [s.name for s in space.segments if s.name not in names and not set(s.columns) <= set(names)]:
            raise UnusableInput(f"{path}, line 1: columns for the action segments {absent} are missing")


def _segment(path: Path, name: str, values: Sequence[tuple[int, Value]]) -> Segment:
    """Infers what a column holds."""
    kinds = {type(value) for _, value in values}
    for line, value in values:
        if value is None or value in ("", []):
            raise UnusableInput(f"{path}, line {line}: {name} is empty; leave out lines without a label")
        if not isinstance(value, type(values[0][1])):
            raise UnusableInput(f"{path}, line {line}: {name} is {value!r}; other lines hold {values[0][1]!r}")
    if kinds == {bool}:
        return Segment(name, "binary", (name,))
    if kinds == {list}:
        return _axes(path, name, [(line, value) for line, value in values if isinstance(value, list)])
    texts = [(line, str(value)) for line, value in values]
    numbers = [_number(text) for _, text in texts]
    if any(number is None for number in numbers):
        return categorical(name, sorted({text for _, text in texts}))
    if all(text.isdecimal() and int(text) < MOST_VALUES for _, text in texts):
        return categorical(name, [str(i) for i in range(max(int(text) for _, text in texts) + 1)])
    return _axes(path, name, [(line, [float(text)]) for line, text in texts])


def _axes(path: Path, name: str, values: Sequence[tuple[int, list[float]]]) -> Segment:
    width = len(values[0][1])
    for line, numbers in values:
        if len(numbers) != width:
            raise UnusableInput(f"{path}, line {line}: {name} has {len(numbers)} numbers; other lines have {width}")
        if not all(map(math.isfinite, numbers)):
            raise UnusableInput(f"{path}, line {line}: {name} is {', '.join(map(str, numbers))}; give finite numbers")
    names = (name,) if width == 1 else tuple(map(str, range(width)))
    return axes(name, names, np.array([numbers for _, numbers in values], np.float64))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _row(labels: Labels, line: int, row: Mapping[str, Value]) -> LabelRow:
    if not isinstance(row["file"], str) or not row["file"]:
        raise labels.wrong(line, "file is empty")
    try:
        action = {segment.name: _value(segment, row) for segment in labels.space.segments}
        vector = tuple(
            number for segment in labels.space.segments for number in _columns(segment, action[segment.name])
        )
        frame = int(str(row["frame"])) if "frame" in row else None
        time = float(str(row["time"])) if "time" in row else None
    except (UnusableInput, ValueError) as error:
        raise labels.wrong(line, str(error)) from error
    if time is not None and not math.isfinite(time):
        raise labels.wrong(line, f"time is {time}; give seconds")
    return LabelRow(line, row["file"], frame, time, action, vector)


def _columns(segment: Segment, value: str | Sequence[float]) -> Sequence[float]:
    """Returns a segment's columns; the usual values without a tensor each, as a log has very many."""
    if segment.kind == "continuous" and len(value) == segment.width and not isinstance(value, str):
        if all(map(math.isfinite, value)):
            return value
    elif segment.kind in ONE_HOT and value in segment.values:
        return [float(value == name) for name in segment.values]
    numbers: list[float] = segment_vector(segment, value).tolist()
    return numbers


def _value(segment: Segment, row: Mapping[str, Value]) -> str | Sequence[float]:
    """Returns a segment's value as `ActionSpace.vector` takes it."""
    if segment.name not in row:
        return [_finite(segment, row[name]) for name in segment.columns]
    value = row[segment.name]
    if value is None or value == "":
        raise UnusableInput(f"{segment.name} is empty; leave out lines without a label")
    if segment.kind in (*ONE_HOT, "text"):
        return str(value)
    if isinstance(value, list):
        return value
    if segment.kind == "binary" and isinstance(value, str) and _number(value) is None:
        pressed = [] if value == "none" else value.split("+")
        for key in pressed:
            if key not in segment.values:
                raise UnknownName(f"key of segment {segment.name!r}", key, segment.values)
        return [float(key in pressed) for key in segment.values]
    return [_finite(segment, value)]


def _finite(segment: Segment, value: Value) -> float:
    number = float(value) if isinstance(value, bool) else _number(str(value))
    if number is None or not math.isfinite(number):
        raise UnusableInput(f"{segment.name} is {value!r}; give a finite number")
    return number
