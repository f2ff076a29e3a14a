"""Auto and cross-fitting: who is compared with whom, on which labels, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict import cli, rng
from retrodict.data.batch import Steps
from retrodict.errors import NonFinite, UnusableInput
from retrodict.label import auto
from retrodict.label.crossfit import FOLDS, apart, calibrate, cross_fit
from retrodict.label.verdict import HELD_OUT, judge
from retrodict.measure.calibrate import abstention_threshold
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.recipes import laom, lapo, laq, vpt
from retrodict.roles import System, View
from retrodict.run.checkpoint import load_system
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views
from retrodict.spaces import ActionSpace, Distribution, categorical, continuous


def inverse(views: Views) -> Inverse:
    with rng.isolated("auto"):
        return Inverse(View(2, size=(36, 36)), views.labelled.cache.space, patch=4, width=4, depth=1, hidden=8)


def candidate(right: int, views: Views, labels: str = "these") -> Callable[[Run], System]:
    """A recipe whose model answers `right` of the held-out labels; its temperature says how many."""

    def train(run: Run) -> System:
        part = run.fit("part", inverse(views), labelled, run.data.labelled, Fit(2, 4))
        part.temperature.fill_(float(right))
        correct = [int(i < right) for i in range(64)]
        evidence = {"correct": correct, "confidence": [0.5] * 64, "majority": 0.25, "labels": labels}
        return System(inverse=part, about={HELD_OUT: evidence})

    return train


def test_the_candidate_with_the_most_right_answers_is_kept_with_the_evidence(tmp_path: Path, sprites: Views) -> None:
    trainings = {name: candidate(right, sprites) for name, right in (("a", 40), ("b", 60), ("c", 60), ("d", 59))}
    with Run(tmp_path / "run", sprites) as run:
        system = run.finish(auto.choose(run, trainings), {})
        assert set(run.stages) == {f"{name}/part" for name in "abcd"}
    assert system.about["recipe"] == "b"  # ties go to the one that comes first
    saved = load_system(tmp_path / "run")
    assert set(saved.inverse.temperature.tolist()) == {60.0}  # type: ignore[union-attr]
    evidence = json.loads((tmp_path / "run" / auto.EVIDENCE).read_text())
    assert evidence == saved.about["auto"] == system.about["auto"]
    rows = {row["recipe"]: row for row in evidence["candidates"]}
    assert (evidence["kept"], evidence["labels"], evidence["majority"]) == ("b", 64, 0.25)
    assert rows["a"]["right"]["value"] == pytest.approx(40 / 64)
    assert rows["a"]["right"]["low"] < 40 / 64 < rows["a"]["right"]["high"]
    assert "behind" not in rows["b"]
    assert rows["a"]["behind"]["value"] == pytest.approx(20 / 64)
    assert rows["a"]["behind"]["low"] > 0.15
    assert rows["d"]["behind"]["low"] <= 0 < rows["d"]["behind"]["high"]
    told = auto.table(evidence)
    assert len(told) == 5
    assert "0.625 [" in told[0]
    assert "behind by 0.312 [" in told[0]
    assert "kept: b, by 64 labels that each model had not seen; they do not tell it from c and d" in told[-1]
    assert judge(system.about[HELD_OUT]).word == "usable"


def test_what_does_not_apply_or_breaks_is_left_out_with_the_reason(tmp_path: Path, sprites: Views) -> None:
    def broken(run: Run) -> System:
        raise NonFinite("loss all", 3)

    trainings = {"vpt": candidate(30, sprites), "lapo": candidate(64, sprites), "laom": broken}
    space = ActionSpace((continuous("push", ("x", "y")),))
    cache = replace_space(sprites, space)
    with Run(tmp_path / "run", cache) as run:
        system = auto.choose(run, trainings)
    rows = {row["recipe"]: row.get("left_out", "") for row in system.about["auto"]["candidates"]}
    assert system.about["recipe"] == "vpt"
    assert "one choice among values" in rows["lapo"]
    assert "loss all is not finite at step 3" in rows["laom"]
    assert any("left out: a code stands for" in line for line in auto.table(system.about["auto"]))
    with Run(tmp_path / "none", sprites) as run, pytest.raises(UnusableInput, match="no candidate could be trained"):
        auto.choose(run, {"laom": broken})
    pair = {"a": candidate(9, sprites), "b": candidate(8, sprites, "others")}
    with Run(tmp_path / "folds", sprites) as run, pytest.raises(UnusableInput, match="answered other labels"):
        auto.choose(run, pair)
    with Run(tmp_path / "mute", sprites) as run, pytest.raises(UnusableInput, match="keeps no answers to held-out"):
        auto.choose(run, {"bc": lambda run: System(inverse=inverse(sprites))})


def replace_space(views: Views, space: ActionSpace) -> Views:
    """The same steps, said to have actions of another space, which nobody reads here."""
    cache = copy(views.labelled.cache)
    cache.space = space
    return Views(views.unlabelled, replace(views.labelled, cache=cache))


def test_which_candidates_apply_is_a_matter_of_the_labels(sprites: Views) -> None:
    assert auto.left_out(sprites) == {}
    everything = Steps.all(sprites.unlabelled.cache).known()
    assert set(auto.left_out(Views(sprites.unlabelled, everything))) == {"lapo", "laq", "laom"}
    with pytest.raises(UnusableInput, match="7 steps have a label; auto compares by 8"):
        auto.left_out(Views(sprites.unlabelled, sprites.labelled.only(np.arange(7))))


def test_a_second_call_trains_nothing_anew_and_restart_names_one_stage_of_one_candidate(
    tmp_path: Path, sprites: Views
) -> None:
    trainings = {name: candidate(right, sprites) for name, right in (("a", 40), ("b", 60))}
    seconds = []
    for restart in ((), (), ("a/part",)):
        with Run(tmp_path / "run", sprites, restart=restart) as run:
            run.finish(auto.choose(run, trainings), {})
            seconds.append({name: stage["seconds"] for name, stage in run.stages.items()})
    times = {
        name: (tmp_path / "run/candidates" / name / "stages/part/identity.json").stat().st_mtime_ns for name in "ab"
    }
    assert seconds[0] == seconds[1]
    assert seconds[2]["b/part"] == seconds[0]["b/part"]
    assert times["a"] > times["b"]


def test_a_budget_is_shared_among_candidates_and_recorded_as_steps(tmp_path: Path, sprites: Views) -> None:
    def train(run: Run) -> System:
        part = run.fit("part", inverse(sprites), labelled, run.data.labelled, Fit(1_000_000, 4))
        evidence = {"correct": [1] * 64, "confidence": [1.0] * 64, "majority": 0.2, "labels": "these"}
        return System(inverse=part, about={HELD_OUT: evidence})

    with Run(tmp_path / "run", sprites) as run:
        auto.choose(run, {"a": train, "b": train}, budget=1.0)
    for name in "ab":
        told = json.loads((tmp_path / "run/candidates" / name / "stages/part/steps.json").read_text())
        assert told["asked"] == 1_000_000
        assert 20 <= told["steps"] < 20_000
    assert json.loads((tmp_path / "run" / auto.EVIDENCE).read_text())["budget"] == 1.0


def test_no_model_has_seen_the_labels_that_it_answers(tmp_path: Path, sprites: Views) -> None:
    few, seen = sprites.labelled, []

    def fit(rest: Steps, name: str) -> Inverse:
        seen.append((name, rest))
        part = inverse(sprites)
        part.answered = []  # type: ignore[assignment]
        return part

    with Run(tmp_path / "run", sprites) as run:
        belief, truth, models = cross_fit(run, fit, repeats=2)
    assert [name for name, _ in seen] == [f"{repeat}.{number}" for repeat in range(2) for number in range(FOLDS)]
    assert len(models) == 2 * FOLDS
    held = [np.setdiff1d(few.index, rest.index) for _, rest in seen]
    assert np.array_equal(np.sort(np.concatenate(held[:FOLDS])), few.index)  # every label once a repeat
    assert np.array_equal(np.sort(np.concatenate(held[FOLDS:])), few.index)
    assert not np.array_equal(held[0], held[FOLDS])  # each repeat has parts of its own
    assert all(len(np.intersect1d(one, rest.index)) == 0 for one, (_, rest) in zip(held, seen, strict=True))
    assert torch.equal(truth, few.target_actions().repeat(2, 1))  # in the order of the labels
    assert belief.params.shape == (128, few.cache.space.parameters)


def test_every_recipe_of_auto_answers_the_same_labels_in_the_same_order(tmp_path: Path, sprites: Views) -> None:
    recipes, orders = (vpt, lapo, laq, laom), set()
    assert tuple(recipe.__name__.rpartition(".")[2] for recipe in recipes) == auto.CANDIDATES
    for recipe in recipes:
        with Run(tmp_path / recipe.__name__, sprites) as run:
            found = recipe.train(recipe.micro(), run).about[HELD_OUT]
        assert len(found["correct"]) == len(found["confidence"]) == 64
        orders.add(found["labels"])
    assert len(orders) == 1


def test_calibration_sets_the_temperature_and_tells_calibrated_answers(sprites: Views) -> None:
    part, space = inverse(sprites), sprites.labelled.cache.space
    truth = space.one_hot(torch.arange(100) % 5)
    logits = 20.0 * truth
    logits[::4] = 20.0 * truth.roll(1, 1)[::4]  # a quarter is wrong, and as sure
    found = calibrate(part, Distribution(space, logits), truth)[HELD_OUT]
    assert sum(found["correct"]) == 75
    assert float(np.mean(found["confidence"])) == pytest.approx(76 / 102, abs=1e-2)
    assert float(part.temperature.min()) > 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auto") / "data"
    line = ["record", "sprites", "--episodes", "30", "--random", "0.3", "--out", str(folder), "--json"]
    assert cli.main(line) == 0
    return folder


def test_train_auto_from_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "auto", "--data", str(data), "--labels", "32", "--out", str(tmp_path / "r"), "--size", "micro"]
    capsys.readouterr()
    assert cli.main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["recipe"] for row in told["auto"]["candidates"]] == list(auto.CANDIDATES)
    assert told["recipe"] == told["auto"]["kept"]
    assert load_system(tmp_path / "r").about["recipe"] == told["recipe"]
    assert cli.main(line) == 0  # loads, and shows the table
    shown = capsys.readouterr().out
    assert "right, in" in shown
    assert f"kept: {told['recipe']}" in shown
    assert cli.main([*line, "--set", "fit.steps=9"]) == 2
    assert "auto trains several" in capsys.readouterr().err


def test_no_threshold_is_found_where_the_precision_is_not_reached() -> None:
    """15 classes of which three quarters of the answers are right: 0.8 is granted in at most 5 % of draws."""
    space = ActionSpace((categorical("a", [str(i) for i in range(15)]),))
    granted = 0
    for draw in range(60):
        noise = torch.Generator().manual_seed(draw)
        truth = torch.randint(0, 15, (64,), generator=noise)
        wrong = (truth + 1 + torch.randint(0, 14, (64,), generator=noise)) % 15
        said = torch.where(torch.rand(64, generator=noise) < 0.75, truth, wrong)
        logits = torch.randn(64, 15, generator=noise) * 0.5
        logits[torch.arange(64), said] += 3 + torch.rand(64, generator=noise)
        belief = apart(Distribution(space, logits), space.one_hot(truth))
        confidence = belief.confidence().double().clamp(0, 1).numpy()
        right = (belief.mode().argmax(-1) == truth).numpy()
        granted += abstention_threshold(confidence, right, 0.8) is not None
    assert granted <= 3


def test_each_answer_is_calibrated_by_the_other_labels_alone() -> None:
    """A label's own truth does not touch its confidence; another label's does."""
    space = ActionSpace((categorical("a", ("x", "y")),))
    logits = torch.tensor([[2.0, 0.0]]).expand(20, 2)
    truth = space.one_hot(torch.zeros(20))
    flipped = truth.clone()
    flipped[3] = torch.tensor([0.0, 1.0])
    before, after = (apart(Distribution(space, logits), told).confidence() for told in (truth, flipped))
    assert before[3] == pytest.approx(float(after[3]), abs=1e-6)
    assert (after[torch.arange(20) != 3] < before[torch.arange(20) != 3] - 1e-3).all()
