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
            there = [p for p in group["params"] if p.grad is not None]
            for parameter in there:
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["square"], state["mean"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                self._one(parameter, state, group)

    def _one(self, parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        gradient, (slow, fast) = parameter.grad, group["betas"]
        assert gradient is not None
        limit = group["clip"] * parameter.norm().clamp_min(1e-3)
        gradient = gradient * (limit / gradient.norm().clamp_min(1e-30)).clamp_max(1.0)
        state["step"] += 1
        count = float(state["step"])
        state["square"].lerp_(gradient**2, 1 - fast)
        scaled = gradient / ((state["square"] / (1 - fast**count)).sqrt() + group["eps"])
        state["mean"].lerp_(scaled, 1 - slow)
        parameter.sub_(group["lr"] * state["mean"] / (1 - slow**count))
