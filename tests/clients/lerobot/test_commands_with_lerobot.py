"""lerobot opens the dataset of every command that writes one, frame by frame. Run by `make lerobot`."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from data_samples import encoded, moving, variable, write

from retrodict import cli
from retrodict.clip import Clip
from retrodict.data.foreign import open_dataset

sys.path.insert(0, str(Path(__file__).parent))
from test_with_lerobot import lerobot, reference

pytestmark = pytest.mark.skipif("LEROBOT_VENV" not in os.environ, reason="run by make lerobot, which installs it")
SIZE = {"height": 144, "width": 160}


def footage(path: Path, *how: object, count: int = 24) -> Path:
    return encoded(path, moving(count, **SIZE), *how)


def late(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return variable(path, [0, 10, 24, 30, 36, 50, 60], fps=100, **SIZE)


def chapters(folder: Path) -> None:
    for number in (1, 2):
        footage(folder / f"GH0{number}0007.MP4")


def cameras(folder: Path) -> None:
    for name in ("front", "wrist"):
        footage(folder / name / "a.mp4", count=18)


MADE = {
    "linked": (lambda v: write(v / "a.mp4", moving(20, **SIZE)), ()),
    "remuxed": (lambda v: footage(v / "a.mkv", "libvpx-vp9", 30), ()),
    "of a broadcast rate": (lambda v: footage(v / "a.mp4", "libx264", Fraction(30000, 1001), count=40), ()),
    "with frames that come late": (lambda v: late(v / "a.mp4"), ()),
    "encoded again": (lambda v: footage(v / "a.avi", "mjpeg", 10, None, "yuvj420p", count=20), ()),
    "resampled": (lambda v: footage(v / "a.mp4", "libx264", 30), ("--fps", "10")),
    "resized": (lambda v: footage(v / "a.mp4"), ("--fit", "136x128")),
    "small": (lambda v: write(v / "a.mp4", moving(20, 64, 64)), ()),
    "chapters": (chapters, ()),
    "cameras": (cameras, ("--camera", "front=front", "--camera", "wrist=wrist")),
}


def opened(folder: Path, work: Path) -> None:
    """lerobot finds every row of a dataset as we read it."""
    source = open_dataset(folder)
    clips: list[Clip] = [source.read(id) for id in source.ids]
    file = work / "reference.npz"
    found = lerobot("open_with_lerobot.py", folder, reference(source.schema, clips, file))
    assert found["episodes"] == len(clips)
    assert found["frames"] == sum(clip.length for clip in clips)


@pytest.mark.parametrize("kind", MADE)
def test_lerobot_opens_what_import_writes(tmp_path: Path, kind: str) -> None:
    make, flags = MADE[kind]
    (tmp_path / "v").mkdir()
    make(tmp_path / "v")
    assert cli.main(["data", "import", str(tmp_path / "v"), "--out", str(tmp_path / "d"), *flags]) == 0
    opened(tmp_path / "d", tmp_path)


@pytest.mark.parametrize("world", ["sprites", "arm"])
def test_lerobot_opens_what_record_and_an_import_of_it_write(tmp_path: Path, world: str) -> None:
    assert cli.main(["record", world, "--episodes", "3", "--out", str(tmp_path / "d")]) == 0
    opened(tmp_path / "d", tmp_path)
    assert cli.main(["data", "import", str(tmp_path / "d"), "--out", str(tmp_path / "again")]) == 0
    opened(tmp_path / "again", tmp_path)


def test_lerobot_opens_what_label_writes(tmp_path: Path) -> None:
    """A block that moves right or left, labelled by the first of two videos."""
    (tmp_path / "v").mkdir()
    rows = ["file,frame,action"]
    for number in range(2):
        turns = np.random.default_rng(number).integers(0, 2, 79)
        at = 8 * np.concatenate([[8], 8 + np.cumsum(2 * turns - 1)]) % 144
        frames = np.full((80, 144, 160, 3), 60, np.uint8)
        for frame, x in zip(frames, at, strict=True):
            frame[40:80, x : x + 12] = (230, 200, 40)
        write(tmp_path / f"v/{number}.mp4", frames)
        rows += [f"{number}.mp4,{t},{('left', 'right')[turn]}" for t, turn in enumerate(turns) if number == 0]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    line = ["label", str(tmp_path / "v"), "--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "d")]
    assert cli.main([*line, "--recipe", "vpt", "--size", "micro", "--keep-all", "--precision", "0.05"]) == 0
    opened(tmp_path / "d", tmp_path)
