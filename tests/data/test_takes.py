"""Takes: containers changed without encoding, chapters joined, true times kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from data_samples import encoded, moving, variable, write

from retrodict.data.guarded import decoder
from retrodict.data.importers import Imported, Intake, import_data, import_videos
from retrodict.data.takes import Reel, Take
from retrodict.errors import Undecodable, UnusableInput

MOVING = moving(30, 144, 160)


def pixels(path: Path) -> np.ndarray:
    return np.concatenate([frames for frames, _ in decoder.frames(path, -1e9)])


def take(path: Path) -> Take:
    facts = decoder.facts(path)
    return Take((Reel(path, facts, facts.times),))


@pytest.mark.parametrize(
    ("name", "codec", "what"),
    [
        ("a.mkv", "libx264", "remuxed"), ("a.mov", "libx264", "linked"), ("a.webm", "libvpx-vp9", "remuxed"),
        ("a.mkv", "libx265", "remuxed"), ("a.mkv", "libsvtav1", "remuxed"), ("a.avi", "mpeg4", "re-encoded"),
        ("a.mkv", "ffv1", "re-encoded"), ("a.mov", "mjpeg", "re-encoded"),
    ],
)  # fmt: skip
def test_any_codec_is_taken_and_packets_are_copied_where_lerobot_reads_them(
    tmp_path: Path, name: str, codec: str, what: str
) -> None:
    (tmp_path / "v").mkdir()
    if codec == "mjpeg":
        with av.open(str(tmp_path / "v" / name), "w") as box:
            stream = box.add_stream(codec, rate=30)
            stream.height, stream.width, stream.pix_fmt = 144, 160, "yuvj420p"
            for picture in moving(30, 144, 160):
                box.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            box.mux(stream.encode())
    else:
        encoded(tmp_path / "v" / name, MOVING, codec, 30)
    store, (fate,) = import_videos(tmp_path / "v", tmp_path / "d")
    assert (fate.what, store.schema.fps, dict(store.lengths)) == (what, 30, {name: 30})
    original, kept = pixels(tmp_path / "v" / name), store.read(name).frames
    assert kept is not None
    difference = np.abs(kept[0].permute(0, 2, 3, 1).numpy().astype(int) - original)
    assert difference.max() == 0 if what != "re-encoded" else difference.mean() < 4
    assert not list((tmp_path / "d").rglob("staging"))


def test_a_broadcast_rate_is_copied_one_to_one_and_its_true_times_are_kept(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    path = encoded(tmp_path / "v/a.mp4", moving(90, 144, 160), "libx264", Fraction(30000, 1001))
    store, (fate,) = import_videos(tmp_path / "v", tmp_path / "d")
    assert (fate.what, store.schema.fps, store.lengths["a.mp4"]) == ("remuxed", 30, 90)
    assert "true times" in fate.reason
    clip = store.read("a.mp4")
    assert clip.times is not None
    assert np.allclose(clip.times[0].numpy(), np.arange(90) * 1001 / 30000, atol=1e-4)
    assert clip.frames is not None
    assert np.array_equal(clip.frames[0].permute(0, 2, 3, 1).numpy(), pixels(path))


@pytest.mark.parametrize(
    ("ticks", "rate"),
    [
        ([*range(100)], 10),
        ([*range(50), *range(51, 101)], None),  # a frame was dropped
        ([*range(10), *range(11, 101)], None),
        ([*range(99), 110], None),
    ],
)
def test_a_rate_is_whole_where_every_frame_lies_within_half_a_frame(
    tmp_path: Path, ticks: list[int], rate: int | None
) -> None:
    assert take(variable(tmp_path / "a.mp4", ticks, height=32, width=32)).whole_rate == rate


def test_a_frame_that_comes_late_by_less_than_half_a_frame_stays_where_it_is(tmp_path: Path) -> None:
    late = variable(tmp_path / "a.mp4", [0, 10, 24, 30, 36, 50, 60], fps=100, height=144, width=160)
    assert take(late).whole_rate == 10
    index, times = take(late).grid(10)
    assert index.tolist() == list(range(7))
    assert np.allclose(times, [0, 0.1, 0.24, 0.3, 0.36, 0.5, 0.6])
    assert take(late).way(import_schema(tmp_path, late)) == (
        "remuxed", "its frames are not at k / 10 s; their true times are kept",
    )  # fmt: skip


def import_schema(tmp_path: Path, path: Path):  # type: ignore[no-untyped-def]
    return import_videos(path.parent, tmp_path / "d")[0].schema


def test_a_run_that_starts_between_key_frames_is_not_copied(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(36, 144, 160))  # a key frame every 12
    decoder.remux([(path, 1.2, 2.3), (path, 0.0, 1.1)], tmp_path / "b.mp4", 10)
    assert np.array_equal(pixels(tmp_path / "b.mp4"), pixels(path)[[*range(12, 24), *range(12)]])
    with pytest.raises(Undecodable, match=r"frame at 1\.3000 s is no key frame"):
        decoder.remux([(path, 1.3, 2.3)], tmp_path / "c.mp4", 10)
    other = encoded(tmp_path / "d.mp4", MOVING, "libx265")
    with pytest.raises(Undecodable, match="encoded otherwise"):
        decoder.remux([(path, 0.0, 1.1), (other, 0.0, 1.0)], tmp_path / "c.mp4", 10)


def imported(tmp_path: Path, **intake: object) -> Imported:
    return import_data(tmp_path / "v", tmp_path / "d", Intake(**intake))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(32, 48), (144, 160)])
def test_chapters_of_one_recording_are_one_episode_with_all_their_labels(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "v/more").mkdir(parents=True)
    whole = moving(36, *size)
    for number, name in enumerate(("GH010007.MP4", "GH020007.MP4", "GH030007.MP4")):
        write(tmp_path / "v" / name, whole[12 * number : 12 * number + 12])
    write(tmp_path / "v/GH050007.MP4", whole[:5])  # chapter 4 is lost
    write(tmp_path / "v/GH010008.MP4", whole[:6])
    write(tmp_path / "v/GX010007.MP4", whole[:7])
    write(tmp_path / "v/more/GH020007.MP4", whole[:8])
    labels = tmp_path / "labels.csv"
    labels.write_text("file,frame,action\nGH010007.MP4,11,l\nGH030007.MP4,0,r\n")
    done = imported(tmp_path, labels=labels)
    assert dict(done.store.lengths) == {
        "GH010007.MP4": 36, "GH010008.MP4": 6, "GH050007.MP4": 5, "GX010007.MP4": 7, "more/GH020007.MP4": 8,
    }  # fmt: skip
    joined = [fate for fate in done.fates if fate.what == "joined"]
    assert [fate.file for fate in joined] == ["GH010007.MP4", "GH020007.MP4", "GH030007.MP4"]
    assert {fate.id for fate in joined} == {"GH010007.MP4"}
    assert all("3 files as one episode" in fate.reason for fate in joined)
    clip = done.store.read("GH010007.MP4")
    assert clip.source is not None
    assert clip.source[0].nonzero().ravel().tolist() == [11, 24]
    assert clip.times is not None
    assert np.allclose(clip.times[0].numpy(), np.arange(36) / 10)
    parts = [pixels(tmp_path / "v" / name) for name in ("GH010007.MP4", "GH020007.MP4", "GH030007.MP4")]
    assert clip.frames is not None
    assert np.array_equal(clip.frames[0].permute(0, 2, 3, 1).numpy(), np.concatenate(parts))
    labels.write_text("file,frame,action\nGH010007.MP4,12,l\n")
    with pytest.raises(UnusableInput, match=r"line 2: GH010007\.MP4 has frames 0\.\.11"):
        import_data(tmp_path / "v", tmp_path / "e", Intake(labels=labels))


def test_a_broken_chapter_parts_a_recording_and_numbers_join_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for number in (1, 2, 3, 4):
        write(tmp_path / f"v/walk_{number:03d}.mp4", moving(6, 32, 32))
    assert len(imported(tmp_path).store.ids) == 4
    (tmp_path / "v/walk_003.mp4").write_bytes(b"")
    done = import_data(tmp_path / "v", tmp_path / "e", Intake(join=True))
    assert dict(done.store.lengths) == {"walk_001.mp4": 12, "walk_004.mp4": 6}
    assert [fate.what for fate in done.fates] == ["joined", "joined", "refused", "images"]


def test_older_chapters_follow_the_file_without_a_number(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in ("GOPR0042.MP4", "GP010042.MP4", "GP020042.MP4"):
        write(tmp_path / "v" / name, moving(5, 32, 32))
    assert dict(imported(tmp_path).store.lengths) == {"GOPR0042.MP4": 15}


def two_cameras(tmp_path: Path) -> None:
    for camera, seed in (("front", 0), ("wrist", 3)):
        for name, length in (("a", 12), ("more/b", 9)):
            path = tmp_path / "v" / camera / f"{name}.{'mp4' if camera == 'front' else 'mkv'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, moving(length, 32, 48, seed)) if camera == "front" else variable(
                path, list(range(length)), height=32, width=48
            )


@pytest.mark.parametrize("size", [None, (160, 144)])
def test_cameras_are_matched_by_name_and_stacked_in_their_order(tmp_path: Path, size: tuple[int, int] | None) -> None:
    two_cameras(tmp_path)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,frame,action\nfront/a.mp4,3,l\nb.mp4,0,r\n")
    done = imported(tmp_path, cameras=("front=front", f"wrist={tmp_path}/v/wrist"), labels=labels, fit=size)
    assert list(done.store.schema.cameras) == ["observation.images.front", "observation.images.wrist"]
    assert dict(done.store.lengths) == {"a": 12, "more/b": 9}
    clip = done.store.read("a")
    assert clip.source is not None
    assert clip.source[0].nonzero().ravel().tolist() == [3]
    assert clip.frames is not None
    blue = clip.frames[0, :, [2, 5], 0, 0].float().mean(0)
    assert blue[0] == pytest.approx(60, abs=6)
    assert len([fate for fate in done.fates if fate.what == "joined"]) == 4


def test_cameras_that_do_not_fit_each_other_are_refused_by_name(tmp_path: Path) -> None:
    two_cameras(tmp_path)
    write(tmp_path / "v/front/c.mp4", moving(5, 32, 48))
    write(tmp_path / "v/front/d.mp4", moving(5, 32, 48))
    variable(tmp_path / "v/wrist/d.mkv", list(range(6)), height=32, width=48)
    write(tmp_path / "v/aside.mp4", moving(5, 32, 48))
    done = imported(tmp_path, cameras=("front=front", "wrist=wrist"))
    assert set(done.store.ids) == {"a", "more/b"}
    refused = {fate.file: fate.reason for fate in done.fates if fate.what == "refused"}
    assert refused == {
        "aside.mp4": "it lies in no camera's folder",
        "front/c.mp4": "camera wrist has no usable file of this name",
        "front/d.mp4": "its cameras have 5 and 6 frames; cut them to the same",
        "wrist/d.mkv": "its cameras have 5 and 6 frames; cut them to the same",
    }
    for wrong in ("front", "front=", "front=absent", "=front", "a b=front", "out=/"):
        with pytest.raises(UnusableInput, match="write NAME=FOLDER"):
            import_data(tmp_path / "v", tmp_path / "e", Intake(cameras=(wrong,)))
    assert not (tmp_path / "e").exists()
