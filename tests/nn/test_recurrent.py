"""Cells and layers of recurrent worlds, against plain arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from retrodict.errors import UnknownName, UnusableInput
from retrodict.nn.recurrent import BlockCell, BlockLinear, NormedCell, PlainCell, dense, gated, norm


def test_gates_by_hand() -> None:
    h, zero = torch.tensor([[2.0]]), torch.zeros(1, 1)
    assert float(gated(h, zero, zero, zero)) == pytest.approx(2 * (1 - 1 / (1 + math.e)))  # σ(-1) of it is let go
    closed = torch.full((1, 1), -100.0)
    assert float(gated(h, zero, zero, closed)) == 2.0
    wide = torch.full((1, 1), 100.0)
    assert float(gated(h, zero, torch.ones(1, 1), wide)) == pytest.approx(math.tanh(0.5))  # σ(0) of the candidate
    assert float(gated(h, closed, torch.ones(1, 1), wide)) == pytest.approx(0.0)


def test_a_block_sees_its_own_inputs_only() -> None:
    torch.manual_seed(0)
    layer = BlockLinear(6, 4, 2)
    x = torch.randn(3, 6)
    whole = torch.block_diag(*layer.weight)
    assert torch.allclose(layer(x), x @ whole + layer.bias, atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0], x[0])
    assert bool((jacobian[:2, 3:] == 0).all())
    assert bool((jacobian[:2, :3] != 0).all())


def test_every_block_of_the_cell_sees_all_that_goes_in_and_its_own_memory() -> None:
    torch.manual_seed(0)
    cell = BlockCell((3, 2), 8, 4, "silu", 4)
    h, z, a = torch.randn(1, 8), torch.randn(1, 3), torch.randn(1, 2)
    to_z = torch.autograd.functional.jacobian(lambda v: cell(h, v, a)[0], z)
    assert bool((to_z.abs().sum((1, 2)) > 0).all())
    assert cell(h, z, a).shape == (1, 8)


@pytest.mark.parametrize("make", [lambda: PlainCell(5, 6, 4, "elu"), lambda: NormedCell(5, 6, 4, "elu")])
def test_cells_forget_nothing_of_a_row_through_another(make: object) -> None:
    torch.manual_seed(0)
    cell = make()  # type: ignore[operator]
    h, x = torch.randn(3, 6), torch.randn(3, 5)
    assert torch.allclose(cell(h, x)[1], cell(h[1:2], x[1:2])[0], atol=1e-6)


def test_norms_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0]])
    assert norm("rms", 2)(x)[0].tolist() == pytest.approx([3 / math.sqrt(12.5), 4 / math.sqrt(12.5)], abs=1e-4)
    assert norm("layer", 2)(x)[0].tolist() == pytest.approx([-1, 1], abs=1e-2)
    assert norm("none", 2)(x) is x


def test_unknown_parts_are_refused() -> None:
    with pytest.raises(UnknownName, match="batch"):
        norm("batch", 2)
    with pytest.raises(UnknownName, match="gelu"):
        dense(2, 2, 1, "gelu", "none")
    with pytest.raises(UnusableInput, match="3 blocks"):
        BlockLinear(6, 4, 3)
