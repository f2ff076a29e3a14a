"""A dataset in memory, behind the same interface as the one on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.schema import Schema, conform, digest_of, hash_arrays, hash_rest, new_ids
from retrodict.errors import UnknownName


class MemoryStore:
    """Episodes in memory: replay, tests and short-lived data. Frames stay uint8 and exact, also under `video`."""

    def __init__(self, schema: Schema, clips: Sequence[Clip] = ()) -> None:
        self.schema = schema
        self._clips: dict[str, Clip] = {}
        self._hashes: dict[str, tuple[str, str]] = {}
        if clips:
            self.append(clips)

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique names of the episodes, in the order of their commit."""
        return tuple(self._clips)

    @property
    def lengths(self) -> Mapping[str, int]:
        """Number of frames (T) of each episode."""
        return {id: clip.length for id, clip in self._clips.items()}

    @property
    def digest(self) -> str:
        """SHA-256 of all content; a store on disk with the same lossless content has the same digest."""
        return digest_of(self.schema, ((id, *hashes) for id, hashes in self._hashes.items()))

    def hash(self, id: str) -> str:
        """Returns the SHA-256 of one episode's frames and times."""
        self._require(id)
        return self._hashes[id][0]

    def read(self, id: str, *, frames: bool = True) -> Clip:
        """Returns one episode as a Clip of one row; it shares its tensors with the store."""
        self._require(id)
        clip = self._clips[id]
        return clip if frames else clip.with_(frames=None)

    def stream(self, id: str, frames: int = 64) -> Iterator[UInt8[Tensor, "1 n c h w"]]:
        """Yields the frames of one episode in order, `frames` at a time."""
        whole = self.read(id).frames
        if whole is not None:
            yield from torch.split(whole, frames, dim=1)

    def videos(self, id: str) -> Sequence[tuple[Path, float]]:
        """Returns nothing: no frames are kept as files."""
        return ()

    def append(
        self, clips: Sequence[Clip], provenance: Mapping[str, Any] | None = None, ids: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Adds episodes and returns their ids; `provenance` is accepted as by a store on disk, and not kept.

        Raises:
            UnusableInput: an episode does not fit the schema, or an id is taken; nothing is added.
        """
        names = new_ids(ids, len(clips), self._clips)
        full = [conform(clip, self.schema, name) for clip, name in zip(clips, names, strict=True)]
        for name, clip in zip(names, full, strict=True):
            self._clips[name] = clip
            self._hashes[name] = (hash_arrays(clip.frames, clip.times), hash_rest(clip))
        return names

    def _require(self, id: str) -> None:
        if id not in self._clips:
            raise UnknownName("episode", id, self._clips)
