"""LaProp with adaptive clipping, against one step by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from retrodict.nn.laprop import LaProp


def steps(start: list[float], gradients: list[list[float]], **settings: float) -> list[float]:
    parameter = nn.Parameter(torch.tensor(start))
    optimiser = LaProp([parameter], lr=0.1, **settings)  # type: ignore[arg-type]
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimiser.step()
    return parameter.detach().tolist()


def test_the_first_step_is_the_sign_of_the_gradient() -> None:
    assert steps([3.0, 4.0], [[0.3, -0.4]]) == pytest.approx([2.9, 4.1])


def test_two_steps_by_hand() -> None:
    first, second = 0.5, -1.0
    square = [0.001 * first**2, 0.999 * 0.001 * first**2 + 0.001 * second**2]
    scaled = [first / math.sqrt(square[0] / 0.001), second / math.sqrt(square[1] / (1 - 0.999**2))]
    mean = [0.1 * scaled[0], 0.9 * 0.1 * scaled[0] + 0.1 * scaled[1]]
    wanted = 10.0 - 0.1 * mean[0] / 0.1 - 0.1 * mean[1] / (1 - 0.9**2)
    assert steps([10.0], [[first], [second]], clip=1e9) == pytest.approx([wanted])


def test_a_large_gradient_is_cut_at_a_share_of_its_tensor() -> None:
    cut = [[0.3 * 5.0 * 0.6, 0.3 * 5.0 * 0.8]]  # of a tensor of norm 5, in the direction (3, 4) / 5
    assert steps([3.0, 4.0], [[30.0, 40.0], [1.0, 1.0]]) == pytest.approx(steps([3.0, 4.0], [*cut, [1.0, 1.0]]))
    tiny = steps([0.0, 0.0], [[30.0, 40.0], [1e-4, 0.0]])  # a norm of at least 1e-3 counts
    assert tiny == pytest.approx(steps([0.0, 0.0], [[0.3e-3 * 0.6, 0.3e-3 * 0.8], [1e-4, 0.0]]))


def test_what_has_no_gradient_stays() -> None:
    still, moved = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimiser = LaProp([still, moved], lr=0.1)
    moved.grad = torch.ones(1)
    optimiser.step()
    assert (float(still.detach()), float(moved.detach())) == (1.0, pytest.approx(0.9))
