"""The loop of what learns without gradients, statistics and evolution: durable, and the same after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.nn.part import Part
from retrodict.run import checkpoint, finite
from retrodict.run.log import Log
from retrodict.run.loop import Stage, episodes, newest

P = TypeVar("P", bound=Part)
Body = Callable[[P, Any, torch.Generator], dict[str, float]]


def repeat(stage: Stage, part: P, body: Body[P], steps: int, data: Steps | None, batch: int, log: Log) -> None:
    """Repeats `body(part, step, rng)` from the newest checkpoint, or from the start; it changes buffers and returns
    figures for the log. With data it is given a batch of `batch` windows in the place of the step's number.

    Raises:
        NonFinite: an input, a buffer or a figure is not finite; buffers are as before the step. Interrupted: after
            committing.
    """
    start, tensors = newest(stage, log)
    if start:
        part.load_state_dict(tensors)
    log.begin(stage.folder / "metrics.jsonl", start, steps, stage.name)
    committed = time.monotonic()
    try:
        with torch.no_grad(), rng.isolated(stage.seed, stage.name):
            for step in range(start, steps):
                log.step(step, _step(stage, part, body, step, data, batch))
                due = time.monotonic() - committed > stage.commit_seconds or stage.stop.signal
                if step + 1 < steps and (due or (step + 1) % (stage.commit_steps or steps) == 0):
                    log.flush()
                    kept = stage.folder / f"step-{step + 1}"
                    checkpoint.save_folder(kept, part.state_dict(), {"identity": dict(stage.identity)})
                    checkpoint.prune(stage.folder)
                    committed = time.monotonic()
                    stage.stop.leave(f"{stage.name} is committed at step {step + 1} of {steps}.", stage.resume)
    finally:
        log.end()
    if alarm := part.alarm():
        log.say(f"{stage.name}: {alarm}")


def _step(stage: Stage, part: P, body: Body[P], step: int, data: Steps | None, batch: int) -> dict[str, float]:
    given: Any = step if data is None else data.draw(batch, stage.seed, stage.name, step)
    with finite.guarded(part, step, lambda: [] if data is None else episodes(data, given)):
        finite.refuse(part, given, {})
        values = body(part, given, rng.torch_rng(stage.seed, stage.name, step))
        finite.refuse(part, given, values)
    return values
