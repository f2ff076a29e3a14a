"""What documents say of a GPU check (`scripts/gpu_check.sh`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recipe_pages import table

from retrodict.report.result import ONE_SEED, number

Entry = dict[str, Any]
PUBLISHED = {"walker-walk": 962, "ball_in_cup-catch": 981}  # after 100,000 steps (Hansen et al., 2024)


def gpu_tables(found: Entry, tasks: Sequence[Entry]) -> str:
    """Returns what was measured on a device, and mean returns of the published tier by steps so far."""
    speeds, errors, learnt = found["inverse frames per second"], found["relative error"], found["training"]
    rows = [
        ["an inverse model, frames/s: float32, bfloat16, compiled", "; ".join(f"{v:,}" for v in speeds.values())],
        ["its relative error against a CPU", "; ".join(f"{v:.0e}" for v in errors.values())],
        [f"its training, {learnt['steps']:,} updates of {learnt['batch']}",
         f"{number(learnt['seconds'], 1)} s, right in {number(learnt['accuracy'])} of other episodes' steps"],
    ]  # fmt: skip
    for name, one in found.items():
        if name.startswith("updates of ") and "refused" not in one:
            usual, fast = one["updates per second"].values()
            told = f"{number(fast, 1)} instead of {number(usual, 1)}, relative error {one['relative error']:.0e}"
            rows.append([f"{name} (--compile), a second", told])
        if name.startswith("decisions of "):
            told = f"{number(one['ms']['captured'], 1)} instead of {number(one['ms']['as it is'], 1)}"
            rows.append([f"{name}, captured, ms", told])
    every = sorted({int(steps) for task in tasks for steps in task["mean return of the last 20 episodes"]})
    whole = [steps for steps in every if steps % 5_000 == 0]  # both tasks have these
    shown = [steps for steps in whole if steps % 10_000 == 0 or steps == whole[-1]]
    curves = [
        [task["task"], *("" if (r := met.get(str(steps))) is None else number(r, 0) for steps in shown),
         str(PUBLISHED[task["task"]])]
        for task in tasks for met in (task["mean return of the last 20 episodes"],)
    ]  # fmt: skip
    lines = [*table(["", found["device"]], rows), ""]
    lines += table(["TD-MPC2, steps of the task", *(f"{steps:,}" for steps in shown), "published, at 100,000"], curves)
    told = f"returns of the 20 episodes before, exploring; {ONE_SEED}; `scripts/gpu_check.sh`"
    return "\n".join([*lines, "", f"({told})"])
