"""Datasets that other tools wrote: LeRobotDataset v3.0 and v2.1 folders, read where they lie, never written to.

Row t pairs frame t with the action issued there, so T rows have T frames and T - 1 steps; the last action leads to no
frame and is dropped. There are no commit records to verify against, so each episode is checked against the metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import UInt8

from retrodict.clip import Clip
from retrodict.data.durable import damages, file_hash, verify_file
from retrodict.data.foreign_schema import folder_schema, read_export, reading, records_of
from retrodict.data.lerobot import BOUNDS, frames_of
from retrodict.data.schema import Schema, conform, hash_arrays
from retrodict.data.store import SCHEMA_FILE, Store
from retrodict.errors import Damaged, UnknownName, UnusableInput


@dataclass(frozen=True, slots=True)
class _Episode:
    index: int
    length: int
    data: Path
    text: str
    videos: Mapping[str, tuple[Path, float]] = field(default_factory=dict)  # camera -> file, start in seconds


def open_dataset(folder: Path | str) -> Store | ForeignDataset:
    """Opens a dataset for reading, whoever wrote it."""
    return Store.open(folder) if (Path(folder) / SCHEMA_FILE).is_file() else open_foreign(folder)


def open_episode(named: str) -> tuple[Store | ForeignDataset, str]:
    """Opens the dataset of D:EPISODE for reading; returns it and the episode's id (a number may lack its zeros).

    Raises:
        UnusableInput: it is not written so, or there is no such dataset or episode.
    """
    folder, mark, id = named.rpartition(":")
    if not (mark and folder and id):
        raise UnusableInput(f"--from takes a dataset and an episode, as in data/test:000003; got {named!r}")
    source = open_dataset(Path(folder))
    if id not in source.ids and re.fullmatch(r"[0-9]{1,6}", id):
        id = f"{int(id):06d}"
    if id not in source.ids:
        raise UnknownName("episode", id, source.ids)
    return source, id


def open_foreign(folder: Path | str, cameras: Sequence[str] | None = None, *, actions: bool = True) -> ForeignDataset:
    """Opens a LeRobotDataset v3.0 or v2.1 folder; `cameras` chooses among its cameras (all by default).

    An episode whose `action` is null or NaN in every row has no actions. Without `actions`, there need be none at all.

    Raises:
        UnusableInput: the folder is no such dataset, or holds what a dataset of ours cannot.
        Damaged: its metadata cannot be read.
    """
    folder = Path(folder)
    path = folder / "meta/info.json"
    if not path.is_file():
        raise UnusableInput(f"{folder} is no dataset: meta/info.json is not there")
    with reading(path):
        info = json.loads(path.read_bytes())
        version = info["codebase_version"]
        if version not in ("v3.0", "v2.1"):
            raise UnusableInput(f"{path} is of LeRobot {version!r}; this reads v3.0 and v2.1. Convert it with lerobot")
        exported = read_export(folder)
        schema = folder_schema(folder, info, exported, cameras, actions)
    files = records_of(folder, exported)
    for name, record in files.items():
        if name.startswith("meta/"):
            verify_file(folder / name, record)
    with reading(folder / "meta"):
        episodes = (_episodes_v30 if version == "v3.0" else _episodes_v21)(folder, info, schema)
    numbers = [episode.index for episode in episodes]
    if numbers != list(range(len(numbers))) or len(numbers) != info.get("total_episodes", len(numbers)):
        raise Damaged(folder / "meta", f"episodes 0..{info.get('total_episodes')} in order", f"{len(numbers)} others")
    return ForeignDataset(folder, schema, info, episodes, files)


class ForeignDataset:
    """Episodes of another tool's dataset, decoded when read; ids are the episodes' numbers.

    `records` are bytes and SHA-256 of its files, where an export of ours says them; a file is checked before its use.
    """

    def __init__(
        self, folder: Path, schema: Schema, info: Mapping[str, Any], episodes: Sequence[_Episode],
        records: Mapping[str, Mapping[str, Any]],
    ) -> None:  # fmt: skip
        self.folder, self.schema, self.records = folder, schema, records
        self._features = info["features"]
        self._episodes = {f"{episode.index:06d}": episode for episode in episodes}
        self._digest: str | None = None

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of all cameras, also of those that were not chosen."""
        return tuple(name for name, feature in self._features.items() if feature["dtype"] in ("image", "video"))

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique names of the episodes, in order."""
        return tuple(self._episodes)

    @property
    def lengths(self) -> Mapping[str, int]:
        """Number of frames (T) of each episode."""
        return {id: episode.length for id, episode in self._episodes.items()}

    @property
    def digest(self) -> str:
        """SHA-256 of all files of the dataset; the first call reads them all."""
        if self._digest is None:
            names = sorted(p for root in ("meta", "data", "videos") for p in (self.folder / root).rglob("*.*"))
            files = [f"{p.relative_to(self.folder).as_posix()} {file_hash(p)}" for p in names if p.is_file()]
            self._digest = hash_arrays(*files)
        return self._digest

    def hash(self, id: str) -> str:
        """Returns the SHA-256 of one episode's frames and times; reads the episode."""
        clip = self.read(id)
        return hash_arrays(clip.frames, clip.times)

    def read(self, id: str, *, frames: bool = True) -> Clip:
        """Returns one episode as a Clip of one row; every action counts as recorded, unless a column of ours differs.

        Raises:
            UnknownName: no such episode.
            Damaged: the files disagree with the metadata.
            Undecodable: a video cannot be decoded to exactly the frames that the metadata announces.
        """
        if id not in self._episodes:
            raise UnknownName("episode", id, self._episodes)
        episode = self._episodes[id]
        images = frames and bool(self.schema.cameras) and not self.schema.video
        self._verify(episode.data)
        with reading(episode.data):
            table = self._rows(episode, images)
            clip = self._clip(episode, table)
        if images:
            clip = clip.with_(frames=frames_of(table, self.schema, f"{episode.data}, episode {id}"))
        elif frames and self.schema.cameras:
            clip = clip.with_(frames=torch.cat(list(self._footage(episode, episode.length)), 1))
        wanted = self.schema if frames else _without_cameras(self.schema)
        return conform(clip, wanted, f"{self.folder}, episode {id}")

    def stream(self, id: str, frames: int = 64) -> Iterator[UInt8[torch.Tensor, "1 n c h w"]]:
        """Yields the frames of one episode in order, `frames` at a time; raises as `read` does."""
        if self.schema.video:
            self.read(id, frames=False)  # checks the episode's rows
            yield from self._footage(self._episodes[id], frames)
        elif self.schema.cameras:
            whole = self.read(id).frames
            assert whole is not None  # there are cameras
            yield from torch.split(whole, frames, dim=1)

    def videos(self, id: str) -> Sequence[tuple[Path, float]]:
        """Returns the video file of each camera and where the episode begins in it, in seconds; none of images."""
        return [self._episodes[id].videos[name] for name in self.schema.cameras] if self.schema.video else []

    def damages(self) -> list[str]:
        """Reads every file with a record again and returns what is wrong with each, in words."""
        return damages(self.folder, self.records)

    def files(self, id: str) -> tuple[Path, list[tuple[Path, float]]]:
        """Returns an episode's data file, and its video files with the seconds at which it starts there."""
        return self._episodes[id].data, list(self.videos(id))

    def _verify(self, path: Path) -> None:
        name = path.relative_to(self.folder).as_posix()
        if name in self.records:
            verify_file(path, self.records[name])

    def _rows(self, episode: _Episode, images: bool) -> pa.Table:
        columns = [n for n, f in self._features.items() if f["dtype"] not in ("video", "image", "string")]
        columns += [name for name in self.schema.cameras if images]
        table = pq.read_table(
            episode.data, columns=columns, filters=[("episode_index", "=", episode.index)],
            page_checksum_verification=True, use_threads=False, partitioning=None,
        )  # fmt: skip
        if table.num_rows != episode.length:
            raise Damaged(episode.data, f"{episode.length} rows of episode {episode.index}", f"{table.num_rows} rows")
        for name in columns:
            if table[name].null_count and not (name == "action" and table[name].null_count == table.num_rows):
                raise Damaged(episode.data, f"{name} in every row of episode {episode.index}", "empty rows")
        number = table["frame_index"].to_numpy()
        if not np.array_equal(number, np.arange(episode.length)):
            raise Damaged(episode.data, f"frames 0..{episode.length - 1} of episode {episode.index} in order", "others")
        return table

    def _clip(self, episode: _Episode, table: pa.Table) -> Clip:
        def values(name: str, width: int = 1) -> npt.NDArray[Any]:
            return _vectors(table, name, width, episode.data)

        def steps(name: str, dtype: torch.dtype) -> torch.Tensor | None:
            if name not in table.column_names:
                return None
            return torch.from_numpy(values(name)[:-1, 0].copy()).to(dtype)[None]

        def wide(name: str) -> torch.Tensor:
            return torch.from_numpy(values(name, self.schema.space.width)[:-1].astype(np.float32))[None]

        told = "action" in table.column_names and table["action"].null_count == 0
        action = wide("action") if told else None
        if action is not None and bool(action.isnan().all()):
            action = None
        state = values("observation.state", len(self.schema.proprio)) if self.schema.proprio else None
        return Clip(
            actions=action,
            source=steps("retrodict.source", torch.uint8),
            confidence=steps("retrodict.confidence", torch.float32),
            bounds=torch.stack([wide(name) for name in BOUNDS], 2) if self.schema.bounds else None,
            rewards=steps("next.reward", torch.float32) if self.schema.rewards else None,
            ends=steps("next.done", torch.float32) if self.schema.rewards else None,
            times=self._times(table),
            text=(episode.text,),
            proprio=None if state is None else torch.from_numpy(state.astype(np.float32))[None],
        )

    def _times(self, table: pa.Table) -> torch.Tensor:
        name = "retrodict.time" if "retrodict.time" in table.column_names else "timestamp"
        told = table[name].to_numpy().astype(np.float64)
        grid = np.arange(len(told)) / self.schema.fps
        span, announced = float(told[-1] - told[0]), float(grid[-1])
        if not abs(span - announced) <= max(1 / self.schema.fps, 0.01 * announced):
            raise Damaged(
                self.folder / "meta/info.json", f"{announced:g} s at {self.schema.fps} frames/s", f"{span:g} s"
            )
        near = np.abs(told - told[0] - grid).max() < 1e-3  # float32 rounds a time by up to this much
        return torch.from_numpy(grid if near else told - told[0])[None]

    def _footage(self, episode: _Episode, frames: int) -> Iterator[torch.Tensor]:
        from retrodict.data import footage

        places = [episode.videos[name] for name in self.schema.cameras]
        paths, starts = [path for path, _ in places], [start for _, start in places]
        for path in paths:
            self._verify(path)
        return footage.stream(paths, episode.length, self.schema, frames, starts)


def _without_cameras(schema: Schema) -> Schema:
    return replace(schema, cameras={}, video=False)


def _vectors(table: pa.Table, name: str, width: int, file: Path) -> npt.NDArray[Any]:
    """Returns a column as (rows, width), whether it holds numbers or lists, and lists of the right length only."""
    column = table[name].combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        if set(column.value_lengths().to_pylist()) - {width}:
            raise Damaged(file, f"{name} of {width} numbers in every row", "rows of other lengths")
        column = column.flatten()
    if column.null_count:
        raise Damaged(file, f"{name} in every row", "empty values")
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(table.num_rows, width)


def _inside(folder: Path, pattern: str, **values: Any) -> Path:
    """Returns the path that a pattern of info.json makes, provided that it stays in the folder."""
    path = folder / pattern.format(**values)
    if folder.resolve() not in path.resolve().parents:
        raise UnusableInput(f"{folder}/meta/info.json names {path}, outside of the dataset")
    return path


def _episodes_v30(folder: Path, info: Mapping[str, Any], schema: Schema) -> list[_Episode]:
    rows = [row for path in _parquet(folder / "meta/episodes") for row in _metadata(path)]
    result = []
    for row in rows:
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        videos = {}
        for camera in schema.cameras if schema.video else ():
            numbers = {name: row[f"videos/{camera}/{name}"] for name in ("chunk_index", "file_index")}
            path = _inside(folder, info["video_path"], video_key=camera, **numbers)
            videos[camera] = (path, float(row[f"videos/{camera}/from_timestamp"]))
        data = _inside(folder, info["data_path"], **place)
        text = row["tasks"][0] if row["tasks"] else ""
        result.append(_Episode(row["episode_index"], row["length"], data, text, videos))
    return result


def _parquet(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def _metadata(path: Path) -> list[dict[str, Any]]:
    with reading(path):
        names = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
        table = pq.read_table(path, columns=names, partitioning=None, page_checksum_verification=True)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _episodes_v21(folder: Path, info: Mapping[str, Any], schema: Schema) -> list[_Episode]:
    result = []
    lines = (folder / "meta/episodes.jsonl").read_text("utf-8").splitlines()
    for row in (json.loads(line) for line in lines if line.strip()):
        number = row["episode_index"]
        place = {"episode_chunk": number // info["chunks_size"], "episode_index": number}
        videos = {
            camera: (_inside(folder, info["video_path"], video_key=camera, **place), 0.0)
            for camera in (schema.cameras if schema.video else ())
        }
        data = _inside(folder, info["data_path"], **place)
        text = row["tasks"][0] if row["tasks"] else ""
        result.append(_Episode(number, row["length"], data, text, videos))
    return result
