"""Run: a folder in which a recipe's stages are done once each, by name, and survive any interruption."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from retrodict.clip import PREDICTED, Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.durable import WriterLock, sync_write
from retrodict.data.store import Store
from retrodict.errors import Damaged, StaleStage, UnknownName, UnusableInput
from retrodict.nn.part import Part
from retrodict.roles import InverseModel, Policy, System
from retrodict.run import checkpoint, loop
from retrodict.run.collect import collect, schema_of
from retrodict.run.compiled import EAGER, refuse_unfit
from retrodict.run.log import Log
from retrodict.run.loop import Stage, Stop
from retrodict.run.repeat import Body, repeat
from retrodict.run.replay import Replay
from retrodict.run.spending import Spending
from retrodict.run.update import Loss

if TYPE_CHECKING:
    from retrodict.envs.rollout import Actor
    from retrodict.envs.world import World

P = TypeVar("P", bound=Part)
EPISODES = "episodes"  # folder of what a stage collected
SPENT = "spent.json"  # what an unfinished stage has cost


@dataclass(frozen=True)
class Views:
    """The data of a run: all video without its actions, and the steps whose action is known."""

    unlabelled: Steps
    labelled: Steps

    @property
    def digest(self) -> str:
        """Hash of what the run may look at."""
        return hashlib.sha256(f"{self.unlabelled.digest}|{self.labelled.digest}".encode()).hexdigest()[:16]


class Run:
    """Does named stages: finished → loads, half done → resumes, else trains.

    A stage's identity holds digests of its settings, data and the stages before it; a finished stage with another
    identity is a StaleStage error that lists what differs, and `restart=(name,)` redoes it with its parts (name/…).
    """

    def __init__(
        self,
        folder: Path | str,
        data: Views,
        seed: int = 0,
        device: str = "cpu",
        log: Log | None = None,
        restart: tuple[str, ...] = (),
        seconds: Mapping[str, float] | None = None,
        resume: str = "run the same command again",
        commit_steps: int = 0,
        world: Callable[[], World] | None = None,
        compile: str = EAGER,
    ) -> None:
        refuse_unfit(compile, device)
        self.folder, self.data, self.seed, self.device = Path(folder), data, seed, device
        self.compile = compile
        self.log, self.world = log or Log(quiet=True), world
        self.restart, self.seconds, self.resume, self.commit_steps = (
            set(restart),
            dict(seconds or {}),
            resume,
            commit_steps,
        )
        self.stages: dict[str, dict[str, Any]] = {}  # done in this process, in order: identity, seconds, memory
        self._lock = WriterLock(self.folder / ".lock", self.folder)
        checkpoint.sweep(self.folder)

    def close(self) -> None:
        """Lets another process write to this run."""
        self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def fit(self, name: str, part: P, loss: Loss, data: loop.Data, cfg: loop.Fit) -> P:
        """Trains a part (`run.loop.fit`) and keeps it under this name."""
        described: dict[str, Any] = {
            "part": part.describe(),
            "start": loop.weights_hash(part),
            "fit": asdict(cfg),
            "loss": _code_name(loss),
        }
        share = self.seconds.get(name, 0.0)
        if share:  # what was cut short is not what another command, without a limit, asks for
            described["limited in time"] = True
        identity = self._identity(name, {**described, "data": _data_digest(data)})

        def work(folder: Path, stop: Stop) -> dict[str, Tensor]:
            stage = self._begun(folder, name, identity, stop, share)
            if not isinstance(data, Replay):
                return loop.fit(stage, part, loss, data, cfg, self.log).state_dict()
            with data.kept(folder / EPISODES):
                return loop.fit(stage, part, loss, data, cfg, self.log).state_dict()

        part.load_state_dict(self._once(name, identity, work))
        # Loaded or just trained, a part has one memory layout: convolutions round differently in another.
        return part.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def replay(
        self, recorded: Steps, policy: Callable[[Any], Policy], steps: int, whole: bool = True
    ) -> Steps | Replay:  # fmt: skip
        """Recorded steps and, in a run that has a world, `steps` steps that the trained part plays there (`Replay`).

        Windows lie inside their episodes, unless a loss that masks their padding says that they need not be `whole`.
        """
        recorded = recorded.whole() if whole else recorded
        return recorded if self.world is None or not steps else Replay(recorded, self.world(), policy, steps, whole)

    def loop(self, name: str, part: P, body: Body[P], steps: int, data: Steps | None = None, batch: int = 64) -> P:
        """Repeats `body(part, step, rng)` without gradients (`run.repeat.repeat`); what it changes are buffers."""
        own: dict[str, Any] = {"part": part.describe(), "start": loop.weights_hash(part), "steps": steps}
        own["body"] = _code_name(body)
        identity = self._identity(name, own if data is None else {**own, "data": _data_digest(data), "batch": batch})

        def work(folder: Path, stop: Stop) -> dict[str, Tensor]:
            repeat(self._begun(folder, name, identity, stop), part, body, steps, data, batch, self.log)
            return part.state_dict()

        part.load_state_dict(self._once(name, identity, work))
        return part

    def _begun(self, folder: Path, name: str, identity: Mapping[str, Any], stop: Stop, seconds: float = 0.0) -> Stage:
        return Stage(
            folder, name, self.seed, identity, self.resume, commit_steps=self.commit_steps, seconds=seconds,
            device=self.device, compile=self.compile, stop=stop,
        )  # fmt: skip

    def map(self, name: str, function: Callable[[Clip], dict[str, Tensor]], data: Steps, batch: int = 512,
            uses: tuple[Part, ...] = ()) -> dict[str, Tensor]:  # fmt: skip
        """Applies a function to windows of all steps, in order, and keeps the joined tensors under this name.

        `uses` are the parts that the function reads: their weights belong to the stage's identity.
        """
        used = [[part.describe(), loop.weights_hash(part)] for part in uses]
        identity = self._identity(name, {"function": _code_name(function), "data": _data_digest(data), "uses": used})

        def work(folder: Path, stop: Stop) -> dict[str, Tensor]:
            pieces: list[dict[str, Tensor]] = []
            with torch.no_grad():
                for _, clip in data.batches(batch):
                    stop.leave(f"{name} will start again.", self.resume)
                    pieces.append({k: v.cpu() for k, v in function(clip.to(self.device)).items()})
            return {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}

        return self._once(name, identity, work)

    def label(self, name: str, inverse: InverseModel, data: Steps) -> Steps:
        """Labels every step with an inverse model: the same frames with predicted actions and their confidence.

        Steps whose action was recorded in `run.data.labelled` keep it when the space is the same.
        """
        shown = data.shown(inverse.view)

        def answer(clip: Clip) -> dict[str, Tensor]:
            belief = inverse.infer(clip)[:, shown.target]
            return {"actions": belief.mode(), "confidence": belief.confidence(), "params": belief.params}

        out = self.map(name, answer, shown, uses=parts_of(inverse))
        actions, confidence = out["actions"].numpy().copy(), out["confidence"].numpy().copy()
        source = np.full(len(data), PREDICTED, np.uint8)
        if inverse.space == self.data.labelled.cache.space:
            at = {int(t): i for i, t in enumerate(data.index)}
            for t in self.data.labelled.index:
                if int(t) in at:
                    row, columns = at[int(t)], self.data.labelled.columns
                    actions[row], source[row] = columns["actions"][t], columns["source"][t]
                    confidence[row] = columns["confidence"][t]
        digest = hashlib.sha256(actions.tobytes() + source.tobytes() + confidence.tobytes()).hexdigest()[:16]
        return data.with_actions(actions, source, confidence, digest)

    def collect(
        self, name: str, world: World, levels: range, actor: Actor, provenance: Mapping[str, Any],
        uses: tuple[Part, ...] = (),
    ) -> Steps:  # fmt: skip
        """Plays levels and keeps their episodes under this name, group by group; returns all their steps.

        `provenance` says in plain values what world and actor are; with the weights of the parts that the actor reads
        (`uses`) it belongs to the stage's identity, and to every commit.
        """
        used = [[part.describe(), loop.weights_hash(part)] for part in uses]
        played = [levels.start, levels.stop, levels.step]
        told = {"world": world.name, "schema": schema_of(world).to_json(), "levels": played, **provenance}
        identity = self._identity(name, {"collected": told, "actor": _code_name(actor), "uses": used})

        def work(folder: Path, stop: Stop) -> dict[str, Tensor]:
            def committed(line: str) -> None:
                self.log.say(f"{name}: {line}")
                stop.leave(f"{name} will go on.", self.resume)

            with Store.open_or_create(folder / EPISODES, schema_of(world)) as store:
                collect(world, levels[len(store.ids) :], actor, store, dict(provenance), say=committed)
                return {"episodes": torch.tensor(len(store.ids))}

        self._once(name, identity, work)
        folder = self._stage(name)
        with Store.open(folder / EPISODES) as store:
            return Steps.all(Cache.build(store, folder=folder / "cache"))

    def finish(self, system: System, about: Mapping[str, Any]) -> System:
        """Writes the system that a recipe made, so that `retrodict.load` gives it back."""
        whole = replace(system, about={**system.about, **about, "seed": self.seed, "versions": versions()})
        for asked in sorted(self.restart):  # which stages there are is known only now
            if not any(_names(asked, name) for name in self.stages):
                raise UnknownName("stage to restart", asked, self.stages)
        checkpoint.save_system(self.folder / "system", whole)
        return whole

    def _stage(self, name: str) -> Path:
        return self.folder / "stages" / name.replace("/", ".")

    def _identity(self, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
        if name in self.stages:
            raise UnusableInput(f"this run already did a stage named {name!r}; give each stage its own name")
        before = {earlier: entry["digest"] for earlier, entry in self.stages.items()}
        return {"seed": self.seed, "before": before, **own}

    def _once(
        self, name: str, identity: Mapping[str, Any], work: Callable[[Path, Stop], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        folder = self._stage(name)
        done = folder / "done"
        if any(_names(asked, name) for asked in self.restart):
            shutil.rmtree(folder, ignore_errors=True)
        _refuse_other(folder, name, identity)
        if (done / checkpoint.MANIFEST).exists():
            tensors, manifest = checkpoint.load_folder(done)
            spent = manifest["spent"]
        else:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.sweep(folder)
            sync_write(folder / "identity.json", json.dumps(identity, sort_keys=True).encode())
            with Stop() as stop, Spending(folder / SPENT) as spending:
                tensors = {key: value.detach().cpu() for key, value in work(folder, stop).items()}
                spent = spending.so_far()
                about = {"identity": dict(identity), "spent": spent, "versions": versions()}
                checkpoint.save_folder(done, tensors, about)
            stop.leave(f"{name} is finished.", self.resume)
        (folder / SPENT).unlink(missing_ok=True)
        for leftover in folder.glob("step-*"):
            shutil.rmtree(leftover)
        self.stages[name] = {"digest": _digest(identity), **spent}
        return tensors


def _names(asked: str, name: str) -> bool:
    """True where a stage is the one that was asked for, or a part of it (adapter/0.1 of adapter)."""
    return name == asked or name.startswith(f"{asked}/")


def parts_of(role: Any) -> tuple[Part, ...]:
    """The parts whose weights decide what a role answers: itself, or those that it wraps, however deep."""
    if isinstance(role, Part):
        return (role,)
    inside = vars(role).values() if hasattr(role, "__dict__") else ()
    return tuple(part for value in inside for part in parts_of(value))


def versions() -> dict[str, str]:
    """Versions that decide whether two runs can be equal bit for bit."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": str(torch.get_num_threads()),
    }


def _refuse_other(folder: Path, name: str, identity: Mapping[str, Any]) -> None:
    record = folder / "identity.json"
    if not record.exists():
        return
    try:
        found = json.loads(record.read_bytes())
    except ValueError as error:
        raise Damaged(record, "JSON", str(error)) from error
    if not isinstance(found, dict):
        raise Damaged(record, "a JSON object", type(found).__name__)
    wanted = json.loads(json.dumps(identity, sort_keys=True))
    if found == wanted:
        return
    differs = "; ".join(_differences(found, wanted))
    raise StaleStage(
        f"stage {name!r} in {folder} was made with other inputs: {differs}. Use --restart {name} to redo it, "
        "or another run folder to keep it."
    )


HASHED = {  # parts of an identity that are hashes, which say nothing to people
    "data": "other steps, labels, windows or rows of data", "start": "other weights to begin with",
    "uses": "a model that it uses is another",
}  # fmt: skip


def _differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    if found == wanted:
        return []
    if path in HASHED:
        return [HASHED[path]]
    stage = path.removeprefix("before.")
    if stage != path:
        return [f"stage {stage!r} before it is {'another' if found and wanted else 'gone' if found else 'new'}"]
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(set(found) | set(wanted))
        return [
            line for key in keys for line in _differences(found.get(key), wanted.get(key), f"{path}.{key}".strip("."))
        ]
    return [f"{path} was {found!r} and is now {wanted!r}"]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _data_digest(data: loop.Data) -> Any:
    if isinstance(data, Steps | Replay):
        plays = [_code_name(data.policy)] if isinstance(data, Replay) else []
        return [data.digest, data.before, data.after, *plays]
    return {name: [steps.digest, steps.before, steps.after, batch] for name, (steps, batch) in data.items()}


def _code_name(function: Any) -> str:
    """Name of a function, with the plain values and settings that a partial binds; parts come from stages before."""
    inner = getattr(function, "func", function)
    bound = {**dict(enumerate(getattr(function, "args", ()))), **getattr(function, "keywords", {})}
    plain = {str(k): config_digest(v) if is_dataclass(v) else v for k, v in bound.items() if _is_plain(v)}
    name = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
    return f"{name} {json.dumps(plain, sort_keys=True)}" if plain else name


def _is_plain(value: Any) -> bool:
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | None)


LATER = {"later": True}  # metadata of a setting whose default does what was done before there was such a setting


def config_digest(cfg: Any) -> str:
    """Hash of a recipe's configuration; a setting that came LATER counts where it is used."""
    if not is_dataclass(cfg) or isinstance(cfg, type):
        raise UnusableInput(f"a recipe's configuration is a dataclass; got {type(cfg).__name__}")
    unused = {f.name for f in fields(cfg) if "later" in f.metadata and getattr(cfg, f.name) == f.default}
    return _digest({name: value for name, value in asdict(cfg).items() if name not in unused})
