"""Draws docs/figures/labels.png: some steps of a labelled folder, each with its action and how sure it is.

Usage: python scripts/draw_labels.py D [--out docs/figures/labels.png], after
    retrodict demo --world sprites
    retrodict label runs/demo/videos --labels runs/demo/videos/labels.csv --recipe vpt --out D
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path

import numpy as np

from retrodict.clip import ABSTAINED, PREDICTED, SOURCES
from retrodict.data.store import Store
from retrodict.label.infer import Labelled
from retrodict.report.pictures import ClipPicture, still

STEPS = 4


def chosen(source: np.ndarray, actions: np.ndarray) -> int:
    """The first step of the stretch that shows most kinds of steps and most different actions."""
    starts = range(len(source) - STEPS + 1)
    kinds = [len({*source[t : t + STEPS]}) + len({*actions[t : t + STEPS]}) for t in starts]
    return int(np.argmax(kinds)) if kinds else -1


def main() -> None:
    """Draws the steps of the episode that shows most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/labels.png"))
    given = parser.parse_args()
    run = given.folder.with_name(f"{given.folder.name}.run")
    verdict = json.loads((run / "report.json").read_text())["verdict"]
    with Store.open(run / "videos") as videos, Store.open(run / "labels") as labels:
        labelled = Labelled(videos, labels, verdict["abstain_below"])
        space = labelled.schema.space
        best, picture = -1, None
        for id in labelled.ids:
            clip = labelled.read(id, frames=False)
            assert clip.actions is not None
            assert clip.source is not None
            assert clip.confidence is not None
            source, classes = clip.source[0].numpy(), space.classes(clip.actions[0]).numpy()
            first = chosen(source, classes)
            part = slice(first, first + STEPS)
            score = len({*source[part]}) * 3 + len({*classes[part]})
            if first < 0 or score <= best:
                continue
            best, frames = score, labelled.read(id).frames
            assert frames is not None
            segment = space.segments[0]
            names = [segment.merged_names[int(number)] for number in classes[part]]
            picture = ClipPicture(
                frames=frames[0, first : first + STEPS + 1].permute(0, 2, 3, 1).numpy().copy(),
                truth=[name if kind < PREDICTED else "" for name, kind in zip(names, source[part], strict=True)],
                predicted=names,
                confidence=[float(value) for value in clip.confidence[0, part]],
                source=[SOURCES[kind] if kind != ABSTAINED else "abstained" for kind in source[part]],
                title=id,
            )
    assert picture is not None, "no episode has so many steps"
    given.out.write_bytes(base64.b64decode(still(picture, STEPS).partition(",")[2]))
    print(f"{given.out}: {picture.title}")


if __name__ == "__main__":
    main()
