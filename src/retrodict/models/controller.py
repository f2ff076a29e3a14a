"""Linear controllers on a world's features (C of World Models)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.nn.part import Part
from retrodict.roles import Memory, View
from retrodict.segments import ONE_HOT
from retrodict.spaces import ActionSpace, Distribution


class Controller(Part):
    """Acts by a linear map of features: the choice that scores highest, a key above 0, tanh for what lies in a range.

    `count` controllers may act side by side, of which each answers an equal share of the rows, one share after the
    other. The weights of each are one row: biases first, then a row of `space.width` for each feature.
    """

    def __init__(self, view: View, space: ActionSpace, bias: bool = True, count: int = 1) -> None:
        super().__init__()
        if view.features < 1:
            raise UnusableInput(f"a controller is shown features; got a view without them: {view}")
        self.view, self.space, self.bias, self.count = view, space, bias, count
        self.weights = nn.Parameter(torch.zeros(count, (view.features + bias) * space.width), requires_grad=False)

    def scores(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b a"]:
        """Returns the linear map."""
        rows = features.view(self.count, -1, features.shape[1])
        if self.bias:
            rows = torch.cat([torch.ones_like(rows[..., :1]), rows], -1)
        return torch.bmm(rows, self.weights.view(self.count, -1, self.space.width)).flatten(0, 1)

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame, and remembers nothing."""
        if past.features is None:
            raise UnusableInput("this controller is shown a world's features; act on frames through `Filtered`")
        scores, parts = self.scores(past.features[:, -1]), list[Tensor]()
        for segment, columns, _ in self.space.slices():
            part = scores[:, columns]
            if segment.kind in ONE_HOT:
                parts.append(nn.functional.one_hot(part.argmax(-1), segment.width).to(part.dtype))
            elif segment.kind == "binary":
                parts.append((part > 0).to(part.dtype))
            else:
                parts.append(segment.low + (part.tanh() + 1) * (segment.high - segment.low) / 2)
        return Distribution.point(self.space, torch.cat(parts, -1)), None
