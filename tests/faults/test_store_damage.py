"""Damaged datasets are refused by name: torn, truncated, extended, bit-flipped and missing files."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_samples import dataset, episode, whole

from retrodict.data.check import check
from retrodict.data.store import Store
from retrodict.errors import Damaged, RetrodictError, UnusableInput
from retrodict.rng import numpy_rng

FLIPS = 100 if os.environ.get("RETRODICT_FAULTS") else 10
DATA = "data/chunk-000/file-001.parquet"
COMMIT = "meta/retrodict/commits/000001.json"


def read_all(folder: Path) -> None:
    store = Store.open(folder)
    for id in store.ids:
        store.read(id)


@pytest.mark.parametrize("name", [DATA, COMMIT, "meta/retrodict/schema.json"])
def test_a_flipped_bit_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = dataset(tmp_path / "d").folder
    path = folder / name
    good = path.read_bytes()
    rng = numpy_rng(0, "flip", name)
    for place in rng.integers(0, len(good) * 8, FLIPS):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << (place % 8)
        path.write_bytes(bad)
        with pytest.raises(RetrodictError) as caught:
            read_all(folder)
        # a changed schema is met when a commit of the right one is compared with it, or is no schema at all
        assert path.name in str(caught.value) or name.endswith("schema.json")
    path.write_bytes(good)
    read_all(folder)


@pytest.mark.parametrize("name", [DATA, COMMIT])
@pytest.mark.parametrize("damage", ["empty", "half", "one byte less", "one byte more", "zeros at the end", "missing"])
def test_a_torn_truncated_or_extended_file_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    folder = dataset(tmp_path / "d").folder
    path = folder / name
    good = path.read_bytes()
    torn = {
        "empty": b"",
        "half": good[: len(good) // 2],
        "one byte less": good[:-1],
        "one byte more": good + b"x",
        "zeros at the end": good[:-512] + bytes(min(512, len(good))),
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(torn[damage])
    with pytest.raises(Damaged, match=path.name.replace(".", r"\.")):
        read_all(folder)


def test_episodes_of_sound_files_stay_readable(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d")
    (store.folder / DATA).write_bytes(b"")
    assert [id for id in store.ids if readable(store, id)] == ["000000", "000001", "000003", "000004", "000005"]
    report = check(store.folder)
    assert len(report["problems"]) == 1
    assert report["episodes"] == 6


def readable(store: Store, id: str) -> bool:
    try:
        store.read(id)
    except Damaged:
        return False
    return True


def test_a_file_that_changes_after_it_was_verified_is_refused(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d")
    store.read("000002")
    path = store.folder / DATA
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"file-001\.parquet"):
        store.read("000002")


def test_swapped_files_are_refused(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d", (1, 1))
    a, b = (store.folder / f"data/chunk-000/file-00{i}.parquet" for i in (0, 1))
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)
    with pytest.raises(Damaged):
        store.read("000000")


def test_leftovers_of_an_interrupted_append_are_invisible_and_swept(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d")
    folder = store.folder
    (folder / "data/chunk-000/file-003.parquet").write_bytes(b"half")
    (folder / "meta/episodes/chunk-000/file-003.parquet").write_bytes(b"half")
    (folder / "meta/retrodict/staging/data").mkdir(parents=True)
    (folder / "meta/retrodict/staging/data/x").write_bytes(b"half")
    (folder / "meta/info.json").write_bytes(b"{}")
    (folder / "meta/tasks.parquet").unlink()
    (folder / "notes.txt").write_text("not ours, not touched")
    read_all(folder)
    with Store.open(folder, write=True) as opened:
        assert not (folder / "meta/retrodict/staging").exists()
        assert not (folder / "data/chunk-000/file-003.parquet").exists()
        assert opened.append([episode(6)]) == ("000006",)
    assert check(folder)["problems"] == []
    assert whole(Store.open(folder))
    assert (folder / "notes.txt").exists()


class Failing:
    """Makes the n-th fsync, rename, open or mkdir of this process fail, as a full disk does."""

    CALLS = ("fsync", "replace", "open", "mkdir")

    def __init__(self, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.monkeypatch = n, monkeypatch

    def __enter__(self) -> None:
        for name in self.CALLS:
            self.monkeypatch.setattr(os, name, functools.partial(self.call, getattr(os, name)))

    def __exit__(self, *_: object) -> None:
        self.monkeypatch.undo()

    def call(self, real: Callable[..., object], *args: object, **more: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **more)


def test_the_n_th_failing_call_leaves_the_old_dataset_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset(tmp_path / "d", (2,)).folder
    refusals, done = 0, False
    while not done:
        with Store.open(folder, write=True) as store:
            before = store.ids
            try:
                with Failing(refusals + 1, monkeypatch):
                    store.append([episode(len(before))])
                done = True
            except OSError:
                refusals += 1
            assert store.ids in (before, (*before, f"{len(before):06d}"))
        now = Store.open(folder)
        assert now.ids == store.ids
        assert whole(now)
    assert refusals > 10
    Store.open(folder, write=True).close()
    assert check(folder)["problems"] == []


def test_folders_that_are_no_datasets_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UnusableInput, match="no retrodict dataset"):
            Store.open(folder)
