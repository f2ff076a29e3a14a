"""retrodict measure of a run with a world: figures, a word, a page; labels as before."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from retrodict import cli
from retrodict.cli import measure as measure_module
from retrodict.data.store import Store
from retrodict.figures import judge
from retrodict.run.checkpoint import load_system, save_system
from retrodict.run.collect import UNSEEN, origin_of
from retrodict.run.loop import Fit


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


def test_without_data_levels_are_played_that_no_recording_has(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure_module, "FRAMES", 200)
    answers = []
    for _ in range(2):
        assert cli.main(["measure", str(data / "lapo"), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert not answers[0]["seen_in_training"]
    (kept,) = (data / "lapo/unseen").iterdir()
    with Store.open(kept) as store:
        assert 200 <= sum(store.lengths.values()) < 300
        assert {commit.provenance["seed"] for commit in store.commits} == {900}
        assert origin_of(store, store.ids[2]).level == UNSEEN + 2
    system = load_system(data / "lapo")
    save_system(data / "foundling/system", replace(system, about={}))
    assert cli.main(["measure", str(data / "foundling")]) == 2
    assert "--data D" in capsys.readouterr().err


def test_a_world_in_which_a_recorded_value_is_an_event_is_measured_and_imagines(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in ("0", "1"):
        line = ["record", "scroll", "--episodes", "12", "--random", "0.2", "--set", "paint=true", "--seed", seed]
        assert cli.main([*line, "--out", str(tmp_path / seed)]) == 0
    line = ["train", "genie_play", "--data", str(tmp_path / "0"), "--size", "micro", "--set", "events=paint=a ring"]
    assert cli.main([*line, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert cli.main(["measure", str(tmp_path / "run"), "--data", str(tmp_path / "1"), "--judge", "--json"]) == 0
    world = json.loads(capsys.readouterr().out)["world"]
    assert world["windows"] > 20  # those without paint
    assert world["judged"].keys() >= {"value", "shuffled", "real"}
    assert set(world["judged"]["by"]) == {"left", "right", "up", "down", "stay"}
    with Store.open(tmp_path / "1") as store:
        painted = store.schema.space.columns.index("move=paint")
        moves = [store.read(id).actions[0, 2:].argmax(-1).tolist() for id in store.ids]  # type: ignore[index]
    number, steps = next((n, one.index(painted)) for n, one in enumerate(moves) if painted in one[1:])
    line = ["imagine", str(tmp_path / "run"), "--from", f"{tmp_path / '1'}:{number}", "--seen", "3"]
    assert cli.main([*line, "--out", str(tmp_path / "it.mp4"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == steps  # until the event, which the world has no value for


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that learns little, so that it is soon there."""
    monkeypatch.setattr(judge, "FRAMES", 300)
    monkeypatch.setattr(judge, "FIT", Fit(12, 16))


def test_a_judge_is_trained_when_asked_for_and_found_again(
    data: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(data, "lapo") == 0
    assert "judged controllability        not measured: with --judge" in capsys.readouterr().out
    assert "Does it do what it is asked?" not in (data / "lapo/measure.html").read_text()
    assert measure(data, "lapo", "--judge") == 0
    first = capsys.readouterr()
    assert "a judge learns to read actions" in first.err
    assert "committed" in first.err
    assert re.search(
        r"judged controllability +[\d.]+ \[.*\] read as asked; requests shuffled [\d.]+, at random", first.out
    )
    assert "Does it do what it is asked?" in (data / "lapo/measure.html").read_text()
    assert measure(data, "lapo", "--judge", "--env", "sprites", "--json") == 0
    again = capsys.readouterr()
    assert "committed" not in again.err  # nothing is recorded for it a second time
    judged = json.loads(again.out)["world"]["judged"]
    for part in ("shuffled", "random", "real", "judge"):
        assert 0 <= judged[part]["low"] <= judged[part]["value"] <= judged[part]["high"] <= 1
    assert judged["of"] == "share"
    assert all(name.startswith("code ") for name in judged["by"])


def test_a_judge_of_a_world_of_numbers_says_how_well_they_are_read(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in ("0", "1"):
        assert cli.main(["record", "road", "--episodes", "4", "--seed", seed, "--out", str(tmp_path / seed)]) == 0
    assert (
        cli.main(["train", "gaia1", "--data", str(tmp_path / "0"), "--size", "micro", "--out", str(tmp_path / "r")])
        == 0
    )
    capsys.readouterr()
    assert cli.main(["measure", str(tmp_path / "r"), "--data", str(tmp_path / "1"), "--judge", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)["world"]["judged"]
    assert judged["of"] == "R²"
    assert judged["value"] <= 1
    assert {"shuffled", "real", "judge"} <= set(judged)
    assert "random" not in judged  # there is no list to draw from
    assert "Does it do what it is asked?" in (tmp_path / "r/measure.html").read_text()


def test_what_cannot_be_judged_is_refused_before_any_work_or_says_why(
    data: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    system = load_system(data / "lapo")
    save_system(tmp_path / "nameless", type(system)(inverse=system.inverse, forward=system.forward))
    with Store.open(data / "b") as source, Store.open_or_create(tmp_path / "b", source.schema) as store:
        store.append([source.read(id) for id in source.ids[:4]], {"made": "by hand"})
    nowhere = ["measure", str(tmp_path / "nameless"), "--data", str(tmp_path / "b")]
    capsys.readouterr()
    for line, why in (
        ([*nowhere, "--judge"], "says in which world it was recorded"),
        ([*nowhere, "--judge", "--env", "catch"], "catch takes"),
        ([*nowhere, "--judge", "--env", "sprite"], "Did you mean"),
        ([*nowhere, "--env", "sprites"], "give --judge as well"),
    ):
        assert cli.main(line) == 2
        told = capsys.readouterr()
        assert why in told.err
        assert told.out == ""
    assert not (tmp_path / "nameless/judge").exists()
    assert cli.main([*nowhere, "--judge", "--env", "sprites"]) == 0
    assert "judged controllability        not measured: these codes have no names" in capsys.readouterr().out
    assert not (tmp_path / "nameless/judge").exists()  # it was not trained for nothing
