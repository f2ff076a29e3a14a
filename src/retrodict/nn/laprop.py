"""LaProp with adaptive gradient clipping, as DreamerV3 has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class LaProp(torch.optim.Optimizer):
    """Gradients are cut at `clip` of their tensor's norm, divided by their root mean square, and then averaged.

    Cut: Brock et al. (ICML 2021), a norm of at least 1e-3 counts. LaProp: Ziyin et al. (2020). Both averages are
    corrected for their start at 0.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, clip: float = 0.3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "clip": clip, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with the gradients that the parameters hold."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    zero = {name: torch.zeros_like(parameter) for name in ("square", "mean")}
                    self.state[parameter] |= {"step": torch.zeros(()), **zero}
            self._together(parameters, [self.state[p] for p in parameters], group)

    def _together(self, parameters: list[Tensor], states: list[dict[str, Tensor]], group: dict[str, Any]) -> None:
        gradients: list[Tensor] = [p.grad for p in parameters]  # type: ignore[misc]
        norms = zip(torch._foreach_norm(parameters), torch._foreach_norm(gradients), strict=True)
        cuts = [(group["clip"] * own.clamp_min(1e-3) / given.clamp_min(1e-30)).clamp_max(1.0) for own, given in norms]
        gradients = list(torch._foreach_mul(gradients, cuts))
        squares, means = [s["square"] for s in states], [s["mean"] for s in states]
        slow, fast = group["betas"]
        torch._foreach_mul_(squares, fast)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - fast)
        for state in states:
            state["step"] += 1
        counts = [float(state["step"]) for state in states]
        roots = list(torch._foreach_div(squares, [1 - fast**count for count in counts]))
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_lerp_(means, torch._foreach_div(gradients, roots), 1 - slow)
        torch._foreach_add_(parameters, torch._foreach_mul(means, [-group["lr"] / (1 - slow**c) for c in counts]))
