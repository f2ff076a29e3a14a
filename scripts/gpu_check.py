"""Checks on a CUDA machine; see gpu_check.sh."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrodict import rng
from retrodict.clip import RECORDED, Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.nn.part import Part
from retrodict.recipes import dreamer_v3, tdmpc2
from retrodict.roles import View
from retrodict.run.compiled import EAGER, WAYS
from retrodict.run.log import Log
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views, versions
from retrodict.spaces import ActionSpace, categorical

SIZE, CELL = 36, 4
SPACE = ActionSpace((categorical("move", ("stay", "up", "down", "left", "right")),))
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])


def walk(episodes: int, length: int, seed: int) -> Cache:
    """A red cell that walks at random on a 9x9 grid: enough to see that training works, without any simulator."""
    dice, clips = rng.numpy_rng(seed, "walk"), []
    for _ in range(episodes):
        actions = dice.integers(0, 5, length - 1)
        place = np.zeros((length, 2), int)
        place[0] = dice.integers(0, 9, 2)
        for t, action in enumerate(actions):
            place[t + 1] = np.clip(place[t] + MOVES[action], 0, 8)
        frames = np.full((length, 3, SIZE, SIZE), 30, np.uint8)
        for t, (row, column) in enumerate(place * CELL):
            frames[t, 0, row : row + CELL, column : column + CELL] = 220
        clips.append(
            Clip(
                frames=torch.from_numpy(frames)[None],
                actions=SPACE.one_hot(torch.from_numpy(actions))[None],
                source=torch.full((1, length - 1), RECORDED, dtype=torch.uint8),
                rewards=torch.from_numpy(place[1:, 1] == 8).float()[None],
                ends=torch.zeros(1, length - 1),
            )
        )
    return Cache.build(MemoryStore(Schema(SPACE, {"observation.image": (SIZE, SIZE, 3)}, 10, rewards=True), clips))


def model(width: int) -> Inverse:
    """An inverse model for the walk."""
    with rng.isolated(0, "gpu"):
        return Inverse(View(2, 0, size=(SIZE, SIZE)), SPACE, "both", "mean_max", "grid", CELL, width, 3, 256)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative error in double precision."""
    a, b = a.double().cpu(), b.double().cpu()
    return float((a - b).norm() / b.norm())


def rate(work: Callable[[], Any], frames: int, repeats: int = 30) -> float:
    """Frames per second of a call, after a warm-up."""
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return round(frames * repeats / (time.perf_counter() - began))


class Clock(Log):
    """Notes when each update was done."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.times: list[float] = []

    def step(self, step: int, values: dict[str, float]) -> None:
        """Takes in one update."""
        super().step(step, values)
        self.times.append(time.perf_counter())

    def rate(self, updates: int) -> float:
        """Updates per second in the later half of the last stage: its first ones compile."""
        late = self.times[-(updates // 2) :]
        return round((len(late) - 1) / (late[-1] - late[0]), 1)


def world(name: str, views: Views, device: str, how: str, updates: int) -> tuple[torch.Tensor, float]:
    """All weights of a recipe's world after so many updates in each stage, and updates per second."""
    module: Any = {"dreamer_v3": dreamer_v3, "tdmpc2": tdmpc2}[name]
    settings, clock = module.tiny(), Clock()
    fits = {key: replace(value, steps=updates) for key, value in vars(settings).items() if isinstance(value, Fit)}
    with tempfile.TemporaryDirectory() as folder, Run(folder, views, device=device, log=clock, compile=how) as run:
        forward = module.train(replace(settings, **fits), run).forward
    assert isinstance(forward, Part)
    weights = [value.detach().float().cpu().flatten() for value in forward.state_dict().values()]
    return torch.cat(weights), clock.rate(updates)


def compiled_updates(updates: int) -> dict[str, dict[str, dict[str, float]]]:
    """Updates per second in every way, and how far weights are then from those of eager updates:
    the largest difference, and the relative error."""
    cache, found = walk(50, 30, 0), dict[str, dict[str, dict[str, float]]]()
    views = Views(Steps.all(cache, hidden=True), Steps.all(cache))
    for name in ("dreamer_v3", "tdmpc2"):
        eager, fast = world(name, views, "cuda", EAGER, updates)
        found[name] = {EAGER: {"updates per second": fast}}
        for how in WAYS:
            weights, fast = world(name, views, "cuda", how, updates)
            largest, error = float((weights - eager).abs().max()), relative(weights, eager)
            found[name][how] = {"updates per second": fast, "largest difference": largest, "relative": error}
    return found


def main(out: Path) -> int:
    """Runs the checks and writes gpu.json; the exit code is 1 when a check fails."""
    if not torch.cuda.is_available():
        print("no CUDA device here; nothing was checked", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cache, net = walk(200, 30, 0), model(128).eval()
    frames = Steps.all(cache).batch(np.arange(2048)).frames
    assert frames is not None
    with torch.no_grad():
        reference = net.belief(frames[:256]).params
        on_gpu = deepcopy(net).cuda()
        shown = frames.cuda()
        single = relative(on_gpu.belief(shown[:256]).params, reference)
        with torch.autocast("cuda", torch.bfloat16):
            half = relative(on_gpu.belief(shown[:256]).params.float(), reference)
            fast_half = rate(lambda: on_gpu.belief(shown), len(shown))
        fast = rate(lambda: on_gpu.belief(shown), len(shown))
        compiled = torch.compile(on_gpu.net)
        same = relative(on_gpu.head(compiled(shown[:256])), reference)
        fast_compiled = rate(lambda: on_gpu.head(compiled(shown)), len(shown))
    few = Steps.all(cache).uniform(1024, 0)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with Run(folder, Views(Steps.all(cache, hidden=True), few), device="cuda") as run:
            trained = run.fit("inverse", model(128), labelled, few.shown(net.view), Fit(2000, 256, 1e-3))
        seconds = time.perf_counter() - began
    test = walk(40, 30, 1)
    steps = Steps.all(test)
    with torch.no_grad():
        said = trained.infer(steps.batch(np.arange(len(steps))).to("cuda")).mode()[:, 0].argmax(-1).cpu()
    accuracy = float((said == steps.target_actions().argmax(-1)).float().mean())
    worlds = compiled_updates(24)
    errors = [way["relative"] for ways in worlds.values() for how, way in ways.items() if how != EAGER]
    result = {
        "device": torch.cuda.get_device_name(), "versions": versions(),
        "relative error": {"float32": single, "bfloat16": half, "compiled": same},
        "inverse frames per second": {"float32": fast, "bfloat16": fast_half, "compiled": fast_compiled},
        "training": {"steps": 2000, "batch": 256, "seconds": round(seconds, 1), "accuracy": round(accuracy, 4)},
        "updates": worlds,
    }  # fmt: skip
    checks = {"float32": single < 1e-4, "bfloat16": half < 3e-2, "compiled": same < 1e-3, "training": accuracy > 0.9}
    checks["updates"] = max(errors) < 5e-2  # rounding may turn draws
    result["passed"] = checks
    (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
