"""World: Gymnasium's vector convention without autoreset, and action conversions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from retrodict.envs.catalog import make, worlds
from retrodict.envs.sprites import Sprites
from retrodict.envs.world import World, layout, native_space
from retrodict.errors import UnknownName, UnusableInput
from retrodict.spaces import ActionSpace, Segment, categorical, code, continuous


def test_spaces_hold_what_reset_and_step_return() -> None:
    world = Sprites(3, size=45)
    frames, _ = world.reset(seed=0)
    assert world.observation_space.contains(frames)
    assert frames.shape == (3, 45, 45, 3)
    actions = world.action_space.sample()
    assert world.observation_space.contains(world.step(actions)[0])
    assert world.action_space.contains(world.expert())


def test_an_int_seeds_row_i_with_seed_plus_i() -> None:
    world = Sprites(3)
    a, _ = world.reset(seed=10)
    b, infos = world.reset(seed=[10, 11, 12])
    assert np.array_equal(a, b)
    assert infos["seed"].tolist() == [10, 11, 12]


def test_no_seed_goes_on_to_other_levels_and_is_reproducible() -> None:
    runs = []
    for _ in range(2):
        world = Sprites(2)
        world.reset(seed=4)
        runs.append([world.reset()[1]["seed"].tolist() for _ in range(3)])
    assert runs[0] == runs[1]
    assert len({seed for seeds in runs[0] for seed in seeds} | {4, 5}) == 8


def test_a_masked_reset_leaves_the_other_rows_alone() -> None:
    world = Sprites(3)
    world.reset(seed=0)
    before, *_ = world.step(np.array([1, 2, 3]))
    steps = world.steps.copy()
    after, _ = world.reset(seed=[90, 91, 92], options={"reset_mask": np.array([False, True, False])})
    assert np.array_equal(after[[0, 2]], before[[0, 2]])
    assert np.array_equal(after[1], Sprites(1).reset(seed=91)[0][0])
    assert world.steps.tolist() == [steps[0], 0, steps[2]]
    assert world.seeds.tolist() == [0, 91, 2]


def test_a_finished_row_ignores_further_steps() -> None:
    world = Sprites(2, limit=12)
    world.reset(seed=0)
    while not world.done.any():
        frames, *_ = world.step(world.expert())
    row = int(world.done.argmax())
    for action in range(5):
        after, rewards, terminated, _, infos = world.step(np.full(2, action))
        assert np.array_equal(after[row], frames[row])
        assert rewards[row] == 0
        assert terminated[row]
        assert infos["success"][row]


def test_a_row_that_was_never_started_is_done() -> None:
    world = Sprites(2)
    world.reset(seed=0, options={"reset_mask": np.array([True, False])})
    assert world.done.tolist() == [False, True]
    assert world.step(np.array([1, 1]))[1][1] == 0
    assert world.steps.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "seed", "message"),
    [
        ({"reset_mask": np.ones(3, bool)}, 0, "2 booleans"),
        ({"reset_mask": np.ones(2)}, 0, "2 booleans"),
        ({"mask": np.ones(2, bool)}, 0, "reset_mask"),
        (None, [1], "2 rows"),
        (None, -1, "must lie in"),
        (None, 2**31 - 1, "must lie in"),
    ],
)
def test_wrong_resets_are_refused(options: dict[str, np.ndarray] | None, seed: int | list[int], message: str) -> None:
    with pytest.raises(UnusableInput, match=message):
        Sprites(2).reset(seed=seed, options=options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_are_refused_before_anything_moves(bad: float) -> None:
    world = make("pendulum", 2)
    world.reset(seed=[4, 9])
    before = world.state()
    with pytest.raises(UnusableInput, match=r"not finite, \[.*\], in row 1 at step 0 of its level 9"):
        world.step(np.array([[0.5], [bad]], np.float32))
    assert world.steps.tolist() == [0, 0]
    after = world.state()
    assert before.keys() == after.keys()
    assert all(np.array_equal(np.asarray(before[name]), np.asarray(after[name])) for name in before)
    catch = make("catch", 1)
    catch.reset(seed=0)
    with pytest.raises(UnusableInput, match="not finite"):  # a largest of NaN would be the first, "left"
        catch.native(np.full((1, catch.actions.width), bad))


def test_actions_of_the_wrong_shape_are_refused() -> None:
    world = Sprites(2)
    world.reset(seed=0)
    with pytest.raises(UnusableInput, match="shape"):
        world.step(np.array([1]))
    with pytest.raises(UnusableInput, match="5 columns"):
        world.native(torch.zeros(2, 4))


def test_choices_that_there_are_not_are_refused() -> None:
    world = Sprites(2)
    world.reset(seed=0, options={"reset_mask": np.array([True, False])})
    for bad in (-1, 5, 99):
        with pytest.raises(UnusableInput, match="takes actions"):
            world.step(np.array([bad, 0]))
    world.step(np.array([4, 99]))  # rows that are done ignore theirs
    bare = _Bare(spaces.MultiDiscrete([2, 3]))
    bare.reset(seed=0)
    with pytest.raises(UnusableInput, match="takes actions"):
        bare.step(np.array([[0, 3]] * 4))
    bare.step(np.array([[1, 2]] * 4))
    bare.step(np.array([[0, 3]] * 4))
    with pytest.raises(UnusableInput, match="takes actions"):
        world.step(np.array([0.5, 0.5]))


def test_spaces_whose_values_begin_elsewhere_are_refused() -> None:
    for space in (spaces.Discrete(3, start=1), spaces.MultiDiscrete([3, 3], start=[0, 1])):
        with pytest.raises(UnusableInput, match="not supported"):
            layout(space)


def test_a_world_that_has_not_begun_takes_no_step() -> None:
    world = Sprites(2)
    with pytest.raises(UnusableInput, match="reset it before its first step"):
        world.step(np.array([1, 1]))
    world.reset(seed=0)
    world.step(np.array([1, 1]))


class _Bare(World):
    """Conversions only."""

    def __init__(self, native: spaces.Space) -> None:
        super().__init__("bare", 4, (8, 8), layout(native), 10, 5, native)

    def _start(self, mask: np.ndarray) -> None: ...

    def _advance(self, actions: np.ndarray, live: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.zeros(4), live, live

    def _frames(self) -> np.ndarray:
        return np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("native", "width"),
    [
        (spaces.Discrete(4), 4),
        (spaces.MultiDiscrete([3, 2]), 5),
        (spaces.MultiBinary(3), 3),
        (spaces.Box(np.float32([-1, 0]), np.float32([1, 10])), 2),
    ],
)
def test_native_and_vectors_are_inverse(native: spaces.Space, width: int) -> None:
    world = _Bare(native)
    world.action_space.seed(0)
    actions = world.action_space.sample()
    vectors = world.vectors(actions)
    assert vectors.shape == (4, width)
    assert vectors.dtype == np.float32
    back = world.native(torch.from_numpy(vectors))
    assert np.array_equal(back, actions)
    assert world.action_space.contains(back.astype(world.action_space.dtype))


def test_spaces_without_a_layout_are_refused() -> None:
    for native in (spaces.Box(-np.inf, np.inf, (2,)), spaces.Text(3), spaces.Discrete(3, start=1)):
        with pytest.raises(UnusableInput, match="not supported"):
            layout(native)


@pytest.mark.parametrize(
    "native",
    [
        spaces.Discrete(4),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(3),
        spaces.Box(np.float32([-1, 0]), np.float32([1, 10])),
    ],
)
def test_a_layout_leads_back_to_its_space(native: spaces.Space) -> None:
    assert native_space(layout(native)) == native


def test_layouts_of_recordings_have_native_spaces() -> None:
    keys = Segment("grip", "binary", ("closed",))
    mixed = native_space(ActionSpace((continuous("move", ("x", "y"), -2.0, 3.0), keys)))
    assert mixed == spaces.Box(np.float32([-2, -2, 0]), np.float32([3, 3, 1]))
    fitted = continuous("move", ("x",), -2.0, 3.0, center=(0.1,), scale=(0.4,))  # mean and deviation, not bounds
    assert native_space(ActionSpace((fitted,))) == spaces.Box(-2.0, 3.0, (1,), np.float32)
    assert native_space(ActionSpace((code("code", 6),))) == spaces.Discrete(6)
    for odd in (categorical("c", "ab"), Segment("t", "text", tuple("0123"))):
        with pytest.raises(UnusableInput, match="side by side"):
            native_space(ActionSpace((continuous("move", ("x",)), odd)))


def test_a_world_without_expert_says_so() -> None:
    with pytest.raises(UnusableInput, match="no scripted expert"):
        _Bare(spaces.Discrete(2)).expert()


def test_the_catalogue_makes_by_name_and_names_the_nearest() -> None:
    assert make("sprites", 2, distractors=1).num_envs == 2
    dear = make("catch", 1, reward=2)  # a whole number is a number
    dear.reset(seed=0)
    assert {abs(float(dear.step(dear.expert())[1][0])) for _ in range(20)} == {0.0, 2.0}
    with pytest.raises(UnusableInput, match="reward must be of type float, got 'much'"):
        make("catch", 1, reward="much")
    assert {"sprites", "babyai", "maze", "coinrun", "procgen:bigfish"} <= set(worlds())
    with pytest.raises(UnknownName, match="'sprites'"):
        make("sprite")
    with pytest.raises(UnusableInput, match="distractor"):
        make("sprites", 1, distractor=1)
