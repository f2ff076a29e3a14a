"""Inverse models: which action connects two frames, from pixels, optical flow or features.

No single input wins (measured): differences pooled where pixels changed on scenes where only the agent moves, whole
frames where the view itself moves. So the choice is a switch, and recipes compare on validation labels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.cameras import per_camera
from retrodict.models.encoder import FrameEncoder
from retrodict.models.windows import windows
from retrodict.nn.conv import normalise, stem, stem_shape
from retrodict.nn.flow import optical_flow
from retrodict.nn.heads import BeliefHead
from retrodict.nn.part import Part
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution

INPUTS = ("difference", "both", "frames", "flow", "features")
POOLS = ("flatten", "changed", "mean_max")


class TransitionNet(nn.Module):
    """Reads a window of frames as one vector: n f c h w -> n d.

    inputs: `difference` (changes only), `both` (frames and changes), `frames`, `flow` (optical flow between them) or
    `features` (changes of an encoder's features). pool: `flatten` (place matters), `changed` (mean over the patches
    where pixels changed, so that place does not matter) or `mean_max`.
    """

    def __init__(
        self, view: View, inputs: str, pool: str, kind: str, patch: int, width: int, depth: int, out: int,
        encoder: FrameEncoder | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if inputs not in INPUTS or pool not in POOLS:
            raise UnusableInput(f"inputs must be one of {INPUTS} and pool one of {POOLS}; got {inputs!r}, {pool!r}")
        if (inputs == "features") != (encoder is not None):
            raise UnusableInput(f"an encoder goes with inputs 'features', and only with them; got {inputs!r}")
        self.inputs, self.pool, self.out, self.encoder = inputs, pool, out, encoder
        pairs = view.frames - 1
        channels, size = {
            "difference": pairs * view.channels, "frames": view.frames * view.channels, "flow": pairs * 2,
            "both": (pairs + view.frames) * view.channels, "features": 0,
        }[inputs], view.size  # fmt: skip
        if encoder is not None:
            kind, patch, channels, size = "grid", 1, pairs * encoder.shape[0], encoder.shape[1:]
        self.stem = stem(kind, channels, patch, width, depth)
        d, y, x = stem_shape(self.stem, channels, size)
        self.grid = (y, x)
        flat = {"flatten": d * y * x, "changed": d, "mean_max": 2 * d}[pool]
        self.head = nn.Sequential(nn.Linear(flat, out), nn.ReLU())

    def shown(self, frames: UInt8[Tensor, "n f c h w"], x: Float[Tensor, "n f c h w"]) -> Float[Tensor, "n p y x"]:
        """Returns what the stem sees, side by side; x are the normalised frames."""
        if self.encoder is not None:
            return self.encoder.grid(frames).diff(dim=1).flatten(1, 2)
        if self.inputs == "flow":
            flow = optical_flow(x[:, :-1].flatten(0, 1), x[:, 1:].flatten(0, 1))
            return flow.reshape(len(x), -1, *flow.shape[-2:])
        changes = x[:, 1:] - x[:, :-1]
        parts = {"difference": [changes], "frames": [x], "both": [x, changes]}[self.inputs]
        return torch.cat([part.flatten(1, 2) for part in parts], 1)

    def forward(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, "n d"]:
        """Returns one vector per window."""
        x = normalise(frames)
        grid = self.stem(self.shown(frames, x))
        if self.pool == "flatten":
            return self.head(grid.flatten(1))  # type: ignore[no-any-return]
        if self.pool == "mean_max":
            return self.head(torch.cat([grid.mean((2, 3)), grid.amax((2, 3))], 1))  # type: ignore[no-any-return]
        moved = x.diff(dim=1).abs().amax((1, 2), keepdim=False).unsqueeze(1)  # n 1 h w
        mask = (nn.functional.adaptive_max_pool2d(moved, self.grid) > 0.02).float()
        pooled = (grid * mask).sum((2, 3)) / mask.sum((2, 3)).clamp_min(1.0)
        return self.head(pooled)  # type: ignore[no-any-return]


class Inverse(Part):
    """A supervised inverse model q(a | o, o') with calibration temperatures, one for each parameter."""

    temperature: Tensor

    def __init__(
        self,
        view: View,
        space: ActionSpace,
        inputs: str = "both",
        pool: str = "flatten",
        kind: str = "grid",
        patch: int = 8,
        width: int = 32,
        depth: int = 2,
        hidden: int = 128,
        dropout: float = 0.0,
        encoder: FrameEncoder | None = None,
    ) -> None:
        super().__init__()
        self.view, self.space = view, space
        size = (kind, patch, width, depth, hidden, encoder)
        if encoder is None:
            self.net = per_camera(view, lambda one: TransitionNet(one, inputs, pool, *size), hidden)
        else:  # which sees all cameras together
            self.net = TransitionNet(view, inputs, pool, *size)
        self.dropout = nn.Dropout(dropout)
        self.head = BeliefHead(hidden, space)
        self.register_buffer("temperature", torch.ones(space.parameters))

    def belief(self, frames: UInt8[Tensor, "n f c h w"]) -> Distribution:
        """Answers windows, uncalibrated; of the frames around a step, those of the view are taken."""
        offsets = self.view.offsets()
        if frames.shape[1] != len(offsets):
            frames = frames[:, [offset - min(0, offsets[0]) for offset in offsets]]
        return Distribution(self.space, self.head(self.dropout(self.net(frames))))

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step of the clip, calibrated: axes "b t-1"."""
        belief = self.belief(windows(clip, self.view)).scaled(self.temperature)
        return Distribution(self.space, belief.params.view(clip.rows, clip.steps, self.space.parameters))
