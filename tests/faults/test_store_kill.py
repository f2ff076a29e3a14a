"""kill -9 while appending: every acknowledged episode is there, whole, in order, once. And one writer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from kills import told_before_kill
from store_samples import SCHEMA, dataset, episode, whole

from retrodict.data.check import check
from retrodict.data.store import Store
from retrodict.errors import Locked
from retrodict.rng import numpy_rng

RACES = 50 if os.environ.get("RETRODICT_FAULTS") else 5
KILLS = 100 if os.environ.get("RETRODICT_FAULTS") else 10


def append_until_killed(folder: Path, acknowledge: int) -> None:
    """Appends groups of one, two or three episodes for ever; writes the number of episodes before and after each."""
    store = Store.open(folder, write=True)
    os.write(acknowledge, f"{len(store.ids)}\n".encode())
    while True:
        start = len(store.ids)
        store.append([episode(i) for i in range(start, start + 1 + start % 3)])
        os.write(acknowledge, f"{len(store.ids)}\n".encode())


def test_what_was_acknowledged_survives_a_kill_whole_in_order_and_once(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    Store.create(folder, SCHEMA).close()
    start = time.monotonic()
    dataset(tmp_path / "other", (1, 1, 1, 1))
    append_time = (time.monotonic() - start) / 4
    rng = numpy_rng(0, "kill")
    acknowledged = appended = 0
    for _ in range(KILLS):
        wait = float(rng.uniform(0.0, 3 * append_time))
        told = told_before_kill(partial(append_until_killed, folder), wait)
        assert int(told[0]) == acknowledged  # open: from here on, it appends
        appended += len(told) - 1
        acknowledged = int(told[-1])
        reader = Store.open(folder)  # before any repair
        assert len(reader.ids) >= acknowledged
        acknowledged = len(reader.ids)
        assert len(set(reader.ids)) == len(reader.ids)
    assert appended > 0
    assert whole(Store.open(folder))
    Store.open(folder, write=True).close()
    assert check(folder)["problems"] == []


HOLD = """
import sys, time
from retrodict.data.store import Store
store = Store.open(sys.argv[1], write=True)
print("open", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_refused_at_once_and_a_dead_one_never_blocks(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d").folder
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(Locked, match=f"process {holder.pid}"):
            Store.open(folder, write=True)
        assert whole(Store.open(folder))  # reading needs no lock
    finally:
        holder.kill()
        holder.wait()
    assert (folder / "meta/retrodict/lock").read_text() == f"{holder.pid}\n"  # its name is left, its lock is not
    with Store.open(folder, write=True) as store:
        assert store.append([episode(6)]) == ("000006",)


def test_one_process_cannot_write_twice_either(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d").folder
    with Store.open(folder, write=True) as first:
        with pytest.raises(Locked, match=str(os.getpid())):
            Store.open(folder, write=True)
        first.append([episode(6)])
    Store.open(folder, write=True).close()


def writer(folder: Path, start: int, said: int) -> None:
    """Opens the dataset for writing once `start` is closed, and says how that went; a winner then waits for its end."""
    os.read(start, 1)
    try:
        with Store.open(folder, write=True) as store:
            store.append([episode(len(store.ids))])
            os.write(said, f"{os.getpid()} won\n".encode())
            time.sleep(60)
    except Locked as error:
        os.write(said, f"{os.getpid()} lost: {error}\n".encode())


def test_of_two_writers_that_race_one_is_refused_by_the_other_s_name_and_a_dead_one_never_blocks(
    tmp_path: Path,
) -> None:
    folder, lost = tmp_path / "d", 0
    Store.create(folder, SCHEMA).close()
    for number in range(RACES):
        (start, go), (told, said) = os.pipe(), os.pipe()
        children = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                try:
                    os.close(go)
                    os.close(told)
                    writer(folder, start, said)
                finally:
                    os._exit(0)
            children.append(child)
        os.close(start)
        os.close(said)
        os.close(go)  # both are off
        with os.fdopen(told) as pipe:
            words = dict(pipe.readline().split(" ", 1) for _ in range(2))
            (winner,) = [int(pid) for pid, outcome in words.items() if outcome == "won\n"]
            (loser,) = [outcome for pid, outcome in words.items() if int(pid) != winner]
            lost += f"process {winner}" in loser
            os.kill(winner, signal.SIGKILL)  # its lock is left to the next race
            assert [os.waitpid(child, 0)[0] for child in children] == children
        assert len(Store.open(folder).ids) == number + 1
    assert lost == RACES
    assert whole(Store.open(folder))
    print(f"{RACES} races, {lost} losers named the winner")
