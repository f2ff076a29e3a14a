"""ActionSpace: what one flat float vector of action means. Distribution: what a model believes about it.

An action is a row of named segments. A categorical segment of n values takes n one-hot columns, so that a dataset's
column names read `action=left`, `action=right`. A latent code is categorical too, but its values have no names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from retrodict.constants import constant
from retrodict.errors import Incompatible, UnknownName, UnusableInput
from retrodict.segments import (
    GAUSSIAN,
    KINDS,
    ONE_HOT,
    Kind,
    Segment,
    by_class,
    categorical,
    code,
    continuous,
    left_open,
    normaliser,
    segment_vector,
    uncertainty,
)  # fmt: skip

__all__ = ["KINDS", "ActionSpace", "Distribution", "Kind", "Segment", "categorical", "code", "continuous"]

_POINT_LOGIT = 40.0  # logit of a point mass: exp(-40) is below float32 resolution beside 1
_POINT_LOG_STD = -12.0


@dataclass(frozen=True, slots=True)
class ActionSpace:
    """The layout of an action vector: named segments side by side."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        names = [segment.name for segment in self.segments]
        if not names or len(set(names)) != len(names):
            raise UnusableInput(f"an action space needs distinctly named segments; got {names}")
        if len(set(self.columns)) != self.width:
            raise UnusableInput(f"an action space needs distinctly named columns; got {self.columns}")

    @property
    def width(self) -> int:
        """Number of columns of an action vector (d)."""
        return sum(segment.width for segment in self.segments)

    @property
    def parameters(self) -> int:
        """Number of distribution parameters per action (p)."""
        return sum(segment.parameters for segment in self.segments)

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names on disk, in order."""
        return tuple(column for segment in self.segments for column in segment.columns)

    @property
    def discrete(self) -> Segment | None:
        """The only segment if it is a single choice, else None."""
        return self.segments[0] if len(self.segments) == 1 and self.segments[0].kind in ONE_HOT else None

    @property
    def latent(self) -> bool:
        """True when the space speaks codes or vectors of a model rather than real actions."""
        return all(segment.kind in ("code", "vector") for segment in self.segments)

    def slices(self) -> list[tuple[Segment, slice, slice]]:
        """Returns (segment, its columns, its distribution parameters) for each segment."""
        result, column, parameter = [], 0, 0
        for segment in self.segments:
            result.append(
                (segment, slice(column, column + segment.width), slice(parameter, parameter + segment.parameters))
            )
            column, parameter = column + segment.width, parameter + segment.parameters
        return result

    def vector(self, action: Mapping[str, str | int | float | Sequence[float]]) -> Float[Tensor, "d"]:
        """Turns {segment: value} into an action vector; a categorical value is a name or a number.

        Numbers of a continuous segment may lie outside low..high, as real recordings do.

        Raises:
            UnknownName: a segment or value that does not exist.
            UnusableInput: a segment is missing, or a number is out of range or not finite.
        """
        for name in action:
            if name not in [segment.name for segment in self.segments]:
                raise UnknownName("action segment", name, [segment.name for segment in self.segments])
        parts = []
        for segment in self.segments:
            if segment.name not in action:
                raise UnusableInput(f"action has no value for segment {segment.name!r}; give one for each segment")
            parts.append(segment_vector(segment, action[segment.name]))
        return torch.cat(parts)

    def one_hot(self, index: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """Turns value numbers of a single-choice space into action vectors."""
        if self.discrete is None:
            raise UnusableInput("only a space with a single categorical or code segment has value numbers")
        return F.one_hot(index.long(), self.width).float()

    def index(self, actions: Float[Tensor, "*n d"]) -> Int[Tensor, "*n"]:
        """Returns value numbers of a single-choice space."""
        if self.discrete is None:
            raise UnusableInput("only a space with a single categorical or code segment has value numbers")
        return actions.argmax(-1)

    def classes(self, actions: Float[Tensor, "*n d"]) -> Int[Tensor, "*n"]:
        """Returns value numbers after merging indistinguishable values."""
        index, segment = self.index(actions), self.discrete
        assert segment is not None  # index() raised otherwise
        return constant(segment.merged, actions.device, torch.long)[index]

    def describe(self, action: Float[Tensor, "d"]) -> dict[str, str | list[float]]:
        """Turns one action vector into {segment: value} for people."""
        result: dict[str, str | list[float]] = {}
        for segment, columns, _ in self.slices():
            part = action[columns]
            if segment.kind in ONE_HOT:
                result[segment.name] = segment.values[int(part.argmax())]
            elif segment.kind == "binary":
                pressed = [value for value, on in zip(segment.values, part.tolist(), strict=True) if on >= 0.5]
                result[segment.name] = "+".join(pressed) or "none"
            elif segment.kind == "text":
                result[segment.name] = bytes(int(v) for v in part.tolist() if v >= 0).decode("utf-8", "replace")
            else:
                result[segment.name] = [round(v, 4) for v in part.tolist()]
        return result

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"segments": [asdict(segment) for segment in self.segments]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ActionSpace:
        """Reads what `to_json` wrote; an unknown key is an error."""
        known = set(Segment.__dataclass_fields__)
        for name in value:
            if name != "segments":
                raise UnknownName("key of an action space", name, ["segments"])
        segments = []
        for entry in value.get("segments", ()):
            for name in entry:
                if name not in known:
                    raise UnknownName("key of an action segment", name, known)
            if not {"name", "kind", "values"} <= set(entry):
                raise UnusableInput(f"an action segment needs name, kind and values; got only {', '.join(entry)}")
            clean = {name: _tuples(item) for name, item in entry.items()}
            segments.append(Segment(**clean))
        return ActionSpace(tuple(segments))


UNKNOWN = ActionSpace((categorical("action", ("unknown",)),))  # of video that nobody labelled


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Distribution:
    """A belief over actions: independent segments, each categorical, Bernoulli or Gaussian.

    `params` holds per segment n logits (categorical, code, binary) or n means and n log standard deviations, in
    normalised units (continuous, vector). Axes "b t-1" for `InverseModel.infer`, "b" for `Policy.act`.
    `weight` counts how many predictions were merged into this one.
    """

    space: ActionSpace
    params: Float[Tensor, "*n p"]
    weight: float = field(default=1.0)

    def __post_init__(self) -> None:
        if self.params.shape[-1] != self.space.parameters:
            raise UnusableInput(
                f"distribution has {self.params.shape[-1]} parameters; its action space needs {self.space.parameters}"
            )
        for segment in self.space.segments:
            if segment.kind == "text":
                raise Incompatible(f"segment {segment.name!r} is text, which has no parametric distribution")

    @staticmethod
    def point(space: ActionSpace, actions: Float[Tensor, "*n d"]) -> Distribution:
        """Returns certainty about these actions (what a planner returns)."""
        parts = []
        for segment, columns, _ in space.slices():
            value = actions[..., columns]
            if segment.kind in GAUSSIAN:
                center, scale = normaliser(segment, value)
                parts += [(value - center) / scale, torch.full_like(value, _POINT_LOG_STD)]
            elif segment.kind == "binary":
                parts.append((value * 2 - 1) * _POINT_LOGIT)
            else:
                parts.append(value * _POINT_LOGIT)
        return Distribution(space, torch.cat(parts, -1))

    def probabilities(self, name: str | None = None) -> Float[Tensor, "*n k"]:
        """Returns the value probabilities of one categorical, code or binary segment (the only one by default)."""
        segment, part = self._segment(name)
        if segment.kind in GAUSSIAN:
            raise UnusableInput(f"segment {segment.name!r} is {segment.kind}; it has a density, not probabilities")
        return part.sigmoid() if segment.kind == "binary" else part.softmax(-1)

    def merged(self, name: str | None = None) -> Float[Tensor, "*n k"]:
        """Returns class probabilities after merging indistinguishable values."""
        segment, _ = self._segment(name)
        index = constant(segment.merged, self.params.device, torch.long)
        probabilities = self.probabilities(name)
        out = probabilities.new_zeros(*probabilities.shape[:-1], max(segment.merged) + 1)
        return out.index_add(-1, index, probabilities)

    def log_prob(self, actions: Float[Tensor, "*n d"], merge: bool = False) -> Float[Tensor, "*n"]:
        """Log probability (density for continuous segments) of actions, summed over segments.

        With `merge`, indistinguishable values count as one class.
        """
        total = self.params.new_zeros(self.params.shape[:-1])
        for segment, columns, parameters in self.space.slices():
            part, value = self.params[..., parameters], actions[..., columns]
            if segment.kind in ONE_HOT:
                logs = part.log_softmax(-1)
                if merge and segment.groups:
                    same = constant(segment.merged, part.device, torch.long)
                    alike = same[value.argmax(-1)].unsqueeze(-1) == same  # *n k
                    total = total + logs.masked_fill(~alike, -torch.inf).logsumexp(-1)
                else:
                    total = total + (logs * value).sum(-1)
            elif segment.kind == "binary":
                total = total - F.binary_cross_entropy_with_logits(part, value, reduction="none").sum(-1)
            else:
                center, scale = normaliser(segment, value)
                mean, log_std = part.chunk(2, -1)
                z = ((value - center) / scale - mean) * torch.exp(-log_std)
                total = total + (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi) - scale.log()).sum(-1)
        return total

    def entropy(self) -> Float[Tensor, "*n"]:
        """Entropy in nats, summed over segments; that of axes is of their density."""
        each = [uncertainty(segment, self.params[..., parameters]) for segment, _, parameters in self.space.slices()]
        return torch.stack(each).sum(0)

    def mode(self) -> Float[Tensor, "*n d"]:
        """The most probable action; among merged values the class is chosen first, then its likeliest value."""
        parts = []
        for segment, _, parameters in self.space.slices():
            part = self.params[..., parameters]
            if segment.kind in ONE_HOT:
                best = part.softmax(-1)
                if segment.groups:
                    same = constant(segment.merged, part.device, torch.long)
                    top = self.merged(segment.name).argmax(-1, keepdim=True)
                    best = best.masked_fill(same != top, -1.0)
                parts.append(F.one_hot(best.argmax(-1), segment.width).to(part.dtype))
            elif segment.kind == "binary":
                parts.append((part > 0).to(part.dtype))
            else:
                mean = part.chunk(2, -1)[0]
                center, scale = normaliser(segment, mean)
                parts.append(mean * scale + center)
        return torch.cat(parts, -1)

    def sample(self, rng: torch.Generator) -> Float[Tensor, "*n d"]:
        """Draws an action."""
        return self._draw(rng, soft=False).detach()

    def rsample(self, rng: torch.Generator) -> Float[Tensor, "*n d"]:
        """Draws an action through which gradients flow (Gumbel softmax, straight through, for discrete segments)."""
        return self._draw(rng, soft=True)

    def confidence(self) -> Float[Tensor, "*n"]:
        """Probability that `mode` is right: product over segments; merged values count as one, and a continuous axis
        counts as right within the segment's tolerance."""
        total = self.params.new_ones(self.params.shape[:-1])
        for segment, _, parameters in self.space.slices():
            part = self.params[..., parameters]
            if segment.kind in ONE_HOT:
                total = total * self.merged(segment.name).amax(-1)
            elif segment.kind == "binary":
                total = total * part.abs().sigmoid().prod(-1)
            else:
                mean, log_std = part.chunk(2, -1)
                _, scale = normaliser(segment, mean)
                margin = segment.tolerance * (segment.high - segment.low) / scale
                total = total * torch.erf(margin * torch.exp(-log_std) / math.sqrt(2)).prod(-1)
        return total

    def bounds(self, limits: Float[Tensor, "p"]) -> Float[Tensor, "*n 2 d"]:
        """The lowest and the highest value of each action column that is left open: sets and intervals in one form.

        `limits` (`measure.calibrate.limits`) hold for every value of a choice and every key the probability from which
        it belongs to the set, and for an axis, in the place of its log standard deviation, how many standard
        deviations lie to each side. A value in the set has highest 1; the only one in it has lowest 1 as well. The
        mode always belongs to the set.
        """
        ends, best = [], self.mode()
        for segment, columns, parameters in self.space.slices():
            part, top = self.params[..., parameters], best[..., columns]
            given = self.merged(segment.name) if segment.kind in ONE_HOT else part
            ends.append(torch.stack(left_open(segment, given, limits[parameters], top), -2))
        return torch.cat(ends, -1)

    def merge(self, other: Distribution) -> Distribution:
        """Mixes two beliefs by their weights: probabilities are averaged, Gaussians matched in mean and variance."""
        if other.space != self.space:
            raise Incompatible("only distributions over the same action space can be merged")
        weight = self.weight + other.weight
        share = other.weight / weight
        parts = []
        for segment, _, parameters in self.space.slices():
            a, b = self.params[..., parameters], other.params[..., parameters]
            if segment.kind in ONE_HOT:
                parts.append(
                    torch.logaddexp(a.log_softmax(-1) + math.log1p(-share), b.log_softmax(-1) + math.log(share))
                )
            elif segment.kind == "binary":
                parts.append(torch.logit((1 - share) * a.sigmoid() + share * b.sigmoid(), eps=1e-7))
            else:
                (m1, s1), (m2, s2) = a.chunk(2, -1), b.chunk(2, -1)
                mean = (1 - share) * m1 + share * m2
                second = (1 - share) * (m1**2 + (2 * s1).exp()) + share * (m2**2 + (2 * s2).exp())
                parts += [mean, 0.5 * (second - mean**2).clamp_min(1e-12).log()]
        return Distribution(self.space, torch.cat(parts, -1), weight)

    def scaled(self, temperature: float | Float[Tensor, "p"] | Sequence[float]) -> Distribution:
        """Divides log probabilities by a temperature, and multiplies standard deviations by it.

        One number, or one for each parameter: a choice then takes that of its likeliest value, a key and an axis their
        own (an axis that of its log standard deviation). Merged values are scaled as one class, so that no temperature
        changes which class is likeliest.
        """
        told = temperature.tolist() if isinstance(temperature, Tensor) else temperature
        numbers, count = list(told) if isinstance(told, Sequence) else [told], self.space.parameters
        if min(numbers) <= 0 or len(numbers) not in (1, count):
            raise UnusableInput(f"expected one positive temperature, or {count}, one for each parameter; got {numbers}")
        if all(number == 1 for number in numbers):
            return self
        each = self.params.new_tensor(numbers).expand(count)
        best, parts = self.mode(), []
        for segment, columns, parameters in self.space.slices():
            part, by = self.params[..., parameters], each[parameters]
            if segment.kind in GAUSSIAN:
                mean, log_std = part.chunk(2, -1)
                parts += [mean, log_std + by.chunk(2, -1)[1].log()]
            elif segment.kind == "binary":
                parts.append(part / by)
            else:
                own = by[best[..., columns].argmax(-1)].unsqueeze(-1)
                if segment.groups:
                    within, whole = by_class(segment, part)
                    parts.append(within + whole / own)
                else:
                    parts.append(part / own)
        return replace(self, params=torch.cat(parts, -1))

    def __getitem__(self, index: Any) -> Distribution:
        """Indexes the leading axes."""
        return replace(self, params=self.params[index])

    def _segment(self, name: str | None) -> tuple[Segment, Tensor]:
        if name is None and len(self.space.segments) != 1:
            raise UnusableInput(f"name one of the segments {[segment.name for segment in self.space.segments]}")
        for segment, _, parameters in self.space.slices():
            if name in (None, segment.name):
                return segment, self.params[..., parameters]
        raise UnknownName("action segment", str(name), [segment.name for segment in self.space.segments])

    def _draw(self, rng: torch.Generator, soft: bool) -> Tensor:
        parts = []
        for segment, _, parameters in self.space.slices():
            part = self.params[..., parameters]
            noise = torch.rand(part.shape, generator=rng, device=part.device, dtype=part.dtype).clamp(1e-6, 1 - 1e-6)
            if segment.kind in ONE_HOT:
                logits = part - torch.log(-torch.log(noise))
                hard = F.one_hot(logits.argmax(-1), segment.width).to(part.dtype)
                relaxed = logits.softmax(-1)
                parts.append(hard + (relaxed - relaxed.detach()) if soft else hard)
            elif segment.kind == "binary":
                relaxed = (part + torch.logit(noise)).sigmoid()
                hard = (relaxed > 0.5).to(part.dtype)
                parts.append(hard + (relaxed - relaxed.detach()) if soft else hard)
            else:
                mean, log_std = part.chunk(2, -1)
                center, scale = normaliser(segment, mean)
                normal = torch.randn(mean.shape, generator=rng, device=part.device, dtype=part.dtype)
                parts.append((mean + log_std.exp() * normal) * scale + center)
        return torch.cat(parts, -1)
