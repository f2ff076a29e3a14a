"""A dataset for other tools: every row has an action to learn from.

LeRobot trains on every row, and so do others. So the runs of steps with a recorded or predicted action become episodes
of their own, without the row of the last frame and without rows whose action is missing or abstained from.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import ABSTAINED, MISSING, SOURCES, Clip
from retrodict.data import lerobot
from retrodict.data.cache import piece_of
from retrodict.data.durable import describe_folder, make_folder, new_folder, place, sync, to_json
from retrodict.data.footage import Place, link
from retrodict.data.guarded import GRID, decoder
from retrodict.data.schema import Episodes, Schema, conform
from retrodict.data.staging import Group, Totals, conform_schema, derived
from retrodict.errors import UnknownName, UnusableInput

EXPORT_FILE = "meta/retrodict/export.json"
LONGEST = 1000.0  # seconds; past 1024 s into a file LeRobot compares times as float32 more coarsely than its tolerance
_GROUP, _GROUP_BYTES = 64, 256 << 20  # at most so many episodes to a data file, and so many bytes of images

Format = Literal["lerobot", "gr00t", "hdf5", "npz"]


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, in rows and episodes, and what was left out; `steps` is what reading it back yields.

    `encoded` counts the episodes whose frames were encoded as video anew.
    """

    episodes: int
    rows: int
    steps: int
    missing: int
    abstained: int
    last: int
    encoded: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Steps first .. stop - 1 of an episode, to be an episode of its own: its clip, from time 0."""

    first: int
    stop: int
    clip: Clip


class Writer(Protocol):
    """Writes spans in one format into a folder; `holds` says whether their clips bring the frames."""

    holds: bool
    rows: int
    steps: int
    encoded: int

    def add(self, id: str, spans: Sequence[Span]) -> None:
        """Writes the spans of one episode of the source, in order."""
        ...

    def finish(self) -> None:
        """Writes what is left, once there was a span; files are on the disk then."""
        ...


def export(source: Episodes, out: Path | str, *, keep_all: bool = False, format: Format = "lerobot") -> Export:
    """Writes the trainable spans of a dataset as a folder for other tools, whole or not at all.

    `lerobot` is a LeRobotDataset v3.0 folder; of the others see `export_formats`. With `keep_all`, every row is
    written, as a run keeps them: `retrodict.source` then says which to believe. An episode of n rows has n actions
    here; read back as LeRobot it has n frames and n - 1 steps.

    Raises:
        UnusableInput: `out` exists, or no step has an action.
        MissingPackage: `hdf5` without h5py.
    """
    out = Path(out)
    if format not in get_args(Format):
        raise UnknownName("export format", format, get_args(Format))
    with new_folder(out) as partial:
        return _fill(partial, source, keep_all, format)


def _fill(folder: Path, source: Episodes, keep_all: bool, format: Format) -> Export:
    from retrodict.data import export_formats

    writer: Writer = (export_formats.WRITERS | {"lerobot": LeRobot})[format](folder, source, keep_all)
    left_out: Counter[str] = Counter()
    written: list[dict[str, Any]] = []
    for id in source.ids:
        clip = conform(source.read(id, frames=writer.holds), conform_schema(source.schema, not writer.holds), id)
        found = [(0, clip.steps)] if keep_all else list(_spans(clip))
        writer.add(id, [Span(first, stop, _from_zero(clip.cut(first, stop + 1))) for first, stop in found])
        written += [{"id": id, "first": first, "steps": stop - first} for first, stop in found]
        if not keep_all:
            assert clip.source is not None  # conformed
            left_out.update({SOURCES[k]: int((clip.source == k).sum()) for k in (MISSING, ABSTAINED)} | {"last": 1})
    if not written:
        raise UnusableInput("no step of the dataset has an action to train on; label it first, or export with keep_all")
    writer.finish()
    counts = {name: left_out[name] for name in ("missing", "abstained", "last")}
    report = Export(len(written), writer.rows, writer.steps, **counts, encoded=writer.encoded)
    origin = {
        "digest": source.digest, "format": format, "schema": source.schema.to_json(), "keep_all": keep_all,
        "rows": asdict(report), "spans": written, "files": describe_folder(folder),
    }  # fmt: skip
    store(folder / EXPORT_FILE, to_json(origin))
    return report


def _spans(clip: Clip) -> Iterator[tuple[int, int]]:
    """Yields the runs (first step, last step + 1) of steps with an action to learn from."""
    start = None
    for step, known in enumerate([*clip.known[0].tolist(), False]):
        if known and start is None:
            start = step
        elif not known and start is not None:
            yield start, step
            start = None


def _from_zero(clip: Clip) -> Clip:
    assert clip.times is not None  # conformed
    return clip.with_(times=clip.times - clip.times[:, :1])


def store(path: Path, data: bytes) -> None:
    """Writes a file of a folder that is being made, and forces it to the disk."""
    make_folder(path.parent)
    path.write_bytes(data)
    sync(path)
    sync(path.parent)


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


def encode(files: Sequence[Mapping[str, Path]], source: Episodes, id: str, rows: Sequence[tuple[int, int]]) -> None:
    """Encodes runs of frames (first, last + 1) of an episode: one mp4 file a run and camera, in bounded memory."""
    from retrodict.data.video import Writer as Mp4

    for number, pieces in groupby(cut(source, id, rows), itemgetter(0)):
        for path in files[number].values():
            make_folder(path.parent)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(Mp4(p, *source.schema.size, source.schema.fps)) for p in files[number].values()
            ]
            for _, frames in pieces:
                for writer, pixels in zip(writers, by_camera(frames, source.schema), strict=True):
                    writer.add(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))  # grey as colour
        for path in files[number].values():
            sync(path)
            sync(path.parent)


def by_camera(frames: UInt8[Tensor, "n c h w"], schema: Schema) -> list[npt.NDArray[np.uint8]]:
    """Takes stacked cameras apart: an array (n, h, w, channels) each."""
    parts = torch.split(frames, [shape[2] for shape in schema.cameras.values()], 1)
    return [part.permute(0, 2, 3, 1).numpy() for part in parts]


def cut(source: Episodes, id: str, rows: Sequence[tuple[int, int]]) -> Iterable[tuple[int, UInt8[Tensor, "m c h w"]]]:
    """Yields (number of the run, some of its frames) for runs (first, last + 1) in growing order."""
    at = 0
    for piece in source.stream(id, piece_of(source.schema)) if rows else ():
        for number, (first, end) in enumerate(rows):
            part = piece[0, max(0, first - at) : max(0, end - at)]
            if len(part):
                yield number, part
        at += piece.shape[1]
