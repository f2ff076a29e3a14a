"""lerobot itself opens what we write, and we open what lerobot writes. Run by `make lerobot`, which makes the venv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict.clip import MISSING, PREDICTED, RECORDED, Clip
from retrodict.data.export import EXPORT_FILE, export
from retrodict.data.foreign import open_foreign
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.rng import torch_rng
from retrodict.spaces import ActionSpace, categorical, continuous

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("LEROBOT_VENV", "")) / "bin/python"
pytestmark = pytest.mark.skipif("LEROBOT_VENV" not in os.environ, reason="run by make lerobot, which installs it")

SPACE = ActionSpace((categorical("action", ("left", "right")), continuous("speed", ("v",))))
IMAGES = Schema(SPACE, {"observation.image": (40, 56, 3)}, 10, proprio=("x", "y"), rewards=True)
VIDEO = Schema(SPACE, {"observation.images.a": (144, 160, 3), "observation.images.b": (144, 160, 3)}, 15, video=True)
NARROW = Schema(ActionSpace((continuous("push", ("force",)),)), {"observation.image": (16, 16, 3)}, 5, proprio=("x",))


def lerobot(script: str, *arguments: object) -> dict[str, object]:
    """Runs one of our scripts in lerobot's environment; returns the JSON of its last line, if any."""
    done = subprocess.run([PYTHON, HERE / script, *map(str, arguments)], capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1:] or ["{}"]
    assert done.returncode == 0, last[0] + done.stderr[-2000:]
    return json.loads(last[0]) if last[0].startswith("{") else {}


def episode(schema: Schema, t: int, seed: int) -> Clip:
    """An episode whose frames are told apart: a block moves over a background."""
    rng = torch_rng(seed, "episode")
    frames = torch.full((1, t, schema.channels, *schema.size), 40 + 30 * seed, dtype=torch.uint8)
    for i in range(t):
        frames[0, i, :, 4:12, (5 * i) % (schema.size[1] - 8) :][..., :8] = 220
        frames[0, i, 0, 4:12] //= 2
    return Clip(
        frames=frames,
        actions=torch.rand(1, t - 1, schema.space.width, generator=rng),
        source=torch.randint(0, 4, (1, t - 1), generator=rng, dtype=torch.uint8),
        confidence=torch.rand(1, t - 1, generator=rng),
        rewards=torch.rand(1, t - 1, generator=rng) if schema.rewards else None,
        ends=(torch.arange(t - 1) == t - 2).float()[None] if schema.rewards else None,
        proprio=torch.rand(1, t, len(schema.proprio), generator=rng) if schema.proprio else None,
        text=(f"task {seed % 2}",),
    )


def reference(schema: Schema, clips: list[Clip], file: Path, last_rows: bool = True) -> Path:
    """Saves what lerobot must find, one row per frame; a step's value stands in the row of its first frame."""
    rows: dict[str, list[np.ndarray]] = {}

    def add(name: str, values: object, padded: bool = False) -> None:
        array = np.asarray(values)
        whole = np.concatenate([array, np.zeros_like(array[:1])]) if padded else array
        rows.setdefault(name, []).append(whole if last_rows else whole[:-1])

    for clip in clips:
        start = 0
        for name, shape in schema.cameras.items():
            add(name, clip.frames[0, :, start : start + shape[2]].permute(0, 2, 3, 1).numpy())  # type: ignore[index]
            start += shape[2]
        absent = (clip.source[0] == MISSING).unsqueeze(-1)  # type: ignore[index]
        add("action", torch.where(absent, 0.0, clip.actions[0]).numpy(), padded=True)  # type: ignore[index]
        add("retrodict.source", clip.source[0].numpy(), padded=True)  # type: ignore[index]
        add("retrodict.confidence", clip.confidence[0].numpy(), padded=True)  # type: ignore[index]
        add("timestamp", np.arange(clip.length, dtype=np.float32) / schema.fps)
        add("task", [clip.text[0]] * clip.length)  # type: ignore[index]
        if clip.proprio is not None:
            add("observation.state", clip.proprio[0].numpy())
        if clip.rewards is not None:
            add("next.reward", clip.rewards[0].numpy(), padded=True)
            add("next.done", clip.ends[0].numpy(), padded=True)  # type: ignore[index]
    np.savez(file, **{name: np.concatenate(values) for name, values in rows.items()})
    return file


@pytest.mark.parametrize("schema", [IMAGES, VIDEO, NARROW], ids=["images", "video", "narrow"])
def test_lerobot_reads_every_committed_state(tmp_path: Path, schema: Schema) -> None:
    clips = [episode(schema, t, seed) for seed, t in enumerate((9, 6, 12, 2))]
    with Store.create(tmp_path / "d", schema) as store:
        for count, group in ((1, clips[:1]), (3, clips[1:3]), (4, clips[3:])):
            store.append(group)
            found = lerobot("open_with_lerobot.py", store.folder, reference(schema, clips[:count], tmp_path / "r.npz"))
            assert (found["episodes"], found["frames"]) == (count, sum(clip.length for clip in clips[:count]))


def test_lerobot_reads_the_old_or_the_new_count_while_an_append_is_under_way(tmp_path: Path) -> None:
    clips = [episode(IMAGES, t, seed) for seed, t in enumerate((5, 4))]
    with Store.create(tmp_path / "d", IMAGES) as store:
        store.append(clips[:1])
    with Store.create(tmp_path / "new", IMAGES) as store:
        store.append(clips[:1])
        store.append(clips[1:])
    order = ["data/chunk-000/file-001.parquet", "meta/tasks.parquet", "meta/episodes/chunk-000/file-001.parquet"]
    for name in [*order, "meta/stats.json", "meta/info.json"]:
        shutil.copyfile(tmp_path / "new" / name, tmp_path / "d" / name)
        found = lerobot("open_with_lerobot.py", tmp_path / "d")
        assert found["episodes"] == (2 if name == "meta/info.json" else 1), name


def test_lerobot_sees_no_missing_or_abstained_action_in_an_export(tmp_path: Path) -> None:
    clips = [episode(IMAGES, 30, seed) for seed in range(3)]
    with Store.create(tmp_path / "d", IMAGES) as store:
        store.append(clips)
    export(Store.open(tmp_path / "d"), tmp_path / "out")
    known = sum(int(((c.source == RECORDED) | (c.source == PREDICTED)).sum()) for c in clips)  # type: ignore[operator]
    found = lerobot("open_with_lerobot.py", tmp_path / "out")
    assert found["frames"] == known > 0


def test_lerobot_finds_the_frames_of_spans_in_the_linked_video(tmp_path: Path) -> None:
    kinds = torch.tensor([[1, 1, 0, 2, 2, 2, 3, 1, 2]], dtype=torch.uint8).repeat(1, 3)  # spans of 2, 3 and 2 steps
    clips = [episode(VIDEO, 28, seed).with_(source=kinds) for seed in range(3)]
    with Store.create(tmp_path / "d", VIDEO) as store:
        store.append(clips)
    out = tmp_path / "out"
    assert export(Store.open(tmp_path / "d"), out).encoded == 0
    spans = json.loads((out / EXPORT_FILE).read_text())["spans"]
    assert {span["first"] for span in spans} - {0}
    cut = [clips[int(span["id"])].cut(span["first"], span["first"] + span["steps"] + 1) for span in spans]
    found = lerobot("open_with_lerobot.py", out, reference(VIDEO, cut, tmp_path / "r.npz", last_rows=False))
    assert (found["episodes"], found["frames"]) == (len(spans), sum(span["steps"] for span in spans))


@pytest.mark.parametrize("kind", ["av1", "h264", "images", "split", "state"])
def test_we_read_what_lerobot_writes(tmp_path: Path, kind: str) -> None:
    root = tmp_path / kind
    lerobot("write_with_lerobot.py", root, kind)
    with np.load(f"{root}.npz") as file:
        told = dict(file)
    source = open_foreign(root)
    assert list(source.lengths.values()) == [11, 8]
    start = 0
    for number, id in enumerate(source.ids):
        clip = source.read(id)
        stop = start + clip.length
        assert clip.text == (f"go {number}",)
        assert np.array_equal(clip.actions[0].numpy(), told["action"][start : stop - 1])  # type: ignore[index]
        assert np.array_equal(clip.proprio[0].numpy(), told["observation.state"][start:stop])  # type: ignore[index]
        if kind != "state":
            originals = told["observation.images.front"][start:stop].astype(int)
            pictures = clip.frames[0].permute(0, 2, 3, 1).numpy()  # type: ignore[index]
            nearest = [int(np.abs(originals - p).mean((1, 2, 3)).argmin()) for p in pictures]
            assert nearest == list(range(clip.length))
        start = stop
