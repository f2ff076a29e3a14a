"""Road: steering, bends, leaving the road, other cars, and pictures that tell all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrodict.envs.road import PULL, STEER, TOP, Road
from retrodict.envs.road_view import (
    BENDS,
    PERIOD,
    TRAFFIC,
    WEATHERS,
    attributes,
    bent,
    caption,
    captions,
    curvature,
    read_attributes,
    read_pose,
    render,
)
from retrodict.envs.rollout import expert, open_loop, rollout, score, smooth
from retrodict.errors import UnknownName, UnusableInput

State = dict[str, np.ndarray]


def driven(rows: int = 96, steps: int = 20, **options: object) -> tuple[Road, State]:
    world = Road(rows, **options)  # type: ignore[arg-type]
    world.reset(seed=0)
    for _ in range(steps):
        world.step(world.expert())
    return world, world.state()


def spread(state: State) -> State:
    """The same states, anywhere on the road and beside it."""
    return state | {"offset": np.linspace(-1.2, 1.2, len(state["offset"]))}


def straight(world: Road, **changes: float) -> None:
    state = world.state()
    state["curve"][..., 0] = 0
    for name, value in changes.items():
        state[name][:] = value
    world.restore(state)


def test_steering_moves_the_car_by_hand_computed_steps() -> None:
    world = Road(3, cars=0)
    world.reset(seed=0)
    straight(world, offset=0.0, speed=1.0)
    _, rewards, *_ = world.step(np.array([[1, 0], [-0.5, 0], [3, 1]], np.float32))
    state = world.state()
    assert state["offset"] == pytest.approx([0.15, -0.075, 1.1 * 0.15])
    assert state["speed"] == pytest.approx([1, 1, 1.1])
    assert state["place"] == pytest.approx([1, 1, 1.1])
    assert rewards == pytest.approx(state["speed"] / TOP)


def test_a_bend_takes_the_car_to_its_outside_unless_it_steers() -> None:
    world = Road(2, cars=0)
    world.reset(seed=0)
    bend = np.array([[[0.01, 1e-6, np.pi / 2]]])  # constant, to the right
    state = world.state() | {"offset": np.zeros(2), "speed": np.ones(2), "place": np.zeros(2)}
    state["curve"] = np.concatenate([np.repeat(bend, 2, 0), np.tile([0.0, 1.0, 0.0], (2, 2, 1))], 1)
    world.restore(state)
    assert curvature(state) == pytest.approx([0.01, 0.01])
    world.step(np.array([[0, 0], [PULL * 0.01 / STEER, 0]], np.float32))
    assert world.state()["offset"] == pytest.approx([-0.05, 0.0], abs=1e-6)


def test_a_constant_bend_is_a_parabola() -> None:
    state = {"curve": np.array([[[0.01, 1e-4, np.pi / 2]]]), "place": np.zeros(1)}
    assert bent(state, np.array([[2.0, 10.0, 30.0]])) == pytest.approx(np.array([[0.02, 0.5, 4.5]]), rel=1e-3)


def test_the_road_that_is_drawn_is_the_one_that_is_driven() -> None:
    """The middle of the road z ahead is the double integral of the curvatures met on the way there."""
    _, state = driven(4)
    steps = (np.arange(2400) + 0.5) * 12 / 2400
    along = np.stack([curvature(state | {"place": state["place"] + u}) for u in steps], 1)
    expected = ((12 - steps) * along).mean(1) * 12
    assert bent(state, np.full((4, 1), 12.0))[:, 0] == pytest.approx(expected, abs=1e-5)


def test_leaving_the_road_ends_the_episode_and_staying_is_a_success() -> None:
    world = Road(2, cars=0, limit=10)
    world.reset(seed=0)
    straight(world, offset=0.0, speed=1.0)
    rewards = np.ones(2)
    for _ in range(10):
        _, now, terminated, truncated, infos = world.step(np.array([[1, 0], [0, 0]], np.float32))
        rewards = np.where(now > 0, now, rewards)
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]
    assert infos["success"].tolist() == [False, True]
    assert world.steps.tolist() == [7, 10]  # 6 x 0.15 is still on the road
    assert now[0] == 0


def test_the_expert_keeps_the_road_and_who_does_not_look_leaves_it() -> None:
    world = Road(16)
    assert all(score(world, range(16), expert(world))["success"])
    assert np.mean(score(world, range(16), open_loop(world, torch.zeros(1, 2)))["lengths"]) < 150
    assert np.mean(score(world, range(16), smooth(world))["lengths"]) < 60


def test_the_experts_steering_is_no_function_of_the_picture() -> None:
    world = Road(1, limit=400)
    world.reset(seed=0)
    steers = []
    for step in range(0, 400, 10):
        straight(world, offset=0.1, speed=1.0, steps=step)
        steers.append(float(world.expert()[0, 0]))
    assert np.std(steers) > 0.1


def test_weather_texts_and_traffic_are_of_the_level() -> None:
    world = Road(200)
    world.reset(seed=0)
    state = world.state()
    assert set(state["weather"]) == set(range(len(WEATHERS)))
    assert set(state["there"].sum(1)) == {0, 1, 2}
    assert world.texts() == caption(state)
    assert Road(1, weather="fog").reset(seed=0)[0].shape == (1, 32, 32, 3)
    only = Road(20, weather="night+snow")
    only.reset(seed=0)
    assert {WEATHERS[kind] for kind in only.state()["weather"]} == {"night", "snow"}
    words = captions({"weather": np.array([1]), "traffic": np.array([1]), "bend": np.array([0])})
    assert words == ("night, a car ahead, the road bends left",)


def test_cars_come_nearer_but_are_never_hit() -> None:
    world, _ = driven(48, 0, cars=3)
    nearest = np.full((48, 3), np.inf)
    seen = np.zeros(48, bool)
    for _ in range(150):
        world.step(world.expert())
        state = world.state()
        beside = np.abs(state["lanes"] - state["offset"][:, None]) < 0.3
        ahead = state["there"] & beside & (state["gaps"] > 0)
        nearest = np.where(ahead, np.minimum(nearest, state["gaps"]), nearest)
        seen |= attributes(state)["traffic"] == 1
    assert 1 < nearest.min() < 6
    assert seen.mean() > 0.5


@pytest.mark.parametrize("size", [32, 64])
def test_the_pose_is_read_off_pictures(size: int) -> None:
    _, state = driven(96, cars=0)
    state = spread(state)
    found = read_pose(render(state, size))
    assert np.abs(found["offset"] - state["offset"]).max() < 0.05
    turn = (found["place"] - state["place"] + PERIOD / 2) % PERIOD - PERIOD / 2
    assert np.abs(turn).mean() < 0.15
    on_road, clear = np.abs(state["offset"]) < 1, np.abs(np.abs(state["offset"]) - 1) > 0.05
    assert np.array_equal((np.abs(found["offset"]) < 1)[clear], on_road[clear])


def test_cars_and_blur_do_not_mislead_the_reader_much() -> None:
    _, state = driven(96, 40, cars=3)
    frames = render(state)
    assert np.abs(read_pose(frames)["offset"] - state["offset"]).max() < 0.1
    blurred = frames.astype(float)
    blurred[:, :, 1:-1] = (blurred[:, :, :-2] + 2 * blurred[:, :, 1:-1] + blurred[:, :, 2:]) / 4
    found = read_pose(np.rint(blurred).astype(np.uint8))
    assert np.abs(found["offset"] - state["offset"]).mean() < 0.05


def test_captions_are_read_off_pictures() -> None:
    _, state = driven(160, 30, cars=3)
    truth, found = attributes(state), read_attributes(render(state))
    assert np.array_equal(found["weather"], truth["weather"])
    for name, words in (("traffic", TRAFFIC), ("bend", BENDS)):
        assert set(truth[name]) == set(range(len(words)))
        assert (found[name] == truth[name]).mean() > 0.93, name


def test_a_level_is_a_pure_function_of_its_seed_and_restores_exactly() -> None:
    many, one = Road(3), Road(1)
    frames, _ = many.reset(seed=[5, 6, 7])
    assert np.array_equal(frames[2], one.reset(seed=7)[0][0])
    for _ in range(5):
        many.step(many.expert())
    saved, other = many.state(), Road(3)
    assert np.array_equal(other.restore(saved), render(saved))
    for _ in range(5):
        assert np.array_equal(other.step(other.expert())[0], many.step(many.expert())[0])
    with pytest.raises(UnusableInput, match="another world"):
        Road(3, cars=1).restore(saved)


def test_recordings_hold_the_caption_of_the_start() -> None:
    world = Road(2, limit=5)
    world.reset(seed=[3, 4])
    texts = world.texts()
    assert [clip.text for clip, _, _ in rollout(world, [3, 4], expert(world))] == [(text,) for text in texts]


def test_the_numbers_that_are_told_are_those_that_captions_put_in_words() -> None:
    world, mute = Road(40, cars=3, numbers=True), Road(2)
    world.reset(seed=0)
    for _ in range(30):
        world.step(world.expert())
    told = world.sensed()
    assert told.dtype == np.float32
    assert world.proprio == ("weather", "traffic", "bend")
    assert captions(dict(zip(world.proprio, told.astype(np.int64).T, strict=True))) == world.texts()
    assert len(np.unique(told, axis=0)) > 5
    assert (mute.proprio, mute.sensed().shape) == ((), (2, 0))
    (clip, _, _), *_ = rollout(Road(1, limit=3, numbers=True), [3], lambda clip: torch.zeros(clip.rows, 2))
    assert clip.proprio is not None
    assert clip.proprio.shape == (1, 4, 3)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownName, match="'snow'"):
        Road(1, weather="snwo")
    with pytest.raises(UnusableInput, match="24 pixels"):
        Road(1, size=16)
    with pytest.raises(UnusableInput, match="cars"):
        Road(1, cars=-1)
    world = Road(1)
    world.reset(seed=0)
    with pytest.raises(UnusableInput, match="finite"):
        world.step(np.array([[np.nan, 0]], np.float32))
