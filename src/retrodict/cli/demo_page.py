"""Puts the demo's results together for the report and the table."""

from __future__ import annotations

import datetime
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import retrodict
from retrodict.cli.demo_jobs import BUDGETS, Job, Plan, mean_success
from retrodict.measure import intervals
from retrodict.run.run import versions

RESULTS = Path(retrodict.__file__).parent / "results"


def committed(world: str) -> dict[str, Any] | None:
    """The committed result of `retrodict demo --full` in this world."""
    for root in (RESULTS, Path(retrodict.__file__).parents[2] / "results"):
        path = root / "demo" / f"{world}.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
    return None


def result(demo: Any, plan: Plan, line: str) -> dict[str, Any]:
    """Everything that the report shows."""
    seeds, n = demo.seeds(), demo.labels if not demo.full else 64
    main = [_read(plan, Job("vpt", n, s)) for s in seeds]
    lapo = [_read(plan, Job("lapo", n, s)) for s in seeds]
    few, everything = ([_read(plan, Job("bc", m, s)) for s in seeds] for m in (n, 0))
    played = _read(plan, Job("baselines", 0, seeds[0]))["played"]
    accuracy = _over([r["labels"]["accuracy"] for r in main], main[0]["labels"]["steps"])
    state_only = float(np.mean([r["state_only"] for r in everything]))
    first = main[0]["labels"]
    success = mean_success(main)
    shown: dict[str, Any] = {
        "title": f"Actions from video, {n} labels: {demo.world}",
        "world": demo.world,
        "summary": (
            f"From {n} labelled steps out of {_read(plan, Job('record', 0, seeds[0]))['frames']:,} frames, "
            f"{accuracy['value']:.0%} of all actions on unseen levels are right (majority {first['majority']:.0%}, the "
            f"frame alone {state_only:.0%}). Cloning those labels solves {success.value:.0%} of unseen levels; cloning "
            f"the {n} alone {mean_success(few).value:.0%}."
        ),
        "seeds": list(seeds), "labels": n, "generated": datetime.date.today().isoformat(),
        "versions": {"retrodict": retrodict.__version__, **versions()}, "command": line,
        "headline": _headline(n, accuracy, success, main, state_only, lapo, few, seeds),
        "label_curve": _curve(demo, plan, state_only),
        "confusion": {"classes": first["names"], "matrix": _summed(main)},
        "reliability": {"bins": first["bins"], "error": first["error"]},
        "risk_coverage": {"points": first["curve"]},
        "policies": _policies(n, main, lapo, few, everything, played, len(seeds)),
        "stages": _stages(plan, demo),
        "commands": commands(demo.out),
        "notes": _notes(main, lapo, _work(plan), demo.micro),
    }  # fmt: skip
    if "codes" in lapo[0]:
        shown["codes"] = _codes(lapo[0]["codes"], first["names"])
    if demo.full:
        shown["policies_by_labels"] = _policies_by_labels(plan, seeds)
    kept = committed(demo.world)
    if kept is not None and not demo.full:
        shown["label_curve"]["committed"] = kept["label_curve"]["series"]
        shown["committed_from"] = f"results/demo/{demo.world}.json"
    return shown


def commands(out: Path) -> list[dict[str, str]]:
    """The next three commands."""
    return [
        {"say": "Label a folder of videos from a CSV of labels (this one was written by the demo)",
         "line": shlex.join(["retrodict", "label", f"{out}/videos", "--labels", f"{out}/videos/labels.csv", "--out",
                             f"{out}/labelled"])},
        {"say": "Label your own videos: columns file, frame, action",
         "line": "retrodict label VIDEOS --labels labels.csv --out D"},
        {"say": "See every recipe with its measured figures", "line": "retrodict recipes"},
    ]  # fmt: skip


def _read(plan: Plan, job: Job) -> dict[str, Any]:
    return dict(json.loads(plan.result(job).read_text()))


def _over(values: Sequence[float], steps: int) -> dict[str, Any]:
    """A share over seeds: Student's interval, or Wilson's over the steps of the only seed."""
    if len(values) == 1:
        found = intervals.wilson(round(values[0] * steps), steps)
    else:
        found = intervals.t_interval(np.array(values), within=(0.0, 1.0))
    return {"value": found.value, "low": found.low, "high": found.high, "seeds": len(values)}


def _row(estimate: intervals.Estimate, seeds: int) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "seeds": seeds}


def _headline(
    n: int, accuracy: dict[str, Any], success: intervals.Estimate, main: Any, state_only: float, lapo: Any, few: Any,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:  # fmt: skip
    first = main[0]["labels"]
    return [
        {"name": f"Label accuracy from {n} labels", **accuracy,
         "baseline": f"majority {first['majority']:.2f}, state-only with all labels {state_only:.2f}"},
        {"name": "Success of a policy cloned from those labels", **_row(success, len(seeds)),
         "baseline": f"cloning the {n} alone {mean_success(few).value:.2f}"},
        {"name": f"Success of the latent route (LAPO), decoded with {n}", **_row(mean_success(lapo), len(seeds)),
         "baseline": f"cloning the {n} alone {mean_success(few).value:.2f}"},
    ]  # fmt: skip


def _curve(demo: Any, plan: Plan, state_only: float) -> dict[str, Any]:
    lines = {
        "inverse model": (("vpt", "inverse"), "labels"), "latent codes, decoded": (("lapo",), "labels"),
        "state-only, same labels": (("bc",), "state_only"),
    }  # fmt: skip
    series = [
        {"name": name, "points": _points(plan, kinds, key, sorted({*BUDGETS, demo.labels}), demo.seeds())}
        for name, (kinds, key) in lines.items()
    ]
    majority = _read(plan, Job("vpt", 64 if demo.full else demo.labels, demo.seeds()[0]))["labels"]["majority"]
    for name, value in (("state-only, all labels", state_only), ("majority", majority)):
        ends = [{"x": x, "value": value, "low": None, "high": None} for x in (BUDGETS[0], BUDGETS[-1])]
        series.append({"name": name, "points": ends})
    return {"unit": "labels", "series": [one for one in series if one["points"]]}


def _points(
    plan: Plan, kinds: Sequence[str], key: str, budgets: Sequence[int], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Accuracy by number of labels, where jobs of these kinds were done."""
    points = []
    for count in budgets:
        jobs = [Job(kind, count, seed) for kind in kinds for seed in seeds]
        done = [_read(plan, job) for job in jobs if plan.result(job).exists()]
        if done:
            values = [r["labels"]["accuracy"] if key == "labels" else r["state_only"] for r in done]
            points.append({"x": count, **_over(values, done[0].get("steps", plan.setting.test_frames))})
    return points


def _summed(main: Sequence[dict[str, Any]]) -> list[list[int]]:
    total = np.sum([r["labels"]["confusion"] for r in main], axis=0)
    return [[int(v) for v in row] for row in total]


def _codes(found: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    used = [i for i, row in enumerate(found["table"]) if sum(row)]
    return {
        "codes": [str(i) for i in used], "actions": list(names), "matrix": [found["table"][i] for i in used],
        "bits": found["corrected"], "of": found["action_entropy"],
        "note": (
            f"{len(used)} codes in use carry {found['code_entropy']:.2f} bits, of which {found['excess']:.2f} say "
            "something else than the action, such as what a turn reveals: that is what limits them."
        ),
    }  # fmt: skip


def _policies(n: int, main: Any, lapo: Any, few: Any, everything: Any, played: dict[str, Any], seeds: int) -> list[Any]:
    rows = [
        (f"inverse model ({n} labels), then cloning", main, "route"),
        (f"latent actions (LAPO), decoded with {n} labels", lapo, "route"),
        (f"cloning the {n} labels alone", few, "baseline"),
        ("cloning all labels", everything, "bound"),
    ]
    shown = [_played(name, mean_success(done), seeds, kind, _episodes(done)) for name, done, kind in rows]
    for name, value in played.items():
        estimate = intervals.Estimate(**value)
        shown.append(_played(name, estimate, 1, "bound" if name == "expert" else "baseline", estimate.count))
    return shown


def _episodes(done: Sequence[dict[str, Any]]) -> int:
    return sum(int(one["success"]["count"]) for one in done)


def _played(name: str, estimate: intervals.Estimate, seeds: int, kind: str, episodes: int) -> dict[str, Any]:
    row = _row(estimate, seeds)
    return {"name": name, "success": row.pop("value"), **row, "episodes": episodes, "kind": kind}


def _policies_by_labels(plan: Plan, seeds: Sequence[int]) -> dict[str, Any]:
    series = []
    for kind, name in (
        ("vpt", "inverse, then cloning"),
        ("lapo", "latent actions"),
        ("bc", "cloning the labels alone"),
    ):
        points = []
        for count in BUDGETS:
            done = [_read(plan, Job(kind, count, s)) for s in seeds if plan.result(Job(kind, count, s)).exists()]
            if done:
                points.append({"x": count, **_row(mean_success(done), len(done))})
        series.append({"name": name, "points": points})
    return {"unit": "labels", "series": series}


def _stages(plan: Plan, demo: Any) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(
        (Path(plan.out) / "jobs").glob(f"*-seed{demo.seeds()[0]}.json"), key=lambda p: p.stat().st_mtime
    ):
        done = json.loads(path.read_text())
        memory = max((s["memory_mb"] for s in done.get("stages", {}).values()), default=None)
        rows.append({"name": path.stem.rpartition("-")[0], "seconds": done["seconds"], "memory_mb": memory, "note": ""})
    return rows


def _work(plan: Plan) -> float:
    """Seconds of all jobs of all seeds."""
    return float(sum(json.loads(path.read_text())["seconds"] for path in (Path(plan.out) / "jobs").glob("*.json")))


def _notes(main: Any, lapo: Any, work: float, micro: bool) -> list[str]:
    notes = [f"{work:.0f} s of work, done by {'one process' if micro else 'two processes with one thread each'}."]
    notes.append("Memory is the largest that the process had needed by then.")
    notes += [f"LAPO: {line}" for line in lapo[0].get("stopped", [])]
    about = main[0]["about"]
    if about.get("compared"):
        table = ", ".join(f"{name} {value:.2f}" for name, value in about["compared"].items())
        notes.append(f"The inverse's input was chosen inside the labels by log likelihood of held-out ones: {table}.")
    notes.append("Policies act by drawing from their distribution; levels and frames of the test were never looked at.")
    return notes
