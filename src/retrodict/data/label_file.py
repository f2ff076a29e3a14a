"""Labels from a CSV file: columns file, frame (or time) and one per action segment.

`frame` counts from 0, `time` is in seconds; the action leads from that frame to the next. A value is a name or a
number. What the columns hold decides the action space: names or small whole numbers are choices, others continuous.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict.clip import MISSING, RECORDED
from retrodict.data.guarded import GRID
from retrodict.errors import UnknownName, UnusableInput
from retrodict.spaces import ActionSpace, Segment, categorical, continuous

MOST_VALUES = 64  # whole numbers below this are read as choices


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of the file: at `frame` or at `time` (seconds) of `file`, this action was taken."""

    line: int
    file: str
    frame: int | None
    time: float | None
    action: Mapping[str, str | float]


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

    Raises:
        UnusableInput: the file cannot be read, or a line is wrong; the message names it.
    """
    path = Path(path)
    header, lines = _read(path)
    names = [name for name in header if name not in ("file", "frame", "time")]
    _check_header(path, header, names, space)
    if space is None:
        space = ActionSpace(tuple(_segment(path, name, [(n, row[name]) for n, row in lines]) for name in names))
    labels = Labels(path, space, ())
    return Labels(path, space, tuple(_row(labels, line, row) for line, row in lines))


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            lines = []
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(header):
                    raise UnusableInput(
                        f"{path}, line {reader.line_num}: {len(values)} values for the {len(header)} columns {header}"
                    )
                row = {name: value.strip() for name, value in zip(header, values, strict=True)}
                lines.append((reader.line_num, row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableInput(f"{path} cannot be read as a CSV file of labels: {error}") from error
    if not lines:
        raise UnusableInput(f"{path} holds no labels; give lines such as: file,frame,action / video.mp4,12,left")
    return header, lines


def _check_header(path: Path, header: list[str], names: list[str], space: ActionSpace | None) -> None:
    want = "needs the columns file, frame (or time), and one or more for the action, such as: file,frame,action"
    if len(set(header)) != len(header) or "" in header:
        raise UnusableInput(f"{path}, line 1: every column needs a name of its own; got {header}")
    if "file" not in header or ("frame" in header) == ("time" in header) or not names:
        raise UnusableInput(f"{path}, line 1: a label file {want}; got {','.join(header)}")
    if space is not None:
        known = [segment.name for segment in space.segments]
        for name in names:
            if name not in known:
                raise UnusableInput(f"{path}, line 1: {UnknownName('action segment', name, known)}")
        if absent := [name for name in known if name not in names]:
            raise UnusableInput(f"{path}, line 1: columns for the action segments {absent} are missing")


def _segment(path: Path, name: str, values: Sequence[tuple[int, str]]) -> Segment:
    for line, value in values:
        if not value:
            raise UnusableInput(f"{path}, line {line}: {name} is empty; leave out lines without a label")
    numbers = [_number(value) for _, value in values]
    if any(number is None for number in numbers):
        return categorical(name, sorted({value for _, value in values}))
    known = [number for number in numbers if number is not None]
    for (line, value), number in zip(values, known, strict=True):
        if not math.isfinite(number):
            raise UnusableInput(f"{path}, line {line}: {name} is {value}; give a finite number")
    if all(value.isdecimal() and number < MOST_VALUES for (_, value), number in zip(values, known, strict=True)):
        return categorical(name, [str(i) for i in range(int(max(known)) + 1)])
    low, high = min(known), max(known)
    return continuous(name, (name,), low=low, high=high if high > low else low + 1.0)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _row(labels: Labels, line: int, row: Mapping[str, str]) -> LabelRow:
    action: dict[str, str | float] = {}
    for segment in labels.space.segments:
        value = row[segment.name]
        number = _number(value)
        if segment.kind == "continuous":
            if number is None or not math.isfinite(number):
                raise labels.wrong(line, f"{segment.name} is {value!r}; give a finite number")
            action[segment.name] = number
        else:
            action[segment.name] = value
    if not row["file"]:
        raise labels.wrong(line, "file is empty")
    try:
        labels.space.vector(action)
        frame = int(row["frame"]) if "frame" in row else None
        time = float(row["time"]) if "time" in row else None
    except (UnusableInput, ValueError) as error:
        raise labels.wrong(line, str(error)) from error
    return LabelRow(line, row["file"], frame, time, action)


def assign_files(labels: Labels, files: Sequence[str]) -> dict[str, list[LabelRow]]:
    """Returns the rows of each video file; a row names its file by path or, where that is unique, by name.

    Raises:
        UnusableInput: a row names a file that is not there, or two files share the name.
    """
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(Path(file).name, []).append(file)
    result: dict[str, list[LabelRow]] = {}
    for row in labels.rows:
        matches = [row.file] if row.file in files else by_name.get(row.file, [])
        if not matches:
            raise labels.wrong(row.line, str(UnknownName("video file", row.file, files)))
        if len(matches) > 1:
            raise labels.wrong(row.line, f"{row.file!r} names {len(matches)} files: {matches}; write the whole path")
        result.setdefault(matches[0], []).append(row)
    return result


def label_steps(
    labels: Labels, rows: Sequence[LabelRow], times: Sequence[float], index: Sequence[int]
) -> tuple[Float[Tensor, "1 t-1 d"], UInt8[Tensor, "1 t-1"]]:
    """Returns actions and source of one episode.

    `times` are the seconds of the file's frames from its first; frame i of the episode is frame `index[i]` of the
    file. A label belongs to the step whose frames enclose its own.

    Raises:
        UnusableInput: a frame or time outside the file, the last frame, or two labels that differ for one step.
    """
    actions = torch.zeros(1, len(index) - 1, labels.space.width)
    source = torch.full((1, len(index) - 1), MISSING, dtype=torch.uint8)
    given: dict[int, LabelRow] = {}
    for row in rows:
        frame = _frame(labels, row, times)
        step = int(np.searchsorted(np.asarray(index), frame, "right")) - 1
        if step >= len(index) - 1:
            continue  # beyond the last frame that the new rate keeps
        if step in given and dict(given[step].action) != dict(row.action):
            raise labels.wrong(
                row.line, f"{row.file}, frame {frame}: {_words(row.action)}, but line {given[step].line} says "
                f"{_words(given[step].action)} for the same step",
            )  # fmt: skip
        given[step] = row
        actions[0, step] = labels.space.vector(row.action)
        source[0, step] = RECORDED
    return actions, source


def _frame(labels: Labels, row: LabelRow, times: Sequence[float]) -> int:
    count = len(times)
    if row.frame is not None:
        frame, met = row.frame, f"frame {row.frame}"
    else:
        assert row.time is not None  # one of the two is there
        met = f"time {row.time:g} s"
        frame = -1 if not row.time >= 0 else int(np.searchsorted(np.asarray(times), row.time + GRID, "right")) - 1
        if row.time > times[-1] + GRID:
            frame = count
    if not 0 <= frame < count:
        raise labels.wrong(row.line, f"{row.file} has frames 0..{count - 1} until {times[-1]:g} s; got {met}")
    if frame == count - 1:
        raise labels.wrong(
            row.line, f"{met} is the last frame of {row.file}; an action leads from a frame to the next, so the last "
            f"that can be labelled is {count - 2}",
        )  # fmt: skip
    return frame


def _words(action: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in action.items())
