"""LeRobotDataset v3.0 as an export: video stays where it is, whenever LeRobot can be pointed at it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrodict.clip import Clip
from retrodict.data import lerobot
from retrodict.data.durable import make_folder, place, sync
from retrodict.data.footage import Place, link
from retrodict.data.guarded import GRID, decoder
from retrodict.data.schema import Episodes
from retrodict.data.spans import Span, encode, store
from retrodict.data.staging import Group, Totals, derived

LONGEST = 1000.0  # seconds; past 1024 s into a file LeRobot compares times as float32 more coarsely than its tolerance
_GROUP, _GROUP_BYTES = 64, 256 << 20  # at most so many episodes to a data file, and so many bytes of images


class LeRobot:
    """Writes LeRobotDataset v3.0. Video is not encoded again where LeRobot can be pointed into the source's file."""

    def __init__(self, folder: Path, source: Episodes, keep_all: bool) -> None:
        self.folder, self.source, self.last_rows = folder, source, keep_all
        self.holds, self.rows, self.steps, self.encoded = not source.schema.video, 0, 0, 0
        self._totals, self._count = Totals(), 0
        self._waiting: list[tuple[str, Clip, dict[str, Place]]] = []
        self._numbers: dict[str, dict[str, int]] = {camera: {} for camera in source.schema.cameras}
        self._looks: dict[str, tuple[Path, npt.NDArray[np.float64]]] = {}  # per camera: the file looked at last

    def add(self, id: str, spans: Sequence[Span]) -> None:
        """Links or encodes the spans' frames where they are video; writes data files as they fill."""
        rows = [(span.first, span.stop + self.last_rows) for span in spans]
        places = [{} if self.holds else self._linked(id, *row) for row in rows]
        anew = [number for number, found in enumerate(places) if not found and not self.holds]
        for number in anew:
            self.encoded += 1
            places[number] = {c: self._place(c, f"encoded {self.encoded}") for c in self._numbers}
        encode([{c: at.path for c, at in places[n].items()} for n in anew], self.source, id, [rows[n] for n in anew])
        for span, found in zip(spans, places, strict=True):
            self._waiting.append((f"{self._count:06d}", span.clip, found))
            self._count += 1
        while len(self._waiting) >= _GROUP or sum(_bytes(clip) for _, clip, _ in self._waiting) >= _GROUP_BYTES:
            self._write()

    def finish(self) -> None:
        """Writes the last data file, and LeRobot's metadata."""
        if self._waiting:
            self._write()
        for name, data in derived(self.source.schema, self._totals):
            store(self.folder / name, data)

    def _place(self, camera: str, file: str, start: float = 0.0) -> Place:
        number = self._numbers[camera].setdefault(file, len(self._numbers[camera]))
        return Place(self.folder / lerobot.numbered(lerobot.VIDEO_PATH, number, video_key=camera), number, start)

    def _linked(self, id: str, first: int, end: int) -> dict[str, Place]:
        """Gives the files of frames first .. end - 1 a second name here; returns the places, none if it cannot be."""
        schema = self.source.schema
        files = {c: (path, at + first / schema.fps) for c, (path, at) in self._files(id).items()}
        if not files or not all(self._usable(c, *file, end - first) for c, file in files.items()):
            return {}
        places = {}
        for camera, (path, start) in files.items():
            known = str(path) in self._numbers[camera]
            target = self._place(camera, str(path), start)
            if not known:
                make_folder(target.path.parent)
                link(path, target.path)
                sync(target.path)
                sync(target.path.parent)
            places[camera] = replace(target, path=path)  # the same bytes, by the name that people know
        return places

    def _files(self, id: str) -> dict[str, tuple[Path, float]]:
        return dict(zip(self.source.schema.cameras, self.source.videos(id), strict=False))  # none in memory

    def _usable(self, camera: str, path: Path, start: float, length: int) -> bool:
        """True where LeRobot finds the frames at start + k / fps: on the grid, unturned, early enough in the file."""
        if self._looks.get(camera, (None,))[0] != path:
            facts = decoder.facts(path)
            self._looks[camera] = path, np.array(() if facts.rotation else facts.times)
        fps = self.source.schema.fps
        times = self._looks[camera][1]
        times = times[np.searchsorted(times, start - 0.5 / fps) :][:length]
        early = start == 0 or start + length / fps <= LONGEST
        return early and len(times) == length and bool(np.abs(times - start - np.arange(length) / fps).max() < GRID / 2)

    def _write(self) -> None:
        ids, clips, places = zip(*self._waiting[:_GROUP], strict=True)
        group = Group(self.folder / "staging", self.source.schema, self._totals, last_rows=self.last_rows)
        group.write(ids, clips, None if self.holds else places)
        commit = group.commit({})
        place((group.staging / name, self.folder / name) for name in group.files)
        shutil.rmtree(group.staging)
        self._totals, self._waiting = self._totals.plus(commit), self._waiting[_GROUP:]
        self.rows, self.steps = self._totals.rows, self._totals.rows - self._totals.episodes


def _bytes(clip: Clip) -> int:
    return 0 if clip.frames is None else clip.frames.numel()
