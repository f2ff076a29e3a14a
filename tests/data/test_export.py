"""Export: other tools train on every row, so no row may be without an action. And the check-up of a dataset."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from retrodict.clip import ABSTAINED, MISSING, PREDICTED, RECORDED, Clip
from retrodict.data import cache, export_lerobot, footage
from retrodict.data import store as store_module
from retrodict.data.check import check
from retrodict.data.export import EXPORT_FILE, export
from retrodict.data.foreign import open_dataset, open_foreign
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.errors import Damaged, RetrodictError, UnusableInput
from retrodict.spaces import ActionSpace, continuous

SPACE = ActionSpace((continuous("action", ("x", "y"), low=-5, high=500),))
SCHEMA = Schema(SPACE, {"observation.image": (8, 8, 3)}, 10)
SENTINEL = 99.0  # stands where an action is missing or abstained from


def marked(source: list[int], start: int) -> Clip:
    """Frame t shows the number start + t, and so does step t's action; unusable actions hold the sentinel."""
    t = len(source) + 1
    numbers = torch.arange(start, start + t)
    frames = numbers.to(torch.uint8).view(1, t, 1, 1, 1).expand(1, t, 3, 8, 8).contiguous()
    kinds = torch.tensor(source, dtype=torch.uint8)
    usable = (kinds == RECORDED) | (kinds == PREDICTED)
    actions = torch.where(usable, numbers[:-1].float(), SENTINEL)[:, None].expand(-1, 2)
    return Clip(frames=frames, actions=actions[None].contiguous(), source=kinds[None], confidence=torch.ones(1, t - 1))


M, R, P, A = MISSING, RECORDED, PREDICTED, ABSTAINED
SOURCES = ([R, R, M, P, A, A, R], [M, M], [A], [P, P, R])


@pytest.fixture
def source() -> MemoryStore:
    return MemoryStore(SCHEMA, [marked(kinds, 10 + 20 * i) for i, kinds in enumerate(SOURCES)])


def rows(folder: Path) -> dict[str, list[object]]:
    tables = [pq.read_table(path) for path in sorted(folder.glob("data/*/*.parquet"))]
    return {name: [value for table in tables for value in table[name].to_pylist()] for name in tables[0].column_names}


def test_no_row_of_an_export_has_a_missing_or_abstained_action(tmp_path: Path, source: MemoryStore) -> None:
    report = export(source, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [a[0] for a in found["action"]] == [10, 11, 13, 16, 70, 71, 72]  # type: ignore[index]
    assert set(found["retrodict.source"]) <= {RECORDED, PREDICTED}
    assert SENTINEL not in np.array(found["action"])
    assert (report.episodes, report.rows, report.steps) == (4, 7, 3)
    assert (report.missing, report.abstained, report.last) == (3, 3, 4)


def test_each_row_of_an_export_shows_the_frame_in_which_its_action_was_taken(
    tmp_path: Path, source: MemoryStore
) -> None:
    import io

    from PIL import Image

    export(source, tmp_path / "out")
    found = rows(tmp_path / "out")
    shown = [np.asarray(Image.open(io.BytesIO(v["bytes"])))[0, 0, 0] for v in found["observation.image"]]  # type: ignore[index]
    assert shown == [a[0] for a in found["action"]]  # type: ignore[index]
    assert found["episode_index"] == [0, 0, 1, 2, 3, 3, 3]
    assert found["frame_index"] == [0, 1, 0, 0, 0, 1, 2]
    assert found["index"] == list(range(7))
    assert np.allclose(found["retrodict.time"], found["timestamp"])  # type: ignore[arg-type]
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"]) == (4, 7)


def test_an_export_reads_back_with_one_step_less_per_episode_and_its_action_space(
    tmp_path: Path, source: MemoryStore
) -> None:
    export(source, tmp_path / "out")
    back = open_dataset(tmp_path / "out")
    assert back.schema.space == SPACE
    assert list(back.lengths.values()) == [2, 1, 1, 3]
    clip = back.read(back.ids[3])
    assert clip.actions is not None
    assert clip.actions[0, :, 0].tolist() == [70, 71]
    assert clip.source is not None
    assert clip.source.tolist() == [[PREDICTED, PREDICTED]]
    assert check(tmp_path / "out")["problems"] == []


def test_all_rows_can_be_kept(tmp_path: Path, source: MemoryStore) -> None:
    report = export(source, tmp_path / "out", keep_all=True)
    assert report.rows == sum(source.lengths.values())
    back = open_dataset(tmp_path / "out")
    for id, old in zip(back.ids, source.ids, strict=True):
        got, want = back.read(id), source.read(old)
        assert torch.equal(got.source, want.source)  # type: ignore[arg-type]
        assert torch.equal(got.actions, want.actions)  # type: ignore[arg-type]
        assert torch.equal(got.frames, want.frames)  # type: ignore[arg-type]


def test_an_export_is_whole_or_absent(tmp_path: Path, source: MemoryStore) -> None:
    with pytest.raises(UnusableInput, match="no step of the dataset"):
        export(MemoryStore(SCHEMA, [marked([M, A], 0)]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    export(source, tmp_path / "out")
    with pytest.raises(UnusableInput, match="exists already"):
        export(source, tmp_path / "out")
    with pytest.raises(UnusableInput, match="no export format named 'zarr'"):
        export(source, tmp_path / "zarr", format="zarr")  # type: ignore[arg-type]


def test_video_is_cut_to_the_spans(tmp_path: Path) -> None:
    schema = Schema(SPACE, {"observation.image": (136, 136, 3)}, 10, video=True)
    clip = marked([R, R, M, R, R, R], 40)
    clip = clip.with_(frames=(clip.frames * 3).repeat_interleave(17, 3).repeat_interleave(17, 4))  # type: ignore[operator]
    export(MemoryStore(schema, [clip]), tmp_path / "out")
    back = open_dataset(tmp_path / "out")
    second = back.read(back.ids[1]).frames
    assert second is not None
    assert np.allclose(second[0, :, 0, 0, 0].numpy(), [129, 132, 135], atol=2)


@pytest.mark.parametrize("keep_all", [False, True])
def test_long_video_of_two_cameras_is_cut_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_all: bool
) -> None:
    names = ("observation.images.a", "observation.images.b")
    schema = Schema(SPACE, dict.fromkeys(names, (136, 136, 3)), 10, video=True)
    clips = []
    for start in (10, 40):
        clip = marked([R, R, M, R, R, R, A, P], start)
        frames = (clip.frames * 3).repeat_interleave(17, 3).repeat_interleave(17, 4)  # type: ignore[operator]
        clips.append(clip.with_(frames=torch.cat([frames, 255 - frames], 2)))
    with Store.create(tmp_path / "d", schema) as source:
        source.append(clips)
    monkeypatch.setattr(store_module, "READ_BYTES", 1)
    monkeypatch.setattr(cache, "PIECE_BYTES", 2 * 6 * 136 * 136)  # two frames at a time: spans lie across pieces
    report = export(source, tmp_path / "out", keep_all=keep_all)
    back = open_dataset(tmp_path / "out")
    lengths = [9, 9] if keep_all else [2, 3, 1] * 2
    assert list(back.lengths.values()) == lengths
    assert report.rows == sum(lengths)
    firsts = [10, 40] if keep_all else [10, 13, 17, 40, 43, 47]
    for id, first, length in zip(back.ids, firsts, lengths, strict=True):
        pixels = back.read(id).frames
        assert pixels is not None
        wanted = 3 * np.arange(first, first + length)
        assert np.allclose(pixels[0, :, 0, 0, 0].numpy(), wanted, atol=2)
        assert np.allclose(pixels[0, :, 3, 0, 0].numpy(), 255 - wanted, atol=2)
    assert not list((tmp_path / "out").rglob("encoded*"))
    found = check(source.folder)
    assert found["problems"] == []
    assert found["still_share"] == 0


CAMERA = "observation.image"
VIDEO = Schema(SPACE, {CAMERA: (136, 136, 3)}, 10, video=True)


def shown(source: list[int], start: int) -> Clip:
    """As `marked`, large enough to be video; numbers are three grey levels apart."""
    clip = marked(source, start)
    return clip.with_(frames=(clip.frames * 3).repeat_interleave(17, 3).repeat_interleave(17, 4))  # type: ignore[operator]


def test_spans_of_video_point_into_the_very_file_of_the_source(tmp_path: Path) -> None:
    with Store.create(tmp_path / "d", VIDEO) as source:
        source.append([shown([R, R, M, R, R, R, A, P], 10), shown([M], 40), shown([R, M, R], 50)])
    report = export(source, tmp_path / "out")
    assert report.encoded == 0
    originals, links = (sorted((folder / "videos").rglob("*.mp4")) for folder in (source.folder, tmp_path / "out"))
    assert [path.stat().st_ino for path in links] == [originals[0].stat().st_ino, originals[2].stat().st_ino]
    assert [path.name for path in links] == ["file-000.mp4", "file-001.mp4"]
    table = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet")
    assert table[f"videos/{CAMERA}/file_index"].to_pylist() == [0, 0, 0, 1, 1]
    assert np.allclose(table[f"videos/{CAMERA}/from_timestamp"].to_pylist(), [0, 0.3, 0.7, 0, 0.2])
    assert np.allclose(table[f"videos/{CAMERA}/to_timestamp"].to_pylist(), [0.2, 0.6, 0.8, 0.1, 0.3])
    back = open_dataset(tmp_path / "out")
    for id, first in zip(back.ids, (10, 13, 17, 50, 52), strict=True):
        frames = back.read(id).frames
        assert frames is not None
        assert np.allclose(frames[0, :, 0, 0, 0].numpy(), 3 * np.arange(first, first + frames.shape[1]), atol=2)
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())[CAMERA]
    told = np.mean([3 * n for n in (10, 11, 13, 14, 15, 17, 50, 52)]) / 255  # of the rows, not of the whole files
    assert np.allclose(np.ravel(stats["mean"]), told, atol=0.01)


def test_an_export_of_an_export_points_into_the_same_file(tmp_path: Path) -> None:
    with Store.create(tmp_path / "d", VIDEO) as source:
        source.append([shown([R, M, P, P, P, P], 20)])
    export(source, tmp_path / "first")
    once = open_dataset(tmp_path / "first")
    assert export(once, tmp_path / "second").encoded == 0
    again = open_dataset(tmp_path / "second")
    frames = again.read(again.ids[0]).frames  # the span of one row had no step to go on
    assert frames is not None
    assert np.allclose(frames[0, :, 0, 0, 0].numpy(), [66, 69, 72], atol=2)
    assert len({path.stat().st_ino for path in tmp_path.rglob("*.mp4")}) == 1


def test_late_spans_of_long_video_get_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "d", VIDEO) as source:
        source.append([shown([R, R, M, P, P, M, R, R], 10)])
    monkeypatch.setattr(export_lerobot, "LONGEST", 0.6)  # seconds: the second span ends at 0.5, the third at 0.8
    assert export(source, tmp_path / "out").encoded == 1
    table = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet")
    assert table[f"videos/{CAMERA}/file_index"].to_pylist() == [0, 0, 1]
    assert np.allclose(table[f"videos/{CAMERA}/from_timestamp"].to_pylist(), [0, 0.3, 0])
    back = open_dataset(tmp_path / "out")
    frames = back.read(back.ids[2]).frames
    assert frames is not None
    assert np.allclose(frames[0, :, 0, 0, 0].numpy(), [48, 51], atol=2)
    assert (
        export(source, tmp_path / "whole", keep_all=True).encoded == 0
    )  # from the start of a file, any length is exact


def test_turned_video_is_encoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = export_lerobot.decoder.facts  # other tools do not turn the frames that they point to
    monkeypatch.setattr(export_lerobot.decoder, "facts", lambda path: replace(look(path), rotation=90))
    with Store.create(tmp_path / "d", VIDEO) as source, monkeypatch.context() as straight:
        straight.setattr(export_lerobot.decoder, "facts", look)
        source.append([shown([R, R, M, R], 10)])
    monkeypatch.setattr(footage, "examine", lambda *_: pytest.fail("a span is no whole file"))
    assert export(source, tmp_path / "out").encoded == 2


def test_frames_that_are_not_where_the_metadata_says_are_refused_by_name(tmp_path: Path) -> None:
    with Store.create(tmp_path / "d", VIDEO) as source:
        source.append([shown([R, R, R], 10)])
    export(source, tmp_path / "out", keep_all=True)
    (tmp_path / "out" / EXPORT_FILE).unlink()  # as another tool's, without hashes
    episodes = tmp_path / "out/meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(episodes)
    place = table.column_names.index(f"videos/{CAMERA}/from_timestamp")
    pq.write_table(table.set_column(place, table.column_names[place], [[0.02]]), episodes)
    with pytest.raises(UnusableInput, match=r"out/videos.*frame \d is at"):
        export(open_dataset(tmp_path / "out"), tmp_path / "far")
    assert not list(tmp_path.glob("far*"))  # nor a half-written one


def test_large_images_make_more_files_and_the_same_rows(
    tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(source, tmp_path / "few")
    monkeypatch.setattr(export_lerobot, "_GROUP_BYTES", 1)
    export(source, tmp_path / "many")
    assert len(list((tmp_path / "many").glob("data/*/*"))) > len(list((tmp_path / "few").glob("data/*/*"))) == 1
    assert rows(tmp_path / "many") == rows(tmp_path / "few")


def test_a_check_counts_and_finds_what_is_wrong(
    tmp_path: Path, source: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PIECE_BYTES", 3 * 8 * 8)  # a frame at a time
    with Store.create(tmp_path / "d", SCHEMA) as store:
        for id in source.ids:
            store.append([source.read(id)], ids=[id])
        still = marked([R, R, R], 5)
        store.append([still.with_(frames=still.frames[:, [0, 0, 1, 1]])])  # type: ignore[index]
    report = check(store.folder)
    assert report["problems"] == []
    assert report["sources"] == {"missing": 3, "recorded": 7, "predicted": 3, "abstained": 3}
    assert (report["episodes"], report["steps"], report["frames"]) == (5, 16, 21)
    assert report["missing_share"] == 3 / 16
    assert report["still_share"] == 2 / 16
    (store.folder / "meta/info.json").write_text("{}")
    data = store.folder / "data/chunk-000/file-002.parquet"
    data.write_bytes(data.read_bytes()[:-1])
    found = check(store.folder)["problems"]
    assert len(found) == 2
    assert "file-002.parquet is damaged" in found[0]
    assert "info.json differs" in found[1]
    Store.open(store.folder, write=True).close()
    assert len(check(store.folder)["problems"]) == 1


@pytest.mark.parametrize("kind", ["meta/episodes/**/*.parquet", "meta/stats.json", "data/**/*.parquet"])
def test_a_flipped_bit_in_what_was_exported_is_refused_by_name(tmp_path: Path, source: MemoryStore, kind: str) -> None:
    export(source, tmp_path / "out")
    assert check(tmp_path / "out")["problems"] == []
    (file,) = (tmp_path / "out").glob(kind)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(Damaged, match=re.escape(file.name)):
        first(tmp_path / "out")
    assert file.name in check_or_refusal(tmp_path / "out")
    file.unlink()
    with pytest.raises(RetrodictError, match=re.escape(file.name)):
        first(tmp_path / "out")


def first(folder: Path) -> Clip:
    source = open_foreign(folder)
    return source.read(source.ids[0])


def check_or_refusal(folder: Path) -> str:
    """What a check-up says; metadata that are not as written are refused at once."""
    try:
        return "\n".join(check(folder)["problems"])
    except Damaged as error:
        return str(error)
