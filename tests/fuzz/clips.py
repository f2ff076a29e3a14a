"""Small videos of several codecs, in which every frame tells its number by where a bright block is."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from data_samples import moving

LENGTH, SIDE, FPS = 12, 64, 10
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264.mp4": ("libx264", {"bf": "2", "g": "5"}),
    "mpeg4.avi": ("mpeg4", {}),
    "vp9.webm": ("libvpx-vp9", {}),
    "hevc.mkv": ("libx265", {"x265-params": "log-level=none"}),
}


def video(path: Path, codec: str, options: dict[str, str], frames: np.ndarray, fps: int = FPS) -> Path:
    """Writes frames (t, h, w, 3) with an encoder of PyAV's; the file's suffix chooses the container."""
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for pixels in frames:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        box.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A video of each codec, by name."""
    folder = tmp_path_factory.mktemp("codecs")
    frames = moving(LENGTH, SIDE, SIDE)
    return {name: video(folder / name, *how, frames).read_bytes() for name, how in ENCODERS.items()}
