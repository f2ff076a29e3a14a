"""Claims: the figures that recipes publish, how they are measured again, and what stands beside them."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrodict.data.batch import Steps
from retrodict.errors import UnknownName
from retrodict.figures.answers import OF_ANSWERS, Answers
from retrodict.figures.trial import Setting, Trial, baselines, held_out, setting, trial, world_of
from retrodict.label.verdict import agree, commonest
from retrodict.measure import intervals
from retrodict.run.log import Log
from retrodict.run.run import config_digest, versions

# Measures that are no shares, so that nothing cuts their intervals.
UNBOUNDED = (
    "bits_recovered", "set_size", "gain_at_80", "r2", "shift", "horizon_skill", "drift", "sensitivity", "delta_psnr",
    "return", "planning_gain", "road_kept", "ratio_to_random",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A published figure of a recipe: where it is measured, by which preset, what, and what it should reach.

    `labels` is the number of recorded actions that are not hidden; 0 hides none. `at_most` says that the target is a
    bound from above. It is published with so many `seeds`. A `pooled` figure is that of the answers of all seeds
    together. `steps` are those of the game that were recorded or played, where learners without a model were given as
    many (`benchmarks/model_free.py`).
    """

    setting: str
    measure: str
    labels: int = 64
    preset: str = "tiny"
    target: float | None = None
    seeds: int = 3
    tier: str = "tiny"
    at_most: bool = False
    pooled: bool = False
    steps: int = 0

    @property
    def minutes(self) -> float:
        """Minutes of recording that the labels are, where they are a stretch of one; else 0."""
        rate = setting(self.setting).per_minute
        return self.labels / rate if rate else 0.0


def commit_of_source() -> str:
    """The commit of the source tree that runs, "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def summary(name: str, figure: Figure, recipe_name: str, digest: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Joins the seeds of a figure into what is committed under results/.

    A figure with a control of shuffled actions is also told as `above_shuffled`, seed by seed less that control.
    """
    values = np.array([t.values[figure.measure] for t in trials])
    share = None if figure.measure in UNBOUNDED else (0.0, 1.0)
    estimate = _pooled(figure.measure, trials) if figure.pooled else intervals.t_interval(values, within=share)
    mark = f"{figure.measure}."
    parts = {
        key.removeprefix(mark): round(float(np.mean([t.values[key] for t in trials])), 4)
        for key in trials[0].values if key.startswith(mark)
    }  # fmt: skip
    if "shuffled" in parts:
        above = intervals.t_interval(values - np.array([t.values[f"{mark}shuffled"] for t in trials]))
        parts["above_shuffled"] = round(above.value, 4)
        if above.low is not None and above.high is not None:
            parts |= {"above_shuffled.low": round(above.low, 4), "above_shuffled.high": round(above.high, 4)}
    return {
        "name": name, "recipe": recipe_name, "tier": figure.tier, "measure": figure.measure, "setting": figure.setting,
        "labels": figure.labels, "preset": figure.preset, "target": figure.target, "at_most": figure.at_most,
        "value": round(estimate.value, 4), "low": _rounded(estimate.low), "high": _rounded(estimate.high),
        **({"parts": parts} if parts else {}), **({"minutes": figure.minutes} if figure.minutes else {}),
        "config": digest, "command": f"retrodict check {recipe_name} --claim {name} --seeds {len(trials)}",
        "seeds": [_seed(t, figure.measure) for t in trials],
        "commit": commit_of_source(), "versions": versions(),
    }  # fmt: skip


def _seed(t: Trial, measure: str) -> dict[str, Any]:
    value = round(t.values[measure], 4)
    return {"seed": t.seed, "value": value, "seconds": t.seconds, "cpu_seconds": t.cpu_seconds}


def _pooled(measure: str, trials: Sequence[Trial]) -> intervals.Estimate:
    """The measure of all seeds' answers together; the interval is of drawing seeds again with replacement."""
    given = [t.answers for t in trials if t.answers is not None]
    draws = itertools.combinations_with_replacement(range(len(given)), len(given))
    values, weights = [], []
    for draw in draws:
        values.append(OF_ANSWERS[measure](Answers.joined([given[i] for i in draw])))
        weights.append(math.factorial(len(draw)) / math.prod(math.factorial(draw.count(i)) for i in set(draw)))
    whole = OF_ANSWERS[measure](Answers.joined(given))
    if len(given) == 1:
        return intervals.Estimate(whole, None, None, 1)
    order = np.argsort(values)
    share = np.cumsum(np.array(weights)[order]) / sum(weights)
    low, high = (values[order[np.searchsorted(share, q)]] for q in (0.025, 0.975))
    return intervals.Estimate(whole, low, high, len(given))


def claim(
    recipe: Any, names: Sequence[str], seeds: int | None, folder: Path, results: Path, log: Log | None = None
) -> list[dict[str, Any]]:
    """Reruns figures of a recipe and writes RESULTS/RECIPE/FIGURE.json for each; one training serves several figures.

    Without a number of seeds, figures have the most that one of their group is published with.

    Raises:
        UnknownName: the recipe has no such figure.
    """
    own = recipe.__name__.rpartition(".")[2]
    for name in names:
        if name not in recipe.FIGURES:
            raise UnknownName(f"figure of {own}", name, recipe.FIGURES)
    together: dict[tuple[str, int, str], list[str]] = {}
    for name in names:
        figure = recipe.FIGURES[name]
        together.setdefault((figure.setting, figure.labels, figure.preset), []).append(name)
    written = []
    for (where, budget, preset), group in together.items():
        cfg, chosen = getattr(recipe, preset)(), setting(where)
        test = held_out(chosen)
        world_floor(where, chosen, results)
        wanted = sorted({recipe.FIGURES[name].measure for name in group})
        trials = []
        for seed in range(seeds or max(recipe.FIGURES[name].seeds for name in group)):
            base = folder / where / f"seed-{seed}"
            run = base / f"{own}-{preset}-{budget}"
            trials.append(trial(recipe, cfg, chosen, budget, seed, base, run, wanted, log, test))
            if log is not None:
                log.say(f"{own} {where} seed {seed}: {trials[-1].values} in {trials[-1].seconds} s")
        for name in group:
            written.append(summary(name, recipe.FIGURES[name], own, config_digest(cfg), trials))
            _write(results / own / f"{name}.json", written[-1])
    return written


def world_floor(name: str, chosen: Setting, results: Path) -> dict[str, Any]:
    """What needs no learning in a setting, measured once and kept in RESULTS/worlds/SETTING.json."""
    path = results / "worlds" / f"{name}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    test = held_out(chosen)
    truth = Steps.all(test).known().target_actions()
    right = agree(test.space, commonest(test.space, truth).expand_as(truth), truth)
    practised = chosen.random == 1.0  # recipes play there themselves
    found = baselines(chosen, swinging=practised) if world_of(chosen, 1).tells_success else {}
    floor = {
        "setting": name, "episodes": chosen.episodes,
        "success": {key: _plain(value.success) for key, value in found.items()},
        "return": {key: _plain(value.returns) for key, value in found.items()},
        "majority": round(float(right.float().mean()), 4), "commit": commit_of_source(),
    }  # fmt: skip
    _write(path, floor)
    return floor


def beside(measure: str, where: str, results: Path, steps: int = 0, labels: int = 0) -> dict[str, float]:
    """The baselines of a figure, by name, from what is committed: what learns nothing, cloning as many `labels` (64
    where it sees all), and learners without a model after as many `steps`."""
    prefix = "" if where == "sprites" else f"{where}_"
    found: dict[str, float | None] = {}
    path = results / "worlds" / f"{where}.json"
    floor = json.loads(path.read_text()) if path.exists() else {}
    if measure == "success":
        found = {name: row["value"] for name, row in floor.get("success", {}).items()}
        few = labels or 64
        budgets = {str(few): f"cloning the {few}", "1min": "cloning the 1 minute", "all": "cloning all labels"}
        for budget, name in budgets.items():
            found[name] = _value(results / "bc" / f"{prefix}success_{budget}.json")
    elif measure == "return":
        found = {name: row["value"] for name, row in floor.get("return", {}).items()}
    elif measure in ("label_accuracy", "probe_accuracy"):
        found["majority"] = floor.get("majority")
        found["state-only, all labels"] = _value(results / "bc" / f"{prefix}state_only_all.json")
    rivals = _model_free(where, steps, results)
    if measure == "ratio_to_random":
        rivals = {name: round(value / floor["return"]["random"]["value"], 4) for name, value in rivals.items() if floor}
    found |= rivals
    return {name: value for name, value in found.items() if value is not None}


def _model_free(where: str, steps: int, results: Path) -> dict[str, float]:
    """Mean returns of learners without a model after so many steps of a world."""
    path = results / "comparisons/model_free.json"
    told = json.loads(path.read_text())["settings"].get(where, {}) if steps and path.exists() else {}
    return {f"{name.split()[0]} (no model)": row["return"] for name, row in told.items()
            if row["steps"] == steps and " in the dream" not in name}  # fmt: skip


def _value(path: Path) -> float | None:
    return float(json.loads(path.read_text())["value"]) if path.exists() else None


def _plain(estimate: intervals.Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": _rounded(estimate.low), "high": _rounded(estimate.high)}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
