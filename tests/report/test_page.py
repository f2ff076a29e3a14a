"""The report is one file, holds what the result holds and no more, and shows any name literally."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fake
import pytest

from retrodict.errors import UnknownName, UnusableInput
from retrodict.report import page
from retrodict.report.markup import VOID, Markup, element, escape
from retrodict.report.result import MISSING, ONE_SEED


class Page(HTMLParser):
    """A parsed report: elements with their attributes, text by element, and whether tags balance."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> repeats an attribute"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[str]:
        return [words for name, words in self.texts if name == tag]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


CLIPS = [fake.clip(0, "first", steps=5), fake.clip(1, "second", steps=4)]
RESULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "full": fake.full,
    "minimal": fake.minimal,
    "empty": dict,
    "hostile": fake.hostile,
}


@pytest.fixture(scope="module", params=RESULTS)
def html(request: pytest.FixtureRequest) -> str:
    clips = [fake.clip(0, fake.HOSTILE, steps=3)] if request.param == "hostile" else CLIPS
    return page.render(RESULTS[request.param](), clips)


def test_tags_balance(html: str) -> None:
    assert Page(html).open == []


def test_nothing_is_fetched_and_nothing_runs(html: str) -> None:
    for tag, attributes in Page(html).elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "use", "a", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "srcset", "href", "xlink:href", "poster", "action", "data"):
                assert (value or "").startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import", html)
    policy = [attributes["content"] for _, attributes in Page(html).elements if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_every_chart_and_picture_says_what_it_shows(html: str) -> None:
    parsed = Page(html)
    charts = [attributes for tag, attributes in parsed.elements if tag == "svg" and "aria-hidden" not in attributes]
    assert all(attributes["role"] == "img" for attributes in charts)
    assert len([words for words in parsed.of("title") if words.strip()]) == len(charts) + 1  # and the page's own
    assert len([words for words in parsed.of("desc") if words.strip()]) == len(charts)
    assert all(attributes["alt"] for tag, attributes in parsed.elements if tag == "img")
    assert parsed.count("caption") == parsed.count("table")
    assert parsed.count("h1") == 1


def test_themes_width_and_motion_are_the_readers(html: str) -> None:
    assert "color-scheme: light dark" in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert 'content="width=device-width, initial-scale=1"' in html
    stills = [attributes for tag, attributes in Page(html).elements if tag == "source"]
    assert stills
    assert all("(prefers-reduced-motion: reduce)" in (attributes["media"] or "") for attributes in stills)


SECTIONS = {
    "label_curve": "Label accuracy",
    "confusion": "Confusion",
    "codes": "Latent codes and actions",
    "policies": "Policies",
    "policies_by_labels": "Policies by number of labels",
    "stages": "Time and memory",
    "commands": "On your own videos",
    "notes": "Notes",
}


def test_the_full_result_fills_every_section() -> None:
    headings = Page(page.render(fake.full(), CLIPS)).of("h2")
    assert headings == [
        *("Watch it label", "Label accuracy", "Confusion", "Can its confidence be trusted?", "Policies"),
        *("Policies by number of labels", "Latent codes and actions", "Time and memory", "On your own videos", "Notes"),
    ]


@pytest.mark.parametrize("key", SECTIONS)
def test_a_missing_section_is_left_out(key: str) -> None:
    result = fake.full()
    result.pop(key)
    headings = Page(page.render(result)).of("h2")
    assert SECTIONS[key] not in headings
    assert len(headings) == len(SECTIONS)  # one gone, one more for confidence


def test_confidence_shows_what_there_is() -> None:
    result = fake.full()
    result.pop("reliability")
    assert Page(page.render(result)).of("h3") == ["Risk against coverage"]
    result.pop("risk_coverage")
    assert "Can its confidence be trusted?" not in page.render(result)


def test_minimal_has_a_title_and_no_sections() -> None:
    parsed = Page(page.render(fake.minimal()))
    assert parsed.of("h1") == ["Nothing yet"]
    assert parsed.of("h2") == []
    assert parsed.count("footer") == 0


def test_hostile_names_show_literally() -> None:
    parsed = Page(page.render(fake.hostile(), [fake.clip(0, fake.HOSTILE, steps=3)]))
    assert parsed.count("script") == 0
    shown = "<script>alert('1')</script>\"'&\\x1b[31m\\u202e</svg></style>\\udcff"
    assert parsed.of("h1") == [shown]
    assert shown in parsed.of("th")
    assert shown in parsed.of("code")
    assert any(shown in words for words in parsed.of("desc"))
    titles = [attributes["alt"] for tag, attributes in parsed.elements if tag == "img"]
    assert shown in (titles[0] or "")


def test_no_control_characters_reach_the_file() -> None:
    html = page.render(fake.hostile(), [fake.clip(0, fake.HOSTILE, steps=3)])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)


def policy(seeds: int | None, **more: Any) -> dict[str, Any]:
    return {
        "name": "p",
        "success": 0.5,
        "low": 0.4,
        "high": 0.6,
        "episodes": 100,
        "seeds": seeds,
        "kind": "route",
    } | more


@pytest.mark.parametrize(
    ("rows", "said"),
    [([policy(1)], True), ([policy(3), policy(1)], True), ([policy(3)], False), ([policy(1, success=None)], False)],
)
def test_one_seed_is_said_where_it_is_one(rows: list[dict[str, Any]], said: bool) -> None:
    assert (ONE_SEED in page.render({"title": "t", "policies": rows})) is said


def test_a_figure_that_is_absent_is_a_dash_with_its_reason() -> None:
    html = page.render({"headline": [{"name": "Bits", "value": None, "note": "it stopped early"}]})
    assert MISSING in Page(html).of("dd")
    assert "it stopped early" in Page(html).of("dd")
    html = page.render({"policies": [policy(1, name="LAPO", success=None, low=None, high=None, note="out of time")]})
    assert "LAPO: out of time" in Page(html).of("p")
    assert MISSING in Page(html).of("td")


def test_findings_are_the_results_own_numbers() -> None:
    html = page.render(
        {
            "confusion": {"classes": ["left", "right"], "matrix": [[90, 10], [30, 70]]},
            "codes": {
                "codes": ["0", "1"],
                "actions": ["a"],
                "matrix": [[5], [0]],
                "bits": 0.5,
                "of": 1.0,
                "note": "why",
            },
            "stages": [
                {"name": "a", "seconds": 50.0, "memory_mb": 900},
                {"name": "b", "seconds": 40.0, "memory_mb": 1500},
            ],
        }
    )
    words = Page(html).of("p")
    assert "The commonest mistake: right read as left, 30 of 100." in words
    assert "The codes recover 0.50 of 1.00 bits of the action." in words
    assert "1 code never used." in words
    assert "why" in words
    assert {"1 min 30 s", "1.5 GB"} <= set(Page(html).of("td"))


def test_policies_are_ranked_with_unknown_last() -> None:
    rows = [
        policy(3, name="low", success=0.1),
        policy(3, name="none", success=None),
        policy(3, name="high", success=0.9),
    ]
    names = [words for words in Page(page.render({"policies": rows})).of("th") if words in ("low", "none", "high")]
    assert names == ["high", "low", "none"]


def test_rendering_leaves_the_result_as_it_was() -> None:
    result = fake.full()
    before = copy.deepcopy(result)
    assert page.render(result) == page.render(result)
    assert result == before


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ({"polices": []}, UnknownName, "Did you mean 'policies'"),
        ({"headline": [{"name": "x", "value": float("nan")}]}, UnusableInput, r"result\.headline\[0\]\.value is nan"),
        ({"confusion": {"classes": ["a", "b"], "matrix": [[1, 2]]}}, UnusableInput, "needs 2 rows of 2 counts"),
        ({"codes": {"codes": ["0"], "actions": ["a", "b"], "matrix": [[1]]}}, UnusableInput, "1 rows of 1 counts"),
    ],
)
def test_what_would_be_shown_wrongly_is_refused(result: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        page.render(result)


def test_write_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    page.write(path, fake.minimal())
    first = path.read_text(encoding="utf-8")
    assert first == page.render(fake.minimal())
    page.write(path, fake.full())
    assert path.read_text(encoding="utf-8") == page.render(fake.full())
    assert os.listdir(path.parent) == ["report.html"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        page.write(path, fake.minimal())
    assert os.listdir(tmp_path) == ["report.html"]
    assert path.read_text() == "old"


def test_element_escapes_text_and_attributes_but_not_markup() -> None:
    assert element("p", "a<b", Markup("<b>c</b>"), None, title='"x"', hidden=None) == (
        '<p title="&quot;x&quot;">a&lt;b<b>c</b></p>'
    )
    assert element("img", alt="x") == '<img alt="x">'
    assert element("rect", class_="bar", fill_opacity=0.123456, x=2.0) == (
        '<rect class="bar" fill-opacity="0.12" x="2"></rect>'
    )
    assert escape(escape("&")) == "&amp;"


def test_a_report_needs_neither_torch_nor_pillow_to_import() -> None:
    code = "import sys, retrodict.report.page, retrodict.report.table; print({'torch', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
