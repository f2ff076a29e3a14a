"""The contract that a recipe's training and roles are held to: shapes, learning, seeds, resuming, tidiness."""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.envs.rollout import expert, rollout
from retrodict.envs.sprites import Sprites
from retrodict.errors import NoFrames, NoLikelihood, RetrodictError
from retrodict.nn.part import Part
from retrodict.roles import System
from retrodict.run.log import Log
from retrodict.run.loop import Fit, weights_hash
from retrodict.run.run import Run, Views
from retrodict.segments import segment_vector
from retrodict.spaces import ActionSpace, Distribution
from retrodict.tree import Tree, flatten, repeat

WORDS = "go left"  # that are said to a world of words
LEARNING_STEPS = 80  # steps after which a loss must have fallen
_SHAPES = ((1, 1), (1, 2), (3, 5))  # rows and frames: no step, one step, odd numbers


class Broken(RetrodictError):
    """A recipe breaks a rule of the contract; the message says which and how."""


def sprite_views(episodes: int, labels: int, size: int = 36, seed: int = 0) -> Views:
    """Records sprites (the expert with 20 % random actions): all video, and `labels` of its steps with actions."""
    world = Sprites(8, size)
    schema = Schema(world.actions, {"observation.image": (size, size, 3)}, world.fps, rewards=True)
    clips = [clip for clip, _, _ in rollout(world, range(seed, seed + episodes), expert(world, 0.2, seed))]
    cache = Cache.build(MemoryStore(schema, clips))
    return Views(Steps.all(cache, hidden=True), Steps.all(cache).known().uniform(labels, seed))


class _Kill(BaseException):
    """Stands for kill -9: nobody expects it, and nothing is tidied up."""


class _Count(Log):
    """A silent log that counts the steps of all stages, and kills at one of them (0: never)."""

    def __init__(self, kill_at: int = 0) -> None:
        super().__init__(quiet=True)
        self.count, self.kill_at = 0, kill_at

    def step(self, step: int, values: dict[str, float]) -> None:
        super().step(step, values)
        self.count += 1
        if self.count == self.kill_at:
            raise _Kill


@dataclass
class Bench:
    """Trains a recipe as often as the rules need it, and notes what it must not do."""

    module: ModuleType
    folder: Path
    moved: list[str] = field(default_factory=list)  # where global randomness changed
    strayed: set[str] = field(default_factory=set)  # what was written or connected to outside the run's folder

    @cached_property
    def views(self) -> Views:
        """The small recorded world."""
        return sprite_views(episodes=20, labels=32)

    @cached_property
    def first(self) -> tuple[System, int]:
        """The system of micro(), and the number of steps of all its stages."""
        log = _Count()
        return self.train("first", self.module.micro(), log), log.count

    def train(self, name: str, cfg: Any, log: Log | None = None, views: Views | None = None) -> System:
        """Trains in the folder of this name, and sees that a System of parts comes back."""
        folder = self.folder / name
        with (
            _guard(folder, self.strayed),
            self.still(f"train ({name})"),
            Run(folder, views or self.views, log=log, commit_steps=3) as run,
        ):
            system = self.module.train(cfg, run)
        if not isinstance(system, System) or not system.parts():
            raise Broken(f"train(cfg, run) must return a System with at least one role; got {system!r:.80}")
        for role, part in system.parts().items():
            if not isinstance(part, Part):
                raise Broken(f"the system's {role} is a {type(part).__name__}; only a Part can be saved")
        return system

    def curves(self, name: str) -> dict[str, list[dict[str, float]]]:
        """The metrics of every stage."""
        files = sorted((self.folder / name / "stages").glob("*/metrics.jsonl"))
        return {file.parent.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}

    @contextmanager
    def still(self, where: str) -> Iterator[None]:
        """Notes global randomness that is not as it was."""
        before = _global_randomness()
        yield
        self.moved += [f"{name} in {where}" for name, state in _global_randomness().items() if state != before[name]]


def _global_randomness() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "random": random.getstate(),
        "numpy.random": (kind, np.asarray(keys).tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


_guards: list[tuple[str, set[str]]] = []  # folders in which writing is allowed, and where to note the rest
_CACHES = ("__pycache__", "torchinductor")  # Python's and torch's own
_CHANGES = {"os.mkdir": 1, "os.rename": 2}  # how many of the arguments are paths


@contextmanager
def _guard(folder: Path, strayed: set[str]) -> Iterator[None]:
    """Notes what Python writes outside a folder, and every connection."""
    if not getattr(sys, "_retrodict_guard", False):
        sys.addaudithook(_note)  # for good: Python cannot remove it; it does nothing without a guard
        sys._retrodict_guard = True  # type: ignore[attr-defined]
    _guards.append((str(folder), strayed))
    try:
        yield
    finally:
        _guards.pop()


def _note(event: str, args: tuple[Any, ...]) -> None:
    if not _guards:
        return
    allowed, strayed = _guards[-1]
    if event == "socket.connect":
        strayed.add(f"a connection to {args[1]}")
    paths = args[: _CHANGES.get(event, 0)]
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        paths = args[:1]
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            place = os.path.abspath(os.fsdecode(path))
            if not place.startswith((allowed, "/dev/")) and not any(c in place for c in _CACHES):
                strayed.add(place)


def _weights(system: System) -> dict[str, str]:
    return {role: weights_hash(part) for role, part in system.parts().items()}


def _system_rule(bench: Bench) -> str:
    system, _ = bench.first
    return "train returns " + ", ".join(system.parts())


def _shapes_rule(bench: Bench) -> str:
    """Every role keeps its shapes for no step, one step, odd numbers of rows and frames, and odd frame sizes."""
    _try_roles(bench, bench.first[0], bench.views.unlabelled.cache, _SHAPES)
    odd = sprite_views(episodes=8, labels=32, size=45)
    _try_roles(bench, bench.train("odd", bench.module.micro(), views=odd), odd.unlabelled.cache, ((3, 3),))
    return "rows x frames " + ", ".join(f"{b} x {t}" for b, t in _SHAPES) + "; frames of 36 and 45 pixels"


def _try_roles(bench: Bench, system: System, cache: Cache, shapes: tuple[tuple[int, int], ...]) -> None:
    for rows, length in shapes:
        start = int(cache.starts[np.diff(cache.starts).argmax()])
        frames = torch.from_numpy(cache.frames[start : start + length]).expand(rows, -1, -1, -1, -1).clone()
        for whole in (system, system.decoded()):
            for role, part in whole.parts().items():
                where = f"{role} at {rows} x {length} frames"
                with torch.no_grad(), bench.still(where):
                    _TRIES[role](part, Clip(frames=frames), where)


def _expect(where: str, value: torch.Tensor | None, *shape: int) -> None:
    if value is None or tuple(value.shape) != shape:
        raise Broken(f"{where}: expected shape {shape}; got {None if value is None else tuple(value.shape)}")
    if not bool(torch.isfinite(value).all()):
        raise Broken(f"{where}: the answer holds numbers that are not finite")


def _expect_rows(where: str, tree: Tree, rows: int) -> None:
    for path, tensor in flatten(tree).items():
        if tensor.shape[:1] != (rows,):
            raise Broken(f"{where}: {path} must have first axis {rows}; got {tuple(tensor.shape)}")


def _some_actions(space: ActionSpace, rows: int, steps: int, words: str = "") -> torch.Tensor:
    """Draws actions evenly; every text, which has no distribution, says these words, as many as it has room for."""
    noise, parts = rng.torch_rng("check", "actions"), []
    for segment in space.segments:
        if segment.kind == "text":
            said = segment_vector(segment, words[: segment.width])
            parts.append(said.expand(rows, steps, -1))
        else:
            even = Distribution(ActionSpace((segment,)), torch.zeros(rows, steps, segment.parameters))
            parts.append(even.sample(noise))
    return torch.cat(parts, -1)


def _try_inverse(part: Any, clip: Clip, where: str) -> None:
    params = part.infer(clip).params
    _expect(where, params, clip.rows, clip.steps, part.space.parameters)
    assert clip.frames is not None
    segment = torch.arange(2, dtype=torch.int32).repeat_interleave(clip.length).expand(clip.rows, -1)
    both = part.infer(Clip(frames=torch.cat([clip.frames, clip.frames], 1), segment=segment)).params
    for found in (both[:, : clip.steps], both[:, clip.length :]):  # labelling answers many episodes at once
        if not torch.allclose(found, params, rtol=1e-4, atol=1e-4):
            raise Broken(f"{where}: two episodes in one row, told apart by segment, must be answered as each alone")


def _try_policy(part: Any, clip: Clip, where: str) -> None:
    belief, memory = part.act(clip)
    _expect(where, belief.params, clip.rows, part.space.parameters)
    _expect_rows(f"memory of {where}", memory, clip.rows)
    assert clip.frames is not None
    following = Clip(frames=torch.cat([clip.frames[:, -1:], clip.frames[:, -1:]], 1))
    _expect(f"{where}, going on", part.act(following, memory)[0].params, clip.rows, part.space.parameters)


def _expect_one_dream(where: str, dream: Clip, again: Clip) -> None:
    for name in ("frames", "features", "proprio", "rewards", "ends"):
        one, other = getattr(dream, name), getattr(again, name)
        if one is not None and not bool(torch.isfinite(one).all()):
            raise Broken(f"{where}: it imagines {name} that are not finite")
        if (one is None) != (other is None) or (one is not None and not torch.equal(one, other)):
            raise Broken(f"{where}: one state, the same actions and the same noise gave two dreams; {name} differ")


def _try_forward(part: Any, clip: Clip, where: str) -> None:
    state = part.observe(clip)
    _expect_rows(f"state of {where}", state, clip.rows)
    kept = {path: tensor.clone() for path, tensor in flatten(state).items()}
    actions = _some_actions(part.space, clip.rows, 2)
    dream, after = part.imagine(state, actions, 2, rng.torch_rng("check", "imagine"))
    _expect_rows(f"state of {where} after two steps", after, clip.rows)
    if (dream.rows, dream.length) != (clip.rows, 3):
        raise Broken(f"{where}: two steps from a state are 3 frames, the first the last one seen; got {dream.length}")
    changed = [path for path, tensor in flatten(state).items() if not torch.equal(tensor, kept[path])]
    if changed:
        raise Broken(f"{where}: a state must stay as it is when it is gone on from, to branch there; {changed} changed")
    again, _ = part.imagine(state, actions, 2, rng.torch_rng("check", "imagine"))
    _expect_one_dream(where, dream, again)
    if any(segment.kind == "text" for segment in part.space.segments):
        told = _some_actions(part.space, clip.rows, 2, WORDS)
        one, other = (part.imagine(state, told, 2, rng.torch_rng("check", "imagine"))[0] for _ in range(2))
        _expect_one_dream(f"{where} that is told words", one, other)
    assert clip.frames is not None
    following = Clip(frames=clip.frames[:, -1:].repeat(1, 2, 1, 1, 1), actions=actions[:, :1])
    _expect_rows(f"state of {where} that goes on", part.observe(following, state), clip.rows)
    wide, _ = part.imagine(repeat(state, 2), actions.repeat_interleave(2, 0), 2, rng.torch_rng("check", "wide"))
    if wide.rows != 2 * clip.rows:
        raise Broken(f"{where}: a state of {2 * clip.rows} rows must give as many dreams; got {wide.rows}")
    try:
        frames = part.decode(dream).frames
        _expect(f"decoded frames of {where}", frames, clip.rows, 3, *clip.frames.shape[2:])
    except NoFrames:
        pass
    try:
        known = clip.with_(actions=_some_actions(part.space, clip.rows, clip.steps))
        _expect(f"log_prob of {where}", part.log_prob(known), clip.rows, clip.steps)
    except NoLikelihood:
        pass


def _try_adapter(part: Any, clip: Clip, where: str) -> None:
    inner = Distribution(part.inner, torch.zeros(clip.rows, clip.steps, part.inner.parameters))
    _expect(where, part.decode(inner, clip).params, clip.rows, clip.steps, part.space.parameters)
    actions = _some_actions(part.space, clip.rows, clip.steps)
    _expect(where, part.encode(actions, clip), clip.rows, clip.steps, part.inner.width)


def _try_encoder(part: Any, clip: Clip, where: str) -> None:
    encoded = part.encode(clip)
    if encoded.features is None or encoded.length != math.ceil(clip.length / part.every):
        raise Broken(f"{where}: encode must give features, one for every {part.every} frames")


def _try_score(part: Any, clip: Clip, where: str) -> None:
    _expect(where, part(clip), clip.rows)


_TRIES: dict[str, Callable[[Any, Clip, str], None]] = {
    "encoder": _try_encoder, "inverse": _try_inverse, "forward": _try_forward, "policy": _try_policy,
    "score": _try_score, "adapter": _try_adapter,
}  # fmt: skip


def _learns_rule(bench: Bench) -> str:
    """Losses stay finite; most of them fall within LEARNING_STEPS (one that is divided by its own size may not)."""
    cfg = bench.module.micro()
    fits = {f.name: replace(v, steps=LEARNING_STEPS) for f in fields(cfg) if isinstance(v := getattr(cfg, f.name), Fit)}
    bench.train("longer", replace(cfg, **fits))
    falls = {}
    for stage, lines in bench.curves("longer").items():
        for group in [name for name in lines[0] if name not in ("step", "rate") and "/" not in name]:
            values = [line[group] for line in lines]
            if not all(map(math.isfinite, values)):
                raise Broken(f"the loss {group} of stage {stage} is not finite")
            part = max(1, len(values) // 4)
            falls[f"{stage} {group}"] = sum(values[-part:]) < 0.98 * sum(values[:part])
    if 2 * sum(falls.values()) <= len(falls):
        raise Broken(
            f"after {LEARNING_STEPS} steps these losses have not fallen: {[n for n, f in falls.items() if not f]}"
        )
    return f"{sum(falls.values())} of {len(falls)} losses fell in {LEARNING_STEPS} steps"


def _seed_rule(bench: Bench) -> str:
    first, again = _weights(bench.first[0]), _weights(bench.train("again", bench.module.micro()))
    if first != again:
        raise Broken(f"two runs with one seed gave other weights: {[r for r in first if first[r] != again.get(r)]}")
    return "same seed, same weights"


def _resume_rule(bench: Bench) -> str:
    """Killed twice, after a third of all steps and later, a run ends with the same weights and metrics."""
    system, total = bench.first
    for kill_at in (max(1, total // 3), max(1, 2 * total // 3)):
        try:
            bench.train("killed", bench.module.micro(), _Count(kill_at))
        except _Kill:
            continue
        raise Broken("the recipe does nothing through run.fit or run.loop, so that nothing can be resumed")
    if _weights(bench.train("killed", bench.module.micro())) != _weights(system):
        raise Broken(f"killed twice among {total} steps and resumed, the run ended with other weights")
    if bench.curves("killed") != bench.curves("first"):
        raise Broken(f"killed twice among {total} steps and resumed, the run wrote other metrics")
    return f"killed twice among {total} steps: same weights, same metrics"


def _randomness_rule(bench: Bench) -> str:
    _try_roles(bench, bench.first[0], bench.views.unlabelled.cache, _SHAPES[1:2])
    if bench.moved:
        raise Broken(f"global randomness changed: {'; '.join(sorted(set(bench.moved)))}. Draw from retrodict.rng")
    return "global randomness is as it was"


def _folder_rule(bench: Bench) -> str:
    assert bench.first
    if bench.strayed:
        raise Broken(f"outside the run's folder: {', '.join(sorted(bench.strayed)[:5])}. Write inside run.folder only")
    for file in sorted(path for path in bench.folder.rglob("*") if path.is_file()):
        held = file.read_bytes()
        if any(len(place) > 3 and place.encode() in held for place in (str(bench.folder), str(Path.home()))):
            raise Broken(f"{file.name} holds a path of this machine; keep what a run writes free of where it lies")
    return "nothing written outside the run's folder, no path of this machine inside, no connection"


RULES: dict[str, Callable[[Bench], str]] = {
    "system": _system_rule, "shapes": _shapes_rule, "learns": _learns_rule, "seed": _seed_rule,
    "resume": _resume_rule, "randomness": _randomness_rule, "folder": _folder_rule,
}  # fmt: skip
