"""Layers of TD-MPC2: normed ones, latents that are a few choices, and critics side by side (Hansen et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SimNorm(nn.Module):
    """Softmax over each group of `size` features, so that a latent is a few choices."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Returns features that sum to 1 in each group."""
        return x.view(*x.shape[:-1], -1, self.size).softmax(-1).view(x.shape)


class NormedLinear(nn.Linear):
    """Linear, LayerNorm, and Mish or what is given in its place."""

    def __init__(self, inputs: int, outputs: int, act: nn.Module | None = None) -> None:
        super().__init__(inputs, outputs)
        self.ln, self.act = nn.LayerNorm(outputs), act or nn.Mish()

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n e"]:
        """Returns the activations."""
        return self.act(self.ln(super().forward(x)))  # type: ignore[no-any-return]


class ManyLinear(nn.Module):
    """A linear layer for each of m members, with dropout, LayerNorm and Mish behind it where it is `normed`."""

    def __init__(self, members: int, inputs: int, outputs: int, normed: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(members, outputs))
        if normed:
            self.ln = nn.ParameterDict({"weight": torch.ones(members, outputs), "bias": torch.zeros(members, outputs)})

    def forward(self, x: Float[Tensor, "*m n d"], chosen: Tensor | None) -> Float[Tensor, "m n e"]:
        """Returns what the chosen members (all by default) make of x, or each of its own."""

        def of(values: Tensor) -> Tensor:
            return values if chosen is None else values[chosen]

        x = torch.baddbmm(of(self.bias).unsqueeze(1), x.expand(len(of(self.bias)), -1, -1), of(self.weight).mT)
        if not hasattr(self, "ln"):
            return x
        x = F.layer_norm(F.dropout(x, self.dropout, self.training), x.shape[-1:])
        return F.mish(x * of(self.ln["weight"]).unsqueeze(1) + of(self.ln["bias"]).unsqueeze(1))


class Critics(nn.Module):
    """m critics of the same inputs, one batched product a layer; their last layers begin at 0."""

    def __init__(self, members: int, inputs: int, hidden: int, bins: int, dropout: float) -> None:
        super().__init__()
        self.members = members
        widths = ((inputs, hidden, True, dropout), (hidden, hidden, True), (hidden, bins, False))
        self.layers = nn.ModuleList(ManyLinear(members, *width) for width in widths)

    def forward(self, x: Float[Tensor, "*n d"], chosen: Tensor | None = None) -> Float[Tensor, "m *n k"]:
        """Returns logits of the chosen members (all by default)."""
        said = x.flatten(0, -2)
        for layer in self.layers:
            said = layer(said, chosen)
        return said.view(len(said), *x.shape[:-1], -1)


def mlp(inputs: int, hidden: Iterable[int], outputs: int, last: nn.Module | None = None) -> nn.Sequential:
    """Normed layers, and a linear one, or a normed one with the activation `last`."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers.append(NormedLinear(inputs, width))
        inputs = width
    layers.append(nn.Linear(inputs, outputs) if last is None else NormedLinear(inputs, outputs, last))
    return nn.Sequential(*layers)
