"""Small videos of several codecs, in which every frame tells its number by where a bright block is."""

from __future__ import annotations

import pytest
from data_samples import encoded, moving

LENGTH, SIDE, FPS = 12, 64, 10
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264.mp4": ("libx264", {"bf": "2", "g": "5"}),
    "mpeg4.avi": ("mpeg4", {}),
    "vp9.webm": ("libvpx-vp9", {}),
    "hevc.mkv": ("libx265", {"x265-params": "log-level=none"}),
}


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A video of each codec, by name."""
    folder = tmp_path_factory.mktemp("codecs")
    frames = moving(LENGTH, SIDE, SIDE)
    return {
        name: encoded(folder / name, frames, codec, FPS, options).read_bytes()
        for name, (codec, options) in ENCODERS.items()
    }
