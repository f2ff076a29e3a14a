"""retrodict train, measure and act: one run folder, honest figures."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from data_samples import moving, write

from retrodict import cli
from retrodict.check import load_recipe
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.envs.catch import Catch
from retrodict.errors import UnusableInput
from retrodict.label.auto import Shares
from retrodict.label.scores import scores
from retrodict.nn.device import device_of
from retrodict.run.checkpoint import load_system
from retrodict.run.run import Run, Views
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, continuous


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert cli.main(["record", "sprites", "--episodes", "20", "--random", "0.3", "--out", str(folder / "a")]) == 0
    assert cli.main(["record", "sprites", "--episodes", "5", "--seed", "1", "--out", str(folder / "b")]) == 0
    return folder


def train(data: Path, out: Path, *more: str) -> int:
    return cli.main(["train", "bc", "--data", str(data / "a"), "--out", str(out), "--size", "micro", "--json", *more])


def test_a_run_knows_what_it_was_made_of_and_the_same_command_again_does_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "r", "--labels", "16", "--seed", "3") == 0
    first = json.loads(capsys.readouterr().out)
    about = load_system(tmp_path / "r").about
    assert about["recipe"] == "bc"
    assert about["seed"] == 3
    assert about["data"]["labels"] == 16
    assert about["data"]["source"] == Store.open(data / "a").digest
    weights = (tmp_path / "r/system/state.safetensors").read_bytes()
    assert train(data, tmp_path / "r", "--labels", "16", "--seed", "3") == 0
    assert json.loads(capsys.readouterr().out) == first  # the seconds, too, are those of the first time
    assert (tmp_path / "r/system/state.safetensors").read_bytes() == weights


def test_copies_of_a_world_are_played_side_by_side(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded, out = tmp_path / "d", tmp_path / "r"
    assert cli.main(["record", "catch", "--episodes", "4", "--policy", "random", "--out", str(recorded)]) == 0
    line = ["train", "dreamer_v3", "--data", str(recorded), "--out", str(out), "--size", "micro"]
    assert cli.main([*line, "--env", "catch", "--copies", "3"]) == 0
    (played,) = out.glob("stages/*/episodes")
    with Store.open(played) as store:
        assert len(store.ids) == 6  # of 40 steps: games of 13, three at a time
    for more in (("--copies", "3"), ("--env", "catch", "--copies", "0")):
        assert train(data, tmp_path / "no", *more) == 2
        assert "--copies counts copies of --env" in capsys.readouterr().err


def test_who_plays_nowhere_or_elsewhere_than_was_recorded_is_told_before_anything_is_trained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--data", str(data / "a"), "--out", str(tmp_path / "r"), "--size", "micro", "--env"]
    assert cli.main(["train", "iris", *line, "sprites"]) == 2
    assert "iris learns from the data alone, and plays nowhere" in capsys.readouterr().err
    assert cli.main(["train", "tdmpc2", *line, "catch"]) == 2
    assert "catch has actions" in capsys.readouterr().err
    assert not list(tmp_path.glob("r/stages/*"))


@pytest.mark.parametrize("recipe", ["iris", "world_models"])
def test_who_learns_rewards_asks_for_them_before_anything_is_trained(recipe: str, tmp_path: Path) -> None:
    clip = Clip(frames=torch.zeros(1, 9, 3, 16, 16, dtype=torch.uint8), actions=torch.eye(3)[[0] * 8][None])
    store = MemoryStore(Schema(Catch(1).actions, {"observation.image": (16, 16, 3)}, 10), [clip])
    steps = Steps.all(Cache.build(store))
    module = load_recipe(recipe)
    with Run(tmp_path, Views(steps, steps)) as run, pytest.raises(UnusableInput, match="no rewards and no ends"):
        module.train(module.micro(), run)
    assert not list(tmp_path.glob("stages/*"))


def test_a_device_that_is_not_there_is_refused_before_anything_is_made(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert train(data, tmp_path / "r", "--device", "cuda") == 2
    assert "one of cpu, as torch has here; got 'cuda'" in capsys.readouterr().err
    assert train(data, tmp_path / "r", "--compile", "graphs") == 2
    assert "expected a CUDA device for --compile graphs; got 'cpu'" in capsys.readouterr().err
    assert cli.main(["act", "random", "--env", "catch", "--device", "cuda"]) == 2
    assert "one of cpu, as torch has here; got 'cuda'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    with pytest.raises(UnusableInput, match="cpu, cuda:0, cuda:1"):
        device_of("cuda:2")


def test_other_settings_are_refused_with_what_differs_and_restart_does_it_anew(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "r") == 0
    assert train(data, tmp_path / "r", "--set", "fit.steps=9") == 2
    assert "fit.steps was 8 and is now 9" in capsys.readouterr().err
    assert train(data, tmp_path / "r", "--labels", "16") == 2
    assert "other steps, labels, windows or rows of data" in capsys.readouterr().err
    assert train(data, tmp_path / "r", "--set", "fit.steps=9", "--restart", "policy") == 0
    steps = (tmp_path / "r/stages/policy/metrics.jsonl").read_text().splitlines()
    assert len(steps) == 9


def test_a_run_of_another_recipe_is_not_replaced(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "r") == 0
    files = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    capsys.readouterr()
    line = ["--data", str(data / "a"), "--out", str(tmp_path / "r"), "--size", "micro"]
    for other in ("lapo", "auto"):
        assert cli.main(["train", other, *line]) == 2
        assert f"holds a finished run of bc; name another folder for {other} with --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == files


def test_a_stage_that_is_not_there_cannot_be_restarted_and_nothing_is_saved(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "r", "--restart", "nope") == 2
    assert "no stage to restart named 'nope'" in capsys.readouterr().err
    assert not (tmp_path / "r/system").exists()


def test_frames_can_be_seen_at_another_size(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "r", "--frame-size", "56x63") == 0
    policy = load_system(tmp_path / "r").policy
    assert policy is not None
    assert policy.view.size == (63, 56)


def test_too_many_labels_and_no_labels_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "r", "--labels", "100000") == 2
    assert "ask for fewer" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_budget_is_shared_among_stages_and_bounds_their_steps(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "r", "--set", "fit.steps=1000000", "--budget", "2s") == 0
    told = json.loads((tmp_path / "r/stages/policy/steps.json").read_text())
    assert told["asked"] == 1_000_000
    assert 20 <= told["steps"] < 100_000
    shares = Shares(90.0)
    assert 25 < shares.get("any") <= 30  # a third of what is left


def test_measuring_says_when_the_run_has_seen_the_data(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "vpt", "--data", str(data / "a"), "--out", str(tmp_path / "r"), "--size", "micro", "--json"]
    assert cli.main(line) == 0
    for name, seen in (("a", True), ("b", False)):
        capsys.readouterr()
        assert cli.main(["measure", str(tmp_path / "r"), "--data", str(data / name), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["seen_in_training"] is seen
        recorded = sum(length - 1 for length in Store.open(data / name).lengths.values())
        assert told["steps"] == recorded
        assert told["low"] <= told["accuracy"] <= told["high"]


def test_a_run_without_an_inverse_or_for_other_actions_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "r") == 0
    assert cli.main(["measure", str(tmp_path / "r"), "--data", str(data / "b")]) == 2
    assert "has no inverse model" in capsys.readouterr().err
    assert cli.main(["act", str(tmp_path / "r"), "--env", "sprites", "--set", "size=45", "--episodes", "2"]) == 2
    assert "pixels" in capsys.readouterr().err


def test_acting_is_scored_beside_random_and_the_expert(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["act", "expert", "--env", "sprites", "--episodes", "20", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    best, chance = told["policies"]
    assert (best["policy"], chance["policy"]) == ("expert", "random")
    assert best["success"] == 1.0
    assert chance["success"] < 0.8
    assert best["success_low"] == pytest.approx(0.839, abs=1e-3)  # Wilson, 20 of 20


def test_label_scores_by_hand() -> None:
    space = ActionSpace((categorical("move", ("a", "b", "c")),))
    truth = torch.eye(3)[[0, 0, 1, 2]]
    found = scores(Distribution.point(space, torch.eye(3)[[0, 1, 1, 1]]), truth)
    assert (found["steps"], found["accuracy"], found["majority"], found["majority_class"]) == (4, 0.5, 0.5, "a")
    assert found["recall"] == {"a": 0.5, "b": 1.0, "c": 0.0}
    speed = ActionSpace((continuous("speed", ("v",)),))
    values = torch.tensor([[0.0], [0.5], [1.0]])
    assert scores(Distribution.point(speed, values), values)["r2_speed"] == pytest.approx(1.0, abs=1e-6)


def test_fewer_labels_than_one_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(data, tmp_path / "r", "--labels", "-5") == 2
    assert "ask for 1 or more" in capsys.readouterr().err


def test_tracking_is_handed_to_the_log_of_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    class Events:
        def __init__(self, folder: str, purge_step: int) -> None:
            opened.append(Path(folder))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr("retrodict.run.log._tensorboard", lambda: Events)
    assert train(data, tmp_path / "plain") == 0
    assert opened == []
    assert train(data, tmp_path / "r", "--track", "tensorboard") == 0
    assert [path.parts[-3:] for path in opened] == [("stages", "policy", "tensorboard")]
    assert (tmp_path / "r/stages/policy/metrics.jsonl").is_file()  # beside, not in place of


def test_every_part_of_an_action_is_measured() -> None:
    keys = Segment("keys", "binary", ("run", "jump"))
    space = ActionSpace((categorical("turn", ("left", "none", "right")), keys))
    truth = torch.tensor([[1, 0, 0, 1, 0], [1, 0, 0, 1, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0]]).float()
    said = torch.tensor([[9, 0, 0, 9, -9], [9, 0, 0, 9, -9], [9, 0, 0, 9, -9], [0, 0, 9, -9, -9]]).float()
    found = scores(Distribution(space, said), truth)
    assert found == {
        "steps": 4, "accuracy_turn": 0.75, "majority_turn": 0.5, "accuracy_keys": 0.75, "majority_keys": 0.5,
    }  # fmt: skip


def test_numbers_are_measured_axis_by_axis_and_what_is_hardly_seen_is_named() -> None:
    space = ActionSpace((continuous("move", ("x", "z")), Segment("keys", "binary", ("run",))))
    truth = torch.tensor([[-1.0, -1, 1], [1, 1, 0], [-1, 1, 1], [1, -1, 0]])
    said = torch.cat([truth[:, :1], torch.zeros(4, 3), 18 * truth[:, 2:] - 9], 1)  # x is right, z is always the mean
    found = scores(Distribution(space, said), truth)
    assert found == {
        "steps": 4, "r2_move": 0.5, "r2_move.x": 1.0, "r2_move.z": 0.0, "hardly_seen": ["move.z"],
        "accuracy_keys": 1.0, "majority_keys": 0.5,
    }  # fmt: skip


def test_minutes_are_the_first_steps_and_presets_go_by_name(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "r", "--minutes", "0.05") == 0
    assert load_system(tmp_path / "r").about["data"]["labels"] == 30  # 3 seconds at 10 frames a second
    capsys.readouterr()
    for more, message in (
        (("--minutes", "1", "--labels", "8"), "either --labels or --minutes"),
        (("--minutes", "60"), "36000 labels were asked for"),
        (("--minutes", "nan"), "at least one step; got nan"),
        (("--minutes", "-1"), "at least one step; got -1"),
        (("--size", "amr"), "no preset of bc named 'amr'. Did you mean 'arm'"),
        (("--size", "train"), "no preset of bc named 'train'"),
    ):
        assert train(data, tmp_path / "other", *more) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "other/stages").exists()


OWN_PART = """

class Own(Inverse):
    \"\"\"A part that the package does not have.\"\"\"


def train(cfg: Config, run: Run) -> System:
    made = quick(cfg, run)
    own = Own(made.inverse.view, made.inverse.space, patch=patch_for(made.inverse.view.size))
    return System(inverse=run.fit("own", own, labelled, run.data.labelled.shown(own.view), cfg.fit), about=made.about)
"""


def test_a_recipe_file_with_a_part_of_its_own_is_loaded_by_name_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = tmp_path / "own.py", str(tmp_path / "r")
    quick = (Path(__file__).parents[1] / "label/quick_recipe.py").read_text()
    file.write_text(quick.replace("def train(", "def quick(") + OWN_PART)
    assert cli.main(["train", str(file), "--data", str(data / "a"), "--out", run, "--size", "micro"]) == 0
    assert capsys.readouterr().err.count("running the code in") == 1
    measure = ["measure", run, "--data", str(data / "b")]
    del sys.modules["retrodict_recipe_own"]  # as in a process of its own
    capsys.readouterr()
    assert cli.main(measure) == 2
    assert "Name that file with --code" in capsys.readouterr().err
    assert cli.main([*measure, "--code", str(file)]) == 0
    assert "running the code in" in capsys.readouterr().err


def test_a_figure_of_no_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "bc", "--claim", "success_64", "--seeds", "0"]) == 2
    assert "--seeds must be 1 or more; got 0" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["lapo", "laq"])
def test_video_without_any_label_gets_codes_and_a_plain_word(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v").mkdir()
    for seed in range(3):
        write(tmp_path / f"v/{seed}.mp4", moving(30, 64, 64, seed))
    folder, run = str(tmp_path / "d"), str(tmp_path / "r")
    assert cli.main(["data", "import", str(tmp_path / "v"), "--out", folder]) == 0
    assert cli.main(["train", "vpt", "--data", folder, "--out", str(tmp_path / "n"), "--size", "micro"]) == 2
    assert "no step of this dataset has an action" in capsys.readouterr().err
    assert cli.main(["train", recipe, "--data", folder, "--out", run, "--size", "micro"]) == 0
    assert f"data check {folder} --with {run}" in capsys.readouterr().out
    assert load_system(run).adapter is None
    assert cli.main(["data", "check", folder, "--with", run, "--json"]) == 0
    health = json.loads(capsys.readouterr().out)["health"]
    assert health["verdict"]["word"] == "unknown"
    assert health["figures"]["codes"]["books"][0]["size"] == 8


@pytest.mark.skipif("RETRODICT_CLIPS" not in os.environ, reason="names a folder of camera clips, which we do not ship")
def test_clips_of_a_camera_get_codes_and_a_plain_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for clip in sorted(Path(os.environ["RETRODICT_CLIPS"]).glob("*.mp4")):
        (tmp_path / clip.stem).mkdir()
        shutil.copy(clip, tmp_path / clip.stem)
        folder, run = f"{tmp_path}/{clip.stem}.d", f"{tmp_path}/{clip.stem}.run"
        assert cli.main(["data", "import", str(tmp_path / clip.stem), "--out", folder]) == 0
        line = ["train", "lapo", "--data", folder, "--out", run, "--size", "babyai", "--set", "world.steps=150"]
        assert cli.main([*line, "--frame-size", "64x48", "--set", "clone.steps=20"]) == 0
        capsys.readouterr()
        assert cli.main(["data", "check", folder, "--with", run]) == 0
        told = capsys.readouterr().out
        print(told)
        assert "health         unknown: there are no recorded actions" in told
        assert "codes          " in told
