"""Z6: data is data. Files that would run code are given to every public loader, and none of them is run."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from payloads import payloads
from store_samples import dataset

import retrodict
from retrodict import rng
from retrodict.cli.settings import with_settings
from retrodict.data.action_schema import read_schema
from retrodict.data.arrays import read_npz
from retrodict.data.cache import Cache
from retrodict.data.export import EXPORT_FILE
from retrodict.data.foreign import open_dataset, open_foreign
from retrodict.data.guarded import decoder
from retrodict.data.hdf5 import read_hdf5
from retrodict.data.importers import Intake, import_data, import_videos
from retrodict.data.label_file import read_labels
from retrodict.data.lerobot import decode_image
from retrodict.data.store import Store
from retrodict.data.vpt import read_actions
from retrodict.errors import RetrodictError
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.recipes import bc
from retrodict.roles import System, View
from retrodict.run import checkpoint
from retrodict.run.loop import Fit
from retrodict.run.onnx_file import CARD, OnnxInverse
from retrodict.run.run import Run, Views

COMMON = "meta/episodes/chunk-000/file-000.parquet"
Loader = Callable[[Path, bytes, Path], object]  # a new folder, the file's bytes, and a folder of sound things


def in_store(name: str, foreign: bool = False) -> Loader:
    def load(folder: Path, data: bytes, sound: Path) -> object:
        root = shutil.copytree(sound / "store", folder / "d")
        (root / name).write_bytes(data)
        source = open_foreign(root) if foreign else Store.open(root)
        return [source.read(id) for id in source.ids]

    return load


def as_file(name: str, load: Callable[[Path], object]) -> Loader:
    def write(folder: Path, data: bytes, sound: Path) -> object:
        (folder / name).write_bytes(data)
        return load(folder / name)

    return write


def in_system(name: str, told: bool = False) -> Loader:
    """A saved system one of whose files is another; `told`: its manifest says that this is right."""

    def load(folder: Path, data: bytes, sound: Path) -> object:
        root = shutil.copytree(sound / "run/system", folder / "system")
        (root / name).write_bytes(data)
        if told:
            manifest = json.loads((root / checkpoint.MANIFEST).read_bytes())
            manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            (root / checkpoint.MANIFEST).write_text(json.dumps(manifest))
        return retrodict.load(folder)

    return load


def as_checkpoint(folder: Path, data: bytes, sound: Path) -> object:
    checkpoint.save_folder(folder / "step-1", {"w": torch.zeros(1)}, {})
    (folder / "step-1" / checkpoint.STATE).write_bytes(data)
    return checkpoint.newest(folder)


def as_identity(folder: Path, data: bytes, sound: Path) -> object:
    """What a half-done stage says that it was made with, in a folder of somebody else's run."""
    (folder / "stages/policy").mkdir(parents=True)
    (folder / "stages/policy/identity.json").write_bytes(data)
    with Run(folder, VIEWS[0]) as run:
        part = Inverse(View(2, size=(36, 36)), run.data.labelled.cache.space, patch=4, width=4, depth=1, hidden=8)
        return run.fit("policy", part, labelled, run.data.labelled, Fit(1, 2))


def as_cache(folder: Path, data: bytes, sound: Path) -> object:
    """Frames that were decoded before are bytes of a known number; of another number, they are decoded again."""
    whole = torch.from_numpy(Cache.build(Store.open(sound / "store"), None, folder).frames.copy())
    (file,) = folder.glob("*.frames")
    file.write_bytes(data)
    again = Cache.build(Store.open(sound / "store"), None, folder)
    assert torch.equal(torch.from_numpy(again.frames.copy()), whole)
    raise RetrodictError("not one of them was taken")


def as_onnx(folder: Path, data: bytes, sound: Path) -> object:
    (folder / CARD).write_bytes(data)
    return OnnxInverse(folder)


def as_metadata(folder: Path, data: bytes, sound: Path) -> object:
    """Minari's, beside a sound file."""
    import h5py
    import numpy as np

    with h5py.File(folder / "main_data.hdf5", "w") as file:
        file["episode_0/observations"] = np.zeros((4, 8, 8, 3), np.uint8)
        file["episode_0/actions"] = np.arange(3)
    (folder / "metadata.json").write_bytes(data)
    return import_data(folder, folder.parent / f"{folder.name}.D", Intake(fps=10))


LOADERS: dict[str, Loader] = {
    "schema": in_store("meta/retrodict/schema.json"),
    "commit": in_store("meta/retrodict/commits/000000.json"),
    "data": in_store("data/chunk-000/file-000.parquet"),
    "foreign info": in_store("meta/info.json", foreign=True),
    "foreign episodes": in_store(COMMON, foreign=True),
    "foreign data": in_store("data/chunk-000/file-000.parquet", foreign=True),
    "foreign statistics": in_store("meta/stats.json", foreign=True),
    "foreign origin": in_store(EXPORT_FILE, foreign=True),
    "labels": as_file("labels.csv", read_labels),
    "labels as lines": as_file("labels.jsonl", read_labels),
    "labels as a table": as_file("labels.parquet", read_labels),
    "action schema": as_file("actions.json", read_schema),
    "VPT's lines": as_file("a.jsonl", lambda path: read_actions(path, "a.mp4")),
    "npz": as_file("a.npz", lambda path: read_npz(path, "a")),
    "npz, imported": as_file("a.npz", lambda path: import_data(path, path.parent / "D", Intake(fps=10))),
    "HDF5": as_file("a.h5", lambda path: read_hdf5(path, "a")),
    "HDF5, imported": as_file("a.hdf5", lambda path: import_data(path, path.parent / "D", Intake(fps=10))),
    "Minari's metadata": as_metadata,
    "video": as_file("a.mp4", decoder.facts),
    "video frames": as_file("a.mp4", lambda path: list(decoder.frames(path))),
    "videos": as_file("a.mp4", lambda path: import_videos(path.parent, path.parent / "out")),
    "image": lambda folder, data, sound: decode_image(data, (8, 8, 3), "frame"),
    "dataset": as_file("a", open_dataset),
    "system weights": in_system(checkpoint.STATE),
    "system weights that the manifest names": in_system(checkpoint.STATE, told=True),
    "system manifest": in_system(checkpoint.MANIFEST),
    "system as a file": as_file("a", retrodict.load),
    "checkpoint": as_checkpoint,
    "stage of a run": as_identity,
    "cache": as_cache,
    "ONNX card": as_onnx,
    "settings": lambda folder, data, sound: with_settings(bc.micro(), (f"fit.steps={data.decode('latin-1')}",)),
}
TABLES = {("labels", "csv formula"), ("labels as a table", "parquet")}  # tables of labels, whatever their words mean
VIEWS: list[Views] = []


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, sprites: Views) -> Path:
    """A dataset and a saved system, of which copies are spoiled."""
    folder = tmp_path_factory.mktemp("sound")
    dataset(folder / "store")
    with rng.isolated("weights"):
        inverse = Inverse(View(2, size=(36, 36)), sprites.labelled.cache.space, patch=4, width=4, depth=1, hidden=8)
    checkpoint.save_system(folder / "run/system", System(inverse=inverse.eval()))
    VIEWS[:] = [sprites]
    return folder


@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_is_run(tmp_path: Path, sound: Path, loader: str) -> None:
    marker = tmp_path / "run"
    for kind, data in payloads(marker).items():
        folder = tmp_path / kind.replace(" ", "_")
        folder.mkdir()
        try:
            LOADERS[loader](folder, data, sound)
            assert (loader, kind) in TABLES, f"{kind} was taken"
        except RetrodictError:
            assert (loader, kind) not in TABLES
        assert not marker.exists(), kind


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Otherwise the test above could not fail: those that are plain pickles are run here, as pickles."""
    marker = tmp_path / "run"
    files = payloads(marker)
    assert len(files) >= 30
    for kind, data in files.items():
        if kind.startswith("pickle") and kind != "pickle, second":
            pickle.loads(data)
            assert marker.exists(), kind
            marker.unlink()
