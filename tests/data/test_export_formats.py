"""Exports in other tools' formats, read back by means of those formats alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from retrodict.clip import ABSTAINED, MISSING, PREDICTED, RECORDED, Clip
from retrodict.data import export_formats
from retrodict.data.export import EXPORT_FILE, Export, Format, export
from retrodict.data.foreign import open_dataset
from retrodict.data.guarded import decoder
from retrodict.data.importers import Intake, import_data
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.errors import MissingPackage, UnusableInput
from retrodict.spaces import ActionSpace, categorical, continuous

M, R, P, A = MISSING, RECORDED, PREDICTED, ABSTAINED
SPACE = ActionSpace((categorical("move", ("left", "right")), continuous("speed", ("v",), relative=True)))
TWO = {"observation.images.front": (16, 24, 3), "observation.images.wrist": (16, 24, 1)}
SCHEMA = Schema(SPACE, TWO, 10, proprio=("x", "y"), rewards=True, bounds=True)
LARGE = Schema(SPACE, {"observation.image": (144, 160, 3)}, 10, video=True)
KINDS = ([R, R, M, P, A, P], [M, A], [P, R])
SPANS = [(0, 0, 2), (0, 3, 1), (0, 5, 1), (2, 0, 2)]  # episode, first step, steps


def numbered(schema: Schema, kinds: list[int], start: int) -> Clip:
    """Frame t is grey of level 3 (start + t), its state is (t, -t) and step t's speed is start + t."""
    t = len(kinds) + 1
    numbers = torch.arange(start, start + t)
    frames = (3 * numbers).to(torch.uint8).view(1, t, 1, 1, 1).expand(1, t, schema.channels, *schema.size)
    margin = torch.tensor([-0.25, 0.5]).view(1, 1, 2, 1)  # of what an action lies between
    choice = torch.nn.functional.one_hot(numbers[:-1] % 2, 2).float()
    actions = torch.cat([choice, numbers[:-1, None].float()], 1)[None]
    source = torch.tensor(kinds, dtype=torch.uint8)[None]
    return Clip(
        frames=frames.contiguous(), actions=torch.where((source == A).unsqueeze(-1), 99.0, actions), source=source,
        confidence=torch.where(source == R, 1.0, 0.75), text=(f"go to {start}",),
        proprio=torch.stack([numbers, -numbers], -1).float()[None] if schema.proprio else None,
        bounds=actions.unsqueeze(2) + margin if schema.bounds else None,
        rewards=torch.arange(t - 1).float()[None] if schema.rewards else None,
        ends=(torch.arange(t - 1) == t - 2).float()[None] if schema.rewards else None,
    )  # fmt: skip


@pytest.fixture(params=["images of two cameras", "video"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | Store:
    schema = LARGE if request.param == "video" else SCHEMA
    clips = [numbered(schema, kinds, 10 + 20 * i) for i, kinds in enumerate(KINDS)]
    if request.param != "video":
        return MemoryStore(schema, clips)
    with Store.create(tmp_path / "source", schema) as store:
        store.append(clips)
    return store


def firsts() -> list[tuple[int, int]]:
    """Number of each span's first frame, and its steps."""
    return [(10 + 20 * episode + first, steps) for episode, first, steps in SPANS]


def test_gr00t_is_lerobot_v21_with_a_file_an_episode_and_modalities(tmp_path: Path, source: MemoryStore) -> None:
    report = export(source, tmp_path / "out", format="gr00t")
    assert report == Export(4, 6, 2, 2, 2, 3, encoded=4)
    meta = {p.name: p.read_text() for p in (tmp_path / "out/meta").iterdir() if p.is_file()}
    info, modality, stats = (json.loads(meta[f"{name}.json"]) for name in ("info", "modality", "stats"))
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v2.1", 4, 6)
    lines = {name: [json.loads(line) for line in meta[f"{name}.jsonl"].splitlines()] for name in ("episodes", "tasks")}
    assert [row["length"] for row in lines["episodes"]] == [2, 1, 1, 2]
    assert {row["task"] for row in lines["tasks"]} == {"go to 10", "go to 50"}
    assert modality["action"] == {
        "move": {"start": 0, "end": 2, "absolute": True}, "speed": {"start": 2, "end": 3, "absolute": False},
    }  # fmt: skip
    values = np.array([[n % 2 == 0, n % 2 == 1, n] for first, steps in firsts() for n in range(first, first + steps)])
    for name, told in (("mean", values.mean(0)), ("std", values.std(0)), ("q99", np.quantile(values, 0.99, 0))):
        assert np.allclose(stats["action"][name], told)
    assert all(set(entry) == {"mean", "std", "min", "max", "q01", "q99"} for entry in stats.values())
    assert {name for name, f in info["features"].items() if "float" in f["dtype"]} == set(stats)
    for number, (first, steps) in enumerate(firsts()):
        place = {"episode_chunk": 0, "episode_index": number}
        rows = pq.read_table(tmp_path / "out" / info["data_path"].format(**place)).to_pydict()
        assert [action[2] for action in rows["action"]] == list(range(first, first + steps))
        assert rows["annotation.human.action.task_description"] == rows["task_index"]
        for camera in modality["video"].values():
            name = camera["original_key"]
            assert name.startswith("observation.images.")
            assert info["features"][name]["names"] == ["height", "width", "channels"]
            file = tmp_path / "out" / info["video_path"].format(video_key=name, **place)
            pixels = np.concatenate([frames for frames, _ in decoder.frames(file)])
            assert np.allclose(pixels[:, 0, 0], 3 * np.arange(first, first + steps)[:, None], atol=3)
    assert modality["state"] == ({"state": {"start": 0, "end": 2}} if source.schema.proprio else {})


def test_our_reader_opens_gr00t_exports(tmp_path: Path, source: MemoryStore) -> None:
    export(source, tmp_path / "out", format="gr00t")
    back = open_dataset(tmp_path / "out")
    assert back.schema.space == SPACE
    for id, (first, steps) in zip(back.ids, firsts(), strict=True):
        clip = back.read(id)
        assert clip.actions is not None
        assert clip.frames is not None
        assert clip.actions[0, :, 2].tolist() == list(range(first, first + steps - 1))
        if back.schema.bounds:
            assert torch.equal(clip.bounds[0, :, 1, 2], clip.actions[0, :, 2] + 0.5)  # type: ignore[index]
        assert np.allclose(clip.frames[0, :, 0, 0, 0].numpy(), 3 * np.arange(first, first + steps), atol=3)


def test_hdf5_holds_a_group_a_span_of_frames_and_the_actions_taken_in_them(tmp_path: Path, source: MemoryStore) -> None:
    h5py = pytest.importorskip("h5py")
    report = export(source, tmp_path / "out", format="hdf5")
    assert report == Export(4, 6, 6, 2, 2, 3)
    with h5py.File(tmp_path / "out/data.hdf5") as file:
        data = file["data"]
        assert sorted(data) == [f"demo_{i}" for i in range(4)]
        assert data.attrs["total"] == sum(data[name].attrs["num_samples"] for name in data) == 6
        assert set(json.loads(data.attrs["env_args"])) == {"env_name", "type", "env_kwargs"}
        for number, (first, steps) in enumerate(firsts()):
            demo = data[f"demo_{number}"]
            numbers = np.arange(first, first + steps)
            assert demo["actions"][:, 2].tolist() == numbers.tolist()
            assert set(demo["source"][:]) <= {R, P}
            assert set(demo["confidence"][:]) <= {1.0, 0.75}
            for name, shape in zip(export_formats.camera_names(source), source.schema.cameras.values(), strict=True):
                pixels = demo["obs"][name]
                assert (pixels.dtype, pixels.shape) == (np.uint8, (steps, *shape))
                assert np.allclose(pixels[:, 0, 0, 0], 3 * numbers, atol=3)
            if source.schema.proprio:
                assert demo["obs/state"][:].tolist() == np.stack([numbers, -numbers], 1).tolist()
                assert demo["dones"][:].tolist() == [int(n in (15, 51)) for n in numbers]  # where the episode ended
                assert len(demo["rewards"]) == steps
                assert demo["bounds"][:, :, 2].tolist() == np.stack([numbers - 0.25, numbers + 0.5], 1).tolist()


def test_what_was_exported_as_hdf5_comes_back_missing_actions_and_outcomes_too(tmp_path: Path) -> None:
    source = torch.tensor([[RECORDED, RECORDED, MISSING, RECORDED, PREDICTED]], dtype=torch.uint8)
    clip = Clip(
        frames=torch.randint(0, 256, (1, 6, 3, 8, 8), dtype=torch.uint8), actions=torch.rand(1, 5, 2), source=source,
        confidence=torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.5]]), rewards=torch.arange(5.0)[None],
        ends=torch.tensor([[0.0, 0, 0, 0, 1]]),
    )  # fmt: skip
    schema = Schema(ActionSpace((continuous("move", ("x", "y")),)), {"observation.image": (8, 8, 3)}, 10, rewards=True)
    export(MemoryStore(schema, [clip]), tmp_path / "x", format="hdf5", keep_all=True)
    back = import_data(tmp_path / "x", tmp_path / "D", Intake(fps=10))
    assert [fate for fate in back.fates if fate.what == "refused"] == []
    found = back.store.read(back.store.ids[0])
    for name in ("source", "confidence", "rewards", "ends"):
        assert torch.equal(getattr(found, name)[0], getattr(clip, name)[0][: found.steps]), name
    assert found.source is not None
    assert found.source[0].tolist()[2] == MISSING


def test_npz_needs_numpy_alone_and_no_pickle(tmp_path: Path, source: MemoryStore) -> None:
    report = export(source, tmp_path / "out", format="npz")
    assert report == Export(4, 10, 6, 2, 2, 3)
    for number, (first, steps) in enumerate(firsts()):
        with np.load(tmp_path / f"out/episode_{number:06d}.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}  # each is read: an object would need pickle
        assert len(arrays["actions"]) == len(arrays["source"]) == len(arrays["confidence"]) == steps
        assert arrays["actions"][:, 2].tolist() == list(range(first, first + steps))
        names = ["frames"] if source.schema.video else ["frames_front", "frames_wrist"]
        for name, shape in zip(names, source.schema.cameras.values(), strict=True):
            assert arrays[name].shape == (steps + 1, *shape)  # the frame that the last action led to is there
            assert np.allclose(arrays[name][:, 0, 0, 0], 3 * np.arange(first, first + steps + 1), atol=3)
        if source.schema.bounds:
            assert np.allclose(np.ptp(arrays["bounds"], 1), 0.75)
        assert arrays["text"] == f"go to {10 + 20 * SPANS[number][0]}"
        assert np.allclose(arrays["times"], np.arange(steps + 1) / 10)


@pytest.mark.parametrize("format", ["gr00t", "hdf5", "npz"])
def test_every_row_can_be_kept_and_the_spans_are_written_down(
    tmp_path: Path, source: MemoryStore, format: Format
) -> None:
    report = export(source, tmp_path / "out", keep_all=True, format=format)
    frames, steps = sum(source.lengths.values()), sum(map(len, KINDS))
    assert (report.rows, report.steps) == {"gr00t": (frames, steps), "hdf5": (steps, steps), "npz": (frames, steps)}[
        format
    ]
    origin = json.loads((tmp_path / "out" / EXPORT_FILE).read_text())
    assert (origin["format"], origin["digest"]) == (format, source.digest)
    assert [span["steps"] for span in origin["spans"]] == [len(kinds) for kinds in KINDS]


@pytest.mark.parametrize("format", ["gr00t", "hdf5", "npz"])
def test_datasets_without_cameras_can_be_exported(tmp_path: Path, format: Format) -> None:
    schema = Schema(SPACE, {}, 10, proprio=("x", "y"))
    clips = [numbered(SCHEMA, kinds, 10).with_(frames=None, bounds=None, rewards=None, ends=None) for kinds in KINDS]
    assert export(MemoryStore(schema, clips), tmp_path / "out", format=format).episodes == len(SPANS)


def test_a_failure_leaves_nothing(tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    there = set(tmp_path.iterdir())
    monkeypatch.setattr(export_formats, "READ_BYTES", 1000)
    with pytest.raises(UnusableInput, match=r"frames 0\.\.2 of '000000' take more than 1000 bytes"):
        export(source, tmp_path / "out", format="npz")
    monkeypatch.setattr(export_formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"retrodict\[h5\]"):
        export(source, tmp_path / "out", format="hdf5")
    assert set(tmp_path.iterdir()) == there
