"""kill -9 while recording: acknowledged episodes stay, and going on gives the dataset that was asked for."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from retrodict.data.store import Store
from retrodict.envs.rollout import expert
from retrodict.envs.sprites import Sprites
from retrodict.rng import numpy_rng
from retrodict.run.collect import collect, schema_of

KILLS = 100 if os.environ.get("RETRODICT_FAULTS") else 10
GROUP = 4
EPISODES = 2 * GROUP * KILLS


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


def empty(folder: Path) -> Path:
    Store.create(folder, schema_of(Sprites(1, size=18))).close()
    return folder


def test_recording_goes_on_after_kills_as_if_nothing_had_happened(tmp_path: Path) -> None:
    folder, whole = empty(tmp_path / "killed"), empty(tmp_path / "whole")
    began = time.monotonic()
    record(whole)
    group_time = (time.monotonic() - began) * GROUP / EPISODES
    rng, acknowledged, killed = numpy_rng(0, "record kill"), 0, 0
    for _ in range(KILLS):
        read, write = os.pipe()
        child = os.fork()  # importing torch anew for each kill would take most of the time
        if child == 0:
            try:
                record(folder, write)
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            assert int(pipe.readline()) >= acknowledged
            time.sleep(float(rng.uniform(0.0, 2 * group_time)))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            told = pipe.read().split()
        killed += os.WIFSIGNALED(status)
        acknowledged = int(told[-1]) if told else acknowledged
        assert len(Store.open(folder).ids) >= acknowledged  # before any repair
    assert killed > KILLS // 2, "most kills came too late to prove anything"
    record(folder)
    with Store.open(folder) as store:
        assert not store.damages()
        assert store.digest == Store.open(whole).digest  # every level once, in order, the same pixels and actions
