"""Growing: the steps of a cache, and of episodes that are appended to it one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache, fill_columns
from retrodict.errors import UnusableInput


class Growing:
    """Recorded steps with room for more episodes behind them; an append costs what it adds."""

    def __init__(self, recorded: Steps, whole: bool = True) -> None:
        cache = recorded.cache
        self._whole = whole
        self.recorded, self._used = recorded, len(cache.episode)
        self._frames: npt.NDArray[np.uint8] = np.array(cache.frames)
        self._columns: dict[str, npt.NDArray[Any]] = {name: np.array(v) for name, v in recorded.columns.items()}
        self._starts, self._texts = [int(start) for start in cache.starts], list(cache.texts)
        self._known: dict[int, Steps] = {}
        self.returns: list[float] = []  # of the appended episodes

    @property
    def episodes(self) -> int:
        """Number of appended episodes."""
        return len(self.returns)

    def append(self, clips: Sequence[Clip]) -> None:
        """Adds episodes, each a clip of one row with frames of the cache's size."""
        for clip in clips:
            if clip.frames is None or clip.rewards is None or clip.frames.shape[2:] != self._frames.shape[1:]:
                met = None if clip.frames is None else tuple(clip.frames.shape[2:])
                raise UnusableInput(f"played episodes need rewards and frames of {self._frames.shape[1:]}; got {met}")
            rows = slice(self._used, self._used + clip.length)
            self._make_room(rows.stop)
            self._frames[rows] = clip.frames[0].numpy()
            fill_columns(self._columns, clip, rows)
            self._used = rows.stop
            self._starts.append(self._used)
            self._texts.append(clip.text[0] if clip.text else "")
            self.returns.append(float(clip.rewards.sum()))

    def _make_room(self, rows: int) -> None:
        if rows <= len(self._frames):
            return
        more = max(rows, 2 * len(self._frames)) - len(self._frames)
        for name, old in self._columns.items():
            self._columns[name] = np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)])
        self._frames = np.concatenate([self._frames, np.zeros((more, *self._frames.shape[1:]), np.uint8)])
        self._known = {}

    def holding(self, steps: int, group: int = 1) -> int | None:
        """The fewest appended episodes, a multiple of `group`, that have so many steps; None while there are not."""
        lengths = np.diff(self._starts[len(self._starts) - 1 - self.episodes :]) - 1
        total = np.concatenate([[0], lengths.cumsum()])[::group]
        enough = np.flatnonzero(total >= steps)
        return int(enough[0]) * group if len(enough) else None

    def first(self, episodes: int) -> Steps:
        """All recorded steps and those of the first appended episodes, windows as the recorded ones."""
        if episodes not in self._known:
            self._known = {episodes: self._steps(episodes)}
        return self._known[episodes]

    def _steps(self, episodes: int) -> Steps:
        old, count = self.recorded.cache, len(self._starts) - 1 - self.episodes + episodes
        starts = np.array(self._starts[: count + 1], np.int64)
        ids = (*old.ids, *(f"played-{number}" for number in range(episodes)))
        columns = {name: value[: starts[-1]] for name, value in self._columns.items()}
        digest = hashlib.sha256(f"{self.recorded.digest}|{episodes}|{starts[-1]}".encode()).hexdigest()[:16]
        texts = tuple(self._texts[:count])
        frames = self._frames[: starts[-1]]
        cache = Cache(frames, starts, ids, old.space, columns, texts, old.fps, digest, old.cameras)
        played = cache.steps()
        index = np.concatenate([self.recorded.index, played[played >= old.starts[-1]]])
        steps = Steps(cache, index, columns, digest, self.recorded.before, self.recorded.after)
        return steps.whole() if self._whole else steps
