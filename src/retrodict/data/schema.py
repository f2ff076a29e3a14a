"""What every episode of a dataset has in common (`Schema`), and what every source of episodes offers (`Episodes`).

An episode is a Clip with one row: T frames and T-1 steps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import MISSING, PREDICTED, RECORDED, SOURCES, Clip
from retrodict.errors import UnknownName, UnusableInput
from retrodict.spaces import ActionSpace

IMAGE_PIXELS = 128  # frames up to this many pixels a side are stored as lossless images, larger ones as video


@dataclass(frozen=True)
class Schema:
    """What every episode of a dataset has in common.

    `cameras` maps a name to (height, width, channels); several stack on the channel axis of a Clip in this order.
    `fps` is frames per second. `video` stores frames as mp4 (lossy) in place of PNG images (lossless). `proprio`
    names the columns of the recorded low-dimensional observation. `rewards` stores rewards and ends, `bounds` what each
    action is known to lie between.

    Raises:
        UnusableInput: a camera, a rate or a name that cannot be stored.
    """

    space: ActionSpace
    cameras: Mapping[str, tuple[int, int, int]]
    fps: int
    video: bool = False
    proprio: tuple[str, ...] = ()
    rewards: bool = False
    bounds: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.fps, bool) or not isinstance(self.fps, int) or not 1 <= self.fps <= 1000:
            raise UnusableInput(f"a dataset has a whole number of frames per second, 1..1000; got {self.fps!r}")
        sizes = {shape[:2] for shape in self.cameras.values()}
        if len(sizes) > 1:
            raise UnusableInput(f"all cameras of a dataset have one size; got {dict(self.cameras)}. Resize them first")
        for name, shape in self.cameras.items():
            if "/" in name or not name.startswith("observation.") or len(shape) != 3 or shape[2] not in (1, 3):
                raise UnusableInput(
                    f"camera {name!r} of shape {shape}: a camera is named 'observation.…' without '/', "
                    "and has shape (height, width, 3) or (height, width, 1)"
                )
            if min(shape) < 1 or (self.video and shape[2] != 3):
                raise UnusableInput(f"camera {name!r} of shape {shape} cannot be stored as {self._kind()}")
        if len(set(self.proprio)) != len(self.proprio):
            raise UnusableInput(f"the proprio columns need distinct names; got {self.proprio}")

    def _kind(self) -> str:
        return "video" if self.video else "images"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every camera, in pixels; (0, 0) without cameras."""
        return next(((h, w) for h, w, _ in self.cameras.values()), (0, 0))

    @property
    def channels(self) -> int:
        """Channels of a Clip's frames: those of all cameras together."""
        return sum(shape[2] for shape in self.cameras.values())

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        value = {
            "space": self.space.to_json(),
            "cameras": [[name, *shape] for name, shape in self.cameras.items()],
            "fps": self.fps,
            "video": self.video,
            "proprio": list(self.proprio),
            "rewards": self.rewards,
            **({"bounds": True} if self.bounds else {}),  # absent from datasets that were written before it was known
        }
        plain: dict[str, Any] = json.loads(json.dumps(value))  # tuples become lists, as they do on disk
        return plain

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Schema:
        """Reads what `to_json` wrote; an unknown or absent key is an error."""
        known = set(Schema.__dataclass_fields__)
        for name in value:
            if name not in known:
                raise UnknownName("key of a schema", name, known)
        if absent := known - set(value) - {"bounds"}:
            raise UnusableInput(f"a schema needs the keys {sorted(absent)}, which are absent")
        return Schema(
            ActionSpace.from_json(value["space"]),
            {name: (h, w, c) for name, h, w, c in value["cameras"]},
            value["fps"],
            value["video"],
            tuple(value["proprio"]),
            value["rewards"],
            value.get("bounds", False),
        )


class Episodes(Protocol):
    """What every source of episodes offers: a store on disk or in memory, a foreign dataset, a view with labels."""

    @property
    def schema(self) -> Schema:
        """What the episodes have in common."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique names of the episodes, in the order of their commit."""
        ...

    @property
    def lengths(self) -> Mapping[str, int]:
        """Number of frames (T) of each episode."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of all committed content; equal content in equal order gives equal digests."""
        ...

    def hash(self, id: str) -> str:
        """Returns the SHA-256 of one episode's frames and times, to which labels are bound."""
        ...

    def read(self, id: str, *, frames: bool = True) -> Clip:
        """Returns one episode as a Clip of one row: frames (unless declined), actions, source, confidence, times,
        text, and rewards, ends and proprio where the schema has them.

        Raises:
            UnknownName: no such episode.
            Damaged: the stored bytes are not the ones that were committed.
        """
        ...

    def stream(self, id: str, frames: int = 64) -> Iterator[UInt8[Tensor, "1 n c h w"]]:
        """Yields the frames of one episode in order, `frames` at a time (the last may be fewer); where they are video,
        memory does not grow with the episode.

        Raises: as `read`.
        """
        ...

    def videos(self, id: str) -> Sequence[tuple[Path, float]]:
        """Returns the video file of each camera, in order, and where the episode begins in it, in seconds; none where
        frames are not kept as video files."""
        ...


def conform(clip: Clip, schema: Schema, name: str = "episode") -> Clip:
    """Returns the episode with every field that the schema stores: absent ones filled, actions zeroed where missing.

    Actions without `source` count as recorded; confidence is 1 where recorded and 0 where missing; times are
    frame / fps. `name` is the episode's name in messages.

    Raises:
        UnusableInput: a field is absent that cannot be filled, or has another shape than the schema says, or holds
            a number that is not finite.
    """
    if clip.rows != 1:
        raise UnusableInput(f"{name}: an episode is a clip of one row; this one has {clip.rows}. Use clip.pick([i])")
    clip = clip.with_(features=None, segment=None).to("cpu")
    t, d = clip.length, schema.space.width
    _expect(clip.frames, "frames", (1, t, schema.channels, *schema.size), name, bool(schema.cameras))
    _expect(clip.proprio, "proprio", (1, t, len(schema.proprio)), name, bool(schema.proprio))
    source = _source(clip, name)
    actions = torch.zeros(1, t - 1, d) if clip.actions is None else clip.actions
    _expect(actions, "actions", (1, t - 1, d), name, True)
    actions = torch.where((source == MISSING).unsqueeze(-1), 0.0, actions)
    for field in ("rewards", "ends") if schema.rewards else ():
        _expect(getattr(clip, field), field, (1, t - 1), name, True)
    full = Clip(
        frames=clip.frames,
        actions=actions,
        source=source,
        confidence=_confidence(clip, source, name),
        bounds=_bounds(clip, actions, name) if schema.bounds else None,
        rewards=clip.rewards if schema.rewards else None,
        ends=clip.ends if schema.rewards else None,
        times=torch.arange(t, dtype=torch.float64)[None] / schema.fps if clip.times is None else clip.times,
        text=clip.text or ("",),
        proprio=clip.proprio,
    )
    _check_numbers(full, name)
    return full


def _expect(value: Tensor | None, field: str, shape: tuple[int, ...], name: str, wanted: bool) -> None:
    if value is None:
        if wanted:
            raise UnusableInput(f"{name}: the dataset stores {field} of shape {shape}; the clip has none")
    elif not wanted or tuple(value.shape) != shape:
        want = f"of shape {shape}" if wanted else f"no {field}"
        raise UnusableInput(f"{name}: {field} has shape {tuple(value.shape)}; the dataset stores {want}")


def _source(clip: Clip, name: str) -> Tensor:
    if clip.source is None:
        present = MISSING if clip.actions is None else RECORDED
        return torch.full((1, clip.steps), present, dtype=torch.uint8)
    if clip.source.numel() and int(clip.source.max()) >= len(SOURCES):
        raise UnusableInput(f"{name}: source is {int(clip.source.max())}; it is one of 0..3, {', '.join(SOURCES)}")
    if clip.actions is None and bool((clip.source != MISSING).any()):
        raise UnusableInput(f"{name}: source says that actions are there, and the clip has no actions")
    return clip.source


def _confidence(clip: Clip, source: Tensor, name: str) -> Tensor:
    if clip.confidence is not None:
        if clip.confidence.numel() and not bool(((clip.confidence >= 0) & (clip.confidence <= 1)).all()):
            raise UnusableInput(f"{name}: confidence is a probability, 0..1; got {clip.confidence.min().item():g}..")
        return clip.confidence
    if bool((source == PREDICTED).any()):
        raise UnusableInput(f"{name}: predicted actions need their confidence")
    return (source == RECORDED).float()


def _bounds(clip: Clip, actions: Tensor, name: str) -> Tensor:
    """What each action lies between; an action without bounds is its own."""
    if clip.bounds is None:
        return torch.stack([actions, actions], 2)
    _expect(clip.bounds, "bounds", (1, clip.steps, 2, actions.shape[-1]), name, True)
    if not bool((clip.bounds[:, :, 0] <= clip.bounds[:, :, 1]).all()):
        raise UnusableInput(f"{name}: the lower bound of an action lies above the upper one")
    return clip.bounds


def _check_numbers(clip: Clip, name: str) -> None:
    for field in ("actions", "bounds", "rewards", "ends", "proprio", "times"):
        value = getattr(clip, field)
        if value is not None and not bool(torch.isfinite(value).all()):
            step = int((~torch.isfinite(value)).nonzero()[0, 1])
            raise UnusableInput(f"{name}: {field} at {step} is not finite; mark missing actions with source = 0")
    if clip.ends is not None and not bool(((clip.ends == 0) | (clip.ends == 1)).all()):
        raise UnusableInput(f"{name}: a stored end is 0 or 1; round the probabilities of a model first")
    assert clip.times is not None  # conform() filled it
    if not bool((clip.times[:, 1:] > clip.times[:, :-1]).all()):
        raise UnusableInput(f"{name}: times must grow from frame to frame")


def hash_arrays(*parts: Tensor | str | None) -> str:
    """Returns the SHA-256 of tensors (shape, dtype and values) and texts."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(part.contiguous().numpy().data if part.numel() else b"")
        else:
            digest.update(f"{type(part).__name__}:{part}".encode())
    return digest.hexdigest()


def hash_rest(clip: Clip) -> str:
    """Returns the SHA-256 of what an episode holds besides frames and times."""
    text = None if clip.text is None else "\x1f".join(clip.text)
    bounds = () if clip.bounds is None else (clip.bounds,)
    return hash_arrays(clip.actions, clip.source, clip.confidence, *bounds, clip.rewards, clip.ends, clip.proprio, text)


def digest_of(schema: Schema, episodes: Iterable[tuple[str, str, str]]) -> str:
    """Returns the digest of a dataset, given (id, hash of frames and times, hash of the rest) of its episodes."""
    digest = hashlib.sha256(json.dumps(schema.to_json(), sort_keys=True).encode())
    for entry in episodes:
        digest.update("\x1f".join(entry).encode() + b"\x1e")
    return digest.hexdigest()


def new_ids(given: Iterable[str] | None, count: int, taken: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns ids for `count` new episodes: the given ones, or the next numbers.

    Raises:
        UnusableInput: an id is taken, given twice, or not a plain name; or their number is another.
    """
    if given is None:
        start = len(taken)
        while any(f"{start + i:06d}" in taken for i in range(count)):  # ids that the caller chose may be numbers
            start += 1
        return tuple(f"{start + i:06d}" for i in range(count))
    ids = tuple(given)
    if len(ids) != count or len(set(ids)) != count:
        raise UnusableInput(f"{count} episodes need {count} distinct ids; got {list(ids)}")
    for id in ids:
        if id in taken:
            raise UnusableInput(f"there is an episode {id!r} already; ids are unique within a dataset")
        if not id or any(ord(c) < 32 for c in id):
            raise UnusableInput(f"{id!r} cannot name an episode; use printable text")
    return ids
