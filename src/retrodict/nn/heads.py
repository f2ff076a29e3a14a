"""Heads: from features to the parameters of a belief over actions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.segments import GAUSSIAN
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
