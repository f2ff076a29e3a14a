"""The demo at its smallest: several numbers of labels in one folder, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrodict.cli import main


def test_the_full_demo_goes_through_all_numbers_of_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One latent model is decoded anew for each number; a second run reuses all and tells the same."""
    line = ["demo", "--micro", "--full", "--world", "sprites", "--out", str(tmp_path / "a demo")]
    assert main(line) == 0
    told = json.loads((tmp_path / "a demo/result.json").read_text())
    assert {p["x"] for p in told["policies_by_labels"]["series"][1]["points"]} == {16, 64, 256, 1024}
    routes = [row for row in told["policies"] if row["kind"] == "route"]
    assert [row["episodes"] for row in routes] == [3 * 8, 3 * 8]
    assert f"'{tmp_path}/a demo/videos'" in told["commands"][0]["line"]
    assert "one process" in told["notes"][0]
    assert main(line) == 0
    again = json.loads((tmp_path / "a demo/result.json").read_text())
    assert again["policies"] == told["policies"]
    capsys.readouterr()


def test_labels_that_would_leave_too_little_hidden_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--world", "sprites", "--labels", "5001", "--out", str(tmp_path / "d")]) == 2
    assert "at most 5000" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
