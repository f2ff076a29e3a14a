"""What people have becomes a store: videos, VPT's recordings, LeRobot datasets, npz chunks, HDF5. Fates are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrodict.data import arrays, video_folder, vpt
from retrodict.data.action_schema import schema_file
from retrodict.data.foreign import ForeignDataset, open_foreign
from retrodict.data.guarded import decoder
from retrodict.data.hdf5 import SUFFIXES as HDF5
from retrodict.data.hdf5 import read_hdf5
from retrodict.data.label_file import LabelRow, Labels, read_labels
from retrodict.data.label_steps import CLOCKS, Clock, Steps, Timing, assign_files, label_steps, log_steps
from retrodict.data.recordings import Fate, Recording, store_recordings, video_schema
from retrodict.data.schema import IMAGE_PIXELS, Schema
from retrodict.data.store import SCHEMA_FILE, Store
from retrodict.data.takes import Reel, Take
from retrodict.errors import Damaged, MissingPackage, Undecodable, UnknownName, UnusableInput
from retrodict.spaces import UNKNOWN, ActionSpace, continuous

KINDS = {
    "videos": f"video files ({', '.join(video_folder.SUFFIXES)})",
    "vpt": "videos with VPT's NAME.jsonl beside NAME.mp4",
    "lerobot": "a LeRobot dataset, v3.0 or v2.1 (meta/info.json)",
    "npz": "LAPO's chunks (.npz with obs, ta, done)",
    "hdf5": "HDF5 as of Minari or with a group per episode (.hdf5, .h5)",
}
DATASET = "meta/info.json"


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
    kind, files, fates = find_kind(
        source, [out, schema_file(out), *([intake.labels] if intake.labels else [])], intake.kind
    )
    if kind in ("videos", "vpt"):
        schema, recordings = _videos(source, files, fates, kind, labels, intake)
    elif kind == "lerobot":
        schema, recordings = _dataset(source, fates, labels, intake)
    else:
        schema, recordings = _arrays(source, files, fates, kind, labels, intake)
    fates += store_recordings(out, schema, recordings, kind)
    if labels is not None:
        fates = _with_unused(fates, labels)
    inferred = intake.space is None and kind != "vpt" and schema.space != UNKNOWN
    return Imported(Store.open(out), kind, tuple(sorted(fates, key=lambda fate: fate.file)), inferred)


def import_videos(
    folder: Path | str, out: Path | str, *, labels: Path | str | None = None, space: ActionSpace | None = None,
    fps: int | None = None, fit: tuple[int, int] | None = None, text: str = "",
) -> tuple[Store, list[Fate]]:  # fmt: skip
    """Imports every video below `folder` into the store `out`; returns it, open for reading, and the fate of each file.

    Raises: as `import_data`.
    """
    given = None if labels is None else Path(labels)
    done = import_data(folder, out, Intake(labels=given, space=space, fps=fps, fit=fit, kind="videos", text=text))
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
    found = _sorted(source, names)
    if kind == "vpt" or (found.get("vpt") and kind == ""):  # video without a jsonl beside it has no actions
        found["vpt"] = sorted({*found.pop("videos", []), *found.get("vpt", [])})
    elif kind == "videos":
        found["videos"] = sorted({*found.get("videos", []), *found.get("vpt", [])})
    here = {name: found[name] for name in ([kind] if kind else KINDS) if found.get(name)}
    if len(here) != 1:
        listed = "; ".join(f"{name}: {KINDS[name]}" for name in KINDS)
        met = " and ".join(f"{name} ({files[0]})" for name, files in here.items()) or ", ".join(names[:5]) or "nothing"
        raise UnusableInput(f"{source} holds {met}. Name one of these with --format, or import them apart. {listed}")
    kind, files = next(iter(here.items()))
    beside = (
        {str(Path(name).with_suffix(".jsonl")) for name in files}
        if kind == "vpt"
        else {"metadata.json"}
        if kind == "hdf5"
        else set()
    )
    ending = f"not of this kind by its name ({KINDS[kind]})" if kind != "videos" else "not a video by its name"
    fates += [Fate(name, None, "refused", ending) for name in names if name not in files and name not in beside]
    return kind, files, fates


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


def _sorted(source: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Sorts files by kind."""
    folder, known = (source if source.is_dir() else source.parent), set(names)
    kinds: dict[str, list[str]] = {}
    for name in names:
        suffix, beside = Path(name).suffix.lower(), Path(name).with_suffix(".jsonl").as_posix()
        kind = {".npz": "npz"} | dict.fromkeys(HDF5, "hdf5") | dict.fromkeys(video_folder.SUFFIXES, "videos")
        if suffix in kind:
            told = beside in known and kind[suffix] == "videos" and vpt.is_vpt(folder / beside)
            kinds.setdefault("vpt" if told else kind[suffix], []).append(name)
    return kinds


def _with_unused(fates: Sequence[Fate], labels: Labels) -> list[Fate]:
    """Says of a refused file that its labels went unused."""
    refused = [fate.file for fate in fates if fate.what == "refused"]
    counts = {name: sum(row.file in (name, Path(name).name) for row in labels.rows) for name in refused}
    return [
        replace(fate, reason=f"{fate.reason} (its {count} labels are not used)")
        if (count := counts.get(fate.file))
        else fate
        for fate in fates
    ]


def _videos(
    folder: Path, files: Sequence[str], fates: list[Fate], kind: str, labels: Labels | None, intake: Intake
) -> tuple[Schema, list[Recording]]:
    folder = folder if folder.is_dir() else folder.parent
    cameras = _camera_folders(folder, intake.cameras)
    shots, refused = video_folder.find_shots(folder, files, cameras, intake.join)
    fates += refused
    if not shots:
        told = "; ".join(f"{fate.file}: {fate.reason}" for fate in fates) or "it holds no files"
        raise UnusableInput(f"{folder} holds no usable video ({', '.join(video_folder.SUFFIXES)}): {told}")
    if kind == "vpt":
        if labels is not None:
            raise UnusableInput(
                f"{folder} has labels of its own (VPT's jsonl); leave out --labels, or give --format videos"
            )
        if intake.space not in (None, vpt.SPACE):
            raise UnusableInput(f"{folder} has VPT's actions; leave out the schema")
        space, labeller = vpt.SPACE, _vpt_labeller(folder)
    elif labels is None:
        space, labeller = intake.space or UNKNOWN, None
    else:
        others = {name for shot in shots for name in list(shot.files)[len(shot.takes[0].reels) :]}  # of further cameras
        rows = assign_files(labels, [name for name in files if name not in others])
        space, labeller = (
            labels.space,
            lambda names, take, timing: _labelled(labels, rows, names, take, timing, intake.clock),
        )
    schema = video_folder.common_schema(shots, list(cameras), space, intake.fps, intake.fit)
    recordings = []
    for shot in shots:
        lengths = [len(take.grid(schema.fps)[0]) for take in shot.takes]
        try:
            if len(set(lengths)) > 1:
                raise _Refused(f"its cameras have {' and '.join(map(str, lengths))} frames at {schema.fps} a second")
            recordings.append(video_folder.recording(shot, schema, labeller, intake.text))
        except _Refused as error:
            fates += [Fate(name, None, "refused", str(error)) for name in shot.files]
    return schema, recordings


class _Refused(UnusableInput):
    """One episode cannot be used; the others can."""


def _camera_folders(folder: Path, told: Sequence[str]) -> dict[str, Path]:
    """Reads NAME=FOLDER, a folder below the one that is imported or a path."""
    cameras: dict[str, Path] = {}
    for pair in told:
        name, _, place = pair.partition("=")
        path = next((path for path in (folder / place, Path(place)) if place and path.is_dir()), None)
        if not name.isidentifier() or path is None or not path.resolve().is_relative_to(folder.resolve()):
            raise UnusableInput(
                f"--camera {pair}: write NAME=FOLDER, with a folder inside {folder}, such as front=front"
            )
        cameras[name] = folder / path.resolve().relative_to(folder.resolve())
    return cameras


def _labelled(
    labels: Labels,
    rows: Mapping[str, list[LabelRow]],
    names: Sequence[str],
    take: Take | None,
    timing: Timing,
    clock: Clock,
) -> tuple[Steps, str]:
    """Returns the actions of an episode of these files from a label file, and what its clock was found to be."""
    mine = [rows.get(name, []) for name in names]
    if clock == "video" or not any(mine):
        return label_steps(labels, mine, timing), ""
    if take is None:
        raise UnusableInput("labels on a clock of their own are matched to video; here is none")
    motion = lambda first, last: take.motion(timing.index[first:last])  # noqa: E731
    steps, ahead = log_steps(labels, [row for part in mine for row in part], timing.shown, motion)
    return steps, f"its labels' clock is {ahead:+.2f} s from the video's"


def _vpt_labeller(folder: Path) -> video_folder.Labeller:
    def label(names: Sequence[str], take: Take, timing: Timing) -> tuple[Steps, str]:
        path = (folder / names[0]).with_suffix(".jsonl")
        if not path.is_file():
            return label_steps(Labels(path, vpt.SPACE, ()), [()], timing), "no jsonl beside it: no actions"
        try:
            found = vpt.read_actions(path, names[0])
        except UnusableInput as error:
            raise _Refused(str(error)) from error
        lines, steps = len(found.rows), take.frames - 1
        note = "" if lines in (steps, steps + 1) else f"{lines} lines for {take.frames} frames, counted from the first"
        return label_steps(found, [found.rows[:steps]], timing), note

    return label


def _dataset(folder: Path, fates: list[Fate], labels: Labels | None, intake: Intake) -> tuple[Schema, list[Recording]]:
    """Reads a LeRobot dataset, or one of ours; every episode that is damaged is refused by its name."""
    source: Store | ForeignDataset
    if (folder / SCHEMA_FILE).is_file() and not intake.cameras:
        source = Store.open(folder)
    else:
        source = open_foreign(folder, _known_cameras(folder, intake.cameras), actions=labels is None)
    if intake.fps not in (None, source.schema.fps):
        raise UnusableInput(
            f"{folder} has {source.schema.fps} frames/s; the rate of a dataset is kept. Leave out --fps"
        )
    schema = video_schema(source.schema, intake.fit, IMAGE_PIXELS)
    rows = {} if labels is None else assign_files(labels, source.ids)
    recordings = []
    for id in source.ids:
        try:
            clip, (data, videos) = source.read(id, frames=False), source.files(id)
            takes = tuple(_cut(path, start, clip.length, schema.fps) for path, start in videos)
        except (Damaged, Undecodable) as error:
            fates.append(Fate(id, None, "refused", str(error)))
            continue
        note = ""
        if labels is not None:
            if clip.known.any():
                raise UnusableInput(f"{folder}: episode {id} has actions of its own; leave out --labels")
            assert clip.times is not None  # every source of episodes fills it
            timing = Timing.plain(clip.times[0].numpy())
            (actions, told), note = _labelled(labels, rows, [id], takes[0] if takes else None, timing, intake.clock)
            clip = clip.with_(actions=actions, source=told, confidence=None)
        frames = lambda id=id: source.read(id).frames  # noqa: E731
        recordings.append(Recording(id, {id: (data, *(path for path, _ in videos))}, clip, takes, frames, note))
    if not recordings:
        raise UnusableInput(f"{folder} holds no usable episode: " + "; ".join(fate.reason for fate in fates))
    return replace(schema, space=_space(schema.space, recordings, labels, intake.space)), recordings


def _known_cameras(folder: Path, told: Sequence[str]) -> list[str] | None:
    """Returns the cameras that are named, whole or by the last part of their name; none: all."""
    if not told:
        return None
    known = open_foreign(folder, [], actions=False).cameras
    return [next((name for name in known if word in (name, name.rpartition(".")[2])), word) for word in told]


def _cut(path: Path, start: float, length: int, fps: int) -> Take:
    facts = decoder.facts(path)
    inside = [time for time in facts.times if start - 0.5 / fps < time < start + (length - 0.5) / fps]
    if len(inside) != length:
        raise Undecodable(path, f"it has {len(inside)} frames from {start:g} s on; expected {length}")
    return Take((Reel(path, facts, tuple(inside)),))


def _space(
    own: ActionSpace, recordings: Sequence[Recording], labels: Labels | None, given: ActionSpace | None
) -> ActionSpace:
    """Returns what the actions of a dataset are: as told, else as it says, with the range that its numbers have."""
    if labels is not None:
        return labels.space
    if given is not None:
        if given.width != own.width:
            raise UnusableInput(
                f"the dataset's actions have columns {own.columns}; the action space has {given.columns}"
            )
        return given
    clips = [recording.clip for recording in recordings if recording.clip.known.any()]
    only = own.segments[0]
    if not clips or len(own.segments) > 1 or only.kind != "continuous" or (only.low, only.high) != (-1.0, 1.0):
        return own
    known = np.concatenate([clip.actions[clip.known].numpy() for clip in clips if clip.actions is not None])
    low, high = float(known.min()), float(known.max())
    return ActionSpace((continuous(only.name, only.values, low, high if high > low else low + 1.0),))


def _arrays(
    source: Path, files: Sequence[str], fates: list[Fate], kind: str, labels: Labels | None, intake: Intake
) -> tuple[Schema, list[Recording]]:
    if intake.fps is None:
        raise UnusableInput(f"{source} ({kind}) does not say at which rate its frames come; give --fps N")
    if labels is not None or intake.cameras:
        raise UnusableInput(f"{source} ({kind}) has actions and cameras of its own; leave out --labels and --camera")
    folder, read = source if source.is_dir() else source.parent, arrays.read_npz if kind == "npz" else read_hdf5
    episodes: list[arrays.Arrays] = []
    for name in files:
        try:
            episodes += read(folder / name, name)
        except UnusableInput as error:
            if isinstance(error, MissingPackage):
                raise
            fates.append(Fate(name, None, "refused", str(error)))
    if not episodes:
        raise UnusableInput(f"{source} holds no usable episode: " + "; ".join(fate.reason for fate in fates))
    schema, recordings = arrays.recordings(episodes, intake.space, intake.fps, intake.text)
    return video_schema(schema, intake.fit, IMAGE_PIXELS), recordings
