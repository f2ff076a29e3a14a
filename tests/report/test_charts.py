"""Charts put marks where the numbers are; scales, ticks and labels behave at their edges."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import fake
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrodict.report import charts
from retrodict.report.svg import Axis, mark, shorten, span, spread, ticks, wrap


def shapes(svg: str, name: str, class_: str) -> list[dict[str, str]]:
    return [dict(one.attrib) for one in ET.fromstring(svg).iter(name) if class_ in one.get("class", "").split()]


def words(svg: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(svg).iter("text")]


def test_a_log_axis_gives_each_doubling_the_same_length() -> None:
    axis = Axis(16, 1024, 0, 60, log=True)
    assert [axis(x) for x in (16, 32, 64, 1024)] == pytest.approx([0, 10, 20, 60])


def test_an_axis_of_one_value_puts_it_in_the_middle() -> None:
    assert Axis(64, 64, 0, 60, log=True)(64) == 30


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.8, 1, [0.8, 0.85, 0.9, 0.95, 1]),
        (0, 2.2, [0, 0.5, 1, 1.5, 2]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_shares_span_zero_to_one_and_other_numbers_more() -> None:
    assert span([0.4, 0.6]) == (0.0, 1.0)
    assert span([]) == (0.0, 1.0)
    low, high = span([0.3, 2.21])
    assert low == 0
    assert high >= 2.21


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_spread_labels_keep_order_and_never_overlap(positions: list[float]) -> None:
    placed = spread(positions, [20.0] * len(positions), 0, 300)
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    gaps = [placed[b] - placed[a] for a, b in pairwise(order)]
    assert all(gap >= 20 - 1e-6 for gap in gaps)
    assert min(placed) >= 10 - 1e-6
    assert max(placed) <= 290 + 1e-6


@given(st.text(max_size=60), st.floats(20, 200))
def test_text_is_cut_to_its_room(text: str, room: float) -> None:
    assert len(shorten(text, room)) <= max(2, room / 6.7)
    assert len(wrap(text, room, 3)) <= 3


def test_wrap_breaks_at_spaces() -> None:
    assert wrap("cloning from the labels alone", 100, 3) == ["cloning from", "the labels", "alone"]


def test_every_slot_has_its_own_mark() -> None:
    drawn = {re.sub(r" class=\"[^\"]*\"", "", mark(0, 0, slot)) for slot in range(5)}
    assert len(drawn) == 5


def test_curves_draw_one_mark_per_known_point_and_name_each_series_once() -> None:
    points = fake.points([16, 64, 256], [0.5, None, 0.9], 0.05, 3)
    fresh = [{"x": 64, "value": 0.7, "low": 0.6, "high": 0.8}]
    series = [charts.Curve("inverse", fresh, 0), charts.Curve("inverse", points, 0, thin=True)]
    svg = charts.curves("t", "d", series, "labels", "accuracy", 600)
    assert len(shapes(svg, "circle", "mark")) == 3
    assert len(shapes(svg, "circle", "thin")) == 2
    assert len(shapes(svg, "line", "whisker")) == 1  # a lone point has no band to carry its interval
    assert len(shapes(svg, "path", "band")) == 1
    assert words(svg).count("inverse") == 1
    assert {"16", "64", "256"} <= set(words(svg))


def test_curves_place_the_value() -> None:
    series = [charts.Curve("a", [{"x": 1, "value": 0.0}, {"x": 2, "value": 1.0}], 0)]
    first, last = shapes(charts.curves("t", "d", series, "x", "y", 600), "circle", "mark")
    grid = sorted(
        {float(line["y1"]) for line in shapes(charts.curves("t", "d", series, "x", "y", 600), "line", "grid")}
    )
    assert float(first["cy"]) == pytest.approx(grid[-1])
    assert float(last["cy"]) == pytest.approx(grid[0])


def test_a_lone_budget_has_its_name_beside_it() -> None:
    svg = charts.curves("t", "d", [charts.Curve("a", [{"x": 64, "value": 0.5}], 0)], "labels", "accuracy", 600)
    (dot,) = shapes(svg, "circle", "mark")
    (name,) = shapes(svg, "text", "label")
    assert float(name["x"]) - float(dot["cx"]) == pytest.approx(12)


def test_curves_without_points_still_draw() -> None:
    assert words(charts.curves("t", "d", [], "labels", "accuracy", 340))


@pytest.mark.parametrize("width", [720, 340])
def test_dots_lie_inside_their_interval(width: float) -> None:
    rows = [{"name": "a", "success": 0.5, "low": 0.25, "high": 0.75, "kind": "route"}]
    svg = charts.dots("t", "d", rows, width)
    (dot,), (interval,) = shapes(svg, "circle", "mark"), shapes(svg, "line", "interval")
    assert float(dot["cx"]) == pytest.approx((float(interval["x1"]) + float(interval["x2"])) / 2, abs=0.02)
    assert any("0.50" in text and "0.25–0.75" in text for text in words(svg))


def test_kinds_of_policy_differ_in_shape_not_only_in_colour() -> None:
    rows = [{"name": k, "success": 0.5, "kind": k} for k in ("route", "baseline", "bound")]
    svg = charts.dots("t", "d", rows, 720)
    assert len(shapes(svg, "circle", "hollow")) == 1
    assert len(shapes(svg, "path", "solid")) == 1
    assert len(shapes(svg, "circle", "mark")) == 2


def test_heat_shows_shares_of_rows_and_frames_the_diagonal() -> None:
    svg = charts.heat("t", "d", ["a", "b"], ["a", "b"], [[3, 1], [0, 0]], ("truth", "label"), 600)
    assert [text for text in words(svg) if text.isdigit() or text == "·"] == ["75", "25", "·", "·"]
    assert len(shapes(svg, "rect", "diagonal")) == 2
    other = charts.heat("t", "d", ["0", "1"], ["a", "b"], [[3, 1], [0, 0]], ("code", "action"), 600)
    assert shapes(other, "rect", "diagonal") == []


@pytest.mark.parametrize("width", [720, 340])
def test_heat_fits_its_width_with_many_long_names(width: float) -> None:
    names = [f"a rather long action {i}" for i in range(15)]
    svg = charts.heat("t", "d", names, names, [[1] * 15] * 15, ("truth", "label"), width)
    assert float(ET.fromstring(svg).attrib["viewBox"].split()[2]) <= width + 0.1


def test_reliability_of_a_calibrated_model_lies_on_the_diagonal() -> None:
    bins = [{"confidence": c, "accuracy": c, "count": 10} for c in (0.25, 0.75)]
    svg = charts.reliability("t", "d", [*bins, {"confidence": 0.5, "accuracy": None, "count": 0}], 360)
    (ideal,) = shapes(svg, "line", "ideal")
    x1, y1, x2, y2 = (float(ideal[key]) for key in ("x1", "y1", "x2", "y2"))
    dots = shapes(svg, "circle", "mark")
    assert len(dots) == 2
    for dot in dots:
        along = (float(dot["cx"]) - x1) / (x2 - x1)
        assert float(dot["cy"]) == pytest.approx(y1 + along * (y2 - y1), abs=0.1)
    heights = [float(bar["height"]) for bar in shapes(svg, "rect", "bar")]
    assert heights[0] == heights[1] > heights[2] == 0


def test_risk_coverage_names_full_coverage_and_the_point_near_80() -> None:
    points = [{"coverage": c, "accuracy": a} for c, a in [(1.0, 0.86), (0.8, 0.935), (0.5, None), (0.2, 0.99)]]
    svg = charts.risk_coverage("t", "d", points, 360)
    assert {"86 % right when labelling 100 %", "94 % right when labelling 80 %"} <= set(words(svg))
    assert len(shapes(svg, "circle", "mark")) == 2
    assert shapes(charts.risk_coverage("t", "d", [], 360), "circle", "mark") == []


def test_risk_coverage_labels_of_a_flat_curve_stand_apart() -> None:
    points = [{"coverage": c, "accuracy": 0.98} for c in (0.2, 0.8, 1.0)]
    heights = [float(one["y"]) for one in shapes(charts.risk_coverage("t", "d", points, 360), "text", "halo")]
    assert abs(heights[0] - heights[1]) >= 14
