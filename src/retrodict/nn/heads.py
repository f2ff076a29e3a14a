"""Heads: from features to the parameters of a belief over actions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.segments import GAUSSIAN, ONE_HOT, normaliser
from retrodict.spaces import ActionSpace


class BeliefHead(nn.Linear):
    """A linear map to the parameters of a belief; the spreads of numbers are read off features, and do not shape them.

    An axis that is not yet found has a large spread, whose gradient would drown that of its mean.
    """

    spread: Tensor

    def __init__(self, width: int, space: ActionSpace) -> None:
        super().__init__(width, space.parameters)
        mask = torch.zeros(space.parameters, dtype=torch.bool)
        for segment, _, parameters in space.slices():
            if segment.kind in GAUSSIAN:
                mask[parameters.start + segment.width : parameters.stop] = True
        self.register_buffer("spread", mask, persistent=False)
        self.speaks_numbers = bool(mask.any())

    def forward(self, features: Float[Tensor, "*n d"]) -> Float[Tensor, "*n p"]:
        """Returns the parameters."""
        params = super().forward(features)
        if not self.speaks_numbers:
            return params
        return torch.where(self.spread, super().forward(features.detach()), params)


def mixed(logits: Float[Tensor, "*n k"], share: float) -> Float[Tensor, "*n k"]:
    """Log probabilities of choices of which a share is drawn evenly."""
    if not share:
        return logits.log_softmax(-1)
    return ((1 - share) * logits.softmax(-1) + share / logits.shape[-1]).log()


class ActorHead(nn.Linear):
    """A linear map to a belief of one who acts: it stays within reach, and never becomes certain.

    Axes have a mean in their range and a deviation between `least` and `most` of half of it; of a choice the share
    `mixed` is drawn evenly (DreamerV3's bounded normal and unimix). The mean comes near the ends of its range as x / (1
    + |x|) does and not as tanh: an actor that was driven there by its first guesses still has a gradient to return by.
    """

    middle: Tensor
    reach: Tensor

    def __init__(
        self, width: int, space: ActionSpace, least: float = 0.1, most: float = 1.0, mixed: float = 0.01
    ) -> None:
        super().__init__(width, space.parameters)
        self.space, self.least, self.most, self.mixed = space, least, most, mixed
        middle, half = torch.zeros(space.parameters), torch.ones(space.parameters)
        for segment, _, parameters in space.slices():
            if segment.kind in GAUSSIAN:
                center, scale = normaliser(segment, middle)
                means = slice(parameters.start, parameters.start + segment.width)
                middle[means] = ((segment.low + segment.high) / 2 - center) / scale
                half[parameters] = ((segment.high - segment.low) / 2 / scale).repeat(2)
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("reach", half, persistent=False)

    def forward(self, features: Float[Tensor, "*n d"]) -> Float[Tensor, "*n p"]:
        """Returns the parameters."""
        said, parts = super().forward(features), []
        for segment, _, parameters in self.space.slices():
            part, middle, half = said[..., parameters], self.middle[parameters], self.reach[parameters]
            if segment.kind in GAUSSIAN:
                mean, spread = part.chunk(2, -1)
                deviation = self.least + (self.most - self.least) * torch.sigmoid(spread + 2)
                mean = middle.chunk(2)[0] + half.chunk(2)[0] * F.softsign(mean)
                parts += [mean, (half.chunk(2)[1] * deviation).log()]
            elif segment.kind in ONE_HOT:
                parts.append(mixed(part, self.mixed))
            else:
                parts.append(part)
        return torch.cat(parts, -1)
