"""The frozen grammar. A change here is a change of what people's scripts rely on: make it on purpose."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from retrodict import cli
from retrodict.cli.grammar import parse, usage
from retrodict.cli.record import Record

DOCS = Path(__file__).parents[2] / "docs/cli.md"
COMMON = "[--threads] [--json]"
LOADING = f"{COMMON} [--code]"
INTAKE = "[--labels] [--schema] [--label-clock=video] [--camera] [--join] [--format] [--fps] [--fit]"
GRAMMAR = {
    "act": "POLICY --env [--planner] [--horizon=8] [--samples=64] [--episodes=100] [--seed] [--video] "
    f"[--device=cpu] [--set] {LOADING}",
    "check": f"RECIPE [--claim] [--seeds] [--out=runs/claims] {COMMON}",
    "data check": f"FOLDER [--with] [--html] [--precision=0.8] [--strict] {COMMON}",
    "data convert-checkpoint": f"KIND FILE --out {COMMON}",
    "data export": f"FOLDER --out [--for=training] [--keep-all] [--format=lerobot] {COMMON}",
    "data import": f"VIDEOS --out {INTAKE} {COMMON}",
    "data info": f"FOLDER {COMMON}",
    "demo": "[--world=babyai] [--labels=64] [--seed] [--out=runs/demo] [--full] [--micro] [--threads]",
    "doctor": f"[--install=nothing] {COMMON}",
    "export": f"FOLDER --out [--to=onnx] {LOADING}",
    "imagine": f"FOLDER --from --out [--seen=8] [--steps] [--seed] {LOADING}",
    "label": f"VIDEOS --out {INTAKE} [--with] [--recipe=auto] [--size=tiny] [--set] [--budget] "
    "[--frame-size] [--precision=0.8] [--keep-all] [--strict] [--seed] [--cache-gb=20.0] "
    f"[--engine=torch] {LOADING}",
    "measure": f"FOLDER [--data] [--episodes] [--judge] [--env] {LOADING}",
    "play": f"[FOLDER] [--from] [--image] [--env] [--port] [--out] [--no-browser] {LOADING}",
    "recipes": COMMON,
    "record": f"ENV --out [--episodes] [--frames] [--policy=expert] [--random] [--seed] [--set] {LOADING}",
    "train": "RECIPE --data --out [--size=tiny] [--labels] [--minutes] [--seed] [--set] [--env] [--copies=1] "
    "[--device=cpu] [--compile=none] [--frame-size] [--budget] [--restart] [--cache-gb=20.0] [--track=nothing] "
    f"{COMMON}",
}


def blocks(kind: str) -> list[str]:
    """Lines of the fenced blocks of this kind that are commands."""
    found = re.findall(rf"```{kind}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.startswith("retrodict ")]


def test_the_grammar_is_the_frozen_one() -> None:
    assert usage() == GRAMMAR


def test_the_documents_state_the_grammar() -> None:
    assert set(blocks("text")) >= {f"retrodict {verb} {flags}" for verb, flags in GRAMMAR.items()}


def test_repeated_flags_collect_and_positions_hold() -> None:
    verb = parse(["record", "sprites", "--out", "d", "--set", "size=54", "--set", "limit=9", "--episodes", "3"])
    assert verb == Record(env="sprites", out=Path("d"), set=("size=54", "limit=9"), episodes=3)


def test_help_shows_every_verb_and_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, flags in GRAMMAR.items():
        assert cli.main([*verb.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        for name in re.findall(r"--[a-z-]+|\b[A-Z]{3,}\b", flags):
            assert name in shown, f"{verb} --help does not show {name}"


def test_the_documented_commands_work_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = blocks("sh")
    assert len(lines) >= 8
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, f"{line}: {capsys.readouterr().err}"
