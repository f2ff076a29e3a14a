"""The one training loop: durable, idempotent by name, bit for bit the same after any interruption."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.data.durable import sync_write
from retrodict.errors import Interrupted, UnusableInput
from retrodict.nn.laprop import LaProp
from retrodict.nn.part import Part
from retrodict.run import checkpoint, finite
from retrodict.run.captured import Captured
from retrodict.run.compiled import EAGER, WHOLE, Compiled
from retrodict.run.log import Log
from retrodict.run.replay import Replay
from retrodict.run.update import Loss, Update, laid_out_like

Data = Steps | Replay | Mapping[str, tuple[Steps, int]]


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

    def optimiser(self, parameters: list[nn.Parameter], pace: float) -> torch.optim.Optimizer:
        """The optimiser of a group whose learning rate is `pace` of the common one."""
        group = [{"params": parameters, "pace": pace}]
        return torch.optim.AdamW(group, lr=self.rate, weight_decay=self.decay, fused=True)


@dataclass(frozen=True)
class SteadyFit(Fit):
    """The same with another least size, `epsilon`, of what Adam divides by (DreamerV2: 1e-5; else 1e-8)."""

    epsilon: float = 1e-5

    def optimiser(self, parameters: list[nn.Parameter], pace: float) -> torch.optim.Optimizer:
        """AdamW."""
        made = super().optimiser(parameters, pace)
        for group in made.param_groups:
            group["eps"] = self.epsilon
        return made


@dataclass(frozen=True)
class LaPropFit(Fit):
    """The same by LaProp, each tensor's gradient cut at `share` of its norm; warm-up and then a constant rate
    (DreamerV3)."""

    decay: float = 0.0
    warmup: float = 0.02
    floor: float = 1.0
    clip: float = 0.0
    share: float = 0.3

    def optimiser(self, parameters: list[nn.Parameter], pace: float) -> torch.optim.Optimizer:
        """LaProp."""
        return LaProp([{"params": parameters, "pace": pace}], lr=self.rate, clip=self.share)


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

    def leave(self, what: str, resume: str) -> None:
        """Raises Interrupted when a signal came; `what` says what is kept and `resume` how to go on."""
        if self.signal:
            raise Interrupted(signal.Signals(self.signal).name, f"{what} Resume with: {resume}", 128 + self.signal)


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
    compile: str = EAGER  # or how nets are compiled while the loss runs (`run.compiled`)
    rank: int = 0
    world: int = 1
    stop: Stop = field(default_factory=Stop)  # notes signals while the caller has entered it


def fit(stage: Stage, part: Part, loss: Loss, data: Data, cfg: Fit, log: Log) -> Part:
    """Trains a part from its newest checkpoint, or from the start.

    `loss(part, clip, rng)` returns one scalar per parameter group of the part; a group's gradient reaches only its
    own parameters. `data` is one selection of steps, or one that grows as the part plays (`Replay`), or
    {name: (steps, batch)}, when `loss` gets a dict of clips.

    Raises:
        NonFinite: before the step that would have taken it in. Interrupted: after committing.
    """
    stage.folder.mkdir(parents=True, exist_ok=True)
    part.to(stage.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    part.train()
    update = _update(stage, loss, cfg.clip)
    cfg = _within_time(stage, part, update, data, cfg, log)
    optimisers = _optimisers(part, cfg)
    start = _restore(stage, part, optimisers, log)
    log.begin(stage.folder / "metrics.jsonl", start, cfg.steps, stage.name)
    try:
        with rng.isolated(stage.seed, stage.name):
            _steps(stage, part, update, data, cfg, optimisers, start, log)
    finally:
        log.end()
    if alarm := part.alarm():
        log.say(f"{stage.name}: {alarm}")
    return part.eval()


def _steps(
    stage: Stage,
    part: Part,
    update: Update | Captured,
    data: Data,
    cfg: Fit,
    optimisers: Mapping[str, torch.optim.Optimizer],
    start: int,
    log: Log,
) -> None:
    committed, alarmed = time.monotonic(), False
    for step in range(start, cfg.steps):
        values = _step(stage, part, update, data, cfg, optimisers, step)
        if isinstance(data, Replay):
            values["played/return"] = data.returns()
        log.step(step, {**values, **part.gauges(), "rate": cfg.rate_at(step)})
        if step + 1 == cfg.steps:  # the caller commits the finished stage, and leaves if a signal came
            return
        late = 4 * (step + 1) >= cfg.steps and (step + 1) % max(1, cfg.steps // 10) == 0  # codes settle at first
        if late and not alarmed and (alarm := part.alarm()):
            log.say(f"{stage.name}, step {step + 1} of {cfg.steps}: {alarm}")
            alarmed = True
        due = time.monotonic() - committed > stage.commit_seconds
        due = due or (stage.commit_steps > 0 and (step + 1) % stage.commit_steps == 0)
        if due or stage.stop.signal:
            if isinstance(data, Replay):
                data.commit()
            _commit(stage, part, optimisers, step + 1, log)
            committed = time.monotonic()
        stage.stop.leave(f"{stage.name} is committed at step {step + 1} of {cfg.steps}.", stage.resume)


def _step(
    stage: Stage,
    part: Part,
    update: Update | Captured,
    data: Data,
    cfg: Fit,
    optimisers: Mapping[str, torch.optim.Optimizer],
    step: int,
) -> dict[str, float]:
    """One step, or NonFinite with every weight and buffer as before it."""
    address = (stage.seed, stage.name, step)
    rng.seed_layers(rng.key(*address, "layers"))  # dropout and the like; isolated by the caller
    batch = _draw(stage, part, data, cfg, step)
    with finite.guarded(part, step, lambda: episodes(data, batch)):
        told = update(part, batch, rng.torch_rng(*address, "noise", device=stage.device))
        numbers = torch.stack(list(told.values())).tolist()  # the device is waited for here, once
        values = dict(zip(told, numbers, strict=True))
        if not all(math.isfinite(value) for name, value in values.items() if not name.endswith("/gradient")):
            part.zero_grad(set_to_none=True)  # a loss is to blame, and not the gradients that come of it
        finite.refuse(part, batch, values, optimisers)
    for optimiser in optimisers.values():
        for settings in optimiser.param_groups:
            settings["lr"] = cfg.rate_at(step) * settings["pace"]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    part.after_step(step, cfg.rate_at(step) / cfg.rate)
    return values


def _update(stage: Stage, loss: Loss, limit: float) -> Update | Captured:
    """An update in this stage's way."""
    whole = stage.compile == WHOLE
    update = Update(loss if whole or stage.compile == EAGER else Compiled(loss, stage.compile), limit)
    return Captured(update) if whole else update


def _draw(stage: Stage, part: Part, data: Data, cfg: Fit, step: int) -> Any:
    address = (stage.seed, stage.name, step)
    if isinstance(data, Replay):
        data = data.at(step, cfg.steps, part, stage.seed, stage.device)
    if isinstance(data, Steps):
        return data.draw(cfg.batch, *address, rank=stage.rank, world=stage.world).to(stage.device)
    return {
        name: steps.draw(count, *address, name, rank=stage.rank, world=stage.world).to(stage.device)
        for name, (steps, count) in data.items()
    }


def _optimisers(part: Part, cfg: Fit) -> dict[str, torch.optim.Optimizer]:
    paces = part.paces()
    return {name: cfg.optimiser(group, paces.get(name, 1.0)) for name, group in part.groups().items()}


def _within_time(stage: Stage, part: Part, update: Update | Captured, data: Data, cfg: Fit, log: Log) -> Fit:
    """Turns a time share into steps, once: the number is recorded and used by every resume."""
    if not stage.seconds:
        return cfg
    record = stage.folder / "steps.json"
    if not record.exists():
        trial, few = deepcopy(part), 12
        optimisers = _optimisers(trial, cfg)
        with rng.isolated(stage.seed, stage.name):
            for step in range(2):
                _step(stage, trial, update, data, cfg, optimisers, step)
            began = time.monotonic()
            for step in range(few):
                _step(stage, trial, update, data, cfg, optimisers, step)
        fitting = int(stage.seconds * few / (time.monotonic() - began))
        if isinstance(data, Replay):
            data.forget()
        sync_write(record, json.dumps({"steps": min(cfg.steps, max(20, fitting)), "asked": cfg.steps}).encode())
    steps = json.loads(record.read_text())["steps"]
    if steps < cfg.steps:
        log.say(f"{stage.name}: its {stage.seconds:.0f} s allow {steps} of {cfg.steps} steps")
    return replace(cfg, steps=steps)


def _commit(stage: Stage, part: Part, optimisers: Mapping[str, torch.optim.Optimizer], step: int, log: Log) -> None:
    if stage.rank:
        return
    log.flush()
    tensors = {f"part.{name}": value for name, value in part.state_dict().items()}
    for name, optimiser in optimisers.items():
        for number, entry in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{name}.{number}.{kind}": torch.as_tensor(v) for kind, v in entry.items()}
    checkpoint.save_folder(stage.folder / f"step-{step}", tensors, {"step": step, "identity": dict(stage.identity)})
    checkpoint.prune(stage.folder)


def _restore(stage: Stage, part: Part, optimisers: Mapping[str, torch.optim.Optimizer], log: Log) -> int:
    step, tensors = newest(stage, log)
    if step == 0:
        return 0
    part.load_state_dict({name[5:]: value for name, value in tensors.items() if name.startswith("part.")})
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for path, value in tensors.items():
            if path.startswith(f"optimiser.{name}."):
                number, kind = path[len(f"optimiser.{name}.") :].split(".")
                state.setdefault(int(number), {})[kind] = value
        whole = optimiser.state_dict()
        whole["state"] = state
        optimiser.load_state_dict(whole)
        for parameter, entry in optimiser.state.items():
            for kind, value in entry.items():
                if value.shape == parameter.shape:
                    entry[kind] = laid_out_like(parameter, value)
    log.say(f"{stage.name}: going on from step {step}")
    return step


def newest(stage: Stage, log: Log) -> tuple[int, dict[str, Tensor]]:
    """Step and tensors of a stage's newest whole checkpoint, 0 and none where there is none; says which are damaged."""
    found = checkpoint.newest(stage.folder)
    if found is None:
        return 0, {}
    step, tensors, _, remark = found
    if remark:
        log.say(remark)
    return step, tensors


def episodes(data: Data, batch: Any) -> list[str]:
    """Names of the first episodes in a batch, for messages."""
    views = {"batch": data} if isinstance(data, Steps | Replay) else {name: view for name, (view, _) in data.items()}
    return [id for name, clip in finite.clips_of(batch).items() for id in views[name].episode_ids(clip)][:8]


def weights_hash(part: Part) -> str:
    """SHA-256 of all weights and buffers, in order of name."""
    total = hashlib.sha256()
    for name, value in sorted(part.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
