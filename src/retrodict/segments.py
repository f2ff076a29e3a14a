"""Segment: one named part of an action, and how a person's value becomes its columns."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from retrodict.constants import constant
from retrodict.errors import UnknownName, UnusableInput

Kind = Literal["categorical", "binary", "continuous", "text", "code", "vector"]
KINDS: tuple[Kind, ...] = ("categorical", "binary", "continuous", "text", "code", "vector")
ONE_HOT = ("categorical", "code")
GAUSSIAN = ("continuous", "vector")


@dataclass(frozen=True, slots=True)
class Segment:
    """One named part of an action.

    `values` names the columns (the values of a categorical, the keys of a binary, the axes of a continuous segment).
    `groups` lists values that cannot be told apart from two frames; scoring merges them. `low` and `high` bound a
    continuous segment in `unit`; `relative` says that the numbers are changes. `center` and `scale` normalise it.
    `edges` are bin edges for models that discretise it. Source of the kinds: design, section 3.
    """

    name: str
    kind: Kind
    values: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    unit: str = ""
    low: float = -1.0
    high: float = 1.0
    relative: bool = False
    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    tolerance: float = 0.1  # a continuous prediction counts as right within this share of (high - low)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("action kind", self.kind, KINDS)
        if not self.values or len(set(self.values)) != len(self.values):
            raise UnusableInput(f"segment {self.name!r} needs distinct value names; got {self.values}")
        if "/" in self.name or "=" in self.name:
            raise UnusableInput(f"segment name {self.name!r} must not contain '/' or '='")
        grouped = [value for group in self.groups for value in group]
        for value in grouped:
            if value not in self.values:
                raise UnknownName(f"value of segment {self.name!r}", value, self.values)
            if grouped.count(value) > 1:
                raise UnusableInput(f"{value!r} of segment {self.name!r} is in two groups; join them into one")
        if len(self.center) not in (0, self.width) or len(self.scale) not in (0, self.width):
            raise UnusableInput(f"segment {self.name!r} needs {self.width} numbers as center and as scale, or none")
        if any(scale <= 0 for scale in self.scale) or self.low >= self.high:
            raise UnusableInput(
                f"segment {self.name!r} needs scale > 0 and low < high; got {self.scale}, {self.low}, {self.high}"
            )

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.values)

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names on disk."""
        if self.width == 1 and self.kind in ("continuous", "binary"):
            return (self.name,)
        mark = "=" if self.kind in ONE_HOT else "."
        return tuple(f"{self.name}{mark}{value}" for value in self.values)

    @property
    def parameters(self) -> int:
        """Number of distribution parameters."""
        return 2 * self.width if self.kind in GAUSSIAN else self.width

    @property
    def merged(self) -> tuple[int, ...]:
        """For each value the number of its class after merging indistinguishable values, 0.. in order of values."""
        first = {value: group[0] for group in self.groups for value in group}
        order: dict[str, int] = {}
        return tuple(order.setdefault(first.get(value, value), len(order)) for value in self.values)

    @property
    def merged_names(self) -> tuple[str, ...]:
        """Names of the classes after merging; a merged class joins its values with '/'."""
        names: dict[int, list[str]] = {}
        for value, number in zip(self.values, self.merged, strict=True):
            names.setdefault(number, []).append(value)
        return tuple("/".join(group) for group in names.values())


def categorical(name: str, values: Sequence[str], groups: Sequence[Sequence[str]] = ()) -> Segment:
    """One choice among named values."""
    return Segment(name, "categorical", tuple(values), tuple(tuple(group) for group in groups))


def code(name: str, size: int) -> Segment:
    """One of `size` latent codes."""
    return Segment(name, "code", tuple(str(i) for i in range(size)))


def vector(name: str, width: int) -> Segment:
    """A latent vector of `width` numbers."""
    return Segment(name, "vector", tuple(str(i) for i in range(width)))


def continuous(name: str, values: Sequence[str], low: float = -1.0, high: float = 1.0, **more: Any) -> Segment:
    """Real numbers, one per named axis."""
    return Segment(name, "continuous", tuple(values), low=low, high=high, **more)


def axes(name: str, values: Sequence[str], numbers: Float[np.ndarray, "n d"], **more: Any) -> Segment:
    """Real numbers with the range that they were met in, normalised by their means and standard deviations.

    Raises:
        UnusableInput: some are not finite as 32-bit numbers, as which they are kept.
    """
    if not (np.abs(numbers) <= np.finfo(np.float32).max).all():
        raise UnusableInput(f"{name} holds numbers that are not finite, or beyond 32 bits")
    return scaled_axes(name, values, numbers.min(0), numbers.max(0), numbers.mean(0), numbers.std(0), **more)


Row = Float[np.ndarray, "d"]


def scaled_axes(name: str, values: Sequence[str], low: Row, high: Row, mean: Row, std: Row, **more: Any) -> Segment:
    """The same of what is told of the numbers; one that never varies has scale 1."""
    bottom, top = float(low.min()), float(high.max())
    scale = tuple(float(s) or 1.0 for s in std)
    ends = (bottom, top if top > bottom else bottom + 1.0)
    return continuous(name, values, *ends, center=tuple(map(float, mean)), scale=scale, **more)


def segment_vector(segment: Segment, value: str | int | float | Sequence[float]) -> Tensor:
    """Turns one segment's value, as a person writes it, into its columns.

    Raises:
        UnknownName: no such value. UnusableInput: out of range, or not of the segment's kind.
    """
    if segment.kind in ONE_HOT:
        number = segment.values.index(value) if value in segment.values else _whole(segment, value)
        if not 0 <= number < segment.width:
            raise UnusableInput(f"{segment.name} = {number} is out of range; it has values 0..{segment.width - 1}")
        return F.one_hot(torch.tensor(number), segment.width).float()
    if segment.kind == "text":
        data = str(value).encode()
        if len(data) > segment.width:
            raise UnusableInput(f"text of {len(data)} bytes does not fit segment {segment.name!r} ({segment.width})")
        return torch.tensor([*data, *[-1] * (segment.width - len(data))], dtype=torch.float32)
    given = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(given) != segment.width:
        raise UnusableInput(f"segment {segment.name!r} takes {segment.width} numbers; got {len(given)}")
    numbers = [_number(segment, v) for v in given]
    if segment.kind == "binary" and not set(numbers) <= {0.0, 1.0}:
        raise UnusableInput(f"segment {segment.name!r} takes 0 or 1 for each key; got {numbers}")
    return torch.tensor(numbers, dtype=torch.float32)


def _whole(segment: Segment, value: str | int | float | Sequence[float]) -> int:
    if isinstance(value, str):
        if not re.fullmatch(r"-?[0-9]+", value):
            raise UnknownName(f"value of segment {segment.name!r}", value, segment.values)
        return int(value)
    if isinstance(value, Sequence) or not float(value).is_integer():
        raise UnusableInput(f"segment {segment.name!r} takes a name or a whole number; got {value}")
    return int(value)


def _number(segment: Segment, value: str | float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UnusableInput(f"segment {segment.name!r} takes numbers; got {value!r}") from error
    if not math.isfinite(number):
        raise UnusableInput(f"segment {segment.name!r} takes finite numbers; got {value!r}")
    return number


def by_class(segment: Segment, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Splits logits into that of each value within its merged class and that of its class; they add up again."""
    same = constant(segment.merged, logits.device, torch.long)
    alike = same.unsqueeze(-1) == same  # value k, value j
    whole = logits.unsqueeze(-2).masked_fill(~alike, -torch.inf).logsumexp(-1)
    return logits - whole, whole


def normaliser(segment: Segment, like: Tensor) -> tuple[Tensor, Tensor]:
    """Center and scale of a continuous segment, one a column: a normalised number is (number - center) / scale."""
    center, scale = segment.center or (0.0,) * segment.width, segment.scale or (1.0,) * segment.width
    return constant(center, like.device, like.dtype), constant(scale, like.device, like.dtype)


def within_reach(values: Tensor, low: float, high: float) -> Tensor:
    """Numbers beyond a bound do what the bound does; those that are not finite stay, as they must show."""
    return torch.where(values.abs() == torch.inf, values, values.clamp(low, high))


def uncertainty(segment: Segment, given: Tensor) -> Tensor:
    """Entropy in nats of a belief over one segment (`Distribution.entropy`): *n p -> *n."""
    if segment.kind in ONE_HOT:
        logs = given.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)
    if segment.kind == "binary":
        return (F.softplus(given) - given * given.sigmoid()).sum(-1)
    log_std = given.chunk(2, -1)[1] + normaliser(segment, given)[1].log()
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def left_open(segment: Segment, given: Tensor, limits: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each column that is left open (`Distribution.bounds`), around the likeliest, `top`.

    `given` are the class probabilities of a choice, the logits of keys, or the means and log deviations of axes.
    """
    if segment.kind in GAUSSIAN:
        half = given.chunk(2, -1)[1].exp() * limits.chunk(2)[1] * normaliser(segment, top)[1]
        return top - half, top + half
    if segment.kind == "binary":
        on, off = (given.sigmoid() >= limits) | (top > 0.5), ((-given).sigmoid() >= limits) | (top <= 0.5)
        return (on & ~off).to(top.dtype), on.to(top.dtype)
    same = constant(segment.merged, top.device, torch.long)
    inside = (given[..., same] >= limits) | (same == same[top.argmax(-1)].unsqueeze(-1))
    return (inside & (inside.sum(-1, keepdim=True) == 1)).to(top.dtype), inside.to(top.dtype)
