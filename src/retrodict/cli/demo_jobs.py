"""The demo's work, job by job: each trains or measures one thing and leaves one JSON file, so a rerun goes on.

A lane is a process of its own that does a list of jobs one after the other:
    python -m retrodict.cli.demo_jobs PLAN.json LANE
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.durable import sync_write
from retrodict.data.store import Store
from retrodict.figures import answers, trial
from retrodict.measure import intervals, labels, latents
from retrodict.roles import InverseModel, System
from retrodict.run.log import Log
from retrodict.run.run import Run

BUDGETS = (16, 64, 256, 1024)  # numbers of labels of the curve
VIDEOS = 200  # episodes that are also written as mp4 files, for the front door


@dataclass(frozen=True)
class Job:
    """One piece of work: what, with how many labels (0: all), by which seed."""

    kind: str  # record, vpt, lapo, bc, inverse, baselines
    labels: int = 64
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.kind}-{self.labels or 'all'}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What the demo does: the world, its size, where, and the lanes of jobs."""

    world: str
    out: str
    micro: bool
    lapo_seconds: float
    first: int = 0  # the seed that also makes the test frames and the folder of videos
    lanes: tuple[tuple[Job, ...], ...] = ()

    @property
    def setting(self) -> trial.Setting:
        """The world's setting at this size."""
        chosen = trial.setting(self.world)
        if not self.micro:
            return chosen
        return replace(chosen, frames=400, episodes=8, test_frames=120, copies=8)

    def config(self, recipe: Any, *presets: str) -> Any:
        """The recipe's settings at this size: the first of these presets that it has."""
        names = ("micro",) if self.micro else (*presets, "tiny")
        return next(getattr(recipe, name)() for name in names if hasattr(recipe, name))

    def folder(self, seed: int) -> Path:
        """Where a seed's dataset and runs are; the first seed's are the demo's own."""
        return Path(self.out) / "runs" / f"seed{seed}"

    def data(self, seed: int) -> Path:
        """A seed's dataset."""
        return Path(self.out) / ("data" if seed == self.first else f"data-seed{seed}")

    @property
    def test(self) -> Path:
        """The held-out frames."""
        return Path(self.out) / "test"

    def result(self, job: Job) -> Path:
        """Where a job leaves its result."""
        return Path(self.out) / "jobs" / f"{job.name}.json"

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Plan:
        """Reads what `to_json` wrote."""
        value = json.loads(text)
        lanes = tuple(tuple(Job(**job) for job in lane) for lane in value.pop("lanes"))
        return Plan(**value, lanes=lanes)


def do(plan: Plan, job: Job, log: Log) -> dict[str, Any]:
    """Does a job, or returns what it left when it was done before."""
    path = plan.result(job)
    if path.exists():
        return dict(json.loads(path.read_text()))
    began = time.monotonic()
    result = WORK[job.kind](plan, job, log)
    result["seconds"] = round(time.monotonic() - began, 1)
    sync_write(path, json.dumps(result, allow_nan=False).encode())
    log.say(f"{job.name}: {result['seconds']} s")
    return result


def record(plan: Plan, job: Job, log: Log) -> dict[str, Any]:
    """Records the seed's dataset and, once, the test frames and the folder of mp4 files with its label file."""
    chosen = plan.setting
    with trial.recorded(chosen, job.seed, plan.data(job.seed)) as store:
        frames, episodes = sum(store.lengths.values()), len(store.ids)
        Cache.build(store, folder=plan.folder(job.seed) / "cache")
        if job.seed == plan.first:
            trial.held_out(chosen, plan.test)
            write_videos(store, Path(plan.out) / "videos", 20 if plan.micro else VIDEOS)
    return {"frames": frames, "episodes": episodes}


def write_videos(store: Store, folder: Path, count: int) -> None:
    """Writes the first episodes as mp4 files, and 64 labels among them as labels.csv."""
    from retrodict import rng
    from retrodict.data.video import Writer

    folder.mkdir(parents=True, exist_ok=True)
    height, width = store.schema.size
    rows: list[tuple[str, int, str]] = []
    for number, id in enumerate(store.ids[:count]):
        clip = store.read(id)
        assert clip.frames is not None
        assert clip.actions is not None
        name = f"episode-{number:04d}.mp4"
        with Writer(folder / name, height, width, store.schema.fps) as file:
            file.add(clip.frames[0].permute(0, 2, 3, 1).numpy())
        for t, action in enumerate(clip.actions[0]):
            rows.append((name, t, " ".join(str(v) for v in store.schema.space.describe(action).values())))
    picked = rng.numpy_rng(0, "demo labels").choice(len(rows), min(64, len(rows)), replace=False)
    segment = store.schema.space.segments[0].name
    with open(folder / "labels.csv", "w", newline="") as file_:
        writer = csv.writer(file_)
        writer.writerow(["file", "frame", segment])
        writer.writerows(rows[i] for i in sorted(picked.tolist()))


def _opened(plan: Plan, seed: int) -> Cache:
    return Cache.build(Store.open(plan.data(seed)), folder=plan.folder(seed) / "cache")


def _test(plan: Plan) -> Cache:
    return trial.held_out(plan.setting, plan.test)


def _budget(plan: Plan, cache: Cache, job: Job) -> int:
    return min(job.labels, len(Steps.all(cache).known()) // 4) if job.labels else 0


def route(plan: Plan, job: Job, log: Log) -> dict[str, Any]:
    """Trains a recipe on the seed's dataset with so many labels, and measures it on the held-out set."""
    from retrodict.check import load_recipe

    recipe = load_recipe(job.kind)
    cache = _opened(plan, job.seed)
    folder = plan.folder(job.seed) / (job.kind if job.kind == "lapo" else f"{job.kind}-{job.labels or 'all'}")
    seconds = {"model": plan.lapo_seconds} if job.kind == "lapo" and plan.lapo_seconds else {}
    again = ("adapter",) if job.kind == "lapo" else ()  # only the decoder depends on the labels
    cfg = plan.config(recipe, plan.world)
    data = trial.views(cache, _budget(plan, cache, job), job.seed)
    with Run(folder, data, job.seed, log=log, seconds=seconds, restart=again) as run:
        system = run.finish(recipe.train(cfg, run), {"recipe": job.kind, "labels": job.labels})
        stages = dict(run.stages)
    trained = _trained_steps(folder, seconds)
    return {**_judged(plan, system), "stages": stages, "about": dict(system.about), "stopped": trained}


def _trained_steps(folder: Path, seconds: dict[str, float]) -> list[str]:
    notes = []
    for stage in seconds:
        record_ = folder / "stages" / stage / "steps.json"
        if record_.exists():
            steps = json.loads(record_.read_text())
            if steps["steps"] < steps["asked"]:
                notes.append(f"{stage} stopped at its time share: {steps['steps']} of {steps['asked']} steps")
    return notes


def _judged(plan: Plan, system: System) -> dict[str, Any]:
    """Everything that the report shows of a system, as plain JSON."""
    test, spoken = _test(plan), system.decoded()
    result: dict[str, Any] = {}
    if spoken.policy is not None:
        result["success"] = asdict(trial.played(spoken.policy, plan.setting).success)
        result["state_only"] = trial.policy_accuracy(spoken.policy, test)
    if spoken.inverse is not None:
        result["labels"] = _label_scores(spoken.inverse, test)
    if system.adapter is not None and system.inverse is not None:
        found = latents.information(answers.codes(system.inverse, test), _truth(test))
        names = answers.answers(spoken.inverse, test).names if spoken.inverse is not None else ()
        result["codes"] = {**asdict(found), "table": _code_table(system.inverse, test, len(names))}
    return result


def _truth(test: Cache) -> np.ndarray:
    return test.space.classes(Steps.all(test).known().target_actions()).numpy()


def _code_table(inverse: InverseModel, test: Cache, classes: int) -> list[list[int]]:
    codes, truth = answers.codes(inverse, test), _truth(test)
    table = np.zeros((int(codes.max()) + 1, classes), np.int64)
    np.add.at(table, (codes, truth), 1)
    return [[int(v) for v in row] for row in table]


def _label_scores(inverse: InverseModel, test: Cache) -> dict[str, Any]:
    given = answers.answers(inverse, test)
    scores = labels.class_scores(given.truth, given.predicted, given.names)
    correct = given.truth == given.predicted
    trust = labels.calibration(given.confidence, correct)
    curve = labels.risk_coverage(given.confidence, correct)
    keep = np.unique(np.linspace(0, len(curve.coverage) - 1, 60).round().astype(int))
    return {
        "accuracy": scores.accuracy, "balanced": scores.balanced_accuracy, "majority": scores.majority,
        "names": list(given.names), "confusion": scores.confusion.tolist(), "error": trust.error,
        "bins": [{"confidence": b.confidence, "accuracy": b.accuracy, "count": b.steps} for b in trust.bins],
        "curve": [{"coverage": float(curve.coverage[i]), "accuracy": float(1 - curve.risk[i])} for i in keep],
        "steps": scores.steps,
    }  # fmt: skip


def inverse_only(plan: Plan, job: Job, log: Log) -> dict[str, Any]:
    """Fits only the inverse model, with another number of labels: a point of the label curve.

    Its front is that of the route, where that was chosen by no more labels than these; else it is chosen by these.
    """
    from retrodict.recipes import vpt

    cache = _opened(plan, job.seed)
    routes = [Job("vpt", int(path.name.split("-")[1]), job.seed) for path in _done(plan, "vpt", job.seed)]
    chosen = [json.loads(plan.result(r).read_text())["about"]["front"] for r in routes if r.labels <= job.labels]
    cfg = plan.config(vpt, plan.world)
    data = trial.views(cache, _budget(plan, cache, job), job.seed)
    with Run(plan.folder(job.seed) / f"inverse-{job.labels}", data, job.seed, log=log) as run:
        front = tuple(chosen[-1]) if chosen else vpt.choose_front(cfg, run)[0]
        inverse, _ = vpt.fit_inverse(replace(cfg, repeats=1), run, front)
        stages = dict(run.stages)
    return {"labels": _label_scores(inverse, _test(plan)), "stages": stages}


def _done(plan: Plan, kind: str, seed: int) -> list[Path]:
    return sorted((Path(plan.out) / "jobs").glob(f"{kind}-[0-9]*-seed{seed}.json"))


def baselines(plan: Plan, job: Job, log: Log) -> dict[str, Any]:
    """Plays the policies that learn nothing."""
    found = trial.baselines(plan.setting, search=4 if plan.micro else 16)
    return {"played": {name: asdict(each.success) for name, each in found.items()}}


def first_result(plan: Plan, job: Job, log: Log) -> dict[str, Any]:
    """The sprite world at a size that is done while the main world is being recorded."""
    from retrodict.recipes import vpt
    from retrodict.run.loop import Fit

    small = Plan("sprites", str(Path(plan.out) / "first"), False, 0.0)
    chosen = replace(trial.setting("sprites"), frames=6_000, episodes=100, test_frames=1_000)
    with trial.recorded(chosen, job.seed, small.data(job.seed)) as store:
        cache = Cache.build(store, folder=small.folder(job.seed) / "cache")
    cfg = vpt.Config(inputs=(("difference", "changed"),), folds=4, repeats=1, fit=Fit(200, 32), clone=Fit(400, 64))
    with Run(small.folder(job.seed) / "vpt", trial.views(cache, 64, job.seed), job.seed, log=log) as run:
        system = run.finish(vpt.train(cfg, run), {"recipe": "vpt"})
    inverse, policy = system.inverse, system.policy
    assert inverse is not None
    assert policy is not None
    found, solved = _label_scores(inverse, trial.held_out(chosen, small.test)), trial.played(policy, chosen).success
    print(
        f"first result, sprites: {found['accuracy']:.0%} of the actions right from 64 labels (majority "
        f"{found['majority']:.0%}); cloning those labels solves {solved.value:.0%} of unseen levels",
        flush=True,
    )
    return {"labels": found, "success": asdict(solved)}


WORK: dict[str, Callable[[Plan, Job, Log], dict[str, Any]]] = {
    "record": record, "vpt": route, "lapo": route, "bc": route, "inverse": inverse_only, "baselines": baselines,
    "first": first_result,
}  # fmt: skip


def mean_success(results: Sequence[dict[str, Any]]) -> intervals.Estimate:
    """Success over seeds: Student's interval, or Wilson's over the episodes of the only seed."""
    if len(results) == 1:
        return intervals.Estimate(**results[0]["success"])
    return intervals.t_interval(np.array([r["success"]["value"] for r in results]), within=(0.0, 1.0))


def main(argv: Sequence[str]) -> int:
    """Does one lane of a plan."""
    from retrodict.cli import guarded

    plan = Plan.from_json(Path(argv[0]).read_text())
    jobs = plan.lanes[int(argv[1])]

    def work() -> int:
        log = Log(every=15.0)
        for job in jobs:
            do(plan, job, log)
        return 0

    return guarded(work, "retrodict demo")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
