"""Familiarity: is this video like the one a model was trained on? Labels of foreign video are refused by it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.nn.conv import normalise
from retrodict.nn.part import Part
from retrodict.roles import View

CELLS = 4  # a patch is described by its mean colours in a grid of up to so many cells a side
FLOOR = 0.02  # a limit is at least so much, 5 grey levels: what a codec changes is not foreign


class Familiarity(Part):
    """A Score that is negative where a clip's frames hold patches unlike the known ones.

    A frame's distance is the mean over its patches of the distance to the nearest known patch, in units of the
    pixel range; `limit` is the distance that is still familiar. What counts is what is seen, not what is done.
    """

    known: Tensor
    limit: Tensor

    def __init__(self, view: View, patch: int = 8, size: int = 256) -> None:
        super().__init__()
        self.view, self.patch = view, patch
        self.cells = max(cells for cells in range(1, CELLS + 1) if patch % cells == 0)
        self.register_buffer("known", torch.zeros(size, view.channels * self.cells**2))
        self.register_buffer("limit", torch.zeros(()))

    def patches(self, frames: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n p e"]:
        """Describes every patch of frames by the mean colours of its cells."""
        small = F.avg_pool2d(normalise(frames), self.patch // self.cells)
        return F.unfold(small, self.cells, stride=self.cells).transpose(1, 2)

    def distance(self, frames: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Mean distance of a frame's patches to the nearest known ones."""
        seen = self.patches(frames)
        near = torch.cdist(seen.flatten(0, 1), self.known).amin(1).view(seen.shape[:2])
        return torch.div(near.mean(1), self.known.shape[1] ** 0.5)

    def __call__(self, clip: Clip) -> Float[Tensor, "b"]:
        """The limit minus the distance of the row's least familiar frame: negative is foreign."""
        if clip.frames is None:
            raise UnusableInput("familiarity looks at frames and the clip has none")
        rows, length = clip.frames.shape[:2]
        return self.limit - self.distance(clip.frames.flatten(0, 1)).view(rows, length).amax(1)

    @torch.no_grad()
    def learn(self, seen: Float[Tensor, "n p e"], held: UInt8[Tensor, "m c h w"], share: float = 0.95) -> None:
        """Keeps the most different patches of `seen`, and the limit (at least `FLOOR`) that this share of `held` keeps.

        `held` are frames of other episodes than `seen`. Farthest-point selection: Gonzalez, Theoretical Computer
        Science 1985.
        """
        pool = seen.flatten(0, 1)
        self.known[:] = pool.mean(0)
        far = torch.cdist(pool, self.known[:1])[:, 0]
        for number in range(len(self.known)):
            self.known[number] = pool[far.argmax()]
            far = torch.minimum(far, torch.cdist(pool, self.known[number : number + 1])[:, 0])
        own = torch.cat([self.distance(part) for part in torch.split(held, 256)]).quantile(share)
        self.limit.copy_(own.clamp_min(FLOOR))
