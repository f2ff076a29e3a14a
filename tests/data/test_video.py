"""Encoding, guarded decoding, and video episodes of a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_samples import moving, variable, write

from retrodict.clip import Clip
from retrodict.data.guarded import Decoder, decoder
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.errors import Damaged, Undecodable
from retrodict.spaces import ActionSpace, categorical

SPACE = ActionSpace((categorical("action", ("left", "right")),))


def read(path: Path, **more: object) -> tuple[np.ndarray, np.ndarray]:
    parts = list(decoder.frames(path, **more))  # type: ignore[arg-type]
    return np.concatenate([f for f, _ in parts]), np.concatenate([t for _, t in parts])


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 97)])
def test_frames_and_times_come_back(tmp_path: Path, height: int, width: int) -> None:
    frames = moving(20, height, width)
    pixels, times = read(write(tmp_path / "a.mp4", frames))
    assert np.allclose(times, np.arange(20) / 10)
    error = np.abs(pixels.astype(int) - frames)
    assert error.mean() < 3
    nearest = [int(np.abs(frames.astype(int) - p).mean((1, 2, 3)).argmin()) for p in pixels]
    assert nearest == list(range(20))  # no frame is early or late


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    frames = moving(12)
    files = {write(tmp_path / f"{number}.mp4", frames).read_bytes() for number in range(40)}
    assert len(files) == 1  # also where memory was used before: with x264 as it comes, one in a hundred differed


def test_facts_of_a_file(tmp_path: Path) -> None:
    facts = decoder.facts(write(tmp_path / "a.mp4", moving(25), fps=30))
    assert (facts.height, facts.width, facts.frames, facts.rate) == (64, 96, 25, 30.0)
    assert (facts.times[0], facts.rotation, facts.codec) == (0.0, 0, "h264")
    assert facts.jitter < 1e-4


def test_a_part_of_a_file_starts_between_key_frames(tmp_path: Path) -> None:
    frames = moving(40)
    path = write(tmp_path / "a.mp4", frames)
    whole, _ = read(path)
    part, times = read(path, start=1.7, stop=3.1)
    assert np.allclose(times, np.arange(17, 31) / 10)
    assert np.array_equal(part, whole[17:31])


def test_frames_can_be_resized_in_the_child(tmp_path: Path) -> None:
    pixels, _ = read(write(tmp_path / "a.mp4", moving(3)), size=(32, 48))
    assert pixels.shape == (3, 32, 48, 3)
    blocks = moving(3).reshape(3, 32, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(pixels - blocks).mean() < 4


def test_rotation_is_applied(tmp_path: Path) -> None:
    import av

    upright = moving(3)
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(90)
        for pixels in upright:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        box.mux(stream.encode())
    facts = decoder.facts(path)
    assert (facts.height, facts.width) == (96, 64)
    shown, _ = read(path)
    turned = np.rot90(upright, facts.rotation // 90, axes=(1, 2))
    assert facts.rotation == 90
    assert np.abs(shown.astype(int) - turned).mean() < 4


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00" * 4096, b"\x80\x04\x95pickle"])
def test_what_is_no_video_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(Undecodable, match=r"bad\.mp4 cannot be decoded"):
        decoder.facts(path)
    with pytest.raises(Undecodable, match=r"bad\.mp4 cannot be decoded"):
        list(decoder.frames(path))
    with pytest.raises(Undecodable, match="no such file"):
        decoder.facts(tmp_path / "absent.mp4")


def test_after_a_refusal_the_next_file_decodes(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(write(tmp_path / "good.mp4", moving(30)).read_bytes()[:1500])
    for _ in range(2):
        with pytest.raises(Undecodable):
            decoder.facts(tmp_path / "bad.mp4")
        assert decoder.facts(tmp_path / "good.mp4").frames == 30


def test_a_child_without_memory_refuses_and_a_stuck_one_is_given_up(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(4, 1080, 1920))
    with pytest.raises(Undecodable):
        list(Decoder(memory=4 << 20).frames(path))
    with pytest.raises(Undecodable, match="no progress"):
        Decoder(seconds=0.0).facts(path)
    assert len(read(path)[0]) == 4


def test_a_consumer_may_stop_early(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(30, 480, 640))
    guard = Decoder()
    first, _ = next(iter(guard.frames(path)))
    assert 0 < len(first) < 30
    assert sum(len(f) for f, _ in guard.frames(path)) == 30
    guard.close()


def test_a_file_of_changing_times_is_refused(tmp_path: Path) -> None:
    path = variable(tmp_path / "a.mp4", [0, 1, 2, 3, 7, 8])
    facts = decoder.facts(path)
    assert facts.jitter > 0.05
    _, times = read(path)
    assert np.allclose(times, np.array([0, 1, 2, 3, 7, 8]) / 10)


VIDEO = Schema(SPACE, {"observation.images.a": (64, 96, 3), "observation.images.b": (64, 96, 3)}, 10, video=True)


def clip_of(*cameras: np.ndarray) -> Clip:
    return Clip(frames=torch.from_numpy(np.concatenate(cameras, 3).transpose(0, 3, 1, 2).copy())[None])


def test_a_store_of_video_gives_back_near_frames_and_refuses_a_changed_file(tmp_path: Path) -> None:
    clips = [clip_of(moving(t, seed=0), moving(t, seed=5)) for t in (1, 25)]
    with Store.create(tmp_path / "d", VIDEO) as store:
        ids = store.append(clips)
        ids += store.append(clips[1:])
    store = Store.open(tmp_path / "d")
    for id, clip in zip(ids, [*clips, clips[1]], strict=True):
        got = store.read(id).frames
        assert got is not None
        assert got.shape == clip.frames.shape  # type: ignore[union-attr]
        assert (got.float() - clip.frames.float()).abs().mean() < 3  # type: ignore[union-attr]
        assert torch.equal(torch.cat(list(store.stream(id, frames=10)), 1), got)
    assert store.hash(ids[1]) == store.hash(ids[2]) != store.hash(ids[0])
    file = tmp_path / "d/videos/observation.images.b/chunk-000/file-001.mp4"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert store.read(ids[1], frames=False).length == 25
    with pytest.raises(Damaged, match=r"file-001\.mp4"):
        store.read(ids[1])


def test_video_files_are_linked_and_must_hold_exactly_the_clip(tmp_path: Path) -> None:
    schema = Schema(SPACE, {"observation.image": (64, 96, 3)}, 10, video=True)
    path = write(tmp_path / "a.mp4", moving(20))
    times = torch.arange(20, dtype=torch.float64)[None] / 10
    with Store.create(tmp_path / "d", schema) as store:
        (id,) = store.append([Clip(times=times)], videos=[{"observation.image": path}])
        assert path.stat().st_nlink == 2
        assert store.read(id).length == 20
        for wrong in (times[:, :19], torch.arange(21, dtype=torch.float64)[None] / 10):
            with pytest.raises(Undecodable, match="20 frames"):
                store.append([Clip(times=wrong)], videos=[{"observation.image": path}])
        late = variable(tmp_path / "b.mp4", [0, 1, 3, 4])
        with pytest.raises(Undecodable, match=r"b\.mp4 .* frame 2 is at"):
            store.append([Clip(times=times[:, :4])], videos=[{"observation.image": late}])
        assert Store.open(store.folder).ids == (id,)


def test_nothing_but_video_py_imports_the_decoder() -> None:
    code = "import sys, retrodict.data.store, retrodict.data.footage; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
