"""Commit records: the only thing that says which episodes a dataset has.

`meta/retrodict/commits/N.json` names the episodes of one append, the bytes and SHA-256 of each file that holds them,
the schema and where they come from. It is renamed into place last, so a group of episodes is there whole or not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from retrodict.data.stats import Moments, Stats
from retrodict.errors import Damaged

FOLDER = "meta/retrodict/commits"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One episode of a commit: its id, frames (T), hashes of frames and times and of the rest, and task text."""

    id: str
    length: int
    hash: str
    rest: str
    text: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One append: its number, first row and first episode number, episodes, files and statistics."""

    number: int
    first_episode: int
    first_row: int
    episodes: tuple[Entry, ...]
    files: Mapping[str, Mapping[str, Any]]  # path in the folder -> bytes, sha256
    stats: Stats
    schema: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def frames(self) -> int:
        """Number of frames of all its episodes."""
        return sum(entry.length for entry in self.episodes)

    def to_bytes(self) -> bytes:
        """Returns the record's file, with a SHA-256 of its own content."""
        value: dict[str, Any] = {"format": FORMAT}
        value |= {field.name: getattr(self, field.name) for field in fields(self)}
        value["episodes"] = [asdict(entry) for entry in self.episodes]
        value["stats"] = {name: moments.to_json() for name, moments in self.stats.items()}
        return _line(value | {"sha256": _own_hash(value)})

    @staticmethod
    def from_bytes(data: bytes, file: Path) -> Commit:
        """Reads what `to_bytes` wrote.

        Raises:
            Damaged: the record is not JSON, or not the one that was written.
        """
        try:
            value = json.loads(data)
            written = _line(value)
            told = value.pop("sha256")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Damaged(file, "a commit record", f"{type(error).__name__}: {error}") from error
        if (found := _own_hash(value)) != told or written != data:
            raise Damaged(file, f"a commit record of SHA-256 {str(told)[:12]}…", f"{found[:12]}…, or other spaces")
        if value.pop("format") != FORMAT:
            raise Damaged(file, f"a commit record of format {FORMAT}", "another format; a newer retrodict wrote it")
        value["episodes"] = tuple(Entry(**entry) for entry in value["episodes"])
        value["stats"] = {name: Moments.from_json(moments) for name, moments in value["stats"].items()}
        return Commit(**value)


def _line(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n").encode()  # in C, where indenting is not


def _own_hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def path_of(number: int) -> str:
    """Returns the path of commit record `number` in the dataset's folder."""
    return f"{FOLDER}/{number:06d}.json"


def read_commits(folder: Path, start: int = 0) -> list[Commit]:
    """Reads all commit records from number `start` on, in order.

    Raises:
        Damaged: a record is damaged, or one is missing between others.
    """
    names = sorted((folder / FOLDER).glob("[0-9]*.json"), key=lambda path: int(path.stem))
    commits = []
    for number, path in enumerate(names):
        if number < start:
            continue
        if path.name != Path(path_of(number)).name:
            raise Damaged(folder / path_of(number), "a commit record", f"no file, though {path.name} exists")
        commits.append(Commit.from_bytes(path.read_bytes(), path))
    return commits
