"""retrodict record: resumable, whole, and the same however it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrodict import cli
from retrodict.clip import RECORDED
from retrodict.data.store import Store
from retrodict.run import collect


def record(out: Path, *more: str) -> int:
    return cli.main(["record", "sprites", "--out", str(out), "--json", *more])


def test_going_on_gives_the_same_dataset_as_going_through(tmp_path: Path) -> None:
    assert record(tmp_path / "a", "--episodes", "23", "--random", "0.3") == 0
    assert record(tmp_path / "b", "--episodes", "9", "--random", "0.3") == 0
    assert record(tmp_path / "b", "--episodes", "23", "--random", "0.3") == 0
    assert Store.open(tmp_path / "a").digest == Store.open(tmp_path / "b").digest
    assert record(tmp_path / "a", "--episodes", "23", "--random", "0.3") == 0  # done already
    assert len(Store.open(tmp_path / "a").ids) == 23


def test_frames_are_reached_with_whole_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record(tmp_path / "d", "--frames", "100") == 0
    told = json.loads(capsys.readouterr().out)
    store = Store.open(tmp_path / "d")
    lengths = list(store.lengths.values())
    assert told["frames"] == sum(lengths) >= 100
    assert sum(lengths[:-1]) < 100  # one episode fewer would not do
    last = store.read(store.ids[-1])
    assert last.ends is not None
    assert last.ends[0, -1] == 1  # the expert arrived: the last episode is whole


@pytest.mark.parametrize("more", [["--seed", "1"], ["--random", "0.5"], ["--policy", "random"], ["--set", "size=45"]])
def test_another_recording_does_not_mix_in(tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert record(tmp_path / "d", "--episodes", "4") == 0
    before = Store.open(tmp_path / "d").digest
    assert record(tmp_path / "d", "--episodes", "8", *more) == 2
    assert "was not recorded by this command" in capsys.readouterr().err
    assert Store.open(tmp_path / "d").digest == before


def test_seeds_have_levels_of_their_own(tmp_path: Path) -> None:
    first, second = [], []
    for seed, found in ((0, first), (1, second)):
        assert record(tmp_path / str(seed), "--episodes", "3", "--seed", str(seed)) == 0
        store = Store.open(tmp_path / str(seed))
        found += [store.hash(id) for id in store.ids]
    assert not set(first) & set(second)


def test_a_world_with_options_is_recorded_as_asked(tmp_path: Path) -> None:
    assert record(tmp_path / "d", "--episodes", "2", "--set", "size=54", "--set", "limit=5", "--policy", "random") == 0
    store = Store.open(tmp_path / "d")
    assert store.schema.size == (54, 54)
    clip = store.read(store.ids[0])
    assert clip.steps <= 5
    assert clip.source is not None
    assert bool((clip.source == RECORDED).all())


def test_an_interrupt_keeps_the_groups_that_were_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, calls = Store.append, []

    def interrupted(self: Store, *arguments: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return append(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "append", interrupted)
    assert record(tmp_path / "d", "--episodes", str(collect.GROUP + 10)) == 130
    monkeypatch.undo()
    assert len(Store.open(tmp_path / "d").ids) == collect.GROUP
    assert record(tmp_path / "d", "--episodes", str(collect.GROUP + 10)) == 0
    assert record(tmp_path / "whole", "--episodes", str(collect.GROUP + 10)) == 0
    assert Store.open(tmp_path / "d").digest == Store.open(tmp_path / "whole").digest


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--policy", "nowhere"], "nowhere"),
        (["--random", "2"], "must lie in 0..1"),
        (["--set", "size=large"], "size must be of type int, got 'large'"),
        (["--set", "siez=45"], "Did you mean 'size'"),
        (["--set", "n=3"], "no option of world 'sprites' named 'n'"),
        (["--set", "fps=0"], "fps"),
        (["--episodes", "1000001"], "1,000,000 levels"),
    ],
)
def test_wrong_use_writes_nothing(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(tmp_path / "d", "--episodes", "2", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "no scripted expert"),
        (["--policy", "random", "--set", "render_mode=human"], "cannot be set"),
        (["--policy", "random", "--set", "colour=red"], "unexpected keyword argument 'colour'"),
    ],
)
def test_wrong_use_of_a_foreign_world_writes_nothing(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["record", "CartPole-v1", "--episodes", "2", "--out", str(tmp_path / "d"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_the_next_command_can_be_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["record", "sprites", "--episodes", "1", "--out", str(tmp_path / "a b")]) == 0
    assert f"--data '{tmp_path}/a b' --labels" in capsys.readouterr().out
