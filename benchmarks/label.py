"""Labelling from mp4, end to end, beside its parts and beside a plain loop, all in one run; and memory.

Usage: python benchmarks/label.py [--episodes 60] [--frames 100] [--size 64] [--rounds 3] [--longest 100000]

Prints frames per second of labelling a dataset of mp4 files (decoding, the network, commits of labels), of decoding
alone and of the network alone; the claim is a ratio of at least 0.85 to the slower of the two. The plain loop is one
window after the other, as a script that decodes, runs the network and keeps the answer would have it: in one process,
no batches, no thread ahead, the layout that torch has by default. The claim is at least 3 times its speed. All take
turns, and the best round of each counts. The network is an inverse model of about 0.4 M parameters that sees three
frames (Impala with 16 channels); torch uses one thread throughout.

Memory is the peak of the labelling process and its decoder together, in processes of their own, over one video of 10^3
frames and more, up to `--longest`; the claim is that it stays flat and under 1.5 GB.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.guarded import decoder
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.data.video import Writer
from retrodict.label import infer
from retrodict.models.inverse import Inverse
from retrodict.roles import InverseModel, View
from retrodict.run.onnx_file import OnnxInverse, export_onnx
from retrodict.spaces import ActionSpace, categorical

FPS, CAMERA = 10, "observation.image"
SPACE = ActionSpace((categorical("action", ("left", "right", "stay", "jump")),))


def network(size: int) -> Inverse:
    """The inverse model, with random weights: speed does not depend on them."""
    with rng.isolated("benchmark"):
        part = Inverse(View(3, 1, size=(size, size)), SPACE, "frames", "flatten", "impala", width=16)
    return part.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def write(path: Path, frames: int, size: int, seed: int) -> None:
    """Writes a block that moves over a texture as mp4."""
    texture = rng.numpy_rng(seed, "benchmark").integers(0, 90, (size // 8, size // 8, 3), np.uint8)
    ground = texture.repeat(8, 0).repeat(8, 1)
    with Writer(path, size, size, FPS) as writer:
        for t in range(frames):
            picture = ground.copy()
            picture[8:16, (3 * t) % (size - 8) :][:, :8] = 230
            writer.add(picture[None])


def dataset(folder: Path, episodes: int, frames: int, size: int) -> Store:
    """A dataset of mp4 files, opened for reading."""
    schema = Schema(SPACE, {CAMERA: (size, size, 3)}, FPS, video=True)
    folder.mkdir(parents=True)
    with Store.create(folder / "data", schema) as store:
        for seed in range(episodes):
            write(folder / "new.mp4", frames, size, seed)
            times = torch.arange(frames, dtype=torch.float64)[None] / FPS
            store.append([Clip(times=times)], videos=[{CAMERA: folder / "new.mp4"}])
            (folder / "new.mp4").unlink()
    return Store.open(folder / "data")


def decoded(store: Store, size: int) -> None:
    """Decodes all frames as labelling does."""
    for id in store.ids:
        for _ in infer._chunks(store, id, (size, size)):
            pass


def labelled(store: Store, model: InverseModel, folder: Path) -> None:
    """Labels all episodes into a new store."""
    with Store.create(folder, Schema(SPACE, {}, FPS)) as labels:
        infer.infer_episodes(infer.Labeller(model), store, labels, "benchmark")


def plain(files: list[Path], model: Inverse) -> list[npt.NDArray[np.int64]]:
    """One window after the other: decode, run the network, keep the answer."""
    answers = []
    for file in files:
        frames: list[torch.Tensor] = []
        said: list[int] = []

        def answer(window: list[torch.Tensor], said: list[int] = said) -> None:
            said.append(int(model.belief(torch.stack(window)[None]).params.argmax()))

        with av.open(str(file)) as box, torch.no_grad():
            box.streams.video[0].codec_context.thread_count = 1
            for frame in box.decode(video=0):
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1))
                if len(frames) >= 2:  # the edge frame repeats before the first
                    answer([frames[max(0, len(frames) - 3)], *frames[-2:]])
        answers.append(np.array(said))
    return answers


def check(folder: Path, found: list[npt.NDArray[np.int64]]) -> None:
    """The plain loop and labelling say the same."""
    labels = Store.open(folder)
    for id, said in zip(labels.ids, found, strict=True):
        actions = labels.read(id).actions
        assert actions is not None
        assert (actions[0].argmax(-1).numpy() == said).mean() > 0.999, "other answers"


def speed(args: argparse.Namespace, scratch: Path) -> None:
    """Prints frames per second and ratios."""
    store, model = dataset(scratch / "speed", args.episodes, args.frames, args.size), network(args.size)
    files = [path for id in store.ids for path, _ in store.videos(id)]
    groups = list(infer._groups(store.ids, store.lengths))
    batches = list(infer._batches(model.view, store, groups))
    standard = network(args.size).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    counter = iter(range(1_000_000))

    def whole(what: InverseModel) -> None:
        labelled(store, what, scratch / f"labels {next(counter)}")

    def alone(what: InverseModel) -> None:
        for batch in batches:
            infer._infer(infer.Labeller(what), batch)

    whole(model)
    check(scratch / "labels 0", plain(files, standard))
    works: dict[str, Callable[[], object]] = {
        "decode alone": lambda: decoded(store, args.size),
        "network alone": lambda: alone(model),
        "end to end": lambda: whole(model),
        "plain loop": lambda: plain(files, standard),
    }
    if find_spec("onnxscript") and find_spec("onnxruntime"):
        export_onnx({"inverse": model}, scratch / "onnx", {})
        quick = OnnxInverse(scratch / "onnx")
        works |= {"network alone, ONNX Runtime": lambda: alone(quick), "end to end, ONNX Runtime": lambda: whole(quick)}
    best = dict.fromkeys(works, float("inf"))
    for _ in range(args.rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - began)
    rate = {name: args.episodes * args.frames / seconds for name, seconds in best.items()}
    notes = {"plain loop": f"   end to end is {rate['end to end'] / rate['plain loop']:.2f} x of it (claim: 3)"}
    for suffix in ("", ", ONNX Runtime"):
        if f"end to end{suffix}" in rate:
            slower = min(rate["decode alone"], rate[f"network alone{suffix}"])
            share = rate[f"end to end{suffix}"] / slower
            notes[f"end to end{suffix}"] = f"   {share:.2f} of the slower of its parts (claim: 0.85)"
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{args.episodes} mp4 files of {args.frames} frames, {args.size} pixels; {parameters:,} parameters, 3 frames")
    for name in works:
        print(f"{name:28}{rate[name]:10.0f} frames/s{notes.get(name, '')}")


def memory(args: argparse.Namespace, scratch: Path) -> None:
    """Prints the peak memory of labelling one video of growing length, each in a process of its own."""
    lengths = [10**power for power in range(3, 10) if 10**power <= args.longest]
    peaks = []
    for length in lengths:
        folder = scratch / f"long {length}"
        dataset(folder, 1, length, args.size).close()
        line = [sys.executable, __file__, "--peak", str(folder), "--size", str(args.size)]
        peaks.append(int(subprocess.run(line, capture_output=True, text=True, check=True).stdout))
        print(f"{length:9,} frames{peaks[-1]:10,} MB   {peaks[-1] / peaks[0]:.2f} x that of {lengths[0]:,}")


def peak(folder: Path, size: int) -> None:
    """Labels one dataset, and prints the peak memory of this process and its decoder, in MB."""
    labelled(Store.open(folder / "data"), network(size), folder / "labels")
    processes = ["self", *(child._process.pid for child in decoder._idle)]
    status = [Path(f"/proc/{process}/status").read_text() for process in processes]
    print(sum(int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) for text in status) // 1024)


def main() -> None:
    """Measures speed, then memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("episodes", 60), ("frames", 100), ("size", 64), ("rounds", 3), ("longest", 100_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        peak(args.peak, args.size)
        return
    with tempfile.TemporaryDirectory() as scratch:
        speed(args, Path(scratch))
        memory(args, Path(scratch))


if __name__ == "__main__":
    main()
