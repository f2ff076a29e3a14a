"""Encoders: what a frame looks like to a model, as a grid of features."""

from __future__ import annotations

from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import NoFrames, UnusableInput
from retrodict.models.windows import frame_windows
from retrodict.nn.conv import normalise, stem, stem_shape
from retrodict.nn.part import Part
from retrodict.roles import System, View


class FrameEncoder(Part):
    """Turns each frame by itself into a grid of features; frozen, nothing trains it."""

    every, causal = 1, True

    def __init__(
        self, view: View, kind: str = "grid", patch: int = 8, width: int = 32, depth: int = 2, frozen: bool = False
    ) -> None:
        super().__init__()
        if view.frames != 1:
            raise UnusableInput(f"a frame encoder sees one frame at a time; got {view}")
        self.view, self.frozen = view, frozen
        self.stem = stem(kind, view.channels, patch, width, depth)
        self.shape = stem_shape(self.stem, view.channels, view.size)
        self.requires_grad_(not frozen)

    def grid(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, "n f d y x"]:
        """Returns the features of every frame of a window."""
        grid: Tensor = self.stem(normalise(frames).flatten(0, 1))
        return grid.view(*frames.shape[:2], *self.shape)

    def encode(self, clip: Clip) -> Clip:
        """Returns the clip with `features`, b t d y x."""
        grid = self.grid(frame_windows(clip, self.view))
        return clip.with_(features=grid.view(clip.rows, clip.length, *self.shape))

    def decode(self, clip: Clip) -> Clip:
        """Raises NoFrames: features of this kind are not turned back."""
        raise NoFrames("this encoder has no decoder; use the frames that its features were made from")


def frozen_copy(encoder: FrameEncoder) -> FrameEncoder:
    """Returns an encoder with the same features that no training changes."""
    copy = FrameEncoder(**{**encoder.spec, "view": encoder.view, "frozen": True})
    copy.load_state_dict(encoder.state_dict())
    return copy


def frozen_encoder(system: System) -> FrameEncoder:
    """Returns the features of a saved system: of its encoder, else of an inverse model that compares features.

    Raises:
        UnusableInput: it has neither.
    """
    net = getattr(getattr(system.inverse, "inverse", system.inverse), "net", None)
    found = system.encoder or getattr(net, "encoder", None)
    if not isinstance(found, FrameEncoder):
        raise UnusableInput(
            "this system has no features to take over: it has no encoder, and no inverse model whose inputs are "
            "'features'; train one, for example with retrodict train laom"
        )
    return frozen_copy(found)
