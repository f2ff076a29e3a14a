"""retrodict act and imagine: policies and planners scored beside each other, dreams beside what came, both as videos.

The run is made by hand: its world is the game of catch itself, so what it imagines is known.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict import cli
from retrodict.clip import MISSING, Clip
from retrodict.data.store import Store
from retrodict.envs import catch
from retrodict.envs.catalog import make
from retrodict.envs.rollout import policy_actor, rollout
from retrodict.errors import NoFrames
from retrodict.rng import torch_rng
from retrodict.roles import System, View
from retrodict.run import checkpoint
from retrodict.run.checkpoint import load_system
from retrodict.serve.start import own_world
from retrodict.spaces import ActionSpace, Distribution, categorical

NAMES = ("row", "column", "paddle")
MOVES = ActionSpace((categorical("move", catch.ACTIONS),))


class TrueCatch:
    """Catch as a forward model, whose features are row, column and paddle; with `still` its frames never change."""

    view, space = View(size=(16, 16)), MOVES

    def __init__(self, still: bool = False, blind: bool = False) -> None:
        self.still, self.blind = still, blind

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.frames is not None
        found = catch.read(past.frames[:, -1].permute(0, 2, 3, 1).numpy())
        return {name: torch.as_tensor(found[name]) for name in NAMES}

    def imagine(self, state: Any, actions: Tensor, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        seen, rewards, ends = [state], [], []
        for step in range(steps):
            paddle = (state["paddle"] + actions[:, step].argmax(-1) - 1).clamp(0, catch.COLUMNS - 1)
            over = state["row"] >= catch.FALL
            row = (state["row"] + 1).clamp_max(catch.FALL)
            landed = (row == catch.FALL) & ~over
            state = {"row": row, "column": state["column"], "paddle": paddle}
            rewards.append(landed * torch.where(paddle == state["column"], 1.0, -1.0))
            ends.append(landed.float())
            seen.append(seen[0] if self.still else state)
        features = torch.stack([torch.stack([one[name] for name in NAMES], -1) for one in seen], 1)
        return Clip(features=features, rewards=torch.stack(rewards, 1), ends=torch.stack(ends, 1)), state

    def decode(self, clip: Clip) -> Clip:
        if self.blind:
            raise NoFrames("this world has no decoder")
        assert clip.features is not None
        states = dict(zip(NAMES, clip.features.flatten(0, 1).unbind(-1), strict=True))
        frames = catch.render({name: value.numpy() for name, value in states.items()})
        shaped = torch.from_numpy(frames).permute(0, 3, 1, 2).unflatten(0, clip.features.shape[:2])
        return clip.with_(frames=shaped.contiguous())

    def log_prob(self, clip: Clip) -> Tensor:
        raise NotImplementedError


class Wavering:
    """A policy that is a little surer of the right move than of others."""

    view, space = View(size=(16, 16)), MOVES

    def act(self, past: Clip, memory: Any = None) -> tuple[Distribution, Any]:
        assert past.frames is not None
        found = catch.read(past.frames[:, -1].permute(0, 2, 3, 1).numpy())
        right = torch.as_tensor(1 + np.sign(found["column"] - found["paddle"]))
        return Distribution(MOVES, 0.3 * MOVES.one_hot(right)), None


def film(path: Path) -> np.ndarray:
    with av.open(str(path)) as box:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in box.decode(video=0)])


def pretend(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    monkeypatch.setattr(checkpoint, "load_system", lambda folder: system)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "d"
    assert cli.main(["record", "catch", "--episodes", "4", "--policy", "random", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("planner", ["random_shooting", "cem", "icem", "mppi"])
def test_a_planner_in_a_true_world_wins_and_a_policy_has_two_rows(
    planner: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, System(forward=TrueCatch(blind=True), policy=Wavering()))  # rewards need no frames
    line = ["act", "runs/x", "--env", "catch", "--episodes", "20", "--planner", planner, "--horizon", "6"]
    assert cli.main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["policy"], row["actions"]) for row in told["policies"]] == [
        ("runs/x", planner), ("runs/x", "sampled"), ("runs/x", "mode"), ("random", None), ("expert", None),
    ]  # fmt: skip
    thinks, draws, sure, chance, expert = told["policies"]
    assert thinks["success"] == sure["success"] == expert["success"] == 1.0
    assert draws["success"] < 1.0
    assert chance["mean_return"] < 0 < expert["mean_return"]
    for row in told["policies"]:
        assert row["mean_return"] == pytest.approx(2 * row["success"] - 1)
        assert row["return_low"] <= row["mean_return"] <= row["return_high"]
    assert draws["return_low"] < draws["mean_return"] < draws["return_high"]


def test_a_return_of_one_episode_has_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["act", "smooth", "--env", "catch", "--episodes", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["policies"]
    assert [row["policy"] for row in rows] == ["smooth", "random", "expert"]
    assert rows[0]["return_low"] is rows[0]["return_high"] is None


def test_a_video_shows_the_first_episodes_of_who_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "videos/expert.mp4"
    assert cli.main(["act", "expert", "--env", "catch", "--episodes", "5", "--video", str(path)]) == 0
    assert f"3 episodes of the first row in {path}" in capsys.readouterr().out
    frames = film(path)
    assert frames.shape == (3 * (catch.FALL + 1), 288, 288, 3)
    found = catch.read(frames)
    assert found["row"].tolist() == [*range(catch.FALL + 1)] * 3
    last = slice(catch.FALL, None, catch.FALL + 1)
    assert found["paddle"][last].tolist() == found["column"][last].tolist()  # the expert catches
    assert [file.name for file in path.parent.iterdir()] == ["expert.mp4"]


def test_a_video_of_a_run_shows_what_its_first_row_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its policy, which draws its actions, stands above its mode, chance and the expert."""
    pretend(monkeypatch, System(policy=Wavering()))
    path = tmp_path / "policy.mp4"
    line = ["act", "runs/x", "--env", "catch", "--episodes", "4", "--seed", "7", "--video", str(path), "--json"]
    assert cli.main(line) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["policies"][0]["policy"], told["policies"][0]["actions"]) == ("runs/x", "sampled")
    frames = film(path)
    assert frames.shape == (3 * (catch.FALL + 1), 288, 288, 3)  # of the four episodes
    levels, world = range(told["first_level"], told["first_level"] + 3), make("catch", 3)
    played = rollout(world, levels, policy_actor(Wavering(), world, mode=False))
    wanted = torch.cat([clip.frames[0] for clip, _, _ in played])  # type: ignore[index]
    seen, right = catch.read(frames), catch.read(wanted.permute(0, 2, 3, 1).numpy())
    assert all(seen[name].tolist() == right[name].tolist() for name in NAMES)
    last = slice(catch.FALL, None, catch.FALL + 1)
    assert (seen["paddle"][last] != seen["column"][last]).any()  # the mode and the expert catch them all


def test_what_cannot_act_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["act", "runs/x", "--env", "catch", "--episodes", "2"]

    def refused(system: System, *more: str) -> str:
        pretend(monkeypatch, system)
        assert cli.main([*line, *more]) == 2
        return capsys.readouterr().err

    assert "--planner cem" in refused(System(forward=TrueCatch()))
    assert "no world to think in" in refused(System(policy=Wavering()), "--planner", "cem")
    assert "Did you mean 'cem'" in refused(System(forward=TrueCatch()), "--planner", "cemm")
    assert "choices or keys" in refused(System(forward=TrueCatch()), "--planner", "gradient")
    small = ("--env", "sprites", "--samples", "2", "--horizon", "1")
    assert "no rewards" in refused(load_system(own_world()), "--planner", "cem", *small)
    assert cli.main(["act", "expert", "--env", "catch", "--planner", "cem"]) == 2
    assert "world of a run" in capsys.readouterr().err
    assert "--samples 2 or more; got 8 and 1" in refused(
        System(forward=TrueCatch()), "--planner", "cem", "--samples", "1"
    )
    assert "--planner" in refused(System(policy=Wavering()), "--horizon", "3")


def test_a_video_that_cannot_be_written_is_refused_before_anything_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("retrodict.cli.act.scored", lambda *given: pytest.fail("it was played"))
    for path, why in (
        (tmp_path, "expected the name of a video file"), (tmp_path / "file/film.mp4", "file is none"),
        (tmp_path / "film.gif", "written as mp4; call it"),
    ):  # fmt: skip
        assert cli.main(["act", "random", "--env", "catch", "--episodes", "3", "--video", str(path)]) == 2
        assert why in capsys.readouterr().err
        assert cli.main(["imagine", "runs/x", "--from", "d:0", "--out", str(path)]) == 2
        assert why in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_dream_stands_beside_what_came(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The true world is never wrong; the still one is the last frame for ever, so its skill is 0."""
    for still in (False, True):
        pretend(monkeypatch, System(forward=TrueCatch(still)))
        path = tmp_path / f"{still}.mp4"
        line = ["imagine", "runs/x", "--from", f"{recorded}:2", "--seen", "4", "--out", str(path)]
        capsys.readouterr()
        assert cli.main([*line, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["seen"], told["steps"], told["actions"]) == (4, catch.FALL - 3, "recorded")
        assert [point["step_ahead"] for point in told["errors"]] == [*range(1, catch.FALL - 2)]
        for point in told["errors"]:
            assert point["of_last_frame"] > 0
            assert point["skill"] == (0 if still else 1)
            assert point["error"] == (point["of_last_frame"] if still else 0)
        frames = film(path)
        assert frames.shape == (catch.FALL + 1, 288, 288 + 8 + 288, 3)
        left, right = catch.read(frames[:, :, :288]), catch.read(frames[:, :, 296:])
        assert left["row"].tolist() == [*range(catch.FALL + 1)]
        assert left["seen"].all()
        assert right["seen"].tolist() == [False] * 4 + [True] * (catch.FALL - 3)  # dimmed while it is shown
        assert right["row"][4:].tolist() == [3] * 10 if still else left["row"][4:].tolist()
        assert cli.main([*line, "--steps", "3"]) == 0
        assert "4 frames seen, 3 steps imagined under the actions recorded" in capsys.readouterr().out
        assert len(film(path)) == 7


def test_codes_are_read_where_a_world_speaks_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path, own = tmp_path / "d", tmp_path / "x.mp4", load_system(own_world())
    assert cli.main(["record", "sprites", "--episodes", "2", "--random", "1", "--out", str(data)]) == 0
    for system, how in ((own, "recorded"), (System(inverse=own.inverse, forward=own.forward), "read by its inverse")):
        pretend(monkeypatch, system)
        line = ["imagine", "runs/x", "--from", f"{data}:0", "--seen", "2", "--steps", "4", "--out", str(path)]
        assert cli.main(line) == 0
        told = capsys.readouterr().out
        assert f"actions {how}" in told
        assert float(told.split("\n4 ")[1].split()[2]) > 0  # skill four steps ahead
    pretend(monkeypatch, System(forward=own.forward))
    assert cli.main(line) == 2
    assert "give an inverse model" in capsys.readouterr().err


def test_a_world_of_numbers_imagines_numbers_and_tells_their_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["record", "pendulum", "--episodes", "3", "--policy", "random", "--out", str(tmp_path / "d")]) == 0
    line = ["train", "dreamer_v1", "--data", str(tmp_path / "d"), "--size", "micro", "--out", str(tmp_path / "run")]
    assert cli.main(line) == 0
    capsys.readouterr()
    line = ["imagine", str(tmp_path / "run"), "--from", f"{tmp_path / 'd'}:1", "--seen", "4", "--steps", "5"]
    assert cli.main([*line, "--out", str(tmp_path / "it.mp4"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["video"], told["steps"], told["left_out"]) == (None, 5, 0)
    with Store.open(tmp_path / "d") as store:
        numbers = store.read(store.ids[1]).proprio[0]  # type: ignore[index]
    still = [float(((numbers[3 + k] - numbers[3]) ** 2).mean()) for k in range(1, 6)]
    assert [point["of_last_frame"] for point in told["errors"]] == pytest.approx(still, rel=1e-4)
    forward = load_system(tmp_path / "run").forward
    with Store.open(tmp_path / "d") as store, torch.no_grad():
        whole = store.read(store.ids[1])
        noise = torch_rng(0, "imagined", 0)
        dream, _ = forward.imagine(forward.observe(whole.cut(0, 4)), whole.actions[:, 3:8], 5, noise)  # type: ignore[union-attr, index]
        made = forward.decode(dream).proprio[0, 1:]  # type: ignore[union-attr, index]
    wrong = [float(((made[k] - numbers[4 + k]) ** 2).mean()) for k in range(5)]
    assert [point["error"] for point in told["errors"]] == pytest.approx(wrong, rel=1e-4)
    assert all("PSNR" not in point for point in told["errors"])
    assert not (tmp_path / "it.mp4").exists()
    assert cli.main(["measure", str(tmp_path / "run"), "--judge"]) == 2
    assert "is shown numbers; leave out --judge" in capsys.readouterr().err
    assert not (tmp_path / "run/unseen").exists(), "nothing was played for it"


def test_what_cannot_be_imagined_says_why(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.mp4"

    def refused(system: System, *more: str) -> str:
        pretend(monkeypatch, system)
        assert cli.main(["imagine", "runs/x", "--out", str(path), *more]) == 2
        return capsys.readouterr().err

    true = System(forward=TrueCatch())
    assert "takes a dataset and an episode" in refused(true, "--from", "2")
    assert "no episode named" in refused(true, "--from", f"{recorded}:9")
    assert "show fewer" in refused(true, "--from", f"{recorded}:2", "--seen", "14")
    assert "--seen must be 1" in refused(true, "--from", f"{recorded}:2", "--seen", "0")
    assert "no world to imagine" in refused(System(policy=Wavering()), "--from", f"{recorded}:2")
    assert "no decoder" in refused(System(forward=TrueCatch(blind=True)), "--from", f"{recorded}:2")
    assert not path.exists()


def test_imagining_stops_where_an_action_is_missing(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(recorded) as store, Store.create(tmp_path / "d", store.schema) as other:
        clip = store.read(store.ids[0])
        assert clip.source is not None
        gap = clip.source.clone()
        gap[0, 6] = MISSING
        other.append([clip.with_(source=gap)], {})
    pretend(monkeypatch, System(forward=TrueCatch()))
    line = ["imagine", "runs/x", "--from", f"{tmp_path / 'd'}:0", "--seen", "4", "--out", str(tmp_path / "x.mp4")]
    capsys.readouterr()
    assert cli.main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3
