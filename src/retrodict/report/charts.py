"""The charts of the report: curves, dots with intervals, heat maps, reliability, risk against coverage.

Each returns one SVG for a given width; a page draws each twice, for narrow and for wide screens, so that text keeps
its size. Labels stand beside what they name; there are no legends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrodict.report.markup import Markup, element, join
from retrodict.report.result import number, share
from retrodict.report.svg import (
    LINE,
    Axis,
    axes,
    drawing,
    line,
    mark,
    path,
    rectangle,
    shorten,
    span,
    spread,
    text,
    width_of,
    wrap,
)

Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """A named series of points {x, value, low, high}; a thin one is context, drawn behind the others."""

    name: str
    points: Sequence[Point]
    slot: int
    thin: bool = False


def curves(title: str, desc: str, series: Sequence[Curve], x_label: str, y_label: str, width: float) -> Markup:
    """Draws series over a doubling x axis, with bands or whiskers where points hold low and high."""
    points = [point for one in series for point in one.points]
    room = min(max((width_of(one.name) for one in series), default=0.0), 0.3 * width) + 14
    height = 250 + 0.16 * width
    numbers = [p[key] for p in points for key in ("value", "low", "high") if p.get(key) is not None]
    xs = sorted({float(p["x"]) for p in points})
    low, high = (xs[0], xs[-1]) if xs else (0.0, 1.0)
    x = Axis(low, high, 40, width - room, log=low > 0)
    y = Axis(*span(numbers), height - 48, 34)
    marks = [(tick, f"{tick:,g}") for tick in _thinned(xs, x)]
    order = sorted(series, key=lambda one: not one.thin)
    parts = [axes(x, y, x_label, y_label, marks), *(_curve(one, x, y) for one in order)]
    return drawing(width, height, title, desc, *parts, _names(series, x, y, room - 14))


def _thinned(xs: Sequence[float], x: Axis) -> list[float]:
    kept: list[float] = []
    for value in reversed(xs):
        if not kept or x(kept[-1]) - x(value) > 44:
            kept.append(value)
    return kept[::-1]


def _curve(one: Curve, x: Axis, y: Axis) -> Markup:
    style = f"s{one.slot}" + (" thin" if one.thin else "")
    known = [p for p in one.points if p.get("value") is not None]
    ranges = [p for p in known if p.get("low") is not None and p.get("high") is not None]
    parts = []
    if len(known) > 1 and len(ranges) == len(known):
        edge = [(x(p["x"]), y(p["high"])) for p in ranges] + [(x(p["x"]), y(p["low"])) for p in reversed(ranges)]
        parts.append(path(edge, f"band {style}", closed=True))
    else:
        parts += [line(x(p["x"]), y(p["low"]), x(p["x"]), y(p["high"]), f"whisker {style}") for p in ranges]
    if len(known) > 1:
        parts.append(path([(x(p["x"]), y(p["value"])) for p in known], f"curve {style}"))
    size, kind = (2.2, "mark thin") if one.thin else (5.0, "mark")
    parts += [mark(x(p["x"]), y(p["value"]), one.slot, size, kind) for p in known]
    return element("g", *parts)


def _names(series: Sequence[Curve], x: Axis, y: Axis, room: float) -> Markup:
    """Writes each name once, beside its last point."""
    last: dict[str, tuple[Point, int]] = {}
    for one in series:
        for point in one.points:
            if point.get("value") is not None and (one.name not in last or point["x"] >= last[one.name][0]["x"]):
                last[one.name] = point, one.slot
    lines = {name: wrap(name, room, 3) for name in last}
    gaps = [LINE * len(lines[name]) + 3 for name in last]
    side = max((x(point["x"]) for point, _ in last.values()), default=x.end) + 12
    heights = spread([y(point["value"]) for point, _ in last.values()], gaps, y.end - 6, y.start + 6)
    parts = []
    for (name, (_, slot)), middle in zip(last.items(), heights, strict=True):
        top = middle + 4 - LINE * (len(lines[name]) - 1) / 2
        parts += [text(side, top + LINE * i, part, class_=f"label s{slot}") for i, part in enumerate(lines[name])]
    return join(*parts)


def dots(title: str, desc: str, rows: Sequence[Point], width: float) -> Markup:
    """Draws one row per policy {name, success, low, high, kind}: a mark and its interval on one scale from 0 to 1."""
    beside = width >= 520
    names = min(max((width_of(str(row["name"])) for row in rows), default=0.0), 0.36 * width) + 16 if beside else 0.0
    pitch, top = (34.0, 8.0) if beside else (48.0, 20.0)
    figures = 116.0 if beside else 8.0
    bottom = top + pitch * len(rows)
    x = Axis(0.0, 1.0, names + 6, width - figures)
    parts = [line(x(tick), top - 6, x(tick), bottom - 6, "grid") for tick in x.ticks]
    parts += [text(x(tick), bottom + 12, f"{tick:g}", "middle") for tick in x.ticks]
    for i, row in enumerate(rows):
        middle = top + pitch * i + (10 if beside else 20)
        written = _written(row)
        if beside:
            parts.append(text(names, middle + 4, shorten(str(row["name"]), names - 8), "end", "label"))
            parts.append(text(x.end + 14, middle + 4, written))
        else:
            parts.append(
                text(
                    x.start, middle - 14, shorten(str(row["name"]), width - width_of(written) - 24), class_="label halo"
                )
            )
            parts.append(text(x.end, middle - 14, written, "end"))
        parts.append(line(x.start, middle, x.end, middle, "grid"))
        parts.append(_dot(row, x, middle))
    return drawing(width, bottom + 22, title, desc, *parts)


def _written(row: Point) -> str:
    if row.get("success") is None or row.get("low") is None or row.get("high") is None:
        return number(row.get("success"))
    return f"{number(row['success'])}  ({number(row['low'])}–{number(row['high'])})"


def _dot(row: Point, x: Axis, middle: float) -> Markup:
    kind = str(row.get("kind", "route"))
    colour = {"route": "s0", "bound": "ink"}.get(kind, "quiet")
    parts = []
    if row.get("low") is not None and row.get("high") is not None:
        parts.append(line(x(row["low"]), middle, x(row["high"]), middle, f"interval {colour}"))
    if row.get("success") is not None:
        shape = 2 if kind == "bound" else 0
        style = {"route": "mark", "bound": "mark solid"}.get(kind, "mark hollow")
        parts.append(mark(x(row["success"]), middle, shape, 6, style))
    return element("g", *parts)


def heat(
    title: str,
    desc: str,
    rows: Sequence[str],
    columns: Sequence[str],
    matrix: Sequence[Sequence[float]],
    names: tuple[str, str],
    width: float,
) -> Markup:
    """Draws counts as shares of their row, in whole per cent; the names say what rows and columns are.

    Where rows and columns are the same classes the diagonal is framed.
    """
    left = min(max(map(width_of, (*rows, f"{names[0]} ↓")), default=0.0), 0.27 * width) + 10
    cell = min((width - left - 4) / max(len(columns), 1), 76.0)
    slanted = any(width_of(name) > cell - 4 for name in columns)
    # Where columns are too narrow for their names, these lean to the right and need room above and beyond.
    above = 0.72 * min(max(map(width_of, columns)), 96.0) if slanted else 0.0
    beyond = 0.72 * min(width_of(columns[-1]), 96.0) - 8 if slanted else 4.0
    cell = min(cell, (width - left - beyond) / max(len(columns), 1))
    tall = min(max(cell, 22.0), 34.0)
    head = 40 + above
    parts = [
        text(left + 2, 11, f"{names[1]} →", class_="name"),
        text(left - 8, head - 8, f"{names[0]} ↓", "end", "name"),
    ]
    for j, name in enumerate(columns):
        parts.append(_heading(name, left + cell * (j + 0.5), head - 8, slanted))
    for i, (name, counts) in enumerate(zip(rows, matrix, strict=True)):
        y = head + tall * i
        parts.append(text(left - 8, y + tall / 2 + 4, shorten(name, left - 10), "end", "label"))
        total = sum(counts)
        for j, count in enumerate(counts):
            part = count / total if total else 0.0
            parts.append(_cell(left + cell * j, y, cell, tall, part, i == j and rows == columns))
    return drawing(left + cell * len(columns) + beyond, head + tall * len(rows) + 4, title, desc, *parts)


def _heading(name: str, x: float, y: float, slanted: bool) -> Markup:
    if not slanted:
        return text(x, y, name, "middle", "label")
    return element("text", shorten(name, 96), class_="label", transform=f"translate({x:.1f} {y:.1f}) rotate(-45)")


def _cell(x: float, y: float, width: float, height: float, part: float, diagonal: bool) -> Markup:
    style = "cell diagonal" if diagonal else "cell"
    shown = part >= 0.005
    size = " small" if width < 22 else ""
    return join(
        rectangle(x + 1, y + 1, width - 2, height - 2, style, 0.06 + 0.74 * part),
        text(
            x + width / 2,
            y + height / 2 + 4,
            f"{100 * part:.0f}" if shown else "·",
            "middle",
            f"count{size}" if shown else None,
        ),
    )


def reliability(title: str, desc: str, bins: Sequence[Point], width: float) -> Markup:
    """Draws accuracy against stated confidence, with the histogram of confidence below on the same scale."""
    x = Axis(0.0, 1.0, 40, width - 12)
    side = x.end - x.start
    y = Axis(0.0, 1.0, 34 + 0.72 * side, 34)
    base = y.start + 62
    most = max((one["count"] for one in bins), default=0) or 1
    known = [one for one in bins if one.get("accuracy") is not None and one["count"] > 0]
    shown = [(x(one["confidence"]), y(one["accuracy"])) for one in known]
    half = 0.45 * min(side / max(len(bins), 1), 26.0)
    parts = [line(x.start, y(tick), x.end, y(tick), "grid") for tick in y.ticks]
    parts += [text(x.start - 8, y(tick) + 4, f"{tick:g}", "end") for tick in y.ticks]
    parts += [text(x(tick), base + 18, f"{tick:g}", "middle") for tick in x.ticks]
    parts += [
        text(x.start, 20, "share that is right", class_="name"),
        text(x.end, base + 36, "stated confidence", "end", "name"),
        line(x.start, y.start, x.end, y.end, "ideal"),
        text(x(0.04), y(0.9), "too modest", class_="remark"),
        text(x(0.98), y(0.06), "too sure", "end", "remark"),
        path(shown, "curve s0") if len(shown) > 1 else Markup(""),
        *(mark(px, py, 0) for px, py in shown),
        *(
            rectangle(
                x(one["confidence"]) - half, base - 44 * one["count"] / most, 2 * half, 44 * one["count"] / most, "bar"
            )
            for one in bins
        ),
        line(x.start, base, x.end, base, "axis"),
        text(x.start + 4, base - 34, "how often", class_="remark"),
    ]
    return drawing(width, base + 42, title, desc, *parts)


def risk_coverage(title: str, desc: str, points: Sequence[Point], width: float) -> Markup:
    """Draws accuracy over the share of steps that keep a label, the least sure dropped first."""
    known = sorted((p for p in points if p.get("accuracy") is not None), key=lambda p: float(p["coverage"]))
    x = Axis(0.0, 1.0, 40, width - 16)
    lowest = min((p["accuracy"] for p in known), default=0.0)
    y = Axis(max(0.0, int(10 * lowest - 0.3) / 10), 1.0, 34 + 0.72 * (x.end - x.start), 34)
    parts = [axes(x, y, "share of steps that keep a label", "share of those that is right")]
    if len(known) > 1:
        parts.append(path([(x(p["coverage"]), y(p["accuracy"])) for p in known], "curve s0"))
    noted = _noted(known)
    low = bool(noted) and y(noted[-1]["accuracy"]) < (y.start + y.end) / 2  # the curve runs above: write below it
    for place, p in enumerate(noted):
        words = f"{share(p['accuracy'])} right when labelling {share(p['coverage'])}"
        row = (len(noted) - 1 - place) * (LINE + 4)
        parts.append(mark(x(p["coverage"]), y(p["accuracy"]), 0))
        parts.append(text(x.end, y.start - 10 - row if low else y.end + 16 + row, words, "end", "label halo"))
    return drawing(width, y.start + 42, title, desc, *parts)


def _noted(known: Sequence[Point]) -> list[Point]:
    """Returns the point at full coverage, and the one nearest 80 % if it is another."""
    if not known:
        return []
    part = min(known, key=lambda p: abs(p["coverage"] - 0.8))
    return [known[-1]] if known[-1]["coverage"] - part["coverage"] < 0.1 else [part, known[-1]]
