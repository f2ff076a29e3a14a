"""The one training loop: durable, idempotent by name, bit for bit the same after any interruption."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.errors import Interrupted, NonFinite, UnusableInput
from retrodict.nn.part import Part
from retrodict.run import checkpoint
from retrodict.run.log import Log

Losses = Mapping[str, Tensor]
Loss = Callable[[Any, Any, torch.Generator], Losses]
Data = Steps | Mapping[str, tuple[Steps, int]]


@dataclass(frozen=True)
class Fit:
    """How long and how fast to train.

    Fields: optimiser steps; rows per batch; peak learning rate; weight decay (AdamW); share of steps spent warming
    up (linear), after which the rate falls as a cosine to `floor` of its peak; gradient norm limit (0: none).
    """

    steps: int = 1000
    batch: int = 64
    rate: float = 2e-3
    decay: float = 1e-2
    warmup: float = 0.1
    floor: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.rate <= 0:
            raise UnusableInput(f"steps, batch and rate must be positive; got {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then cosine."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@dataclass
class Stop:
    """Remembers a SIGTERM or SIGINT so that the loop can commit and leave between two steps."""

    signal: int = 0

    def __enter__(self) -> Stop:
        self._old: dict[int, Any] = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: signals go elsewhere
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:  # the second signal leaves at once; the last commit is safe
            raise SystemExit(128 + number)
        self.signal = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


@dataclass
class Stage:
    """Where a stage keeps its checkpoints and metrics, and the address of its randomness."""

    folder: Path
    name: str
    seed: int
    identity: Mapping[str, Any]
    resume: str
    commit_seconds: float = 20.0
    commit_steps: int = 0  # commit every so many steps as well (0: by time only)
    seconds: float = 0.0  # time share; turned into steps once and recorded (0: none)
    device: str = "cpu"
    rank: int = 0
    world: int = 1


def fit(stage: Stage, part: Part, loss: Loss, data: Data, cfg: Fit, log: Log) -> Part:
    """Trains a part from its newest checkpoint, or from the start.

    `loss(part, clip, rng)` returns one scalar per parameter group of the part; a group's gradient reaches only its
    own parameters. `data` is one selection of steps, or {name: (steps, batch)}, when `loss` gets a dict of clips.

    Raises:
        NonFinite: before the step that would have taken it in. Interrupted: after committing.
    """
    stage.folder.mkdir(parents=True, exist_ok=True)
    checkpoint.sweep(stage.folder)
    part.to(stage.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    part.train()
    cfg = _within_time(stage, part, loss, data, cfg, log)
    optimisers = _optimisers(part, cfg)
    start = _restore(stage, part, optimisers, log)
    log.begin(stage.folder / "metrics.jsonl", start, cfg.steps, stage.name)
    committed = time.monotonic()
    with Stop() as stop, rng.isolated(stage.seed, stage.name):
        for step in range(start, cfg.steps):
            values = _step(stage, part, loss, data, cfg, optimisers, step)
            log.step(step, {**values, "rate": cfg.rate_at(step)})
            due = time.monotonic() - committed > stage.commit_seconds
            due = due or (stage.commit_steps > 0 and (step + 1) % stage.commit_steps == 0)
            if step + 1 < cfg.steps and (due or stop.signal):
                _commit(stage, part, optimisers, step + 1, log)
                committed = time.monotonic()
            if stop.signal and step + 1 < cfg.steps:
                name = signal.Signals(stop.signal).name
                raise Interrupted(
                    name,
                    f"{stage.name} is committed at step {step + 1} of {cfg.steps}. Resume with: {stage.resume}",
                    128 + stop.signal,
                )
    log.end()
    return part.eval()


def _step(
    stage: Stage,
    part: Part,
    loss: Loss,
    data: Data,
    cfg: Fit,
    optimisers: Mapping[str, torch.optim.Optimizer],
    step: int,
) -> dict[str, float]:
    address = (stage.seed, stage.name, step)
    torch.manual_seed(rng.key(*address, "layers"))  # dropout and the like; isolated by the caller
    batch = _draw(stage, data, cfg, step)
    losses = loss(part, batch, rng.torch_rng(*address, "noise", device=stage.device))
    groups = part.groups()
    if set(losses) != set(groups):
        raise UnusableInput(f"the loss returned {sorted(losses)} and the part's groups are {sorted(groups)}")
    values = {name: float(value.detach()) for name, value in losses.items()}
    if not all(math.isfinite(value) for value in values.values()):
        _blame(part, batch, losses, step, data)
    for name, parameters in groups.items():
        last = name == list(groups)[-1]
        gradients = torch.autograd.grad(losses[name], parameters, retain_graph=not last, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(parameters, cfg.clip if cfg.clip > 0 else math.inf)
        values[f"{name}/gradient"] = float(norm)
        if not math.isfinite(values[f"{name}/gradient"]):
            _blame_gradient(part, step, data, batch)
    for name, optimiser in optimisers.items():
        _check_optimiser(name, optimiser, step, data, batch)
        for settings in optimiser.param_groups:
            settings["lr"] = cfg.rate_at(step)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    part.after_step(step)
    return values


def _draw(stage: Stage, data: Data, cfg: Fit, step: int) -> Any:
    address = (stage.seed, stage.name, step)
    if isinstance(data, Steps):
        return data.draw(cfg.batch, *address, rank=stage.rank, world=stage.world).to(stage.device)
    return {
        name: steps.draw(count, *address, name, rank=stage.rank, world=stage.world).to(stage.device)
        for name, (steps, count) in data.items()
    }


def _optimisers(part: Part, cfg: Fit) -> dict[str, torch.optim.Optimizer]:
    return {
        name: torch.optim.AdamW(parameters, lr=cfg.rate, weight_decay=cfg.decay, fused=True)
        for name, parameters in part.groups().items()
    }


def _within_time(stage: Stage, part: Part, loss: Loss, data: Data, cfg: Fit, log: Log) -> Fit:
    """Turns a time share into steps, once: the number is recorded and used by every resume."""
    if not stage.seconds:
        return cfg
    record = stage.folder / "steps.json"
    if not record.exists():
        trial, few = deepcopy(part), 12
        optimisers = _optimisers(trial, cfg)
        with rng.isolated(stage.seed, stage.name):
            for step in range(2):
                _step(stage, trial, loss, data, cfg, optimisers, step)
            began = time.monotonic()
            for step in range(few):
                _step(stage, trial, loss, data, cfg, optimisers, step)
        fitting = int(stage.seconds * few / (time.monotonic() - began))
        checkpoint.sync_write(
            record, json.dumps({"steps": max(20, min(cfg.steps, fitting)), "asked": cfg.steps}).encode()
        )
    steps = json.loads(record.read_text())["steps"]
    if steps < cfg.steps:
        log.say(f"{stage.name}: its {stage.seconds:.0f} s allow {steps} of {cfg.steps} steps")
    return Fit(**{**cfg.__dict__, "steps": steps})


def _commit(stage: Stage, part: Part, optimisers: Mapping[str, torch.optim.Optimizer], step: int, log: Log) -> None:
    if stage.rank:
        return
    log.flush()
    tensors = {f"part.{name}": value for name, value in part.state_dict().items()}
    for name, optimiser in optimisers.items():
        for number, entry in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{name}.{number}.{field}": torch.as_tensor(v) for field, v in entry.items()}
    checkpoint.save_folder(stage.folder / f"step-{step}", tensors, {"step": step, "identity": dict(stage.identity)})
    checkpoint.prune(stage.folder)


def _restore(stage: Stage, part: Part, optimisers: Mapping[str, torch.optim.Optimizer], log: Log) -> int:
    found = checkpoint.newest(stage.folder)
    if found is None:
        return 0
    step, tensors, _, remark = found
    if remark:
        log.say(remark)
    part.load_state_dict({name[5:]: value for name, value in tensors.items() if name.startswith("part.")})
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for path, value in tensors.items():
            if path.startswith(f"optimiser.{name}."):
                number, field = path[len(f"optimiser.{name}.") :].split(".")
                state.setdefault(int(number), {})[field] = value
        whole = optimiser.state_dict()
        whole["state"] = state
        optimiser.load_state_dict(whole)
    log.say(f"{stage.name}: going on from step {step}")
    return step


def _clips(batch: Any) -> dict[str, Clip]:
    return batch if isinstance(batch, dict) else {"batch": batch}


def _episodes(data: Data, batch: Any) -> list[str]:
    views = {"batch": data} if isinstance(data, Steps) else {name: view for name, (view, _) in data.items()}
    return [id for name, clip in _clips(batch).items() for id in views[name].episode_ids(clip)][:8]


def _blame(part: Part, batch: Any, losses: Losses, step: int, data: Data) -> None:
    """Names the first tensor that is not finite: input, weight, then loss."""
    for name, clip in _clips(batch).items():
        for field in ("actions", "confidence", "rewards", "ends", "proprio"):
            value = getattr(clip, field)
            if value is not None and not bool(torch.isfinite(value).all()):
                raise NonFinite(f"input {name}.{field}", step, _episodes(data, batch))
    for name, value in part.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NonFinite(f"weight {name}", step, _episodes(data, batch))
    bad = next(name for name, value in losses.items() if not math.isfinite(float(value.detach())))
    raise NonFinite(f"loss {bad}", step, _episodes(data, batch))


def _blame_gradient(part: Part, step: int, data: Data, batch: Any) -> None:
    for name, parameter in part.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            raise NonFinite(f"gradient of {name}", step, _episodes(data, batch))
    raise NonFinite("gradient norm", step, _episodes(data, batch))


def _check_optimiser(name: str, optimiser: torch.optim.Optimizer, step: int, data: Data, batch: Any) -> None:
    tensors = [v for entry in optimiser.state.values() for v in entry.values() if v.is_floating_point() and v.numel()]
    if tensors and not bool(torch.stack(torch._foreach_norm(tensors)).isfinite().all()):
        raise NonFinite(f"optimiser state of {name}", step, _episodes(data, batch))


def weights_hash(part: Part) -> str:
    """SHA-256 of all weights and buffers, in order of name."""
    total = hashlib.sha256()
    for name, value in sorted(part.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
