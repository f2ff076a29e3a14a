"""Files that are whole or absent: written aside, synced, renamed into place; and one writer at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrodict.errors import Damaged, Locked, UnusableInput

_verified: set[tuple[str, int, int, int, str]] = set()  # (path, inode, size, mtime, sha256) found good in this process


def sync(path: Path) -> None:
    """Forces a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents, and forces the new names to the disk."""
    missing = [folder, *folder.parents]
    missing = missing[: next((i for i, path in enumerate(missing) if path.is_dir()), len(missing))]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def refuse_place(folder: Path) -> None:
    """Raises UnusableInput where there is no folder of this name that can be written to, and none can be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UnusableInput(f"expected a folder that can be written to; {there} is none. Name another place")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder to fill, which gets its name once all is in it; after an error nothing is left.

    Raises:
        UnusableInput: there is something of that name.
        Locked: another process is filling one of that name.
    """
    if out.exists():
        raise UnusableInput(f"{out} exists already; name a folder that does not")
    partial = out.with_name(out.name + ".partial")
    make_folder(partial)
    handle = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Locked(out, "another") from None
    try:
        for left in partial.iterdir():  # by one that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield partial
        os.rename(partial, out)
    except BaseException:
        shutil.rmtree(partial)
        raise
    finally:
        os.close(handle)
    sync(out.parent)


def place(files: Iterable[tuple[Path, Path]]) -> None:
    """Moves complete files to their final names, replacing what is there; each is synced before, its folder after."""
    files = list(files)
    for staged, _ in files:
        sync(staged)
    for staged, final in files:
        make_folder(final.parent)
        os.replace(staged, final)
    for folder in sorted({final.parent for _, final in files}):
        sync(folder)


def write(path: Path, data: bytes, staging: Path) -> None:
    """Writes a file whole or not at all, by way of the folder `staging` on the same file system."""
    make_folder(staging)
    staged = staging / f"{path.name}.new"
    staged.write_bytes(data)
    place([(staged, path)])


def sync_write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, beside its place, and waits until it is on the disk."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    make_folder(path.parent)
    try:
        staged.write_bytes(data)
        place([(staged, path)])
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def to_json(value: Any) -> bytes:
    """Returns readable JSON with a fixed order of keys as they are given; NaN is an error."""
    return (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """Returns what a commit record says of a file: its bytes and its SHA-256."""
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}


def describe_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the same of every file below a folder, by its path in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): describe_file(path) for path in files}


def damages(folder: Path, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Reads files again and returns what is wrong with each, in words."""
    found = []
    for name, record in records.items():
        try:
            verify_file(folder / name, record, again=True)
        except Damaged as error:
            found.append(str(error))
    return found


def verify_file(path: Path, record: Mapping[str, Any], *, again: bool = False) -> None:
    """Checks a file against its commit record, once per process and state of the file; `again` forces the check.

    Raises:
        Damaged: the file is absent, has another length, or other bytes.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise Damaged(path, f"{record['bytes']} bytes", "no file") from None
    if status.st_size != record["bytes"]:
        raise Damaged(path, f"{record['bytes']} bytes", f"{status.st_size} bytes")
    seen = (str(path.resolve()), status.st_ino, status.st_size, status.st_mtime_ns, str(record["sha256"]))
    if seen in _verified and not again:
        return
    if (found := file_hash(path)) != record["sha256"]:
        _verified.discard(seen)
        raise Damaged(path, f"SHA-256 {record['sha256'][:12]}…", f"{found[:12]}…")
    _verified.add(seen)


def lock_owner(handle: int) -> str:
    """Returns the process that the open file of a lock names; just after it was taken, that may be a dead one's."""
    told = ""
    for _ in range(100):
        told = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        if told.isdigit() and _lives(int(told)):
            break
        time.sleep(0.001)
    return told or "(unknown)"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


class WriterLock:
    """Held by the one process that may write to a folder; the operating system frees it when that process ends."""

    def __init__(self, path: Path, what: Path) -> None:
        make_folder(path.parent)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = lock_owner(self._handle)
            os.close(self._handle)
            raise Locked(what, owner) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets another process write; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
