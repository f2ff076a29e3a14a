"""Returns of imagined steps."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def lambda_returns(
    rewards: Float[Tensor, "b t"], values: Float[Tensor, "b t+1"], goes_on: Float[Tensor, "b t"], discount: float,
    trace: float,
) -> Float[Tensor, "b t"]:  # fmt: skip
    """TD(λ) targets: R_t = r_t + γ c_t ((1 - λ) v_{t+1} + λ R_{t+1}), R_T = v_T (Sutton & Barto, 12.18).

    `values` are of every frame, the last one among them; `goes_on` is the probability that the episode did not end at
    a step; `trace` is λ.
    """
    target, found = values[:, -1], []
    for t in reversed(range(rewards.shape[1])):
        target = rewards[:, t] + discount * goes_on[:, t] * ((1 - trace) * values[:, t + 1] + trace * target)
        found.append(target)
    return torch.stack(found[::-1], 1)


def still_on(ends: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The probability that no earlier step ended the episode, by which each step counts; 1 for the first."""
    goes_on = 1 - ends
    return torch.cat([torch.ones_like(goes_on[:, :1]), goes_on[:, :-1].cumprod(1)], 1)
