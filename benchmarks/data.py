"""Windows of eight frames: the memory-mapped cache against seeking in mp4 files with a kept handle.

Usage: python benchmarks/data.py [--frames 64] [--episodes 20] [--windows 400] [--size 64]

Prints windows per second of both in the same run, and their ratio; the claim is a ratio of at least 15. Both return
uint8 frames (8, 3, size, size) at random places of the same episodes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch

from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, categorical

WINDOW = 8
FPS = 10
SPACE = ActionSpace((categorical("action", ("left", "right")),))


def moving(t: int, size: int, seed: int) -> Clip:
    """An episode: a block moves over a texture."""
    rng = numpy_rng(seed, "benchmark")
    texture = rng.integers(0, 90, (3, size // 8, size // 8), np.uint8).repeat(8, 1).repeat(8, 2)
    frames = np.broadcast_to(texture, (t, *texture.shape)).copy()
    for i in range(t):
        x = (3 * i) % (size - 8)
        frames[i, :, 8:16, x : x + 8] = 230
    actions = SPACE.one_hot(torch.from_numpy(rng.integers(0, 2, t - 1)))
    return Clip(frames=torch.from_numpy(frames)[None], actions=actions[None])


class Seeking:
    """Random windows out of mp4 files, each opened once."""

    def __init__(self, files: list[Path]) -> None:
        self.boxes = [av.open(str(file)) for file in files]
        for box in self.boxes:
            box.streams.video[0].codec_context.thread_count = 1

    def window(self, episode: int, start: int) -> npt.NDArray[np.uint8]:
        """Frames start..start+7 of an episode: 8 3 h w."""
        box = self.boxes[episode]
        stream = box.streams.video[0]
        box.seek(round(start / FPS / stream.time_base), stream=stream)
        frames = []
        for frame in box.decode(stream):
            if round(float(frame.pts * stream.time_base) * FPS) >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == WINDOW:
                break
        return np.stack(frames).transpose(0, 3, 1, 2)


def rate(work: Callable[[int], object], count: int) -> float:
    """Calls work(0..count-1) and returns calls per second, the best of three rounds."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        for i in range(count):
            work(i)
        best = max(best, count / (time.perf_counter() - start))
    return best


def main() -> None:
    """Makes a store, measures both ways, prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("frames", 64), ("episodes", 20), ("windows", 400), ("size", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        schema = Schema(SPACE, {"observation.image": (args.size, args.size, 3)}, FPS, video=True)
        with Store.create(Path(scratch) / "data", schema) as store:
            store.append([moving(args.frames, args.size, seed) for seed in range(args.episodes)])
        rng = numpy_rng(0, "windows")
        episodes = rng.integers(0, args.episodes, args.windows)
        starts = rng.integers(0, args.frames - WINDOW + 1, args.windows)

        seeking = Seeking(sorted(store.folder.glob("videos/*/*/*.mp4")))
        cache = Cache.build(store, folder=Path(scratch) / "cache")
        steps = Steps.all(cache)
        by_frame = {int(t): i for i, t in enumerate(steps.index)}
        positions = [by_frame[int(cache.starts[e] + s)] for e, s in zip(episodes, starts, strict=True)]
        windows = Steps(cache, steps.index, steps.columns, steps.digest, before=0, after=WINDOW - 1)

        for i in range(0, args.windows, 40):  # both ways return the same frames
            cached = windows.batch(np.array([positions[i]])).frames
            assert cached is not None
            assert np.array_equal(cached[0].numpy(), seeking.window(int(episodes[i]), int(starts[i])))
        slow = rate(lambda i: seeking.window(int(episodes[i]), int(starts[i])), args.windows)
        one = rate(lambda i: windows.batch(np.array([positions[i]])), args.windows)
        batched = 64 * rate(lambda i: windows.batch(rng.choice(positions, 64)), max(1, args.windows // 8))
        print(f"seeking in mp4, kept handle      {slow:10.0f} windows/s")
        print(f"cache, one window at a time      {one:10.0f} windows/s   {one / slow:6.1f} x")
        print(f"cache, batches of 64             {batched:10.0f} windows/s   {batched / slow:6.1f} x")


if __name__ == "__main__":
    main()
