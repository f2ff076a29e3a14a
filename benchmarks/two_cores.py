"""How long a seed takes on two cores of a quiet machine, of the recipes that take more than twelve minutes of one.

Usage: python benchmarks/two_cores.py [--out FILE]

Trains and measures one seed of each with two threads, as `retrodict check` does, in a folder that is thrown away, and
writes the seconds of the training, those of both cores together, and the figure, to results/comparisons/two_cores.json.
Figures are not published from here: another number of threads rounds otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from retrodict.figures.claims import commit_of_source

FIGURES = {"gaia1": "steering_agreement", "genie": "maze_judged_controllability"}
THREADS = 2


def timed(recipe: str, figure: str, folder: Path) -> dict[str, Any]:
    """What a seed took, and what came out."""
    words = ["check", recipe, "--claim", figure, "--seeds", "1", "--threads", str(THREADS)]
    given = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    subprocess.run([sys.executable, "-m", "retrodict", *words], cwd=folder, env=given, check=True)
    told = json.loads((folder / f"results/{recipe}/{figure}.json").read_text())
    assert told["versions"]["threads"] == str(THREADS)
    (seed,) = told["seeds"]
    return {"recipe": recipe, "figure": figure, **seed, "versions": told["versions"]}


def main() -> None:
    """Times them, one after the other."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("results/comparisons/two_cores.json"))
    out = options.parse_args().out
    with tempfile.TemporaryDirectory(prefix="two-cores-") as folder:
        runs = [timed(recipe, figure, Path(folder)) for recipe, figure in FIGURES.items()]
    told = {"runs": runs, "command": "python benchmarks/two_cores.py", "commit": commit_of_source()}
    out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
