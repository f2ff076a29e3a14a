"""What holds of masks, schedules and quantisers whatever their settings (N6)."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from retrodict.nn.decoding import schedule
from retrodict.nn.masks import Mask
from retrodict.nn.quantize import FSQ, GroupedVQ

fixed_masks = st.builds(Mask, block=st.integers(1, 4), memory=st.integers(1, 5), sinks=st.integers(0, 3))
any_masks = st.one_of(
    fixed_masks, st.builds(Mask, causal=st.booleans(), block=st.integers(1, 4), memory=st.integers(0, 5))
)


@given(st.integers(1, 400), st.integers(1, 60))
def test_a_schedule_rises_at_every_pass_and_ends_at_everything(tokens: int, passes: int) -> None:
    table = schedule(tokens, passes)
    assert len(table) <= min(tokens, passes)
    assert all(a < b for a, b in zip((0, *table), table, strict=False))
    assert table[-1] == tokens


@given(any_masks, st.integers(1, 30))
def test_every_time_sees_itself_and_its_moment_and_a_causal_one_nothing_later(mask: Mask, length: int) -> None:
    times = torch.arange(length).unsqueeze(0)
    seen, moments = mask.seen(times, times)[0], torch.arange(length) // mask.block
    assert bool(seen[moments[:, None] == moments].all())
    later = moments > moments[:, None]
    assert not mask.causal or not bool(seen[later].any())
    near = (moments - moments[:, None]).abs() <= mask.memory
    first = (moments < mask.sinks).expand_as(near)
    allowed = ~later if mask.causal else torch.ones_like(later)
    assert seen.equal(allowed & (near | first) if mask.memory else allowed)


@given(fixed_masks, st.integers(0, 60))
def test_a_cache_still_holds_all_that_is_seen(mask: Mask, time: int) -> None:
    begun = time // mask.block * mask.block  # earlier times are in the cache, its own moment is given with it
    earlier = torch.arange(begun)
    kept = dict(zip(mask.slot(earlier).tolist(), earlier.tolist(), strict=True))  # the last to take a place has it
    assert all(0 <= slot < mask.slots for slot in kept)
    seen = mask.seen(torch.tensor([[time]]), earlier.unsqueeze(0))[0, 0]
    assert set(earlier[seen].tolist()) <= set(kept.values())


@given(st.lists(st.integers(2, 8), min_size=1, max_size=3), st.integers(0, 99))
def test_the_vector_of_a_level_is_that_code_again(levels: list[int], seed: int) -> None:
    part = FSQ(tuple(levels)).eval()
    every = torch.arange(math.prod(levels)).unsqueeze(1)
    vectors = part.lookup(every)
    assert part.assign(vectors.unsqueeze(1)).equal(every)
    assert len(vectors.unique(dim=0)) == len(every)
    z = 4 * torch.randn(20, part.takes, generator=torch.Generator().manual_seed(seed))
    found, indices, _ = part(z)
    assert indices is not None
    assert found.allclose(part.lookup(indices), atol=1e-6)
    steps = 2 / (torch.tensor(levels) - 1)
    assert bool(((z.tanh() - found).abs() <= steps / 2 + 1e-5).all())


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_the_vector_of_a_learnt_code_is_that_code_again(
    positions: int, codes: int, width: int, apart: bool, seed: int
) -> None:
    part = GroupedVQ(positions, codes, width, positions if apart else 1).eval()
    generator = torch.Generator().manual_seed(seed)
    part.book.copy_(0.1 * torch.randn(part.book.shape, generator=generator))
    part.book[..., 0] += torch.randperm(codes, generator=generator)  # as far apart as distances of floats can tell
    chosen = torch.randint(codes, (30, positions), generator=generator)
    assert part.assign(part.parts(part.lookup(chosen))).equal(chosen)
    one_hot = torch.nn.functional.one_hot(chosen, codes).flatten(1).float()
    assert part.embed(one_hot).equal(part.lookup(chosen))
