"""A recorded world of numbers and axes, where that of sprites has frames and choices."""

from __future__ import annotations

from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.envs.pendulum import Pendulum
from retrodict.envs.rollout import rollout, uniform
from retrodict.run.collect import schema_of
from retrodict.run.run import Views


def short() -> Pendulum:
    """A pendulum in episodes of 24 steps."""
    world = Pendulum(2)
    world.limit = 24
    return world


def swings() -> Views:
    """Its numbers and torques, at random."""
    world = short()
    clips = [clip for clip, _, _ in rollout(world, range(6), uniform(world, 0))]
    cache = Cache.build(MemoryStore(schema_of(world), clips))
    return Views(Steps.all(cache, hidden=True), Steps.all(cache).known())
