"""The same result as plain text for a terminal, in at most 100 columns; commands keep their whole length."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from retrodict.report.result import (
    ONE_SEED,
    Result,
    check,
    compared,
    duration,
    interval,
    is_one_seed,
    memory,
    number,
    ranked,
    visible,
)

WIDTH = 100
_NAME, _SCALE = 38, 25  # columns of a row's name and of the drawn interval

Row = Mapping[str, Any]


def text_table(result: Result) -> str:
    """Returns the report's figures as text; a section that the result lacks is left out.

    Raises:
        UnknownName: the result has a section that does not exist.
        UnusableInput: a number is NaN or infinite, or a matrix does not fit its names.
    """
    check(result)
    blocks = [_opening(result)]
    for key, make in (
        ("headline", _headline),
        ("label_curve", partial(_curves, "label accuracy")),
        ("policies", _policies),
        ("policies_by_labels", partial(_curves, "success")),
        ("stages", _stages),
        ("notes", _notes),
        ("commands", _commands),
    ):
        if result.get(key):
            blocks.append(make(result[key]))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _opening(result: Result) -> str:
    words = [str(result[key]) for key in ("title", "summary") if result.get(key)]
    return "\n".join(line for part in words for line in _wrapped(part))


def _wrapped(words: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        visible(words), WIDTH // 2 if _is_wide(words) else WIDTH, initial_indent=first, subsequent_indent=rest
    )


def _headline(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        told = [interval(row.get("low"), row.get("high")), str(row.get("baseline") or "")]
        told += [str(row.get("note") or "")] if row.get("value") is None else []
        told += [ONE_SEED] if is_one_seed([row]) else []
        start = f"{_cell(str(row['name']), _NAME)}  {number(row.get('value')):>5}  "
        lines += _wrapped_after(start, "; ".join(part for part in told if part))
    return "\n".join(lines)


def _wrapped_after(start: str, words: str) -> list[str]:
    """Puts words beside a start of known width and below it, aligned."""
    used = _columns(start)
    room = WIDTH - used
    parts = textwrap.wrap(visible(words), room // 2 if _is_wide(words) else room) or [""]
    return [(start + parts[0]).rstrip(), *(" " * used + part for part in parts[1:])]


def _curves(what: str, part: Row) -> str:
    groups = (("", part.get("series") or []), (" (committed)", part.get("committed") or []))
    series = [(f"{one['name']}{mark}", one["points"]) for mark, rows in groups for one in rows]
    budgets = sorted({point["x"] for _, points in series for point in points})[-6:]
    lines = [_cell(f"{what} by number of {part.get('unit', 'labels')}", _NAME) + "".join(f"{x:>10,}" for x in budgets)]
    for name, points in series:
        values = {point["x"]: point.get("value") for point in points}
        lines.append(_cell(name, _NAME) + "".join(f"{number(values[x]) if x in values else '':>10}" for x in budgets))
    return "\n".join(line.rstrip() for line in lines)


def _policies(rows: Sequence[Row]) -> str:
    title = "success of policies" + (f" ({ONE_SEED})" if is_one_seed(compared(rows)) else "")
    lines = [f"{_cell(title, _NAME + 24)}0{'1':>{_SCALE - 1}}"]
    for row in ranked(rows):
        low, high, value = row.get("low"), row.get("high"), row.get("success")
        told = f"{number(value):>5}  {interval(low, high):<14}"
        note = f" {row['note']}" if value is None and row.get("note") else ""
        lines.append(
            _cell(f"{_cell(str(row['name']), _NAME)} {told}  {_scale(value, low, high)}{note}", WIDTH).rstrip()
        )
    return "\n".join(lines)


def _scale(value: float | None, low: float | None, high: float | None) -> str:
    """Draws an interval from 0 to 1 as `....--o--...`, in plain ASCII."""
    drawn = ["."] * _SCALE
    if low is not None and high is not None:
        for i in range(_place(low), _place(high) + 1):
            drawn[i] = "-"
    if value is not None:
        drawn[_place(value)] = "o"
    return "".join(drawn)


def _place(value: float) -> int:
    return round(min(max(value, 0.0), 1.0) * (_SCALE - 1))


def _stages(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        figures = f"{duration(row.get('seconds')):>12}{memory(row.get('memory_mb')):>10}"
        lines += _wrapped_after(f"{_cell(str(row['name']), _NAME)}{figures}  ", str(row.get("note") or ""))
    seconds = sum(row.get("seconds") or 0.0 for row in rows)
    peak = max((row["memory_mb"] for row in rows if row.get("memory_mb") is not None), default=None)
    return "\n".join([*lines, f"{_cell('in all', _NAME)}{duration(seconds):>12}{memory(peak):>10}"])


def _notes(rows: Sequence[str]) -> str:
    return "\n".join(line for row in rows for line in _wrapped(str(row), "- ", "  "))


def _commands(rows: Sequence[Row]) -> str:
    lines = ["next:"]
    for row in rows:
        lines += [*_wrapped(str(row["say"]), "  ", "  "), f"    {visible(str(row['line']))}"]
    return "\n".join(lines)


def _cell(words: str, width: int) -> str:
    """Cuts or pads text to a number of terminal columns."""
    words = visible(words)
    if _columns(words) > width:
        while _columns(words) > width - 3:
            words = words[:-1]
        words += "..."
    return words + " " * (width - _columns(words))


def _columns(words: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in words)


def _is_wide(words: str) -> bool:
    return _columns(words) > len(words)
