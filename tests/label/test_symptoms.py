"""Symptoms: each in a case made by hand, beside a control without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.data.motion import Motion
from retrodict.label.symptoms import Finding, clock, doing, jumps, nothing_done, recording, views
from retrodict.spaces import ActionSpace, Segment, categorical, continuous

MOVES = ActionSpace((categorical("move", ("stay", "left", "right")),))


def moving(far: list[float]) -> Motion:
    """Things that move so far in each step, before one camera."""
    values = np.array(far, float)[:, None]
    return Motion(values == 0, values / 4, values / 20, values, np.zeros((len(far), 1, 2)), np.zeros_like(values))


def timed(times: list[float]) -> dict[str, Clip]:
    t = torch.tensor([times], dtype=torch.float64)
    return {"a": Clip(times=t, source=torch.zeros(1, len(times) - 1, dtype=torch.uint8))}


def kinds(found: list[Finding]) -> list[str]:
    return [finding.kind for finding in found]


def even(count: int, fps: float) -> list[float]:
    return (np.arange(count) / fps).tolist()


def test_a_steady_clock_is_well_whatever_its_jitter() -> None:
    times = np.arange(100) / 20 + 0.004 * np.resize([0, 1, -1], 100)
    figures, found = clock(timed(times.tolist()), 20)
    assert (figures["missing"], found) == (0, [])
    assert figures["rate"] == pytest.approx(20, rel=1e-3)


def test_another_rate_than_the_declared_one_is_told() -> None:
    figures, found = clock(timed(even(50, 25)), 30)
    assert kinds(found) == ["rate"]
    assert figures["rate"] == pytest.approx(25)
    assert clock(timed(even(50, 25)), 25)[1] == []


def test_a_clock_that_drifts_by_more_than_half_a_frame_is_told() -> None:
    figures, found = clock(timed(even(400, 19.95)), 20)  # 0.25 % too slow: a whole frame after 400
    assert kinds(found) == ["clock"]
    assert figures["drift"] == pytest.approx(399 * (20 / 19.95 - 1), rel=1e-3)
    assert clock(timed(even(100, 19.95)), 20)[1] == []


def test_frames_that_times_leave_out_are_counted() -> None:
    times = [t for i, t in enumerate(even(50, 10)) if i not in (10, 20, 21)]
    figures, found = clock(timed(times), 10)
    assert (figures["missing"], kinds(found), found[0].episodes) == (3, ["dropped"], ("a",))


def test_cuts_are_told_and_a_view_that_always_changes_has_none() -> None:
    smooth = moving([2.0] * 60)
    change = np.full((60, 1), 4.0)
    change[30] = 70
    figures, found = recording({"a": replace(smooth, change=change), "b": smooth}, 20)
    assert (figures["cuts"], kinds(found)) == (1, ["cuts"])
    assert "after frame 30 of a" in found[0].word
    change[::4] = 70  # a game whose player turns
    assert recording({"a": replace(smooth, change=change)}, 20)[0]["cuts"] == 0
    assert recording({"a": smooth}, 20)[1] == []


def test_double_steps_are_dropped_frames_where_motion_is_even() -> None:
    far = [1.0] * 80
    for step in (10, 30, 50):
        far[step] = 2.0
    figures, found = recording({"a": moving(far)}, 20)
    assert (figures["jumps"], kinds(found)) == (3, ["jumps"])
    uneven = np.random.default_rng(0).uniform(0.5, 4, 80).tolist()
    assert jumps({"a": moving(uneven)}) is None
    assert recording({"a": moving(uneven)}, 20) == (
        {"cuts": 0, "copies": 0, "jumps": None, "period": 0, "by_episode": {k: {"a": 0} if k != "jumps" else {}
         for k in ("cuts", "copies", "jumps")}}, [],
    )  # fmt: skip


def test_a_repeated_frame_is_made_up_for_by_the_next_step_and_a_pause_is_not() -> None:
    late, pause = [1.0] * 40, [1.0] * 40
    late[20:22] = [0.0, 2.0]
    pause[20:23] = [0.0, 0.0, 0.0]
    figures, found = recording({"a": moving(late)}, 20)
    assert (figures["copies"], figures["jumps"], kinds(found)) == (1, 0, ["copies"])
    figures, found = recording({"a": moving(pause)}, 20)
    assert (figures["copies"], found) == (0, [])


@pytest.mark.parametrize("period", [2, 5])
def test_frames_that_repeat_with_a_period_tell_the_true_rate(period: int) -> None:
    far = [0.0 if i % period == 1 else 1.0 for i in range(100)]
    figures, found = recording({"a": moving(far)}, 30)
    assert (figures["period"], figures["copies"], kinds(found)) == (period, 100 // period, ["copies"])
    assert f"--fps {30 * (period - 1) // period}" in found[0].word


def test_a_view_that_moves_or_stands_is_told_by_camera() -> None:
    still = moving([0.0] * 10)
    panning = replace(moving([2.0] * 10), moved=np.ones((10, 1)), explained=np.ones((10, 1)))
    both = Motion(*(np.concatenate([a, b], 1) for a, b in zip(_parts(panning), _parts(still), strict=True)))
    figures, found = views({"a": both}, ["front", "side"], unlabelled=True)
    assert [(row["moving"], row["still"]) for row in figures["cameras"]] == [(1.0, 0.0), (0.0, 1.0)]
    assert kinds(found) == ["camera motion", "still"]
    assert found[0].word.startswith("front")
    assert kinds(views({"a": both}, ["front", "side"], unlabelled=False)[1]) == ["still"]
    assert views({"a": moving([1.0] * 10)}, ["front"], unlabelled=True)[1] == []


def _parts(motion: Motion) -> list[np.ndarray]:
    return [getattr(motion, name) for name in Motion.__dataclass_fields__]


def told(numbers: list[int], known: int) -> Clip:
    source = torch.full((1, len(numbers)), MISSING, dtype=torch.uint8)
    source[:, :known] = RECORDED
    return Clip(actions=MOVES.one_hot(torch.tensor([numbers], dtype=torch.float32)), source=source)


def test_missing_actions_and_those_that_do_or_show_nothing_are_counted() -> None:
    clip = told([0] * 9 + [1] + [2] * 10, known=10)
    figures, found = doing(MOVES, {"a": clip}, {"a": moving([1.0] * 20)})
    assert (figures["null_share"], figures["unseen_share"], figures["by_episode"]) == (0.9, 0.0, {"a": 10})
    assert kinds(found) == ["null"]
    clip = told([1] * 20, known=20)
    figures, found = doing(MOVES, {"a": clip}, {"a": moving([0.0] * 8 + [1.0] * 12)})
    assert (figures["null_share"], figures["unseen_share"], kinds(found)) == (0.0, 0.4, ["unseen"])
    assert doing(MOVES, {"a": clip}, {"a": moving([1.0] * 20)})[1] == []


def test_doing_nothing_is_known_of_choices_keys_and_changes_only() -> None:
    keys, relative = Segment("keys", "binary", ("x", "y")), replace(continuous("v", ("v",)), relative=True)
    space = ActionSpace((keys, relative))
    clip = Clip(actions=torch.tensor([[[0.0, 0, 0], [0, 1, 0], [0, 0, 0.5]]]))
    idle = nothing_done(space, clip)
    assert idle is not None
    assert idle.tolist() == [True, False, False]
    assert nothing_done(ActionSpace((replace(relative, relative=False),)), Clip(actions=torch.zeros(1, 3, 1))) is None
    assert nothing_done(ActionSpace((categorical("m", ("a", "b")),)), Clip(actions=torch.zeros(1, 3, 2))) is None
