"""Forward models that predict the next frame from the last ones and an action."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import NoLikelihood, UnusableInput
from retrodict.models.encoder import FrameEncoder
from retrodict.models.windows import continued, frame_windows, last_window
from retrodict.nn.conv import normalise, to_bytes
from retrodict.nn.part import Part
from retrodict.roles import Memory, Policy, State, View, next_action
from retrodict.spaces import ActionSpace
from retrodict.tree import leaf


class Mixer(nn.Module):
    """Changes a grid of features by an action: (n d y x, n a) -> n d y x.

    mix: `conv` (each patch looks at its neighbours: things move, the view stands still) or `attention` (each patch
    may look anywhere: the view itself moves). The action is added to every patch (Genie found adding best).
    """

    def __init__(self, action: int, cells: tuple[int, int], mix: str, width: int, depth: int) -> None:
        super().__init__()
        self.mix = mix
        self.action = nn.Linear(action, width)
        if mix == "conv":
            self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        elif mix == "attention":
            self.place = nn.Parameter(torch.randn(1, cells[0] * cells[1], width) * 0.1)
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
                for _ in range(depth)
            )
        else:
            raise UnusableInput(f"mix must be 'conv' or 'attention'; got {mix!r}")

    def forward(self, grid: Float[Tensor, "n d y x"], action: Float[Tensor, "n a"]) -> Float[Tensor, "n d y x"]:
        """Returns the changed grid."""
        push = self.action(action)
        if self.mix == "conv":
            for block in self.blocks:
                grid = grid + block(torch.relu(grid + push[:, :, None, None]))
            return grid
        rows = grid.shape[2]
        tokens = grid.flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            tokens = block(tokens + push[:, None])
        return rearrange(tokens, "n (y x) d -> n d y x", y=rows)


@dataclass(frozen=True)
class Mixing:
    """Settings of a `Mixer`."""

    mix: str = "conv"
    width: int = 48  # channels
    depth: int = 3  # layers


class NextFrame(nn.Module):
    """Predicts the next frame as the last one plus a change: (n f c h w, n a) -> n c h w in [-0.5, 0.5].

    With an encoder it looks at the last frames through that one's features, without training them (the stopped
    gradient of LAPA: features that no prediction bends cannot take over what the action should say).
    """

    def __init__(
        self, view: View, action: int, mix: str, patch: int, width: int, depth: int, encoder: FrameEncoder | None = None
    ) -> None:
        super().__init__()
        if view.size[0] % patch or view.size[1] % patch:
            raise UnusableInput(f"patch {patch} does not divide frames of {view.size} pixels")
        refuse_gaps(view)
        self.view, self.encoder = view, encoder
        cells = (view.size[0] // patch, view.size[1] // patch)
        if encoder is None:
            self.front = nn.Conv2d(view.frames * view.channels, width, patch, stride=patch)
        elif encoder.shape[1:] == cells:
            self.front = nn.Conv2d(view.frames * encoder.shape[0], width, 1)
        else:
            raise UnusableInput(f"the encoder's grid is {encoder.shape[1:]} and the frame has {cells} patches")
        self.mixer = Mixer(action, cells, mix, width, depth)
        self.back = nn.ConvTranspose2d(width, view.channels, patch, stride=patch)

    def forward(self, frames: UInt8[Tensor, "n f c h w"], action: Float[Tensor, "n a"]) -> Float[Tensor, "n c h w"]:
        """Returns the predicted frame."""
        x = normalise(frames)
        seen = x if self.encoder is None else self.encoder.grid(frames).detach()
        return x[:, -1] + self.back(self.mixer(self.front(seen.flatten(1, 2)), action))  # type: ignore[no-any-return]


def refuse_gaps(view: View) -> None:
    """Raises UnusableInput unless a view ends with the present frame and has no gaps."""
    if view.every != 1 or view.before != view.frames - 1:
        raise UnusableInput(f"a next-frame model sees the last frames, one after the other; got {view}")


class FrameWorld(Part):
    """A ForwardModel whose state is the last frames; a subclass says what the next frame is.

    `variance` is the mean squared error seen in training: the width of the likelihood.
    """

    view: View
    space: ActionSpace
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(()))

    def predict(
        self, frames: UInt8[Tensor, "n f c h w"], actions: Float[Tensor, "n d"] | None
    ) -> Float[Tensor, "n c h w"]:
        """Returns the next frame of each window, as floats in [-0.5, 0.5]."""
        raise NotImplementedError

    def choose(self, frames: UInt8[Tensor, "n f c h w"], rng: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws actions when nobody gives any."""
        raise UnusableInput(f"{type(self).__name__} does not choose actions by itself; give it actions or a policy")

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen: keeps the last frames."""
        return {"frames": last_window(past if state is None else continued(leaf(state, "frames"), past), self.view)}

    def imagine(
        self, state: State, actions: Float[Tensor, "b k d"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out `steps` steps, showing a policy the decoded frames."""
        window = leaf(state, "frames")
        memory: Memory = None
        frames, taken = [window[:, -1]], []
        for step in range(steps):
            past = window if memory is None else torch.stack(frames[-2:], 1)
            if actions is None:
                action = self.choose(past, rng)
            else:
                action, memory = next_action(actions, step, Clip(frames=past), memory, rng)
            following = to_bytes(self.predict(window, action))
            window = torch.cat([window[:, 1:], following[:, None]], 1)
            frames.append(following)
            taken.append(action)
        clip = Clip(frames=torch.stack(frames, 1), actions=torch.stack(taken, 1) if taken else None)
        return clip, {"frames": window}

    def decode(self, clip: Clip) -> Clip:
        """Returns the clip as it is: its frames are pixels already."""
        return clip

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """Log probability of each next frame under a Gaussian around the prediction, up to a constant."""
        if clip.frames is None or clip.actions is None:
            raise NoLikelihood("scoring the next frame needs a clip with frames and actions")
        shown = _per_frame(clip, self.view)[:, :-1].flatten(0, 1)
        error = (self.predict(shown, clip.actions.flatten(0, 1)) - normalise(clip.frames[:, 1:].flatten(0, 1))) ** 2
        return (-0.5 * error.flatten(1).sum(1) / self.variance).view(clip.rows, clip.steps)

    @torch.no_grad()
    def note_error(self, error: Float[Tensor, ""]) -> None:
        """Follows the training error with a moving average."""
        if self.training:
            self.variance.lerp_(error.detach().clamp_min(1e-6), 0.02)


def _per_frame(clip: Clip, view: View) -> Tensor:
    return rearrange(frame_windows(clip, view), "(b t) f c h w -> b t f c h w", b=clip.rows)


class FrameForward(FrameWorld):
    """A next-frame model of recorded or predicted actions."""

    def __init__(
        self, view: View, space: ActionSpace, mix: str = "conv", patch: int = 8, width: int = 48, depth: int = 3
    ) -> None:
        super().__init__()
        self.view, self.space = view, space
        self.net = NextFrame(view, space.width, mix, patch, width, depth)

    def predict(
        self, frames: UInt8[Tensor, "n f c h w"], actions: Float[Tensor, "n d"] | None
    ) -> Float[Tensor, "n c h w"]:
        """Returns the next frame of each window."""
        if actions is None:
            raise UnusableInput("this world needs an action for every step")
        return self.net(frames, actions)  # type: ignore[no-any-return]
