"""Store: a dataset on disk, a LeRobotDataset v3.0 folder in which committed means kept, and never half.

Layout beside LeRobot's own: `meta/retrodict/schema.json`, `meta/retrodict/commits/N.json`, `meta/retrodict/lock`,
and `meta/retrodict/staging` while an append is under way. Readers believe only the commit records.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow.parquet as pq
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data import lerobot
from retrodict.data.commits import Commit, Entry, path_of, read_commits
from retrodict.data.durable import WriterLock, damages, make_folder, place, sync, to_json, verify_file, write
from retrodict.data.schema import Schema, conform, digest_of, hash_arrays, hash_rest, new_ids
from retrodict.data.staging import Group, Totals, conform_schema, derived
from retrodict.errors import Damaged, UnknownName, UnusableInput

SCHEMA_FILE = "meta/retrodict/schema.json"
LOCK_FILE = "meta/retrodict/lock"
STAGING = "meta/retrodict/staging"
READ_BYTES = 4 << 30  # an episode larger than this is streamed, not read whole
_FILE = re.compile(r"(?:.*/)?chunk-(\d{3,})/file-(\d{3,})\.(?:parquet|mp4)")


class Store:
    """A dataset on disk. Make one with `Store.create`, open one with `Store.open`; a context manager.

    Reading needs no lock and never writes. Writing holds an operating-system lock until `close`.
    """

    def __init__(self, folder: Path, schema: Schema, commits: Sequence[Commit], lock: WriterLock | None) -> None:
        self.folder, self.schema = folder, schema
        self._lock = lock
        self._file: tuple[Path, pq.ParquetFile] | None = None  # the data file read last, kept open
        self._take(commits)

    @classmethod
    def open_or_create(
        cls, folder: Path | str, schema: Schema, made: Mapping[str, Any] | None = None,
        refusal: str = "holds a dataset of another schema, or one that was made otherwise; name another folder",
    ) -> Store:  # fmt: skip
        """Opens a dataset for writing, or makes it; `made` is what the provenance of all its commits has to say.

        Raises:
            UnusableInput: it has another schema, or was made otherwise, which `refusal` says. Also as `open` and
                `create` do.
        """
        if not (Path(folder) / SCHEMA_FILE).is_file():  # a kill may have come between the folder and this file
            return cls.create(folder, schema)
        store, wanted = cls.open(folder, write=True), dict(made or {})
        found = [{key: commit.provenance.get(key) for key in wanted} for commit in store.commits]
        others = [told for told in found if told != wanted]
        if store.schema != schema or others:
            store.close()
            was = [f"{key} {value!r}" for told in others[:1] for key, value in told.items() if value != wanted[key]]
            raise UnusableInput(f"{folder} {refusal}" + (f". It was made with {', '.join(was)}" if was else ""))
        return store

    @classmethod
    def create(cls, folder: Path | str, schema: Schema) -> Store:
        """Makes an empty dataset and opens it for writing.

        Raises:
            UnusableInput: the folder holds files already.
            Locked: another process is making a dataset there.
        """
        folder = Path(folder)
        _refuse_files(folder)  # before the lock, which is a file itself
        lock = WriterLock(folder / LOCK_FILE, folder)
        try:
            _refuse_files(folder)  # of one that held the lock until now
        except UnusableInput:
            lock.release()
            raise
        make_folder(folder / Path(path_of(0)).parent)
        write(folder / SCHEMA_FILE, to_json(schema.to_json()), folder / STAGING)
        return cls(folder, schema, [], lock)

    @classmethod
    def open(cls, folder: Path | str, *, write: bool = False) -> Store:
        """Opens a dataset; for writing, it also sweeps what an interrupted append left and repairs LeRobot's metadata.

        Raises:
            UnusableInput: the folder is no dataset of ours.
            Locked: another process writes to it (only when `write`).
            Damaged: a record is damaged or missing.
        """
        folder = Path(folder)
        if not (folder / SCHEMA_FILE).is_file():
            raise UnusableInput(
                f"{folder} is no retrodict dataset ({SCHEMA_FILE} is not there). "
                "Read a dataset of another tool with retrodict.data.foreign.open_foreign"
            )
        lock = WriterLock(folder / LOCK_FILE, folder) if write else None
        try:
            store = cls(folder, _read_schema(folder / SCHEMA_FILE), read_commits(folder), lock)
            if write:
                store._repair()
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the lock and the open files; a second call does nothing."""
        self._file = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique names of the episodes, in the order of their commit."""
        return tuple(self._entries)

    @property
    def lengths(self) -> Mapping[str, int]:
        """Number of frames (T) of each episode."""
        return {id: entry.length for id, (_, _, entry) in self._entries.items()}

    @property
    def digest(self) -> str:
        """SHA-256 of all committed content, from the commit records alone."""
        entries = (entry for _, _, entry in self._entries.values())
        return digest_of(self.schema, ((entry.id, entry.hash, entry.rest) for entry in entries))

    @property
    def commits(self) -> tuple[Commit, ...]:
        """The commit records, in order."""
        return tuple(self._commits)

    def hash(self, id: str) -> str:
        """Returns the SHA-256 of one episode's frames (of its video files where frames are video) and times."""
        return self._entry(id)[2].hash

    def read(self, id: str, *, frames: bool = True) -> Clip:
        """Returns one episode as a Clip of one row, from verified files.

        Raises:
            UnknownName: no such episode.
            Damaged: the stored bytes are not the ones that were committed.
            UnusableInput: the frames are too many to hold at once; use `stream`.
        """
        commit, position, entry = self._entry(id)
        size = entry.length * self.schema.channels * self.schema.size[0] * self.schema.size[1]
        if frames and size > READ_BYTES:
            raise UnusableInput(f"episode {id!r} takes {size} bytes, more than {READ_BYTES}; read it with stream()")
        table = self._rows(commit, position, frames and not self.schema.video)
        clip = lerobot.clip_of(table, self.schema, entry.text)
        if clip.length != entry.length or hash_rest(clip) != entry.rest:
            raise Damaged(self._data_file(commit), f"the actions of episode {id!r}", "other values")
        if not frames or not self.schema.cameras:
            return clip
        if self.schema.video:
            from retrodict.data import footage

            return clip.with_(frames=footage.read(self._videos(id), entry.length, self.schema))
        clip = clip.with_(frames=lerobot.frames_of(table, self.schema, f"{self._data_file(commit)}, episode {id!r}"))
        if hash_arrays(clip.frames, clip.times) != entry.hash:
            raise Damaged(self._data_file(commit), f"the frames of episode {id!r}", "other pixels")
        return clip

    def stream(self, id: str, frames: int = 64) -> Iterator[UInt8[Tensor, "1 n c h w"]]:
        """Yields the frames of one episode in order, `frames` at a time, in bounded memory where they are video."""
        if not self.schema.video:
            whole = self.read(id).frames
            if whole is not None:
                yield from torch.split(whole, frames, dim=1)
            return
        from retrodict.data import footage

        yield from footage.stream(self._videos(id), self._entry(id)[2].length, self.schema, frames)

    def videos(self, id: str) -> Sequence[tuple[Path, float]]:
        """Returns the verified video file of each camera and 0.0, where the episode begins in it; none of images."""
        return [(path, 0.0) for path in self._videos(id)] if self.schema.video else []

    def append(
        self,
        clips: Sequence[Clip],
        provenance: Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
        videos: Sequence[Mapping[str, Path]] | None = None,
    ) -> tuple[str, ...]:
        """Commits episodes, all or none, and returns their ids; they survive a crash once this returns.

        `videos` names each episode's mp4 file by camera, in place of frames in the clips; they are linked, not
        copied, where the file system can. `provenance` (plain JSON) is kept in the commit record.

        Raises:
            UnusableInput: an episode does not fit the schema, or an id is taken; nothing is added.
            Undecodable: a video file cannot be decoded to exactly the frames and times of its clip.
        """
        if self._lock is None:
            raise UnusableInput(f"{self.folder} is open for reading; open it with write=True")
        if videos is not None and (not self.schema.video or len(videos) != len(clips)):
            raise UnusableInput("video files are given one mapping per episode, to a dataset that stores video")
        names = new_ids(ids, len(clips), self._entries)
        wanted = conform_schema(self.schema, videos is not None)
        full = [conform(clip, wanted, name) for clip, name in zip(clips, names, strict=True)]
        record = json.loads(to_json(dict(provenance or {})))
        if not full:
            return ()
        staging = self.folder / STAGING
        try:
            group = Group(staging, self.schema, self._totals)
            group.write(names, full, videos)
            self._commit(group, group.commit(record))
        except BaseException:
            self._take(read_commits(self.folder))  # what the disk says, whichever call failed
            self._repair()
            raise
        shutil.rmtree(staging)
        return names

    def _commit(self, group: Group, commit: Commit) -> None:
        """Moves a group's files into place, then LeRobot's metadata, then the record that makes them count."""
        files = [name for name in group.files if not name.startswith("meta/")]
        place((group.staging / name, self.folder / name) for name in files)
        totals = self._totals.plus(commit)
        metadata = derived(self.schema, totals)
        tasks = [entry for entry in metadata if len(totals.tasks) > len(self._totals.tasks) or "tasks" not in entry[0]]
        for name, data in tasks[:-2]:
            write(self.folder / name, data, group.staging)
        place((group.staging / name, self.folder / name) for name in group.files if name.startswith("meta/"))
        for name, data in tasks[-2:]:
            write(self.folder / name, data, group.staging)
        write(self.folder / path_of(commit.number), commit.to_bytes(), group.staging)
        self._add(commit)

    def damages(self) -> list[str]:
        """Reads every committed file again and returns what is wrong with each, in words."""
        return [line for commit in self._commits for line in damages(self.folder, commit.files)]

    def _take(self, commits: Sequence[Commit]) -> None:
        self._commits: list[Commit] = []
        self._entries: dict[str, tuple[Commit, int, Entry]] = {}
        self._totals = Totals()
        for commit in commits:
            self._add(commit)

    def _add(self, commit: Commit) -> None:
        totals = self._totals
        if (commit.first_episode, commit.first_row) != (totals.episodes, totals.rows):
            raise Damaged(
                self.folder / path_of(commit.number),
                f"episodes from {totals.episodes} and rows from {totals.rows}",
                f"{commit.first_episode} and {commit.first_row}",
            )
        if commit.schema != self.schema.to_json():
            raise Damaged(self.folder / SCHEMA_FILE, f"the schema of commit {commit.number}", "another schema")
        self._commits.append(commit)
        for position, entry in enumerate(commit.episodes):
            self._entries[entry.id] = (commit, position, entry)
        self._totals = totals.plus(commit)

    def _repair(self) -> None:
        """Removes what an interrupted append left, and writes LeRobot's metadata anew where it differs."""
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)
        committed = {name for commit in self._commits for name in commit.files}
        for root in ("data", "videos", "meta/episodes"):
            for path in sorted((self.folder / root).rglob("*")):
                name = path.relative_to(self.folder).as_posix()
                if path.is_file() and name not in committed and _FILE.fullmatch(name):
                    path.unlink()
                    sync(path.parent)
        wanted = dict(derived(self.schema, self._totals))
        for name in ("meta/tasks.parquet", "meta/stats.json", "meta/info.json"):
            path = self.folder / name
            if name not in wanted:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.read_bytes() != wanted[name]:
                write(path, wanted[name], self.folder / STAGING)
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)

    def _entry(self, id: str) -> tuple[Commit, int, Entry]:
        if id not in self._entries:
            raise UnknownName("episode", id, self._entries)
        return self._entries[id]

    def _data_file(self, commit: Commit) -> Path:
        return self.folder / lerobot.numbered(lerobot.DATA_PATH, commit.number)

    def _rows(self, commit: Commit, position: int, images: bool) -> Any:
        path = self._data_file(commit)
        verify_file(path, commit.files[path.relative_to(self.folder).as_posix()])
        if self._file is None or self._file[0] != path:
            self._file = (path, pq.ParquetFile(path))
        names = lerobot.arrow_schema(self.schema).names
        if not images:
            names = [name for name in names if name not in self.schema.cameras]
        return self._file[1].read_row_group(position, columns=names, use_threads=False)

    def files(self, id: str) -> tuple[Path, list[tuple[Path, float]]]:
        """Returns an episode's data file, and its verified video files with the seconds at which it starts there."""
        return self._data_file(self._entry(id)[0]), [(path, 0.0) for path in self._videos(id)]

    def _videos(self, id: str) -> list[Path]:
        """Returns an episode's verified video files, in the order of cameras."""
        if not self.schema.video:
            return []
        commit, position, _ = self._entry(id)
        paths = []
        for camera in self.schema.cameras:
            name = lerobot.numbered(lerobot.VIDEO_PATH, commit.first_episode + position, video_key=camera)
            verify_file(self.folder / name, commit.files[name])
            paths.append(self.folder / name)
        return paths


def _refuse_files(folder: Path) -> None:
    left = {folder / LOCK_FILE}  # by a process that died while it made the dataset, as is what lies in STAGING
    if any(p.is_file() and p not in left and folder / STAGING not in p.parents for p in folder.rglob("*")):
        raise UnusableInput(f"{folder} holds files already; name a folder that does not exist, or open it")


def _read_schema(path: Path) -> Schema:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise Damaged(path, "JSON", str(error)) from error
    try:
        return Schema.from_json(value)
    except (UnusableInput, TypeError, KeyError, ValueError, AttributeError) as error:
        raise Damaged(path, "a schema", str(error)) from error
