"""Recordings: episodes on their way into a store, whatever format they come from, and what becomes of each file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data import takes
from retrodict.data.durable import file_hash
from retrodict.data.schema import Schema, conform, hash_rest
from retrodict.data.staging import conform_schema
from retrodict.data.store import READ_BYTES, STAGING, Store
from retrodict.data.takes import Take
from retrodict.errors import Damaged, Undecodable, UnusableInput

Outcome = Literal["linked", "remuxed", "re-encoded", "images", "rows", "joined", "kept", "skipped", "refused"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one file: the episode that it is now, and how it is stored; or why it was refused."""

    file: str
    id: str | None
    what: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """One episode: everything but frames in `clip`; frames in video files by camera (`takes`), or read when stored.

    `files` are what it is made of, by the names under which their fates are told.
    """

    id: str
    files: Mapping[str, tuple[Path, ...]]
    clip: Clip
    takes: tuple[Take, ...] = ()
    frames: Callable[[], UInt8[Tensor, "1 t c h w"] | None] = lambda: None
    note: str = ""


def store_recordings(out: Path, schema: Schema, recordings: Iterable[Recording], kind: str) -> list[Fate]:
    """Commits every recording to the store `out`, made if it is not there, and returns the fates of their files.

    Raises:
        UnusableInput: `out` holds a dataset of another schema, or the same episodes with other content or labels.
        Locked: another process writes to `out`.
    """
    hashes: dict[Path, str] = {}
    fates: list[Fate] = []
    with Store.open_or_create(out, schema) as store:
        for recording in recordings:
            for path in (path for paths in recording.files.values() for path in paths if path not in hashes):
                hashes[path] = file_hash(path)
            files = {name: [hashes[path] for path in paths] for name, paths in recording.files.items()}
            fates += _fates(
                recording, *_append(store, recording, {"format": kind, "file": recording.id, "sha256": files})
            )
    return fates


def _fates(recording: Recording, what: Outcome, reason: str) -> list[Fate]:
    names = list(recording.files)
    joined = len(names) > 1 and what not in ("refused", "kept")
    reasons = [f"{len(names)} files as one episode, {what}"] if joined else []
    told = "; ".join(part for part in [*reasons, reason, recording.note if what != "refused" else ""] if part)
    id = None if what == "refused" else recording.id
    return [Fate(name, id, "joined" if joined else what, told) for name in names]


def _append(store: Store, recording: Recording, provenance: Mapping[str, Any]) -> tuple[Outcome, str]:
    if recording.id in store.lengths:
        return _keep(store, recording, provenance)
    try:
        if not store.schema.cameras:
            store.append([recording.clip], provenance, [recording.id])
            return "rows", ""
        if recording.takes and store.schema.video:
            return _append_video(store, recording, provenance)
        clip = recording.clip.with_(frames=_frames(recording, store.schema))
        store.append([clip], provenance, [recording.id])
        return ("re-encoded", "from pictures") if store.schema.video else ("images", "")
    except (Undecodable, Damaged, UnusableInput) as error:  # this episode; the others may be good
        shutil.rmtree(store.folder / STAGING, ignore_errors=True)
        if not isinstance(error, Undecodable):
            return "refused", str(error)
        return "refused", f"{error.file.name}: {error.why}" if len(recording.files) > 1 else error.why


def _append_video(store: Store, recording: Recording, provenance: Mapping[str, Any]) -> tuple[Outcome, str]:
    """Appends by the simplest way that works: packets that cannot be copied are decoded and encoded."""
    ways = [take.way(store.schema) for take in recording.takes]
    try:
        store.append([recording.clip], provenance, [recording.id], videos=[_videos(store, recording, ways)])
    except Undecodable as error:
        if all(way != "remuxed" for way, _ in ways):
            raise
        why = f"its packets cannot be copied: {error.why}"
        ways = [("re-encoded", why) if way == "remuxed" else (way, reason) for way, reason in ways]
        store.append([recording.clip], provenance, [recording.id], videos=[_videos(store, recording, ways)])
    order: tuple[takes.Way, ...] = ("linked", "remuxed", "re-encoded")
    return max(ways, key=lambda told: order.index(told[0]))


def _videos(store: Store, recording: Recording, ways: Sequence[tuple[takes.Way, str]]) -> dict[str, Path]:
    """Returns a video file for each camera: the very file, or one made where an append sweeps it away."""
    staging = store.folder / STAGING
    staging.mkdir(parents=True, exist_ok=True)
    videos = {}
    for name, take, (way, _) in zip(store.schema.cameras, recording.takes, ways, strict=True):
        videos[name] = take.reels[0].path if way == "linked" else staging / f"{name}.mp4"
        if way == "remuxed":
            take.remux(videos[name], store.schema.fps)
        elif way == "re-encoded":
            takes.encode(take, videos[name], store.schema)
    return videos


def _frames(recording: Recording, schema: Schema) -> UInt8[Tensor, "1 t c h w"]:
    size = recording.clip.length * schema.channels * schema.size[0] * schema.size[1]
    if size > READ_BYTES:
        first = next(iter(recording.files.values()))[0]
        raise Undecodable(first, f"its frames take {size} bytes as images, more than {READ_BYTES}; split it")
    if recording.takes:
        return takes.decoded(recording.takes, schema)
    frames = recording.frames()
    assert frames is not None  # the schema has cameras
    if tuple(frames.shape[-2:]) != schema.size:
        frames = F.interpolate(frames[0].float(), schema.size, mode="area").round().to(torch.uint8)[None]
    return frames


def _keep(store: Store, recording: Recording, provenance: Mapping[str, Any]) -> tuple[Outcome, str]:
    """Keeps an episode of an earlier import, provided that it is of the same files and labels."""
    there = store.read(recording.id, frames=False)
    fresh = conform(recording.clip, conform_schema(store.schema, True), recording.id)
    same = hash_rest(fresh) == hash_rest(there)
    before = next(c.provenance for c in store.commits if any(entry.id == recording.id for entry in c.episodes))
    if not same or dict(before) != dict(provenance):
        raise UnusableInput(
            f"{store.folder} holds {recording.id} with {'other content' if same else 'other labels'}; "
            "name another folder, or remove that one"
        )
    return "kept", ""


def video_schema(schema: Schema, fit: tuple[int, int] | None, pixels: int) -> Schema:
    """Returns the schema with every camera at `fit` (width, height), and video where a side exceeds `pixels`."""
    cameras = {name: (*(fit[::-1] if fit else shape[:2]), shape[2]) for name, shape in schema.cameras.items()}
    return replace(schema, cameras=cameras, video=max((max(h, w) for h, w, _ in cameras.values()), default=0) > pixels)
