"""A dataset for other tools: every row has an action to learn from.

LeRobot trains on every row. So the runs of steps with a recorded or predicted action become episodes of their own,
without the row of the last frame and without rows whose action is missing or abstained from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import ABSTAINED, MISSING, Clip
from retrodict.data.cache import piece_of
from retrodict.data.durable import make_folder, place, sync, to_json
from retrodict.data.schema import Episodes, conform
from retrodict.data.staging import Group, Totals, conform_schema, derived
from retrodict.errors import UnusableInput

EXPORT_FILE = "meta/retrodict/export.json"
_GROUP, _GROUP_BYTES = 64, 256 << 20  # at most so many episodes to a data file, and so many bytes of images


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, in rows and episodes, and what was left out; `steps` is what reading it back yields."""

    episodes: int
    rows: int
    steps: int
    missing: int
    abstained: int
    last: int


def export(source: Episodes, out: Path | str, *, keep_all: bool = False) -> Export:
    """Writes the trainable spans of a dataset as a LeRobotDataset v3.0 folder, whole or not at all.

    With `keep_all`, every row is written, as a run keeps them: `retrodict.source` then says which to believe. An
    episode of n rows has n actions here; read back it has n frames and n - 1 steps.

    Raises:
        UnusableInput: `out` exists, or no step has an action.
    """
    out = Path(out)
    if out.exists():
        raise UnusableInput(f"{out} exists already; name a folder that does not")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    totals, left_out = Totals(), {"missing": 0, "abstained": 0, "last": 0}
    spans: list[dict[str, Any]] = []
    waiting: list[_Piece] = []
    for id in source.ids:
        clip = _without_footage(source, id)
        found = [(0, clip.steps)] if keep_all else list(_spans(clip))
        videos = _encoded(partial / "encoded", source, id, [(a, b + keep_all) for a, b in found], len(spans))
        for (start, stop), files in zip(found, videos, strict=True):
            waiting.append(_Piece(f"{len(spans):06d}", clip.cut(start, stop + 1), files))
            spans.append({"id": id, "first": start, "steps": stop - start})
        if not keep_all:
            assert clip.source is not None  # conformed
            left_out["missing"] += int((clip.source == MISSING).sum())
            left_out["abstained"] += int((clip.source == ABSTAINED).sum())
            left_out["last"] += 1
        while len(waiting) >= _GROUP or sum(piece.bytes for piece in waiting) >= _GROUP_BYTES:
            totals, waiting = _write(partial, source, totals, waiting[:_GROUP], keep_all), waiting[_GROUP:]
    if waiting:
        totals = _write(partial, source, totals, waiting, keep_all)
    if not totals.episodes:
        shutil.rmtree(partial)
        raise UnusableInput("no step of the dataset has an action to train on; label it first, or export with keep_all")
    shutil.rmtree(partial / "encoded", ignore_errors=True)
    report = Export(totals.episodes, totals.rows, totals.rows - totals.episodes, **left_out)
    origin = {
        "digest": source.digest, "schema": source.schema.to_json(), "keep_all": keep_all, "rows": asdict(report),
        "spans": spans,
    }  # fmt: skip
    _finish(partial, out, source, totals, origin)
    return report


@dataclass(frozen=True, slots=True)
class _Piece:
    """One episode to be written: its clip, and its video files by camera where frames are video."""

    id: str
    clip: Clip
    videos: Mapping[str, Path]

    @property
    def bytes(self) -> int:
        return 0 if self.clip.frames is None else self.clip.frames.numel()


def _without_footage(source: Episodes, id: str) -> Clip:
    """Reads an episode, without its frames where they are video: those may be too many to hold."""
    video = source.schema.video
    return conform(source.read(id, frames=not video), conform_schema(source.schema, video), id)


def _spans(clip: Clip) -> Iterator[tuple[int, int]]:
    """Yields the runs (first step, last step + 1) of steps with an action to learn from."""
    start = None
    for step, known in enumerate([*clip.known[0].tolist(), False]):
        if known and start is None:
            start = step
        elif not known and start is not None:
            yield start, step
            start = None


def _encoded(
    folder: Path, source: Episodes, id: str, rows: Sequence[tuple[int, int]], number: int
) -> list[dict[str, Path]]:
    """Encodes runs of frames (first, last + 1) of an episode anew where they are video: a file a run and camera."""
    schema = source.schema
    cameras = list(schema.cameras) if schema.video else []
    files = [{name: folder / f"{number + i}-{k}.mp4" for k, name in enumerate(cameras)} for i in range(len(rows))]
    if not cameras or not rows:
        return files
    from retrodict.data.video import Writer

    make_folder(folder)
    for i, pieces in groupby(_cut(source.stream(id, piece_of(schema)), rows), itemgetter(0)):
        with ExitStack() as stack:
            writers = [stack.enter_context(Writer(path, *schema.size, schema.fps)) for path in files[i].values()]
            for _, frames in pieces:
                for writer, pixels in zip(writers, torch.split(frames[0], 3, 1), strict=True):
                    writer.add(pixels.permute(0, 2, 3, 1).numpy())
    return files


def _cut(
    stream: Iterable[UInt8[Tensor, "1 n c h w"]], rows: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, UInt8[Tensor, "1 m c h w"]]]:
    """Yields (number of the run, some of its frames) for runs (first, last + 1) in growing order."""
    at = 0
    for piece in stream:
        for number, (first, end) in enumerate(rows):
            part = piece[:, max(0, first - at) : max(0, end - at)]
            if part.shape[1]:
                yield number, part
        at += piece.shape[1]


def _write(folder: Path, source: Episodes, totals: Totals, pieces: list[_Piece], last_rows: bool) -> Totals:
    group = Group(folder / "staging", source.schema, totals, last_rows=last_rows)
    videos = [piece.videos for piece in pieces] if source.schema.video else None
    group.write([piece.id for piece in pieces], [_from_zero(piece.clip) for piece in pieces], videos)
    commit = group.commit({})
    place((group.staging / name, folder / name) for name in group.files)
    shutil.rmtree(group.staging)
    for piece in pieces:
        for file in piece.videos.values():
            file.unlink()
    return totals.plus(commit)


def _from_zero(clip: Clip) -> Clip:
    assert clip.times is not None  # conformed
    return clip.with_(times=clip.times - clip.times[:, :1])


def _finish(partial: Path, out: Path, source: Episodes, totals: Totals, origin: dict[str, Any]) -> None:
    for name, data in [*derived(source.schema, totals), (EXPORT_FILE, to_json(origin))]:
        path = partial / name
        make_folder(path.parent)
        path.write_bytes(data)
        sync(path)
        sync(path.parent)
    os.rename(partial, out)
    sync(out.parent)
