"""kill -9 while labelling: every acknowledged episode's labels are there, whole and once, and the work goes on."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import torch
from kills import told_before_kill

from retrodict.clip import Clip
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.label import infer
from retrodict.label.infer import Labelled, Labeller, infer_episodes
from retrodict.rng import numpy_rng
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution, categorical

KILLS = 100 if os.environ.get("RETRODICT_FAULTS") else 10
SPACE = ActionSpace((categorical("move", ("a", "b", "c")),))
SOURCE = Schema(SPACE, {"observation.image": (8, 8, 3)}, 10)
LABELS = Schema(SPACE, {}, 10)


class Colours:
    """A belief that depends on the frames alone, so that the right labels are known."""

    view, space = View(size=(8, 8), frames=2), SPACE

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        return Distribution(SPACE, clip.frames[:, 1:].float().mean((3, 4)) / 40)


def footage(episodes: int) -> MemoryStore:
    store = MemoryStore(SOURCE)
    for number in range(episodes):
        rng = torch.Generator().manual_seed(number)
        store.append(
            [Clip(frames=torch.randint(0, 256, (1, 3 + number % 5, 3, 8, 8), generator=rng, dtype=torch.uint8))]
        )
    return store


def label_until_killed(folder: Path, source: MemoryStore, acknowledge: int) -> None:
    def tell(line: str = "") -> None:
        os.write(acknowledge, f"{len(labels.ids)}\n".encode())

    with Store.open(folder, write=True) as labels:
        tell()
        infer.GROUP = 10  # frames: about two episodes
        infer_episodes(Labeller(Colours()), source, labels, "model", tell)
    os.write(acknowledge, b"done\n")  # a kill that comes after it is none


def test_acknowledged_labels_survive_kills_and_the_rest_is_done_once(tmp_path: Path) -> None:
    source, whole = footage(40), tmp_path / "whole"
    with Store.create(whole, LABELS) as reference:
        began = time.monotonic()
        infer_episodes(Labeller(Colours()), source, reference, "model")
    longest = (time.monotonic() - began) / 8
    rng, killed, finished = numpy_rng(0, "label kill"), 0, 0
    while killed < KILLS:
        folder, acknowledged, done = tmp_path / str(finished), 0, False
        Store.create(folder, LABELS).close()
        while not done and killed < KILLS:
            wait = float(rng.uniform(0.0, longest))
            told = told_before_kill(partial(label_until_killed, folder, source), wait)
            assert int(told[0]) >= acknowledged
            done = "done" in told
            killed += not done
            acknowledged = int(told[-1 - done])
            there = Store.open(folder)  # before any repair
            assert len(there.ids) >= acknowledged
            assert there.ids == source.ids[: len(there.ids)]  # in order, each once
        with Store.open(folder, write=True) as labels:
            infer_episodes(Labeller(Colours()), source, labels, "model")
            assert labels.digest == Store.open(whole).digest  # the same labels as without a kill
            assert not labels.damages()
            Labelled(source, labels)
        finished += 1
    print(f"{killed} kills while labelling, {finished} datasets of labels finished")
