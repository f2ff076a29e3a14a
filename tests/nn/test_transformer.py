"""A transformer over space and time: what each mask lets through, and that a cache changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from retrodict import rng, tree
from retrodict.errors import UnusableInput
from retrodict.nn.masks import CAUSAL, FULL, Mask
from retrodict.nn.transformer import SpaceTime, offsets

GRID, CELLS, WIDTH, LENGTH = (1, 3), 3, 8, 7


def net(mask: Mask, grid: tuple[int, int] = GRID, reach: int = 4) -> SpaceTime:
    with rng.isolated("transformer"):
        made = SpaceTime(grid, WIDTH, 2, 2, mask, reach)
        for parameter in made.parameters():  # also the distances, which begin at zero
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def sequence(rows: int = 2, length: int = LENGTH, cells: int = CELLS) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, length, cells, WIDTH, generator=rng.torch_rng("x"))
    return x, torch.arange(length).expand(rows, -1)


def table(mask: Mask, times: list[int]) -> list[str]:
    at = torch.tensor([times])
    return ["".join("x" if seen else "." for seen in row) for row in mask.seen(at, at)[0].tolist()]


def test_masks_are_these_tables() -> None:
    times = [0, 1, 2, 3]
    assert table(FULL, times) == ["xxxx"] * 4
    assert table(CAUSAL, times) == ["x...", "xx..", "xxx.", "xxxx"]
    assert table(Mask(block=2), times) == ["xx..", "xx..", "xxxx", "xxxx"]
    assert table(Mask(memory=1), times) == ["x...", "xx..", ".xx.", "..xx"]
    assert table(Mask(memory=1, sinks=1), times) == ["x...", "xx..", "xxx.", "x.xx"]
    assert table(Mask(block=2, memory=1, sinks=1), [0, 1, 2, 3, 4, 5, 6, 7])[6] == "xx..xxxx"
    assert table(CAUSAL, [-1, 0, 1]) == ["...", ".x.", ".xx"]  # padding is seen by nobody


@pytest.mark.parametrize("mask", [{"block": 0}, {"memory": -1}, {"sinks": 1}])
def test_masks_without_meaning_are_refused(mask: dict[str, int]) -> None:
    with pytest.raises(UnusableInput, match="a mask has"):
        Mask(**mask)


@pytest.mark.parametrize("mask", [FULL, CAUSAL])
def test_only_a_causal_mask_with_a_memory_has_a_cache(mask: Mask) -> None:
    with pytest.raises(UnusableInput, match="fixed shape"):
        net(mask).empty(1)


MASKS = [Mask(memory=LENGTH), Mask(memory=2), Mask(memory=2, sinks=1), Mask(memory=1, sinks=2)]


BLOCKS = [Mask(block=2), Mask(block=3, memory=1), Mask(block=2, memory=1, sinks=1)]


@pytest.mark.parametrize("mask", [FULL, CAUSAL, *BLOCKS, *MASKS], ids=str)
def test_gradients_reach_what_the_mask_lets_through_and_nothing_else(mask: Mask) -> None:
    model = net(mask)
    model.blocks = model.blocks[:1]  # one layer: what is seen through another frame comes with the second
    x, times = sequence()
    x.requires_grad_()
    y, _ = model(x, times)
    for t in range(LENGTH):
        (gradient,) = torch.autograd.grad(y[:, t].square().sum(), x, retain_graph=True)
        reached = (gradient.abs().amax((0, 2, 3)) > 0).tolist()
        assert reached == mask.seen(times, times)[0, t].tolist()


@pytest.mark.parametrize("mask", [CAUSAL, *BLOCKS, *MASKS], ids=str)
def test_no_layer_looks_ahead(mask: Mask) -> None:
    model = net(mask)
    x, times = sequence()
    x.requires_grad_()
    y, _ = model(x, times)
    for t in range(LENGTH - mask.block):
        (gradient,) = torch.autograd.grad(y[:, t].sum(), x, retain_graph=True)
        later = (t // mask.block + 1) * mask.block
        assert float(gradient[:, later:].abs().max()) == 0.0
        assert float(gradient[:, t].abs().max()) > 0.0


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_cached_equals_uncached_for_every_split(mask: Mask) -> None:
    model = net(mask)
    x, times = sequence()
    with torch.no_grad():
        whole, _ = model(x, times)
        for cuts in itertools.chain.from_iterable(itertools.combinations(range(1, LENGTH), n) for n in range(LENGTH)):
            cache, pieces = model.empty(2), []
            for start, stop in itertools.pairwise((0, *cuts, LENGTH)):
                y, new = model(x[:, start:stop], times[:, start:stop], cache)
                cache = model.extend(cache, new)
                pieces.append(y)
            assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-5), cuts


@pytest.mark.parametrize("block", [2, 3])
def test_a_flat_sequence_of_blocks_may_be_cut_anywhere_between_blocks(block: int) -> None:
    mask = Mask(block=block, memory=2, sinks=1)
    model = net(mask, (1, 1))
    x, times = sequence(length=12, cells=1)
    with torch.no_grad():
        whole, _ = model(x, times)
        between = range(block, 12, block)
        for cuts in itertools.chain.from_iterable(itertools.combinations(between, n) for n in range(len(between) + 1)):
            cache, pieces = model.empty(2), []
            for start, stop in itertools.pairwise((0, *cuts, 12)):
                y, new = model(x[:, start:stop], times[:, start:stop], cache)
                cache = model.extend(cache, new)
                pieces.append(y)
            assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-5), cuts


def test_rows_of_one_cache_may_be_at_different_times() -> None:
    model = net(Mask(memory=2, sinks=1))
    x, times = sequence()
    late = times + torch.tensor([[0], [3]])
    with torch.no_grad():
        alone = []
        for row in range(2):
            cache = model.empty(1)
            for t in range(LENGTH):
                y, new = model(x[row : row + 1, t : t + 1], late[row : row + 1, t : t + 1], cache)
                cache = model.extend(cache, new)
            alone.append(y)
        cache = model.empty(2)
        for t in range(LENGTH):
            y, new = model(x[:, t : t + 1], late[:, t : t + 1], cache)
            cache = model.extend(cache, new)
    assert torch.allclose(y, torch.cat(alone), atol=1e-5)


def test_drafting_all_frames_at_once_equals_drafting_each_when_it_comes_next() -> None:
    model = net(Mask(memory=3))
    x, times = sequence()
    other = torch.randn_like(x)
    with torch.no_grad():
        _, kept = model(x[:, :-1], times[:, :-1])
        together, _ = model(other[:, 1:], times[:, 1:], kept, draft=True)
        cache = model.empty(2)
        for t in range(LENGTH - 1):
            _, new = model(x[:, t : t + 1], times[:, t : t + 1], cache)
            cache = model.extend(cache, new)
            drafted, _ = model(other[:, t + 1 : t + 2], times[:, t + 1 : t + 2], cache, draft=True)
            assert torch.allclose(drafted[:, 0], together[:, t], atol=1e-5)


def test_a_cache_keeps_its_shape_for_ever_and_is_a_tree_of_rows() -> None:
    model = net(Mask(memory=2, sinks=1))
    cache = model.empty(2)
    shapes = {name: value.shape for name, value in tree.flatten(cache).items()}
    x, _ = sequence(length=1)
    with torch.no_grad():
        for t in range(40):
            y, new = model(x, torch.full((2, 1), t), cache)
            cache = model.extend(cache, new)
    assert {name: value.shape for name, value in tree.flatten(cache).items()} == shapes
    assert sorted(tree.flatten(cache)["at"][0].tolist()) == [0, 38, 39]
    assert bool(y.isfinite().all())
    swapped = tree.pick(cache, torch.tensor([1, 0]))
    assert tree.flatten(swapped)["layers.0.0"].equal(tree.flatten(cache)["layers.0.0"].flip(0))


def test_padding_changes_nothing_and_stays_finite() -> None:
    model = net(CAUSAL)
    x, times = sequence()
    padded = torch.cat([torch.full((2, 2), -1), times], 1)
    with torch.no_grad():
        y, _ = model(torch.cat([x[:, :2] * 9, x], 1), padded)
        assert bool(y.isfinite().all())
        assert torch.allclose(y[:, 2:], model(x, times)[0], atol=1e-5)


def test_cells_that_lie_alike_are_related_alike() -> None:
    table = offsets(2, 3)
    assert table[0, 1] == table[1, 2] == table[3, 4]  # its neighbour to the right
    assert table[0, 3] == table[2, 5]  # the one below
    assert table[0, 1] != table[1, 0]
    assert len(table.unique()) == 3 * 5


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UnusableInput, match="3 heads do not divide"):
        SpaceTime((1, 2), 8, 1, 3, CAUSAL)
