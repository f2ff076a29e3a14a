"""Heads of beliefs: spreads of numbers do not shape features."""

from __future__ import annotations

import torch
from torch import nn

from retrodict.nn.heads import BeliefHead
from retrodict.spaces import ActionSpace, Segment, categorical, continuous

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
