"""Replay: recorded steps, and those that a part plays in a world while it is trained.

How many of its own steps there are is a function of the training step, whole episodes are played between two of them,
and an episode is a function of its level, the seed and the weights at that step. So a run that was killed goes on with
the same data: what lies beyond its checkpoint is what would be played again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.growing import Growing
from retrodict.data.store import Store
from retrodict.errors import Incompatible, UnusableInput
from retrodict.roles import Policy
from retrodict.run.collect import LEVELS, schema_of

if TYPE_CHECKING:
    from retrodict.envs.world import World

OWN = LEVELS // 2  # first of a seed's levels that are not recorded but played


def refuse_unlike(cache: Cache, world: World) -> None:
    """Raises Incompatible where a world shows or takes other things than were recorded."""
    for what, recorded, played in (
        ("actions", cache.space.columns, world.actions.columns), ("frames", cache.size, world.size),
        ("frames/s", cache.fps, world.fps), ("numbers", cache.proprio, len(world.proprio)),
    ):  # fmt: skip
        if recorded != played:
            raise Incompatible(f"{world.name} has {what} {played} and what was recorded {recorded}; record it anew")


@dataclass
class Replay:
    """`steps` steps of a world under `policy(part)`, the last of them before the last training step, beside recorded
    ones; all copies of the world play with the same weights.

    `view` windows of a batch lie inside their episode where it is long enough (`Steps.whole`), unless `whole` is false.
    """

    recorded: Steps
    world: World
    policy: Callable[[Any], Policy]
    steps: int
    whole: bool = True
    _grown: Growing = field(init=False)
    _store: Store | None = field(init=False, default=None)
    _pending: list[Clip] = field(init=False, default_factory=list)
    _there: int = field(init=False, default=0)  # played episodes at the training step

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UnusableInput(f"a part plays one step or more while it is trained; got {self.steps}")
        refuse_unlike(self.recorded.cache, self.world)
        self._grown = Growing(self.recorded, self.whole)

    @property
    def digest(self) -> str:
        """Hash of where and how long is played, and of what was recorded."""
        told = [self.recorded.digest, self.world.name, str(self.world.num_envs), str(self.steps)]
        told += [] if self.whole else ["cut"]
        return hashlib.sha256("|".join([*told, str(schema_of(self.world).to_json())]).encode()).hexdigest()[:16]

    @property
    def before(self) -> int:
        """Frames of a window before the drawn step."""
        return self.recorded.before

    @property
    def after(self) -> int:
        """Frames of a window after the drawn step's first."""
        return self.recorded.after

    @contextmanager
    def kept(self, folder: Path) -> Iterator[None]:
        """Keeps what is played in a folder, and takes in what lies there already."""
        with Store.open_or_create(folder, schema_of(self.world)) as store:
            self._store = store
            self.forget()
            self._grown.append([store.read(id) for id in store.ids])
            yield
            self.commit()

    def forget(self) -> None:
        """Leaves out all that was played and is not written down, as after a trial of how long a step takes."""
        self._grown, self._pending = Growing(self.recorded, self.whole), []

    def commit(self) -> None:
        """Writes down what was played since the last time."""
        if self._store is not None and self._pending:
            self._store.append(self._pending, {"world": self.world.name, "policy": "in training"})
        self._pending = []

    def at(self, step: int, of: int, part: Any, seed: int, device: str = "cpu") -> Steps:
        """All steps that there are at training step `step` of `of`; plays what is missing, with the part as it is."""
        due = min(self.steps, -(-self.steps * (step + 1) // of))
        while (episodes := self._grown.holding(due, self.world.num_envs)) is None:
            self._play(part, seed, device)
        self._there = episodes
        return self._grown.first(episodes)

    def _play(self, part: Any, seed: int, device: str) -> None:
        from retrodict.envs.rollout import policy_actor, rollout

        first = seed * LEVELS + OWN + self._grown.episodes
        was = part.training
        part.eval()
        actor = policy_actor(self.policy(part), self.world, mode=False, seed=seed, device=device)
        with torch.no_grad():
            clips = [clip for clip, _, _ in rollout(self.world, range(first, first + self.world.num_envs), actor)]
        part.train(was)
        self._grown.append(clips)
        self._pending += clips

    def episode_ids(self, clip: Clip) -> list[str]:
        """Names of the episodes in a batch, for messages."""
        return self._grown.first(self._there).episode_ids(clip)

    def returns(self, last: int = 20) -> float:
        """Mean return of the episodes that were played last, at the training step; none from beyond a checkpoint."""
        return float(np.mean(self._grown.returns[: self._there][-last:])) if self._there else 0.0
