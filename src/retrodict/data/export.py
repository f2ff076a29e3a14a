"""A dataset for other tools: every row has an action to learn from.

LeRobot trains on every row. So the runs of steps with a recorded or predicted action become episodes of their own,
without the row of the last frame and without rows whose action is missing or abstained from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrodict.clip import ABSTAINED, MISSING, Clip
from retrodict.data.durable import make_folder, place, sync, to_json
from retrodict.data.schema import Episodes, conform
from retrodict.data.staging import Group, Totals, derived
from retrodict.errors import UnusableInput

EXPORT_FILE = "meta/retrodict/export.json"
_GROUP = 64  # episodes to a data file


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
    totals, spans, left_out = Totals(), [], {"missing": 0, "abstained": 0, "last": 0}
    waiting: list[tuple[str, Clip]] = []
    for id in source.ids:
        clip = conform(source.read(id), source.schema, id)
        for start, stop in [(0, clip.steps)] if keep_all else _spans(clip):
            spans.append({"id": id, "first": start, "steps": stop - start})
            waiting.append((f"{len(spans) - 1:06d}", clip.cut(start, stop + 1)))
        if not keep_all:
            assert clip.source is not None  # conformed
            left_out["missing"] += int((clip.source == MISSING).sum())
            left_out["abstained"] += int((clip.source == ABSTAINED).sum())
            left_out["last"] += 1
        while len(waiting) >= _GROUP:
            totals, waiting = _write(partial, source, totals, waiting[:_GROUP], keep_all), waiting[_GROUP:]
    if waiting:
        totals = _write(partial, source, totals, waiting, keep_all)
    if not totals.episodes:
        shutil.rmtree(partial)
        raise UnusableInput("no step of the dataset has an action to train on; label it first, or export with keep_all")
    report = Export(totals.episodes, totals.rows, totals.rows - totals.episodes, **left_out)
    origin = {"digest": source.digest, "schema": source.schema.to_json(), "rows": asdict(report), "spans": spans}
    _finish(partial, out, source, totals, origin)
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


def _write(folder: Path, source: Episodes, totals: Totals, spans: list[tuple[str, Clip]], last_rows: bool) -> Totals:
    group = Group(folder / "staging", source.schema, totals, last_rows=last_rows)
    group.write([id for id, _ in spans], [_from_zero(clip) for _, clip in spans], None)
    commit = group.commit({})
    place((group.staging / name, folder / name) for name in group.files)
    shutil.rmtree(group.staging)
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
