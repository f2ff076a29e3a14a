"""Clip: the fence-post rule and what cutting, picking, stacking and joining keep."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrodict.clip import ABSTAINED, MISSING, PREDICTED, RECORDED, Clip, concatenate, stack
from retrodict.errors import UnusableInput


def full(rows: int, length: int, seed: int = 0) -> Clip:
    """A clip with every field present and every number different."""
    rng = torch.Generator().manual_seed(seed)
    steps = length - 1
    return Clip(
        frames=torch.randint(0, 256, (rows, length, 3, 2, 2), generator=rng, dtype=torch.uint8),
        actions=torch.randn(rows, steps, 4, generator=rng),
        source=torch.randint(0, 4, (rows, steps), generator=rng, dtype=torch.uint8),
        confidence=torch.rand(rows, steps, generator=rng),
        rewards=torch.randn(rows, steps, generator=rng),
        ends=torch.rand(rows, steps, generator=rng),
        segment=torch.randint(-1, 3, (rows, length), generator=rng, dtype=torch.int32),
        times=torch.rand(rows, length, generator=rng, dtype=torch.float64),
        text=tuple(f"go to {i}" for i in range(rows)),
        proprio=torch.randn(rows, length, 2, generator=rng),
        features=torch.randn(rows, length, 5, generator=rng),
    )


def same(a: Clip, b: Clip) -> bool:
    for field in fields(Clip):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            if x.dtype != y.dtype or not torch.equal(x, y):
                return False
        elif x != y:
            return False
    return True


sizes = st.tuples(st.integers(1, 3), st.integers(1, 5))


def test_three_frames_have_two_steps() -> None:
    clip = Clip(frames=torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8), actions=torch.zeros(2, 2, 4))
    assert (clip.rows, clip.length, clip.steps) == (2, 3, 2)
    alone = Clip(actions=torch.zeros(2, 2, 4))
    assert (alone.rows, alone.length, alone.steps) == (2, 3, 2)
    chunks = Clip(actions=torch.zeros(2, 2, 8, 4))
    assert chunks.steps == 2


def test_one_action_per_frame_is_told_what_to_drop() -> None:
    with pytest.raises(UnusableInput) as caught:
        Clip(frames=torch.zeros(1, 3, 3, 8, 8, dtype=torch.uint8), actions=torch.zeros(1, 3, 4))
    assert str(caught.value) == (
        "clip has 3 frames and 3 actions; a clip of T frames has T-1 actions. If your file stores one action per "
        "frame, drop the last (action follows the frame) or the first (action precedes it)."
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "at least one field"),
        ({"frames": torch.zeros(1, 3, 3, 8, 8)}, "dtype torch.float32; expected torch.uint8"),
        ({"actions": torch.zeros(1, 2, 4, dtype=torch.float64)}, "expected torch.float32"),
        ({"actions": torch.zeros(2, 2, 4), "rewards": torch.zeros(1, 2)}, r"\(1, 2\); expected \(2, 2"),
        ({"proprio": torch.zeros(1, 3, 2), "times": torch.zeros(1, 2, dtype=torch.float64)}, "clip.times"),
        ({"proprio": torch.zeros(2, 3, 2), "text": ("one",)}, "2 rows and 1 texts"),
        ({"rewards": torch.zeros(3)}, "clip.rewards"),
        ({"proprio": torch.zeros(1, 3, 2), "ends": torch.zeros(())}, "clip.ends"),
    ],
)
def test_fields_that_disagree_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UnusableInput, match=said):
        Clip(**wrong)  # type: ignore[arg-type]


def test_a_step_is_real_within_an_episode_only() -> None:
    segment = torch.tensor([[0, 0, 1, 1, -1, -1]], dtype=torch.int32)
    clip = Clip(segment=segment)
    assert clip.real.tolist() == [[True, False, True, False, False]]
    assert Clip(proprio=torch.zeros(1, 3, 1)).real.tolist() == [[True, True]]


def test_only_recorded_and_predicted_actions_of_real_steps_are_known() -> None:
    source = torch.tensor([[MISSING, RECORDED, PREDICTED, ABSTAINED, RECORDED]], dtype=torch.uint8)
    segment = torch.tensor([[0, 0, 0, 0, 0, -1]], dtype=torch.int32)
    clip = Clip(actions=torch.zeros(1, 5, 2), source=source, segment=segment)
    assert clip.known.tolist() == [[False, True, True, False, False]]
    assert clip.with_(actions=None, source=None).known.tolist() == [[False] * 5]
    assert clip.with_(source=None).known.tolist() == [[True, True, True, True, False]]


def test_cut_keeps_the_steps_between_its_frames() -> None:
    clip = Clip(proprio=torch.arange(4.0).view(1, 4, 1), rewards=torch.tensor([[10.0, 11.0, 12.0]]))
    part = clip.cut(1, 3)
    assert part.proprio is not None
    assert part.rewards is not None
    assert part.proprio.flatten().tolist() == [1.0, 2.0]
    assert part.rewards.tolist() == [[11.0]]  # step 1 joins frame 1 to frame 2
    assert clip.cut(3, 4).steps == 0


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 2), (0, 5), (3, 1)])
def test_a_cut_outside_the_clip_is_refused(start: int, stop: int) -> None:
    with pytest.raises(UnusableInput, match="cannot cut"):
        full(1, 4).cut(start, stop)


@given(sizes, st.data())
def test_concatenate_is_the_inverse_of_cutting_at_a_shared_frame(size: tuple[int, int], data: st.DataObject) -> None:
    clip = full(*size)
    at = data.draw(st.integers(0, size[1] - 1))
    assert same(concatenate(clip.cut(0, at + 1), clip.cut(at, size[1])), clip)


@given(sizes)
def test_stack_is_the_inverse_of_picking_rows(size: tuple[int, int]) -> None:
    clip = full(*size)
    assert same(stack([clip.pick([i]) for i in range(size[0])]), clip)


def test_pick_keeps_the_order_asked_for() -> None:
    picked = full(3, 2).pick([2, 0, 2])
    assert picked.text == ("go to 2", "go to 0", "go to 2")
    assert picked.rewards is not None
    assert torch.equal(picked.rewards[0], picked.rewards[2])
    assert same(picked, full(3, 2).pick(torch.tensor([2, 0, 2])))


@pytest.mark.parametrize("index", [torch.tensor([True, False, True]), [True, False, True], torch.tensor([0.0, 1.9])])
def test_pick_takes_row_numbers_and_no_mask(index: object) -> None:
    with pytest.raises(UnusableInput, match="row numbers"):
        full(3, 2).pick(index)  # type: ignore[arg-type]


def test_stack_refuses_a_field_that_only_some_have() -> None:
    clip = full(1, 3)
    with pytest.raises(UnusableInput, match="some clips have rewards"):
        stack([clip, clip.with_(rewards=None)])
    with pytest.raises(UnusableInput, match="zero clips"):
        stack([])


def test_stack_refuses_clips_of_different_lengths() -> None:
    with pytest.raises(UnusableInput, match="3 and 4 frames"):
        stack([full(1, 3), full(1, 4)])


def test_concatenate_refuses_what_does_not_belong_together() -> None:
    clip = full(2, 3)
    with pytest.raises(UnusableInput, match="has ends"):
        concatenate(clip, clip.with_(ends=None))
    with pytest.raises(UnusableInput, match="text"):
        concatenate(clip, clip.with_(text=("other", "words")))
    with pytest.raises(UnusableInput, match="2 and 1 rows"):
        concatenate(clip, clip.pick([0]))


def test_only_and_with_() -> None:
    clip = full(2, 3)
    part = clip.only("frames", "text")
    assert part.actions is None
    assert part.frames is clip.frames
    assert part.text == clip.text
    assert same(clip.with_(text=None).with_(text=clip.text), clip)


def test_to_keeps_what_is_there() -> None:
    clip = full(2, 3).to("meta")
    assert clip.device.type == "meta"
    assert all(v.device.type == "meta" for f in fields(Clip) if isinstance(v := getattr(clip, f.name), torch.Tensor))


def test_features_keep_their_gradient() -> None:
    features = torch.zeros(2, 3, 4, requires_grad=True)
    kept = stack([Clip(features=features).cut(1, 3)]).pick([1]).features
    assert kept is not None
    kept.sum().backward()
    assert features.grad is not None
    assert features.grad.sum(-1).tolist() == [[0.0, 0.0, 0.0], [0.0, 4.0, 4.0]]
