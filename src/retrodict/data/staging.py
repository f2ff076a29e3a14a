"""One append, up to its commit record: the files of a group of episodes, and the metadata derived from commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from retrodict.clip import Clip
from retrodict.data import lerobot
from retrodict.data.commits import Commit, Entry
from retrodict.data.durable import describe_file, to_json
from retrodict.data.schema import Schema, hash_arrays, hash_rest
from retrodict.data.stats import Moments, Stats, merge_stats

if TYPE_CHECKING:
    from retrodict.data.footage import Place


@dataclass
class Totals:
    """What all commits of a dataset add up to; appending needs no more of the past than this."""

    commits: int = 0
    episodes: int = 0
    rows: int = 0
    tasks: dict[str, int] = field(default_factory=dict)  # text -> task_index
    stats: Stats = field(default_factory=dict)

    def plus(self, commit: Commit) -> Totals:
        """Returns the totals with one more commit."""
        tasks = dict(self.tasks)
        for entry in commit.episodes:
            tasks.setdefault(entry.text, len(tasks))
        return Totals(
            self.commits + 1,
            self.episodes + len(commit.episodes),
            self.rows + commit.frames,
            tasks,
            merge_stats(self.stats, commit.stats),
        )


def derived(schema: Schema, totals: Totals) -> list[tuple[str, bytes]]:
    """Returns LeRobot's own metadata in the order in which to replace it: tasks, stats, info.json last."""
    if not totals.episodes:
        return []
    stats = {name: moments.published() for name, moments in totals.stats.items()}
    facts = lerobot.info(schema, totals.episodes, totals.rows, len(totals.tasks))
    return [
        ("meta/tasks.parquet", lerobot.parquet_bytes(lerobot.tasks_table(list(totals.tasks)))),
        ("meta/stats.json", to_json(stats)),
        ("meta/info.json", to_json(facts)),
    ]


class Group:
    """The files of one append, being written under `staging` with the paths that they will have in the dataset.

    With `last_rows`, an episode of T frames has T rows, the last without an action; else T - 1.
    """

    def __init__(self, staging: Path, schema: Schema, totals: Totals, *, last_rows: bool = True) -> None:
        self.staging, self.schema, self.totals, self.last_rows = staging, schema, totals, last_rows
        self.files: list[str] = []
        self.stats: Stats = {}
        self._tasks = dict(totals.tasks)
        self._rows: list[dict[str, Any]] = []
        self._row_stats: list[Stats] = []
        self._entries: list[Entry] = []
        self._next_row = totals.rows

    def write(
        self, ids: Sequence[str], clips: Sequence[Clip], videos: Sequence[Mapping[str, Path | Place]] | None
    ) -> Sequence[Entry]:
        """Writes data, videos and the episodes' metadata; returns the entries of the commit record.

        `clips` are conformed; with `videos`, the frames of each are in the video files named there by camera: a path
        is linked as the episode's own file, a place lies in a file that the dataset has already.
        """
        data = lerobot.numbered(lerobot.DATA_PATH, self.totals.commits)
        tables = []
        for i, (id, clip) in enumerate(zip(ids, clips, strict=True)):
            tables.append(self._episode(id, clip, None if videos is None else videos[i]))
        lerobot.write_parquet(self.staging / data, tables)
        episodes = lerobot.numbered(lerobot.EPISODES_PATH, self.totals.commits)
        lerobot.write_parquet(self.staging / episodes, [lerobot.episodes_table(self._rows, self._row_stats)])
        self.files = [data, *self.files, episodes]
        return self._entries

    def commit(self, provenance: Mapping[str, Any]) -> Commit:
        """Returns the commit record of what was written."""
        return Commit(
            number=self.totals.commits,
            first_episode=self.totals.episodes,
            first_row=self.totals.rows,
            episodes=tuple(self._entries),
            files={name: describe_file(self.staging / name) for name in self.files},
            stats=self.stats,
            schema=self.schema.to_json(),
            provenance=provenance,
        )

    def _episode(self, id: str, clip: Clip, videos: Mapping[str, Path | Place] | None) -> Any:
        number = self.totals.episodes + len(self._entries)
        assert clip.text is not None  # conformed
        text = clip.text[0]
        task = self._tasks.setdefault(text, len(self._tasks))
        columns = lerobot.columns_of(clip, self.schema, number, self._next_row, task)
        frames, length = clip.frames, clip.length
        if not self.last_rows:
            columns = {name: values[:-1] for name, values in columns.items()}
            frames, length = None if frames is None else frames[:, :-1], length - 1
        stats = lerobot.stats_of(columns)
        row = self._row(number, length, text)
        if self.schema.video:
            hashes, camera_stats = self._footage(number, frames, length, videos, row)
            content = hash_arrays(*hashes, clip.times)
        else:
            content = hash_arrays(frames, clip.times)
            cameras = {name: lerobot.camera_frames(frames, self.schema, name) for name in self.schema.cameras}
            camera_stats = {name: Moments.of_frames(pixels) for name, pixels in cameras.items()}
        stats |= camera_stats
        self._rows.append(row)
        self._row_stats.append(stats)
        self.stats = merge_stats(self.stats, stats)
        self._entries.append(Entry(id, length, content, hash_rest(clip), text))
        self._next_row += length
        return lerobot.table_of(columns, frames, self.schema)

    def _row(self, number: int, length: int, text: str) -> dict[str, Any]:
        place = {"chunk_index": self.totals.commits // lerobot.CHUNK, "file_index": self.totals.commits % lerobot.CHUNK}
        return {
            "episode_index": number,
            "tasks": [text],
            "length": length,
            "dataset_from_index": self._next_row,
            "dataset_to_index": self._next_row + length,
            **{f"data/{name}": value for name, value in place.items()},
            **{f"meta/episodes/{name}": value for name, value in place.items()},
        }

    def _footage(
        self,
        number: int,
        frames: Tensor | None,
        length: int,
        videos: Mapping[str, Path | Place] | None,
        row: dict[str, Any],
    ) -> tuple[list[str], Stats]:
        """Writes or links one mp4 per camera; returns the files' hashes and the statistics of the decoded frames."""
        from retrodict.data import footage

        hashes, stats = [], {}
        for camera in self.schema.cameras:
            given = None if videos is None else videos[camera]
            if isinstance(given, footage.Place):
                place = given
                stats[camera] = footage.statistics(place.path, length, self.schema, place.start)
                hashes.append(f"{place.number} {place.start}")
            else:
                name = lerobot.numbered(lerobot.VIDEO_PATH, number, video_key=camera)
                place = footage.Place(self.staging / name, number)
                place.path.parent.mkdir(parents=True, exist_ok=True)
                if given is None:
                    footage.encode(place.path, lerobot.camera_frames(frames, self.schema, camera), self.schema.fps)
                else:
                    footage.link(given, place.path)
                stats[camera] = footage.examine(place.path, length, self.schema, given or place.path)
                hashes.append(describe_file(place.path)["sha256"])
                self.files.append(name)
            row |= {
                f"videos/{camera}/chunk_index": place.number // lerobot.CHUNK,
                f"videos/{camera}/file_index": place.number % lerobot.CHUNK,
                f"videos/{camera}/from_timestamp": place.start,
                f"videos/{camera}/to_timestamp": place.start + length / self.schema.fps,
            }
        return hashes, stats


def conform_schema(schema: Schema, frames_elsewhere: bool) -> Schema:
    """Returns the schema to conform clips to: without cameras when their frames come as video files."""
    return replace(schema, cameras={}, video=False) if frames_elsewhere else schema
