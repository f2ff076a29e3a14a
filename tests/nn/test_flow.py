"""Optical flow: pictures that are moved by a known number of pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from retrodict.nn.flow import optical_flow


def scene(down: float, right: float, height: int = 64, width: int = 64) -> Tensor:
    """A smooth picture, moved: 1 3 h w."""
    y, x = torch.meshgrid(torch.arange(height) - down, torch.arange(width) - right, indexing="ij")
    grey = 0.2 * torch.sin(x / 3) + 0.2 * torch.cos(y / 4 + x / 7) + 0.1 * torch.sin((0.7 * x + y) / 5)
    return grey[None, None].repeat(1, 3, 1, 1)


@pytest.mark.parametrize("moved", [(0.0, 0.0), (1.0, 0.0), (0.5, -1.5), (3.0, -2.0), (-5.0, 4.0)])
def test_a_moved_picture_has_the_flow_that_it_was_moved_by(moved: tuple[float, float]) -> None:
    flow = optical_flow(scene(0, 0), scene(*moved))
    assert flow.shape == (1, 2, 64, 64)
    inside = flow[0, :, 12:-12, 12:-12].flatten(1)
    assert torch.allclose(inside.median(1).values, torch.tensor(moved), atol=0.05)
    assert float((inside.T - torch.tensor(moved)).norm(dim=1).mean()) < 0.3


def test_only_what_moves_has_flow_and_a_flat_picture_has_none() -> None:
    first = torch.zeros(1, 3, 48, 40)
    second = first.clone()
    first[..., 8:16, 8:16], second[..., 8:16, 9:17] = 0.4, 0.4
    flow = optical_flow(first, second)
    assert float(flow[0, 1, 9:15, 15:17].mean()) > 0.4  # the edge goes right
    assert float(flow[..., 32:, 24:].abs().max()) < 1e-6
    assert float(optical_flow(first * 0, first * 0 + 0.1).abs().max()) == 0.0


def test_rows_do_not_see_each_other_and_small_frames_are_read() -> None:
    first = torch.cat([scene(0, 0, 9, 12), scene(2, 1, 9, 12)])
    second = torch.cat([scene(1, 0, 9, 12), scene(2, 2, 9, 12)])
    both = optical_flow(first, second)
    alone = torch.cat([optical_flow(first[i : i + 1], second[i : i + 1]) for i in range(2)])
    assert torch.allclose(both, alone, atol=1e-5)
