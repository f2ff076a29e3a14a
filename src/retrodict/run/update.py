"""One update of a part: its losses, and every parameter's gradient from its own group's loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrodict.errors import UnusableInput
from retrodict.nn.part import Part

Losses = Mapping[str, Tensor]
Loss = Callable[[Any, Any, torch.Generator], Losses]


@dataclass(frozen=True)
class Update:
    """Fills gradients, each group's cut at the norm `limit` (0: at none), and waits for no number.

    Raises:
        UnusableInput: the loss has other names than the part's groups.
    """

    loss: Loss
    limit: float

    def __call__(self, part: Part, batch: Any, noise: torch.Generator) -> dict[str, Tensor]:
        """Returns losses by group, and norms of gradients as "GROUP/gradient"."""
        losses, groups = self.loss(part, batch, noise), part.groups()
        if set(losses) != set(groups):
            raise UnusableInput(f"the loss returned {sorted(losses)} and the part's groups are {sorted(groups)}")
        values = dict(losses)
        alike: dict[int, list[str]] = {}  # groups that share a loss share its backward pass
        for name in groups:
            alike.setdefault(id(losses[name]), []).append(name)
        for names in alike.values():
            parameters, last = [p for name in names for p in groups[name]], names is list(alike.values())[-1]
            gradients = torch.autograd.grad(losses[names[0]], parameters, retain_graph=not last, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = None if gradient is None else laid_out_like(parameter, gradient)
        for name, parameters in groups.items():
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if self.limit > 0:  # scaled by a norm that is not finite, all would be blamed
                torch.nn.utils.clip_grads_with_norm_(parameters, self.limit, norm.where(norm.isfinite(), 0))
            values[f"{name}/gradient"] = norm
        return {name: value.detach().double().reshape(()) for name, value in values.items()}


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Returns the value in the parameter's memory layout: fused AdamW walks memory, not axes."""
    return value if value.stride() == parameter.stride() else torch.empty_like(parameter).copy_(value)
