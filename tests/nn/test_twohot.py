"""Numbers as beliefs over bins."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from retrodict.errors import UnusableInput
from retrodict.nn.twohot import TwoHot, symexp, symlog

NUMBERS = torch.cat([sign * 10.0 ** torch.arange(-6, 7) for sign in (-1.0, 1.0)] + [torch.zeros(1)])
numbers = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
batches = st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=3)


def test_symlog_by_hand_and_back() -> None:
    assert symlog(torch.tensor([0.0, math.e - 1, 1 - math.e])).tolist() == pytest.approx([0, 1, -1])
    assert torch.allclose(symexp(symlog(NUMBERS)), NUMBERS, rtol=1e-4)


@given(batches)
@example([[0.0, -0.0]])
def test_symlog_is_odd_keeps_order_and_has_an_inverse(rows: list[list[float]]) -> None:
    x = torch.tensor(rows)
    assert torch.equal(symlog(-x), -symlog(x))
    assert torch.equal(symexp(-symlog(x)), -symexp(symlog(x)))
    assert torch.equal(symlog(x).flatten().sort().values, symlog(x.flatten().sort().values))
    assert torch.allclose(symexp(symlog(x)), x, rtol=1e-4, atol=1e-6)
    small = x / 1e6 * 20  # symexp of 20 is 4.9e8
    assert torch.allclose(symlog(symexp(small)), small, rtol=1e-5, atol=1e-6)


@given(st.sampled_from(["symexp", "symlog"]), st.sampled_from([41, 101, 255]), batches)
@example("symexp", 255, [[0.0, 0.0]])
@example("symlog", 41, [[0.0, 0.0]])
def test_a_number_is_a_belief_in_two_neighbours_that_means_it(kind: str, count: int, rows: list[list[float]]) -> None:
    x, bins = torch.tensor(rows), TwoHot(kind, count)
    weights = bins.encode(x)
    assert weights.shape == (*x.shape, count)
    assert weights.min() >= 0
    assert torch.allclose(weights.sum(-1), torch.ones(x.shape))
    held = (weights > 0).flatten(0, 1)
    assert all(kept.nonzero().diff(dim=0).tolist() in ([], [[1]]) for kept in held)
    assert torch.allclose(bins.mean(weights.log()), x, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["symexp", "symlog"])
def test_the_mean_of_a_numbers_bins_is_the_number(kind: str) -> None:
    bins = TwoHot(kind)
    weights = bins.encode(NUMBERS)
    assert torch.allclose(weights.sum(-1), torch.ones(len(NUMBERS)))
    assert int((weights > 0).sum(-1).max()) == 2
    assert torch.allclose(bins.mean(weights.clamp_min(1e-30).log()), NUMBERS, rtol=1e-3, atol=1e-6)


def test_bins_by_hand() -> None:
    bins = TwoHot("symlog", 5, 2.0)  # at -2 -1 0 1 2 in symlog
    assert bins.encode(symexp(torch.tensor([0.25, -2.0]))).tolist() == [
        [0, 0, pytest.approx(0.75), pytest.approx(0.25), 0],
        [pytest.approx(1.0), pytest.approx(0.0, abs=1e-6), 0, 0, 0],
    ]
    raw = TwoHot("symexp", 3, math.log(3.0))  # at -2 0 2
    assert raw.encode(torch.tensor([0.5])).tolist() == [[0, pytest.approx(0.75), pytest.approx(0.25)]]


@pytest.mark.parametrize("kind", ["symexp", "symlog"])
def test_what_lies_beyond_is_at_the_last_bin_of_its_side(kind: str) -> None:
    bins = TwoHot(kind, 5, 2.0)
    weights = bins.encode(torch.tensor([1e9, -1e9, float(symexp(torch.tensor(2.0)))]))
    assert weights.argmax(-1).tolist() == [4, 0, 4]
    assert torch.allclose(weights.amax(-1), torch.ones(3), atol=1e-6)


@pytest.mark.parametrize("kind", ["symexp", "symlog"])
def test_even_logits_mean_exactly_nothing(kind: str) -> None:
    assert TwoHot(kind).mean(torch.zeros(1, 255)).tolist() == [0.0]


def test_the_loss_is_least_at_the_number() -> None:
    bins = TwoHot(bins=41, limit=5.0)
    logits = torch.zeros(41, requires_grad=True)
    for _ in range(300):
        (gradient,) = torch.autograd.grad(bins.loss(logits, torch.tensor(3.7)), logits)
        logits = (logits - 2.0 * gradient).detach().requires_grad_()
    assert float(bins.mean(logits.detach())) == pytest.approx(3.7, abs=0.1)


@pytest.mark.parametrize("bad", [{"kind": "log"}, {"bins": 4}, {"bins": 1}, {"limit": 0.0}])
def test_other_bins_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UnusableInput, match="two-hot needs"):
        TwoHot(**bad)  # type: ignore[arg-type]
