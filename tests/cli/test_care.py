"""doctor, recipes, check, data and the Makefile: what looks after an installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retrodict import cli
from retrodict.cli import doctor, recipes
from retrodict.data.store import Store
from retrodict.errors import RetrodictError

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    value: dict[str, object] = json.loads(capsys.readouterr().out)
    return value


def test_the_doctor_finds_a_whole_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = told(capsys)
    assert found["tried"] == {"h264": "works", "png": "works"}
    assert found["works"] is True
    assert all(found["packages"].values())  # type: ignore[attr-defined]


def test_the_doctor_names_what_is_broken_or_missing_with_the_line_that_installs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError("libx264 is not there")

    there = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("minigrid", "av") else there(name))
    monkeypatch.setattr(doctor, "encode_and_decode", broken)
    assert cli.main(["doctor"]) == 2
    shown = capsys.readouterr().out
    assert f"{sys.executable} -m pip install av" in shown
    assert "pip install 'retrodict[envs]'" in shown
    assert "OSError: libx264 is not there" in shown
    assert "broken: av, h264" in shown


def test_a_codec_that_changes_frames_is_no_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    from retrodict.data.video import Writer

    add = Writer.add
    monkeypatch.setattr(Writer, "add", lambda self, frames: add(self, 255 - frames))
    with pytest.raises(RetrodictError, match="differ by up to"):
        doctor.encode_and_decode()


def test_installing_procgen_runs_its_commands_and_stops_at_the_first_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def commands() -> list[list[str]]:
        write = "import sys; open(sys.argv[1], 'w').close(); sys.exit(int(sys.argv[2]))"
        return [[sys.executable, "-c", write, str(tmp_path / str(i)), str(i)] for i in range(3)]

    monkeypatch.setattr("retrodict.envs.procgen.install_procgen", commands)
    assert cli.main(["doctor", "--install", "procgen"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_recipes_tell_their_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "results"
    (home / "vpt").mkdir(parents=True)
    result = {"value": 0.95, "low": 0.9, "high": 0.97, "seeds": [{"seed": 0}, {"seed": 1}], "command": "retrodict …"}
    (home / "vpt/label_accuracy_64.json").write_text(json.dumps(result))
    monkeypatch.setattr(recipes, "RESULTS", (home,))
    assert cli.main(["recipes", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {"vpt", "lapo", "bc"} <= set(found)
    for entry in found.values():
        assert {"name", "system", "paper", "status", "figures"} <= set(entry)
        assert entry["status"] == ("partial" if entry["name"] == "vpt" else "planned")
    figure = next(figure for figure in found["vpt"]["figures"] if figure["name"] == "label_accuracy_64")
    assert figure == {
        "name": "label_accuracy_64", "tier": "tiny", "value": 0.95, "low": 0.9, "high": 0.97, "seeds": 2,
        "target": figure["target"], "baselines": {}, "command": "retrodict …",
        "result": "results/vpt/label_accuracy_64.json",
    }  # fmt: skip
    unmeasured = next(figure for figure in found["vpt"]["figures"] if figure["name"] == "success_64")
    assert (unmeasured["value"], unmeasured["seeds"]) == (None, 0)
    (home / "vpt/label_accuracy_64.json").write_text("{")
    assert cli.main(["recipes"]) == 2


def test_a_broken_recipe_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text('"""Mine."""\n')
    assert cli.main(["check", str(tmp_path / "mine.py"), "--json"]) == 2
    shown = capsys.readouterr()
    findings = {entry["name"]: entry for entry in json.loads(shown.out)["findings"]}
    assert findings["header"]["ok"] is False
    assert "running the code in" in shown.err
    assert cli.main(["check", "vpt", "--claim", "sucess_64"]) == 2
    assert "Did you mean 'success_64'" in capsys.readouterr().err


def test_data_verbs_count_export_and_find_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = str(tmp_path / "d"), str(tmp_path / "e")
    assert cli.main(["record", "sprites", "--episodes", "3", "--out", data, "--json"]) == 0
    frames = told(capsys)["frames"]
    assert cli.main(["data", "info", data, "--json"]) == 0
    found = told(capsys)
    assert (found["episodes"], found["frames"]) == (3, frames)
    assert found["steps"] == {"missing": 0, "recorded": frames - 3, "predicted": 0, "abstained": 0}  # type: ignore[operator]
    assert cli.main(["data", "export", data, "--out", out, "--json"]) == 0
    assert told(capsys)["rows"] == frames - 3  # type: ignore[operator]
    assert cli.main(["data", "info", out, "--json"]) == 0
    assert told(capsys)["frames"] == frames - 3  # type: ignore[operator]
    assert cli.main(["data", "export", data, "--out", out]) == 2
    assert cli.main(["data", "check", data]) == 0
    file = next((tmp_path / "d/data").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    capsys.readouterr()
    assert cli.main(["data", "check", data]) == 2
    shown = capsys.readouterr()
    assert file.name in shown.out + shown.err


def test_importing_tells_each_files_fate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from retrodict.data.video import Writer

    (tmp_path / "v").mkdir()
    with Writer(tmp_path / "v/good.mp4", 32, 48, 10) as writer:
        writer.add(np.zeros((6, 32, 48, 3), np.uint8))
    assert cli.main(["data", "import", str(tmp_path / "v"), "--out", str(tmp_path / "d")]) == 0
    assert "good.mp4" in capsys.readouterr().out
    (tmp_path / "v/bad.mp4").write_bytes(b"no video")
    assert cli.main(["data", "import", str(tmp_path / "v"), "--out", str(tmp_path / "d2"), "--json"]) == 4
    files = told(capsys)["files"]
    assert {entry["file"]: entry["what"] for entry in files} == {"good.mp4": "images", "bad.mp4": "refused"}  # type: ignore[attr-defined]
    assert Store.open(tmp_path / "d").ids == ("good.mp4",)


def test_what_actions_were_taken_for_is_told_and_is_there_to_correct(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from retrodict.data.video import Writer

    (tmp_path / "v").mkdir()
    with Writer(tmp_path / "v/a.mp4", 32, 48, 10) as writer:
        writer.add(np.zeros((6, 32, 48, 3), np.uint8))
    (tmp_path / "l.csv").write_text("file,frame,turn\na.mp4,0,1.5\na.mp4,1,-0.5\n")
    line = ["data", "import", str(tmp_path / "v"), "--labels", str(tmp_path / "l.csv"), "--out"]
    assert cli.main([*line, str(tmp_path / "d")]) == 0
    shown = capsys.readouterr().out
    assert "video files (.mp4" in shown
    assert "turn: continuous, turn, absolute, -0.5..1.5" in shown
    schema = tmp_path / "d.actions.json"
    assert str(schema) in shown
    corrected = json.loads(schema.read_text())
    corrected["segments"][0] |= {"relative": True, "unit": "degree"}
    schema.write_text(json.dumps(corrected))
    assert cli.main([*line, str(tmp_path / "e"), "--schema", str(schema), "--json"]) == 0
    assert told(capsys)["actions"] == corrected
    assert not (tmp_path / "e.actions.json").exists()
    corrected["segments"][0]["unti"] = "degree"
    schema.write_text(json.dumps(corrected))
    assert cli.main([*line, str(tmp_path / "f"), "--schema", str(schema)]) == 2
    assert "named 'unti'. Did you mean 'unit'" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_checking_videos_tells_what_they_are_and_what_they_will_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from retrodict.data.video import Writer

    with Writer(tmp_path / "a.mp4", 32, 48, 10) as writer:
        writer.add(np.zeros((6, 32, 48, 3), np.uint8))
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "1 episodes, 6 frames" in shown
    assert "estimated from a sample (100% of the frames)" in shown
    (tmp_path / "b.mp4").write_bytes(b"no video")
    assert cli.main(["data", "check", str(tmp_path), "--json"]) == 4
    report = told(capsys)
    assert [entry["file"] for entry in report["refused"]] == ["b.mp4"]  # type: ignore[attr-defined]
    assert set(os.listdir(tmp_path)) == {"a.mp4", "b.mp4"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_does_nothing_while_nothing_changed_and_installs_when_something_did(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    # `make test` runs this very test: what it tells its children would make the inner one chatty
    apart = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}

    def planned(*more: str) -> str:
        return subprocess.run(
            ["make", "-n", "test", f"PYTHON={sys.executable}", *more], cwd=tmp_path, capture_output=True, text=True,
            check=True, env=apart,
        ).stdout  # fmt: skip

    first = planned()
    assert "pip install --quiet -c constraints.txt torch==2.13.0" in first
    stamp = next(word for word in first.split() if word.startswith(".venv/made-") and "*" not in word)
    (tmp_path / stamp).touch()
    assert planned().splitlines() == [".venv/bin/python -m pytest --numprocesses auto --dist loadfile"]
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    assert "pip install" in planned()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_an_interpreter_of_another_version(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["make", "environment", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "false is not Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_constraints_pin_what_the_project_asks_for() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all("==" in line and "@" not in line and "/" not in line for line in pins)
    names = {line.partition("==")[0].lower() for line in pins}
    assert {name.lower() for name in doctor.NEEDED} <= names
