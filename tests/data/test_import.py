"""A folder of videos becomes a store: fates, labels, refusals, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_samples import moving, variable, write

from retrodict.clip import RECORDED
from retrodict.data.importers import UNKNOWN, import_videos
from retrodict.errors import UnusableInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    (videos / "more").mkdir(parents=True)
    write(videos / "a.mp4", moving(12))
    write(videos / "more/b.mp4", moving(7))
    return videos


def test_small_videos_become_images_with_their_labels(tmp_path: Path, folder: Path) -> None:
    (folder / "labels.csv").write_text("file,frame,action\na.mp4,2,left\nb.mp4,0,right\n")
    store, fates = import_videos(folder, tmp_path / "d", labels=folder / "labels.csv")
    assert [(f.file, f.id, f.what) for f in fates] == [
        ("a.mp4", "a.mp4", "images"),
        ("more/b.mp4", "more/b.mp4", "images"),
    ]
    assert dict(store.lengths) == {"a.mp4": 12, "more/b.mp4": 7}
    clip = store.read("a.mp4")
    assert clip.source is not None
    assert clip.source[0].nonzero().tolist() == [[2]]
    assert clip.actions is not None
    assert clip.actions[0, 2].tolist() == [1.0, 0.0]
    assert clip.frames is not None
    assert np.abs(clip.frames[0].permute(0, 2, 3, 1).numpy().astype(int) - moving(12)).mean() < 3
    assert store.commits[0].provenance["file"] == "a.mp4"


def test_large_videos_are_linked_or_their_packets_copied(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    linked = write(folder / "a.mp4", moving(8, 144, 160))
    variable(folder / "b.mkv", list(range(6)), height=144, width=160)
    store, fates = import_videos(folder, tmp_path / "d")
    assert [(f.file, f.what) for f in fates] == [("a.mp4", "linked"), ("b.mkv", "remuxed")]
    assert "matroska" in fates[1].reason
    assert linked.stat().st_nlink == 2
    assert store.schema.video
    assert store.schema.space == UNKNOWN
    frames = store.read("b.mkv").frames
    assert frames is not None
    assert np.abs(frames[0].permute(0, 2, 3, 1).numpy().astype(int) - moving(6, 144, 160)).mean() < 5


def test_broken_and_foreign_files_are_named_and_the_rest_is_done(tmp_path: Path, folder: Path) -> None:
    data = (folder / "a.mp4").read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "cut.mp4").write_bytes(data[: len(data) // 2])
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden").write_text("")
    labels = folder / "labels.csv"
    labels.write_text("file,frame,action\na.mp4,0,left\ncut.mp4,0,right\n")
    store, fates = import_videos(folder, folder / "out", labels=labels)
    refused = {f.file: f.reason for f in fates if f.what == "refused"}
    assert set(refused) == {"empty.mp4", "cut.mp4", "notes.txt"}
    assert "not a video by its name" in refused["notes.txt"]
    assert "its 1 labels are not used" in refused["cut.mp4"]
    assert set(store.ids) == {"a.mp4", "more/b.mp4"}
    again, fates = import_videos(
        folder, folder / "out", labels=labels
    )  # the dataset inside the folder is not taken for input
    assert {f.file for f in fates if f.what == "kept"} == set(again.ids) == set(store.ids)
    assert again.digest == store.digest


def test_a_link_to_nowhere_is_named(tmp_path: Path, folder: Path) -> None:
    (folder / "gone.mp4").symlink_to(tmp_path / "moved away.mp4")
    _, fates = import_videos(folder, tmp_path / "d")
    assert [(fate.file, fate.what) for fate in fates] == [
        ("a.mp4", "images"), ("gone.mp4", "refused"), ("more/b.mp4", "images"),
    ]  # fmt: skip
    assert "link to nowhere" in fates[1].reason


def test_damage_in_the_middle_of_a_video_is_refused(tmp_path: Path, folder: Path) -> None:
    data = bytearray((folder / "a.mp4").read_bytes())
    start = data.index(b"mdat") + 1200
    data[start : start + 600] = bytes(600)
    (folder / "z.mp4").write_bytes(data)
    store, fates = import_videos(folder, tmp_path / "d")
    assert fates[-1].what == "refused"
    assert set(store.ids) == {"a.mp4", "more/b.mp4"}


def test_nothing_is_written_when_no_file_is_usable_or_a_label_is_wrong(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "x.mp4").write_bytes(b"")
    labels = tmp_path / "labels.csv"
    for text, words in (("a.mp4,11,left", "line 2"), ("q.mp4,0,left", "line 2"), ("a.mp4,0,", "line 2")):
        labels.write_text(f"file,frame,action\n{text}\n")
        with pytest.raises(UnusableInput, match=words):
            import_videos(folder, tmp_path / "d", labels=labels)
    with pytest.raises(UnusableInput, match=r"no usable video.*x\.mp4"):
        import_videos(empty, tmp_path / "d")
    with pytest.raises(UnusableInput, match=r"frames per second, 1\.\.1000; got 0"):
        import_videos(folder, tmp_path / "d", fps=0)
    with pytest.raises(UnusableInput, match="not a folder"):
        import_videos(tmp_path / "absent", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_sizes_and_rates_that_differ_are_listed_until_told_what_to_do(tmp_path: Path, folder: Path) -> None:
    write(folder / "c.mp4", moving(9, 32, 48), fps=20)
    with pytest.raises(UnusableInput, match=r"96x64 at 10.*a\.mp4.*48x32 at 20.*c\.mp4"):
        import_videos(folder, tmp_path / "d")
    store, _ = import_videos(folder, tmp_path / "d", fps=10, fit=(48, 32))
    assert store.schema.size == (32, 48)
    assert dict(store.lengths) == {"a.mp4": 12, "c.mp4": 5, "more/b.mp4": 7}  # 9 frames at 20/s are 5 at 10/s


def test_a_variable_rate_needs_a_rate_to_resample_to(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    variable(folder / "a.mp4", [0, 1, 2, 6, 7, 9])
    with pytest.raises(UnusableInput, match="variable number of"):
        import_videos(folder, tmp_path / "d")
    store, _ = import_videos(folder, tmp_path / "d", fps=10)
    frames = store.read("a.mp4").frames
    assert frames is not None
    shown = [
        int(np.abs(moving(6).astype(int) - f.permute(1, 2, 0).numpy()).mean((1, 2, 3)).argmin()) for f in frames[0]
    ]
    assert shown == [0, 1, 2, 2, 2, 3, 3, 4, 4, 5]


def test_a_broadcast_rate_keeps_every_frame_and_its_true_time(tmp_path: Path) -> None:
    from fractions import Fraction

    import av

    folder = tmp_path / "videos"
    folder.mkdir()
    with av.open(str(folder / "a.mp4"), "w") as box:
        stream = box.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for pixels in moving(20):
            box.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        box.mux(stream.encode())
    labels = tmp_path / "labels.csv"
    labels.write_text("file,frame,action\na.mp4,18,left\n")
    store, _ = import_videos(folder, tmp_path / "d", labels=labels)
    assert store.schema.fps == 30
    clip = store.read("a.mp4")
    assert clip.times is not None
    assert torch.allclose(clip.times[0], torch.arange(20, dtype=torch.float64) * 1001 / 30000, atol=1e-4)
    assert clip.source is not None
    assert clip.source[0, 18] == RECORDED


def test_an_import_into_a_folder_with_other_labels_or_files_is_refused(tmp_path: Path, folder: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("file,frame,action\na.mp4,2,left\na.mp4,1,right\n")
    import_videos(folder, tmp_path / "d", labels=labels)
    labels.write_text("file,frame,action\na.mp4,2,right\na.mp4,1,left\n")
    with pytest.raises(UnusableInput, match="other labels"):
        import_videos(folder, tmp_path / "d", labels=labels)
    labels.write_text("file,frame,action\na.mp4,2,left\na.mp4,1,right\n")
    write(folder / "a.mp4", moving(12, seed=3))
    with pytest.raises(UnusableInput, match="other content"):
        import_videos(folder, tmp_path / "d", labels=labels)
