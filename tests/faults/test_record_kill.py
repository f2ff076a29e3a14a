"""kill -9 while recording: acknowledged episodes stay, and going on gives the dataset that was asked for."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from kills import told_before_kill

from retrodict.data.store import Store
from retrodict.envs.rollout import expert
from retrodict.envs.sprites import Sprites
from retrodict.rng import numpy_rng
from retrodict.run.collect import collect, schema_of

KILLS = 100 if os.environ.get("RETRODICT_FAULTS") else 10
GROUP = 4
EPISODES = 10 * GROUP


def record(folder: Path, acknowledge: int | None = None) -> None:
    """Records what is missing of EPISODES levels, as `retrodict record` does; tells the number of episodes it keeps."""
    world = Sprites(8, size=18)
    with Store.open(folder, write=True) as store:

        def say(line: str = "") -> None:
            if acknowledge is not None:
                os.write(acknowledge, f"{len(store.ids)}\n".encode())

        say()
        levels = range(len(store.ids), EPISODES)
        collect(world, levels, expert(world, 0.3), store, {}, say=say, group=GROUP)
    if acknowledge is not None:
        os.write(acknowledge, b"done\n")  # a kill that comes after it is none


def empty(folder: Path) -> Path:
    Store.create(folder, schema_of(Sprites(1, size=18))).close()
    return folder


def test_recording_goes_on_after_kills_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = empty(tmp_path / "whole")
    began = time.monotonic()
    record(whole)
    longest = (time.monotonic() - began) / 4
    rng, killed, finished = numpy_rng(0, "record kill"), 0, 0
    while killed < KILLS:
        folder, acknowledged, done = empty(tmp_path / str(finished)), 0, False
        while not done and killed < KILLS:
            told = told_before_kill(partial(record, folder), float(rng.uniform(0.0, longest)))
            assert int(told[0]) >= acknowledged
            done = "done" in told
            killed += not done
            acknowledged = int(told[-1 - done])
            assert len(Store.open(folder).ids) >= acknowledged  # before any repair
        record(folder)
        with Store.open(folder) as store:
            assert not store.damages()
            assert store.digest == Store.open(whole).digest  # every level once, in order, the same pixels and actions
        finished += 1
    print(f"{killed} kills while recording, {finished} datasets finished")
