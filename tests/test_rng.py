"""Randomness as a function of its address."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrodict.rng import isolated, key, numpy_rng, torch_rng

addresses = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=5)), max_size=4)


def global_draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_key_of_an_address_never_changes() -> None:
    # Pinned: another number here would change every committed result.
    assert key(0, "vpt/inverse", 7) == 4524757595409212416


@given(addresses, addresses)
def test_keys_are_63_bits_and_tell_addresses_apart(one: list[int | str], two: list[int | str]) -> None:
    assert 0 <= key(*one) < 2**63
    assert (key(*one) == key(*two)) == (one == two)


def test_kinds_and_borders_of_parts_matter() -> None:
    assert key(1) != key("1")
    assert key("ab", "c") != key("a", "bc")
    assert key(1, 2) != key(2, 1)


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    assert key(np.int64(3), "a") == key(3, "a")
    with pytest.raises(TypeError):
        key(3.0)  # type: ignore[arg-type]


def test_equal_addresses_give_equal_streams() -> None:
    assert numpy_rng(0, "a").integers(1 << 60, size=4).tolist() == numpy_rng(0, "a").integers(1 << 60, size=4).tolist()
    assert numpy_rng(0, "a").integers(1 << 60) != numpy_rng(0, "b").integers(1 << 60)
    one, two, other = (torch.rand(4, generator=torch_rng(s, "a")) for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_streams_leave_global_state_alone() -> None:
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = global_draws()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    numpy_rng(0).random(10), torch.rand(10, generator=torch_rng(0))
    assert global_draws() == expected


def test_isolated_seeds_inside_and_restores_outside_even_after_an_error() -> None:
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = global_draws()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with isolated(5, "init"):
        inside = global_draws()
    with pytest.raises(ZeroDivisionError), isolated(5, "init"):
        assert 1 / (global_draws() != inside)  # equal draws divide by zero
    assert inside != expected
    assert global_draws() == expected
