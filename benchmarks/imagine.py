"""What a frame of a played world costs: with the state that is kept, against taking in the whole memory anew.

Usage: python benchmarks/imagine.py [--frames 10000] [--out results/comparisons/imagine.json]

Plays one row of `genie_play.tiny()`'s world (weights do not matter) for so many frames. Prints frames a second at the
start and at the end, their ratio, how much faster that is than without a kept state, and how state and process grew;
--out keeps that with the command, the commit and the versions.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrodict import rng, tree
from retrodict.clip import RECORDED, Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.envs.rollout import rollout, uniform
from retrodict.figures.claims import commit_of_source
from retrodict.figures.trial import setting, world_of
from retrodict.models.recall_world import RecallWorld
from retrodict.models.tokenizers import PatchTokenizer
from retrodict.recipes import genie_play
from retrodict.run.collect import schema_of
from retrodict.run.run import versions

PART = 500  # frames at the start, and at the end, that are timed


def world() -> tuple[RecallWorld, Clip]:
    """The world at its committed size, and a clip to start from that fills its memory."""
    cfg, game = genie_play.tiny(), world_of(setting("scroll"), 4)
    clips = [clip for clip, _, _ in rollout(game, range(4), uniform(game))]
    steps = Steps.all(Cache.build(MemoryStore(schema_of(game), clips)))
    book = PatchTokenizer(steps.cache.view(), 8, cfg.tokens)
    book.learn(steps.batch(np.arange(0, 200, 4)), rng.torch_rng(0))
    told, space = genie_play.with_events(steps, cfg.events, cfg.meanwhile)
    with rng.isolated(0):
        made = RecallWorld(book, space, cfg.width, cfg.depth, cfg.heads, cfg.memory, 1, cfg.passes)
    clip = told.shown(steps.cache.view(cfg.memory + 1, cfg.memory - 1)).batch(np.array([60]))
    return made.eval(), clip


def seconds(model: RecallWorld, state: Any, frames: int) -> tuple[float, Any]:
    """Time to imagine so many frames one by one, and the state after them."""
    action = model.space.vector({"move": "right", "event": ""}).expand(1, 1, -1)
    began = time.perf_counter()
    for number in range(frames):
        _, state = model.imagine(state, action, 1, rng.torch_rng("play", number))
    return time.perf_counter() - began, state


def anew(model: RecallWorld, past: Clip, frames: int) -> float:
    """Time of the same when all that is remembered is taken in again for every frame."""
    action = model.space.vector({"move": "right", "event": ""}).expand(1, 1, -1)
    began = time.perf_counter()
    for number in range(frames):
        dream, _ = model.imagine(model.observe(past), action, 1, rng.torch_rng("play", number))
        assert dream.frames is not None
        assert past.frames is not None
        assert past.actions is not None
        actions = torch.cat([past.actions[:, 1:], action], 1)
        past = Clip(
            frames=torch.cat([past.frames[:, 1:], dream.frames[:, 1:]], 1), actions=actions,
            source=torch.full(actions.shape[:2], RECORDED, dtype=torch.uint8),
        )  # fmt: skip
    return time.perf_counter() - began


def size(state: Any) -> int:
    """Bytes of a state."""
    return sum(value.numel() * value.element_size() for value in tree.flatten(state).values())


@torch.no_grad()
def main() -> None:
    """Plays, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    if given.frames < 2 * PART:
        parser.error(f"--frames must be at least {2 * PART}: so many are timed at the start and at the end")
    torch.set_num_threads(1)
    model, clip = world()
    before = anew(model, clip, PART // 10) * 10
    state = model.observe(clip)
    bytes_before = size(state)
    first, state = seconds(model, state, PART)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, state = seconds(model, state, given.frames - 2 * PART)
    last, state = seconds(model, state, PART)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    found = {
        "frames": given.frames, "frames/s at first": round(PART / first, 1), "frames/s at last": round(PART / last, 1),
        "last/first": round(first / last, 2), "faster than anew": round(before / first, 2),
        "state bytes": [bytes_before, size(state)], "process grew by MB": round(grown / 1024, 1),
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    if given.out is not None:
        command = f"python benchmarks/imagine.py --frames {given.frames} --out {given.out}"
        told = {**found, "command": command, "commit": commit_of_source(), "versions": versions()}
        given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
