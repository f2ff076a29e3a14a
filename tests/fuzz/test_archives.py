"""Z5: the one kind of archive that is read, npz: members are read into memory by name, and none is ever written.

Links, devices and folders of archives do not apply, as nothing is unpacked; tar and other archives are not read at all.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict.data import arrays
from retrodict.data.arrays import read_npz
from retrodict.data.importers import Intake, import_data
from retrodict.errors import UnusableInput

FRAMES, ACTIONS = np.arange(6 * 8 * 8 * 3, dtype=np.uint8).reshape(6, 8, 8, 3), np.arange(6) % 3
MEMBERS = {"obs": FRAMES, "ta": ACTIONS, "done": np.zeros(6, bool)}
STRANGE = (
    "/abs.npy", "//abs.npy", "../up.npy", "../../up.npy", "a/../../up.npy", "./here.npy", "..", ".", "/", "a/",
    "a//b", "../v-evil/x.npy", "../v.npy", "C:/x.npy", "C:x.npy", "C:\\x.npy", "\\x.npy", "..\\up.npy",
    "a\\..\\..\\up.npy", "\\\\host\\share\\x.npy", "/dev/null", "/dev/zero", "/proc/self/mem", "CON", "NUL.npy",
    "COM1", "AUX.npy", "x:stream", "OBS.npy", "Obs.npy", "obs", "obs.NPY", "obs.npy/", "obs.npy ", " obs.npy",
    "obs.npy.npy", "\u202eobs.npy", "o\u0308bs.npy", "obs.pkl", "data.pkl", "~/.bashrc", "$HOME/x", "%2e%2e/x",
    "a" * 300 + ".npy", "x\ny.npy", "x\x1b[2J.npy",
)  # fmt: skip


def member(values: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, values)
    return data.getvalue()


def archive(path: Path, more: dict[str, bytes] | None = None) -> None:
    """An npz file of a sound chunk, with other members before and after."""
    extra, sound = list((more or {}).items()), [(f"{name}.npy", member(values)) for name, values in MEMBERS.items()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in [*extra[::2], *sound, *extra[1::2]]:
            file.writestr(name, data)


def inside(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", STRANGE)
def test_members_of_strange_names_are_neither_read_nor_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "deep/er/v/a.npz"
    path.parent.mkdir(parents=True)
    archive(path, {name: member(FRAMES + 1), f"x{name}": b"x"})
    before = inside(tmp_path)
    (episode,) = read_npz(path, "a.npz")
    assert torch.equal(episode.frames()[0].permute(0, 2, 3, 1), torch.from_numpy(FRAMES))
    assert episode.actions.tolist() == ACTIONS[:-1].tolist()
    assert inside(tmp_path) == before


def link(path: Path) -> None:
    archive(path)
    entry = zipfile.ZipInfo("obs.npy")
    entry.external_attr = 0o120777 << 16  # a symbolic link, as Unix says it
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(entry, "/etc/passwd")
        for name in ("ta", "done"):
            file.writestr(f"{name}.npy", member(MEMBERS[name]))


def bomb(path: Path) -> None:
    """A gigabyte and more of zeros in a megabyte, in obs itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("obs.npy", "w", force_zip64=True) as out:
            out.write(member(np.zeros((0, 8, 8, 3), np.uint8)))
            for _ in range((arrays.READ_BYTES >> 24) + 1):
                out.write(bytes(1 << 24))
        for name in ("ta", "done"):
            file.writestr(f"{name}.npy", member(MEMBERS[name]))


def told_smaller(path: Path) -> None:
    """Says in both headers that obs is a tenth of what it unpacks to."""
    archive(path)
    data, size = bytearray(path.read_bytes()), len(member(FRAMES))
    for at in range(len(data) - 4):
        if data[at : at + 4] == struct.pack("<I", size):
            data[at : at + 4] = struct.pack("<I", size // 10)
    path.write_bytes(data)


def encrypted(path: Path) -> None:
    archive(path)
    data = bytearray(path.read_bytes())
    for mark, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(mark)
        data[at + flag] |= 1
    path.write_bytes(data)


def overlapping(path: Path) -> None:
    """Two names of the directory that point to one and the same data."""
    archive(path)
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)


def taped(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        entry = tarfile.TarInfo("../obs.npy")
        entry.size = len(member(FRAMES))
        file.addfile(entry, io.BytesIO(member(FRAMES)))


def nested(path: Path) -> None:
    inner = io.BytesIO()
    np.savez(inner, **MEMBERS)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("obs.npz", inner.getvalue())


@pytest.mark.parametrize("make", [link, bomb, told_smaller, encrypted, overlapping, taped, nested])
def test_hostile_archives_are_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(arrays, "READ_BYTES", 64 << 20)
    folder = tmp_path / "deep/v"
    folder.mkdir(parents=True)
    archive(folder / "good.npz")
    make(folder / "bad.npz")
    assert (folder / "bad.npz").stat().st_size < 1 << 20
    before = inside(tmp_path)
    with pytest.raises(UnusableInput, match=r"bad\.npz"):
        read_npz(folder / "bad.npz", "bad.npz")
    assert inside(tmp_path) == before
    done = import_data(folder, tmp_path / "D", Intake(fps=10))
    assert [fate.file for fate in done.fates if fate.what == "refused"] == ["bad.npz"]
    assert len(done.store.ids) == 1


def test_very_many_members_cost_no_more_than_their_names(tmp_path: Path) -> None:
    archive(tmp_path / "a.npz", {f"{number}.npy": b"" for number in range(4_000)})
    assert len(read_npz(tmp_path / "a.npz", "a.npz")) == 1
