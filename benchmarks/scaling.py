"""How a world's loss falls with its size: GAIA-1's worlds of three widths, and the power law through them.

Usage: python benchmarks/scaling.py --run RUN --data DATASET [--steps 800] [--widths 32,64,128]

Takes the tokenizer of a finished run of `gaia1` on the road (RUN) and the dataset it was trained on, trains a world
of each width on it for as many steps each, and fits log loss = a + b log parameters to the cross entropy of held-out
frames (nats per token, with actions and words). Writes results/comparisons/scaling.json. One seed and three points:
the slope says how these sizes compare after so few steps, and no law.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import retrodict
from retrodict.data.cache import Cache
from retrodict.data.store import Store
from retrodict.figures import road_figures, trial
from retrodict.figures.claims import commit_of_source
from retrodict.models.next_token_world import NextTokenWorld
from retrodict.recipes import gaia1
from retrodict.run.log import Log
from retrodict.run.run import Run, config_digest, versions

SEED = 0


def trained(folder: Path, cache: Cache, tokens: Any, cfg: gaia1.Config, log: Log) -> tuple[NextTokenWorld, float]:
    """Trains a world of this configuration; returns it and the seconds that it took."""
    began = time.process_time()
    with Run(folder, trial.views(cache, 0, SEED), SEED, log=log) as run:
        steps, space = gaia1.described(cfg.captions, run.data.labelled, run)
        world = gaia1.learnt(cfg, run, tokens, steps, space)
    return world, time.process_time() - began


def slope(parameters: list[int], losses: list[float]) -> tuple[float, float]:
    """Fits log loss = a + b log parameters by least squares; returns (a, b)."""
    b, a = np.polyfit(np.log(parameters), np.log(losses), 1)
    return float(a), float(b)


def main() -> None:
    """Trains, fits, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--widths", default="32,64,128")
    given = parser.parse_args()
    tokens = retrodict.load(given.run / "system").encoder
    with Store.open(given.data) as store:
        cache = Cache.build(store, folder=given.folder / "cache")
    test, log, sizes = trial.held_out(trial.setting("road")), Log(), []
    for width in map(int, given.widths.split(",")):
        cfg = gaia1.tiny()
        cfg = replace(cfg, width=width, say=replace(cfg.say, steps=given.steps))
        world, seconds = trained(given.folder / f"width-{width}", cache, tokens, cfg, log)
        nats = road_figures.surprise(world, test)
        count = sum(p.numel() for p in world.groups()["all"])
        sizes.append({"width": width, "parameters": count, "cpu_seconds": round(seconds, 1)})
        sizes[-1] |= {name: round(value / world.tokenizer.cells, 4) for name, value in nats.items()}
        log.say(str(sizes[-1]))
    a, b = slope([int(one["parameters"]) for one in sizes], [float(one["nats"]) for one in sizes])
    told = {
        "what": "nats per token of held-out frames, by parameters of the world", "sizes": sizes, "seeds": 1,
        "steps": given.steps, "fit": {"log loss at one parameter": round(a, 4), "exponent": round(b, 4)},
        "command": f"python benchmarks/scaling.py --run RUN --data DATASET --steps {given.steps}",
        "config": config_digest(gaia1.tiny()), "commit": commit_of_source(), "versions": versions(),
    }  # fmt: skip
    path = Path("results/comparisons/scaling.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
