"""What people have becomes a store: videos, VPT's recordings, LeRobot datasets, npz chunks, HDF5. Fates are told."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrodict.data import arrays, video_folder, vpt
from retrodict.data.action_schema import infer_space, schema_file
from retrodict.data.foreign import ForeignDataset, open_foreign
from retrodict.data.guarded import Facts, decoder
from retrodict.data.hdf5 import SUFFIXES as HDF5
from retrodict.data.hdf5 import read_hdf5
from retrodict.data.label_file import Labels, read_labels
from retrodict.data.label_steps import CLOCKS, Clock, Steps, Timing, assign_files, label_steps, log_steps
from retrodict.data.recordings import Fate, Recording, store_recordings, video_schema
from retrodict.data.schema import IMAGE_PIXELS, Schema
from retrodict.data.store import SCHEMA_FILE, Store
from retrodict.data.takes import Reel, Take
from retrodict.errors import Damaged, MissingPackage, Undecodable, UnknownName, UnusableInput
from retrodict.spaces import UNKNOWN, ActionSpace

KINDS = {
    "videos": f"video files ({', '.join(video_folder.SUFFIXES)})",
    "vpt": "videos with VPT's NAME.jsonl beside NAME.mp4",
    "lerobot": "a LeRobot dataset, v3.0 or v2.1 (meta/info.json)",
    "npz": "LAPO's chunks (.npz with obs, ta, done)",
    "hdf5": "HDF5 as of Minari or with a group per episode (.hdf5, .h5)",
}
DATASET = "meta/info.json"
_SUFFIXES = {".npz": "npz"} | dict.fromkeys(HDF5, "hdf5") | dict.fromkeys(video_folder.SUFFIXES, "videos")


@dataclass(frozen=True, kw_only=True)
class Intake:
    """How to read what is imported.

    `labels` is a label file (see `label_file`), by the video's clock or its own; `space` says what actions are, in
    place of what the files imply. `fps` resamples video, and is the rate of arrays, which state none. `fit` (width,
    height) resizes. `cameras` are NAME=FOLDER for video files, or names of a dataset's cameras. `join` takes NAME_01,
    NAME_02 for chapters of one recording. `kind` is one of KINDS, or empty: found out.
    """

    labels: Path | None = None
    clock: Clock = "video"
    space: ActionSpace | None = None
    fps: int | None = None
    fit: tuple[int, int] | None = None
    cameras: tuple[str, ...] = ()
    join: bool = False
    kind: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """A store, open for reading, the kind of what it was made from, the fate of each file, and what was inferred."""

    store: Store
    kind: str
    fates: tuple[Fate, ...]
    inferred: bool  # the action space was


@dataclass(frozen=True, slots=True)
class _Work:
    """What is being imported: a folder, its files of one kind, how to read them, and the fates so far."""

    folder: Path
    kind: str
    files: Sequence[str]
    fates: list[Fate]
    labels: Labels | None
    intake: Intake

    def refuse(self, names: Iterable[str], why: object) -> None:
        """Notes that these files are refused."""
        self.fates.extend(Fate(name, None, "refused", str(why)) for name in names)

    def require(self, found: Sequence[object]) -> None:
        """Raises UnusableInput where nothing was found."""
        if not found:
            told = "; ".join(f"{fate.file}: {fate.reason}" for fate in self.fates) or "it holds no files"
            raise UnusableInput(f"{self.folder} holds no usable video or episode ({KINDS[self.kind]}): {told}")


def import_data(source: Path | str, out: Path | str, intake: Intake) -> Imported:
    """Imports a folder (or one file) into the store `out`, one commit per episode; resumes if it exists.

    Raises:
        UnusableInput: nothing is usable, episodes differ in size or rate, a label is wrong, or the kind cannot be told;
            nothing is written.
        Locked: another process writes to `out`.
    """
    source, out = Path(source), Path(out)
    if intake.clock not in CLOCKS:
        raise UnknownName("clock of labels", intake.clock, CLOCKS)
    labels = None if intake.labels is None else read_labels(intake.labels, intake.space)
    ignore = [path for path in (out, schema_file(out), intake.labels) if path is not None]
    kind, files, fates = find_kind(source, ignore, intake.kind)
    work = _Work(source if source.is_dir() else source.parent, kind, files, fates, labels, intake)
    read = {"videos": _videos, "vpt": _videos, "lerobot": _dataset}.get(kind, _arrays)
    schema, recordings = read(work)
    fates += store_recordings(out, schema, recordings, kind)
    if labels is not None:
        fates = [_with_unused(fate, labels) for fate in fates]
    inferred = intake.space is None and kind != "vpt" and schema.space != UNKNOWN
    return Imported(Store.open(out), kind, tuple(sorted(fates, key=lambda fate: fate.file)), inferred)


def import_videos(folder: Path | str, out: Path | str, **intake: Any) -> tuple[Store, list[Fate]]:
    """Imports every video below `folder`, as `import_data` does with this `Intake`; returns the store and the fates."""
    done = import_data(folder, out, Intake(**intake, kind="videos"))
    return done.store, list(done.fates)


def find_kind(source: Path, ignore: Iterable[Path] = (), kind: str = "") -> tuple[str, list[str], list[Fate]]:
    """Returns what a folder or file holds, its files of that kind, and the fates of all others.

    Datasets inside a folder of other things are passed over. With `kind`, only files of that kind are taken.

    Raises:
        UnusableInput: it holds none of KINDS, or several.
    """
    if kind and kind not in KINDS:
        raise UnknownName("format", kind, KINDS)
    if not source.exists():
        raise UnusableInput(f"{source} is not a folder; name a folder of video files, or of another format")
    if (source / DATASET).is_file() and kind in ("", "lerobot"):
        return "lerobot", [], []
    names, fates = _walk(source, {path.resolve() for path in ignore})
    found = {name: _kind_of((source if source.is_dir() else source.parent) / name) for name in names}
    kinds = {kind} if kind else set(found.values()) - {""}
    if "vpt" in kinds:
        kinds -= {"videos"}  # one without a jsonl beside it is a recording without actions
    files = [name for name, one in found.items() if one in kinds or {one, *kinds} == {"vpt", "videos"}]
    if len(kinds) != 1 or not files:
        firsts = [f"{one} ({next(n for n in names if found[n] == one)})" for one in KINDS if one in kinds - {kind}]
        met = " and ".join(firsts) or ", ".join(names[:5]) or "nothing"
        listed = "; ".join(f"{name}: {KINDS[name]}" for name in KINDS)
        raise UnusableInput(f"{source} holds {met}. Name one of these with --format, or import them apart. {listed}")
    (kind,) = kinds
    beside = {"vpt": (".jsonl",), "hdf5": ("metadata.json", "export.json")}.get(kind, ())  # read along with the files
    why = f"not of this kind by its name ({KINDS[kind]})" if kind != "videos" else "not a video by its name"
    others = [name for name in names if name not in files and not name.endswith(beside)]
    return kind, files, fates + [Fate(name, None, "refused", why) for name in others]


def _walk(source: Path, ignore: set[Path]) -> tuple[list[str], list[Fate]]:
    """Returns the names of all files below a folder but hidden ones, and the fates of datasets in it."""
    if source.is_file():
        return [source.name], []
    inner = {path.parent.parent for path in source.rglob(DATASET)} - {source}
    names, fates = [], [
        Fate(path.relative_to(source).as_posix(), None, "skipped", f"a dataset ({DATASET}); import it by its own name")
        for path in sorted(inner) if path.resolve() not in ignore
    ]  # fmt: skip
    for path in sorted(source.rglob("*")):
        apart = path.resolve() in ignore or any(p in inner or p.resolve() in ignore for p in path.parents)
        if not (apart or path.is_dir() or path.name.startswith(".")):
            names.append(path.relative_to(source).as_posix())
    return names, fates


def _kind_of(path: Path) -> str:
    kind = _SUFFIXES.get(path.suffix.lower(), "")
    return "vpt" if kind == "videos" and vpt.is_vpt(path.with_suffix(".jsonl")) else kind


def _with_unused(fate: Fate, labels: Labels) -> Fate:
    """Says of a refused file that its labels went unused."""
    if fate.what != "refused":
        return fate
    count = sum(row.file in (fate.file, Path(fate.file).name) for row in labels.rows)
    return replace(fate, reason=f"{fate.reason} (its {count} labels are not used)") if count else fate


def _videos(work: _Work) -> tuple[Schema, list[Recording]]:
    intake, cameras = work.intake, _camera_folders(work)
    shots, refused = video_folder.find_shots(work.folder, work.files, cameras, intake.join)
    work.fates.extend(refused)
    work.require(shots)
    space, labeller = (work.labels.space if work.labels else intake.space) or UNKNOWN, None
    if work.kind == "vpt":
        if work.labels is not None or intake.space not in (None, vpt.SPACE):
            raise UnusableInput(
                f"{work.folder} has VPT's actions; leave out labels and schema, or give --format videos"
            )
        space, labeller = vpt.SPACE, _vpt_labeller(work.folder)
    elif work.labels is not None:
        others = {name for shot in shots for name in list(shot.files)[len(shot.takes[0].reels) :]}  # of further cameras
        labeller = _sidecar(work.labels, [name for name in work.files if name not in others], intake.clock)
    schema = video_folder.common_schema(shots, list(cameras), space, intake.fps, intake.fit)
    recordings = []
    for shot in shots:
        try:
            lengths = [len(take.grid(schema.fps)[0]) for take in shot.takes]
            if len(set(lengths)) > 1:
                raise _Refused(f"its cameras have {' and '.join(map(str, lengths))} frames at {schema.fps} a second")
            recordings.append(video_folder.recording(shot, schema, labeller, intake.text))
        except (_Refused, Undecodable) as error:
            work.refuse(shot.files, error.why if isinstance(error, Undecodable) else error)
    work.require(recordings)
    return schema, recordings


class _Refused(UnusableInput):
    """One episode cannot be used; the others can."""


def _camera_folders(work: _Work) -> dict[str, Path]:
    """Reads NAME=FOLDER, a folder below the one that is imported or a path."""
    cameras: dict[str, Path] = {}
    for pair in work.intake.cameras:
        name, _, place = pair.partition("=")
        path = next((path for path in (work.folder / place, Path(place)) if place and path.is_dir()), None)
        if not name.isidentifier() or path is None or not path.resolve().is_relative_to(work.folder.resolve()):
            raise UnusableInput(f"--camera {pair}: write NAME=FOLDER, with a folder inside {work.folder}")
        cameras[name] = work.folder / path.resolve().relative_to(work.folder.resolve())
    return cameras


def _sidecar(labels: Labels, files: Sequence[str], clock: Clock) -> video_folder.Labeller:
    """Returns what gives episodes the actions of a label file, and says what its clock was found to be."""
    rows = assign_files(labels, files)

    def label(names: Sequence[str], take: Take | None, timing: Timing) -> tuple[Steps, str]:
        mine = [rows.get(name, []) for name in names]
        if clock == "video" or not any(mine):
            return label_steps(labels, mine, timing), ""
        if take is None:
            raise UnusableInput("labels on a clock of their own are matched to video; here is none")
        motion = lambda first, last: take.motion(timing.index[first:last])  # noqa: E731
        steps, ahead = log_steps(labels, [row for part in mine for row in part], timing.shown, motion)
        return steps, f"its labels' clock is {ahead:+.2f} s from the video's"

    return label


def _vpt_labeller(folder: Path) -> video_folder.Labeller:
    def label(names: Sequence[str], take: Take | None, timing: Timing) -> tuple[Steps, str]:
        path = (folder / names[0]).with_suffix(".jsonl")
        if not path.is_file():
            return label_steps(Labels(path, vpt.SPACE, ()), [()], timing), "no jsonl beside it: no actions"
        try:
            found = vpt.read_actions(path, names[0])
        except UnusableInput as error:
            raise _Refused(str(error)) from error
        lines, frames = len(found.rows), len(timing.files[0])
        note = "" if lines in (frames - 1, frames) else f"{lines} lines for {frames} frames, counted from the first"
        return label_steps(found, [found.rows[: frames - 1]], timing), note

    return label


def _dataset(work: _Work) -> tuple[Schema, list[Recording]]:
    """Reads a LeRobot dataset, or one of ours; every episode that is damaged is refused by its name."""
    folder, intake = work.folder, work.intake
    source: Store | ForeignDataset
    if (folder / SCHEMA_FILE).is_file() and not intake.cameras:
        source = Store.open(folder)
    else:
        source = open_foreign(folder, _known_cameras(folder, intake.cameras), actions=work.labels is None)
    if intake.fps not in (None, source.schema.fps):
        raise UnusableInput(f"{folder} has {source.schema.fps} frames/s, which are kept. Leave out --fps")
    schema = video_schema(source.schema, intake.fit, IMAGE_PIXELS)
    labeller = None if work.labels is None else _sidecar(work.labels, source.ids, intake.clock)
    recordings, look = [], lru_cache(decoder.facts)  # many episodes lie in one file
    for id in source.ids:
        try:
            clip, (data, videos) = source.read(id, frames=False), source.files(id)
            takes = tuple(_cut(path, look(path), start, clip.length, schema.fps) for path, start in videos)
        except (Damaged, Undecodable, UnusableInput) as error:
            work.refuse([id], error)
            continue
        note = ""
        if labeller is not None:
            if clip.known.any():
                raise UnusableInput(f"{folder}: episode {id} has actions of its own; leave out --labels")
            assert clip.times is not None  # every source of episodes fills it
            timing = Timing.plain(clip.times[0].numpy())
            (actions, told), note = labeller([id], takes[0] if takes else None, timing)
            clip = clip.with_(actions=actions, source=told, confidence=None)
        frames = lambda id=id: source.read(id).frames  # noqa: E731
        recordings.append(Recording(id, {id: (data, *(path for path, _ in videos))}, clip, takes, frames, note))
    work.require(recordings)
    return replace(schema, space=_space(schema.space, recordings, work)), recordings


def _known_cameras(folder: Path, told: Sequence[str]) -> list[str] | None:
    """Returns the cameras that are named, whole or by the last part of their name; none: all."""
    if not told:
        return None
    known = open_foreign(folder, [], actions=False).cameras
    return [next((name for name in known if word in (name, name.rpartition(".")[2])), word) for word in told]


def _cut(path: Path, facts: Facts, start: float, length: int, fps: int) -> Take:
    first, last = (bisect_left(facts.times, start + (k - 0.5) / fps) for k in (0, length))
    if last - first != length:
        raise Undecodable(path, f"it has {last - first} frames from {start:g} s on; expected {length}")
    return Take((Reel(path, facts, facts.times[first:last]),))


def _space(own: ActionSpace, recordings: Sequence[Recording], work: _Work) -> ActionSpace:
    """Returns what the actions of a dataset are: as told, else as it says, with the range that its numbers have."""
    given = work.labels.space if work.labels else work.intake.space
    if given is not None:
        if given.width != own.width and work.labels is None:
            raise UnusableInput(f"the dataset's actions have columns {own.columns}; the action space, {given.columns}")
        return given
    known = [clip.actions[clip.known] for r in recordings if (clip := r.clip).actions is not None and clip.known.any()]
    only = own.segments[0]
    if not known or len(own.segments) > 1 or only.kind != "continuous" or (only.low, only.high) != (-1.0, 1.0):
        return own
    ranged = infer_space(torch.cat(known).numpy()).segments[0]
    return ActionSpace((replace(only, low=ranged.low, high=ranged.high),))


def _arrays(work: _Work) -> tuple[Schema, list[Recording]]:
    intake, read = work.intake, arrays.read_npz if work.kind == "npz" else read_hdf5
    if intake.fps is None:
        raise UnusableInput(f"{work.folder} ({work.kind}) does not say at which rate its frames come; give --fps N")
    if work.labels is not None or intake.cameras:
        raise UnusableInput(f"{work.kind} has actions and cameras of its own; leave out --labels and --camera")
    episodes: list[arrays.Arrays] = []
    for name in work.files:
        try:
            episodes += read(work.folder / name, name)
        except MissingPackage:
            raise
        except UnusableInput as error:
            work.refuse([name], error)
    for episode in [episode for episode in episodes if not np.isfinite(episode.actions).all()]:
        work.refuse([episode.id], "its actions hold numbers that are not finite")
        episodes.remove(episode)
    work.require(episodes)
    schema, recordings = arrays.recordings(episodes, intake.space, intake.fps, intake.text)
    return video_schema(schema, intake.fit, IMAGE_PIXELS), recordings
