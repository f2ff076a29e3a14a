"""Windows of frames around steps: edges repeat, episodes do not leak into each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.windows import continued, frame_windows, last_window, window_index, windows
from retrodict.roles import View


def numbered(rows: int, length: int, segment: torch.Tensor | None = None) -> Clip:
    """Frames of one pixel whose value is their number."""
    frames = torch.arange(length, dtype=torch.uint8).view(1, length, 1, 1, 1).expand(rows, -1, -1, -1, -1)
    return Clip(frames=frames.contiguous(), segment=segment)


def shown(frames: int, before: int, every: int = 1) -> View:
    return View(frames, before, every, size=(1, 1), channels=1)


def slowly(clip: Clip, view: View, points: int) -> list[list[list[int]]]:
    """The same by walking from frame to frame, never out of the episode."""
    result = []
    for row in range(clip.rows):
        names = [0] * clip.length if clip.segment is None else clip.segment[row].tolist()
        answer = []
        for t in range(points):
            window = []
            for offset in view.offsets():
                at, way = t, 1 if offset > 0 else -1
                for _ in range(abs(offset)):
                    if 0 <= at + way < clip.length and names[at + way] == names[at]:
                        at += way
                window.append(at)
            answer.append(window)
        result.append(answer)
    return result


@given(
    st.lists(st.lists(st.sampled_from([0, 0, 1, 2, -1]), min_size=7, max_size=7), min_size=1, max_size=3),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(0, 4),
    st.integers(1, 3),
    st.booleans(),
)
def test_windows_equal_a_slow_walk(
    names: list[list[int]], length: int, frames: int, before: int, every: int, told: bool
) -> None:
    segment = torch.tensor(names, dtype=torch.int32)[:, :length]
    clip = numbered(len(names), length, segment if told else None)
    view = shown(frames, min(before, frames - 1), every)
    assert window_index(clip, view, clip.length).tolist() == slowly(clip, view, length)
    flat = frame_windows(clip, view).flatten(1).view(clip.rows, length, frames).tolist()
    assert flat == slowly(clip, view, length)
    assert windows(clip, view).flatten(1).view(clip.rows, length - 1, frames).tolist() == slowly(clip, view, length - 1)
    assert last_window(clip, view).flatten(1).tolist() == [row[-1] for row in slowly(clip, view, length)]


def test_edges_repeat_by_hand() -> None:
    clip = numbered(1, 5, torch.tensor([[7, 7, 7, 8, 8]], dtype=torch.int32))
    assert window_index(clip, shown(4, 1), 4).tolist() == [[[0, 0, 1, 2], [0, 1, 2, 2], [1, 2, 2, 2], [3, 3, 4, 4]]]
    assert window_index(clip, shown(2, 1, every=2), 3).tolist() == [[[0, 0], [0, 1], [0, 2]]]


def test_clips_of_another_size_or_without_frames_are_refused() -> None:
    clip = numbered(1, 3)
    with pytest.raises(UnusableInput, match=r"3 channels of 1x1.* 1 of 1x1"):
        windows(clip, View(2, size=(1, 1)))
    with pytest.raises(UnusableInput, match="has none"):
        windows(Clip(times=torch.zeros(1, 3, dtype=torch.float64)), shown(2, 0))


@given(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=2, max_size=9), st.integers(1, 4), st.integers(1, 8))
def test_going_on_from_remembered_frames_equals_seeing_all(names: list[int], frames: int, cut: int) -> None:
    """Whatever the cut, and when episodes change on either side of it."""
    cut = min(cut, len(names) - 1)
    segment = torch.tensor([names], dtype=torch.int32).cumsum(1).to(torch.int32)
    clip, view = numbered(1, len(names), segment), shown(frames, frames - 1)
    seen = last_window(clip.cut(0, cut), view)
    assert torch.equal(last_window(continued(seen, clip.cut(cut - 1, clip.length)), view), last_window(clip, view))
