"""Losses over windows, each by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.frame_world import FrameForward
from retrodict.models.inverse import Inverse
from retrodict.models.losses import FIRM, cloning, fitted, labelled, next_frame
from retrodict.nn.conv import normalise
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution, categorical, continuous

SPACE = ActionSpace((categorical("move", ("a", "b", "c"), groups=(("b", "c"),)),))
NOISE = torch.Generator()


def clip(actions: list[list[int]], confidence: list[list[float]] | None = None) -> Clip:
    """Frames of one pixel whose value is 10 x row + frame."""
    rows, steps = len(actions), len(actions[0])
    value = 10 * torch.arange(rows)[:, None] + torch.arange(steps + 1)
    sure = None if confidence is None else torch.tensor(confidence)
    frames = value.to(torch.uint8).view(rows, steps + 1, 1, 1, 1)
    return Clip(frames=frames, actions=SPACE.one_hot(torch.tensor(actions)), confidence=sure)


def sees(view: View, logits: list[float]) -> Any:
    """Answers everything the same, and remembers what it was shown."""

    def belief(frames: Tensor) -> Distribution:
        part.seen = frames.flatten(1).tolist()
        return Distribution(SPACE, torch.tensor(logits).expand(len(frames), -1))

    part = SimpleNamespace(view=view, belief=belief, seen=None)
    return part


def test_the_label_is_the_one_of_the_drawn_step_and_alike_values_count_as_one() -> None:
    part = sees(View(4, 1), [0.0, 0.0, 0.0])
    loss = labelled(part, clip([[2, 0, 2], [0, 1, 0]]), NOISE)["all"]  # the middle step: a, and b or c
    assert part.seen == [[0, 1, 2, 3], [10, 11, 12, 13]]
    assert loss.item() == pytest.approx(-(math.log(1 / 3) + math.log(2 / 3)) / 2)


def test_a_late_effect_is_looked_for_in_later_frames_and_belongs_to_the_drawn_step() -> None:
    late = Inverse(View(2, -2, size=(8, 8), channels=1), SPACE, "frames", "flatten", patch=4, width=4, depth=1).eval()
    frames = torch.randint(0, 256, (3, 7, 1, 8, 8)).to(torch.uint8)
    whole = late.infer(Clip(frames=frames)).params
    window = late.belief(frames[:, 1:5]).params  # step 1 is drawn with frames 1..4, of which it sees 3 and 4
    assert torch.allclose(window, whole[:, 1], atol=1e-6)
    assert torch.allclose(late.belief(frames[:, 3:5]).params, window)
    assert torch.equal(whole[:, -1], whole[:, -2])  # beyond the end the last frame repeats
    actions = SPACE.one_hot(torch.tensor([[0, 1, 1]] * 3))
    loss = labelled(late, Clip(frames=frames[:, 1:5], actions=actions), NOISE)["all"]
    by_hand = Distribution(SPACE, window).log_prob(actions[:, 0], merge=True)
    assert loss.item() == pytest.approx(-by_hand.mean().item(), rel=1e-5)


def test_means_are_fitted_as_at_one_spread_and_spreads_to_the_errors_that_remain() -> None:
    space = ActionSpace((continuous("v", ("x", "y"), center=(1.0, 0.0), scale=(2.0, 1.0)), *SPACE.segments))
    params = torch.tensor([[0.5, -1.0, -3.0, 2.0, 0.0, 0.0, 0.0]], requires_grad=True)
    action = torch.tensor([[3.0, 0.0, 0.0, 1.0, 0.0]])
    fitted(Distribution(space, params), action).sum().backward()
    assert params.grad is not None
    error = torch.tensor([(3.0 - 1.0) / 2.0 - 0.5, 0.0 - -1.0])
    spread = torch.tensor([-3.0, 2.0]).exp()
    assert params.grad[0, :2].tolist() == pytest.approx((error / FIRM**2).tolist())  # however sure it says it is
    assert params.grad[0, 2:4].tolist() == pytest.approx(((error / spread) ** 2 - 1).tolist(), rel=1e-4)
    logits = torch.randn(4, 3)
    classes = SPACE.one_hot(torch.tensor([0, 1, 2, 1]))
    alike = Distribution(SPACE, logits)
    assert torch.equal(fitted(alike, classes), alike.log_prob(classes, merge=True))


def test_cloning_is_shown_the_past_alone_and_weighs_by_confidence() -> None:
    part = sees(View(2, 1), [0.0, 0.0, 0.0])
    data = clip([[2, 0, 2], [0, 1, 0]], [[0.0, 0.75, 0.0], [0.0, 0.25, 0.0]])
    loss = cloning(part, data, NOISE)["all"]
    assert part.seen == [[0, 1], [10, 11]]
    assert loss.item() == pytest.approx(-(0.75 * math.log(1 / 3) + 0.25 * math.log(2 / 3)))
    alike = cloning(part, data.with_(confidence=None), NOISE)["all"]
    assert alike.item() == pytest.approx(-(math.log(1 / 3) + math.log(2 / 3)) / 2)
    assert cloning(part, data.with_(confidence=torch.zeros(2, 3)), NOISE)["all"].item() == 0.0


def test_the_next_frame_error_is_in_units_of_its_average() -> None:
    torch.manual_seed(0)
    view = View(2, 1, size=(4, 4), channels=1)
    world = FrameForward(view, SPACE, patch=2, width=4, depth=1).eval()
    frames = torch.randint(0, 256, (3, 3, 1, 4, 4)).to(torch.uint8)
    actions = SPACE.one_hot(torch.tensor([[0, 1], [0, 2], [1, 0]]))
    world.variance.fill_(0.25)
    predicted = world.predict(frames[:, :2], actions[:, 1])
    expected = ((predicted - normalise(frames[:, 2])) ** 2).mean() / 0.25
    data = Clip(frames=frames, actions=actions)
    assert next_frame(world, data, NOISE)["all"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert world.variance == 0.25  # evaluation moves nothing
    next_frame(world.train(), data, NOISE)
    assert world.variance.item() == pytest.approx(0.25 + 0.02 * (0.25 * expected.item() - 0.25), rel=1e-4)


@pytest.mark.parametrize("loss", [labelled, cloning, next_frame])
def test_clips_without_frames_or_actions_are_refused(loss: Any) -> None:
    with pytest.raises(UnusableInput, match="frames and actions"):
        loss(sees(View(2), [0.0] * 3), Clip(actions=torch.zeros(1, 2, 3)), NOISE)
