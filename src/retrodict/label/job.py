"""The front door: videos, or a dataset, and few labels, or a trained run, become a dataset that other tools train on.

    videos ─ import ─ train (or take a run) ─ infer every step ─ judge ─ export the trainable spans

Beside the dataset `OUT` lies the folder `OUT.run`, in which every link is kept, so that the same command goes on after
any interruption: `videos` (a dataset), `train` (a run), `labels` (a dataset without frames) and `report.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from retrodict.clip import ABSTAINED, PREDICTED, SOURCES
from retrodict.data.action_schema import keep_schema, read_schema
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.durable import sync_write, to_json
from retrodict.data.export import EXPORT_FILE, Export, export
from retrodict.data.importers import Intake, find_kind, import_data
from retrodict.data.label_file import read_labels
from retrodict.data.label_steps import Clock
from retrodict.data.recordings import Fate
from retrodict.data.schema import Schema, hash_arrays
from retrodict.data.store import Store
from retrodict.errors import UnusableInput
from retrodict.label.gate import gated
from retrodict.label.health import examine
from retrodict.label.infer import Labelled, Labeller, infer_episodes, recorded_answers
from retrodict.label.verdict import HELD_OUT, PRECISION, Verdict, held_out, judge
from retrodict.roles import InverseModel, System
from retrodict.run import checkpoint
from retrodict.run.log import Log
from retrodict.run.onnx_file import OnnxInverse, export_onnx, need
from retrodict.run.run import Run, Views
from retrodict.spaces import ActionSpace

FEWEST = 8  # labels: with fewer, none could be held out to say whether the result is any good
SMALL = 64  # pixels of the shorter side at which a model sees frames that are stored as video


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to label, and how.

    `labels` is a label file (see `data.label_file`), `schema` an action schema; a dataset may have actions itself.
    `run` is the folder of a trained run. With labels alone a model is trained on them; with a run alone it labels; with
    both the labels measure the run. `clock`, `cameras`, `join`, `kind`, `fps` and `fit` say how to import (see
    `Intake`), `seen` (height, width) is the size at which a new model sees the frames. `precision` is the share of
    labels that should be right. `engine` answers: torch, or ONNX Runtime.
    """

    videos: Path
    out: Path
    labels: Path | None = None
    schema: Path | None = None
    run: Path | None = None
    clock: Clock = "video"
    cameras: tuple[str, ...] = ()
    join: bool = False
    kind: str = ""
    fps: int | None = None
    fit: tuple[int, int] | None = None
    seen: tuple[int, int] | None = None
    precision: float = PRECISION
    keep_all: bool = False
    strict: bool = False
    seed: int = 0
    cache_gb: float = 20.0
    engine: Literal["torch", "onnx"] = "torch"

    @property
    def folder(self) -> Path:
        """Where everything but the result is kept."""
        return self.out.with_name(f"{self.out.name}.run")


@dataclass(frozen=True)
class LabelReport:
    """What became of the files and of the steps, how far to trust it, and what was written (None: nothing)."""

    verdict: Verdict
    files: tuple[Fate, ...]
    frames: int
    steps: Mapping[str, int]  # by source
    foreign: int  # of the steps abstained from: those that look unlike the video that the model was trained on
    histogram: tuple[int, ...]  # predicted steps by confidence, in tenths
    written: Export | None
    health: Mapping[str, Any] = field(default_factory=dict)  # `label.health.Health.to_json`, of what was labelled

    @property
    def refused(self) -> tuple[Fate, ...]:
        """The files that could not be used."""
        return tuple(fate for fate in self.files if fate.what == "refused")

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return value


def label(job: Job, train: Callable[[Run], System] | None, log: Log, resume: str = "") -> LabelReport:
    """Labels every step of a folder of videos, or of a dataset, and writes the dataset `job.out`, whole or not at all.

    `train` makes a system in the run that it is given (a recipe with its settings); it is not called with `job.run`.
    Under `strict`, nothing is written unless the verdict is that labels are usable; nor is anything when all of the
    video is foreign to the model.

    Raises:
        UnusableInput: no usable video, no or too few labels, or `out` exists and is not what this job writes.
        Interrupted: while training; the state is committed.
    """
    space = None if job.schema is None else read_schema(job.schema)
    _check(job, space)
    given = None if job.run is None else checkpoint.load_system(job.run)
    store, fates = _imported(job, space if given is None else _inverse(given.decoded()).space, log)
    with store:
        spoken = given or _trained(job, store, train, log, resume)  # of codes, where it speaks codes
        system = spoken.decoded()
        model, inverse = _engine(job, _inverse(system))
        evidence = _evidence(job, system, inverse, store)
        verdict = judge(evidence, job.precision)
        log.say(f"{verdict.word}: {verdict.reason}")
        known = (evidence or {}).get("limits")  # a run may be older than they are
        limits = None if known is None else torch.tensor(known)
        with _labels(job.folder / "labels", store, inverse, model, limits is not None) as labels:
            infer_episodes(Labeller(inverse, system.score, limits), store, labels, model, log.say)
            labelled = Labelled(store, labels, verdict.abstain_below)
            steps, histogram, foreign = _counted(labelled)
            if foreign == sum(steps.values()):
                verdict = Verdict("not actions", "nothing here looks like the video that the model was trained on")
                log.say(f"{verdict.word}: {verdict.reason}")
            unfit = foreign == sum(steps.values()) or (job.strict and not verdict.usable)
            written = None if unfit else _written(job, labelled)
            frames = sum(store.lengths.values())
            report = LabelReport(verdict, fates, frames, steps, foreign, histogram, written)
            report = replace(report, health=_health(job, labelled, spoken, evidence, log))
    sync_write(job.folder / "report.json", to_json(report.to_json()))
    return report


def _check(job: Job, space: ActionSpace | None) -> None:
    silent = not job.videos.exists() or find_kind(job.videos, kind=job.kind)[0] == "videos"
    if job.labels is None and job.run is None and silent:
        raise UnusableInput("nothing says what the actions are; give labels (such as a CSV file) or a trained run")
    if job.schema is not None and job.run is not None:
        raise UnusableInput(f"{job.run} knows its actions; leave out the schema")
    if job.out.resolve().is_relative_to(job.videos.resolve()):
        raise UnusableInput(f"{job.out} lies inside {job.videos}; write the dataset outside of the folder of videos")
    if job.out.exists() and not (job.out / EXPORT_FILE).is_file():
        raise UnusableInput(f"{job.out} exists already and is no dataset made by labelling; name another folder")
    if not 0 < job.precision < 1:
        raise UnusableInput(f"the precision asked for must lie between 0 and 1; got {job.precision}")
    if job.engine == "onnx":
        need("labelling with ONNX Runtime", "onnx", "onnxscript", "onnxruntime")
    if job.labels is not None and job.run is None:
        _enough(len(read_labels(job.labels, space).rows))


def _imported(job: Job, space: ActionSpace | None, log: Log) -> tuple[Store, tuple[Fate, ...]]:
    done = import_data(
        job.videos, job.folder / "videos",
        Intake(labels=job.labels, clock=job.clock, space=space, fps=job.fps, fit=job.fit, cameras=job.cameras,
               join=job.join, kind=job.kind),
    )  # fmt: skip
    log.say(f"{job.videos}: {done.kind}")
    for fate in done.fates:
        log.say(f"{fate.file}: {fate.what}{f', {fate.reason}' if fate.reason else ''}")
    for line in keep_schema(done.store.schema.space, job.out) if done.inferred else ():
        log.say(line)
    if not done.store.schema.cameras:
        raise UnusableInput(f"{job.videos} holds no pictures; actions are read off pictures")
    return done.store, done.fates


def _enough(labels: int) -> None:
    if labels < FEWEST:
        raise UnusableInput(f"{labels} steps have a label; at least {FEWEST} are needed, and 64 are a good start")


def _inverse(system: System) -> InverseModel:
    if system.inverse is None:
        raise UnusableInput("this system has no inverse model, so it cannot label; use one that has, such as vpt")
    return system.inverse


def _engine(job: Job, inverse: InverseModel) -> tuple[str, InverseModel]:
    """Returns what labels are bound to, and the inverse model that answers: torch's, or the same by ONNX Runtime."""
    model = checkpoint.system_hash(job.run or job.folder / "train")
    if job.engine == "torch":
        return model, inverse
    folder = job.folder / "onnx" / model[:16]
    if not folder.is_dir():
        export_onnx({"inverse": inverse}, folder, {"system": model})
    return f"{model} by onnx", OnnxInverse(folder)


def _trained(job: Job, store: Store, train: Callable[[Run], System] | None, log: Log, resume: str) -> System:
    if train is None:
        raise UnusableInput("a model has to be trained first; say with which recipe")
    cache = Cache.build(store, job.seen or seen_size(store.schema.size), job.folder / "cache", job.cache_gb)
    known = Steps.all(cache).known()
    _enough(len(known))
    views = Views(Steps.all(cache, hidden=True), known)
    with Run(job.folder / "train", views, job.seed, log=log, resume=resume) as run:
        return run.finish(gated(train(run), run), {"data": {"source": store.digest, "labels": len(known)}})


def seen_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size (height, width) at which a new model sees frames: as stored when small, else its shorter side is SMALL.

    Both sides are then multiples of 8, which patches divide.
    """
    if max(size) <= 2 * SMALL:
        return size
    height, width = (max(SMALL, round(side * SMALL / min(size) / 8) * 8) for side in size)
    return height, width


def _labels(folder: Path, source: Store, inverse: InverseModel, model: str, bounds: bool) -> Store:
    """Opens the store of labels for writing, or makes it; labels of another model are refused."""
    schema = Schema(inverse.space, {}, source.schema.fps, bounds=bounds)
    refusal = "holds labels of another model; remove that folder to label anew, or name another dataset"
    return Store.open_or_create(folder, schema, {"model": model}, refusal)


def _evidence(job: Job, system: System, inverse: InverseModel, store: Store) -> Mapping[str, Any] | None:
    """Answers to labels that the model had not seen: given beside a run, or held out while training."""
    if job.run is not None and any(bool(store.read(id, frames=False).known.any()) for id in store.ids):
        return held_out(*recorded_answers(inverse, store, store.ids))
    found = system.about.get(HELD_OUT)
    return found if isinstance(found, Mapping) else None


def _written(job: Job, labelled: Labelled) -> Export:
    """Exports, unless this very dataset is there already."""
    record = job.out / EXPORT_FILE
    if not record.is_file():
        return export(labelled, job.out, keep_all=job.keep_all)
    found = json.loads(record.read_bytes())
    if found["digest"] != labelled.digest or found.get("keep_all", False) != job.keep_all:
        raise UnusableInput(
            f"{job.out} holds other labels, or other rows of them; remove it to write it anew, or name another folder"
        )
    return Export(**found["rows"])


def _health(
    job: Job, labelled: Labelled, system: System, evidence: Mapping[str, Any] | None, log: Log
) -> dict[str, Any]:
    """Examines what was labelled; what an earlier run of the same command found stays while nothing changed."""
    kept, key = job.folder / "report.json", hash_arrays(labelled.digest, json.dumps(evidence), repr(job.precision))
    found: dict[str, Any] = json.loads(kept.read_bytes()).get("health", {}) if kept.is_file() else {}
    if found.get("of") == key:
        return found
    return {
        **examine(labelled, job.out, system, evidence, job.precision, job.seed, log.say, False).to_json(),
        "of": key,
    }


def _counted(labelled: Labelled) -> tuple[dict[str, int], tuple[int, ...], int]:
    """Counts steps by source, predicted or abstained ones by confidence, and foreign ones."""
    steps, histogram, foreign = np.zeros(len(SOURCES), np.int64), np.zeros(10, np.int64), 0
    for id in labelled.ids:
        clip = labelled.read(id, frames=False)
        assert clip.source is not None  # Labelled gives both
        assert clip.confidence is not None
        source, confidence = clip.source[0].numpy(), clip.confidence[0].numpy()
        steps += np.bincount(source, minlength=len(SOURCES))
        told = confidence[source >= PREDICTED]
        histogram += np.bincount(np.minimum(told * 10, 9).astype(int), minlength=10)
        own = labelled.labels.read(id, frames=False).source
        assert own is not None  # of a store
        foreign += int((own == ABSTAINED).sum())
    return dict(zip(SOURCES, steps.tolist(), strict=True)), tuple(histogram.tolist()), foreign
