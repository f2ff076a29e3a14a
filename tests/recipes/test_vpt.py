"""VPT: what it finds out from the labels by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.errors import UnusableInput
from retrodict.models.encoder import FrameEncoder
from retrodict.models.ensemble import Ensemble
from retrodict.recipes import laom, vpt
from retrodict.run.checkpoint import load_system
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views, config_digest


def late(cache: Cache, by: int) -> Views:
    """The same video with every action written down so many steps before its effect; what is not seen is left out."""
    moved = Steps.all(cache).known()
    moved = moved.only(np.flatnonzero(moved.index + by < cache.last[moved.index]))
    columns = {name: value[moved.index + by] for name, value in moved.columns.items()}
    given = (columns["actions"], columns["source"], columns["confidence"])
    return Views(Steps.all(cache, hidden=True), moved.with_actions(*given, f"late {by}"))


def test_a_delay_is_found_from_the_labels(cache: Cache, tmp_path: Path) -> None:
    cfg = replace(vpt.micro(), inputs=(("difference", "changed"),), shifts=(0, 1, 2), choose=Fit(80, 32, 5e-3))
    with Run(tmp_path, late(cache, 1)) as run:
        found, table = vpt.align(cfg, run)
    assert found.before == -1
    assert set(table) == {"0", "1", "2"}
    assert table["1"] > max(table["0"], table["2"]) + 0.1


def test_a_given_delay_is_not_looked_for(cache: Cache, tmp_path: Path) -> None:
    with Run(tmp_path, late(cache, 0)) as run:
        found, table = vpt.align(replace(vpt.micro(), shifts=(2,)), run)
        assert not run.stages
    assert (found.before, table) == (-2, {})


def test_labels_alone_make_no_policy(cache: Cache, tmp_path: Path) -> None:
    with Run(tmp_path, late(cache, 0)) as run:
        system = vpt.train(replace(vpt.micro(), policy=False), run)
        assert "policy" not in run.stages
    assert system.policy is None
    assert system.about["shift"] == 0


def test_settings_that_came_later_change_no_digest_until_they_are_used() -> None:
    digest = config_digest(vpt.tiny())
    assert config_digest(replace(vpt.tiny(), shifts=(0, 1))) != digest
    assert config_digest(replace(vpt.tiny(), points=8)) != digest
    assert config_digest(replace(vpt.tiny(), width=8)) != digest
    assert config_digest(replace(vpt.tiny(), points=4)) == digest


def test_frozen_features_of_a_saved_system_are_an_input(cache: Cache, tmp_path: Path) -> None:
    folder, data = str(tmp_path / "features"), late(cache, 0)
    with Run(folder, data) as run:
        run.finish(laom.train(laom.micro(), run), {})
    cfg = replace(vpt.micro(), inputs=(("features", "mean_max"),), policy=False)
    with Run(tmp_path / "without", data) as run, pytest.raises(UnusableInput, match="an encoder goes with inputs"):
        vpt.train(cfg, run)
    with Run(tmp_path / "run", data) as run:
        run.finish(vpt.train(replace(cfg, features=folder), run), {})
    loaded = load_system(tmp_path / "run").inverse
    assert isinstance(loaded, Ensemble)
    taken = load_system(folder).encoder
    assert isinstance(taken, FrameEncoder)
    for member in loaded.members:  # saved with it, and not trained
        found = member.net.encoder.state_dict()  # type: ignore[union-attr]
        assert all(found[name].equal(value) for name, value in taken.state_dict().items())
