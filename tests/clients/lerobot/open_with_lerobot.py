"""Opens a LeRobotDataset v3.0 folder with lerobot itself and compares every frame with a reference.

Usage: python open_with_lerobot.py ROOT [REFERENCE.npz]. The reference holds one array per feature with a row per frame
(images uint8, h w c), and `task`. Prints one JSON line; exit 1 when something differs. Without a reference, it reads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lerobot_offline
import numpy as np

TOLERANCE = 0.03  # mean difference of a decoded video frame from its original, of 1


def compare(dataset: Any, reference: dict[str, np.ndarray]) -> list[str]:
    """Returns what is wrong."""
    features = dataset.meta.features
    if absent := set(reference) - set(features) - {"task"}:
        return [f"features {sorted(absent)} are not there; there are {sorted(features)}"]
    wrong = []
    for i in range(len(dataset)):
        item = dataset[i]
        for name, values in reference.items():
            if name == "task":
                same = item["task"] == str(values[i])
            elif features[name]["dtype"] in ("image", "video"):
                same = same_picture(item[name].numpy(), values, i, exact=features[name]["dtype"] == "image")
            else:
                same = np.array_equal(np.asarray(item[name], np.float32).ravel(), values[i].astype(np.float32).ravel())
            if not same:
                wrong.append(f"frame {i}: {name} differs from what was written")
    return wrong


def same_picture(got: np.ndarray, originals: np.ndarray, i: int, exact: bool) -> bool:
    """True when a frame (c h w, 0..1) is its original: bit for bit, or nearer to it than to its neighbours."""
    pixels = got.transpose(1, 2, 0)
    if exact:
        return np.array_equal(np.round(pixels * 255).astype(np.uint8), originals[i])
    near = {j: np.abs(originals[j] / 255.0 - pixels).mean() for j in (i - 1, i, i + 1) if 0 <= j < len(originals)}
    return bool(near[i] <= min(near.values()) and near[i] < TOLERANCE)


def check_statistics(dataset: Any, reference: dict[str, np.ndarray]) -> list[str]:
    """Compares lerobot's view of the statistics with those of the reference."""
    wrong = []
    for name, values in reference.items():
        if name == "task":
            continue
        kind = dataset.meta.features[name]["dtype"]
        flat = (
            values.reshape(-1, values.shape[-1]) / 255.0
            if kind in ("image", "video")
            else values.reshape(len(values), -1)
        )
        near = 0.02 if kind == "video" else 1e-5  # a lossy file's own statistics are not quite the original's
        for statistic, truth in (("mean", flat.mean(0)), ("std", flat.std(0))):
            got = np.asarray(dataset.meta.stats[name][statistic], float).ravel()
            if got.shape != truth.shape or not np.allclose(got, truth, atol=near, rtol=near):
                wrong.append(f"statistics: {statistic} of {name} is {got}, the frames have {truth}")
    return wrong


def check_windows(root: Path, plain: Any) -> list[str]:
    """Opens windows of three frames and checks where they are padded."""
    fps = plain.meta.fps
    deltas = {"action": [-1 / fps, 0.0, 1 / fps]} | {name: [0.0] for name in plain.meta.camera_keys}
    dataset = lerobot_class("local/dataset", root=root, delta_timestamps=deltas, video_backend="pyav")
    wrong = []
    for i in (0, len(dataset) - 1):
        pads = dataset[i]["action_is_pad"].tolist()
        if pads != [i == 0, False, i == len(dataset) - 1]:
            wrong.append(f"frame {i}: a window of three is padded at {pads}")
    return wrong


if __name__ == "__main__":
    lerobot_class = lerobot_offline.dataset_class()
    root = Path(sys.argv[1])
    dataset = lerobot_class("local/dataset", root=root, video_backend="pyav")
    faults: list[str] = []
    if len(dataset) != dataset.meta.total_frames:
        faults.append(f"lerobot sees {len(dataset)} frames; info.json says {dataset.meta.total_frames}")
    if len(sys.argv) > 2:
        with np.load(sys.argv[2]) as file:
            arrays = dict(file)
        faults += compare(dataset, arrays) + check_statistics(dataset, arrays) + check_windows(root, dataset)
    else:
        for index in range(len(dataset)):
            dataset[index]
    print(json.dumps({"episodes": dataset.meta.total_episodes, "frames": len(dataset), "wrong": faults[:10]}))
    sys.exit(bool(faults))
