"""The page of a check-up: whole, without network, and with whatever the data could not give left out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from retrodict.report import health_page

POINTS = [{"x": x, "value": 0.9 if x == 2 else 0.3, "low": 0.2, "high": 0.95} for x in range(-5, 6)]


def told(**figures: Any) -> dict[str, Any]:
    """The JSON of a small check-up."""
    verdict = {"word": "not actions", "reason": "why <b>", "accuracy": 0.9, "low": 0.8, "high": 0.95, "majority": 0.3}
    by_episode = {"cuts": {"e": 1}, "copies": {"e": 0}, "jumps": {}}
    plain = {
        "clock": {"declared": 10, "rate": 10.0, "missing": 0, "drift": 0.0, "by_episode": {"e": 0}},
        "recording": {"cuts": 1, "copies": 0, "jumps": None, "period": 0, "by_episode": by_episode},
        "doing": {"null_share": None, "unseen_share": None, "by_episode": {"e": 2}},
        "views": {"cameras": [{"camera": "front", "still": 0.1, "moving": 0.0}]},
        "episodes": [{"episode": "e", "frames": 9, "cuts": 1, "copies": 0, "dropped": 0, "missing": 2, "asked": 5,
                      "right": 4}],
    }  # fmt: skip
    finding = {"kind": "offset", "word": "two steps <script>", "episodes": ["e"]}
    health = {"verdict": verdict, "figures": {**plain, **figures}, "findings": [finding]}
    return {"folder": "/d/my data", "episodes": 1, "frames": 9, "missing_share": 0.25, "problems": [], "looked_at": 1.0,
            "sources": {"missing": 2, "recorded": 6}, "health": health}  # fmt: skip


def spread(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


LABELS = {
    "count": 6, "offset": {"steps": 2, "scores": POINTS, "constant": 0.3}, "drift": None,
    "right": {"two frames": spread(0.9), "one frame": spread(0.4), "constant": spread(0.3)}, "numbers": False,
    "parts": {"recall": {"left": 0.5, "right": None}},
    "cameras": [{"camera": "front", "offset": 2, "right": spread(0.8), "parts": {"recall": {"left": 0.25}}}],
    "by_episode": {},
    "forecast": {"target": 0.95, "labels": 64, "needed": None, "reason": "no forecast: why", "ahead": [],
                 "curve": [{"x": 8, "value": 0.3}, {"x": 16, "value": 0.5}]},
}  # fmt: skip
BOOK = {"used": 2, "size": 8, "perplexity": 1.9, "rows": [{"code": 3, "share": 0.5, "looks": "moves up"}]}
CODES = {"steps": 9, "code_bits": 1.5, "camera_bits": 1.0, "alarms": {}, "books": [BOOK]}
CALIBRATION = {"error": 0.12, "labels": 64, "bins": [{"confidence": 0.9, "accuracy": 0.8, "count": 64}]}


class Tags(HTMLParser):
    """Checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


def test_a_full_check_up_fills_every_section_and_fetches_nothing() -> None:
    page = health_page.render(told(labels=LABELS, codes=CODES, calibration=CALIBRATION))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert headings(page) == [
        "What is wrong", "Do actions and frames agree?", "What tells the action?", "Part by part",
        "How many more labels?", "Can its confidence be trusted?", "Codes", "The recording", "Episodes",
    ]  # fmt: skip
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"https?://|<script|<link", page)
    assert "why &lt;b&gt;" in page
    assert '<dd class="figure">2</dd>' in page  # a whole number of steps
    assert "0.25" in page  # what one camera sees by itself
    assert "moves up" in page


def test_what_is_not_there_is_left_out_and_what_cannot_be_told_is_a_dash() -> None:
    page = health_page.render(told())
    assert headings(page) == ["What is wrong", "The recording", "Episodes"]
    row = re.search("double steps.*?</tr>", page)
    assert row is not None
    assert "—" in row[0]


def test_a_page_is_written_whole_and_damage_is_told_first(tmp_path: Path) -> None:
    value = {**told(), "problems": ["file-000.parquet is damaged"]}
    health_page.write(tmp_path / "deep/h.html", value)
    page = (tmp_path / "deep/h.html").read_text()
    assert page == health_page.render(value)
    assert page.index("file-000.parquet") < page.index("two steps")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["h.html"]


@pytest.mark.parametrize("word", ["usable", "unknown"])
def test_the_verdict_leads(word: str) -> None:
    value = told()
    value["health"]["verdict"] |= {"word": word, "accuracy": None}
    assert f"{word.capitalize()}: why" in health_page.render(value)


def test_numbers_are_shown_by_their_score_and_get_no_empty_chart() -> None:
    forecast = LABELS["forecast"] | {"curve": []}  # type: ignore[operator]
    page = health_page.render(told(labels={**LABELS, "numbers": True, "forecast": forecast}))
    assert "score of numbers" in page
    assert "held-out labels that are right" not in page
    assert "share right" not in page
