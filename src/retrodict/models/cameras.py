"""Several cameras: a net for each, joined; what one camera cannot see, another may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.errors import UnusableInput
from retrodict.roles import View


class PerCamera(nn.Module):
    """Gives each camera's channels to a net of its own and joins what they say: n f c h w -> n d.

    All cameras have as many channels; with one camera this is that camera's net.
    """

    def __init__(self, view: View, build: Callable[[View], nn.Module], out: int) -> None:
        super().__init__()
        count = len(view.cameras)
        if view.channels % count:
            raise UnusableInput(f"{view.channels} channels cannot be shared out to {count} cameras: {view.cameras}")
        each = [replace(view, channels=view.channels // count, cameras=(name,)) for name in view.cameras]
        self.nets = nn.ModuleList([build(one) for one in each])
        self.join = nn.Sequential(nn.Linear(count * out, out), nn.ReLU())

    def forward(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, "n d"]:
        """Returns one vector per window."""
        parts = frames.chunk(len(self.nets), 2)
        return self.join(torch.cat([net(part) for net, part in zip(self.nets, parts, strict=True)], 1))  # type: ignore[no-any-return]


def per_camera(view: View, build: Callable[[View], nn.Module], out: int) -> nn.Module:
    """Returns the net that `build` makes for a single camera, or one such net for each of several."""
    return build(view) if len(view.cameras) == 1 else PerCamera(view, build, out)
