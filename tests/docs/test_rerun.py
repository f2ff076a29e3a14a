"""Figures measured again: commands are joined, told with their hours, and not run twice at one commit."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from retrodict.check import load_recipe
from retrodict.cli.grammar import parse

ROOT = Path(__file__).resolve().parents[2]
A, B = "retrodict check a --claim one --claim two --claim three --seeds 3", "retrodict check b --claim one --seeds 1"
PLAIN, BY_HAND = "python benchmarks/plain.py", "python benchmarks/made.py --run RUN"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rerun_script", ROOT / "scripts/rerun.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three figures of one recipe, two of them of one training; one of another; comparisons; a floor."""

    def figure(recipe: str, name: str, where: str, count: int, **took: float) -> dict[str, Any]:
        command = f"retrodict check {recipe} --claim {name} --seeds {count}"
        return {"recipe": recipe, "setting": where, "labels": 64, "preset": "tiny", "command": command,
                "seeds": [{"seed": seed, **took} for seed in range(count)]}  # fmt: skip

    files: dict[str, Any] = {
        "a/1": figure("a", "one", "sprites", 3, seconds=900.0, cpu_seconds=500.0),
        "a/2": figure("a", "two", "sprites", 3, seconds=900.0, cpu_seconds=600.0),
        "a/3": figure("a", "three", "catch", 3, cpu_seconds=1800.0),
        "b/1": figure("b", "one", "sprites", 1, seconds=360.0),
        "comparisons/made": {"command": BY_HAND, "sizes": [{"cpu_seconds": 36.0}]},
        "comparisons/plain": {"command": PLAIN, "ratio": 2.0},
        "worlds/sprites": {"majority": 0.5},
    }
    for name, told in files.items():
        path = tmp_path / f"results/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told))
    return tmp_path / "results"


def test_figures_are_joined_and_a_training_counts_once(script: ModuleType, results: Path) -> None:
    """3 x 600 + 3 x 1800 = 7,200 s are 2 hours."""
    wanted = script.jobs(results)
    assert [(job.command, job.seconds) for job in wanted] == [(A, 7200), (B, 360), (BY_HAND, 36), (PLAIN, 0)]
    assert [job.command for job in script.jobs(results, "b")] == [B]
    told = [line.split(maxsplit=3) for line in script.listing(wanted, {B}).splitlines()]
    assert told[0] == ["2.00", "h", "to", f"do    {A}"]
    assert told[1] == ["0.10", "h", "done", B]
    assert told[2] == ["0.01", "h", "by", f"hand  {BY_HAND}"]
    assert told[3] == ["?", "h", "to", f"do    {PLAIN}"]
    assert told[4][0] == "2.00"


def test_what_is_done_at_this_commit_is_not_done_again(script: ModuleType, results: Path, tmp_path: Path) -> None:
    wanted, progress, ran = script.jobs(results), results / "rerun.json", []
    ends: dict[str, Any] = {A: 0, B: 3, PLAIN: KeyboardInterrupt}

    def run(command: str, folder: Path) -> int:
        ran.append((command, folder))
        if ends[command] is KeyboardInterrupt:
            raise KeyboardInterrupt
        return int(ends[command])

    def again(commit: str) -> list[str]:
        ran.clear()
        ended = script.rerun(wanted, progress, tmp_path / commit, commit, run)
        assert all(folder == tmp_path / commit for _, folder in ran)
        assert ended == all(ends[command] == 0 for command, _ in ran)
        return [command for command, _ in ran]

    with pytest.raises(KeyboardInterrupt):
        again("first")
    entries = json.loads(progress.read_text())
    assert [(entry["command"], entry["commit"], entry["status"]) for entry in entries] == [
        (A, "first", 0),
        (B, "first", 3),
    ]
    assert all(entry["seconds"] >= 0 and entry["when"].startswith("20") for entry in entries)
    ends[PLAIN] = 0
    assert again("first") == [B, PLAIN]  # what failed is tried again
    ends[B] = 0
    assert again("first") == [B]
    assert again("first") == []
    assert again("second") == [A, B, PLAIN]
    assert again("first") == []


def test_lanes_share_the_work_and_not_their_folders(script: ModuleType, results: Path, tmp_path: Path) -> None:
    wanted, meet, folders = script.jobs(results), threading.Barrier(2, timeout=60), dict[str, Path]()

    def run(command: str, folder: Path) -> int:
        folders[command] = folder
        if command in (A, B):
            meet.wait()  # side by side, or never
        return 0

    progress = results / "rerun.json"
    assert script.rerun(wanted, progress, tmp_path / "x", "first", run, lanes=2)
    assert {folders[A].name, folders[B].name} == {"lane-0", "lane-1"}
    assert {entry["command"] for entry in json.loads(progress.read_text())} == {A, B, PLAIN}
    assert script.done_at(progress, "first") == {A, B, PLAIN}


def test_a_command_runs_in_its_folder_and_its_log_is_kept(script: ModuleType, tmp_path: Path) -> None:
    assert script.run("retrodict recipes --json", tmp_path / "x") == 0
    (log,) = (tmp_path / "x").glob("*.log")
    assert json.loads(log.read_text())
    assert script.run("retrodict nothing", tmp_path / "x") != 0


def test_listing_changes_nothing_and_every_command_of_ours_can_be_run(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("a listing runs and writes nothing")

    for name in ("rerun", "run", "sync_write"):
        monkeypatch.setattr(script, name, forbidden)
    monkeypatch.setattr(sys, "argv", ["rerun.py", "--list", "--folder", str(tmp_path / "x")])
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "results").rglob("*")}
    assert script.main() == 0
    assert {path: path.stat().st_mtime_ns for path in (ROOT / "results").rglob("*")} == before
    assert not any(tmp_path.iterdir())
    shown = capsys.readouterr().out
    for job in script.jobs(ROOT / "results"):
        assert job.command in shown
        first, *words = shlex.split(job.command)
        if first == "python":
            assert (ROOT / words[0]).is_file(), job.command
            continue
        parse(words)
        if words[0] == "check":
            figures = {words[i + 1] for i, word in enumerate(words) if word == "--claim"}
            assert figures
            assert figures <= set(load_recipe(words[1]).FIGURES)
