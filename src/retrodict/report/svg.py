"""What every chart is made of: the drawing itself, scales, ticks, axes, marks and labels that do not collide.

Lengths are CSS pixels at the drawing's natural width. Colours are CSS variables of the page, so that one drawing
serves the light and the dark theme; `slot` picks a series' colour and its mark, so colour is never the only carrier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from retrodict.report.markup import Markup, element, join

SLOTS = 5
LETTER = 6.7  # mean width of a letter at the charts' 12 px, generous enough for wide system fonts
LINE = 14.0  # height of a line of text


def drawing(width: float, height: float, title: str, desc: str, *children: str | None) -> Markup:
    """Returns a complete SVG with its title and description for those who cannot see it."""
    return element(
        "svg",
        element("title", title),
        element("desc", desc),
        *children,
        role="img",
        viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width:{width / 16:g}rem",
    )


def text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """Returns one line of text whose baseline is at y; anchor is start, middle or end."""
    return element("text", words, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Returns a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str, opacity: float | None = None) -> Markup:
    """Returns a filled rectangle."""
    return element("rect", x=x, y=y, width=width, height=height, class_=class_, fill_opacity=opacity)


def path(points: Sequence[tuple[float, float]], class_: str, closed: bool = False) -> Markup:
    """Returns straight strokes through points (x, y)."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_)


def mark(x: float, y: float, slot: int, size: float = 4.5, class_: str = "mark") -> Markup:
    """Returns a point's mark; the shape tells the slot: circle, square, diamond, triangle, inverted triangle."""
    class_ = f"{class_} s{slot % SLOTS}"
    shape = slot % SLOTS
    if shape == 0:
        return element("circle", cx=x, cy=y, r=size, class_=class_)
    if shape == 1:
        return element("rect", x=x - 0.9 * size, y=y - 0.9 * size, width=1.8 * size, height=1.8 * size, class_=class_)
    wide, tall = 1.15 * size, (size if shape == 3 else -size)
    if shape == 2:
        corners = [(x, y - 1.3 * size), (x + 1.3 * size, y), (x, y + 1.3 * size), (x - 1.3 * size, y)]
    else:
        corners = [(x - wide, y + tall), (x + wide, y + tall), (x, y - 1.1 * tall)]
    return path(corners, class_, closed=True)


def width_of(words: str) -> float:
    """Returns about how wide a line of text is."""
    return LETTER * len(words)


def shorten(words: str, width: float) -> str:
    """Returns text cut to about a width, with an ellipsis where it was cut."""
    room = max(2, int(width / LETTER + 1e-6))
    return words if len(words) <= room else words[: room - 1].rstrip() + "…"


def wrap(words: str, width: float, lines: int = 2) -> list[str]:
    """Returns text broken at spaces into at most `lines` lines of about a width; what does not fit is cut."""
    result = [""]
    for word in words.split():
        longer = f"{result[-1]} {word}".strip()
        if not result[-1] or width_of(longer) <= width or len(result) == lines:
            result[-1] = longer
        else:
            result.append(word)
    return [shorten(part, width) for part in result]


def spread(positions: Sequence[float], gaps: Sequence[float], low: float, high: float) -> list[float]:
    """Moves label centres as little as is simple so that none overlap and all stay between low and high.

    `gaps[i]` is the height of label i. Order is kept. Where there is no room for all, they overlap evenly at the top.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [0.0] * len(positions)
    edge = low
    for i in order:
        placed[i] = max(positions[i], edge + gaps[i] / 2)
        edge = placed[i] + gaps[i] / 2
    edge = high
    for i in reversed(order):
        placed[i] = min(placed[i], edge - gaps[i] / 2)
        edge = placed[i] - gaps[i] / 2
    return placed


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns about `count` round numbers between low and high."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= 0.999 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def span(values: Iterable[float]) -> tuple[float, float]:
    """Returns the range of an axis: 0 to 1 for shares, else round numbers around the values and zero."""
    values = list(values)
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    marks = ticks(min(low, 0.0), max(high, 0.0))
    step = marks[1] - marks[0]
    return min(marks[0], step * math.floor(low / step)), max(marks[-1], step * math.ceil(high / step))


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from data to pixels; `log` counts doublings."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Returns the pixel of a value."""
        low, high, value = (math.log2(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * ((value - low) / (high - low) if high > low else 0.5)

    @property
    def ticks(self) -> list[float]:
        """Round numbers along a linear axis."""
        return ticks(self.low, self.high, 5)


def axes(x: Axis, y: Axis, x_label: str, y_label: str, x_ticks: Sequence[tuple[float, str]] | None = None) -> Markup:
    """Returns grid lines, tick labels and the names of both axes; y's name stands above its axis, not on its side."""
    marks = x_ticks if x_ticks is not None else [(tick, f"{tick:g}") for tick in x.ticks]
    parts = [line(x.start, y(tick), x.end, y(tick), "grid") for tick in y.ticks]
    parts += [text(x.start - 8, y(tick) + 4, f"{tick:g}", "end") for tick in y.ticks]
    parts += [text(x(tick), y.start + 18, words, "middle") for tick, words in marks]
    parts.append(line(x.start, y.start, x.end, y.start, "axis"))
    parts.append(text(x.start, y.end - 12, y_label, class_="name"))
    parts.append(text(x.end, y.start + 36, x_label, "end", "name"))
    return element("g", join(*parts))
