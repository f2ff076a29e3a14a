"""Trials: which labels a budget is, and what is measured of numbers and keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.envs.catch import Catch
from retrodict.envs.rollout import open_loop, score
from retrodict.errors import UnusableInput
from retrodict.figures import claims, trial
from retrodict.figures.claims import Figure, beside, summary
from retrodict.figures.trial import SETTINGS, Setting, Trial, measured, texture_agreement, views
from retrodict.recipes import bc
from retrodict.roles import System, View
from retrodict.spaces import ActionSpace, Distribution, Segment, code, continuous

SPACE = ActionSpace((continuous("move", ("x", "y")), Segment("grip", "binary", ("closed",))))


def moving() -> Cache:
    """Two episodes whose frames show the number of the step; x and y are a pattern, the key is pressed at times."""
    schema = Schema(SPACE, {"observation.image": (4, 4, 3)}, 10)
    clips = []
    for length in (9, 14):
        t = torch.arange(length - 1.0)
        actions = torch.stack([torch.sin(t), torch.cos(2 * t), (t % 3 == 0).float()], 1)
        frames = torch.arange(length, dtype=torch.uint8).view(1, -1, 1, 1, 1).expand(1, -1, 3, 4, 4)
        clips.append(Clip(frames=frames.contiguous(), actions=actions.unsqueeze(0)))
    return Cache.build(MemoryStore(schema, clips))


def knowing(off: tuple[float, float], press: bool) -> Any:
    """An inverse that is off by so much in x and y, and says the opposite of the key unless `press`."""

    def infer(clip: Clip) -> Distribution:
        assert clip.frames is not None
        t = clip.frames[:, :-1, 0, 0, 0].float()
        grip = torch.where((t % 3 == 0) == press, 9.0, -9.0)
        means = [torch.sin(t) + off[0], torch.cos(2 * t) + off[1]]
        return Distribution(SPACE, torch.stack([*means, torch.zeros_like(t), torch.zeros_like(t), grip], -1))

    return SimpleNamespace(view=View(2, size=(4, 4)), space=SPACE, infer=infer)


def test_labels_of_minutes_are_the_first_ones_and_others_are_drawn() -> None:
    cache = moving()
    first = views(cache, 10, 0, contiguous=True).labelled
    assert first.index.tolist() == Steps.all(cache).index[:10].tolist()
    assert views(cache, 10, 0).labelled.index.tolist() != first.index.tolist()
    assert len(views(cache, 0, 0, contiguous=True).labelled) == 21
    assert not views(cache, 10, 0, contiguous=True).unlabelled.columns["actions"].any()
    with pytest.raises(UnusableInput, match="22 labels were asked for and the data has 21 steps"):
        views(cache, 22, 0, contiguous=True)


def test_minutes_of_a_figure_follow_from_its_setting() -> None:
    assert Figure("arm", "r2", 1200).minutes == 1
    assert Figure("arm", "r2", 12_000).minutes == 10
    assert Figure("sprites", "label_accuracy").minutes == 0


def test_numbers_and_keys_are_measured_each_by_itself() -> None:
    cache, about = moving(), {"held_out": {"limits": [0, 0, 0.25, 0.25, 0.5]}, "shift": 2}
    wanted = ("r2", "press_f1", "interval_cover", "shift")
    right = measured(System(inverse=knowing((0, 0), True), about=about), Setting("sprites"), cache, wanted)
    assert right == {
        "r2": pytest.approx(1), "r2.move.x": pytest.approx(1), "r2.move.y": pytest.approx(1), "press_f1": 1,
        "press_f1.grip": 1, "interval_cover": 1, "interval_cover.move.x": 1, "interval_cover.move.y": 1, "shift": 2,
    }  # fmt: skip
    off = measured(System(inverse=knowing((0, 0.5), False), about=about), Setting("sprites"), cache, wanted)
    spread = float(np.var(cache.columns["actions"][Steps.all(cache).index, 1]))
    assert off["r2.move.y"] == pytest.approx(1 - 0.25 / spread)
    assert off["r2"] == pytest.approx((1 + off["r2.move.y"]) / 2)
    assert off["interval_cover.move.y"] == 0
    assert off["interval_cover"] == 0.5
    assert off["press_f1"] == 0


def test_intervals_that_no_label_supports_are_not_measured() -> None:
    with pytest.raises(UnusableInput, match="interval_cover cannot be measured"):
        measured(System(inverse=knowing((0, 0), True)), Setting("sprites"), moving(), ["interval_cover"])


def test_a_result_tells_its_parts_and_minutes() -> None:
    trials = [Trial(i, {"r2": v, "r2.move.x": v, "r2.move.z": v - 0.5}, 1.0, 0.5) for i, v in enumerate((0.75, 0.25))]
    told = summary("f", Figure("arm", "r2", 1200), "vpt", "digest", trials)
    assert told["parts"] == {"move.x": 0.5, "move.z": 0.0}
    assert told["minutes"] == 1
    assert told["value"] == 0.5
    plain = summary("f", Figure("sprites", "success"), "vpt", "digest", [replace(trials[0], values={"success": 0.5})])
    assert not {"parts", "minutes"} & set(plain)


def test_a_result_tells_how_far_it_lies_above_its_control_seed_by_seed() -> None:
    """0.3, 0.5 and 0.3 above: 0.3667 in the mean, and 4.303 deviations of 0.1155 over the root of 3 are 0.2869."""
    values = [{"success": a, "success.shuffled": b} for a, b in ((0.5, 0.2), (0.7, 0.2), (0.6, 0.3))]
    figure, trials = Figure("sprites", "success"), [Trial(i, v, 1.0, 0.5) for i, v in enumerate(values)]
    parts = summary("f", figure, "genie", "digest", trials)["parts"]
    assert list(parts) == ["shuffled", "above_shuffled", "above_shuffled.low", "above_shuffled.high"]
    assert [*parts.values()] == pytest.approx([0.2333, 0.3667, 0.0798, 0.6535], abs=1e-4)
    assert set(summary("f", figure, "genie", "digest", trials[:1])["parts"]) == {"shuffled", "above_shuffled"}


def test_every_figure_has_its_setting_and_measures() -> None:
    assert SETTINGS["arm"].unseen == {"textures": "stripes"}
    assert SETTINGS["arm"].per_minute == 20 * 60


def test_agreement_compares_the_very_codes_also_where_one_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of codes 1 and 2; seen otherwise, one of them reads 0. All others agree, whatever numbers they get."""
    space = ActionSpace((code("z", 3),))
    schema = Schema(space, {"observation.image": (4, 4, 3)}, 10)

    def cache(values: list[int]) -> Cache:
        frames = torch.tensor(values, dtype=torch.uint8).view(1, -1, 1, 1, 1).expand(1, -1, 3, 4, 4).contiguous()
        return Cache.build(MemoryStore(schema, [Clip(frames=frames, actions=torch.zeros(1, len(values) - 1, 3))]))

    def infer(clip: Clip) -> Distribution:
        assert clip.frames is not None
        return Distribution.point(space, space.one_hot(clip.frames[:, :-1, 0, 0, 0]))

    monkeypatch.setattr(trial, "held_out", lambda chosen, **changed: cache([0, 2, 1, 2, 0]))
    inverse: Any = SimpleNamespace(view=View(2, size=(4, 4)), space=space, infer=infer)
    chosen = Setting("sprites", changed={"textures": "noise"})
    assert texture_agreement(inverse, chosen, cache([1, 2, 1, 2, 0])) == 0.75


def test_a_kill_before_the_first_episode_does_not_block_what_is_recorded(tmp_path: Path) -> None:
    """A folder with a dataset that holds nothing yet, and one that holds a lock alone."""
    small = Setting("sprites", frames=60, random=0.3, copies=4, test_frames=40)
    whole = trial.held_out(small, tmp_path / "whole").digest
    Store.create(tmp_path / "test/data", trial.schema_of(trial.world_of(small))).close()
    assert trial.held_out(small, tmp_path / "test").digest == whole
    assert trial.held_out(small, tmp_path / "test").digest == whole
    (tmp_path / "own/meta/retrodict").mkdir(parents=True)
    (tmp_path / "own/meta/retrodict/lock").write_text("")
    with trial.recorded(small, 0, tmp_path / "own") as store:
        assert sum(store.lengths.values()) >= 60


def test_the_gain_of_planning_is_beside_the_likeliest_actions_of_the_prior() -> None:
    world = Catch(1)

    def acting(*logits: float, prior: Any = None) -> Any:
        def act(past: Clip, memory: Any = None) -> tuple[Distribution, Any]:
            return Distribution(world.actions, torch.tensor(logits).expand(past.rows, -1)), None

        view = View(size=(16, 16), rate=10.0)
        return SimpleNamespace(view=view, space=world.actions, act=act, prior=prior)

    chosen = Setting("catch", copies=4, episodes=12)
    planner = acting(9.0, -9.0, -9.0, prior=acting(0.0, 0.0, 0.1))  # to the left; mostly to the right
    found = measured(System(policy=planner), chosen, moving(), ["planning_gain"])
    levels = range(trial.TEST, trial.TEST + 12)
    left, right = (
        float(np.mean(score(world, levels, open_loop(world, torch.eye(3)[move]))["returns"])) for move in (0, 2)
    )
    assert found == {"planning_gain": left - right, "planning_gain.planned": left, "planning_gain.prior": right}
    with pytest.raises(UnusableInput, match="planning_gain cannot be measured"):
        measured(System(policy=acting(0.0, 0.0, 0.0)), chosen, moving(), ["planning_gain"])


def test_cloning_of_as_many_labels_stands_beside_a_success(tmp_path: Path) -> None:
    (tmp_path / "bc").mkdir()
    for name, value in (("success_64", 0.3), ("success_200", 0.5), ("success_all", 1.0)):
        (tmp_path / "bc" / f"{name}.json").write_text(json.dumps({"value": value}))
    assert beside("success", "sprites", tmp_path) == {"cloning the 64": 0.3, "cloning all labels": 1.0}
    assert beside("success", "sprites", tmp_path, labels=200) == {"cloning the 200": 0.5, "cloning all labels": 1.0}
    assert beside("success", "sprites", tmp_path, labels=32) == {"cloning all labels": 1.0}


def test_learners_without_a_model_stand_beside_figures_of_as_many_steps(tmp_path: Path) -> None:
    (tmp_path / "comparisons").mkdir()
    (tmp_path / "worlds").mkdir()
    rows = {"SAC 10": {"steps": 10, "return": 6.0}, "PPO 20": {"steps": 20, "return": 7.0},
            "PPO in the dream 10": {"steps": 10, "return": 8.0}}  # fmt: skip
    (tmp_path / "comparisons/model_free.json").write_text(json.dumps({"settings": {"dodge": rows}}))
    floor = {"return": {"random": {"value": 4.0, "low": None, "high": None}}}
    (tmp_path / "worlds/dodge.json").write_text(json.dumps(floor))
    assert beside("return", "dodge", tmp_path, 10) == {"random": 4.0, "SAC (no model)": 6.0}
    assert beside("ratio_to_random", "dodge", tmp_path, 20) == {"PPO (no model)": 1.75}
    assert beside("return", "catch", tmp_path, 10) == {}
    assert "SAC (no model)" not in beside("return", "dodge", tmp_path)


@pytest.mark.parametrize(("asked", "seeds"), [(None, [0, 1, 2, 3, 4]), (2, [0, 1])])
def test_a_figure_has_as_many_seeds_as_it_is_published_with_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None, seeds: list[int]
) -> None:
    ran: list[int] = []

    def once(recipe: Any, cfg: Any, chosen: Any, budget: int, seed: int, *more: Any) -> Trial:
        ran.append(seed)
        return Trial(seed, {"success": 0.5}, 1.0, 0.5)

    module = SimpleNamespace(__name__="own", FIGURES={"it": Figure("sprites", "success", seeds=5)}, tiny=bc.tiny)
    for name, stand_in in (("trial", once), ("held_out", lambda chosen: None), ("world_floor", lambda *given: {})):
        monkeypatch.setattr(claims, name, stand_in)
    (told,) = claims.claim(module, ["it"], asked, tmp_path / "runs", tmp_path / "results")
    assert ran == seeds
    assert len(told["seeds"]) == len(seeds)
