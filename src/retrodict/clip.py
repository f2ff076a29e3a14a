"""Clip: the one container for video, actions and what belongs to them.

The fence-post rule: T frames have T-1 steps, and step t joins frame t to frame t+1.

    frame 0 --step 0--> frame 1 --step 1--> frame 2         T = 3 frames, 2 steps
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, UInt8
from torch import Tensor

from retrodict.errors import UnusableInput

MISSING, RECORDED, PREDICTED, ABSTAINED = 0, 1, 2, 3  # values of Clip.source
SOURCES = ("missing", "recorded", "predicted", "abstained")

_PER_FRAME = ("frames", "segment", "times", "proprio", "features")
_PER_STEP = ("actions", "source", "confidence", "bounds", "rewards", "ends")
_DTYPES = {
    "frames": torch.uint8, "actions": torch.float32, "source": torch.uint8, "confidence": torch.float32,
    "bounds": torch.float32, "rewards": torch.float32, "ends": torch.float32, "segment": torch.int32,
    "times": torch.float64, "proprio": torch.float32,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clip:
    """A batch of B clips of T >= 1 frames and T-1 steps; step t joins frame t to frame t+1.

    Every field may be absent (None). Absent actions of single steps are zeros and never read: `source` decides.

    Raises:
        UnusableInput: the fields disagree about B or T, or have the wrong dtype.
    """

    frames: UInt8[Tensor, "b t c h w"] | None = None
    actions: Float32[Tensor, "b t-1 *a"] | None = None  # laid out as the ActionSpace says; *a = (d,) or (k, d)
    source: UInt8[Tensor, "b t-1"] | None = None  # MISSING, RECORDED, PREDICTED or ABSTAINED
    confidence: Float32[Tensor, "b t-1"] | None = None  # probability that a predicted action is right; 1 if recorded
    bounds: Float32[Tensor, "b t-1 2 d"] | None = None  # lowest and highest value of each action column left open
    rewards: Float32[Tensor, "b t-1"] | None = None
    ends: Float32[Tensor, "b t-1"] | None = None  # probability that the episode terminated at this step
    segment: Int32[Tensor, "b t"] | None = None  # episode number within the row, -1 padding
    times: Float64[Tensor, "b t"] | None = None  # seconds from the episode's first frame
    text: tuple[str, ...] | None = None  # one instruction per clip
    proprio: Float32[Tensor, "b t s"] | None = None  # recorded low-dimensional observation
    features: Float[Tensor, "b t *f"] | None = None  # a model's own states; carries gradients; never stored

    def __post_init__(self) -> None:
        b, t = self._shape()
        for name in _PER_FRAME + _PER_STEP:
            value = getattr(self, name)
            if value is None:
                continue
            want = t if name in _PER_FRAME else t - 1
            if value.shape[:2] != (b, want):
                raise UnusableInput(self._disagreement(name, tuple(value.shape), b, t, want))
            if name in _DTYPES and value.dtype != _DTYPES[name]:
                raise UnusableInput(f"clip.{name} has dtype {value.dtype}; expected {_DTYPES[name]}")
        if self.text is not None and len(self.text) != b:
            raise UnusableInput(f"clip has {b} rows and {len(self.text)} texts; give one text per row")

    def _shape(self) -> tuple[int, int]:
        for name in ("frames", "features", "proprio", "segment", "times"):
            value = getattr(self, name)
            if value is not None:
                return self._leading(name, value)
        for name in _PER_STEP:
            value = getattr(self, name)
            if value is not None:
                b, steps = self._leading(name, value)
                return b, steps + 1
        raise UnusableInput("a clip needs at least one field, such as frames or actions")

    def _leading(self, name: str, value: Tensor) -> tuple[int, int]:
        if value.ndim < 2:
            raise UnusableInput(f"clip.{name} has shape {tuple(value.shape)}; expected rows and time as its first axes")
        return value.shape[0], value.shape[1]  # no int(): a tracer's sizes are symbols

    def _disagreement(self, name: str, shape: tuple[int, ...], b: int, t: int, want: int) -> str:
        if name == "actions" and shape[0] == b and shape[1] == t:
            return (
                f"clip has {t} frames and {t} actions; a clip of T frames has T-1 actions. If your file stores one "
                "action per frame, drop the last (action follows the frame) or the first (action precedes it)."
            )
        return f"clip.{name} has shape {shape}; expected ({b}, {want}, ...) for {b} rows of {t} frames"

    @property
    def rows(self) -> int:
        """Number of clips in the batch (B)."""
        return self._shape()[0]

    @property
    def length(self) -> int:
        """Number of frames (T)."""
        return self._shape()[1]

    @property
    def steps(self) -> int:
        """Number of steps (T-1)."""
        return self.length - 1

    @property
    def device(self) -> torch.device:
        """Device of the first present tensor."""
        return next(v.device for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor))

    @property
    def real(self) -> Bool[Tensor, "b t-1"]:
        """True where a step joins two frames of one episode (not padding, not a change of episode)."""
        if self.segment is None:
            return torch.ones(self.rows, self.steps, dtype=torch.bool, device=self.device)
        return (self.segment[:, 1:] == self.segment[:, :-1]) & (self.segment[:, :-1] >= 0)

    @property
    def known(self) -> Bool[Tensor, "b t-1"]:
        """True where a real step carries an action to learn from (recorded or predicted, not abstained)."""
        if self.actions is None:
            return torch.zeros(self.rows, self.steps, dtype=torch.bool, device=self.device)
        if self.source is None:
            return self.real
        return self.real & ((self.source == RECORDED) | (self.source == PREDICTED))

    def with_(self, **changes: Any) -> Clip:
        """Returns a copy with these fields replaced."""
        return replace(self, **changes)

    def only(self, *names: str) -> Clip:
        """Returns a copy that keeps only the named fields."""
        return Clip(**{name: getattr(self, name) for name in names})

    def cut(self, start: int, stop: int) -> Clip:
        """Returns frames start..stop-1 and the steps between them; 0 <= start < stop <= T."""
        if not 0 <= start < stop <= self.length:
            raise UnusableInput(f"cannot cut frames {start}..{stop} out of a clip of {self.length} frames")
        changes: dict[str, Any] = {n: v[:, start:stop] for n in _PER_FRAME if (v := getattr(self, n)) is not None}
        changes |= {n: v[:, start : stop - 1] for n in _PER_STEP if (v := getattr(self, n)) is not None}
        return replace(self, **changes)

    def pick(self, index: Sequence[int] | Tensor) -> Clip:
        """Returns the rows with these numbers, in this order; a mask is refused."""
        positions = torch.as_tensor(index, dtype=None if len(index) else torch.long)
        if positions.dtype == torch.bool or positions.is_floating_point():
            raise UnusableInput(f"pick takes row numbers; got {positions.dtype}. Turn a mask into mask.nonzero()[:, 0]")
        positions = positions.long()
        changes: dict[str, Any] = {
            n: v[positions.to(v.device)] for n in _PER_FRAME + _PER_STEP if (v := getattr(self, n)) is not None
        }
        if self.text is not None:
            changes["text"] = tuple(self.text[i] for i in positions.tolist())
        return replace(self, **changes)

    def to(self, device: torch.device | str) -> Clip:
        """Returns a copy on this device."""
        changes = {n: v.to(device) for n in _PER_FRAME + _PER_STEP if (v := getattr(self, n)) is not None}
        return replace(self, **changes)


def stack(clips: Sequence[Clip]) -> Clip:
    """Joins clips of equal length along the batch axis; a field must be present in all or in none."""
    if not clips:
        raise UnusableInput("cannot stack zero clips")
    lengths = sorted({clip.length for clip in clips})
    if len(lengths) > 1:
        raise UnusableInput(f"cannot stack clips of {' and '.join(map(str, lengths))} frames; cut them to one length")
    joined: dict[str, Any] = {}
    for field in fields(Clip):
        values = [getattr(clip, field.name) for clip in clips]
        present = [value is not None for value in values]
        if not any(present):
            continue
        if not all(present):
            raise UnusableInput(f"some clips have {field.name} and others do not; drop the field or fill it")
        if field.name == "text":
            joined["text"] = tuple(text for value in values for text in value)
        else:
            joined[field.name] = torch.cat(values)
    return Clip(**joined)


def concatenate(first: Clip, second: Clip) -> Clip:
    """Joins two clips in time where `second` starts with the last frame of `first` (T1 + T2 - 1 frames)."""
    if first.rows != second.rows:
        raise UnusableInput(
            f"cannot join clips of {first.rows} and {second.rows} rows in time; they need the same rows"
        )
    if first.text != second.text:
        raise UnusableInput(f"the clips have different text: {first.text} and {second.text}; drop it or make it one")
    joined: dict[str, Any] = {}
    for name in _PER_FRAME + _PER_STEP:
        a, b = getattr(first, name), getattr(second, name)
        if (a is None) != (b is None):
            raise UnusableInput(f"one clip has {name} and the other does not; drop the field or fill it")
        if a is not None:
            joined[name] = torch.cat([a, b[:, 1:] if name in _PER_FRAME else b], dim=1)
    return Clip(**joined, text=first.text)
