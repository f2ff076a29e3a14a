"""A folder of video files as recordings: chapters joined, cameras matched by name, one size and one rate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from retrodict.clip import Clip
from retrodict.data.guarded import Facts, decoder
from retrodict.data.label_steps import Steps, Timing
from retrodict.data.recordings import Fate, Recording
from retrodict.data.schema import IMAGE_PIXELS, Schema
from retrodict.data.takes import Reel, Take
from retrodict.errors import Undecodable, UnusableInput
from retrodict.spaces import ActionSpace

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
CAMERA = "observation.image"
GOPRO = re.compile(r"(G[HXPL])(\d\d)(\d{4})", re.IGNORECASE)  # GH020123: chapter 2 of recording 0123
GOPRO_FIRST = re.compile(r"(GOPR)()(\d{4})", re.IGNORECASE)  # chapter 0 of GP010123, GP020123, ...
NUMBERED = re.compile(r"(.*)_(\d{2,4})()")

# Takes of one episode's files, by name, and when it shows their frames -> its actions, and a note for their fates.
Labeller = Callable[[Sequence[str], Take | None, Timing], tuple[Steps, str]]


@dataclass(frozen=True, slots=True)
class Shot:
    """One episode of a folder: its files by name, for each camera a take."""

    id: str
    files: Mapping[str, Path]
    takes: tuple[Take, ...]


def find_shots(
    folder: Path, files: Sequence[str], cameras: Mapping[str, Path], join: bool
) -> tuple[list[Shot], list[Fate]]:
    """Looks at every file, joins chapters, matches cameras by name; returns the episodes and what was refused.

    `files` lie in `folder`; `cameras` are folders of it by name (none: one camera). With `join`, files NAME_01, NAME_02
    count as chapters, as GoPro's do in any case.
    """
    looks, fates, shots = dict[str, Facts](), list[Fate](), list[Shot]()
    for file in files:
        try:
            looks[file] = decoder.facts(folder / file)
        except Undecodable as error:
            fates.append(Fate(file, None, "refused", error.why))
    if not cameras:
        return [_shot(folder, looks, [names]) for names in _chapters(looks, join)], fates
    sides = [_by_name(folder, looks, path) for path in cameras.values()]
    for name in sorted({name for side in sides for name in side}):
        found = [side.get(name) for side in sides]
        here = [file for file in found if file is not None]
        frames = [looks[file].frames for file in here]
        absent = [camera for camera, file in zip(cameras, found, strict=True) if file is None]
        if not absent and len(set(frames)) == 1:
            shots.append(replace(_shot(folder, looks, [[file] for file in here]), id=name))
            continue
        why = f"camera {absent[0]} has no usable file of this name" if absent else (
            f"its cameras have {' and '.join(map(str, frames))} frames; cut them to the same"
        )  # fmt: skip
        fates += [Fate(file, None, "refused", why) for file in here]
    used = {file for side in sides for file in side.values()}
    fates += [Fate(file, None, "refused", "it lies in no camera's folder") for file in looks if file not in used]
    return shots, fates


def _by_name(folder: Path, looks: Mapping[str, Facts], camera: Path) -> dict[str, str]:
    """Returns the files of one camera's folder by their path in it without suffix."""
    found: dict[str, str] = {}
    for file in looks:
        path = folder / file
        if path.is_relative_to(camera):
            name = path.relative_to(camera).with_suffix("").as_posix()
            if name in found:
                raise UnusableInput(f"{camera} holds {name} twice: {found[name]} and {file}; keep one of them")
            found[name] = file
    return found


def _shot(folder: Path, looks: Mapping[str, Facts], cameras: Sequence[Sequence[str]]) -> Shot:
    takes = tuple(Take(tuple(Reel(folder / n, looks[n], looks[n].times) for n in names)) for names in cameras)
    return Shot(cameras[0][0], {name: folder / name for names in cameras for name in names}, takes)


def _chapters(looks: Mapping[str, Facts], join: bool) -> list[list[str]]:
    """Groups files into recordings: chapters whose numbers follow each other, of one size, rate and codec."""
    groups: list[list[str]] = []
    ends: dict[tuple[object, ...], tuple[int, list[str]]] = {}  # what the next chapter must be -> number, its group
    for number, key, name in sorted(_numbered(looks, join), key=lambda entry: (entry[1], entry[0])):
        last, group = ends.get(key, (None, []))
        if number is None or last is None or number != last + 1:
            group = []
            groups.append(group)
        group.append(name)
        if number is not None:
            ends[key] = (number, group)
    return sorted(groups)


def _numbered(looks: Mapping[str, Facts], join: bool) -> Iterator[tuple[int | None, tuple[str, ...], str]]:
    """Yields each file's chapter number, if it has one, and what it shares with the other chapters."""
    for name, facts in looks.items():
        path = Path(name)
        patterns = (GOPRO, GOPRO_FIRST, NUMBERED) if join else (GOPRO, GOPRO_FIRST)
        found = next((match for pattern in patterns if (match := pattern.fullmatch(path.stem))), None)
        if found is None:
            yield None, (name,), name
            continue
        kind = found[1].upper().replace("GOPR", "GP") if found[3] else found[1]
        look = (facts.width, facts.height, round(facts.rate, 1), facts.codec, facts.rotation)
        yield int(found[2] or 0), (path.parent.as_posix(), kind, found[3], path.suffix.lower(), *map(str, look)), name


def common_schema(
    shots: Sequence[Shot], cameras: Sequence[str], space: ActionSpace, fps: int | None, fit: tuple[int, int] | None
) -> Schema:
    """Returns the schema that all episodes share.

    Raises:
        UnusableInput: they differ in size or rate, and `fit` or `fps` does not say what to do; all are listed.
    """
    groups: dict[tuple[int, int, int | None], list[str]] = {}
    for shot in shots:
        for take in shot.takes:
            width, height = fit or (take.facts.width, take.facts.height)
            look = (width, height, take.whole_rate if fps is None else fps)
            groups.setdefault(look, []).append(take.reels[0].path.name)
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
    names = [f"observation.images.{name}" for name in cameras] or [CAMERA]
    return Schema(space, dict.fromkeys(names, (height, width, 3)), rate, video=max(height, width) > IMAGE_PIXELS)


def recording(shot: Shot, schema: Schema, labeller: Labeller | None, text: str) -> Recording:
    """Returns an episode with its actions, to be stored.

    Raises:
        UnusableInput: its labels are wrong.
    """
    take = shot.takes[0]
    index, shown = take.grid(schema.fps)
    clip, note = Clip(times=torch.from_numpy(shown)[None], text=(text,)), ""
    if labeller is not None:
        files = tuple(np.array(reel.times) - reel.times[0] for reel in take.reels)
        names = list(shot.files)[: len(take.reels)]
        (actions, source), note = labeller(names, take, Timing(files, take.starts, index, shown))
        clip = clip.with_(actions=actions, source=source)
    return Recording(shot.id, {name: (path,) for name, path in shot.files.items()}, clip, shot.takes, note=note)
