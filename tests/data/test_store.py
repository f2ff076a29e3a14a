"""The dataset on disk: exact round trips, one commit point, and refusal of anything that changed."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from retrodict.clip import MISSING, Clip
from retrodict.data.durable import new_folder
from retrodict.data.lerobot import decode_image, encode_png
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.errors import Damaged, Locked, UnknownName, UnusableInput
from retrodict.rng import numpy_rng, torch_rng
from retrodict.spaces import ActionSpace, categorical, continuous

SPACE = ActionSpace((categorical("action", ("left", "right")), continuous("speed", ("v",))))
FULL = Schema(
    SPACE,
    {"observation.images.a": (4, 6, 3), "observation.images.b": (4, 6, 1)},
    fps=10,
    proprio=("x", "y"),
    rewards=True,
)
PLAIN = Schema(SPACE, {"observation.image": (4, 6, 3)}, fps=10)


def episode(schema: Schema, t: int, seed: int, text: str = "") -> Clip:
    rng = torch_rng(seed, "episode")
    frames = torch.randint(0, 256, (1, t, schema.channels, *schema.size), generator=rng, dtype=torch.uint8)
    source = torch.randint(0, 4, (1, t - 1), generator=rng, dtype=torch.uint8)
    return Clip(
        frames=frames,
        actions=torch.rand(1, t - 1, schema.space.width, generator=rng),
        source=source,
        confidence=torch.rand(1, t - 1, generator=rng),
        rewards=torch.randn(1, t - 1, generator=rng) if schema.rewards else None,
        ends=torch.randint(0, 2, (1, t - 1), generator=rng).float() if schema.rewards else None,
        times=(torch.arange(t, dtype=torch.float64) * 0.1003)[None],
        text=(text,),
        proprio=torch.randn(1, t, len(schema.proprio), generator=rng) if schema.proprio else None,
    )


def equal(a: Clip, b: Clip) -> bool:
    same = a.text == b.text
    for name in ("frames", "actions", "source", "confidence", "rewards", "ends", "times", "proprio"):
        x, y = getattr(a, name), getattr(b, name)
        same = same and (x is None) == (y is None) and (x is None or (x.dtype == y.dtype and torch.equal(x, y)))
    return same


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "d", PLAIN)


@pytest.mark.parametrize("schema", [FULL, PLAIN, Schema(SPACE, {}, 5, proprio=("x",))])
@pytest.mark.parametrize("t", [1, 2, 3, 7])
def test_an_episode_comes_back_bit_for_bit(tmp_path: Path, schema: Schema, t: int) -> None:
    clip = episode(schema, t, seed=t, text="push") if schema.cameras else episode(schema, t, t).with_(frames=None)
    memory = MemoryStore(schema, [clip])
    with Store.create(tmp_path / "d", schema) as store:
        (id,) = store.append([clip])
        assert equal(store.read(id), memory.read(id))
    again = Store.open(tmp_path / "d")
    assert equal(again.read(id), memory.read(id))
    assert (again.digest, again.hash(id), again.lengths) == (memory.digest, memory.hash(id), memory.lengths)
    assert again.schema == schema


def test_groups_keep_their_order_and_ids(store: Store) -> None:
    clips = [episode(PLAIN, t, t, text) for t, text in ((3, "b"), (2, "a"), (5, "b"), (1, "c"))]
    assert store.append(clips[:1]) == ("000000",)
    assert store.append(clips[1:3], ids=["x", "y"]) == ("x", "y")
    assert store.append([]) == ()
    assert store.append(clips[3:]) == ("000003",)
    for opened in (store, Store.open(store.folder)):
        assert opened.ids == ("000000", "x", "y", "000003")
        assert list(opened.lengths.values()) == [3, 2, 5, 1]
        memory = MemoryStore(PLAIN)
        memory.append(clips, ids=opened.ids)
        assert all(equal(opened.read(id), memory.read(id)) for id in opened.ids)
        assert opened.digest == memory.digest
    with pytest.raises(UnknownName):
        store.read("000001")


def test_frames_can_be_declined_or_streamed(store: Store) -> None:
    (id,) = store.append([episode(PLAIN, 7, 0)])
    assert store.read(id, frames=False).frames is None
    assert torch.equal(torch.cat(list(store.stream(id, frames=3)), 1), store.read(id).frames)


def test_rows_on_disk_follow_lerobot(store: Store) -> None:
    store.append([episode(PLAIN, 3, 0, "b")])
    store.append([episode(PLAIN, 2, 1, "a"), episode(PLAIN, 4, 2, "b")])
    root = store.folder
    data = [pq.read_table(root / f"data/chunk-000/file-00{i}.parquet") for i in (0, 1)]
    rows = {name: [v for t in data for v in t[name].to_pylist()] for name in data[0].column_names}
    assert rows["index"] == list(range(9))
    assert rows["episode_index"] == [0] * 3 + [1] * 2 + [2] * 4
    assert rows["frame_index"] == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert rows["task_index"] == [0] * 3 + [1] * 2 + [0] * 4
    assert np.allclose(rows["timestamp"], [0, 0.1, 0.2, 0, 0.1, 0, 0.1, 0.2, 0.3])
    assert rows["observation.image"][4]["path"] == "frame-000001.png"
    last = [2, 4, 8]  # the last row of an episode has no step
    assert [rows["retrodict.source"][i] for i in last] == [MISSING] * 3
    assert [rows["action"][i] for i in last] == [[0.0, 0.0, 0.0]] * 3
    for table in data:  # null values would be read as missing numbers by other tools
        assert all(table[name].null_count == 0 for name in table.column_names)
    kinds = {field.name: str(field.type) for field in data[0].schema}
    assert kinds == {
        "observation.image": "struct<bytes: binary, path: string>",
        "action": "fixed_size_list<element: float>[3]",
        "retrodict.source": "int64",
        "retrodict.confidence": "float",
        "retrodict.time": "double",
        "timestamp": "float",
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64"),
    }


def test_metadata_on_disk_follows_lerobot(store: Store) -> None:
    store.append([episode(PLAIN, 3, 0, "b")])
    store.append([episode(PLAIN, 2, 1, "a"), episode(PLAIN, 4, 2, "b")])
    root = store.folder
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (3, 9, 2, 10)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"]["action"] == {
        "dtype": "float32", "shape": [3], "names": ["action=left", "action=right", "speed"],
    }  # fmt: skip
    assert info["features"]["observation.image"] == {
        "dtype": "image", "shape": [4, 6, 3], "names": ["height", "width", "channels"],
    }  # fmt: skip
    assert not any("/" in name for name in info["features"])
    episodes = [
        row for i in (0, 1) for row in pq.read_table(root / f"meta/episodes/chunk-000/file-00{i}.parquet").to_pylist()
    ]
    assert [(r["dataset_from_index"], r["dataset_to_index"], r["length"]) for r in episodes] == [
        (0, 3, 3), (3, 5, 2), (5, 9, 4),
    ]  # fmt: skip
    assert [(r["data/chunk_index"], r["data/file_index"], r["tasks"]) for r in episodes] == [
        (0, 0, ["b"]), (0, 1, ["a"]), (0, 1, ["b"]),
    ]  # fmt: skip
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["b", "a"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_statistics_are_those_of_all_rows(store: Store) -> None:
    clips = [episode(PLAIN, t, t) for t in (3, 2, 6)]
    for clip in clips:
        store.append([clip])
    stats = json.loads((store.folder / "meta/stats.json").read_text())
    pixels = torch.cat([clip.frames for clip in clips], 1)[0].double() / 255  # type: ignore[list-item]
    camera = stats["observation.image"]
    assert np.allclose(np.array(camera["mean"]).ravel(), pixels.mean((0, 2, 3)))
    assert np.allclose(np.array(camera["std"]).ravel(), pixels.std((0, 2, 3), correction=0))
    assert np.array(camera["max"]).shape == (3, 1, 1)
    assert camera["count"] == [11]
    assert stats["index"]["mean"] == [5.0]
    assert stats["index"]["std"] == pytest.approx([np.arange(11).std()])


def test_rewards_that_a_dataset_stores_are_not_made_up(tmp_path: Path) -> None:
    with Store.create(tmp_path / "d", replace(PLAIN, rewards=True)) as store:
        for clip in (episode(PLAIN, 3, 0), episode(PLAIN, 3, 0).with_(rewards=torch.zeros(1, 2))):
            with pytest.raises(UnusableInput, match="the clip has none"):
                store.append([clip])
        store.append([episode(PLAIN, 3, 0).with_(rewards=torch.ones(1, 2), ends=torch.zeros(1, 2))])
        assert len(store.ids) == 1


def test_a_dataset_that_was_made_otherwise_is_not_gone_on_with(tmp_path: Path) -> None:
    with Store.open_or_create(tmp_path / "d", PLAIN, {"world": "a", "share": 0.3}) as store:
        store.append([episode(PLAIN, 2, 0)], {"world": "a", "share": 0.3, "more": 1})
    with Store.open_or_create(tmp_path / "d", PLAIN, {"world": "a", "share": 0.3}) as store:
        assert len(store.ids) == 1
    with pytest.raises(UnusableInput, match=r"made otherwise; .* It was made with share 0.3$"):
        Store.open_or_create(tmp_path / "d", PLAIN, {"world": "a", "share": 1.0})
    with pytest.raises(UnusableInput, match=r"is of others$"):
        Store.open_or_create(tmp_path / "d", FULL, refusal="is of others")
    Store.open_or_create(tmp_path / "d", PLAIN).close()  # and nobody holds its lock


def test_a_folder_that_another_fills_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "out.partial" / "left").mkdir(parents=True)  # by one that was killed
    with new_folder(tmp_path / "out") as mine:
        assert list(mine.iterdir()) == []
        (mine / "a").write_text("a")
        with pytest.raises(Locked), new_folder(tmp_path / "out"):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]


def test_a_dataset_is_made_once_and_opened_by_kind(tmp_path: Path, store: Store) -> None:
    store.append([episode(PLAIN, 2, 0)])
    store.close()
    with pytest.raises(UnusableInput, match="holds files already"):
        Store.create(store.folder, PLAIN)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(UnusableInput, match="holds files already"):
        Store.create(tmp_path / "full", PLAIN)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["notes.txt"]
    with pytest.raises(UnusableInput, match="open for reading"):
        Store.open(store.folder).append([episode(PLAIN, 2, 0)])
    with pytest.raises(UnusableInput, match="no retrodict dataset"):
        Store.open(tmp_path)


def test_an_episode_that_does_not_fit_leaves_the_dataset_as_it_was(store: Store) -> None:
    store.append([episode(PLAIN, 2, 0)])
    before = sorted(p.relative_to(store.folder) for p in store.folder.rglob("*"))
    with pytest.raises(UnusableInput, match="000002: frames has shape"):
        store.append([episode(PLAIN, 2, 1), episode(replace(PLAIN, cameras={"observation.image": (8, 8, 3)}), 2, 1)])
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append([episode(PLAIN, 2, 1)], provenance={"loss": float("nan")})
    assert sorted(p.relative_to(store.folder) for p in store.folder.rglob("*")) == before
    assert store.append([episode(PLAIN, 2, 1)], provenance={"env": "sprites"}) == ("000001",)
    assert Store.open(store.folder).commits[1].provenance == {"env": "sprites"}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (5, 3, 1), (56, 56, 3), (128, 96, 3)])
def test_images_are_plain_png_and_lossless(shape: tuple[int, int, int]) -> None:
    for seed, high in ((0, 256), (1, 2), (2, 1)):
        frame = numpy_rng(seed, "png", str(shape)).integers(0, high, shape, np.uint8)
        data = encode_png(frame)
        assert np.array_equal(decode_image(data, shape, "here"), frame)
        with Image.open(io.BytesIO(data)) as image:
            image.verify()  # also the checksums
            assert image.format == "PNG"
    with pytest.raises(Damaged, match=r"frame 3 is damaged: .* frame of 9x9"):
        decode_image(data, (9, 9, shape[2]), "frame 3")
