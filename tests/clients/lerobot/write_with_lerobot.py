"""Writes a small LeRobotDataset v3.0 with lerobot's own writer, and beside it what was handed to the writer.

Usage: python write_with_lerobot.py ROOT KIND, where KIND is av1, h264, images, split or state. Two episodes of 11 and
8 frames at 10 frames/s: a block moves by the action, so that a shifted action is told from the right one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lerobot_offline
import numpy as np

LENGTHS, FPS, SIZE = (11, 8), 10, 64
CAMERA = "observation.images.front"


def episode(number: int) -> list[dict[str, object]]:
    """Returns the frames of one episode as LeRobotDataset.add_frame takes them."""
    rng = np.random.default_rng(number)
    place = np.array([4.0, 8.0], np.float32)
    frames: list[dict[str, object]] = []
    for _ in range(LENGTHS[number]):
        action = (rng.uniform(3, 6, 2)).astype(np.float32)
        picture = np.full((SIZE, SIZE, 3), (30, 60 + 80 * number, 120), np.uint8)
        x, y = np.round(place).astype(int) % (SIZE - 8)
        picture[y : y + 8, x : x + 8] = (240, 210, 40)
        frames.append({CAMERA: picture, "observation.state": place, "action": action, "task": f"go {number}"})
        place = place + action
    return frames


def main(root: Path, kind: str) -> None:
    """Writes the dataset and ROOT.npz."""
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
    }
    if kind != "state":
        camera = {"dtype": "image" if kind == "images" else "video", "shape": (SIZE, SIZE, 3)}
        features[CAMERA] = camera | {"names": ["height", "width", "channels"]}
    dataset = lerobot_offline.dataset_class().create(
        repo_id="local/sample", root=root, fps=FPS, features=features, use_videos=kind not in ("images", "state"),
        vcodec="h264" if kind == "h264" else "libsvtav1", video_backend="pyav",
    )  # fmt: skip
    if kind == "split":
        dataset.meta.update_chunk_settings(data_files_size_in_mb=1e-6, video_files_size_in_mb=1e-6)
    written = []
    for number in range(len(LENGTHS)):
        for frame in episode(number):
            written.append({name: value for name, value in frame.items() if name in features or name == "task"})
            dataset.add_frame(dict(written[-1]))
        dataset.save_episode()
    dataset.finalize()
    np.savez(f"{root}.npz", **{name: np.stack([np.asarray(f[name]) for f in written]) for name in written[0]})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
