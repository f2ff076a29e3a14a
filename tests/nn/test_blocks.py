"""Blocks: patches, quantisers, layouts; each against a case by hand or a symmetry."""

from __future__ import annotations

import pytest
import torch

from retrodict.errors import UnusableInput
from retrodict.nn.conv import Impala, PatchGrid, normalise, patch_for, stem, stem_shape, to_bytes
from retrodict.nn.part import Part, build
from retrodict.nn.quantize import GroupedVQ


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_bytes_survive_the_way_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    floats = normalise(every)
    assert (float(floats.min()), float(floats.max())) == (-0.5, 0.5)
    assert torch.equal(to_bytes(floats), every)
    assert to_bytes(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    assert torch.equal(floats, every.float() / 255.0 - 0.5)
    again = every.float()
    assert torch.equal(normalise(again), floats)  # type: ignore[arg-type]
    assert torch.equal(again, every.float())  # what is given stays as it is


def test_patches_move_with_the_picture() -> None:
    """Shifted by a patch, the grid shifts by a cell (away from the border, where padding is seen)."""
    torch.manual_seed(0)
    grid = PatchGrid(3, patch=4, width=6, depth=2)
    x = torch.zeros(1, 3, 40, 40)
    x[:, :, 16:20, 12:20] = noise(3, 4, 8)
    moved = torch.roll(x, (4, 8), (2, 3))
    a, b = grid(x), grid(moved)
    inside = slice(4, -2)
    assert torch.allclose(torch.roll(a, (1, 2), (2, 3))[..., inside, inside], b[..., inside, inside], atol=1e-6)
    assert not torch.allclose(a, b, atol=1e-3)


def test_a_patch_is_one_cell_and_sees_its_neighbours_only() -> None:
    torch.manual_seed(0)
    x = noise(1, 3, 36, 36)
    changed = x.clone()
    changed[0, 0, 17, 17] += 1.0  # cell (4, 4)
    for depth in (0, 1, 2):
        grid = PatchGrid(3, patch=4, width=4, depth=depth)
        different = (grid(x) != grid(changed)).any(1)[0].nonzero()
        assert stem_shape(grid, 3, (36, 36)) == (4, 9, 9)
        assert different.numel()
        assert (different - 4).abs().max() <= depth


def test_impala_halves_three_times() -> None:
    assert stem_shape(stem("impala", 6, 0, 4, 0), 6, (36, 20)) == (8, 5, 3)
    assert isinstance(stem("impala", 6, 0, 4, 0), Impala)
    assert isinstance(stem("grid", 6, 4, 4, 1), PatchGrid)
    with pytest.raises(UnusableInput, match="grid"):
        stem("resnet", 3, 4, 4, 1)
    with pytest.raises(UnusableInput, match="at least 1 pixel"):
        stem_shape(PatchGrid(3, 4, 4, 0), 3, (0, 4))


@pytest.mark.parametrize(
    ("size", "patch"), [((36, 36), 4), ((45, 45), 5), ((64, 64), 8), ((56, 63), 7), ((48, 64), 4), ((7, 7), 1)]
)
def test_the_largest_patch_that_leaves_seven_a_side(size: tuple[int, int], patch: int) -> None:
    assert patch_for(size) == patch


def test_frames_too_small_for_patches_are_refused() -> None:
    with pytest.raises(UnusableInput, match=r"\(6, 64\)"):
        patch_for((6, 64))


def quantiser(**more: float) -> GroupedVQ:
    """One position, three codes in the plane: (0, 0), (2, 0), (0, 4)."""
    vq = GroupedVQ(1, 3, 2, decay=0.5, **more)  # type: ignore[arg-type]
    vq.book[0] = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    vq.total.copy_(vq.book)
    vq.ready.fill_(True)
    return vq


def test_the_nearest_code_is_taken() -> None:
    vq = quantiser().eval()
    z = torch.tensor([[0.9, 0.0], [1.1, 0.0], [0.0, 3.0]])
    quantised, indices, loss = vq(z)
    assert indices.flatten().tolist() == [0, 1, 2]
    assert quantised.tolist() == [[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]]
    assert float(loss) == pytest.approx(0.25 * (0.81 + 0.81 + 1.0) / 6)


def test_the_averages_move_as_by_hand() -> None:
    """Decay 0.5: counts become (1 + n) / 2, totals (book + sum of inputs) / 2, books their ratio."""
    vq = quantiser().train()
    vq(torch.tensor([[0.5, 0.0], [0.1, 0.6], [2.0, 1.0]]))
    assert torch.allclose(vq.count, torch.tensor([[1.5, 1.0, 0.5]]))
    assert torch.allclose(vq.total[0], torch.tensor([[0.3, 0.3], [2.0, 0.5], [0.0, 2.0]]))
    assert torch.allclose(vq.book[0], torch.tensor([[0.2, 0.2], [2.0, 0.5], [0.0, 4.0]]), atol=1e-4)
    assert torch.allclose(vq.used, torch.tensor([[1.5, 1.0, 0.5]]))  # half of 1, half of share x 3
    share = torch.tensor([1.5, 1.0, 0.5]) / 3
    assert vq.perplexity == pytest.approx(float(torch.exp(-(share * share.log()).sum())))


def test_evaluation_moves_nothing() -> None:
    vq = quantiser().eval()
    before = {name: value.clone() for name, value in vq.state_dict().items()}
    vq(noise(5, 2))
    assert all(torch.equal(before[name], value) for name, value in vq.state_dict().items())


def test_gradients_go_straight_through_and_the_commitment_pulls_inputs_to_codes() -> None:
    vq = quantiser().eval()
    z = torch.tensor([[0.9, 0.0]], requires_grad=True)
    quantised, _, loss = vq(z)
    weight = torch.tensor([[3.0, -2.0]])
    assert torch.autograd.grad((quantised * weight).sum(), z, retain_graph=True)[0].tolist() == weight.tolist()
    pull = torch.autograd.grad(loss, z)[0]
    assert torch.allclose(pull, torch.tensor([[0.25 * 0.9, 0.0]]))  # 0.25 x 2 x 0.9 / 2 values


def test_dead_codes_restart_at_recent_inputs_even_of_small_batches() -> None:
    vq = quantiser().train()
    inputs = torch.tensor([[0.1, 0.2], [0.2, 0.1], [0.3, 0.3]])
    for _ in range(6):  # only code 0 is used: the others decay to 1/64 of their fair share
        vq(inputs)
    assert (vq.used[0] < 0.05).tolist() == [False, True, True]
    alive = vq.book[0, 0].clone()
    assert vq.restart_dead(torch.Generator().manual_seed(0)) == 2
    assert torch.equal(vq.book[0, 0], alive)
    for code in (1, 2):
        assert vq.book[0, code].tolist() in inputs.tolist()
    assert vq.used[0, 1:].tolist() == [1.0, 1.0]
    assert vq.restart_dead(torch.Generator().manual_seed(0)) == 0


def test_perplexity_lies_between_one_and_the_number_of_codes() -> None:
    vq = GroupedVQ(1, 8, 2)
    assert vq.perplexity == pytest.approx(8.0)
    vq.used.zero_()
    vq.used[0, 3] = 5.0
    assert vq.perplexity == pytest.approx(1.0)
    vq.used.copy_(noise(1, 8).abs())
    assert 1.0 < vq.perplexity < 8.0


def test_positions_share_their_books_in_turn() -> None:
    vq = GroupedVQ(4, 3, 2, books=2).eval()
    z = noise(5, 8)
    _, indices, _ = vq(z)
    parts = z.view(5, 4, 2)
    for position in range(4):
        distance = (parts[:, position, None] - vq.book[position % 2]).square().sum(-1)
        assert torch.equal(indices[:, position], distance.argmin(-1))
    looked_up = torch.cat([vq.book[p % 2][indices[:, p]] for p in range(4)], -1)
    assert torch.equal(vq.lookup(indices), looked_up)


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_the_first_batch_places_the_codes_on_its_inputs(rows: int) -> None:
    vq = GroupedVQ(2, 5, 3).train()
    z = noise(rows, 6)
    vq(z)
    assert bool(vq.ready)
    assert all(torch.isfinite(value).all() for value in vq.state_dict().values() if value.is_floating_point())
    vq._start_from(z.view(rows, 2, 3))
    assert torch.cdist(vq.book[0], z.view(-1, 3)).min(1).values.max() < 0.01


def test_codes_settle_on_the_middle_of_what_they_stand_for() -> None:
    centres = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    vq = GroupedVQ(1, 4, 2, decay=0.8).train()
    vq.book[0], vq.total[0] = 0.3 * centres, 0.3 * centres
    vq.ready.fill_(True)
    for step in range(60):
        vq(centres[torch.arange(32) % 4] + 0.1 * noise(32, 2, seed=step))
    assert torch.allclose(vq.book[0], centres, atol=0.1)
    assert vq.perplexity > 3.99


class Leaf(Part):
    def __init__(self, width: int = 2, names: tuple[str, ...] = ("a",)) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, width)


class Tree(Part):
    def __init__(self, left: Leaf, right: Leaf | None = None) -> None:
        super().__init__()
        self.left = left


def test_a_part_remembers_how_it_was_built_defaults_and_parts_included() -> None:
    described = Tree(Leaf(3)).describe()
    assert described["part"].endswith(":Tree")
    left = described["arguments"]["left"]
    assert left["arguments"] == {"width": 3, "names": ["a"]}
    assert described["arguments"]["right"] is None


def test_a_subclass_remembers_its_own_arguments() -> None:
    class Twig(Leaf):
        def __init__(self, length: int) -> None:
            super().__init__(width=length + 1)

    class Bud(Leaf):
        pass

    assert Twig(4).spec == {"length": 4}
    assert Bud(5).spec == {"width": 5, "names": ["a"]}


def test_only_parts_of_the_package_are_built() -> None:
    with pytest.raises(UnusableInput, match="only parts of"):
        build(Leaf().describe())
