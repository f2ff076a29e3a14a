"""A dataset for other tools: every row has an action to learn from.

LeRobot trains on every row, and so do others. So the runs of steps with a recorded or predicted action become episodes
of their own, without the row of the last frame and without rows whose action is missing or abstained from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from retrodict.clip import ABSTAINED, MISSING, SOURCES, Clip
from retrodict.data import export_formats
from retrodict.data.durable import describe_folder, new_folder, to_json
from retrodict.data.export_lerobot import LeRobot
from retrodict.data.schema import Episodes, conform
from retrodict.data.spans import Span, Writer, store
from retrodict.data.staging import conform_schema
from retrodict.errors import UnknownName, UnusableInput

EXPORT_FILE = "meta/retrodict/export.json"

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
