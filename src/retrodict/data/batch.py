"""Steps: a selection of a cache's steps, from which batches are drawn as a pure function of their address."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import MISSING, PREDICTED, RECORDED, Clip
from retrodict.data.cache import OUTCOMES, PROPRIO, Cache
from retrodict.errors import UnusableInput
from retrodict.roles import View


@dataclass(frozen=True)
class Steps:
    """Steps of a cache with the frames around them; `batch` returns windows of before + 1 + after frames.

    Step number `before` of such a window is the one that was drawn. Columns may be replaced (predicted actions beside
    the same frames) without copying a frame.
    """

    cache: Cache
    index: npt.NDArray[np.int64]  # frame number t of each step
    columns: dict[str, npt.NDArray[Any]]
    digest: str
    before: int = 0
    after: int = 1
    features: npt.NDArray[np.float32] | None = None  # of every frame of the cache, shown in the place of the frames

    @staticmethod
    def all(cache: Cache, ids: tuple[str, ...] | None = None, hidden: bool = False) -> Steps:
        """All real steps of the named episodes (all by default); `hidden` hides every action."""
        columns = dict(cache.columns)
        if hidden:
            columns |= {
                "actions": np.zeros_like(columns["actions"]),
                "source": np.full_like(columns["source"], MISSING),
                "confidence": np.zeros_like(columns["confidence"]),
            }
        digest = _digest(cache.digest, *(ids or ()), str(hidden))
        return Steps(cache, cache.steps(ids), columns, digest)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def target(self) -> int:
        """Number of the drawn step inside a window."""
        return self.before

    def shown(self, view: View) -> Steps:
        """Returns the same steps with the frames that a model with this view needs around them."""
        offsets = view.offsets()
        return replace(self, before=max(0, -offsets[0]), after=max(1, offsets[-1]))

    def known(self) -> Steps:
        """Only the steps that carry an action."""
        keep = np.isin(self.columns["source"][self.index], (RECORDED, PREDICTED))
        return self.only(np.flatnonzero(keep))

    def rewarded(self) -> Steps:
        """The same steps.

        Raises:
            UnusableInput: their rewards and ends were not recorded.
        """
        if missing := [name for name in OUTCOMES if name not in self.columns]:
            raise UnusableInput(
                f"this recipe learns rewards and ends, and the data has no {' and no '.join(missing)}; record a world "
                "that has"
            )
        return self

    def only(self, positions: npt.NDArray[Any]) -> Steps:
        """Only the steps at these positions."""
        index = self.index[positions]
        return replace(self, index=index, digest=_digest(self.digest, index.tobytes().hex()))

    def whole(self) -> Steps:
        """Only the steps whose window lies inside their episode; of an episode that is too short, its last step."""
        first, last = self.cache.first[self.index], self.cache.last[self.index]
        inside = (self.index - self.before >= first) & (self.index + self.after <= last)
        short = (last - first < self.before + self.after) & (self.index == last - 1)
        return self.only(np.flatnonzero(inside | short))

    def without_last(self) -> Steps:
        """Only the steps after which the episode goes on: without the last one of each."""
        return self.only(np.flatnonzero(self.index + 1 < self.cache.last[self.index]))

    def uniform(self, count: int, *address: int | str) -> Steps:
        """`count` steps drawn uniformly without replacement; the address names the draw.

        Raises:
            UnusableInput: there are fewer steps than asked for, or none is asked for.
        """
        enough(count, len(self))
        picked = rng.numpy_rng(*address, "labels").choice(len(self), count, replace=False)
        return self.only(np.sort(picked))

    def first(self, count: int) -> Steps:
        """The first `count` steps, as those of a person who labels from the beginning.

        Raises:
            UnusableInput: there are fewer steps than asked for, or none is asked for.
        """
        enough(count, len(self))
        return self.only(np.arange(count))

    def fold(self, parts: int, number: int, *address: int | str) -> tuple[Steps, Steps]:
        """Splits the steps for cross-fitting: (all but part `number`, part `number`) of `parts`."""
        if not 2 <= parts <= len(self):
            raise UnusableInput(f"cannot split {len(self)} steps into {parts} parts")
        order = rng.numpy_rng(*address, "folds").permutation(len(self))
        held = np.sort(order[number::parts])
        return self.only(np.setdiff1d(np.arange(len(self)), held)), self.only(held)

    def with_actions(
        self,
        actions: npt.NDArray[np.float32],
        source: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.float32],
        digest: str,
    ) -> Steps:
        """The same steps with these actions, given in the order of the steps; frames are not copied."""
        if not len(actions) == len(source) == len(confidence) == len(self):
            raise UnusableInput(f"{len(actions)} actions were given for {len(self)} steps")
        rows = len(self.cache.episode)
        columns: dict[str, npt.NDArray[Any]] = {
            **{name: self.columns[name] for name in (*OUTCOMES, PROPRIO) if name in self.columns},
            "actions": np.zeros((rows, actions.shape[1]), np.float32),
            "source": np.full(rows, MISSING, np.uint8),
            "confidence": np.zeros(rows, np.float32),
        }
        for name, values in (("actions", actions), ("source", source), ("confidence", confidence)):
            columns[name][self.index] = values
        return replace(self, columns=columns, digest=_digest(self.digest, digest))

    def with_features(self, features: npt.NDArray[np.float32]) -> Steps:
        """The same steps, showing in the place of frames what a model made of each frame of the cache, once for all."""
        if len(features) != len(self.cache.frames):
            raise UnusableInput(f"features of {len(features)} frames were given for {len(self.cache.frames)} frames")
        digest = hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()
        return replace(self, features=features, digest=_digest(self.digest, digest))

    def per_frame(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Lays out values of both frames of each step ("n 2 d", in order) by the frames of the cache, zeros between."""
        table = np.zeros((len(self.cache.frames), *values.shape[2:]), np.float32)
        for number in (1, 0):
            table[self.index + number] = values[:, number]
        return table

    def begins(self) -> Steps:
        """Only the first steps of episodes."""
        return self.only(np.flatnonzero(self.index == self.cache.first[self.index]))

    def batch(self, positions: npt.NDArray[Any]) -> Clip:
        """Windows around the steps at these positions: frames b (before+1+after) c h w; edges of episodes repeat."""
        t = self.index[positions]
        offsets = np.arange(-self.before, self.after + 1)
        raw = t[:, None] + offsets
        first, last = self.cache.first[t][:, None], self.cache.last[t][:, None]
        rows = np.clip(raw, first, last)
        episode = self.cache.episode[t]
        segment = np.where((raw < first) | (raw > last), -1, episode[:, None]).astype(np.int32)
        step_rows, real = rows[:, :-1], (segment[:, 1:] >= 0) & (segment[:, :-1] >= 0)
        source = np.where(real, self.columns["source"][step_rows], MISSING)
        return Clip(
            frames=torch.from_numpy(self.cache.frames[rows]) if self.features is None else None,
            features=None if self.features is None else torch.from_numpy(self.features[rows]),
            actions=torch.from_numpy(self.columns["actions"][step_rows]),
            source=torch.from_numpy(source.astype(np.uint8)),
            confidence=torch.from_numpy(self.columns["confidence"][step_rows]),
            **{name: torch.from_numpy(self.columns[name][step_rows]) for name in OUTCOMES if name in self.columns},
            **({PROPRIO: torch.from_numpy(self.columns[PROPRIO][rows])} if PROPRIO in self.columns else {}),
            segment=torch.from_numpy(segment),
            times=torch.from_numpy((rows - first) / float(self.cache.fps)),
            text=tuple(self.cache.texts[e] for e in episode),
        )

    def draw(self, count: int, *address: int | str, rank: int = 0, world: int = 1) -> Clip:
        """Draws a batch of `count` windows, a function of the address and of each row's global number."""
        if not len(self):
            raise UnusableInput("there are no steps to draw from; the selection is empty")
        positions = rng.numpy_rng(*address, "batch").integers(0, len(self), count)
        return self.batch(positions[rank * count // world : (rank + 1) * count // world])

    def batches(self, count: int) -> Iterator[tuple[npt.NDArray[np.int64], Clip]]:
        """All steps in order, `count` at a time: (positions, windows)."""
        for start in range(0, len(self), count):
            positions = np.arange(start, min(start + count, len(self)))
            yield positions, self.batch(positions)

    def target_actions(self) -> Tensor:
        """The actions of the steps themselves, in order: n d."""
        return torch.from_numpy(self.columns["actions"][self.index])

    def episode_ids(self, clip: Clip) -> list[str]:
        """Names of the episodes in a batch, for messages."""
        if clip.segment is None:
            return []
        numbers = sorted({int(n) for n in clip.segment.flatten().tolist() if n >= 0})
        return [self.cache.ids[n] for n in numbers]


def enough(asked: int, there: int) -> None:
    """Raises UnusableInput unless 1 to all of the steps that there are were asked for as labels."""
    if asked < 1:
        raise UnusableInput(f"{asked} labels were asked for; ask for 1 or more")
    if asked > there:
        raise UnusableInput(f"{asked} labels were asked for and the data has {there} steps; ask for fewer")


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
