"""Datasets of other tools: LeRobot v3.0 as its own writer lays it out, and v2.1, read without lerobot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_samples import moving, write

from retrodict.clip import RECORDED
from retrodict.data.foreign import open_dataset, open_foreign
from retrodict.data.lerobot import encode_png
from retrodict.errors import Damaged, Undecodable, UnknownName, UnusableInput
from retrodict.spaces import ActionSpace, continuous

LENGTHS, FPS = (12, 9), 10
CAMERA = "observation.images.front"
SCALARS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def actions() -> np.ndarray:
    return np.arange(2 * sum(LENGTHS), dtype=np.float32).reshape(-1, 2) / 7


def table(kind: str, first: int, last: int) -> pa.Table:
    """Rows of the episodes first..last-1, with the columns and types that lerobot's writer gives them."""
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    rows = slice(int(starts[first]), int(starts[last]))
    frame = np.concatenate([np.arange(n) for n in LENGTHS])[rows]
    episode = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[rows]
    columns: dict[str, pa.Array] = {}
    if kind == "images":
        pictures = np.concatenate([moving(n, 16, 24, seed=i) for i, n in enumerate(LENGTHS)])[rows]
        columns[CAMERA] = pa.array(
            [{"bytes": encode_png(p), "path": f"frame-{i:06d}.png"} for i, p in zip(frame, pictures, strict=True)]
        )
    vector = pa.FixedSizeListArray.from_arrays if kind != "lists" else _lists
    columns["observation.state"] = vector(pa.array(actions()[rows].ravel() * 2, pa.float32()), 2)
    columns["action"] = vector(pa.array(actions()[rows].ravel(), pa.float32()), 2)
    columns["timestamp"] = pa.array((frame / FPS).astype(np.float32))
    columns["frame_index"] = pa.array(frame, pa.int64())
    columns["episode_index"] = pa.array(episode, pa.int64())
    columns["index"] = pa.array(np.arange(rows.start, rows.stop), pa.int64())
    columns["task_index"] = pa.array(episode, pa.int64())
    return pa.table(columns)


def _lists(values: pa.Array, width: int) -> pa.Array:
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, width, dtype=np.int32), values)


def features(kind: str) -> dict[str, Any]:
    vector = {"dtype": "float32", "shape": [2]}
    result: dict[str, Any] = {
        "observation.state": vector | {"names": ["x", "y"]},
        "action": vector | {"names": ["dx", "dy"]},
    }
    size = [16, 24, 3] if kind == "images" else [64, 96, 3]
    if kind in ("images", "video"):
        camera = {"dtype": "image" if kind == "images" else "video", "shape": size}
        result[CAMERA] = camera | {"names": ["height", "width", "channels"]}
    return result | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in SCALARS.items()}


def v30(root: Path, kind: str = "images", split: bool = False) -> Path:
    """A folder as lerobot 0.4.4 writes it; with `split`, a data and a video file to each episode."""
    info = {
        "codebase_version": "v3.0", "robot_type": "drawn", "total_episodes": 2, "total_frames": 21, "total_tasks": 2,
        "chunks_size": 1000, "fps": FPS, "splits": {"train": "0:2"}, "features": features(kind),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    (root / f"videos/{CAMERA}/chunk-000").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    episodes = []
    for i, length in enumerate(LENGTHS):
        file, start = (i, 0.0) if split else (0, sum(LENGTHS[:i]) / FPS)
        row = {
            "episode_index": i,
            "tasks": [f"task {i}"],
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": file,
        }
        if kind == "video":
            row |= {f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": file}
            row |= {f"videos/{CAMERA}/from_timestamp": start, f"videos/{CAMERA}/to_timestamp": start + length / FPS}
        episodes.append(row | {"stats/action/min": [0.0, 0.0]})
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    pictures = [moving(n, seed=i) for i, n in enumerate(LENGTHS)]
    for i in range(2 if split else 1):
        rows = table(kind, i, i + 1) if split else table(kind, 0, 2)
        pq.write_table(rows, root / f"data/chunk-000/file-00{i}.parquet", row_group_size=10)
        if kind == "video":
            write(
                root / f"videos/{CAMERA}/chunk-000/file-00{i}.mp4", pictures[i] if split else np.concatenate(pictures)
            )
    return root


def v21(root: Path) -> Path:
    """A folder as lerobot wrote it before v3.0: a file per episode, metadata in lines of JSON."""
    info = {
        "codebase_version": "v2.1", "total_episodes": 2, "total_frames": 21, "chunks_size": 1000, "fps": FPS,
        "features": features("video"),
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    for name in ("meta", "data/chunk-000", f"videos/chunk-000/{CAMERA}"):
        (root / name).mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    lines = [{"episode_index": i, "tasks": [f"task {i}"], "length": n} for i, n in enumerate(LENGTHS)]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    for i, length in enumerate(LENGTHS):
        pq.write_table(table("video", i, i + 1), root / f"data/chunk-000/episode_{i:06d}.parquet")
        write(root / f"videos/chunk-000/{CAMERA}/episode_{i:06d}.mp4", moving(length, seed=i))
    return root


@pytest.mark.parametrize(
    "make",
    [
        lambda root: v30(root, "images"),
        lambda root: v30(root, "video"),
        lambda root: v30(root, "video", split=True),
        lambda root: v30(root, "lists"),
        lambda root: v30(root, "state", split=True),
        v21,
    ],
    ids=["images", "video", "video-split", "lists", "state-split", "v2.1"],
)
def test_t_rows_are_t_frames_and_the_first_t_minus_1_actions(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = open_dataset(make(tmp_path / "d"))
    assert source.schema.space == ActionSpace((continuous("action", ("dx", "dy")),))
    assert (source.schema.fps, source.schema.proprio) == (FPS, ("x", "y"))
    assert dict(source.lengths) == {"000000": 12, "000001": 9}
    start = 0
    for number, id in enumerate(source.ids):
        clip = source.read(id)
        assert clip.actions is not None
        assert np.array_equal(clip.actions[0].numpy(), actions()[start : start + clip.length - 1])
        assert clip.proprio is not None
        assert np.array_equal(clip.proprio[0].numpy(), actions()[start : start + clip.length] * 2)
        assert clip.source is not None
        assert (clip.source == RECORDED).all()
        assert clip.text == (f"task {number}",)
        if source.schema.cameras:
            assert clip.frames is not None
            height, width = source.schema.size
            pictures = clip.frames[0].permute(0, 2, 3, 1).numpy().astype(int)
            originals = moving(clip.length, height, width, seed=number)
            assert np.abs(pictures - originals).mean() < (3 if source.schema.video else 1e-9)
            assert torch.equal(torch.cat(list(source.stream(id, 5)), 1), clip.frames)
        assert source.read(id, frames=False).frames is None
        start += clip.length


def test_identity_is_of_content(tmp_path: Path) -> None:
    a, b = (open_foreign(v30(tmp_path / name)) for name in "ab")
    assert a.digest == b.digest
    assert a.hash("000000") == b.hash("000000") != a.hash("000001")
    with pytest.raises(UnknownName):
        a.read("000002")


def test_cameras_are_chosen_by_name(tmp_path: Path) -> None:
    root = v30(tmp_path / "d")
    assert open_foreign(root, cameras=[]).read("000000").frames is None
    with pytest.raises(UnknownName, match="front"):
        open_foreign(root, cameras=["observation.images.fornt"])


def change_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


def nulled(rows: pa.Table) -> pa.Table:
    values = rows["action"].to_pylist()
    values[5] = None
    return rows.set_column(rows.column_names.index("action"), "action", pa.array(values, pa.list_(pa.float32())))


def ragged(rows: pa.Table) -> pa.Table:
    values = rows["action"].to_pylist()
    values[4], values[5] = [1.0], [1.0, 2.0, 3.0]  # as many numbers in all: later actions would shift
    return rows.set_column(rows.column_names.index("action"), "action", pa.array(values, pa.list_(pa.float32())))


def with_nan(rows: pa.Table) -> pa.Table:
    values = rows["action"].to_pylist()
    values[5] = [float("nan"), 0.0]
    return rows.set_column(rows.column_names.index("action"), "action", pa.array(values, pa.list_(pa.float32())))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda r: change_info(r, codebase_version="v1.6"), UnusableInput, "v1.6"),
        (lambda r: change_info(r, fps=12.5), UnusableInput, "12.5"),
        (lambda r: change_info(r, fps=50), Damaged, r"expected 0\.22 s at 50 frames/s, found 1\.1 s"),
        (lambda r: change_info(r, data_path="../../etc/{chunk_index}{file_index}"), UnusableInput, "outside"),
        (lambda r: change_info(r, features={}), UnusableInput, "no feature named 'action'"),
        (lambda r: change_info(r, total_episodes=3), Damaged, "meta"),
        (lambda r: (r / "meta/info.json").write_text("{"), Damaged, "info.json"),
        (lambda r: (r / "meta/info.json").unlink(), UnusableInput, "no dataset"),
        (lambda r: (r / DATA).write_bytes((r / DATA).read_bytes()[:-200]), Damaged, "file-000.parquet"),
        (lambda r: (r / DATA).unlink(), Damaged, "file-000.parquet"),
        (lambda r: (r / EPISODES).write_bytes(b"PAR1"), Damaged, "meta"),
        (lambda r: rewrite(r / DATA, lambda t: t.slice(1)), Damaged, "12 rows of episode 0"),
        (lambda r: rewrite(r / DATA, lambda t: t.drop_columns("action")), Damaged, "action"),
        (lambda r: rewrite(r / DATA, lambda t: t.take([1, 0, *range(2, 21)])), Damaged, "in order"),
        (lambda r: rewrite(r / DATA, nulled), Damaged, "action in every row"),
        (lambda r: rewrite(r / DATA, ragged), Damaged, "action of 2 numbers"),
        (lambda r: rewrite(r / DATA, with_nan), UnusableInput, "episode 000000: actions at 5 is not finite"),
        (lambda r: rewrite(r / EPISODES, lambda t: t.take([1, 0])), Damaged, "meta"),
    ],
)
def test_what_is_broken_is_refused_by_name(
    tmp_path: Path, change: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    root = v30(tmp_path / "d")
    change(root)
    with pytest.raises(error, match=words):
        open_foreign(root).read("000000")


def test_a_video_of_other_frames_is_refused(tmp_path: Path) -> None:
    root = v30(tmp_path / "d", "video")
    path = root / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    write(path, moving(18))
    source = open_foreign(root)
    assert source.read("000000").length == 12
    with pytest.raises(Undecodable, match=r"6 frames from 1\.2 s on; expected 9"):
        source.read("000001")
    write(path, moving(21), fps=12)
    with pytest.raises(Undecodable, match="expected frame / 10"):
        source.read("000000")


def test_a_picture_of_another_size_or_no_picture_is_refused(tmp_path: Path) -> None:
    root = v30(tmp_path / "d")
    for data in (encode_png(moving(1, 16, 16)[0]), b"GIF89a" + bytes(20), b"\x80\x04\x95pickle"):

        def change(rows: pa.Table, data: bytes = data) -> pa.Table:
            values = rows[CAMERA].to_pylist()
            values[3]["bytes"] = data
            return rows.set_column(rows.column_names.index(CAMERA), CAMERA, pa.array(values))

        rewrite(root / DATA, change)
        with pytest.raises(Damaged, match="episode 000000, frame 3"):
            open_foreign(root).read("000000")


def test_the_range_and_scale_of_actions_are_those_of_the_statistics(tmp_path: Path) -> None:
    """Millimetres and radians are as learnable as numbers between -1 and 1; an axis that never moves has scale 1."""
    root = v30(tmp_path / "d")
    told = {"min": [-300.0, 0.0], "max": [500.0, 0.0], "mean": [100.0, 0.0], "std": [200.0, 0.0]}
    (root / "meta/stats.json").write_text(json.dumps({"action": told}))
    (segment,) = open_foreign(root).schema.space.segments
    assert (segment.low, segment.high) == (-300.0, 500.0)
    assert (segment.center, segment.scale) == ((100.0, 0.0), (200.0, 1.0))
    for broken in ({"min": [0.0]}, {"std": [1.0]}, {"mean": ["a", "b"]}):
        (root / "meta/stats.json").write_text(json.dumps({"action": told | broken}))
        with pytest.raises(Damaged, match=r"stats\.json"):
            open_foreign(root)


def test_the_statistics_of_v21_are_those_of_all_its_episodes(tmp_path: Path) -> None:
    """By hand: 1 and 3 in one episode, 5, 5, 5 and 11 in another; 1, 3, 5, 5, 5, 11 have mean 5 and variance 28/3."""
    root = v21(tmp_path / "d")
    told = [
        {"min": [1.0, 0.0], "max": [3.0, 0.0], "mean": [2.0, 0.0], "std": [1.0, 0.0], "count": [2]},
        {"min": [5.0, 0.0], "max": [11.0, 0.0], "mean": [6.5, 0.0], "std": [6.75**0.5, 0.0], "count": [4]},
    ]

    def write_stats(*rows: Any) -> None:
        lines = (json.dumps({"episode_index": i, "stats": {"action": row}}) for i, row in enumerate(rows))
        (root / "meta/episodes_stats.jsonl").write_text("\n".join(lines) + "\n")

    write_stats(*told)
    (segment,) = open_foreign(root).schema.space.segments
    assert (segment.low, segment.high, segment.center) == (0.0, 11.0, (5.0, 0.0))
    assert segment.scale == pytest.approx(((28 / 3) ** 0.5, 1.0))
    for broken in ({"count": [0]}, {"std": [1.0]}, {"mean": [float("nan"), 0.0]}):
        write_stats(told[0] | broken)
        with pytest.raises(Damaged, match=r"episodes_stats\.jsonl"):
            open_foreign(root)
