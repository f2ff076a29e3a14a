"""Figures of worlds as trials measure them: worlds known exactly, codes with and without names, one judge for all."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import SPACE, Drawn, Reader
from torch import Tensor

from retrodict.cli.measure import world_lines
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.errors import UnknownName, UnusableInput
from retrodict.figures import judge, trial, world_figures
from retrodict.figures.trial import Setting, ground, held_out, measured, setting
from retrodict.label.infer import infer_steps
from retrodict.measure.intervals import wilson
from retrodict.models.rssm import RSSM
from retrodict.models.wordless import wordless
from retrodict.roles import System, View
from retrodict.run.loop import Fit
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, code, continuous

CODES = ActionSpace((code("z", 6),))
ORDER = (3, 0, 4, 1, 2)  # which move each of the codes in use is; the sixth is never read
SMALL = Setting("sprites", frames=300, random=0.6, copies=8, test_frames=300, episodes=4)


class Names:
    """An adapter that knows what codes mean."""

    space, inner = SPACE, CODES

    def decode(self, belief: Distribution, clip: Clip) -> Distribution:
        moves = torch.tensor([*ORDER, 0])[belief.mode().argmax(-1)]
        return Distribution.point(SPACE, SPACE.one_hot(moves))


class Coder:
    """Reads codes, of which one is never used."""

    def __init__(self) -> None:
        self.inner = Reader(ActionSpace((code("z", 5),)), ORDER)
        self.space, self.view = CODES, self.inner.view

    def infer(self, clip: Clip) -> Distribution:
        five = self.inner.infer(clip).params
        return Distribution(CODES, torch.cat([five, torch.full_like(five[..., :1], -99)], -1))


@pytest.fixture(scope="module")
def video() -> Cache:
    return held_out(SMALL)


@pytest.fixture
def where(video: Cache) -> world_figures.Ground:
    exact: Any = Reader()
    return replace(ground(SMALL, video), judge=lambda: judge.Judge(exact, wilson(9, 10)))


def system(manner: str = "obeys", named: bool = True) -> System:
    """A world of codes, with an inverse that reads them and perhaps an adapter that names them."""
    world: Any = Drawn(manner, CODES, (*ORDER, 0))
    coder: Any = Coder()
    names: Any = Names() if named else None
    return System(forward=world, inverse=coder, adapter=names)


def test_a_world_of_codes_is_judged_by_what_its_codes_are_said_to_mean(where: world_figures.Ground) -> None:
    found = world_figures.measured("judged_controllability", system(), where)
    name = "judged_controllability"
    assert found[name] == found[f"{name}.real"] == found[f"{name}.blocked"] == 1
    assert found[f"{name}.judge"] == 0.9
    for control in ("shuffled", "random"):
        assert found[f"{name}.{control}"] == pytest.approx(0.2, abs=0.06)
    assert found[f"{name}.low"] == found[f"{name}.high"] == 1
    deaf = world_figures.measured("judged_controllability", system("deaf"), where)
    assert deaf["judged_controllability"] == pytest.approx(0.2)


def test_a_world_of_true_actions_needs_no_names(where: world_figures.Ground) -> None:
    world: Any = Drawn()
    found = world_figures.measured("judged_controllability", System(forward=world), where)
    assert found["judged_controllability"] == 1
    assert world_figures.measured("effect_consistency", System(forward=world), where) == {"effect_consistency": 1}
    assert world_figures.measured("sensitivity", System(forward=world), where)["sensitivity"] > 5


def test_a_ground_says_how_much_of_it_is_looked_at(where: world_figures.Ground) -> None:
    world: Any = Drawn("obeys", CODES, (*ORDER, 0))
    few = replace(where, windows=3, states=2)
    clip, _ = world_figures._windows(system(), world, few.test, 1, few.windows)
    assert clip.rows == 3
    assert world_figures._branches(system(), world, few).past.rows == 2


def test_codes_without_names_move_alike_but_cannot_be_judged(where: world_figures.Ground) -> None:
    assert world_figures.measured("effect_consistency", system(named=False), where)["effect_consistency"] == 1
    with pytest.raises(UnusableInput, match="these codes have no names"):
        world_figures.measured("judged_controllability", system(named=False), where)


def test_only_codes_in_use_are_asked_for(video: Cache) -> None:
    world: Any = Drawn("obeys", CODES, (*ORDER, 0))
    clip, before = world_figures._windows(system(), world, video, 1)
    asked = world_figures.requests(world, clip, before)
    assert sorted(asked.argmax(1).tolist()) == [0, 1, 2, 3, 4]


def test_values_that_look_alike_are_asked_for_once() -> None:
    space = ActionSpace((categorical("key", ("left", "a", "right", "b"), [["a", "b"]]),))
    world: Any = Drawn(space=space)
    clip = Clip(frames=torch.zeros(1, 2, 3, 36, 36, dtype=torch.uint8))
    assert world_figures.requests(world, clip, 0).argmax(1).tolist() == [0, 1, 2]


def test_foresight_by_step(where: world_figures.Ground) -> None:
    right, deaf = (world_figures.measured("horizon_skill", system(manner), where) for manner in ("obeys", "deaf"))
    assert right["horizon_skill"] > 0.95
    assert deaf["horizon_skill"] == pytest.approx(0, abs=0.03)
    steps = [f"horizon_skill.{kind}{k}" for kind in ("", "moving.") for k in range(1, 9)]
    assert set(right) == {"horizon_skill", *steps}
    drift = world_figures.measured("drift", system("deaf"), where)
    assert drift["drift"] == drift["drift.8"] > drift["drift.1"] == 0
    assert drift["drift.8.low"] <= drift["drift.8"] <= drift["drift.8.high"]
    delta = world_figures.measured("delta_psnr", system(), where)
    assert delta["delta_psnr.low"] > 5


def paid(video: Cache, ends: bool = True) -> MemoryStore:
    """The video as a dataset that pays 1 for going up, as `Drawn` says; its last steps end an episode."""
    clips = []
    for start, stop in zip(video.starts[:-1], video.starts[1:], strict=True):
        actions = torch.from_numpy(video.columns["actions"][start : stop - 1])[None]
        over = torch.zeros(1, int(stop - start) - 1)
        over[:, -1] = ends
        frames = torch.from_numpy(video.frames[start:stop])[None]
        clips.append(Clip(frames=frames, actions=actions, rewards=actions[..., 1].clone(), ends=over))
    return MemoryStore(Schema(SPACE, {"observation.image": (36, 36, 3)}, 10, rewards=True), clips)


def test_rewards_and_ends_of_a_recording_reach_who_asks(video: Cache) -> None:
    store, world = paid(video), Drawn()
    found = world_figures.examined(System(forward=world), store, store.ids)[0]
    assert found["rewards"] == {"bias": 0, "r2": 1}  # as the world says them
    assert 0 < found["ends"]["rate"] < 0.5
    assert found["ends"]["error"] == pytest.approx(found["ends"]["rate"])  # it never says one
    assert found["ends"]["skill"] < 0
    lines = "\n".join(world_lines(found))
    assert "rewards foretold              R² 1.000, bias 0.000" in lines
    assert "ends foretold                 skill -" in lines
    endless = paid(video, ends=False)
    found = world_figures.examined(System(forward=world), endless, endless.ids)[0]
    assert "every step or none ends" in "\n".join(world_lines(found))


def test_what_a_judge_reads_is_told_by_request(where: world_figures.Ground, video: Cache) -> None:
    store = paid(video)
    told, _ = world_figures.examined(system(), store, store.ids, lambda cache: where)
    judged = told["judged"]
    assert judged["value"] == judged["real"]["value"] == 1
    assert judged["judge"]["value"] == 0.9
    assert judged["random"]["value"] == pytest.approx(0.2, abs=0.06)
    assert judged["by"] == dict.fromkeys(("code 0", "code 1", "code 2", "code 3", "code 4"), 1)
    lines = "\n".join(world_lines(told))
    assert "judged controllability        1.000 [1.000, 1.000] read as asked; requests shuffled 0." in lines
    told, _ = world_figures.examined(system(named=False), store, store.ids, lambda cache: where)
    assert "no names" in told["judged"]["note"]


class Lamp:
    """A world, and a judge of it, in which the next frame is as bright as the number that is asked for, or grey."""

    space, view = ActionSpace((continuous("light", ("x",)),)), View(1, 0, size=(36, 36))

    def __init__(self, heeds: bool = True) -> None:
        self.heeds = heeds

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.frames is not None
        return {"frames": past.frames[:, -1:]}

    def imagine(self, state: Any, actions: Tensor, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        frames = torch.cat([state["frames"], lit(actions if self.heeds else 0 * actions)], 1)
        return Clip(frames=frames, actions=actions), {"frames": frames[:, -1:]}

    def decode(self, clip: Clip) -> Clip:
        return clip

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        read = (clip.frames[:, 1:].float().mean((2, 3, 4)) - 128)[..., None] / 100
        return Distribution.point(self.space, read)


def lamplit(where: world_figures.Ground, test: Cache) -> world_figures.Ground:
    """A ground whose judge reads brightness."""
    eyes: Any = Lamp()
    return replace(where, test=test, judge=lambda: judge.Judge(eyes, wilson(9, 10)))


def lit(light: Tensor) -> Tensor:
    """Frames of these brightnesses "b t 1"."""
    return (128 + 100 * light).round().to(torch.uint8)[..., None, None].expand(*light.shape[:2], 3, 36, 36)


def test_of_numbers_the_judge_reads_what_was_asked_of_other_moments(where: world_figures.Ground) -> None:
    drawn = torch.rand(4, 20, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clips = [Clip(frames=torch.cat([lit(one[:, :1]), lit(one)], 1), actions=one) for one in drawn.split(1)]
    store = MemoryStore(Schema(Lamp.space, {"observation.image": (36, 36, 3)}, 10), clips)
    for heeds in (True, False):
        world: Any = Lamp(heeds)
        told, _ = world_figures.examined(System(forward=world), store, store.ids, partial(lamplit, where))
        judged = told["judged"]
        assert judged["of"] == "R²"
        assert judged["real"]["value"] == pytest.approx(1, abs=1e-3)
        assert (judged["value"] > 0.999) == heeds
        assert judged["shuffled"]["value"] < 0.01


def test_what_cannot_be_measured_says_why(where: world_figures.Ground, video: Cache) -> None:
    with pytest.raises(UnusableInput, match="the system has no forward model"):
        world_figures.measured("drift", System(), where)
    with pytest.raises(UnknownName):
        world_figures.measured("beauty", system(), where)
    with pytest.raises(UnusableInput, match="only plain sprites tell"):
        world_figures.measured(
            "effect_consistency", system(), ground(replace(SMALL, options={"textures": "noise"}), video)
        )
    with pytest.raises(UnusableInput, match="name a folder"):
        measured(system(), SMALL, video, ["judged_controllability"])
    numbers: Any = Drawn(space=ActionSpace((continuous("v", ("x",)),)))
    with pytest.raises(UnusableInput, match="the world takes numbers"):
        world_figures.requests(numbers, Clip(frames=torch.zeros(1, 2, 3, 36, 36, dtype=torch.uint8)), 0)


def test_a_judge_is_trained_once_on_levels_of_its_own(
    tmp_path: Path, video: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "FRAMES", 300)
    taught = replace(SMALL, random=judge.RANDOM)
    played: list[range] = []

    def record(folder: Path) -> Any:
        store = trial.recorded(taught, judge.SEED, folder)
        played.extend(range(int(commit.provenance["seed"]), 801) for commit in store.commits)
        return store

    first = judge.trained(tmp_path, record, video, Fit(12, 16))
    again = judge.trained(tmp_path, record, video, Fit(12, 16))
    assert played[0].start == judge.SEED
    assert first.accuracy == again.accuracy
    weights = [one.inverse.state_dict() for one in (first, again)]
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))
    assert len(list((tmp_path / "run/stages").iterdir())) == 1
    keys = ActionSpace((Segment("keys", "binary", ("jump",)),))
    pressed = Cache(
        video.frames, video.starts, video.ids, keys, video.columns, video.texts, 10, "other", video.cameras
    )  # fmt: skip
    with pytest.raises(UnusableInput, match="reads a single choice"):
        judge.trained(tmp_path, record, pressed, Fit(12, 16))


def test_a_judge_of_numbers_is_told_with_its_r2_on_held_out_steps(tmp_path: Path) -> None:
    small = replace(setting("road"), frames=600, copies=4, test_frames=200)
    video = held_out(small)
    made = judge.trained(tmp_path, lambda folder: trial.recorded(small, judge.SEED, folder), video, Fit(60, 16))
    steps = Steps.all(video).known()
    read, true = infer_steps(made.inverse, steps).mode(), steps.target_actions()
    by_hand = 1 - (read - true).square().sum(0) / (true - true.mean(0)).square().sum(0)
    assert made.accuracy.value == pytest.approx(float(by_hand.mean()), abs=1e-5)
    assert made.accuracy.count == len(true)


def test_a_world_that_remembers_is_shown_what_came_before_and_others_what_they_look_at() -> None:
    words = ActionSpace((*SPACE.segments, Segment("words", "text", tuple("abc"))))
    recurrent = RSSM(View(size=(8, 8)), words, deter=16, hidden=8, stoch=2, classes=4, units=8, channels=4, bins=5)
    for forward in (recurrent, wordless(recurrent)):
        assert world_figures.context(System(forward=forward), forward) == RSSM.remembers
    plain = Drawn()
    assert world_figures.context(System(forward=plain), plain) == 0
    longer = replace(plain.view, before=3, frames=4)
    plain.view = longer
    assert world_figures.context(System(forward=plain), plain) == 3
