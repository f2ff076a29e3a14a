"""From the rows of a label file to the steps of an episode, by frame or by time, on the video's clock or their own.

A row belongs to the step whose frames enclose it. Where several do, a key that any of them presses is pressed, changes
add up, and of choices and absolute values the last holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict.clip import MISSING, RECORDED
from retrodict.data.guarded import GRID
from retrodict.data.label_file import LabelRow, Labels
from retrodict.errors import UnknownName, UnusableInput
from retrodict.segments import GAUSSIAN, ONE_HOT
from retrodict.spaces import ActionSpace

Clock = Literal["video", "own"]
CLOCKS: tuple[Clock, ...] = ("video", "own")
NEAR = 1e-3  # seconds: what lies less before a frame belongs to it, as mkv rounds the times of frames to milliseconds
SCAN = 10.0  # seconds by which a clock of its own may be off
# Standard deviations by which the best offset must stand out from all others. Measured with the walks of
# tests/data/test_label_steps.py: 4.5 at most over 450 logs of other videos; 7.5 at least over 160 right ones of a
# minute or three, with noise up to five times that of the test.
CLEAR = 6.0
APART = 1.0  # seconds around the best offset that are not "others"
SHORTEST, STRETCH = 20.0, 300.0  # seconds that log and video must share; that are compared at most

Floats = npt.NDArray[np.float64]
Steps = tuple[Float[Tensor, "1 t-1 d"], UInt8[Tensor, "1 t-1"]]


def assign_files(labels: Labels, files: Sequence[str]) -> dict[str, list[LabelRow]]:
    """Returns the rows of each video file; a row names its file by path or, where that is unique, by name.

    Raises:
        UnusableInput: a row names a file that is not there, or two files share the name.
    """
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(Path(file).name, []).append(file)
    known, result = set(files), dict[str, list[LabelRow]]()
    for row in labels.rows:
        matches = [row.file] if row.file in known else by_name.get(row.file, [])
        if not matches:
            raise labels.wrong(row.line, str(UnknownName("video file", row.file, files)))
        if len(matches) > 1:
            raise labels.wrong(row.line, f"{row.file!r} names {len(matches)} files: {matches}; write the whole path")
        result.setdefault(matches[0], []).append(row)
    return result


@dataclass(frozen=True, slots=True)
class Timing:
    """When the frames of an episode are shown, which is made of one or more files one after the other.

    `files` holds for each file the seconds of its frames from its first, `starts` when each starts in the episode.
    Frame i of the episode is frame `index[i]` of all files together, shown at `shown[i]` seconds.
    """

    files: tuple[Floats, ...]
    starts: tuple[float, ...]
    index: npt.NDArray[np.int64]
    shown: Floats

    @staticmethod
    def plain(shown: Floats) -> Timing:
        """Returns that of an episode which is one file, frame by frame."""
        return Timing((shown,), (0.0,), np.arange(len(shown)), shown)


def label_steps(labels: Labels, rows: Sequence[Sequence[LabelRow]], timing: Timing) -> Steps:
    """Returns actions and source of one episode from the rows of each of its files.

    Rows by time that come more often than frames are a log: what lies outside of the episode is left out, and a step
    that it does not cover is missing.

    Raises:
        UnusableInput: a frame or time outside its file, the last frame, or two labels that differ for one frame.
    """
    told = [np.unique([row.time for row in part if row.time is not None]) for part in rows]
    dense = any(
        len(at) > 2 and len(t) > 1 and float(np.median(np.diff(at))) < 0.9 * float(np.median(np.diff(t)))
        for at, t in zip(told, timing.files, strict=True)
    )
    if not dense:
        return _by_frame(labels, rows, timing)
    flat = [(row, start) for part, start in zip(rows, timing.starts, strict=True) for row in part]
    at = np.array([start + (row.time or 0.0) for row, start in flat])
    own = np.concatenate([start + part for part, start in zip(timing.files, timing.starts, strict=True)])
    return _by_time(labels, [row for row, _ in flat], at, own[timing.index])  # a frame shown again shows nothing new


def _by_frame(labels: Labels, rows: Sequence[Sequence[LabelRow]], timing: Timing) -> Steps:
    given: dict[int, LabelRow] = {}
    base, index = 0, timing.index
    for number, (part, at) in enumerate(zip(rows, timing.files, strict=True)):
        for row in part:
            frame = base + _frame(labels, row, at, number == len(rows) - 1)
            if frame in given and given[frame].vector != row.vector:
                raise labels.wrong(
                    row.line, f"{row.file}, frame {frame - base}: {_words(row)}, but line {given[frame].line} says "
                    f"{_words(given[frame])} for the same step",
                )  # fmt: skip
            given[frame] = row
        base += len(at)
    frames = np.array(sorted(given), np.int64)
    step = np.searchsorted(index, frames, "right") - 1
    kept = step < len(index) - 1  # others lie beyond the last frame that the new rate keeps
    values = np.array([given[frame].vector for frame in frames.tolist()]).reshape(len(frames), labels.space.width)
    whole = np.bincount(step[kept], minlength=len(index) - 1) >= np.diff(index)
    return _summed(labels.space, values[kept], step[kept], whole if _relative(labels.space) else whole | True)


def _by_time(labels: Labels, rows: Sequence[LabelRow], at: Floats, shown: Floats) -> Steps:
    order = np.argsort(at, kind="stable")
    at, values = at[order], np.array([row.vector for row in rows])[order]
    step = np.searchsorted(shown, at + NEAR, "right") - 1
    inside = (step >= 0) & (step < len(shown) - 1)
    if not inside.any():
        raise labels.wrong(
            rows[0].line, f"none of the times of {rows[0].file}, {at[0]:g}..{at[-1]:g} s, lies within its "
            f"{shown[-1]:g} s of video; if they are on a clock of their own, give --label-clock own",
        )  # fmt: skip
    times = np.unique(at)
    gaps = np.diff(times)
    apart = float(np.median(gaps)) if len(gaps) else 0.0
    length = np.diff(shown)
    usual = float(np.median(length[length > 0]))
    if _relative(labels.space) and apart > 1.5 * usual:
        raise labels.wrong(
            rows[0].line, f"changes are logged every {apart:g} s, and frames come every {usual:g} s; "
            f"resample the video with --fps {max(1, int(1 / apart))} or less",
        )  # fmt: skip
    lost = np.flatnonzero(gaps > 2.5 * apart)  # between these rows and the next ones
    starts, stops = [-np.inf, *(times[lost] + apart), times[-1] + apart], [times[0] - apart, *times[lost + 1], np.inf]
    covered = np.ones(len(length), bool)
    for start, stop in zip(starts, stops, strict=True) if apart < usual else ():
        covered &= (shown[1:] <= start + GRID) | (shown[:-1] >= stop - GRID)
    return _summed(labels.space, values[inside], step[inside], covered)


def _summed(space: ActionSpace, values: Floats, step: npt.NDArray[np.int64], whole: npt.NDArray[np.bool_]) -> Steps:
    """Makes one action of all rows of a step (`step` does not fall); steps that are not whole stay missing."""
    actions = np.zeros((len(whole), space.width))
    source = np.full(len(whole), MISSING, np.uint8)
    if len(step):
        first = np.flatnonzero(np.diff(step, prepend=-1))
        last = np.append(first[1:], len(step)) - 1
        for segment, columns, _ in space.slices():
            part = values[:, columns]
            if segment.kind == "binary":
                joined = np.maximum.reduceat(part, first)
            elif segment.kind in GAUSSIAN and segment.relative:
                joined = np.add.reduceat(part, first)
            else:
                joined = part[last]
            actions[step[first], columns] = joined
        source[step[first]] = RECORDED
    actions[~whole], source[~whole] = 0.0, MISSING
    return torch.from_numpy(actions.astype(np.float32))[None], torch.from_numpy(source)[None]


def _relative(space: ActionSpace) -> bool:
    return any(segment.kind in GAUSSIAN and segment.relative for segment in space.segments)


def _frame(labels: Labels, row: LabelRow, times: Floats, last: bool) -> int:
    """Returns the number of the frame of its file that a row labels; the last frame of all has none."""
    count = len(times)
    if row.frame is not None:
        frame, met = row.frame, f"frame {row.frame}"
    else:
        assert row.time is not None  # one of the two is there
        met = f"time {row.time:g} s"
        frame = -1 if not row.time >= 0 else int(np.searchsorted(times, row.time + NEAR, "right")) - 1
        if row.time > times[-1] + NEAR:
            frame = count
    if not 0 <= frame < count:
        raise labels.wrong(row.line, f"{row.file} has frames 0..{count - 1} until {times[-1]:g} s; got {met}")
    if last and frame == count - 1:
        raise labels.wrong(
            row.line, f"{met} is the last frame of {row.file}; an action leads from a frame to the next, so the last "
            f"that can be labelled is {count - 2}",
        )  # fmt: skip
    return frame


def _words(row: LabelRow) -> str:
    return ", ".join(f"{name} = {value}" for name, value in row.action.items())


def log_steps(
    labels: Labels, rows: Sequence[LabelRow], shown: Floats, motion: Callable[[int, int], Floats]
) -> tuple[Steps, float]:
    """Returns actions and source of one episode from rows on a clock of their own, and by how much it is ahead (s).

    `motion(first, last)` measures how much the picture changes between neighbours of the frames first..last-1. Times
    that lie nowhere near the video's count from the first row, such as those of a day.

    Raises:
        UnusableInput: the rows have no times, or no offset within `SCAN` seconds stands out.
    """
    for row in rows:
        if row.time is None:
            raise labels.wrong(row.line, "labels on a clock of their own need a time, not a frame")
    at = np.array([row.time for row in rows])
    order = np.argsort(at, kind="stable")
    origin = 0.0 if at.min() < shown[-1] + SCAN and at.max() > -SCAN else float(at.min())
    begin = max(0.0, at.min() - origin - SCAN)
    first, last = np.searchsorted(shown, [begin, begin + STRETCH]).tolist()
    try:
        if last - first < 20:
            raise UnusableInput("fewer than 20 of its frames lie near the labels in time")
        values = np.array([row.vector for row in rows])[order]
        offset = clock_offset(labels.space, at[order] - origin, values, shown[first:last], motion(first, last))
    except UnusableInput as error:
        raise labels.wrong(rows[0].line, f"{rows[0].file}: {error}") from error
    return _by_time(labels, rows, at - origin - offset, shown), origin + offset


def clock_offset(space: ActionSpace, at: Floats, values: Floats, shown: Floats, motion: Floats) -> float:
    """Returns by how many seconds a log's clock is ahead of the video's: where actions explain motion best.

    `at` (growing) and `values` are the log; `motion` is how much the picture changes from each frame, shown at `shown`
    seconds, to the next. Each offset is scored by the multiple correlation of motion with what the actions do in each
    step: the keys and choices held, the size of changes, the change of absolute values; each less its mean over a
    second around, so that slow changes, which fit anywhere, count for nothing.

    Raises:
        UnusableInput: none within `SCAN` seconds stands out from all others by `CLEAR` standard deviations.
    """
    gaps = np.diff(at)
    apart = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0.0
    log = np.append(at, at[-1] + apart), _total(_doings(space, values))
    moved = _detail(shown, _total(motion[:, None]), shown)[:, 0]
    step = float(np.median(np.diff(shown)))
    coarse = np.arange(-round(SCAN / step), round(SCAN / step) + 1) * step
    score = np.array([_explained(*log, shown, moved, offset) for offset in coarse])
    best = float(coarse[score.argmax()])
    others = score[np.abs(coarse - best) > max(APART, 3 * step)]
    if score.max() - others.max() < CLEAR * others.std() or score.max() == 0 or abs(best) > SCAN - 2 * step:
        raise UnusableInput(
            f"its actions fit the motion in its video at no offset within {SCAN:g} s clearly better than at others "
            f"(best {best:+.2f} s, correlation {score.max():.2f}; next {others.max():.2f}). Give times on the video's "
            "clock, or a minute and more in which much happens"
        )
    fine = best + np.arange(-8, 9) / 8 * step
    return float(fine[np.argmax([_explained(*log, shown, moved, offset) for offset in fine])])


def _total(values: Floats) -> Floats:
    """Returns running sums from zero on, along time."""
    return np.concatenate([np.zeros_like(values[:1]), values.cumsum(0)])


def _doings(space: ActionSpace, values: Floats) -> Floats:
    """What an action does, as columns that motion may depend on."""
    parts = []
    for segment, columns, _ in space.slices():
        part = values[:, columns]
        if segment.kind in (*ONE_HOT, "binary"):
            parts.append(part)
        else:
            change = part if segment.relative else np.diff(part, axis=0, prepend=part[:1])
            parts.append(np.linalg.norm(change, axis=1, keepdims=True))
    return np.concatenate(parts, 1)


def _detail(edges: Floats, total: Floats, at: Floats) -> Floats:
    """Returns what was gained between every two times, less the mean gain over a second around them."""

    def gained(times: Floats) -> Floats:
        return np.stack([np.interp(times, edges, column) for column in total.T], 1)

    middle = (at[1:] + at[:-1]) / 2
    return np.diff(gained(at), axis=0) - np.diff(at)[:, None] * (gained(middle + 0.5) - gained(middle - 0.5))


def _explained(edges: Floats, total: Floats, shown: Floats, moved: Floats, offset: float) -> float:
    """Multiple correlation of motion with actions between every two frames, where the log covers them."""
    at = shown + offset
    middle = (at[1:] + at[:-1]) / 2
    inside = (middle >= max(edges[0], at[0]) + 0.5) & (middle <= min(edges[-1], at[-1]) - 0.5)
    shared = inside.sum() * np.median(np.diff(shown)) + 1
    if shared < max(SHORTEST, 0.5 * min(shown[-1] - shown[0], edges[-1] - edges[0])):
        return 0.0
    design = np.column_stack([np.ones(inside.sum()), _detail(edges, total, at)[inside]])
    seen = moved[inside] - moved[inside].mean()
    left = seen - design @ np.linalg.lstsq(design, seen, rcond=None)[0]
    return float(np.sqrt(max(0.0, 1 - (left @ left) / max(float(seen @ seen), 1e-12))))
