"""HTML tables: the numbers behind every chart, for those who copy numbers or cannot see the chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retrodict.report.markup import Markup, element, join
from retrodict.report.result import MISSING, duration, interval, memory, number


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], figures: Sequence[int] = ()) -> Markup:
    """Returns a table whose first column names the row; the columns numbered in `figures` stand to the right."""
    side = ["right" if i in figures else None for i in range(len(head))]
    heads = [element("th", words, scope="col", class_=side[i]) for i, words in enumerate(head)]
    body = []
    for row in rows:
        cells = [element("td", words, class_=side[i]) for i, words in enumerate(row) if i]
        body.append(element("tr", element("th", row[0], scope="row"), *cells))
    inner = join(element("caption", caption), element("thead", element("tr", *heads)), element("tbody", *body))
    return element("div", element("table", inner), class_="scroll")


def folded(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], figures: Sequence[int] = ()) -> Markup:
    """Returns the same table behind a line that opens it."""
    return element("details", element("summary", "The numbers"), table(caption, head, rows, figures))


def of_points(caption: str, unit: str, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markup:
    """Returns the numbers of curves; each group (this run, committed) is a list of series."""
    rows = [
        [
            str(one["name"]),
            f"{p['x']:,}",
            number(p.get("value")),
            interval(p.get("low"), p.get("high")) or MISSING,
            seeds(p),
            group,
        ]
        for group, series in groups.items()
        for one in series
        for p in one["points"]
    ]
    return folded(caption, ["", unit, "value", "95 % interval", "seeds", "from"], rows, (1, 2, 3, 4))


def of_matrix(caption: str, rows: Sequence[str], columns: Sequence[str], matrix: Sequence[Sequence[float]]) -> Markup:
    """Returns counts with their names."""
    cells = [[name, *(f"{count:,}" for count in counts)] for name, counts in zip(rows, matrix, strict=True)]
    return folded(caption, ["", *columns], cells, range(1, len(columns) + 1))


def seeds(row: Mapping[str, Any]) -> str:
    """Returns a row's number of seeds as text."""
    return MISSING if row.get("seeds") is None else str(row["seeds"])


def of_stages(stages: Sequence[Mapping[str, Any]]) -> Markup:
    """Returns time and memory per stage with a bar for the time, and their total and peak."""
    longest = max((one.get("seconds") or 0.0 for one in stages), default=0.0) or 1.0
    known = [one["memory_mb"] for one in stages if one.get("memory_mb") is not None]
    side = {"": "time", "time": "right", "peak memory": "right"}
    heads = [
        element("th", words, scope="col", class_=side.get(words)) for words in ("stage", "", "time", "peak memory")
    ]
    total = [
        element("th", "in all", scope="row"),
        element("td", class_="time"),
        element("td", duration(sum(one.get("seconds") or 0.0 for one in stages)), class_="right"),
        element("td", memory(max(known, default=None)), class_="right"),
    ]
    inner = join(
        element("caption", "Wall-clock time and peak memory of each stage"),
        element("thead", element("tr", *heads)),
        element("tbody", *(_stage(one, longest) for one in stages)),
        element("tfoot", element("tr", *total)),
    )
    return element("div", element("table", inner, class_="stages"), class_="scroll")


def _stage(one: Mapping[str, Any], longest: float) -> Markup:
    seconds, note = one.get("seconds"), one.get("note")
    bar = None if seconds is None else element("span", style=f"width:{100 * seconds / longest:.1f}%")
    return element(
        "tr",
        element("th", str(one["name"]), element("small", str(note)) if note else None, scope="row"),
        element("td", bar, class_="time"),
        element("td", duration(seconds), class_="right"),
        element("td", memory(one.get("memory_mb")), class_="right"),
    )
