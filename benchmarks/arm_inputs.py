"""What an inverse model should be shown of a robot's cameras: pixels, optical flow, or frozen features.

Usage: python benchmarks/arm_inputs.py [--folder runs/arm-inputs] [--seeds 1]

Trains `vpt.arm_as_given()` on the first minute of labels of the arm's recording with each kind of input, in the same
nets, and writes R² of the motions, F1 of the gripper and seconds to results/comparisons/arm_inputs.json. The features
are those of a latent action model (`laom`) trained on the same video and labels, which then stand still. One seed says
what to take as a default; it is no comparison of methods.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrodict.data.cache import Cache
from retrodict.figures import trial
from retrodict.figures.claims import commit_of_source
from retrodict.models.frame_world import Mixing
from retrodict.recipes import laom, vpt
from retrodict.roles import System
from retrodict.run.log import Log
from retrodict.run.run import Run, versions

LABELS, MEASURES = 1200, ("r2", "press_f1")
INPUTS = {"pixels": "both", "flow": "flow", "features": "features"}
FEATURES = laom.Config(width=32, depth=2, latent=16, world=Mixing("conv", 48, 2), pool="flatten")


def features(folder: Path, base: Path, seed: int, log: Log) -> str:
    """Trains the features on the recording of a seed, and returns the folder of the system that has them."""
    chosen = trial.setting("arm")
    with trial.recorded(chosen, seed, base / "data", log.say) as store:
        cache = Cache.build(store, folder=base / "cache")
    with Run(folder, trial.views(cache, LABELS, seed, contiguous=True), seed, log=log) as run:
        model = laom.fitted(FEATURES, run, run.data.labelled, "model")
        run.finish(System(encoder=model.world.target), {})
    return str(folder)


def compared(base: Path, seed: int, log: Log) -> dict[str, Any]:
    """Measures each kind of input on one seed."""
    chosen, found = trial.setting("arm"), {}
    test = trial.held_out(chosen)
    taken = features(base / "features", base, seed, log)
    for name, inputs in INPUTS.items():
        cfg = replace(vpt.arm_as_given(), inputs=((inputs, "mean_max"),), features=taken)
        done = trial.trial(vpt, cfg, chosen, LABELS, seed, base, base / name, MEASURES, log, test)
        found[name] = {key: round(value, 4) for key, value in done.values.items()} | {"seconds": done.seconds}
        log.say(f"seed {seed}, {name}: {found[name]}")
    return found


def main() -> None:
    """Compares, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/arm-inputs"))
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    seeds = [compared(given.folder / f"seed-{seed}", seed, Log()) for seed in range(given.seeds)]
    told = {
        "labels": LABELS, "seeds": seeds, "commit": commit_of_source(), "versions": versions(),
        "command": f"python benchmarks/arm_inputs.py --seeds {given.seeds}",
    }  # fmt: skip
    path = Path("results/comparisons/arm_inputs.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
