"""Layers of recurrent worlds: dense layers with a norm, block-diagonal ones, and gated cells (Dreamer V1 to V3)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.errors import UnknownName, UnusableInput

ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU, "mish": nn.Mish}
NORMS = ("none", "layer", "rms")


def norm(kind: str, width: int) -> nn.Module:
    """A norm over the last axis: `none`, `layer`, or `rms` (a scale and no shift)."""
    if kind not in NORMS:
        raise UnknownName("norm", kind, NORMS)
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(width, eps=1e-3) if kind == "layer" else nn.RMSNorm(width, eps=1e-4)


def dense(inputs: int, width: int, layers: int, act: str, kind: str) -> nn.Sequential:
    """So many layers, each linear, norm, activation."""
    if act not in ACTIVATIONS:
        raise UnknownName("activation", act, ACTIVATIONS)
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(inputs, width), norm(kind, width), ACTIVATIONS[act]()]
        inputs = width
    return nn.Sequential(*parts)


class BlockLinear(nn.Module):
    """A linear map whose matrix is block-diagonal: each of `blocks` groups of inputs makes its group of outputs."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        if inputs % blocks or outputs % blocks:
            raise UnusableInput(f"{blocks} blocks do not divide {inputs} inputs and {outputs} outputs")
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.uniform_(self.weight, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Returns the outputs, group after group."""
        grouped = x.view(len(x), self.blocks, -1).transpose(0, 1)  # g n d/g
        return torch.bmm(grouped, self.weight).transpose(0, 1).flatten(1) + self.bias


class PlainCell(nn.Module):
    """What went in, through one dense layer, drives a GRU (PlaNet, DreamerV1)."""

    def __init__(self, inputs: int, deter: int, hidden: int, act: str) -> None:
        super().__init__()
        self.front, self.cell = dense(inputs, hidden, 1, act, "none"), nn.GRUCell(hidden, deter)

    def forward(self, h: Float[Tensor, "n d"], x: Float[Tensor, "n i"]) -> Float[Tensor, "n d"]:
        """Returns the next deterministic state."""
        return self.cell(self.front(x), h)  # type: ignore[no-any-return]


class NormedCell(nn.Module):
    """The same with a norm over all gates, and an update gate that is reluctant at first (DreamerV2)."""

    def __init__(self, inputs: int, deter: int, hidden: int, act: str) -> None:
        super().__init__()
        self.front = dense(inputs, hidden, 1, act, "none")
        self.gates, self.norm = nn.Linear(hidden + deter, 3 * deter, bias=False), norm("layer", 3 * deter)

    def forward(self, h: Float[Tensor, "n d"], x: Float[Tensor, "n i"]) -> Float[Tensor, "n d"]:
        """Returns the next deterministic state."""
        reset, new, update = self.norm(self.gates(torch.cat([self.front(x), h], -1))).chunk(3, -1)
        return gated(h, reset, new, update)


class BlockCell(nn.Module):
    """Block-diagonal gates behind a layer in which every block sees all that went in (DreamerV3, Nature 2025)."""

    def __init__(self, inputs: tuple[int, ...], deter: int, hidden: int, act: str, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.fronts = nn.ModuleList(dense(width, hidden, 1, act, "rms") for width in (deter, *inputs))
        self.mix = BlockLinear(blocks * hidden * len(self.fronts) + deter, deter, blocks)
        self.after = nn.Sequential(norm("rms", deter), ACTIVATIONS[act]())
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def forward(self, h: Float[Tensor, "n d"], *inputs: Float[Tensor, "n i"]) -> Float[Tensor, "n d"]:
        """Returns the next deterministic state; inputs are given apart."""
        seen = torch.cat([front(x) for front, x in zip(self.fronts, (h, *inputs), strict=True)], -1)
        own = h.view(len(h), self.blocks, -1)
        wide = torch.cat([own, seen.unsqueeze(1).expand(-1, self.blocks, -1)], -1).flatten(1)
        gates = self.gates(self.after(self.mix(wide))).view(len(h), self.blocks, 3, -1)
        reset, new, update = (part.flatten(1) for part in gates.unbind(2))
        return gated(h, reset, new, update)


def gated(
    h: Float[Tensor, "n d"], reset: Float[Tensor, "n d"], new: Float[Tensor, "n d"], update: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """u tanh(σ(reset) new) + (1 - u) h with u = σ(update - 1)."""
    share = torch.sigmoid(update - 1)
    return share * torch.tanh(torch.sigmoid(reset) * new) + (1 - share) * h
