"""Selections of steps."""

from __future__ import annotations

import torch

from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.spaces import ActionSpace, categorical

SPACE = ActionSpace((categorical("move", ("stay", "go")),))


def test_without_the_last_step_of_each_episode_every_step_goes_on() -> None:
    clips = [Clip(frames=torch.zeros(1, length, 3, 8, 8, dtype=torch.uint8)) for length in (4, 2, 3)]
    cache = Cache.build(MemoryStore(Schema(SPACE, {"observation.image": (8, 8, 3)}, 10), clips))
    steps = Steps.all(cache)
    assert steps.index.tolist() == [0, 1, 2, 4, 6, 7]
    assert steps.without_last().index.tolist() == [0, 1, 6]
    assert steps.without_last().digest != steps.digest
