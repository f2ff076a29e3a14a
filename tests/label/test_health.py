"""The check-up of whole datasets, by function and by command: the verdict, the exit code, the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict.cli import main
from retrodict.clip import MISSING, Clip
from retrodict.data.memory import MemoryStore
from retrodict.data.motion import Motion
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.envs.rollout import expert, rollout
from retrodict.envs.sprites import Sprites
from retrodict.label import probe
from retrodict.label.codes import codes_of
from retrodict.label.health import examine, words
from retrodict.measure.intervals import wilson
from retrodict.roles import System, View
from retrodict.segments import code
from retrodict.spaces import UNKNOWN, ActionSpace, Distribution

SIZE, FPS = 36, 10
WORLD = Sprites(8, SIZE)
SCHEMA = Schema(WORLD.actions, {"observation.image": (SIZE, SIZE, 3)}, FPS)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    found = [clip for clip, _, _ in rollout(WORLD, range(30), expert(WORLD, 0.5))]
    return [clip.with_(rewards=None, ends=None) for clip in found]


def test_a_sound_dataset_is_usable_and_its_page_and_words_say_so(
    clips: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.create(tmp_path / "d", SCHEMA) as store:
        store.append(clips)
    line = ["data", "check", str(tmp_path / "d"), "--strict", "--html", str(tmp_path / "h.html"), "--json"]
    assert main(line) == 0
    told = json.loads(capsys.readouterr().out)
    health = told["health"]
    assert health["verdict"]["word"] == "usable"
    assert health["findings"] == []
    labels = health["figures"]["labels"]
    assert labels["offset"]["steps"] == 0
    assert labels["right"]["two frames"]["low"] > 0.8 > labels["right"]["one frame"]["high"]
    assert sum(asked for _, asked in labels["by_episode"].values()) == labels["count"] == told["steps"]
    share = wilson(sum(good for good, _ in labels["by_episode"].values()), labels["count"])
    assert labels["right"]["two frames"] == {"value": share.value, "low": share.low, "high": share.high}
    assert "offset         none" in words(told)
    assert words(told)[-1].startswith("health         usable: ")
    assert "Nothing was found wrong." in (tmp_path / "h.html").read_text()


def test_moved_actions_are_no_actions_and_strict_says_so(
    clips: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = []
    for clip in clips:
        if clip.steps > 2:
            assert clip.actions is not None
            actions = torch.roll(clip.actions, 2, 1)
            source = torch.ones(1, clip.steps, dtype=torch.uint8)
            source[:, :2] = MISSING
            late.append(clip.with_(actions=actions, source=source))
    with Store.create(tmp_path / "d", SCHEMA) as store:
        store.append(late)
    assert main(["data", "check", str(tmp_path / "d"), "--strict"]) == 3
    shown = capsys.readouterr().out
    assert "offset         -2 steps" in shown
    assert "recorded 2 steps after their effect is seen" in shown
    assert "Move every action 2 steps earlier, or train with --recipe vpt --set shifts=[-2]" in shown
    assert "not actions: they are -2 steps away" in shown


def test_without_labels_nothing_is_claimed(
    clips: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.create(tmp_path / "d", Schema(UNKNOWN, SCHEMA.cameras, FPS)) as store:
        store.append([clip.with_(actions=None, source=None) for clip in clips[:5]])
    assert main(["data", "check", str(tmp_path / "d"), "--json"]) == 0
    health = json.loads(capsys.readouterr().out)["health"]
    assert health["verdict"]["word"] == "unknown"
    assert "labels" not in health["figures"]
    assert main(["data", "check", str(tmp_path / "d"), "--strict", "--json"]) == 3
    with Store.create(tmp_path / "blind", Schema(SCHEMA.space, {}, FPS)) as store:  # rows without pictures
        store.append([clip.with_(frames=None) for clip in clips[:5]])
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path / "blind"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["health"]["verdict"]["word"] == "unknown"
    (tmp_path / "videos").mkdir()
    assert main(["data", "check", str(tmp_path / "videos"), "--strict"]) == 2  # nothing is judged before labels
    assert main(["data", "check", str(tmp_path / "d"), "--precision", "1"]) == 2


def test_of_much_video_some_episodes_are_looked_at(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(SCHEMA, [clip.with_(actions=None, source=None) for clip in clips])
    monkeypatch.setattr(probe, "FRAMES", sum(store.lengths.values()) // 2)
    some, every = examine(store, "d", every=False).checked, examine(store, "d").checked
    assert 0.3 < some["looked_at"] < 0.5 < every["looked_at"] == 1.0
    assert some["steps"] == every["steps"]
    assert some["still_share"] == pytest.approx(every["still_share"], abs=0.2)


def evidence(right: int, wrong: int, confidence: float) -> dict[str, object]:
    return {"correct": [1] * right + [0] * wrong, "confidence": [confidence] * (right + wrong), "majority": 0.2}


@pytest.mark.parametrize(("confidence", "told"), [(0.9, []), (0.55, ["calibration"])])
def test_the_evidence_of_a_run_gives_verdict_and_calibration(
    clips: list[Clip], confidence: float, told: list[str]
) -> None:
    store = MemoryStore(SCHEMA, [clip.with_(actions=None, source=None) for clip in clips[:3]])
    health = examine(store, "d", evidence=evidence(180, 20, confidence))
    assert health.verdict.word == "usable"
    assert [finding.kind for finding in health.findings] == told
    assert health.figures["calibration"]["error"] == pytest.approx(abs(0.9 - confidence))


class Coder:
    """Says code 0 or 1, by whether the frame after is brighter; or always 0."""

    def __init__(self, collapsed: bool) -> None:
        self.view, self.space = View(2, size=(8, 8)), ActionSpace((code("code", 4),))
        self.collapsed = collapsed

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        brighter = clip.frames.float().mean((2, 3, 4)).diff(dim=1) > 0
        numbers = torch.zeros_like(brighter, dtype=torch.long) if self.collapsed else brighter.long()
        return Distribution(self.space, 9.0 * torch.nn.functional.one_hot(numbers, 4).float())


@pytest.mark.parametrize("collapsed", [False, True])
def test_codes_are_counted_described_and_compared_with_the_camera(collapsed: bool) -> None:
    level = torch.randint(20, 200, (1, 201, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    store = MemoryStore(Schema(UNKNOWN, {"observation.image": (8, 8, 3)}, FPS),
                        [Clip(frames=level.expand(1, 201, 3, 8, 8).to(torch.uint8))])  # fmt: skip
    up = (level.float().flatten().diff() > 0).numpy()[:, None]
    ones = np.ones((200, 1))
    pan = np.where(up[..., None], 0.1, -0.1) * np.array([1.0, 0.0])
    motion = Motion(ones == 0, ones, ones, ones, pan, ones)  # the view moves down wherever it gets brighter
    figures, found = codes_of(System(inverse=Coder(collapsed)), store, {store.ids[0]: motion})
    book = figures["books"][0]
    assert (book["used"], book["size"]) == ((1, 4) if collapsed else (2, 4))
    if collapsed:
        assert book["perplexity"] == pytest.approx(1.0)
        assert [finding.kind for finding in found] == ["collapse"]
    else:
        assert {row["code"]: row["looks"] for row in book["rows"]} == {
            0: "the picture moves up", 1: "the picture moves down",
        }  # fmt: skip
        assert figures["camera_bits"] == pytest.approx(figures["code_bits"], abs=0.05)
        assert [finding.kind for finding in found] == ["camera codes"]


def test_a_latent_that_carries_the_frame_is_told_and_actions_are_no_codes() -> None:
    store = MemoryStore(Schema(UNKNOWN, {"observation.image": (8, 8, 3)}, FPS),
                        [Clip(frames=torch.zeros(1, 9, 3, 8, 8, dtype=torch.uint8))])  # fmt: skip
    one = np.ones((8, 1))
    motions = {store.ids[0]: Motion(one == 0, one, one, one, np.zeros((8, 1, 2)), one)}
    cases = ((0.2, 0.3, ["collapse", "leak"]), (0.2, 0.95, ["collapse"]), (1.1, 0.96, ["collapse", "unlearnt"]))
    for error, cut, kinds in cases:
        system = System(inverse=Coder(True), about={"alarms": {"error": error, "shuffled": 0.9, "cut": cut}})
        assert [finding.kind for finding in codes_of(system, store, motions)[1]] == kinds
    assert codes_of(System(), store, motions) == ({}, [])
