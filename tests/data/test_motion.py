"""Motion: pictures that are moved by a known distance, and controls that are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrodict.clip import Clip
from retrodict.data.memory import MemoryStore
from retrodict.data.motion import Motion, small_size, watch
from retrodict.data.schema import Schema
from retrodict.rng import numpy_rng
from retrodict.spaces import UNKNOWN

SIDE = 48


def texture(side: int = 96) -> np.ndarray:
    """Smooth noise, in which every place looks different: side x side x 3."""
    coarse = torch.from_numpy(numpy_rng(0, "texture").uniform(0, 255, (1, 3, side // 6, side // 6)))
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")[0]
    return fine.permute(1, 2, 0).numpy().astype(np.uint8)


def panned(steps: int, down: int, right: int) -> np.ndarray:
    """A view that moves over the texture: what is seen moves the other way."""
    ground = texture()
    return np.stack([ground[20 - down * t :, 20 - right * t :][:SIDE, :SIDE] for t in range(steps + 1)])


def ball(places: list[int]) -> np.ndarray:
    """A disc on flat ground whose centre is at column 10 + place."""
    y, x = np.mgrid[:SIDE, :SIDE]
    shapes = [((y - 24) ** 2 + (x - 10 - place) ** 2 < 36)[..., None] * np.array([200, 90, 40]) for place in places]
    return (np.stack(shapes) + 20).astype(np.uint8)


def seen(frames: np.ndarray) -> Motion:
    clip = Clip(frames=torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())[None])
    store = MemoryStore(Schema(UNKNOWN, {"observation.image": (*frames.shape[1:3], 3)}, 10), [clip])
    found, _ = watch(store, store.ids[0], keep=False)
    assert found is not None
    return found


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 2), (-1, 1)])
def test_a_moving_view_is_told_with_its_displacement(down: int, right: int) -> None:
    found = seen(panned(5, down, right))
    assert found.camera.all()
    assert found.pan[:, 0] * SIDE == pytest.approx(np.tile([down, right], (5, 1)), abs=0.35)


def test_a_thing_that_moves_is_no_moving_view_and_its_distance_doubles_with_its_speed() -> None:
    slow, fast = seen(ball([0, 1, 2, 3])), seen(ball([0, 2, 4, 6]))
    assert not slow.camera.any()
    assert not slow.still.any()
    assert fast.far.mean() / slow.far.mean() == pytest.approx(2, rel=0.25)


def test_equal_frames_are_still_and_one_changed_value_is_not() -> None:
    frames = ball([0, 0, 0])
    frames[2, 0, 0, 0] += 1
    assert seen(frames).still[:, 0].tolist() == [True, False]
    assert seen(frames).change[:, 0].tolist()[0] == 0


def test_an_episode_of_one_frame_has_no_motion_and_cameras_are_apart() -> None:
    schema = Schema(UNKNOWN, {"observation.a": (SIDE, SIDE, 3), "observation.b": (SIDE, SIDE, 3)}, 10)
    both = np.concatenate([panned(3, 0, 1), ball([0, 0, 0, 0])], -1)
    clip = Clip(frames=torch.from_numpy(both.transpose(0, 3, 1, 2).copy())[None])
    store = MemoryStore(schema, [clip, clip.cut(0, 1)])
    found, small = watch(store, store.ids[0], keep=True)
    assert found is not None
    assert small is not None
    assert torch.equal(small, clip.frames[0])  # type: ignore[index]
    assert found.camera.all(0).tolist() == [True, False]
    assert found.still.all(0).tolist() == [False, True]
    assert watch(store, store.ids[1], keep=False) == (None, None)


@pytest.mark.parametrize(
    ("stored", "small"), [((36, 36), (36, 36)), ((480, 640), (36, 48)), ((8, 8), (28, 28)), ((272, 640), (28, 48))]
)
def test_small_frames_are_in_fours_and_not_too_small(stored: tuple[int, int], small: tuple[int, int]) -> None:
    assert small_size(stored) == small
