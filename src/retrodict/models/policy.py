"""Policies from pixels: what to do in a frame."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.cameras import per_camera
from retrodict.models.windows import continued, last_window
from retrodict.nn.conv import normalise, stem, stem_shape
from retrodict.nn.heads import BeliefHead
from retrodict.nn.part import Part
from retrodict.roles import Memory, View
from retrodict.spaces import ActionSpace, Distribution


class Points(nn.Module):
    """Soft positions of `points` features, as differences to the first: n d y x -> n 2 (points - 1).

    Differences do not change when everything moves together, so a net on top is translation-invariant
    (spatial softmax of Levine et al. 2016).
    """

    def __init__(self, width: int, points: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(width, points, 1)
        self.sharpness = nn.Parameter(torch.tensor(1.0))

    def forward(self, grid: Float[Tensor, "n d y x"]) -> Float[Tensor, "n e"]:
        """Returns the differences in patches."""
        n, _, height, width = grid.shape
        heat = (self.score(grid) * self.sharpness.exp()).flatten(2).softmax(-1).view(n, -1, height, width)
        ys = torch.arange(height, device=grid.device, dtype=grid.dtype)
        xs = torch.arange(width, device=grid.device, dtype=grid.dtype)
        place = torch.stack([(heat.sum(3) * ys).sum(-1), (heat.sum(2) * xs).sum(-1)], -1)  # n p 2
        return (place[:, 1:] - place[:, :1]).flatten(1)


class FrameNet(nn.Module):
    """Reads the last frames as one vector: n f c h w -> n d; pool is `flatten` or `points`."""

    def __init__(
        self, view: View, pool: str, kind: str, patch: int, width: int, depth: int, out: int, points: int = 4
    ) -> None:
        super().__init__()
        channels = view.frames * view.channels
        self.stem = stem(kind, channels, patch, width, depth)
        d, y, x = stem_shape(self.stem, channels, view.size)
        if pool == "flatten":
            self.pool: nn.Module = nn.Flatten()
            flat = d * y * x
        elif pool == "points":
            self.pool = Points(d, points)
            flat = 2 * (points - 1)
        else:
            raise UnusableInput(f"a policy's pool must be 'flatten' or 'points'; got {pool!r}")
        self.head = nn.Sequential(nn.Linear(flat, out), nn.ReLU(), nn.Linear(out, out), nn.ReLU())

    def forward(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, "n d"]:
        """Returns one vector per window."""
        return self.head(self.pool(self.stem(normalise(frames).flatten(1, 2))))  # type: ignore[no-any-return]


class ClipPolicy(Part):
    """A feed-forward policy π(a | last frames)."""

    def __init__(
        self,
        view: View,
        space: ActionSpace,
        pool: str = "flatten",
        kind: str = "grid",
        patch: int = 8,
        width: int = 32,
        depth: int = 2,
        hidden: int = 128,
        points: int = 4,
    ) -> None:
        super().__init__()
        if view.before != view.frames - 1:
            raise UnusableInput(f"a policy sees no frame after the present one; got {view}")
        if any(segment.kind == "vector" for segment in space.segments):
            raise UnusableInput("a policy over latent vectors would answer the mean of modes; clone codes or labels")
        self.view, self.space = view, space
        self.net = per_camera(view, lambda one: FrameNet(one, pool, kind, patch, width, depth, hidden, points), hidden)
        self.head = BeliefHead(hidden, space)

    def belief(self, frames: UInt8[Tensor, "n f c h w"]) -> Distribution:
        """Answers windows that end with the present frame."""
        return Distribution(self.space, self.head(self.net(frames)))

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame: axis "b". Remembers the frames it needs when it sees more than one."""
        if memory is not None:
            assert isinstance(memory, Tensor), "this policy's memory is the last frames: b m c h w"
            past = continued(memory, past)
        every, span = self.view.every, self.view.before * self.view.every
        window = last_window(past, replace(self.view, frames=span + 1, before=span, every=1))
        return self.belief(window[:, ::every]), window[:, 1:] if span else None
