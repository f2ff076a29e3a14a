"""Packs a run of `genie` on sprites as the world that comes with the package, with its card.

Usage: retrodict check genie --claim effect_consistency --seeds 1 --out runs/claims
       python scripts/pack_world.py runs/claims/sprites/seed-0/genie-tiny-200
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from retrodict import load
from retrodict.figures.claims import commit_of_source
from retrodict.figures.trial import setting
from retrodict.run import checkpoint
from retrodict.run.run import versions

PLACE = Path(__file__).resolve().parents[1] / "src" / "retrodict" / "worlds" / "sprites"
MOST = 2_000_000  # bytes
CARD = """# Sprites, learned

A world that `retrodict play` steers when it is given no run: `genie` (docs/recipes/genie.md) at `tiny()`, seed {seed},
trained on 20,000 frames of the sprites' expert with 30 % random keys, of which 200 name the codes. At commit {commit}
these lines make it again; at another one `tiny()` may have other settings.

    retrodict check genie --claim effect_consistency --seeds 1 --out runs/claims
    python scripts/pack_world.py runs/claims/sprites/seed-0/genie-tiny-200

What the recipe's present settings are worth is in results/genie/. {size} bytes: forward model, adapter, and inverse
model for the meter of obedience. Codes stand for effects, so it was never shown a move into a wall, and the agent may
vanish there. Licence: the package's.
"""


def main() -> None:
    """Writes the folder anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    system = load(parser.parse_args().run)
    chosen = setting("sprites")
    about = {
        "recipe": system.about["recipe"],
        "seed": system.about["seed"],
        "data": {"world": {"env": chosen.world, "options": dict(chosen.options)}},
        "commit": commit_of_source(),
        "versions": versions(),
    }
    shutil.rmtree(PLACE, ignore_errors=True)
    checkpoint.save_system(PLACE, replace(system, encoder=None, policy=None, score=None, about=about))
    size = sum(file.stat().st_size for file in PLACE.iterdir())
    if size > MOST:
        raise SystemExit(f"the world has {size} bytes, and {MOST} may be shipped")
    (PLACE / "README.md").write_text(CARD.format(size=f"{size:,}", **about))
    print(json.dumps({"bytes": size, **about}))


if __name__ == "__main__":
    main()
