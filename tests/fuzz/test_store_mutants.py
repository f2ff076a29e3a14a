"""Z1, of a dataset of ours: whatever is damaged in it, frames and labels are those of the sound one, or refused."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clips import FPS, LENGTH, SIDE
from data_samples import encoded, moving
from mutants import count, mutant

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.errors import RetrodictError
from retrodict.label import probe
from retrodict.label.job import Job, label
from retrodict.models.inverse import Inverse
from retrodict.rng import numpy_rng
from retrodict.roles import System, View
from retrodict.run import checkpoint
from retrodict.run.log import Log
from retrodict.run.loop import Fit
from retrodict.spaces import ActionSpace, categorical

SPACE = ActionSpace((categorical("move", ("a", "b", "c")),))
SIZE = (SIDE, SIDE)
CODECS = {"libx264": {"bf": "2"}, "libx265": {"x265-params": "log-level=none"}, "libvpx-vp9": {}, "libsvtav1": {}}
Answers = dict[str, Clip | str]  # of each episode: the episode with its labels, or why it is refused
Work = Callable[[Path, Path], Answers]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of video: an episode of each codec, half of its steps with actions, and one commit to each."""
    folder = tmp_path_factory.mktemp("sound")
    with Store.create(folder / "d", Schema(SPACE, {"observation.image": (*SIZE, 3)}, FPS, video=True)) as store:
        for number, (codec, options) in enumerate(CODECS.items()):
            path = encoded(folder / f"{codec}.mp4", moving(LENGTH, *SIZE, seed=number), codec, FPS, options)
            actions = SPACE.one_hot(torch.arange(LENGTH - 1) % 3)[None]
            source = (torch.arange(LENGTH - 1) % 2).to(torch.uint8)[None]
            clip = Clip(actions=actions, source=source, times=torch.arange(LENGTH, dtype=torch.float64)[None] / FPS)
            store.append([clip], videos=[{"observation.image": path}])
    return folder / "d"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved system with an inverse model of random weights."""
    folder = tmp_path_factory.mktemp("run")
    with rng.isolated("weights"):
        inverse = Inverse(View(2, size=SIZE), SPACE, patch=8, width=4, depth=1, hidden=8)
    checkpoint.save_system(folder / "system", System(inverse=inverse.eval()))
    return folder


def read(folder: Path, out: Path) -> Answers:
    """Every episode as it is read, with its frames, or why it is refused."""
    store, answers = Store.open(folder), Answers()
    for id in store.ids:
        try:
            answers[id] = store.read(id)
        except RetrodictError as error:
            answers[id] = str(error)
    return answers


def front_door(run: Path) -> Work:
    """What `retrodict label` with a trained run makes of the dataset."""

    def labelled(folder: Path, out: Path) -> Answers:
        job = Job(videos=folder, out=out / "D", run=run)
        report = label(job, None, Log(quiet=True))
        answers: Answers = {fate.file: fate.reason for fate in report.refused}
        with Store.open(job.folder / "labels") as store:
            return answers | {id: store.read(id) for id in store.ids}

    return labelled


def equal(one: Clip | str, other: Clip | str) -> bool:
    names = ("frames", "actions", "source", "confidence", "times")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


def damage(folder: Path, number: int) -> tuple[Path, bytes]:
    """Damages one file of a dataset, half the time one of video; returns it and what it was."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    films = [path for path in files if path.suffix == ".mp4"]
    draw = numpy_rng("file", number)
    chosen = films if draw.random() < 0.5 else [path for path in files if path not in films]
    path, other = chosen[int(draw.integers(len(chosen)))], films[int(draw.integers(len(films)))]
    good = path.read_bytes()
    path.write_bytes(mutant(good, other.read_bytes(), "store", number))
    os.utime(path, ns=(number, number))  # a file is read again once it is another one by the clock
    return path, good


@pytest.mark.parametrize(("way", "share"), [("read", 1), ("front door", 10)])
def test_no_damage_of_a_dataset_makes_a_wrong_label(
    tmp_path: Path, sound: Path, run: Path, way: str, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = probe._trained  # for the health report, on which no label depends: two steps instead of a hundred
    monkeypatch.setattr(probe, "_trained", lambda *asked: trained(*asked[:3], Fit(2, 8), *asked[4:]))
    work = read if way == "read" else front_door(run)
    wanted = work(sound, tmp_path / "wanted")
    assert [type(answer) for answer in wanted.values()] == [Clip] * len(CODECS)
    folder, outcomes = tmp_path / "d", Counter[str]()
    shutil.copytree(sound, folder)
    for number in range(count(10_000) // share):
        path, good = damage(folder, number * share)
        try:
            got = work(folder, tmp_path / "out")
            assert set(got) == set(wanted)
        except RetrodictError as error:
            got = dict.fromkeys(wanted, str(error))
        kept = {id: clip for id, clip in got.items() if isinstance(clip, Clip)}
        assert all(equal(clip, wanted[id]) for id, clip in kept.items()), f"mutant {number} of {path.name}"
        named = [why for why in got.values() if isinstance(why, str)]
        assert all(path.name in why or str(folder) in why for why in named), f"mutant {number}: {named}"
        outcomes["refused" if not kept else "refused in part" if named else "equal"] += 1
        path.write_bytes(good)
        os.utime(path, ns=(number, 0))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    print(f"{way}: {dict(outcomes)}")
    assert outcomes["refused in part"] > 0
    assert all(equal(clip, wanted[id]) for id, clip in work(folder, tmp_path / "out").items())
