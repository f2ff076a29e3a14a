"""Windows of frames around every step of a clip, with the edges of each episode repeated."""

from __future__ import annotations

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.constants import constant
from retrodict.errors import UnusableInput
from retrodict.roles import View


def window_index(clip: Clip, view: View, points: int) -> Int[Tensor, "b n f"]:
    """Frame numbers shown for each of the first `points` frames of a clip; an episode's edge frame repeats."""
    offsets = constant(tuple(view.offsets()), clip.device, torch.long)
    index = torch.arange(points, device=clip.device).view(1, -1, 1) + offsets  # 1 n f
    first, last = _edges(clip)
    return torch.minimum(torch.maximum(index, first[:, :points, None]), last[:, :points, None])


def windows(clip: Clip, view: View) -> UInt8[Tensor, "n f c h w"]:
    """The frames that a model with this view is shown for every step, steps of all rows one after the other."""
    return _gather(clip, view, clip.steps)


def frame_windows(clip: Clip, view: View) -> UInt8[Tensor, "n f c h w"]:
    """The same for every frame (what a policy is shown)."""
    return _gather(clip, view, clip.length)


def last_window(clip: Clip, view: View) -> UInt8[Tensor, "b f c h w"]:
    """The frames shown for the last frame of every row."""
    index = window_index(clip, view, clip.length)[:, -1]
    return _frames(clip, view)[torch.arange(clip.rows, device=clip.device).unsqueeze(1), index]


def continued(seen: UInt8[Tensor, "b m c h w"], past: Clip) -> Clip:
    """Joins remembered frames to what is new in `past`, whose first frame is the last one remembered.

    A row whose segment changes after that frame starts again: its edge lies there.
    """
    if past.frames is None:
        raise UnusableInput("this model looks at frames and the clip has none")
    segment = past.segment
    if segment is not None:
        segment = torch.cat([segment[:, :1].expand(-1, seen.shape[1]), segment[:, 1:]], 1)
    return Clip(frames=torch.cat([seen, past.frames[:, 1:]], 1), segment=segment)


def _gather(clip: Clip, view: View, points: int) -> Tensor:
    index = window_index(clip, view, points)
    rows = torch.arange(clip.rows, device=clip.device).view(-1, 1, 1)
    return _frames(clip, view)[rows, index].flatten(0, 1)  # b n f c h w -> (b n) f c h w


def _frames(clip: Clip, view: View) -> Tensor:
    frames = clip.frames
    if frames is None:
        raise UnusableInput("this model looks at frames and the clip has none")
    if tuple(frames.shape[-2:]) != tuple(view.size) or frames.shape[2] != view.channels:
        raise UnusableInput(
            f"this model sees {view.channels} channels of {view.size[0]}x{view.size[1]} pixels; "
            f"the clip has {frames.shape[2]} of {frames.shape[3]}x{frames.shape[4]}"
        )
    return frames


def _edges(clip: Clip) -> tuple[Tensor, Tensor]:
    """First and last frame number of the episode that each frame belongs to."""
    t = torch.arange(clip.length, device=clip.device).expand(clip.rows, -1)
    if clip.segment is None:
        return torch.zeros_like(t), torch.full_like(t, clip.length - 1)
    change = clip.segment[:, 1:] != clip.segment[:, :-1]
    edge = torch.ones(clip.rows, 1, dtype=torch.bool, device=clip.device)
    starts = torch.cat([edge, change], 1)
    stops = torch.cat([change, edge], 1)
    first = torch.where(starts, t, 0).cummax(1).values
    last = torch.where(stops, t, clip.length).flip(1).cummin(1).values.flip(1)
    return first, last
