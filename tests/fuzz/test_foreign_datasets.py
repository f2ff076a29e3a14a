"""Z3: damaged datasets of others are refused by name, or their values are those of the sound one; never moved.

What no checksum covers can change unseen (a digit in a JSON line, say): there, values may differ, but no action may
move to another step. Where nothing says either which step an action is of (VPT's lines are only counted, the arrays of
plain HDF5 only found by their place), even that cannot be seen; it is counted here, and docs/security.md says so.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_samples import moving, write
from mutants import count, mutant
from test_foreign import v21, v30
from test_formats import recorded, tick
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.importers import Intake, import_data
from retrodict.errors import RetrodictError
from retrodict.rng import numpy_rng

LENGTHS = (12, 9)


def parts() -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames of two episodes, of which no two are alike, and as many actions, of which no two are."""
    return [(moving(n, 32, 64, seed), 100 * seed + np.arange(1, n + 1) / 7) for seed, n in enumerate(LENGTHS)]


def summed(root: Path) -> Path:
    """Gives the Parquet files of a folder the checksums that a page may have."""
    for path in sorted(root.rglob("*.parquet")):
        pq.write_table(pq.read_table(path), path, write_page_checksum=True)
    return root


def npz(root: Path) -> Path:
    root.mkdir()
    for number, (frames, actions) in enumerate(parts()):
        done = np.arange(len(frames)) == len(frames) - 1
        np.savez_compressed(root / f"{number}.npz", obs=frames, ta=actions, done=done)
    return root


def hdf5(root: Path, **options: object) -> Path:
    root.mkdir()
    for number, (frames, actions) in enumerate(parts()):
        with h5py.File(root / f"{number}.h5", "w", libver="latest" if options else None) as file:
            file.create_dataset("e/obs", data=frames, **options)
            file.create_dataset("e/actions", data=actions, **options)
    return root


def vpt(root: Path) -> Path:
    for number, (frames, actions) in enumerate(parts()):
        recorded(root, str(number), [tick(mouse={"dx": float(action)}) for action in actions], frames)
    return root


def labelled(root: Path, suffix: str) -> Path:
    """Two videos, and a file of labels for every step of theirs."""
    root.mkdir()
    rows = []
    for number, (frames, actions) in enumerate(parts()):
        write(root / f"{number}.mp4", frames)
        rows += [{"file": f"{number}.mp4", "frame": t, "turn": turn} for t, turn in enumerate(actions[:-1].tolist())]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), root / "labels.parquet", write_page_checksum=True)
    else:
        lines = ["file,frame,turn", *(f"{row['file']},{row['frame']},{row['turn']!r}" for row in rows)]
        (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


# How to make a dataset of each format, which of its files are damaged, and what speaks against damage: checksums of all
# values, or a number that says to which step each belongs, or nothing.
FORMATS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "lerobot's rows": (lambda root: summed(v30(root)), "*.parquet", "sums"),
    "lerobot's JSON": (lambda root: summed(v30(root)), "*.json", "numbers"),
    "lerobot v2.1": (v21, "*.json*", "numbers"),
    "npz": (npz, "*.npz", "sums"),
    "HDF5 with checksums": (lambda root: hdf5(root, chunks=True, fletcher32=True), "*.h5", "sums"),
    "HDF5": (hdf5, "*.h5", "nothing"),
    "VPT's lines": (vpt, "*.jsonl", "nothing"),
    "labels in Parquet": (lambda root: labelled(root, "parquet"), "labels.*", "sums"),
    "labels in CSV": (lambda root: labelled(root, "csv"), "labels.*", "numbers"),
}


def values(folder: Path, out: Path) -> dict[str, Clip]:
    """The episodes that an import makes of a folder; where the folder does not say the rate, it is 10."""
    rate = 10 if list(folder.rglob("*.npz")) + list(folder.rglob("*.h5")) else None
    labels = next(iter(folder.glob("labels.*")), None)
    store = import_data(folder, out, Intake(fps=rate, labels=labels)).store
    return {id: store.read(id) for id in store.ids}


def equal(one: Clip, other: Clip) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("frames", "actions", "source", "times", "proprio")]
    return all(a is b is None or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def moved(got: Tensor | None, wanted: Tensor | None) -> bool:
    """True when half of the rows or more are those of another place, one and the same number of rows away."""
    if got is None or wanted is None or got.shape[2:] != wanted.shape[2:]:
        return False
    a, b = got[0].flatten(1), wanted[0].flatten(1)
    same = (a[:, None] == b[None]).all(-1)
    beside = [int(same.diagonal(offset).sum()) for offset in range(1 - len(a), len(b)) if offset]
    return max(beside, default=0) > max(len(a) / 2 - 1, int(same.diagonal().sum()))


def fate(got: Clip, wanted: Clip | None) -> str:
    """What became of an episode that was not refused."""
    if wanted is None or equal(got, wanted):
        return "other" if wanted is None else "equal"
    pairs = ((got.actions, wanted.actions), (got.frames, wanted.frames))
    return "moved" if any(moved(*pair) for pair in pairs) else "other"


@pytest.mark.parametrize("name", FORMATS)
def test_no_damage_of_a_foreign_dataset_shifts_an_action(tmp_path: Path, name: str) -> None:
    make, pattern, guard = FORMATS[name]
    folder, outcomes = make(tmp_path / "v"), Counter[str]()
    wanted = values(folder, tmp_path / "out")
    assert len(wanted) == len(LENGTHS)
    shutil.rmtree(tmp_path / "out")
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    for number in range(-(-count(10_000) // len(FORMATS))):
        path = files[int(numpy_rng("file", name, number).integers(len(files)))]
        good = path.read_bytes()
        path.write_bytes(mutant(good, files[0].read_bytes() + b"{}", name, number))
        try:
            got = values(folder, tmp_path / "out")
        except RetrodictError:
            got = {}
        met = {fate(clip, wanted.get(id)) for id, clip in got.items()}
        allowed = {"sums": {"equal"}, "numbers": {"equal", "other"}, "nothing": {"equal", "other", "moved"}}[guard]
        assert met <= allowed, f"mutant {number} of {path.name}: {met}"
        lost = {"refused"} if len(got) < len(wanted) else set()
        outcomes[next(what for what in ("moved", "other", "refused", "equal") if what in met | lost)] += 1
        path.write_bytes(good)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    print(f"{name}: {dict(outcomes)}")
    assert outcomes["refused"] > 0
