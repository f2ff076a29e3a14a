"""A look at videos before any label: cuts by hand, sizes against what importing really takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrodict.data.importers import Intake, import_data
from retrodict.data.video import Writer
from retrodict.errors import UnusableInput
from retrodict.label.survey import survey
from retrodict.label.symptoms import cuts
from retrodict.rng import numpy_rng


def scene(length: int, seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames (t, h, w, 3) of blocks of one colour each, with a square that moves over them."""
    blocks = numpy_rng(seed, "scene").integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    frames = np.repeat(blocks.repeat(8, 0).repeat(8, 1)[None], length, 0)
    for i, frame in enumerate(frames):
        frame[8:16, (2 * i) % (width - 8) :][:, :8] = 255
    return frames


def write(path: Path, frames: np.ndarray, fps: int = 20) -> Path:
    with Writer(path, *frames.shape[1:3], fps) as writer:
        writer.add(frames)
    return path


@pytest.mark.parametrize(
    ("motion", "count"),
    [
        ([], 0),
        ([1, 1, 60, 1, 1], 1),
        ([60, 1, 1, 1, 60], 2),
        ([1, 1, 15, 1, 1], 0),  # a small change
        ([50, 60, 55, 58, 60], 0),  # the camera is whirled about
        ([1, 60, 60, 1], 0),  # a flash: there and back
        ([10, 30, 10], 1),
        ([11, 30, 10], 0),
    ],
)
def test_a_cut_stands_alone_above_both_sides(motion: list[float], count: int) -> None:
    assert len(cuts(np.array(motion, float))) == count


def test_a_folder_of_videos_is_told_before_any_label(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", np.concatenate([scene(40, 1), scene(30, 2), scene(30, 3)]))
    write(tmp_path / "GH010001.mp4", scene(100, 4))
    write(tmp_path / "GH020001.mp4", scene(100, 4))
    write(tmp_path / "large.mp4", scene(20, 5, 144, 160), 10)
    (tmp_path / "x.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    report = survey(tmp_path)
    assert (report["episodes"], report["files"], report["frames"]) == (3, 4, 320)
    assert report["hours"] == pytest.approx((300 / 20 + 20 / 10) / 3600)
    assert {(look["size"], look["fps"], round(look["hours"] * 3600)) for look in report["looks"]} == {
        ("64x48", "20", 15), ("160x144", "10", 2),
    }  # fmt: skip
    assert report["joined"] == [["GH010001.mp4", "GH020001.mp4"]]
    assert {fate["file"] for fate in report["refused"]} == {"x.mp4", "notes.txt"}
    guess = report["estimates"]
    assert guess["looked_at"] == 1.0
    assert guess["cuts_per_hour"] * report["hours"] == pytest.approx(2)
    assert guess["import_hours"] > 0
    assert guess["label_hours"] > 0


def test_the_size_of_images_is_near_what_importing_takes(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for seed in range(3):
        write(tmp_path / f"v/{seed}.mp4", scene(150, seed))
    guess = survey(tmp_path / "v")["estimates"]["import_gb"] * 1e9
    import_data(tmp_path / "v", tmp_path / "d", Intake())
    taken = sum(path.stat().st_size for path in (tmp_path / "d/data").rglob("*.parquet"))
    assert guess == pytest.approx(taken, rel=0.25)


def test_a_file_that_breaks_where_it_is_looked_at_is_named(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "good.mp4", scene(60, 1)).read_bytes())
    start = data.index(b"mdat") + 900
    data[start : start + 400] = bytes(400)
    (tmp_path / "bad.mp4").write_bytes(data)
    assert [fate["file"] for fate in survey(tmp_path)["refused"]] == ["bad.mp4"]
    (tmp_path / "good.mp4").unlink()
    with pytest.raises(UnusableInput, match="none of the files"):
        survey(tmp_path)


def test_what_is_no_folder_of_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(UnusableInput, match="holds npz; import it"):
        survey(tmp_path)
    (tmp_path / "a.npz").rename(tmp_path / "a.mp4")
    with pytest.raises(UnusableInput, match=r"no usable video: a\.mp4"):
        survey(tmp_path)
