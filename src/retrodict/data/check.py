"""A dataset's check-up: every file's hash, every episode read, LeRobot's metadata, and what the actions are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from retrodict.clip import MISSING, SOURCES, Clip
from retrodict.data.cache import piece_of
from retrodict.data.foreign import open_dataset
from retrodict.data.schema import Episodes
from retrodict.data.staging import Totals, derived
from retrodict.data.store import Store
from retrodict.errors import RetrodictError


def check(folder: Path | str) -> dict[str, Any]:
    """Checks a dataset and returns a report of plain JSON values; `problems` is empty when all is well.

    `sources` counts steps by source. `missing_share` is the share of steps without an action, `still_share` that of
    steps whose two frames are equal pixel by pixel, which no inverse model can tell from doing nothing.

    Raises:
        UnusableInput: the folder is no dataset.
        Damaged: its metadata cannot be read at all.
    """
    source = open_dataset(folder)
    problems = _files(source) if isinstance(source, Store) else source.damages()
    counts: Counter[str] = Counter()
    steps = still = 0
    for id in source.ids:
        try:
            clip = source.read(id, frames=False)
            unmoved = _still(source, id)
        except RetrodictError as error:
            problems.append(str(error))
            continue
        counts.update(_sources(clip))
        steps += clip.steps
        still += unmoved
    return {
        "folder": str(folder),
        "kind": "retrodict" if isinstance(source, Store) else "LeRobot",
        "hashed": isinstance(source, Store) or bool(source.records),
        "episodes": len(source.ids),
        "frames": sum(source.lengths.values()),
        "steps": steps,
        "sources": {name: counts[name] for name in SOURCES},
        "missing_share": counts[SOURCES[MISSING]] / steps if steps else 0.0,
        "still_share": still / steps if steps else 0.0,
        "digest": source.digest,
        "problems": list(dict.fromkeys(problems)),
    }


def _sources(clip: Clip) -> dict[str, int]:
    assert clip.source is not None  # every source of episodes fills it
    return {name: int((clip.source == number).sum()) for number, name in enumerate(SOURCES)}


def _still(source: Episodes, id: str) -> int:
    """Counts the steps whose two frames are equal, holding few frames at a time."""
    still, last = 0, None
    for piece in source.stream(id, piece_of(source.schema)):
        frames = piece[0] if last is None else torch.cat([last, piece[0]])
        still += int((frames[1:] == frames[:-1]).flatten(1).all(1).sum())
        last = frames[-1:]
    return still


def _files(store: Store) -> list[str]:
    problems = store.damages()
    totals = Totals()
    for commit in store.commits:
        totals = totals.plus(commit)
    for name, wanted in derived(store.schema, totals):
        path = store.folder / name
        if not path.is_file() or path.read_bytes() != wanted:
            problems.append(f"{path} differs from what the commits say; opening the dataset for writing repairs it")
    return problems
