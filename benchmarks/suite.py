"""Every world model of the project on one suite, at one budget: sprites, BabyAI, and the arm scene from pixels.

Usage: python benchmarks/suite.py [--seconds 120] [--setting sprites] [--recipe iris] [--folder runs/suite]

All learn from the same recorded frames with all actions known, for as many seconds of one core, policies left out: few
of the recipe's updates are run and timed, then three times as many, then as many as the budget holds, anew where that
was a quarter too many or too few. What is measured on held-out levels (128 windows, and 50 states in which every action
is tried) is what `retrodict measure` tells of a world, and a judge's reading where there is a list of actions to ask
for. What a world cannot show stays empty, and the reason is written beside. One seed, so it ranks nothing closely; a
cell that lies in the result already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from retrodict.check import load_recipe, recipes
from retrodict.data.cache import Cache
from retrodict.errors import Interrupted, RetrodictError
from retrodict.figures import trial, world_figures
from retrodict.figures.claims import commit_of_source
from retrodict.label.gate import gated
from retrodict.roles import System
from retrodict.run.log import Log
from retrodict.run.loop import Fit
from retrodict.run.run import Run, versions
from retrodict.run.spending import worked

SUITE = ("sprites", "babyai", "arm")
MEASURES = ("horizon_skill", "sensitivity", "delta_psnr", "judged_controllability")
# what is not the world's, and so is not trained here beyond the least that runs
SPARED = {
    "gaia1": {"read": 1}, "iris": {"practise": 1}, "genie": {"clone": 1}, "lapo": {"clone": 1}, "laq": {"clone": 1},
    "world_models": {"generations": 4},
}  # fmt: skip
OWN = {"gaia1": {"captions": "none"}, "genie_play": {"events": ""}}  # for worlds that nothing describes
SHARE = 0.02  # of the updates, that are timed first, and three times as many after them


def settings(recipe: Any, name: str, where: str) -> Any:
    """The preset by which a recipe publishes figures of this setting, else `tiny`, without what is not the world's."""
    preset = next((figure.preset for figure in recipe.FIGURES.values() if figure.setting == where), "tiny")
    cfg = replace(getattr(recipe, preset)(), **OWN.get(name, {}))
    for field, least in SPARED.get(name, {}).items():
        value = getattr(cfg, field)
        cfg = replace(cfg, **{field: replace(value, steps=least) if isinstance(value, Fit) else least})
    return cfg


def scaled(cfg: Any, factor: float) -> Any:
    """The same settings with `factor` times the updates of each part that has more than one."""
    if isinstance(cfg, Fit):
        return cfg if cfg.steps == 1 else replace(cfg, steps=max(2, round(cfg.steps * factor)))
    held = {field.name: getattr(cfg, field.name) for field in fields(cfg)}
    return replace(cfg, **{name: scaled(value, factor) for name, value in held.items() if is_dataclass(value)})


def trained(recipe: Any, cfg: Any, cache: Cache, folder: Path) -> tuple[System, float]:
    """The system, and the CPU seconds that its parts took."""
    with Run(folder, trial.views(cache, 0, 0), 0, log=Log(quiet=True)) as run:
        system = gated(recipe.train(cfg, run), run)
    return system, worked(run.stages.values())


def cell(name: str, where: str, seconds: float, cache: Cache, ground: world_figures.Ground) -> dict[str, Any]:
    """One world on one setting: its measures, its weights, its cost, and why measures are missing."""
    recipe = load_recipe(name)
    cfg, missing = settings(recipe, name, where), dict[str, str]()
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        try:
            few, more = (trained(recipe, scaled(cfg, SHARE * k), cache, Path(folder) / f"{k}")[1] for k in (1, 3))
            share = SHARE + 2 * SHARE * max(0.0, seconds - few) / max(more - few, more / 20)
            system, took = trained(recipe, scaled(cfg, share), cache, Path(folder) / "run")
            if abs(took - seconds) > seconds / 4:  # now it is known better
                share = SHARE + (share - SHARE) * max(0.0, seconds - few) / max(took - few, took / 20)
                system, took = trained(recipe, scaled(cfg, share), cache, Path(folder) / "again")
        except Interrupted:
            raise
        except RetrodictError as error:
            return {"missing": {measure: str(error) for measure in MEASURES}}
    assert system.forward is not None, f"{name} has no world; leave it out of `worlds`"
    found: dict[str, float] = {}
    for measure in MEASURES:
        try:
            found |= world_figures.measured(measure, system, ground)
        except RetrodictError as error:
            missing[measure] = str(error)
    weights = sum(weight.numel() for weight in system.forward.parameters())  # type: ignore[attr-defined]
    values = {key: round(float(value), 4) for key, value in found.items()}
    return {"cpu_seconds": round(took, 1), "weights": weights, "values": values, "missing": missing}


def worlds() -> list[str]:
    """All recipes but those whose systems have no forward model."""
    return [name for name in recipes() if name not in ("bc", "laom", "vpt")]


def main() -> None:
    """Trains and measures what is missing, one cell at a time, and writes after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--setting", choices=SUITE, action="append")
    parser.add_argument("--recipe", choices=worlds(), action="append")
    parser.add_argument("--folder", type=Path, default=Path("runs/suite"))
    parser.add_argument("--out", type=Path, default=Path("results/comparisons/suite.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    about = {"command": f"python benchmarks/suite.py --seconds {chosen.seconds:g}", "seconds": chosen.seconds}
    whole: Mapping[str, Any] = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    table = dict(whole.get("settings", {})) if whole.get("seconds") == chosen.seconds else {}
    for where in chosen.setting or SUITE:
        setting, base = trial.setting(where), chosen.folder / where
        with trial.recorded(setting, 0, base / "seed-0" / "data") as store:
            cache = Cache.build(store, folder=base / "seed-0" / "cache")
        ground = replace(trial.ground(setting, trial.held_out(setting), base / "judge"), windows=128, states=50)
        row = table.setdefault(where, {})
        for name in chosen.recipe or worlds():
            if name in row:
                continue
            row[name] = {**cell(name, where, chosen.seconds, cache, ground), "commit": commit_of_source()}
            print(where, name, json.dumps(row[name]), flush=True)
            told = {"settings": table, **about, "versions": versions()}
            chosen.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
