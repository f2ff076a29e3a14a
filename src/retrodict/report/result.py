"""The JSON result that a report shows: which keys it may hold, and how its numbers are written."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from retrodict.errors import UnknownName, UnusableInput

Result = Mapping[str, Any]

KEYS = (
    *("title", "world", "summary", "seeds", "labels", "generated", "versions", "command", "headline", "label_curve"),
    *("confusion", "reliability", "risk_coverage", "codes", "policies", "policies_by_labels", "stages", "commands"),
    *("notes", "committed_from"),
)
ONE_SEED = "one seed: not a comparison"
MISSING = "—"
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check(result: Result) -> None:
    """Refuses a result that a report would show wrongly.

    Raises:
        UnknownName: a section that does not exist.
        UnusableInput: a number is NaN or infinite, or a matrix does not fit its names.
    """
    for key in result:
        if key not in KEYS:
            raise UnknownName("report section", str(key), KEYS)
    _check_finite("result", result)
    for section, rows, columns in (("confusion", "classes", "classes"), ("codes", "codes", "actions")):
        if table := result.get(section):
            _check_matrix(section, table["matrix"], len(table[rows]), len(table[columns]))


def visible(text: str) -> str:
    """Returns text with backslash escapes for what would not show or would act.

    These are control characters, marks that turn the direction of what follows, and the lone surrogates of file names
    that are not UTF-8.
    """
    return "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNING else letter
        for letter in text
    )


def number(value: float | None, digits: int = 2) -> str:
    """Returns a number as text, or an em dash where there is none."""
    return MISSING if value is None else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """Returns `low to high`, or nothing where either is absent."""
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def share(value: float | None) -> str:
    """Returns a share of one as a whole percentage."""
    return MISSING if value is None else f"{100 * value:.0f} %"


def plural(count: int, noun: str) -> str:
    """Returns a count with its noun: 1 seed, 3 seeds."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def duration(seconds: float | None) -> str:
    """Returns seconds as `8.2 s` or `3 min 05 s`."""
    if seconds is None:
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def memory(megabytes: float | None) -> str:
    """Returns megabytes as `800 MB` or `1.4 GB`."""
    if megabytes is None:
        return MISSING
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def is_one_seed(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Says whether any row that has a value rests on a single seed."""
    return any(row.get("seeds") == 1 for row in rows if _value(row) is not None)


def compared(policies: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the policies that learn, which differ from seed to seed; all, where none is marked so."""
    return [row for row in policies if row.get("kind", "route") == "route"] or list(policies)


def ranked(policies: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns policies from the most to the least successful, those without a figure last."""
    return sorted(policies, key=lambda row: -math.inf if _value(row) is None else _value(row), reverse=True)


def _value(row: Mapping[str, Any]) -> Any:
    return row.get("value", row.get("success"))


def _check_finite(path: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableInput(
            f"a report shows finite numbers; {path} is {value}. Use null and a note where there is none."
        )
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_finite(f"{path}.{key}", item)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_finite(f"{path}[{i}]", item)


def _check_matrix(section: str, matrix: Sequence[Sequence[float]], rows: int, columns: int) -> None:
    widths = sorted({len(row) for row in matrix})
    if len(matrix) != rows or (rows and widths != [columns]):
        raise UnusableInput(
            f"{section}.matrix needs {rows} rows of {columns} counts, one for each name; "
            f"it has {len(matrix)} rows of {' or '.join(map(str, widths)) or 'no'} counts"
        )
