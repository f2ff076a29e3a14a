"""The cache of frames: in bounded memory, whole or absent, and without what a killed process left."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from data_samples import moving, write

from retrodict.clip import Clip
from retrodict.data import cache, store
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.importers import import_videos
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.errors import UnusableInput
from retrodict.roles import View
from retrodict.spaces import ActionSpace, categorical

SPACE = ActionSpace((categorical("action", ("left", "right")),))
SCHEMA = Schema(SPACE, {"observation.image": (6, 8, 3)}, 10)


def episodes(*lengths: int) -> MemoryStore:
    frames = [torch.randint(0, 256, (1, t, 3, 6, 8), dtype=torch.uint8, generator=torch.Generator()) for t in lengths]
    return MemoryStore(SCHEMA, [Clip(frames=f, actions=torch.zeros(1, f.shape[1] - 1, 2)) for f in frames])


def test_pieces_of_any_size_make_the_same_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = episodes(7, 1, 12)
    whole = Cache.build(source, (3, 4))
    monkeypatch.setattr(cache, "PIECE_BYTES", 5 * 3 * 6 * 8)
    assert np.array_equal(Cache.build(source, (3, 4), tmp_path).frames, whole.frames)
    assert whole.frames.shape == (20, 3, 3, 4)
    assert np.array_equal(Cache.build(source).frames[8:], source.read(source.ids[2]).frames[0])  # type: ignore[index]


def test_rewards_and_ends_come_with_the_steps_where_they_were_recorded() -> None:
    rewarded = Schema(SPACE, {"observation.image": (6, 8, 3)}, 10, rewards=True)
    clips = [
        clip.with_(rewards=torch.arange(clip.steps)[None].float(), ends=torch.eye(clip.steps)[-1:])
        for clip in map(episodes(4, 3).read, episodes(4, 3).ids)
    ]
    steps = Steps.all(Cache.build(MemoryStore(rewarded, clips)), hidden=True).shown(View(3, 1))
    found = steps.batch(np.array([1, 4]))
    assert found.rewards is not None
    assert found.ends is not None
    assert found.rewards.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert found.ends.tolist() == [[0.0, 0.0], [0.0, 1.0]]
    other = steps.with_actions(
        np.zeros((len(steps), 2), np.float32), np.ones(len(steps), np.uint8), np.ones(len(steps), np.float32), "x"
    )
    assert other.batch(np.array([1])).rewards.tolist() == [[0.0, 1.0]]  # type: ignore[union-attr]
    assert Steps.all(Cache.build(episodes(4))).batch(np.array([0])).rewards is None


def test_steps_show_features_in_the_place_of_frames(tmp_path: Path) -> None:
    steps = Steps.all(Cache.build(episodes(4, 3)))
    both = np.array([[0, 1], [1, 2], [2, 3], [4, 5], [5, 6]], np.float32)[..., None]  # frame numbers, of both frames
    table = steps.per_frame(both)
    assert table[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    shown = steps.with_features(table)
    clip = shown.shown(View(3, 1)).batch(np.array([1, 4]))
    assert clip.frames is None
    assert clip.features is not None
    assert clip.features[..., 0].tolist() == [[0, 1, 2], [4, 5, 6]]
    assert shown.digest != steps.digest
    assert shown.digest != steps.with_features(table + 1).digest
    assert steps.begins().index.tolist() == [0, 4]
    with pytest.raises(UnusableInput, match="6 frames were given for 7"):
        steps.with_features(table[:-1])


def test_videos_too_long_to_be_read_at_once_are_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frames = moving(20, height=144, width=160)
    (tmp_path / "v").mkdir()
    write(tmp_path / "v/long.mp4", frames)
    data, _ = import_videos(tmp_path / "v", tmp_path / "d")
    monkeypatch.setattr(store, "READ_BYTES", frames.nbytes - 1)
    with pytest.raises(UnusableInput, match="stream"):
        data.read("long.mp4")
    built = Cache.build(data, (72, 80), tmp_path / "cache")
    small = frames.reshape(20, 72, 2, 80, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    assert np.abs(built.frames - small).mean() < 3  # lossy
    assert np.abs(built.frames - np.roll(small, 1, 0)).mean() > np.abs(built.frames - small).mean()


def test_a_build_sweeps_what_a_killed_one_left_and_spares_a_living_one(tmp_path: Path) -> None:
    fill = (
        "import sys; from pathlib import Path; from retrodict.data.cache import _frame_array; "
        "array, fresh = _frame_array((4, 3, 2, 2), Path(sys.argv[1]), 'other'); print(fresh, flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", fill, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    Cache.build(episodes(3), folder=tmp_path)
    assert len(list(tmp_path.glob("other.*.tmp"))) == 1
    other.kill()
    other.communicate()
    Cache.build(episodes(4), folder=tmp_path)
    assert not list(tmp_path.glob("*.tmp"))
    assert len(list(tmp_path.glob("*.frames"))) == 2


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = fcntl.flock, list[Path]()

    def late(file: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not swept:
            swept.extend(tmp_path.glob("*.tmp"))
            swept[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    built = Cache.build(episodes(3), folder=tmp_path)
    assert len(swept) == 1
    assert np.array_equal(built.frames, Cache.build(episodes(3)).frames)


def test_a_cache_is_used_again_unless_it_was_cut(tmp_path: Path) -> None:
    source = episodes(5)
    first = np.array(Cache.build(source, folder=tmp_path).frames)
    (file,) = tmp_path.iterdir()
    made = file.stat().st_ino
    assert np.array_equal(Cache.build(source, folder=tmp_path).frames, first)
    assert file.stat().st_ino == made
    file.write_bytes(file.read_bytes()[:-1])
    assert np.array_equal(Cache.build(source, folder=tmp_path).frames, first)


class Usage(NamedTuple):
    """As of shutil.disk_usage."""

    free: int


def test_what_cannot_be_cached_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="--cache-gb"):
        Cache.build(episodes(5), limit_gb=1e-9)
    blind = Schema(SPACE, {}, 10)
    with pytest.raises(UnusableInput, match="no camera"):
        Cache.build(MemoryStore(blind, [Clip(actions=torch.zeros(1, 2, 2))]))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100))
    with pytest.raises(UnusableInput, match="make room"):
        Cache.build(episodes(5), folder=tmp_path)
    assert not list(tmp_path.iterdir())
