"""Checks on a CUDA machine; see gpu_check.sh.

Usage: python scripts/gpu_check.py OUT [PART ...]    parts: numbers, training, decisions, tdmpc2/whole, … (default: all)
       python scripts/gpu_check.py OUT published TASK    tells what runs/published/TASK came to
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
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
from retrodict.errors import UnusableInput
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.models.tdmpc import LatentWorld
from retrodict.nn.part import Part
from retrodict.recipes import dreamer_v3, tdmpc2
from retrodict.roles import View
from retrodict.run.compiled import EAGER, WAYS, WHOLE
from retrodict.run.log import Log
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views, versions
from retrodict.spaces import ActionSpace, categorical, continuous

SIZE, CELL = 36, 4
UPDATES = 48  # in each stage of a world
BEFORE = 2_500  # random actions of a task of the published tier, each of two steps
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


def numbers() -> tuple[dict[str, Any], dict[str, bool]]:
    """An inverse model in float32, bfloat16 and compiled, against the CPU; frames per second of each."""
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
    found = {
        "relative error": {"float32": single, "bfloat16": half, "compiled": same},
        "inverse frames per second": {"float32": fast, "bfloat16": fast_half, "compiled": fast_compiled},
    }
    return found, {"float32": single < 1e-4, "bfloat16": half < 3e-2, "compiled": same < 1e-3}


def training() -> tuple[dict[str, Any], dict[str, bool]]:
    """An inverse model learnt from 1,024 labels, and how often it is right on other episodes."""
    cache, net = walk(200, 30, 0), model(128)
    few = Steps.all(cache).uniform(1024, 0)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with Run(folder, Views(Steps.all(cache, hidden=True), few), device="cuda") as run:
            trained = run.fit("inverse", net, labelled, few.shown(net.view), Fit(2000, 256, 1e-3))
        seconds = time.perf_counter() - began
    steps = Steps.all(walk(40, 30, 1))
    with torch.no_grad():
        said = trained.infer(steps.batch(np.arange(len(steps))).to("cuda")).mode()[:, 0].argmax(-1).cpu()
    accuracy = float((said == steps.target_actions().argmax(-1)).float().mean())
    found = {"steps": 2000, "batch": 256, "seconds": round(seconds, 1), "accuracy": round(accuracy, 4)}
    return {"training": found}, {"training": accuracy > 0.9}


@cache
def learnt(name: str, how: str) -> tuple[torch.Tensor, float, float]:
    """What `world` returns for a walk after some updates, and the seconds that they took in all."""
    walked, began = walk(50, 30, 0), time.perf_counter()
    views = Views(Steps.all(walked, hidden=True), Steps.all(walked))
    return *world(name, views, "cuda", how, UPDATES), round(time.perf_counter() - began, 1)


def updates(name: str, how: str) -> tuple[dict[str, Any], dict[str, bool]]:
    """A world's updates per second as they are and in this way, and how far weights are then from those of eager
    updates: the largest difference, and the relative error."""
    key = f"updates of {name}, {how}"
    eager, usual, _ = learnt(name, EAGER)
    try:
        weights, fast, seconds = learnt(name, how)
    except UnusableInput as error:  # a loss that is no graph by itself
        return {key: {"refused": str(error)}}, {}
    found = {
        "updates per second": {EAGER: usual, how: fast}, "seconds in all": seconds,
        "largest difference": float((weights - eager).abs().max()), "relative error": relative(weights, eager),
    }  # fmt: skip
    return {key: found}, {key: found["relative error"] < 5e-2}  # rounding may turn draws


def decisions(rows: int = 4, count: int = 40) -> tuple[dict[str, Any], dict[str, bool]]:
    """Milliseconds of a decision of TD-MPC2's published planner for some rows, as it is and captured, and the largest
    difference of what it answers."""
    numbers, dice = 24, torch.Generator().manual_seed(0)
    space = ActionSpace((continuous("push", tuple("abcdef")),))
    with rng.isolated(0, "decisions"):
        forward = LatentWorld(View(1, 0, size=(8, 8), proprio=numbers), space).cuda().eval()
        torch.nn.init.normal_(forward.reward[-1].weight, std=0.05)  # it begins at 0, where all plans are alike
    shown = [
        Clip(
            frames=torch.zeros(rows, 2, 3, 8, 8, dtype=torch.uint8),
            proprio=torch.randn(rows, 2, numbers, generator=dice),
            actions=torch.zeros(rows, 1, 6), source=torch.full((rows, 1), RECORDED, dtype=torch.uint8),
            segment=torch.arange(rows, dtype=torch.int32).unsqueeze(1).repeat(1, 2),
        ).to("cuda")
        for _ in range(count)
    ]  # fmt: skip
    spent, answers = dict[str, float](), list[torch.Tensor]()
    for name in ("as it is", "captured"):
        player, memory, told = tdmpc2.planned(forward, tdmpc2.paper(), 0.99, 0), None, []
        player.planner.captured = name == "captured"
        began = 0.0
        with torch.no_grad():
            for number, clip in enumerate(shown):
                if number == count // 2:  # what comes before warms up
                    torch.cuda.synchronize()
                    began = time.perf_counter()
                belief, memory = player.act(clip, memory)
                told.append(belief.params.cpu())
        spent[name] = round((time.perf_counter() - began) / (count - count // 2) * 1e3, 2)
        answers.append(torch.stack(told))
    apart = float((answers[0] - answers[1]).abs().max())
    return {f"decisions of {rows} rows": {"ms": spent, "largest difference": apart}}, {"decisions": apart < 1e-3}


def published(out: Path, task: str) -> dict[str, Any]:
    """What a run of the published tier came to: mean returns of the 20 episodes that it had played last, exploring, by
    the task's steps so far, those of random actions among them; and its plans in the end, where it got so far."""
    run, found = Path("runs/published") / task, json.loads((out / "gpu.json").read_text())
    lines = [json.loads(line) for line in (run / "run/stages/played/metrics.jsonl").read_text().splitlines()]
    every = {f"{2 * (BEFORE + line['step'] + 1)}": round(line["played/return"], 1) for line in lines}
    last = list(every)[-1]
    return {
        "task": task, "seeds": 1, "device": found["device"], "torch": found["versions"]["torch"], "steps": int(last),
        "mean return of the last 20 episodes": {k: v for k, v in every.items() if int(k) % 5000 == 0 or k == last},
        "acting": json.loads((run / "act.json").read_text()) if (run / "act.json").exists() else None,
    }  # fmt: skip


PARTS: dict[str, Callable[[], tuple[dict[str, Any], dict[str, bool]]]] = {
    "numbers": numbers,
    "training": training,
    "decisions": decisions,
} | {f"{name}/{how}": partial(updates, name, how) for how in (WHOLE, *WAYS) for name in ("tdmpc2", "dreamer_v3")}


def main(out: Path, parts: Sequence[str]) -> int:
    """Runs the checks, and writes gpu.json after each; the exit code is 1 when a check fails."""
    if not torch.cuda.is_available():
        print("no CUDA device here; nothing was checked", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    path = out / "gpu.json"
    whole: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    whole |= {"device": torch.cuda.get_device_name(), "versions": versions()}
    for name in parts:
        found, passed = PARTS[name]()
        whole |= found | {"passed": whole.get("passed", {}) | passed}
        path.write_text(json.dumps(whole, indent=1) + "\n")
        print(json.dumps(found, indent=1), passed, flush=True)
    return 0 if all(whole["passed"].values()) else 1


if __name__ == "__main__":
    if sys.argv[2:3] == ["published"]:
        print(json.dumps(published(Path(sys.argv[1]), sys.argv[3]), indent=1))
        sys.exit(0)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or list(PARTS)))
