"""A recurrent world of video without actions, steered by codes found in it, beside recorded and shuffled actions.

Usage: python benchmarks/steered.py [--setting sprites_textured] [--seeds 1] [--folder runs/steered]

Trains a world like DreamerV3's (of its tiny size) three times on one video: with the codes of a latent action model
that saw no action (64 recorded ones say afterwards which code is which), with the recorded actions, and with those in
a random order. Writes how much each heeds its actions (`sensitivity`) and how often a judge reads off its frames what
was asked for (`judged_controllability`), with intervals over test states, to results/comparisons/steered.json.

No nats are free, unlike DreamerV3's one a frame: a move among five says 1.6 nats at most, fewer under an expert, so
that with a free one the prior need not know what an action does (with it, all three worlds heeded nothing).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from retrodict import rng, trial, world_figures
from retrodict.claims import commit_of_source
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.label.crossfit import name_codes
from retrodict.models.latent_action import CodeAdapter
from retrodict.models.rssm import RSSM, modelling, spread_out
from retrodict.nn.conv import patch_for
from retrodict.recipes import genie
from retrodict.roles import System
from retrodict.run.log import Log
from retrodict.run.loop import LaPropFit
from retrodict.run.run import Run, versions
from retrodict.spaces import ActionSpace

MEASURES = ("sensitivity", "judged_controllability")
LENGTH, FIT = 10, LaPropFit(2_000, 16, 1e-3)
LOSS = partial(modelling, free=0.0)
LABELS = 64  # that say which code is which


def shuffled(steps: Steps, seed: int) -> Steps:
    """The same steps with their actions in another order."""
    order = rng.numpy_rng(seed, "steered").permutation(len(steps))
    columns = {name: steps.columns[name][steps.index][order] for name in ("actions", "source", "confidence")}
    return steps.with_actions(columns["actions"], columns["source"], columns["confidence"], f"shuffled {seed}")


def world(run: Run, name: str, steps: Steps, space: ActionSpace) -> RSSM:
    """Trains the recurrent world on these actions."""
    view = steps.cache.view()
    with rng.isolated(run.seed, "steered"):
        part = RSSM(view, space, deter=128, channels=32, patch=patch_for(view.size, 7), bins=63)
        spread_out(part, "normal")
    seen = steps.shown(steps.cache.view(LENGTH, LENGTH - 2)).whole()
    return run.fit(f"world/{name}", part, LOSS, seen, FIT)


def compared(where: str, seed: int, base: Path, log: Log) -> dict[str, Any]:
    """Trains and measures all three."""
    chosen = trial.setting(where)
    with trial.recorded(chosen, seed, base / "data", log.say) as store:
        cache = Cache.build(store, folder=base / "cache")
    test, found = trial.held_out(chosen), {}
    ground = trial.ground(chosen, test, base.parent / "judge")
    known, cfg = Steps.all(cache).known(), genie.tiny() if where.startswith("sprites") else genie.babyai()
    with Run(base / "run", trial.views(cache, LABELS, seed), seed, log=log) as run:
        actions = genie.latent_action(cfg, run)
        codes = run.label("codes", actions.inverse, run.data.unlabelled)
        kinds = {"codes": codes, "recorded": known, "shuffled": shuffled(known, seed)}
        for name, steps in kinds.items():
            if name == "codes":
                system = System(forward=world(run, name, steps, actions.inverse.space), inverse=actions.inverse)
                adapter = CodeAdapter(cache.space, actions.inverse.space, 0)
                system = replace(system, adapter=name_codes(run, adapter, actions.inverse, cfg.decode)[0])
            else:
                system = System(forward=world(run, name, steps, cache.space))
            values = {key: v for one in MEASURES for key, v in world_figures.measured(one, system, ground).items()}
            found[name] = {key: round(float(value), 4) for key, value in values.items()}
            log.say(f"seed {seed}, {name}: {found[name]}")
    return found


def main() -> None:
    """Compares, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", default="sprites_textured")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/steered"))
    parser.add_argument("--out", type=Path, default=Path("results/comparisons/steered.json"))
    chosen = parser.parse_args()
    folder = chosen.folder / chosen.setting
    seeds = [compared(chosen.setting, seed, folder / f"seed-{seed}", Log()) for seed in range(chosen.seeds)]
    whole: dict[str, Any] = json.loads(chosen.out.read_text())["settings"] if chosen.out.exists() else {}
    whole[chosen.setting] = {
        name: {key: round(float(np.mean([seed[name][key] for seed in seeds])), 4) for key in seeds[0][name]}
        for name in seeds[0]
    } | {"seeds": len(seeds)}
    about = {"command": f"python benchmarks/steered.py --setting {chosen.setting} --seeds {chosen.seeds}"}
    told = {"settings": whole, **about, "commit": commit_of_source(), "versions": versions()}
    chosen.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
