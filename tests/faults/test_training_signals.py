"""F6: SIGTERM and SIGINT at every stage of the loop: committed, the line that resumes, equal weights after it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrodict import rng
from retrodict.errors import Damaged, Interrupted
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.roles import View
from retrodict.run import checkpoint, loop
from retrodict.run.loop import Fit, weights_hash
from retrodict.run.run import Run, Views
from retrodict.run.update import Update

EXIT = {signal.SIGTERM: 143, signal.SIGINT: 130}


def pipeline(folder: Path, views: Views, commit_steps: int = 0) -> str:
    seconds = {"inverse": 1e6}  # a time share that allows all steps, after 14 trial steps
    with Run(folder, views, resume="retrodict train again", seconds=seconds, commit_steps=commit_steps) as run:
        with rng.isolated("weights"):
            part = Inverse(View(2, size=(36, 36)), views.labelled.cache.space, patch=4, width=4, depth=1, hidden=8)
        part = run.fit("inverse", part, labelled, views.labelled, Fit(steps=6, batch=4))
        twice = views.unlabelled.only(np.resize(np.arange(len(views.unlabelled)), 600))  # two batches of labelling
        return weights_hash(part) + run.label("labels", part, twice).digest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sprites: Views) -> str:
    return pipeline(tmp_path_factory.mktemp("whole"), sprites)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals that come outside of a stage must not end the tests, and a stage must leave handlers as they were."""
    before = {number: signal.getsignal(number) for number in EXIT}
    yield
    assert {number: signal.getsignal(number) for number in EXIT} == before


def raise_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, number: int, only: str = "") -> None:
    """Sends a signal to this process when a function is called for the n-th time."""
    inner, calls = getattr(owner, name), 0

    def sending(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += not only or str(args[0]).endswith(only)
        if calls == call:
            calls += 1
            os.kill(os.getpid(), number)
        return inner(*args, **named)

    monkeypatch.setattr(owner, name, sending)


STAGES: dict[str, tuple[Any, str, int, str, str]] = {
    "the time share is measured": (loop, "_within_time", 1, "", "committed at step 1 of 6"),
    "a checkpoint is looked for": (loop, "_restore", 1, "", "committed at step 1 of 6"),
    "a batch is drawn": (loop, "_draw", 14 + 3, "", "committed at step 3 of 6"),
    "gradients are taken": (Update, "__call__", 14 + 4, "", "committed at step 4 of 6"),
    "the last step": (loop, "_step", 14 + 6, "", "inverse is finished"),
    "the stage is saved": (checkpoint, "save_folder", 1, "done", "inverse is finished"),
    "steps are labelled": (Inverse, "infer", 1, "", "labels will start again"),
    "the labels are saved": (checkpoint, "save_folder", 2, "done", "labels is finished"),
}


@pytest.mark.parametrize("number", EXIT)
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_commits_and_leaves(
    tmp_path: Path, sprites: Views, whole: str, monkeypatch: pytest.MonkeyPatch, stage: str, number: signal.Signals
) -> None:
    owner, name, call, only, kept = STAGES[stage]
    with monkeypatch.context() as patch:
        raise_at(patch, owner, name, call, number, only)
        with pytest.raises(Interrupted) as caught:
            pipeline(tmp_path, sprites)
    assert caught.value.exit_code == EXIT[number]
    assert str(caught.value).startswith(number.name)
    assert kept in str(caught.value)
    assert str(caught.value).endswith("Resume with: retrodict train again")
    assert pipeline(tmp_path, sprites) == whole


def test_a_signal_during_a_commit_waits_for_it(
    tmp_path: Path, sprites: Views, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(stage: loop.Stage, *rest: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        inner(stage, *rest)

    inner = loop._commit
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_commit", commit)
        with pytest.raises(Interrupted, match="committed at step 2 of 6"):
            pipeline(tmp_path, sprites, commit_steps=2)
    assert checkpoint.newest(tmp_path / "stages" / "inverse")[0] == 2  # type: ignore[index]
    assert pipeline(tmp_path, sprites) == whole


def test_the_second_signal_leaves_at_once_and_nothing_is_lost(
    tmp_path: Path, sprites: Views, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        raise_at(patch, loop, "_step", 14 + 2, signal.SIGTERM)
        raise_at(patch, loop, "_commit", 1, signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            pipeline(tmp_path, sprites)
    assert caught.value.code == 143
    assert pipeline(tmp_path, sprites) == whole


def test_what_a_stage_cost_before_it_was_interrupted_counts(
    tmp_path: Path, sprites: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        raise_at(patch, Update, "__call__", 14 + 4, signal.SIGTERM)
        with pytest.raises(Interrupted):
            pipeline(tmp_path, sprites)
    noted = tmp_path / "stages/inverse/spent.json"
    assert json.loads(noted.read_text())["seconds"] > 0
    noted.write_text("{")
    with pytest.raises(Damaged, match=r"spent\.json is damaged"):
        pipeline(tmp_path, sprites)
    noted.write_text(json.dumps({"seconds": 1000.0, "cpu_seconds": 500.0}))
    pipeline(tmp_path, sprites)
    told = checkpoint.load_folder(tmp_path / "stages/inverse/done")[1]["spent"]
    assert 1000 <= told["seconds"] < 1500
    assert 500 <= told["cpu_seconds"] < 1000
    assert not noted.exists()
