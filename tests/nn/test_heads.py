"""Heads of beliefs: spreads of numbers do not shape features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retrodict.nn.heads import ActorHead, BeliefHead
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, continuous

MIXED = ActionSpace((Segment("keys", "binary", ("k",)), continuous("move", ("x", "y")), categorical("c", ("a", "b"))))


def test_spreads_give_no_gradient_to_features_and_all_else_does() -> None:
    torch.manual_seed(0)
    head = BeliefHead(3, MIXED)
    plain = nn.functional.linear(features := torch.randn(2, 3, requires_grad=True), head.weight, head.bias)
    params = head(features)
    assert torch.equal(params, plain)
    reached = []
    for column in range(MIXED.parameters):
        (gradient,) = torch.autograd.grad(head(features)[:, column].sum(), features)
        reached.append(bool(gradient.abs().sum() > 0))
    assert reached == [True, True, True, False, False, True, True]  # key, two means, two spreads, two values
    head(features)[:, 3].sum().backward()
    assert head.weight.grad is not None
    assert head.weight.grad[3].abs().sum() > 0  # the spread itself is fitted


def test_a_head_is_a_linear_map_with_the_same_start() -> None:
    torch.manual_seed(1)
    head = BeliefHead(4, MIXED)
    torch.manual_seed(1)
    linear = nn.Linear(4, MIXED.parameters)
    assert torch.equal(head.weight, linear.weight)
    assert set(head.state_dict()) == set(linear.state_dict())


REACH = ActionSpace(
    (continuous("t", ("a", "b"), -1.0, 3.0, center=(1.0, 0.0), scale=(2.0, 1.0)), categorical("c", ("u", "v")))
)


def test_one_who_acts_stays_within_reach_and_is_never_certain() -> None:
    head = ActorHead(1, REACH)
    for sign, end in ((1.0, 3.0), (-1.0, -1.0)):
        nn.init.constant_(head.weight, sign * 1e9)
        nn.init.zeros_(head.bias)
        belief = Distribution(REACH, head(torch.ones(1, 1)))
        assert belief.mode()[0, :2].tolist() == pytest.approx([end, end])
        noise = torch.Generator().manual_seed(0)
        drawn = Distribution(REACH, belief.params.expand(4000, -1)).sample(noise)[:, :2].std(0)
        assert drawn.tolist() == pytest.approx([2.0 if sign > 0 else 0.2] * 2, rel=0.05)
    nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor([0.0, 0, 0, 0, 1e6, 0])
    belief = Distribution(REACH, head(torch.ones(1, 1)))
    assert belief.mode()[0].tolist() == pytest.approx([1, 1, 1, 0])  # the middle of the range
    assert belief.probabilities("c")[0].tolist() == pytest.approx([0.995, 0.005])


def test_an_actor_at_the_end_of_its_reach_can_return() -> None:
    head = ActorHead(1, REACH)
    nn.init.constant_(head.weight, 20.0)
    said = head(torch.ones(1, 1))[0, 0]
    assert said.item() > 0.9  # of 1, in units of the scale
    (slope,) = torch.autograd.grad(said, head.weight)
    assert slope[0].item() > 1e-3  # tanh would leave 1e-17
