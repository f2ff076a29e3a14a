"""retrodict measure of a run with a world: figures, a word, a page; labels as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrodict import cli
from retrodict.run.checkpoint import load_system, save_system


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recorded datasets, a to train on and b to measure on, and two runs on a."""
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("a", "0"), ("b", "1")):
        line = ["record", "sprites", "--episodes", "40", "--random", "0.5", "--seed", seed]
        assert cli.main([*line, "--out", str(folder / name)]) == 0
    for recipe in ("lapo", "joint"):
        line = ["train", recipe, "--data", str(folder / "a"), "--labels", "64", "--size", "micro"]
        assert cli.main([*line, "--out", str(folder / recipe)]) == 0
    return folder


def measure(data: Path, run: str, *more: str) -> int:
    return cli.main(["measure", str(data / run), "--data", str(data / "b"), *more])


def test_a_world_that_ignores_its_actions_is_called_so(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(data, "joint") == 0
    told = capsys.readouterr().out
    assert "the world                     ignores its actions" in told
    assert "accuracy " in told  # its labels are measured as before
    page = (data / "joint/measure.html").read_text()
    assert "It ignores its actions" in page


def test_a_world_is_measured_beside_the_labels(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert measure(data, "lapo", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 <= told["accuracy"] <= 1
    world = told["world"]
    assert world["word"] in ("obeys", "obeys in part", "ignores its actions")
    assert [point["x"] for point in world["skill"]] == list(range(1, 9))
    assert all(point["low"] <= point["value"] <= point["high"] for point in world["skill"] + world["psnr"])
    assert world["drift"][0]["value"] == 0
    assert world["sensitivity"]["low"] <= world["sensitivity"]["value"] <= world["sensitivity"]["high"]
    assert 0 <= world["cycle"]["value"] <= 1
    page = (data / "lapo/measure.html").read_text()
    for heading in ("One frame, every request", "Is it read as it was told?", "How far does it foresee?", "drift"):
        assert heading in page
    assert page.count("data:image/png") == 3 * (1 + len(world["cycle"]["by"]))
    assert "<script" not in page
    assert measure(data, "lapo", "--json") == 0  # a second time, the same
    assert json.loads(capsys.readouterr().out) == told
    assert (data / "lapo/measure.html").read_text() == page


def test_codes_without_names_have_a_world_to_measure(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = load_system(data / "lapo")
    save_system(tmp_path / "nameless", type(system)(inverse=system.inverse, forward=system.forward))
    capsys.readouterr()
    assert cli.main(["measure", str(tmp_path / "nameless"), "--data", str(data / "b"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "accuracy" not in told
    assert told["world"]["cycle"]["value"] >= 0
    assert cli.main(["measure", str(tmp_path / "nameless"), "--data", str(data / "b"), "--episodes", "1"]) == 0
    assert "the world                     unknown" in capsys.readouterr().out  # one episode tells nothing


def test_an_episode_of_one_step_is_looked_at_one_step_ahead(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["record", "sprites", "--episodes", "3", "--set", "limit=1", "--out", str(tmp_path / "short")]
    assert cli.main(line) == 0
    capsys.readouterr()
    assert cli.main(["measure", str(data / "lapo"), "--data", str(tmp_path / "short"), "--json"]) == 0
    world = json.loads(capsys.readouterr().out)["world"]
    assert [point["x"] for point in world["skill"]] == [1]
    assert world["windows"] == 3


def test_a_world_of_a_game_is_asked_for_rewards_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("0", "1"):
        assert cli.main(["record", "catch", "--episodes", "8", "--seed", seed, "--out", str(tmp_path / seed)]) == 0
    for recipe in ("iris", "joint"):
        line = ["train", recipe, "--data", str(tmp_path / "0"), "--size", "micro", "--out", str(tmp_path / recipe)]
        assert cli.main(line) == 0
        capsys.readouterr()
        assert cli.main(["measure", str(tmp_path / recipe), "--data", str(tmp_path / "1")]) == 0
        told, page = capsys.readouterr().out, (tmp_path / recipe / "measure.html").read_text()
        for line in ("rewards foretold  ", "ends foretold  "):
            assert (line in told) == (recipe == "iris")
        assert ("Does it foretell rewards and ends?" in page) == (recipe == "iris")
