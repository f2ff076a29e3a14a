"""MaskGIT's schedule as a table, and drawing."""

from __future__ import annotations

import pytest
import torch

from retrodict import rng
from retrodict.errors import UnusableInput
from retrodict.nn.decoding import draw, schedule, settle


def test_the_cosine_schedule_is_this_table() -> None:
    assert schedule(16, 8) == (1, 2, 3, 4, 7, 9, 12, 16)  # floor(16 (1 - cos(pi i / 16))), at least one a pass
    assert schedule(64, 4) == (4, 18, 39, 64)
    assert schedule(49, 1) == (49,)
    assert schedule(3, 8) == (1, 2, 3)  # no more passes than tokens


@pytest.mark.parametrize(("tokens", "passes"), [(81, 6), (64, 25), (5, 5), (7, 6)])
def test_every_pass_settles_something_and_the_last_everything(tokens: int, passes: int) -> None:
    table = schedule(tokens, passes)
    assert all(a < b for a, b in zip((0, *table), table, strict=False))
    assert table[-1] == tokens


def test_nonsense_is_refused() -> None:
    with pytest.raises(UnusableInput, match="at least one"):
        schedule(0, 3)
    with pytest.raises(UnusableInput, match="temperature"):
        draw(torch.zeros(1, 2), rng.torch_rng(0), -1.0)


def test_draws_come_as_often_as_their_probability() -> None:
    logits = torch.tensor([0.7, 0.2, 0.1]).log().expand(20_000, -1)
    shares = torch.bincount(draw(logits, rng.torch_rng(0)), minlength=3) / 20_000
    assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.012)
    cold = torch.bincount(draw(logits, rng.torch_rng(0), temperature=0.5), minlength=3) / 20_000
    assert torch.allclose(cold, torch.tensor([0.49, 0.04, 0.01]) / 0.54, atol=0.012)


def test_temperature_zero_and_top_one_take_the_likeliest_and_top_two_never_the_third() -> None:
    logits = torch.randn(500, 5, generator=rng.torch_rng("logits"))
    assert draw(logits, rng.torch_rng(0), 0.0).equal(logits.argmax(-1))
    assert draw(logits, rng.torch_rng(0), 1.0, top=1).equal(logits.argmax(-1))
    among = draw(logits, rng.torch_rng(0), 5.0, top=2)
    assert bool((among[:, None] == logits.topk(2).indices).any(1).all())


def test_settling_keeps_what_is_settled_and_takes_the_surest_first() -> None:
    tokens = torch.tensor([[3, 0, 0, 0]])
    open_ = torch.tensor([[False, True, True, True]])
    logits = torch.zeros(1, 4, 5)
    logits[0, 0, 1] = 50.0  # settled already as 3, whatever the net says now
    logits[0, 1, 2], logits[0, 2, 4], logits[0, 3, 1] = 1.0, 9.0, 5.0
    found, left = settle(tokens, logits, open_, 2, rng.torch_rng(0), temperature=0.0, doubt=0.0)
    assert found.tolist() == [[3, 2, 4, 1]]
    assert left.tolist() == [[False, True, False, True]]
    found, left = settle(found, logits, left, 4, rng.torch_rng(0), temperature=0.0, doubt=0.0)
    assert not bool(left.any())
