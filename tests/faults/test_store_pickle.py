"""Data is data: no loader runs what a file asks to be run."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from store_samples import dataset

from retrodict.data.action_schema import read_schema
from retrodict.data.arrays import read_npz
from retrodict.data.foreign import open_dataset, open_foreign
from retrodict.data.guarded import decoder
from retrodict.data.hdf5 import read_hdf5
from retrodict.data.importers import import_videos
from retrodict.data.label_file import read_labels
from retrodict.data.lerobot import decode_image
from retrodict.data.store import Store
from retrodict.data.vpt import read_actions
from retrodict.errors import RetrodictError

COMMON = "meta/episodes/chunk-000/file-000.parquet"


def payloads(marker: Path) -> list[bytes]:
    """Pickles (written by hand), a .pt archive and a .npy array of objects that would each make the marker file."""
    command = f"touch {marker}"
    text = f"cos\nsystem\n(S'{command}'\ntR.".encode()
    binary = b"\x80\x02cposix\nsystem\nX" + len(command).to_bytes(4, "little") + command.encode() + b"\x85R."
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", binary)
        file.writestr("archive/version", "3\n")
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (117 - len(header)) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + binary
    return [text, binary, archive.getvalue(), array]


def in_store(name: str) -> Callable[[Path, bytes], object]:
    def load(folder: Path, data: bytes) -> object:
        store = dataset(folder / "d")
        (store.folder / name).write_bytes(data)
        store = Store.open(store.folder)
        return [store.read(id) for id in store.ids]

    return load


def in_foreign(name: str) -> Callable[[Path, bytes], object]:
    def load(folder: Path, data: bytes) -> object:
        root = dataset(folder / "d").folder
        (root / name).write_bytes(data)
        return [open_foreign(root).read(id) for id in open_foreign(root).ids]

    return load


def as_file(name: str, load: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def write(folder: Path, data: bytes) -> object:
        (folder / name).write_bytes(data)
        return load(folder / name)

    return write


LOADERS: dict[str, Callable[[Path, bytes], object]] = {
    "schema": in_store("meta/retrodict/schema.json"),
    "commit": in_store("meta/retrodict/commits/000000.json"),
    "data": in_store("data/chunk-000/file-000.parquet"),
    "foreign info": in_foreign("meta/info.json"),
    "foreign episodes": in_foreign(COMMON),
    "foreign data": in_foreign("data/chunk-000/file-000.parquet"),
    "labels": as_file("labels.csv", read_labels),
    "labels as lines": as_file("labels.jsonl", read_labels),
    "labels as a table": as_file("labels.parquet", read_labels),
    "action schema": as_file("actions.json", read_schema),
    "VPT's lines": as_file("a.jsonl", lambda path: read_actions(path, "a.mp4")),
    "npz": as_file("a.npz", lambda path: read_npz(path, "a")),
    "HDF5": as_file("a.h5", lambda path: read_hdf5(path, "a")),
    "video": as_file("a.mp4", decoder.facts),
    "video frames": as_file("a.mp4", lambda path: list(decoder.frames(path))),
    "videos": as_file("a.mp4", lambda path: import_videos(path.parent, path.parent / "out")),
    "image": lambda folder, data: decode_image(data, (8, 8, 3), "frame"),
    "dataset": as_file("a", open_dataset),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_no_pickle_is_run(tmp_path: Path, loader: str) -> None:
    marker = tmp_path / "run"
    for number, data in enumerate(payloads(marker)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(RetrodictError):
            LOADERS[loader](folder, data)
        assert not marker.exists()


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Otherwise the test above could not fail: this one runs the first as a pickle, as a shell would see it."""
    marker = tmp_path / "run"
    text = payloads(marker)[0].decode()
    os.system(text[text.index("'") + 1 : text.rindex("'")])
    assert marker.exists()
