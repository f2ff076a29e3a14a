"""Draws docs/figures/obedience.svg: one frame, and what a world makes of every code; measures how often a judge agrees.

Usage: python scripts/draw_obedience.py RUN JUDGE, after
    retrodict check lapo --claim bits_recovered --seeds 1 --out F
where RUN is F/sprites/seed-0/lapo-tiny-64, and JUDGE the folder where a judge is, or is to be kept. Writes
results/comparisons/obedience.json as well; then run scripts/write_docs.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe_pages import standalone

from retrodict.figures.claims import commit_of_source
from retrodict.figures.trial import ground, held_out, setting
from retrodict.figures.world_figures import STATES, meanings, requests
from retrodict.measure import obedience
from retrodict.measure.branches import counterfactuals
from retrodict.measure.worlds import Control
from retrodict.report import pictures
from retrodict.report.markup import Markup, element
from retrodict.report.svg import drawing, text
from retrodict.rng import numpy_rng
from retrodict.run.checkpoint import load_system

ROOT = Path(__file__).resolve().parents[1]
SIDE, GAP = 84.0, 14.0
NAMES = {
    "score": "every code in use, where the action shows", "shuffled": "requests shuffled",
    "random": "requests at random",
    "real": "real next frames: the ceiling", "raw": "every code everywhere, also where a wall is in the way",
    "blocked": "nothing happens where a wall is in the way",
}  # fmt: skip


def tile(frame: torch.Tensor, place: int, top: float, words: list[tuple[str, str]]) -> list[Markup]:
    """A frame with lines below it: (text, class)."""
    left = 8 + place * (SIDE + GAP)
    uri = pictures.enlarged(frame.permute(1, 2, 0).numpy(), 144)
    shown = [element("image", href=uri, x=left, y=top, width=SIDE, height=SIDE)]
    return shown + [text(left, top + SIDE + 16 + 15 * i, line, class_=style) for i, (line, style) in enumerate(words)]


def picture(seen: torch.Tensor, rows: list[tuple[str, torch.Tensor, list[str], Any]]) -> str:
    """Rows of (title, frames, what was asked, what is read), each beside the frame that was seen."""
    parts, height = list[Markup](), SIDE + 78
    for number, (title, frames, asked, read) in enumerate(rows):
        top = 32 + number * height
        parts += [text(8, top - 10, title, class_="label"), *tile(seen, 0, top, [("seen", "name")])]
        for k, frame in enumerate(frames):
            right = asked[k].split()[-1] == read[k]
            lines = [(asked[k], "name"), (f"read: {read[k]}", f"label s{0 if right else 1}")]
            parts += tile(frame, k + 1, top, lines)
    desc = "; ".join(f"{title}: asked {', '.join(asked)}; read {', '.join(read)}" for title, _, asked, read in rows)
    width = 2 + (len(rows[0][2]) + 1) * (SIDE + GAP)
    return standalone(drawing(width, 10 + height * len(rows), "One frame, every code", desc, *parts))


def plain(found: Control, accuracy: Any) -> dict[str, dict[str, float | None]]:
    """Score and controls with their intervals, by the names of NAMES."""
    each = {words: getattr(found, part) for part, words in NAMES.items()}
    each["the judge on held-out recordings"] = accuracy
    return {
        words: {end: round(getattr(one, end), 4) for end in ("value", "low", "high")}
        for words, one in each.items() if one is not None
    }  # fmt: skip


def main() -> None:
    """Measures, draws, and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("judge", type=Path)
    given = parser.parse_args()
    system, chosen = load_system(given.run), setting("sprites")
    test = held_out(chosen)
    where = ground(chosen, test, given.judge)
    judge, forward = where.judge(), system.forward
    assert forward is not None, "the run has no forward model"
    branches = counterfactuals(where.world(5), where.levels[:STATES], random=chosen.random)
    clip = obedience.told(obedience.windows(test, 0, 1), test.space, forward, system.inverse)
    asked = requests(forward, clip, 0)
    means = meanings(asked, system.adapter, branches)
    found = obedience.judged(forward, judge.inverse, branches, asked, means)
    result = {
        "run": "lapo, tiny, sprites, seed 0", "command": "python scripts/draw_obedience.py RUN JUDGE",
        "judged": plain(found, judge.accuracy), "states": STATES, "commit": commit_of_source(),
    }  # fmt: skip
    (ROOT / "results/comparisons/obedience.json").write_text(json.dumps(result, indent=1) + "\n")

    free = int(np.flatnonzero((branches.alike.sum(2) == 1).all(1))[0])  # a state in which every action shows
    past, names = branches.past.pick([free]), np.array(test.space.segments[0].merged_names)
    made = obedience.generated(forward, past, asked[None])
    read = names[obedience.classes(judge.inverse, past, made)[0]].tolist()
    order = numpy_rng("draw", "obedience").permutation(len(asked))
    told = [f"code {int(one.argmax())}: {names[mean]}" for one, mean in zip(asked, means[free], strict=True)]
    rows = [
        ("Each code, the action that it is said to mean, and what the judge reads", made[0], told, read),
        ("The same frames against the same requests, shuffled", made[0][order.tolist()], told, np.array(read)[order]),
    ]
    assert past.frames is not None
    (ROOT / "docs/figures/obedience.svg").write_text(picture(past.frames[0, -1], rows))


if __name__ == "__main__":
    main()
