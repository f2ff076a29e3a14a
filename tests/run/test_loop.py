"""The loop: schedule, groups, data, durability by name."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from retrodict import rng
from retrodict.clip import PREDICTED, RECORDED, Clip
from retrodict.data.batch import Steps
from retrodict.errors import StaleStage, UnusableInput
from retrodict.models.inverse import Inverse
from retrodict.models.latent_action import CodeAdapter, LatentInverse
from retrodict.models.losses import labelled
from retrodict.models.tokenizers import ConvTokenizer, LearnedTokenizer, tokenizing
from retrodict.nn.part import Part
from retrodict.roles import DecodedInverse, View
from retrodict.run.log import Log
from retrodict.run.loop import Fit, weights_hash
from retrodict.run.run import Run, Views, config_digest

FIT = Fit(steps=12, batch=4)


class Dial(Part):
    """Two numbers in two groups, and a count of steps."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(torch.tensor(start)), nn.Parameter(torch.tensor(start))
        self.register_buffer("seen", torch.zeros(()))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"left": [self.left], "right": [self.right]}

    def after_step(self, step: int, rate: float) -> None:
        self.seen += 1


def both(part: Dial, clip: Any, noise: torch.Generator) -> dict[str, Tensor]:
    product = part.left * part.right
    return {"left": product**2, "right": -(product**2)}


def inverse(views: Views) -> Inverse:
    torch.manual_seed(3)
    return Inverse(View(2, size=(36, 36)), views.labelled.cache.space, patch=4, width=4, depth=1, hidden=8, dropout=0.2)


def curve(folder: Path, name: str = "inverse") -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "stages" / name / "metrics.jsonl").read_text().splitlines()]


def train(folder: Path, views: Views, steps: int = 12, **more: Any) -> str:
    with Run(folder, views, **more) as run:
        part = run.fit("inverse", inverse(views), labelled, views.labelled, replace(FIT, steps=steps))
    return weights_hash(part)


class Stopped(Exception):
    pass


class Stopping(Log):
    """Breaks off at a step, as a crash would."""

    def __init__(self, at: int) -> None:
        super().__init__(quiet=True)
        self.at = at

    def step(self, step: int, values: dict[str, float]) -> None:
        super().step(step, values)
        if step == self.at:
            raise Stopped


def test_the_rate_rises_linearly_then_falls_as_a_cosine() -> None:
    fit = Fit(steps=10, rate=1.0, warmup=0.2, floor=0.1)
    table = [round(fit.rate_at(step), 4) for step in range(11)]
    cosine = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(9)]
    assert table == [0.5, 1.0, *(round(c, 4) for c in cosine)]
    assert table[2] == 1.0
    assert table[-1] == 0.1


fits = st.builds(
    Fit, steps=st.integers(1, 300), rate=st.floats(1e-6, 10.0), warmup=st.floats(0.0, 1.0), floor=st.floats(0.0, 1.0)
)


@given(fits)
def test_whatever_its_settings_a_rate_rises_in_a_line_to_its_peak_and_then_falls_to_its_floor(fit: Fit) -> None:
    rates = np.array([fit.rate_at(step) for step in range(fit.steps)]) / fit.rate
    assert rates.min() > 0
    assert rates.max() == pytest.approx(1)
    warm = int((rates > 1 - 1e-9).argmax()) + 1  # the first steps, the last of which is at the peak
    assert abs(warm - max(1, fit.warmup * fit.steps)) <= 0.5 + 1e-9
    assert rates[:warm] == pytest.approx(np.arange(1, warm + 1) / warm)
    assert (np.diff(rates[warm - 1 :]) <= 1e-12).all()
    fallen = fit.rate_at(fit.steps) / fit.rate  # where all steps are done
    assert fallen == pytest.approx(fit.floor if warm < fit.steps else 1)
    near = 2.5 / max(1, fit.steps - warm) ** 2  # a cosine is flat at its end
    assert -1e-9 <= rates[-1] - fallen <= near


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"rate": 0.0}])
def test_settings_that_cannot_train_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnusableInput, match="positive"):
        Fit(**change)


def test_a_loss_reaches_only_its_own_group(tmp_path: Path, sprites: Views) -> None:
    """Each group minimises its own loss of the same product: left goes down, right goes up."""
    with Run(tmp_path, sprites) as run:
        part = run.fit("dial", Dial(), both, sprites.labelled, Fit(steps=5, batch=1, rate=0.1, decay=0.0))
    assert part.left.item() < 1.0 < part.right.item()
    assert float(part.seen) == 5.0


class ThreeDials(Part):
    """Three numbers in three groups, the first and the last at another pace."""

    def __init__(self) -> None:
        super().__init__()
        self.dials = nn.ParameterList(torch.tensor(value) for value in (1.0, 2.0, 3.0))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {name: [dial] for name, dial in zip("abc", self.dials, strict=True)}


def test_groups_that_share_a_loss_learn_as_those_that_do_not(tmp_path: Path, sprites: Views) -> None:
    def learnt(name: str, shared: bool) -> list[float]:
        def loss(part: ThreeDials, clip: Any, noise: torch.Generator) -> dict[str, Tensor]:
            a, b, c = part.dials
            whole = (a * b * c) ** 2
            return {"a": whole, "b": -(a * b * c), "c": whole if shared else whole + 0}

        with Run(tmp_path / name, sprites) as run:
            part = run.fit("dials", ThreeDials(), loss, sprites.labelled, Fit(5, 1, 0.1, 0.0))
        return [float(dial) for dial in part.dials]

    assert learnt("shared", True) == learnt("apart", False)
    assert learnt("shared", True)[1] > 2.0


def test_losses_must_be_named_as_the_groups(tmp_path: Path, sprites: Views) -> None:
    def one(part: Dial, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
        return {"left": part.left}

    with Run(tmp_path, sprites) as run, pytest.raises(UnusableInput, match=r"\['left'\].*\['left', 'right'\]"):
        run.fit("dial", Dial(), one, sprites.labelled, FIT)


def test_several_selections_meet_in_one_step(tmp_path: Path, sprites: Views) -> None:
    met = []

    def look(part: Dial, clips: dict[str, Clip], noise: torch.Generator) -> dict[str, Tensor]:
        met.append({name: (clip.rows, clip.length, int(clip.known.sum())) for name, clip in clips.items()})
        return {"left": part.left**2, "right": part.right**2}

    data = {"video": (sprites.unlabelled.shown(View(4, 1)), 5), "few": (sprites.labelled, 3)}
    with Run(tmp_path, sprites) as run:
        run.fit("dial", Dial(), look, data, Fit(steps=2))
    assert met == [{"video": (5, 4, 0), "few": (3, 2, 3)}] * 2


def test_a_finished_stage_is_loaded_and_not_trained(tmp_path: Path, sprites: Views) -> None:
    first = train(tmp_path, sprites)
    assert train(tmp_path, sprites, log=Stopping(0)) == first


def test_a_half_done_stage_goes_on_with_the_same_curve_and_no_line_twice(tmp_path: Path, sprites: Views) -> None:
    whole = train(tmp_path / "whole", sprites)
    for at in (3, 8, 11):  # committed at 5 and 10; each is stopped three times
        with pytest.raises(Stopped):
            train(tmp_path / "cut", sprites, log=Stopping(at), commit_steps=5)
    assert train(tmp_path / "cut", sprites, commit_steps=5) == whole
    assert [line["step"] for line in curve(tmp_path / "cut")] == list(range(12))
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert not list((tmp_path / "cut" / "stages" / "inverse").glob("step-*"))


def test_metrics_that_were_kept_survive_a_second_stop(tmp_path: Path, sprites: Views) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, sprites, log=Stopping(7), commit_steps=5)
    log = Log(quiet=True)
    path = tmp_path / "stages" / "inverse" / "metrics.jsonl"
    log.begin(path, 5, 12, "inverse")  # nothing more: as if killed at once
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3, 4]
    log.end()


def test_commits_come_every_so_many_steps_and_two_are_kept(tmp_path: Path, sprites: Views) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, sprites, log=Stopping(11), commit_steps=2)
    assert sorted(p.name for p in (tmp_path / "stages" / "inverse").glob("step-*")) == ["step-10", "step-8"]


def test_the_folder_does_not_matter_and_the_seed_does(tmp_path: Path, sprites: Views) -> None:
    first = train(tmp_path / "a", sprites, seed=1)
    assert train(tmp_path / "b with spaces" / "deeper", sprites, seed=1) == first
    assert train(tmp_path / "c", sprites, seed=2) != first


def test_a_stage_of_other_settings_is_stale_and_says_what_differs(tmp_path: Path, sprites: Views) -> None:
    train(tmp_path, sprites)
    with pytest.raises(StaleStage, match=r"fit\.steps was 12 and is now 13\. Use --restart inverse") as caught:
        train(tmp_path, sprites, steps=13)
    assert "data" not in str(caught.value)
    other = replace(sprites, labelled=sprites.labelled.only(np.arange(20)))
    with pytest.raises(StaleStage, match=r"other steps, labels, windows or rows of data\.") as caught:
        train(tmp_path, other)
    assert not re.search(r"\b[0-9a-f]{16}\b", str(caught.value))  # a hash says nothing to people


def test_restart_redoes_a_stale_stage(tmp_path: Path, sprites: Views) -> None:
    fresh = train(tmp_path / "fresh", sprites, steps=13)
    train(tmp_path / "old", sprites)
    assert train(tmp_path / "old", sprites, steps=13, restart=("inverse",)) == fresh


def test_a_stage_is_stale_when_a_stage_before_it_changed(tmp_path: Path, sprites: Views) -> None:
    def two(rate: float, restart: tuple[str, ...] = ()) -> None:
        with Run(tmp_path, sprites, restart=restart) as run:
            run.fit("one", Dial(), both, sprites.labelled, Fit(steps=2, rate=rate))
            run.fit("two", Dial(), both, sprites.labelled, Fit(steps=2))

    two(1e-3)
    with pytest.raises(StaleStage, match=r"stage 'two'.*: stage 'one' before it is another\."):
        two(1e-4, ("one",))


def test_two_stages_of_one_name_are_refused(tmp_path: Path, sprites: Views) -> None:
    with Run(tmp_path, sprites) as run:
        run.fit("dial", Dial(), both, sprites.labelled, Fit(steps=1))
        with pytest.raises(UnusableInput, match="its own name"):
            run.fit("dial", Dial(), both, sprites.labelled, Fit(steps=1))


def test_a_time_share_becomes_steps_once(tmp_path: Path, sprites: Views) -> None:
    """The number is recorded: a resumed run, however fast, does as many steps."""
    share = {"inverse": 1e-9}  # not even one step: the least is 20
    with pytest.raises(Stopped):
        train(tmp_path, sprites, steps=500, seconds=share, log=Stopping(15), commit_steps=5)
    record = tmp_path / "stages" / "inverse" / "steps.json"
    assert json.loads(record.read_text()) == {"steps": 20, "asked": 500}
    record.write_text('{"steps": 25, "asked": 500}')
    train(tmp_path, sprites, steps=500, seconds=share)
    lines = curve(tmp_path)
    assert [line["step"] for line in lines] == list(range(25))
    assert lines[-1]["rate"] == Fit(steps=25).rate_at(24)


def test_a_time_share_never_adds_steps(tmp_path: Path, sprites: Views) -> None:
    with_share = train(tmp_path / "a", sprites, steps=6, seconds={"inverse": 1e-9})
    assert with_share == train(tmp_path / "b", sprites, steps=6)


def test_evolution_runs_without_gradients_and_once(tmp_path: Path, sprites: Views) -> None:
    def body(part: Dial, step: int, noise: torch.Generator) -> dict[str, float]:
        part.seen += torch.rand((), generator=noise)
        assert not torch.is_grad_enabled()
        return {"seen": float(part.seen)}

    values = []
    for _ in range(2):
        with Run(tmp_path, sprites) as run:
            values.append(float(run.loop("count", Dial(), body, 3).seen))
    assert values[0] == values[1] > 0
    assert [line["step"] for line in curve(tmp_path, "count")] == [0, 1, 2]


def test_a_loop_that_was_killed_goes_on_from_its_last_commit(tmp_path: Path, sprites: Views) -> None:
    begun, kills = list[int](), [5]

    def body(part: Dial, step: int, noise: torch.Generator) -> dict[str, float]:
        begun.append(step)
        if step in kills:
            raise KeyboardInterrupt
        part.seen += torch.rand((), generator=noise)
        return {"seen": float(part.seen)}

    with Run(tmp_path / "cut", sprites, commit_steps=2) as run, pytest.raises(KeyboardInterrupt):
        run.loop("count", Dial(), body, 6)
    kills.clear()
    with Run(tmp_path / "cut", sprites, commit_steps=2) as run:
        seen = run.loop("count", Dial(), body, 6).seen
    assert begun == [0, 1, 2, 3, 4, 5, 4, 5]
    with Run(tmp_path / "whole", sprites) as run:
        assert run.loop("count", Dial(), body, 6).seen.equal(seen)
    assert curve(tmp_path / "cut", "count") == curve(tmp_path / "whole", "count")


def test_a_loop_over_data_sees_the_same_batches_and_other_data_are_another_stage(
    tmp_path: Path, sprites: Views
) -> None:
    seen: list[Clip] = []

    def body(part: Dial, clip: Clip, noise: torch.Generator) -> dict[str, float]:
        seen.append(clip)
        part.seen += 1
        return {}

    for folder in ("a", "b"):
        with Run(tmp_path / folder, sprites) as run:
            assert float(run.loop("look", Dial(), body, 2, sprites.unlabelled, 5).seen) == 2
    first, _, again, _ = (clip.frames for clip in seen)
    assert first is not None
    assert first.shape[0] == 5
    assert first.equal(again)  # type: ignore[arg-type]
    with Run(tmp_path / "a", sprites) as run, pytest.raises(StaleStage, match="windows or rows of data"):
        run.loop("look", Dial(), body, 2, sprites.labelled, 5)


class Gauged(Dial):
    """A part with a gauge, and an alarm once it has been trained for long."""

    def gauges(self) -> dict[str, float]:
        return {"dial/seen": float(self.seen)}

    def alarm(self) -> str:
        return "it turned too far" if self.seen > 3 else ""


def test_gauges_are_in_the_metrics_and_an_alarm_is_said_at_the_end(tmp_path: Path, sprites: Views) -> None:
    for steps, told in ((3, []), (4, ["dial: it turned too far"])):
        log = Listening()
        with Run(tmp_path / str(steps), sprites, log=log) as run:
            run.fit("dial", Gauged(), both, sprites.unlabelled, Fit(steps, 4))
        assert log.said == told
        assert [line["dial/seen"] for line in curve(tmp_path / str(steps), "dial")] == [1.0, 2.0, 3.0, 4.0][:steps]


def test_an_alarm_is_said_once_while_a_part_trains_and_again_at_the_end(tmp_path: Path, sprites: Views) -> None:
    for steps, early in (
        (12, 4),
        (40, 12),
    ):  # it turns too far at step 4; asked are tenths of the steps, after a quarter
        log = Listening()
        with Run(tmp_path / str(steps), sprites, log=log) as run:
            run.fit("dial", Gauged(), both, sprites.unlabelled, Fit(steps, 4))
        assert log.said == [f"dial, step {early} of {steps}: it turned too far", "dial: it turned too far"]


def test_an_alarm_of_what_learns_without_gradients_is_said_at_its_end(tmp_path: Path, sprites: Views) -> None:
    def turn(part: Gauged, step: int, noise: torch.Generator) -> dict[str, float]:
        part.seen += 1
        return {}

    for steps, told in ((3, []), (4, ["dial: it turned too far"])):
        log = Listening()
        with Run(tmp_path / str(steps), sprites, log=log) as run:
            run.loop("dial", Gauged(), turn, steps)
        assert log.said == told


def test_restarted_codes_are_counted_in_the_metrics_also_after_an_interruption(tmp_path: Path, sprites: Views) -> None:
    def starving(part: LearnedTokenizer, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
        found = tokenizing(part, clip, noise)
        part.quantiser.used[0, :3] = 0.0  # three codes that nobody uses
        return found

    def trained(folder: Path, log: Log) -> None:
        with rng.isolated("tokens"):
            part = ConvTokenizer(View(size=(36, 36)), {"kind": "vq", "positions": 1, "codes": 8, "width": 4}, 12, 8)
        with Run(folder, sprites, log=log, commit_steps=10) as run:
            run.fit("tokens", part, starving, sprites.unlabelled, Fit(80, 4))

    trained(tmp_path / "whole", Log(quiet=True))
    for at in (22, 39):
        with pytest.raises(Stopped):
            trained(tmp_path / "broken", Stopping(at))
    trained(tmp_path / "broken", Log(quiet=True))
    whole = curve(tmp_path / "whole", "tokens")
    assert {line["step"]: line["codes/restarted"] for line in whole if line["codes/restarted"]} == {19: 3.0, 39: 3.0}
    assert curve(tmp_path / "broken", "tokens") == whole


class Listening(Log):
    """A silent log that remembers what was said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def test_a_map_knows_the_window_and_the_part_it_used(tmp_path: Path, sprites: Views) -> None:
    data = sprites.unlabelled.only(np.arange(30))

    def mean(clip: Clip) -> dict[str, Tensor]:
        assert clip.frames is not None
        return {"mean": clip.frames.float().mean((1, 2, 3, 4))}

    def once(data: Steps, part: Part) -> Tensor:
        with Run(tmp_path, sprites) as run:
            return run.map("mean", mean, data, batch=7, uses=(part,))["mean"]

    first = once(data, Dial())
    assert torch.equal(first, mean(data.batch(np.arange(30)))["mean"])
    assert torch.equal(once(data, Dial()), first)
    with pytest.raises(StaleStage, match="data"):
        once(data.shown(View(4, 1)), Dial())
    with pytest.raises(StaleStage, match="uses"):
        once(data, Dial(2.0))


def test_labelling_keeps_recorded_actions_and_predicts_the_rest(tmp_path: Path, sprites: Views) -> None:
    part = inverse(sprites).eval()
    with Run(tmp_path, sprites) as run:
        labels = run.label("labels", part, sprites.unlabelled)
    recorded = np.isin(labels.index, sprites.labelled.index)
    assert recorded.sum() == len(sprites.labelled) == 64
    source = labels.columns["source"][labels.index]
    assert (source[recorded] == RECORDED).all()
    assert (source[~recorded] == PREDICTED).all()
    known = labels.columns["actions"][labels.index[recorded]]
    assert torch.equal(torch.from_numpy(known), sprites.labelled.target_actions())
    at = int(np.flatnonzero(~recorded)[0])
    with torch.no_grad():
        belief = part.infer(sprites.unlabelled.batch(np.array([at])))
    assert torch.equal(torch.from_numpy(labels.columns["actions"][labels.index[at]]), belief.mode()[0, 0])
    assert labels.columns["confidence"][labels.index[at]] == pytest.approx(float(belief.confidence()))
    assert labels.digest != sprites.unlabelled.digest
    assert labels.cache.frames is sprites.unlabelled.cache.frames


def test_a_kill_between_stages_changes_nothing_downstream(tmp_path: Path, sprites: Views) -> None:
    """What is loaded must answer exactly as what was just trained."""

    def labels(folder: Path) -> str:
        with Run(folder, sprites) as run:
            part = run.fit("inverse", inverse(sprites), labelled, sprites.labelled, FIT)
            return run.label("labels", part, sprites.unlabelled).digest

    first = labels(tmp_path)
    shutil.rmtree(tmp_path / "stages" / "labels")
    assert labels(tmp_path) == first


def test_a_configuration_has_a_digest_of_its_values() -> None:
    assert config_digest(Fit()) == config_digest(Fit(steps=1000))
    assert config_digest(Fit()) != config_digest(Fit(steps=999))
    for other in (Fit, {"steps": 3}):
        with pytest.raises(UnusableInput, match="dataclass"):
            config_digest(other)


def test_labels_belong_to_the_weights_also_of_a_wrapped_model(tmp_path: Path, sprites: Views) -> None:
    """Two models behind an adapter in one run folder: the second must not get the labels of the first."""
    space = sprites.labelled.cache.space

    def wrapped(seed: int) -> DecodedInverse:
        with rng.isolated("wrapped", seed):
            inner = LatentInverse(sprites.unlabelled.cache.view(2), patch=4, width=4, depth=1)
            return DecodedInverse(inner.eval(), CodeAdapter(space, inner.space).eval())

    for seed in (0, 0, 1):
        with Run(tmp_path / "run", sprites) as run:
            if seed:
                with pytest.raises(StaleStage, match="uses"):
                    run.label("labels", wrapped(seed), sprites.unlabelled)
            else:
                run.label("labels", wrapped(seed), sprites.unlabelled)


def test_what_was_cut_short_is_not_taken_for_the_whole(tmp_path: Path, sprites: Views) -> None:
    """With a limit in time a stage is finished at fewer steps; without one it has to be done anew."""
    long = replace(FIT, steps=100_000)
    with Run(tmp_path, sprites, seconds={"inverse": 0.2}) as run:
        run.fit("inverse", inverse(sprites), labelled, sprites.labelled, long)
    with Run(tmp_path, sprites, seconds={"inverse": 60.0}) as run:  # turned into steps once
        run.fit("inverse", inverse(sprites), labelled, sprites.labelled, long)
    with Run(tmp_path, sprites) as run, pytest.raises(StaleStage, match="limited in time was True"):
        run.fit("inverse", inverse(sprites), labelled, sprites.labelled, long)
