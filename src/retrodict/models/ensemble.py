"""Several inverse models that answer as one: where they disagree, none of them is believed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import Incompatible
from retrodict.models.inverse import Inverse
from retrodict.models.windows import windows
from retrodict.nn.part import Part
from retrodict.segments import GAUSSIAN, by_class
from retrodict.spaces import ActionSpace, Distribution


class Ensemble(Part):
    """Inverse models of one view and space, trained on different parts of the labels, with temperatures of their own.

    The belief is the geometric mean of theirs, taken over distinguishable classes (Hinton, Products of Experts, 2002):
    a net that is sure far from its labels is held back by those that are not.
    """

    temperature: Tensor

    def __init__(self, members: Sequence[Inverse]) -> None:
        super().__init__()
        first = members[0]
        if any(part.view != first.view or part.space != first.space for part in members):
            raise Incompatible("the members of an ensemble need one view and one action space")
        self.view, self.space = first.view, first.space
        self.members = nn.ModuleList(members)
        self.register_buffer("temperature", torch.ones(first.space.parameters))

    def belief(self, frames: UInt8[Tensor, "n f c h w"]) -> Distribution:
        """Answers windows, uncalibrated."""
        each = torch.stack([part.belief(frames).params for part in self.members])  # type: ignore[operator]
        return Distribution(self.space, geometric_mean(self.space, each))

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step of the clip, calibrated: axes "b t-1"."""
        belief = self.belief(windows(clip, self.view)).scaled(self.temperature)
        return Distribution(self.space, belief.params.view(clip.rows, clip.steps, self.space.parameters))


def geometric_mean(space: ActionSpace, each: Float[Tensor, "m *n p"]) -> Float[Tensor, "*n p"]:
    """The parameters of the geometric mean of m beliefs, segment by segment."""
    parts = []
    for segment, _, parameters in space.slices():
        part = each[..., parameters]
        if segment.kind in GAUSSIAN:
            mean, log_std = part.chunk(2, -1)
            precision = (-2 * log_std).exp()
            total = precision.mean(0)
            parts += [(precision * mean).mean(0) / total, -0.5 * total.log()]
        elif segment.kind == "binary":
            parts.append(part.mean(0))
        else:
            within, whole = by_class(segment, part.log_softmax(-1))
            parts.append(_of_classes(within, whole))
    return torch.cat(parts, -1)


def _of_classes(within: Float[Tensor, "m *n k"], whole: Float[Tensor, "m *n k"]) -> Float[Tensor, "*n k"]:
    """The mean over classes; within a class, values share as the arithmetic mean of the members says."""
    return whole.mean(0) + within.logsumexp(0) - torch.log(torch.tensor(float(len(within))))
