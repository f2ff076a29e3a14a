"""The arm scene: levels, looks, cameras, latency, exact states, experts. Skipped where it cannot be drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict.cli import main
from retrodict.data.store import Store
from retrodict.envs import arm_scene
from retrodict.envs.arm import Arm
from retrodict.envs.arm_scene import SIDE, TEXTURES
from retrodict.envs.blind import blind
from retrodict.envs.catalog import make
from retrodict.envs.rollout import expert, open_loop, rollout, score, uniform
from retrodict.errors import MissingPackage, UnknownName, UnusableInput
from retrodict.run.collect import schema_of

try:
    Arm(1)
except UnusableInput as error:
    missing = str(error)
else:
    missing = ""
drawn = pytest.mark.skipif(bool(missing), reason=missing)


def act(*move: float) -> np.ndarray:
    return np.array([move], np.float32)


@drawn
def test_actions_are_three_motions_and_a_gripper() -> None:
    world = Arm(2)
    assert world.actions.columns == ("move.x", "move.y", "move.z", "gripper")
    assert [segment.kind for segment in world.actions.segments] == ["continuous", "binary"]
    assert world.actions.segments[0].relative
    actions = world.action_space.sample()
    assert np.array_equal(world.native(world.vectors(actions)), actions)
    assert world.actions.describe(torch.tensor([0.5, -1, 0, 1])) == {"move": [0.5, -1.0, 0.0], "gripper": "closed"}


@drawn
def test_a_motion_of_one_is_two_centimetres_and_more_is_no_more() -> None:
    for axis in range(3):
        for size in (1.0, 3.0, -1.0, 0.5):
            world = Arm(1)
            world.reset(seed=0)
            before = world.places()["hand"][0]
            world.step(act(*np.eye(3)[axis] * size, 0))
            moved = world.places()["hand"][0] - before
            assert moved == pytest.approx(np.eye(3)[axis] * 0.02 * np.clip(size, -1, 1), abs=0.001)


@drawn
def test_the_gripper_closes_within_a_step() -> None:
    world = Arm(1)
    world.reset(seed=1)
    assert world.places()["fingers"].min() == pytest.approx(0.03)
    world.step(act(0, 0, 0, 1))
    assert world.places()["fingers"].max() < 0.012
    world.step(act(0, 0, 0, 0))
    assert world.places()["fingers"].min() > 0.018


@drawn
def test_a_level_is_a_pure_function_of_its_seed_in_any_row() -> None:
    many, one = Arm(3), Arm(1)
    frames, _ = many.reset(seed=[5, 6, 7])
    again, _ = one.reset(seed=7)
    assert np.array_equal(frames[2], again[0])
    assert not np.array_equal(frames[0], frames[1])
    for _ in range(6):
        frames, *_ = many.step(many.expert())
        again, *_ = one.step(one.expert())
        assert np.array_equal(frames[2], again[0])
    assert np.array_equal(many.state()["bodies"][2], one.state()["bodies"][0])


@drawn
def test_two_cameras_see_different_things_and_stack_in_their_order() -> None:
    both, front, side = Arm(1), Arm(1, cameras="front"), Arm(1, cameras="side")
    assert list(both.cameras.items()) == [
        ("observation.images.front", (SIDE, SIDE, 3)),
        ("observation.images.side", (SIDE, SIDE, 3)),
    ]
    frames = {name: world.reset(seed=3)[0] for name, world in (("both", both), ("front", front), ("side", side))}
    assert frames["both"].shape == (1, SIDE, SIDE, 6)
    assert np.array_equal(frames["both"][..., :3], frames["front"])
    assert np.array_equal(frames["both"][..., 3:], frames["side"])
    after, *_ = both.step(act(1, 0, 0, 0))  # along x: across the front picture, towards the side camera
    across = [np.abs(after[0, ..., c] - frames["both"][0, ..., c].astype(int)).max(-1) for c in (slice(3), slice(3, 6))]
    assert (across[0] > 8).sum() > (across[1] > 8).sum()
    assert schema_of(both).channels == 6


@drawn
@pytest.mark.parametrize("textures", TEXTURES)
def test_a_texture_changes_looks_and_keeps_the_state(textures: str) -> None:
    one, other = Arm(2, textures="checker"), Arm(2, textures=textures)
    one.reset(seed=3)
    other.reset(seed=3)
    for _ in range(4):
        first, *_ = one.step(one.expert())
        second, *_ = other.step(other.expert())
    assert all(np.array_equal(one.state()[name], value) for name, value in other.state().items())
    assert np.array_equal(first, second) == (textures == "checker")
    assert not np.array_equal(second[0], second[1])


@drawn
@pytest.mark.parametrize("latency", [1, 2])
def test_latency_shows_every_effect_that_many_steps_later(latency: int) -> None:
    prompt, late, idle = Arm(2), Arm(2, latency=latency), Arm(2)
    for world in (prompt, late, idle):
        world.reset(seed=4)
    actions = np.random.default_rng(0).uniform((-1, -1, -1, 0), 1, (8, 2, 4)).astype(np.float32)
    for _ in range(latency):  # until then nothing moves and the gripper stays open
        prompt.step(np.zeros((2, 4), np.float32))
    prompt_frames = [prompt.step(action)[0] for action in actions]
    late_frames = [late.step(action)[0] for action in actions]
    for frames in late_frames[:latency]:
        assert np.array_equal(frames, idle.step(np.zeros((2, 4), np.float32))[0])
    assert all(np.array_equal(a, b) for a, b in zip(late_frames[latency:], prompt_frames, strict=False))
    assert not np.array_equal(late_frames[latency], late_frames[latency - 1])


@drawn
def test_restore_replays_exactly() -> None:
    world, other = (Arm(2, task="pick", latency=1) for _ in range(2))
    world.reset(seed=1)
    for _ in range(12):
        world.step(world.expert())
    saved, shown = world.state(), world._frames()
    after = [world.step(world.expert())[0] for _ in range(6)]
    assert np.array_equal(other.restore(saved), shown)
    for frames in after:
        assert np.array_equal(other.step(other.expert())[0], frames)
    assert all(np.array_equal(world.state()[name], value) for name, value in other.state().items())
    with pytest.raises(UnusableInput, match="another world"):
        Arm(2).restore(saved)


@drawn
@pytest.mark.parametrize(("task", "latency", "random"), [("reach", 0, 0.2), ("reach", 2, 0.2), ("pick", 0, 0.0)])
def test_the_expert_succeeds_and_chance_does_not(task: str, latency: int, random: float) -> None:
    world = Arm(8, task=task, latency=latency)
    assert all(score(world, range(900, 908), expert(world, random))["success"])
    assert not any(score(world, range(900, 904), uniform(world))["success"])


@drawn
def test_success_in_reach_needs_a_closed_low_hand_over_the_disc_for_three_steps() -> None:
    for closes in (True, False):
        world, reached = Arm(1), []
        world.reset(seed=2)
        while not world.done[0]:
            action = world.expert()
            action[:, 3] *= closes
            success = world.step(action)[4]["success"][0]
            at = world.places()
            near = np.linalg.norm((at["hand"] - at["disc"])[0, :2]) < 0.025 and at["hand"][0, 2] < 0.06
            reached.append(bool(near and at["fingers"].max() < 0.005))
            assert success == (reached[-3:] == [True] * 3)
        assert success == closes
        assert near


@drawn
def test_the_best_constant_is_searched_among_corners_of_the_actions() -> None:
    world = Arm(1, limit=4)
    plan = blind(world, range(2))
    assert plan.shape == (1, 4)
    assert set(plan[0, :3].tolist()) <= {-1.0, 0.0, 1.0}
    assert score(world, [7], open_loop(world, plan))["lengths"] == [4]


@drawn
def test_a_recording_has_both_cameras_and_restores_the_pixels(tmp_path: Path) -> None:
    assert main(["record", "arm", "--episodes", "2", "--random", "0.2", "--out", str(tmp_path / "d")]) == 0
    with Store.open(tmp_path / "d") as store:
        assert list(store.schema.cameras) == ["observation.images.front", "observation.images.side"]
        clip = store.read(store.ids[1])
    world = make("arm", 1)
    ((played, success, _),) = rollout(world, [1], expert(world, 0.2))
    assert success
    assert clip.frames is not None
    assert played.frames is not None
    assert torch.equal(clip.frames, played.frames)


@drawn
def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownName, match="'stripes'"):
        Arm(1, textures="checker+stripe")
    with pytest.raises(UnknownName, match="'front'"):
        Arm(1, cameras="frond")
    with pytest.raises(UnknownName, match="'reach'"):
        Arm(1, task="reech")
    with pytest.raises(UnusableInput, match="0 or more; got -1"):
        Arm(1, latency=-1)
    world = Arm(1)
    world.reset(seed=0)
    with pytest.raises(UnusableInput, match="finite"):
        world.step(act(np.nan, 0, 0, 0))


def test_what_is_missing_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingPackage, match="pip install 'retrodict\\[arm\\]'"):
        arm_scene.Scene()


@drawn
def test_without_opengl_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "none-such")
    with pytest.raises(UnusableInput, match=r"through none-such, .*apt install libegl1"):
        arm_scene.Scene()
