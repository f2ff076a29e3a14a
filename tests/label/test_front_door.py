"""retrodict label on a real folder of mp4 files, in a new process."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict import check
from retrodict.cli import main
from retrodict.cli.grammar import parse
from retrodict.cli.label import told
from retrodict.clip import PREDICTED, RECORDED
from retrodict.data.action_schema import schema_file, schema_json
from retrodict.data.export import Export
from retrodict.data.foreign import open_dataset
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.data.video import Writer
from retrodict.envs.rollout import expert, rollout
from retrodict.envs.sprites import Sprites
from retrodict.errors import UnusableInput
from retrodict.label.job import Job, LabelReport, label, seen_size
from retrodict.label.verdict import Verdict, Word
from retrodict.rng import numpy_rng
from retrodict.roles import System
from retrodict.run.log import Log
from retrodict.run.run import Run
from retrodict.segments import categorical
from retrodict.spaces import ActionSpace

EPISODES, LABELS, SIZE, FPS = 24, 80, 36, 10
RECIPE = Path(__file__).with_name("quick_recipe.py")
NAMES = [f"level {number}.mp4" for number in range(EPISODES)]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `videos` with good, broken, empty and other files, `labels.csv`, and `truth.json` by file."""
    folder = tmp_path_factory.mktemp("footage")
    (folder / "videos").mkdir()
    world, truth = Sprites(8, SIZE), {}
    for name, (clip, _, _) in zip(NAMES, rollout(world, range(EPISODES), expert(world, 0.3)), strict=True):
        assert clip.frames is not None
        assert clip.actions is not None
        with Writer(folder / "videos" / name, SIZE, SIZE, FPS) as writer:
            writer.add(clip.frames[0].permute(0, 2, 3, 1).numpy())
        values = world.actions.segments[0].values
        truth[name] = [values[i] for i in world.actions.index(clip.actions[0]).tolist()]
    steps = [(name, t, action) for name, actions in truth.items() for t, action in enumerate(actions)]
    picked = numpy_rng(0, "labels").choice(len(steps), LABELS, replace=False)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "frame", "move"), *(steps[i] for i in sorted(picked))])
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "videos/broken.mp4").write_bytes((folder / "videos" / NAMES[0]).read_bytes()[:900])
    (folder / "videos/empty.mp4").write_bytes(b"")
    (folder / "videos/notes.txt").write_text("not a video")
    return folder


def command(footage: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "import sys; from retrodict.cli import main; sys.exit(main())", "label"]
    line += [str(footage / "videos"), "--out", str(out), "--threads", "1", "--json", *more]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def labelled(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object], int]:
    """The dataset that the front door wrote, what it told, and its exit code."""
    out = tmp_path_factory.mktemp("out") / "moves"
    done = command(footage, out, "--labels", str(footage / "labels.csv"), "--recipe", str(RECIPE))
    assert done.returncode == 4, done.stderr
    return out, json.loads(done.stdout), done.returncode


def test_good_files_are_labelled_and_every_other_one_is_named(labelled: tuple[Path, dict[str, object], int]) -> None:
    _, told, _ = labelled
    fates = {fate["file"]: fate for fate in told["files"]}  # type: ignore[attr-defined]
    assert {name for name, fate in fates.items() if fate["what"] == "refused"} == {
        "broken.mp4", "empty.mp4", "notes.txt",
    }  # fmt: skip
    assert all(fate["reason"] for fate in fates.values() if fate["what"] == "refused")
    assert {name for name, fate in fates.items() if fate["what"] == "images"} == set(NAMES)


def test_the_dataset_holds_only_rows_to_train_on_and_the_right_actions(
    footage: Path, labelled: tuple[Path, dict[str, object], int]
) -> None:
    out, told, _ = labelled
    truth = json.loads((footage / "truth.json").read_text())
    source = open_dataset(out)
    steps = told["steps"]
    assert isinstance(steps, dict)
    assert (steps["missing"], steps["recorded"]) == (0, LABELS)
    assert sum(steps.values()) == sum(map(len, truth.values()))  # one step between two frames
    origin = json.loads((out / "meta/retrodict/export.json").read_text())
    right = []
    for id, span in zip(source.ids, origin["spans"], strict=True):
        clip = source.read(id)
        assert clip.source is not None
        assert clip.actions is not None
        assert set(clip.source[0].tolist()) <= {RECORDED, PREDICTED}
        said = [source.schema.space.segments[0].values[i] for i in clip.actions[0].argmax(-1).tolist()]
        right += [a == b for a, b in zip(said, truth[span["id"]][span["first"] :], strict=False)]
    assert np.mean(right) > 0.8  # a move into the border cannot be told from "stay"
    rows = sum(source.lengths.values())
    assert rows == steps["recorded"] + steps["predicted"]  # a row per action: no last frames, no abstained steps


def test_the_verdict_rests_on_held_out_labels(labelled: tuple[Path, dict[str, object], int]) -> None:
    out, told, _ = labelled
    verdict = told["verdict"]
    assert isinstance(verdict, dict)
    assert verdict["labels"] == LABELS
    assert verdict["word"] in ("usable", "usable with abstention")
    assert verdict["low"] > verdict["majority"]
    report = json.loads((out.with_name("moves.run") / "report.json").read_text())
    assert report["verdict"] == verdict
    assert sum(report["histogram"]) == report["steps"]["predicted"] + report["steps"]["abstained"]


def test_the_same_command_again_changes_nothing(footage: Path, labelled: tuple[Path, dict[str, object], int]) -> None:
    out, told, _ = labelled
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    done = command(footage, out, "--labels", str(footage / "labels.csv"), "--recipe", str(RECIPE))
    assert done.returncode == 4, done.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    again = json.loads(done.stdout)
    assert {**again, "files": None} == {**told, "files": None}


def test_other_rows_than_are_there_are_refused_and_a_kill_before_the_first_label_is_survived(
    labelled: tuple[Path, dict[str, object], int], footage: Path, tmp_path: Path
) -> None:
    run = labelled[0].with_name("moves.run") / "train"
    (tmp_path / "videos").mkdir()
    shutil.copy(footage / "videos" / NAMES[3], tmp_path / "videos")
    (tmp_path / "d.run/labels/meta/retrodict").mkdir(parents=True)
    (tmp_path / "d.run/labels/meta/retrodict/lock").touch()
    job = Job(videos=tmp_path / "videos", out=tmp_path / "d", run=run)
    assert label(job, None, Log(quiet=True)).written is not None
    with pytest.raises(UnusableInput, match="other rows"):
        label(replace(job, keep_all=True), None, Log(quiet=True))


def test_a_run_labels_other_videos_and_strict_refuses_what_nobody_measured(
    footage: Path, labelled: tuple[Path, dict[str, object], int], tmp_path: Path
) -> None:
    run = labelled[0].with_name("moves.run") / "train"
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(footage / "videos" / NAMES[3], videos)
    log = Log(quiet=True)
    unmeasured = label(Job(videos=videos, out=tmp_path / "a", run=run), None, log)
    assert unmeasured.verdict.labels == LABELS  # what was measured where it was trained
    assert unmeasured.refused == ()
    wrong = tmp_path / "wrong.csv"  # labels that the model contradicts
    truth = json.loads((footage / "truth.json").read_text())[NAMES[3]]
    swapped = {"up": "down", "down": "up", "left": "right", "right": "left", "stay": "stay"}
    rows = [("file", "frame", "move"), *((NAMES[3], t, swapped[action]) for t, action in enumerate(truth))]
    with wrong.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    told = label(Job(videos=videos, out=tmp_path / "b", run=run, labels=wrong, strict=True), None, log)
    assert told.verdict.word == "not actions"
    assert told.written is None
    assert not (tmp_path / "b").exists()


def test_onnx_runtime_labels_as_torch_does(
    footage: Path, labelled: tuple[Path, dict[str, object], int], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    run = labelled[0].with_name("moves.run") / "train"
    (tmp_path / "videos").mkdir()
    for name in NAMES[:3]:
        shutil.copy(footage / "videos" / name, tmp_path / "videos")
    job = Job(videos=tmp_path / "videos", out=tmp_path / "torch", run=run)
    other = replace(job, out=tmp_path / "onnx", engine="onnx")
    assert label(job, None, Log(quiet=True)).steps == label(other, None, Log(quiet=True)).steps
    there, here = (open_dataset(each.folder / "labels") for each in (job, other))
    for id in there.ids:
        wanted, got = there.read(id), here.read(id)
        assert torch.equal(got.actions, wanted.actions)  # type: ignore[arg-type]
        assert torch.allclose(got.confidence, wanted.confidence, atol=1e-4)  # type: ignore[arg-type]
    with pytest.raises(UnusableInput, match="labels of another model"):  # of another engine: no mixture
        label(replace(other, engine="torch"), None, Log(quiet=True))


def test_a_dataset_in_which_some_episodes_have_actions_is_labelled_whole(tmp_path: Path) -> None:
    world = Sprites(8, SIZE)
    schema = Schema(world.actions, {"observation.image": (SIZE, SIZE, 3)}, FPS)
    clips = [clip for clip, _, _ in rollout(world, range(12), expert(world, 0.3))]
    hidden = [clip.with_(actions=None, source=None, rewards=None, ends=None) for clip in clips[6:]]
    with Store.create(tmp_path / "videos", schema) as store:
        store.append([*(clip.with_(rewards=None, ends=None) for clip in clips[:6]), *hidden])
    recipe = check.load_recipe(RECIPE)
    told = label(
        Job(videos=tmp_path / "videos", out=tmp_path / "d"),
        lambda run: recipe.train(recipe.tiny(), run),
        Log(quiet=True),
    )
    assert {fate.what for fate in told.files} == {"images"}
    assert told.steps["recorded"] == sum(clip.steps for clip in clips[:6])
    assert told.steps["predicted"] + told.steps["abstained"] == sum(clip.steps for clip in clips[6:])
    kept = Store.open(tmp_path / "d.run/videos").schema.space
    assert kept == world.actions


def test_a_schema_says_what_labels_are_and_is_not_asked_of_a_run(footage: Path, tmp_path: Path) -> None:
    space = ActionSpace((categorical("move", ("down", "left", "right", "stay", "up", "wait"), [("stay", "wait")]),))
    (tmp_path / "s.json").write_text(json.dumps(schema_json(space)))
    job = Job(videos=footage / "videos", out=tmp_path / "d", labels=footage / "labels.csv", schema=tmp_path / "s.json")
    seen = []

    def stop(run: Run) -> System:
        seen.append(run.data.labelled.cache.space)
        raise UnusableInput("far enough")

    with pytest.raises(UnusableInput, match="far enough"):
        label(job, stop, Log(quiet=True))
    assert seen == [space]
    assert not schema_file(tmp_path / "d").exists()
    with pytest.raises(UnusableInput, match="knows its actions; leave out the schema"):
        label(replace(job, run=tmp_path), None, Log(quiet=True))


@pytest.mark.parametrize(
    ("word", "said", "unsaid"),
    [
        ("usable", "lerobot-train --dataset.repo_id='local/a b' --dataset.root='a b'", "not to train on"),
        ("not actions", "not to train on", "next:"),
    ],
)
def test_what_comes_next_follows_from_the_verdict(word: Word, said: str, unsaid: str) -> None:
    steps = {"missing": 0, "recorded": 1, "predicted": 2, "abstained": 0}
    report = LabelReport(Verdict(word, "why"), (), 4, steps, 0, (0,) * 10, Export(1, 3, 2, 0, 0, 1))
    text = "\n".join(told(Path("a b"), Path("a b.run"), report))
    assert said in text
    assert unsaid not in text


def test_the_printed_commands_can_be_pasted(
    labelled: tuple[Path, dict[str, object], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = labelled[0]
    steps = {"missing": 0, "recorded": 1, "predicted": 2, "abstained": 0}
    report = LabelReport(Verdict("usable", "why"), (), 4, steps, 0, (0,) * 10, Export(1, 3, 2, 0, 0, 1))

    def pasted(place: Path, keep_all: bool) -> list[list[str]]:
        lines = "\n".join(told(place, place.with_name("x.run"), report, keep_all)).partition("next: ")[2]
        return [shlex.split(line) for line in lines.splitlines()]

    ours, lerobots = pasted(Path("my videos") / "moves", keep_all=False)
    train = parse(ours[1:])
    assert (train.recipe, train.data, train.out) == ("bc", Path("my videos/moves"), Path("my videos/moves.bc"))  # type: ignore[attr-defined]
    assert lerobots == [
        "lerobot-train", "--dataset.repo_id=local/moves", "--dataset.root=my videos/moves", "--policy.type=act",
        "--policy.push_to_hub=false",
    ]  # fmt: skip
    ours, export, lerobots = pasted(out, keep_all=True)  # then LeRobot needs the rows with an action alone
    assert main([*ours[1:], "--size", "micro", "--threads", "1"]) == 0
    assert main(export[1:]) == 0
    assert f"--dataset.root={out}.training" in lerobots
    assert Path(f"{out}.training/meta/info.json").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nothing says what the actions are"),
        ({"out": "videos/inside", "labels": "labels.csv"}, "lies inside"),
        ({"out": "taken", "labels": "labels.csv"}, "exists already"),
        ({"labels": "labels.csv", "precision": 1.0}, "between 0 and 1"),
        ({"labels": "few.csv"}, "at least 8 are needed"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    footage: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "few.csv").write_text(f"file,frame,move\n{NAMES[0]},0,up\n{NAMES[0]},1,left\n")
    places = {"labels.csv": footage / "labels.csv", "videos/inside": footage / "videos/inside"}
    settings = {key: places.get(str(v), tmp_path / v) if isinstance(v, str) else v for key, v in changes.items()}
    job = Job(**{"videos": footage / "videos", "out": tmp_path / "d", **settings})  # type: ignore[arg-type]
    with pytest.raises(UnusableInput, match=message):
        label(job, lambda run: pytest.fail("it must not train"), Log(quiet=True))
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "d.run").exists()


@pytest.mark.parametrize(
    ("stored", "seen"),
    [((36, 36), (36, 36)), ((128, 96), (128, 96)), ((480, 640), (64, 88)), ((1920, 1080), (112, 64))],
)
def test_large_frames_are_seen_small_and_in_eights(stored: tuple[int, int], seen: tuple[int, int]) -> None:
    assert seen_size(stored) == seen


def test_foreign_video_is_refused_whole_and_in_part(
    footage: Path, labelled: tuple[Path, dict[str, object], int], tmp_path: Path
) -> None:
    """The trained run meets a folder of noise, then one with a file of its own game beside the noise."""
    run = labelled[0].with_name("moves.run") / "train"
    (tmp_path / "noise").mkdir()
    with Writer(tmp_path / "noise/noise.mp4", SIZE, SIZE, FPS) as writer:
        writer.add(np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8))
    report = label(Job(videos=tmp_path / "noise", out=tmp_path / "none", run=run), None, Log(quiet=True))
    assert report.written is None
    assert not (tmp_path / "none").exists()
    assert report.foreign == report.steps["abstained"] == 19
    assert report.verdict.word == "not actions"
    assert "looks like" in report.verdict.reason
    assert any("foreign: 19 steps" in line for line in told(tmp_path / "none", tmp_path, report))

    shutil.copytree(tmp_path / "noise", tmp_path / "mixed")
    for name in NAMES[:8]:
        shutil.copy(footage / "videos" / name, tmp_path / "mixed" / name)
    report = label(Job(videos=tmp_path / "mixed", out=tmp_path / "some", run=run), None, Log(quiet=True))
    assert report.foreign == 19
    assert report.steps["abstained"] >= 19
    spans = json.loads((tmp_path / "some/meta/retrodict/export.json").read_text())["spans"]
    assert spans
    assert {span["id"] for span in spans} <= set(NAMES[:8])
    written = open_dataset(tmp_path / "some")
    assert written.schema.bounds
    clip = written.read(written.ids[0], frames=False)
    assert clip.bounds is not None
    assert clip.actions is not None
    assert bool((clip.bounds[:, :, 1] >= clip.actions).all())  # the answer is in its own set
    assert bool((clip.bounds[:, :, 0] <= clip.bounds[:, :, 1]).all())
