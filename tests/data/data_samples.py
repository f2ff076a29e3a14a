"""Videos and episodes that the tests of data make."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from retrodict.data.video import Writer


def moving(t: int, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Frames (t, h, w, 3) of a bright block that moves 4 pixels a frame over a slope of colour."""
    frames = np.empty((t, height, width, 3), np.uint8)
    frames[...] = np.linspace(20, 120, width, dtype=np.uint8)[None, None, :, None]
    frames[..., 2] = 60 + 20 * seed
    for i in range(t):
        x = (4 * i) % (width - 12)
        frames[i, 8:24, x : x + 12] = (240, 200, 30)
    return frames


def write(path: Path, frames: np.ndarray, fps: int = 10) -> Path:
    with Writer(path, *frames.shape[1:3], fps) as writer:
        writer.add(frames)
    return path


def encoded(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    rate: Fraction | int = 10,
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
) -> Path:
    """Writes frames (t, h, w, 3) with an encoder of PyAV's and its own settings; the suffix chooses the container."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for picture in frames:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        box.mux(stream.encode())
    return path


def variable(path: Path, ticks: list[int], fps: int = 10, **size: int) -> Path:
    """Writes frames at the given multiples of 1 / fps."""
    import av

    frames = moving(len(ticks), **size)
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=fps, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        for tick, pixels in zip(ticks, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, fps)
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path
