"""Takes: what one camera recorded of one episode, as runs of frames of video files, and how a store comes to hold it.

A file whose frames lie one by one on a whole number of frames per second keeps them all: it is linked when it is as
LeRobot needs it, else its packets are copied into a new mp4 file. What has to be resampled, resized or turned, or no
decoder of LeRobot reads, is encoded anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8

from retrodict.data.guarded import GRID, Facts, decoder
from retrodict.data.schema import Schema
from retrodict.errors import Undecodable

Way = Literal["linked", "remuxed", "re-encoded"]
CODECS = ("h264", "hevc", "av1", "vp9")  # what LeRobot's decoders read in mp4
MOST_SHOWN = 1000  # frames of an episode that may show one and the same frame of a file, on average
MOTION_SIZE = (36, 64)  # height, width at which motion is measured

Frames = npt.NDArray[np.uint8]
Times = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reel:
    """Frames of one video file, named by the times at which the file shows them, in seconds."""

    path: Path
    facts: Facts
    times: tuple[float, ...]

    @property
    def whole(self) -> bool:
        """True when it is all of the file."""
        return len(self.times) == self.facts.frames

    def frames(self, size: tuple[int, int]) -> Iterator[Frames]:
        """Yields its frames, (n, h, w, 3), checked to be the ones that the packets announce.

        Raises:
            Undecodable: they are others, or cannot be decoded.
        """
        count = 0
        start, stop = (-1e9, None) if self.whole else (self.times[0], self.times[-1] + GRID)
        for frames, times in decoder.frames(self.path, start, stop, size):
            expected = np.array(self.times[count : count + len(times)])
            if len(expected) != len(times) or np.abs(times - expected).max() > GRID:
                raise Undecodable(
                    self.path, f"after frame {count} it decodes to other frames than its packets announce"
                )
            count += len(times)
            yield frames
        if count != len(self.times):
            raise Undecodable(self.path, f"it announces {len(self.times)} frames and decodes to {count}")


@dataclass(frozen=True, slots=True)
class Take:
    """All frames of an episode by one camera: of one file, or of several that go on where the one before ended."""

    reels: tuple[Reel, ...]

    @property
    def facts(self) -> Facts:
        """What the first file says; the others are of its size and codec."""
        return self.reels[0].facts

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(len(reel.times) for reel in self.reels)

    @property
    def starts(self) -> tuple[float, ...]:
        """When each reel starts, in seconds from the first frame: one frame after the one before it ended."""
        starts = [0.0]
        for reel in self.reels:
            starts.append(starts[-1] + reel.times[-1] - reel.times[0] + 1 / reel.facts.rate)
        return tuple(starts[:-1])

    @property
    def times(self) -> Times:
        """Seconds from the first frame, of every frame."""
        parts = [
            np.array(reel.times) - reel.times[0] + start for reel, start in zip(self.reels, self.starts, strict=True)
        ]
        return np.concatenate(parts)

    @property
    def rate(self) -> float:
        """Average frames per second."""
        times = self.times
        return (len(times) - 1) / float(times[-1]) if len(times) > 1 and len(self.reels) > 1 else self.facts.rate

    @property
    def whole_rate(self) -> int | None:
        """The frames per second at which its frames are kept one to one, or None: they come at a variable rate.

        29.97 counts as 30. A frame may be off by a quarter of a frame from the file's own constant rate, or by half a
        frame from the whole one; one that was dropped is off by more.
        """
        times, rate = self.times, self.rate
        whole = round(rate)
        if whole < 1 or abs(rate - whole) > 0.01 * whole:
            return None
        number = np.arange(len(times))
        steady = np.abs(times - number / rate).max() < 0.25 / rate or np.abs(times - number / whole).max() < 0.5 / whole
        return whole if steady else None

    def grid(self, fps: int) -> tuple[Index, Times]:
        """Returns which of its frames (non-decreasing) an episode at `fps` shows, and when (seconds from the first).

        Raises:
            Undecodable: its times lie so far apart that each frame would be shown MOST_SHOWN times.
        """
        times = self.times
        if self.whole_rate == fps:
            return np.arange(len(times)), times
        count = int(times[-1] * fps + GRID) + 1
        if count > MOST_SHOWN * len(times):
            why = f"its {len(times)} frames lie within {times[-1]:.4g} s, which at {fps} frames/s makes {count}"
            raise Undecodable(self.reels[0].path, why)
        grid = np.arange(count) / fps
        after = np.searchsorted(times, grid).clip(0, len(times) - 1)
        before = np.maximum(after - 1, 0)
        nearer = grid - times[before] <= times[after] - grid + GRID  # a tie goes to the earlier
        return np.where(nearer, before, after), grid

    def way(self, schema: Schema) -> tuple[Way, str]:
        """Returns how a store of video with this schema comes to hold it, and why not more simply."""
        facts, fps = self.facts, schema.fps
        if (facts.height, facts.width) != schema.size:
            return "re-encoded", f"resized from {facts.width}x{facts.height}"
        if facts.rotation:
            return "re-encoded", f"turned by {facts.rotation}°"
        if self.whole_rate != fps:
            return "re-encoded", f"resampled from {self.rate:.3f} frames/s"
        if facts.codec not in CODECS:
            return "re-encoded", f"{facts.codec} in {facts.container}"
        if not (len(self.reels) == 1 and self.reels[0].whole):
            return "remuxed", "cut or joined without encoding"
        if "mp4" not in facts.container:
            return "remuxed", f"from {facts.container}"
        times = np.array(facts.times)
        if np.abs(times - np.arange(len(times)) / fps).max() >= GRID:
            return "remuxed", f"its frames are not at k / {fps} s; their true times are kept"
        return "linked", ""

    def remux(self, target: Path, fps: int) -> None:
        """Copies its packets into an mp4 file, frame k at k / fps; raises Undecodable where that cannot be."""
        runs = [(reel.path, reel.times[0], reel.times[-1]) for reel in self.reels]
        decoder.remux(runs, target, fps)

    def motion(self, index: Index) -> Times:
        """Returns the mean absolute difference, 0..255, between neighbours of these frames, made small."""
        found, last = [np.zeros(0)], None
        for frames in self.pixels(index, MOTION_SIZE):
            shown = frames.astype(np.int16) if last is None else np.concatenate([last, frames.astype(np.int16)])
            found.append(np.abs(np.diff(shown, axis=0)).mean((1, 2, 3)))
            last = shown[-1:]
        return np.concatenate(found)

    def pixels(self, index: Index, size: tuple[int, int]) -> Iterator[Frames]:
        """Yields the frames with these numbers (non-decreasing), (n, h, w, 3); one comes as often as it is named."""
        count = 0
        for reel in self.reels:
            for frames in reel.frames(size):
                if count > index[-1]:
                    return
                first, last = np.searchsorted(index, [count, count + len(frames)])
                if last > first:
                    yield frames[index[first:last] - count]
                count += len(frames)


def encode(take: Take, target: Path, schema: Schema) -> None:
    """Encodes a take anew at the schema's size and rate."""
    from retrodict.data.video import Writer

    with Writer(target, *schema.size, schema.fps) as writer:
        for frames in take.pixels(take.grid(schema.fps)[0], schema.size):
            writer.add(frames)


def decoded(takes: Sequence[Take], schema: Schema) -> UInt8[torch.Tensor, "1 t c h w"]:
    """Returns all frames of an episode, its cameras one after the other on the channels."""
    cameras = [np.concatenate(list(take.pixels(take.grid(schema.fps)[0], schema.size))) for take in takes]
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(cameras, 3).transpose(0, 3, 1, 2)))[None]
