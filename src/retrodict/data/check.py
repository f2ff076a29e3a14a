"""A dataset's check-up: every file's hash, every episode read, LeRobot's metadata, and what the actions are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from retrodict.clip import MISSING, SOURCES, Clip
from retrodict.data.foreign import ForeignDataset, open_dataset
from retrodict.data.motion import Motion, watch
from retrodict.data.schema import Episodes
from retrodict.data.staging import Totals, derived
from retrodict.data.store import Store
from retrodict.errors import RetrodictError


@dataclass(frozen=True, slots=True)
class Seen:
    """One episode as a check-up sees it: what is recorded, its motion (None without a step to see), small frames."""

    clip: Clip
    motion: Motion | None
    small: Tensor | None


def check(folder: Path | str) -> dict[str, Any]:
    """Checks a dataset and returns a report of plain JSON values; `problems` is empty when all is well.

    `sources` counts steps by source. `missing_share` is the share of steps without an action, `looked_at` that of steps
    whose frames were looked at, and `still_share` that of those whose two frames are equal pixel by pixel, which no
    inverse model can tell from doing nothing.

    Raises:
        UnusableInput: the folder is no dataset.
        Damaged: its metadata cannot be read at all.
    """
    return look(open_dataset(folder), folder)[0]


def look(
    source: Episodes,
    folder: Path | str,
    choose: Callable[[Mapping[str, Clip]], Collection[str]] = lambda clips: (),
    every: bool = True,
) -> tuple[dict[str, Any], dict[str, Seen]]:
    """Returns the report of `check`, and the episodes that can be read; frames are streamed once.

    `choose` is told what is recorded, and names the episodes of which small frames are kept; unless `every` frame is to
    be looked at, no others are.
    """
    problems = _damages(source)
    clips, seen = dict[str, Clip](), dict[str, Seen]()
    for id in source.ids:
        with _noting(problems):
            clips[id] = source.read(id, frames=False)
    chosen = set(choose(clips))
    for id, clip in clips.items():
        with _noting(problems):
            seen[id] = Seen(clip, *(watch(source, id, id in chosen) if every or id in chosen else (None, None)))
    counts: Counter[str] = Counter()
    for one in seen.values():
        counts.update(_sources(one.clip))
    steps = counts.total()
    watched = [one.motion for one in seen.values() if one.motion is not None]
    still, looked_at = sum(int(one.still.all(1).sum()) for one in watched), sum(map(len, watched))
    return {
        "folder": str(folder),
        "kind": "LeRobot" if isinstance(source, ForeignDataset) else "retrodict",
        "hashed": not isinstance(source, ForeignDataset) or bool(source.records),
        "episodes": len(source.ids),
        "frames": sum(source.lengths.values()),
        "steps": steps,
        "sources": {name: counts[name] for name in SOURCES},
        "missing_share": counts[SOURCES[MISSING]] / steps if steps else 0.0,
        "looked_at": looked_at / steps if steps else 0.0,
        "still_share": still / looked_at if looked_at else 0.0,
        "digest": source.digest,
        "problems": list(dict.fromkeys(problems)),
    }, seen


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except RetrodictError as error:
        problems.append(str(error))


def _sources(clip: Clip) -> dict[str, int]:
    assert clip.source is not None  # every source of episodes fills it
    return {name: int((clip.source == number).sum()) for number, name in enumerate(SOURCES)}


def _damages(source: Episodes) -> list[str]:
    if isinstance(source, Store):
        return _files(source)
    return source.damages() if isinstance(source, ForeignDataset) else []


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
