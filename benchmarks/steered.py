"""Worlds of video without actions, steered by codes found in it, beside recorded and shuffled actions.

Usage: python benchmarks/steered.py --setting sprites_textured --world "next frame" [--seeds 1] [--folder runs/steered]

Trains a world three times on one video: with the codes of a latent action model that saw no action (64 recorded ones
say afterwards which code is which), with the recorded actions, and with those in a random order. Writes how much each
heeds its actions (`sensitivity`, `delta_psnr`), how often a judge reads off its frames what was asked for
(`judged_controllability`) and how much it loses by horizon (`drift`), with intervals over test states, to
results/comparisons/steered.json, each cell with the commit of its code.

    next frame  predicts the next frame from the last one, 900 updates
    recurrent   like DreamerV3's of its tiny size, 2,000 updates
    tokens      the dynamics of genie, by its settings for this video
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.figures import trial, world_figures
from retrodict.figures.claims import commit_of_source
from retrodict.label.crossfit import name_codes
from retrodict.models.frame_world import FrameForward
from retrodict.models.latent_action import CodeAdapter
from retrodict.models.losses import next_frame
from retrodict.models.rssm import RSSM, modelling, spread_out
from retrodict.models.token_world import MaskedWorld
from retrodict.models.tokenizers import Tokenizer
from retrodict.nn.conv import patch_for
from retrodict.recipes import genie
from retrodict.roles import System
from retrodict.run.log import Log
from retrodict.run.loop import Fit, LaPropFit
from retrodict.run.run import Run, versions
from retrodict.spaces import ActionSpace

MEASURES = ("sensitivity", "judged_controllability", "delta_psnr", "drift")
LENGTH = 10  # of the recurrent world's sequences
FITS = {"next frame": Fit(900, 64, 2e-3, 0.0), "recurrent": LaPropFit(2_000, 16, 1e-3)}
WORLDS = (*FITS, "tokens")
LABELS = 64  # that say which code is which


def shuffled(steps: Steps, seed: int) -> Steps:
    """The same steps with their actions in another order."""
    order = rng.numpy_rng(seed, "steered").permutation(len(steps))
    columns = {name: steps.columns[name][steps.index][order] for name in ("actions", "source", "confidence")}
    return steps.with_actions(columns["actions"], columns["source"], columns["confidence"], f"shuffled {seed}")


def world(
    kind: str, run: Run, name: str, steps: Steps, space: ActionSpace, cfg: genie.Config, tokens: Tokenizer | None
) -> FrameForward | RSSM | MaskedWorld:  # fmt: skip
    """Trains a world on these actions."""
    stage = f"{kind} world/{name}".replace(" ", "-")
    if tokens is not None:
        return genie.dynamics(cfg, run, tokens, steps, space, stage)
    view, fit = steps.cache.view(), FITS[kind]
    mix = cfg.decoder.mix  # what the latent action model's own forward model needs
    if kind == "next frame":
        with rng.isolated(run.seed, "steered"):
            plain = FrameForward(view, space, mix, patch_for(view.size))
        return run.fit(stage, plain, next_frame, steps.shown(steps.cache.view(2)), fit)
    with rng.isolated(run.seed, "steered"):
        part = RSSM(view, space, deter=128, channels=32, patch=patch_for(view.size, 7), bins=63)
        spread_out(part, "normal")
    return run.fit(stage, part, modelling, steps.shown(steps.cache.view(LENGTH, LENGTH - 2)).whole(), fit)


def compared(where: str, kind: str, seed: int, base: Path, log: Log) -> dict[str, Any]:
    """Trains and measures all three."""
    chosen = trial.setting(where)
    with trial.recorded(chosen, seed, base / "data", log.say) as store:
        cache = Cache.build(store, folder=base / "cache")
    test, found = trial.held_out(chosen), {}
    ground = trial.ground(chosen, test, base.parent / "judge")
    known, cfg = Steps.all(cache).known(), getattr(genie, where if where in ("babyai", "maze") else "tiny")()
    views = trial.views(cache, LABELS, seed)
    with Run(base / f"run-{kind}".replace(" ", "-"), views, seed, log=log) as run:
        actions = genie.latent_action(cfg, run)
        codes = run.label("codes", actions.inverse, run.data.unlabelled)
        kinds = {"codes": codes, "recorded": known, "shuffled": shuffled(known, seed)}
        tokens = genie.tokenizer(cfg, run) if kind == "tokens" else None
        for name, steps in kinds.items():
            space = actions.inverse.space if name == "codes" else cache.space
            system = System(forward=world(kind, run, name, steps, space, cfg, tokens))
            if name == "codes":
                with rng.isolated(run.seed, "adapter"):
                    adapter = CodeAdapter(cache.space, space, 0)
                named = name_codes(run, adapter, actions.inverse, cfg.decode)[0]
                system = replace(system, inverse=actions.inverse, adapter=named)
            values = {key: v for one in MEASURES for key, v in world_figures.measured(one, system, ground).items()}
            found[name] = {key: round(float(value), 4) for key, value in values.items()}
            log.say(f"{where}, {kind}, seed {seed}, {name}: {found[name]}")
    return found


def main() -> None:
    """Compares, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", default="sprites_textured")
    parser.add_argument("--world", choices=WORLDS, default="next frame")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/steered"))
    parser.add_argument("--out", type=Path, default=Path("results/comparisons/steered.json"))
    chosen = parser.parse_args()
    folder, kind = chosen.folder / chosen.setting, chosen.world
    seeds = [compared(chosen.setting, kind, seed, folder / f"seed-{seed}", Log()) for seed in range(chosen.seeds)]
    whole: dict[str, Any] = json.loads(chosen.out.read_text())["settings"] if chosen.out.exists() else {}
    whole.setdefault(chosen.setting, {})[kind] = {
        name: {key: round(float(np.mean([seed[name][key] for seed in seeds])), 4) for key in seeds[0][name]}
        for name in seeds[0]
    } | {"seeds": len(seeds), "commit": commit_of_source()}
    about = {"command": "python benchmarks/steered.py --setting SETTING --world WORLD"}
    told = {"settings": whole, **about, "versions": versions()}
    chosen.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
