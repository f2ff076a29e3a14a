"""The page of a world: a word, charts with their numbers, and whatever was not measured left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from retrodict.report import world_page


def spread(value: float | None) -> dict[str, float | None]:
    return {
        "value": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.1,
    }


def told(**more: Any) -> dict[str, Any]:
    steps = [{"x": k, **spread(0.9 - 0.1 * k)} for k in (1, 2, 3)]
    return {
        "windows": 40, "episodes": 7, "context": 1, "skill": steps, "moving": steps, "psnr": steps, "drift": steps,
        "word": "obeys in part", "sensitivity": spread(1.5), "still": spread(1.4), "delta_psnr": spread(0.7),
        "cycle": {**spread(0.8), "chance": spread(0.2), "by": {"left <b>": 0.75, "right": 0.9}}, **more,
    }  # fmt: skip


def test_the_page_says_in_words_whether_the_world_obeys() -> None:
    shown = (("seen", "left <b>", "right"), torch.zeros(2, 3, 3, 4, 4, dtype=torch.uint8))
    page = world_page.render("runs/mine", told(), shown)
    assert "World of mine" in page
    assert "It obeys in part" in page
    assert page.count("data:image/png") == 6
    assert "left &lt;b&gt;" in page
    assert "<b>," not in page
    assert "40 windows of 7 episodes" in page
    for word, lead in world_page.LEADS.items():
        assert lead in world_page.render("mine", told(word=word))


def test_what_was_not_measured_is_left_out() -> None:
    nothing = [{"x": 1, **spread(None)}]
    silent = {"value": None, "note": "it has no inverse"}
    page = world_page.render("mine", told(cycle=silent, skill=nothing, moving=nothing))
    assert "Is it read as it was told?" not in page
    assert "One frame, every request" not in page
    assert "How far does it foresee?" in page
    assert "None" not in page
    assert "rewards" not in page


def test_rewards_and_ends_stand_in_a_table_where_a_world_foretells_them() -> None:
    rewards, ends = {"bias": -0.0125, "r2": 0.75}, {"error": 0.0312, "rate": 0.077, "skill": None}
    page = world_page.render("mine", told(rewards=rewards, ends=ends))
    for name, value in (("R² of rewards", "0.75"), ("bias: foretold - recorded", "-0.013"), ("skill at ends", "—"),
                        ("calibration error of ends", "0.031"), ("share of steps that end", "0.077")):  # fmt: skip
        assert f'<th scope="row">{name}</th><td class="right">{value}</td>' in page
    alone = world_page.render("mine", told(ends=ends))
    assert "skill at ends" in alone
    assert "R² of rewards" not in alone


def test_a_judge_s_reading_stands_beside_its_controls() -> None:
    judged = {**spread(0.7), "of": "share", "shuffled": spread(0.21), "random": spread(0.19), "real": spread(0.98),
              "judge": spread(0.97), "by": {"left <b>": 0.55, "right": None}}  # fmt: skip
    page = world_page.render("mine", told(judged=judged))
    assert "Does it do what it is asked?" in page
    assert "0.21: requests shuffled" in page
    for name, value in (("asked for left &lt;b&gt;", "0.55"), ("asked for right", "—"), ("all requests", "0.70"),
                        ("requests at random", "0.19"), ("real next frames", "0.98")):  # fmt: skip
        assert f'<th scope="row">{name}</th><td class="right">{value}</td>' in page
    numbers = {**judged, "value": -0.3, "low": -0.5, "of": "R²", "by": {}}
    del numbers["random"]
    shown = world_page.render("mine", told(judged=numbers))
    assert "judged controllability, R²" in shown
    assert '<th scope="row">all requests</th><td class="right">-0.30</td>' in shown.replace("−", "-")
    assert "requests at random" not in shown
    silent = {"value": None, "note": "these codes have no names"}
    assert "Does it do what it is asked?" not in world_page.render("mine", told(judged=silent))


def test_a_large_ratio_is_a_whole_number() -> None:
    page = world_page.render("mine", told(sensitivity={"value": 1682.74, "low": 1133.09, "high": 2676.64}))
    assert "1683" in page
    assert "1682.7" not in page


def test_the_page_is_whole_or_what_was_there_before(tmp_path: Path) -> None:
    world_page.write(tmp_path / "p.html", "mine", told())
    before = (tmp_path / "p.html").read_text()
    assert before.endswith("</html>\n")
    with pytest.raises(KeyError):
        world_page.write(tmp_path / "p.html", "mine", {})
    assert (tmp_path / "p.html").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.html"]
