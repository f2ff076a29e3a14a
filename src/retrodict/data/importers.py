"""A folder of video files becomes a store; what becomes of each file is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from retrodict.clip import Clip
from retrodict.data.durable import file_hash
from retrodict.data.guarded import GRID, Facts, decoder
from retrodict.data.label_file import LabelRow, Labels, assign_files, label_steps, read_labels
from retrodict.data.schema import IMAGE_PIXELS, Schema, conform, hash_rest
from retrodict.data.staging import conform_schema
from retrodict.data.store import READ_BYTES, STAGING, Store
from retrodict.errors import Undecodable, UnusableInput
from retrodict.spaces import ActionSpace, categorical

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
CAMERA = "observation.image"
UNKNOWN = ActionSpace((categorical("action", ("unknown",)),))  # of video that nobody labelled
_LINKED_CODECS = ("h264", "hevc", "av1", "vp9")  # what LeRobot's decoders read

Outcome = Literal["linked", "re-encoded", "images", "kept", "refused"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one file: the episode that it is now, and how it is stored; or why it was refused."""

    file: str
    id: str | None
    what: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one file becomes an episode: which of its frames (non-decreasing), and when they are shown."""

    file: str
    facts: Facts
    index: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]  # seconds from the first frame
    linked: bool
    rows: list[LabelRow] = field(default_factory=list)


def import_videos(
    folder: Path | str,
    out: Path | str,
    *,
    labels: Path | str | None = None,
    space: ActionSpace | None = None,
    fps: int | None = None,
    fit: tuple[int, int] | None = None,
    text: str = "",
) -> tuple[Store, list[Fate]]:
    """Imports every video below `folder` into the store `out`, one episode and one commit each; resumes if it exists.

    Files of a constant rate keep their frames one to one; `fps` resamples to another rate. `fit` (width, height)
    resizes. `labels` is a CSV file (see `label_file`); `space` overrides what it implies. Returns the store, open for
    reading, and the fate of each file.

    Raises:
        UnusableInput: no file is usable, files differ in size or rate, or a label is wrong; nothing is written.
        Locked: another process writes to `out`.
    """
    folder, out = Path(folder), Path(out)
    read = None if labels is None else read_labels(labels, space)
    files, fates = _find(folder, out, None if labels is None else Path(labels))
    looks = _look(folder, files, fates)
    if not looks:
        told = "; ".join(f"{fate.file}: {fate.reason}" for fate in fates) or "it holds no files"
        raise UnusableInput(f"{folder} holds no usable video ({', '.join(SUFFIXES)}): {told}")
    schema = _schema(looks, read.space if read else space or UNKNOWN, fps, fit)
    plans = [_plan(file, facts, schema) for file, facts in looks.items()]
    rows = {} if read is None else assign_files(read, [*files])
    clips = [_clip(plan, read, rows.get(plan.file, []), text) for plan in plans]
    with _open(out, schema) as store:
        for plan, clip in zip(plans, clips, strict=True):
            fates.append(_append(store, folder, plan, clip))
    fates = [_with_unused(fate, rows.get(fate.file, [])) for fate in fates]
    return Store.open(out), sorted(fates, key=lambda fate: fate.file)


def _with_unused(fate: Fate, rows: Sequence[LabelRow]) -> Fate:
    """Says of a refused file that its labels went unused."""
    if fate.what != "refused" or not rows:
        return fate
    return Fate(fate.file, None, "refused", f"{fate.reason} (its {len(rows)} labels are not used)")


def _find(folder: Path, out: Path, labels: Path | None) -> tuple[list[str], list[Fate]]:
    if not folder.is_dir():
        raise UnusableInput(f"{folder} is not a folder; name a folder of video files")
    files, fates = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        inside = out.resolve() in path.resolve().parents
        if inside or path.is_dir() or path.name.startswith("."):
            continue
        if labels is not None and path.is_file() and path.samefile(labels):
            continue
        if path.suffix.lower() in SUFFIXES:
            files.append(name)
        else:
            fates.append(Fate(name, None, "refused", f"not a video by its name ({', '.join(SUFFIXES)})"))
    return files, fates


def _look(folder: Path, files: Sequence[str], fates: list[Fate]) -> dict[str, Facts]:
    looks = {}
    for file in files:
        try:
            looks[file] = decoder.facts(folder / file)
        except Undecodable as error:
            fates.append(Fate(file, None, "refused", error.why))
    return looks


def _whole_rate(facts: Facts) -> int | None:
    """Returns the frames per second that a file's frames keep one to one (29.97 counts as 30), or None: variable."""
    whole = round(facts.rate)
    constant = facts.jitter < 0.25 / facts.rate
    return whole if whole >= 1 and constant and abs(facts.rate - whole) <= 0.01 * whole else None


def _schema(looks: Mapping[str, Facts], space: ActionSpace, fps: int | None, fit: tuple[int, int] | None) -> Schema:
    groups: dict[tuple[int, int, int | None], list[str]] = {}
    for file, facts in looks.items():
        width, height = fit or (facts.width, facts.height)
        groups.setdefault((width, height, _whole_rate(facts) if fps is None else fps), []).append(file)
    (width, height, rate), *others = groups
    if others or rate is None:
        listed = "; ".join(
            f"{w}x{h} at {r or 'a variable number of'} frames/s: {', '.join(files[:5])}"
            + (f" and {len(files) - 5} more" if len(files) > 5 else "")
            for (w, h, r), files in groups.items()
        )
        raise UnusableInput(
            f"a dataset has one size and one constant rate. Here are {listed}. "
            "Give --fit WIDTHxHEIGHT to resize, --fps N to resample, or import them apart"
        )
    return Schema(space, {CAMERA: (height, width, 3)}, rate, video=max(height, width) > IMAGE_PIXELS)


def _plan(file: str, facts: Facts, schema: Schema) -> _Plan:
    times = np.array(facts.times) - facts.times[0]
    fps, size = schema.fps, (facts.height, facts.width)
    on_grid = float(np.abs(times - np.arange(len(times)) / fps).max()) < GRID
    if _whole_rate(facts) == fps:
        linked = (
            schema.video and on_grid and abs(facts.times[0]) < GRID and size == schema.size and facts.rotation == 0
            and facts.codec in _LINKED_CODECS and "mp4" in facts.container
        )  # fmt: skip
        return _Plan(file, facts, np.arange(len(times)), times, linked)
    grid = np.arange(int(times[-1] * fps + GRID) + 1) / fps
    after = np.searchsorted(times, grid).clip(0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    index = np.where(grid - times[before] <= times[after] - grid + GRID, before, after)  # a tie goes to the earlier
    return _Plan(file, facts, index, grid, False)


def _clip(plan: _Plan, labels: Labels | None, rows: Sequence[LabelRow], text: str) -> Clip:
    """Returns the episode without its frames."""
    times = torch.from_numpy(plan.times)[None]
    if labels is None:
        return Clip(times=times, text=(text,))
    file_times = [time - plan.facts.times[0] for time in plan.facts.times]
    actions, source = label_steps(labels, rows, file_times, plan.index.tolist())
    return Clip(times=times, actions=actions, source=source, text=(text,))


def _open(out: Path, schema: Schema) -> Store:
    if not (out / "meta/retrodict/schema.json").is_file():
        return Store.create(out, schema)
    store = Store.open(out, write=True)
    if store.schema != schema:
        store.close()
        raise UnusableInput(f"{out} holds a dataset of another schema; name another folder")
    return store


def _append(store: Store, folder: Path, plan: _Plan, clip: Clip) -> Fate:
    path = folder / plan.file
    provenance: dict[str, Any] = {"file": plan.file, "sha256": file_hash(path)}
    if plan.file in store.lengths:
        return _kept(store, plan, clip, provenance)
    try:
        if plan.linked:
            store.append([clip], provenance, [plan.file], videos=[{CAMERA: path}])
            return Fate(plan.file, plan.file, "linked")
        if not store.schema.video:
            store.append([clip.with_(frames=_all_frames(path, plan, store.schema))], provenance, [plan.file])
            return Fate(plan.file, plan.file, "images")
        encoded = _encode(path, plan, store)
        store.append([clip], provenance, [plan.file], videos=[{CAMERA: encoded}])
        return Fate(plan.file, plan.file, "re-encoded", _why_not_linked(plan, store.schema))
    except Undecodable as error:
        return Fate(plan.file, None, "refused", error.why)


def _kept(store: Store, plan: _Plan, clip: Clip, provenance: Mapping[str, Any]) -> Fate:
    """Keeps an episode of an earlier import, provided that it is of the same file and labels."""
    there = store.read(plan.file, frames=False)
    fresh = conform(clip, conform_schema(store.schema, True), plan.file)
    same = hash_rest(fresh) == hash_rest(there)
    before = next(c.provenance for c in store.commits if any(entry.id == plan.file for entry in c.episodes))
    if not same or dict(before) != dict(provenance):
        raise UnusableInput(
            f"{store.folder} holds {plan.file} with {'other content' if same else 'other labels'}; "
            "name another folder, or remove that one"
        )
    return Fate(plan.file, plan.file, "kept")


def _why_not_linked(plan: _Plan, schema: Schema) -> str:
    facts = plan.facts
    if (facts.height, facts.width) != schema.size:
        return f"resized from {facts.width}x{facts.height}"
    if facts.rotation:
        return f"turned by {facts.rotation}°"
    if _whole_rate(facts) != schema.fps:
        return f"resampled from {facts.rate:.3f} frames/s"
    if facts.codec not in _LINKED_CODECS or "mp4" not in facts.container:
        return f"{facts.codec} in {facts.container}"
    return f"its frames are not at k / {schema.fps} s; their true times are kept"


def _frames(path: Path, plan: _Plan, schema: Schema) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields the plan's frames, (n, h, w, 3); a frame that several grid times need comes several times."""
    count = 0
    for frames, times in decoder.frames(path, start=-1e9, size=schema.size):
        expected = np.array(plan.facts.times[count : count + len(times)])
        if len(expected) != len(times) or np.abs(times - expected).max() > GRID:
            raise Undecodable(path, f"after frame {count} it decodes to other frames than its packets announce")
        first, last = np.searchsorted(plan.index, [count, count + len(times)])
        if last > first:
            yield frames[plan.index[first:last] - count]
        count += len(times)
    if count != plan.facts.frames:
        raise Undecodable(path, f"it announces {plan.facts.frames} frames and decodes to {count}")


def _all_frames(path: Path, plan: _Plan, schema: Schema) -> torch.Tensor:
    size = len(plan.index) * schema.size[0] * schema.size[1] * 3
    if size > READ_BYTES:
        raise Undecodable(path, f"its frames take {size} bytes as images, more than {READ_BYTES}; split it")
    pixels = np.concatenate(list(_frames(path, plan, schema)))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))[None]


def _encode(path: Path, plan: _Plan, store: Store) -> Path:
    from retrodict.data.video import Writer

    target = store.folder / STAGING / "encoded.mp4"
    target.parent.mkdir(parents=True, exist_ok=True)
    with Writer(target, *store.schema.size, store.schema.fps) as writer:
        for frames in _frames(path, plan, store.schema):
            writer.add(frames)
    return target
