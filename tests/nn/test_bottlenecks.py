"""Bottlenecks: each method against a case by hand, and what all of them promise."""

from __future__ import annotations

import pytest
import torch

from retrodict.errors import UnknownName, UnusableInput
from retrodict.nn.quantize import (
    BOTTLENECKS,
    FSQ,
    NSVQ,
    Bottleneck,
    Codes,
    Free,
    Gaussian,
    GroupedVQ,
    bottleneck,
    token_code,
    widths,
)
from retrodict.segments import GAUSSIAN

CODES = {
    "vq": {"kind": "vq", "positions": 2, "codes": 4, "width": 3},
    "nsvq": {"kind": "nsvq", "positions": 2, "codes": 4, "width": 3},
    "fsq": {"kind": "fsq", "levels": (3, 2, 2)},
    "gaussian": {"kind": "gaussian", "width": 3},
    "none": {"kind": "none", "width": 3},
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind: str) -> Bottleneck:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return bottleneck(**CODES[kind])


def test_every_kind_is_tried_here_and_no_other_exists() -> None:
    assert set(CODES) == set(BOTTLENECKS)
    with pytest.raises(UnknownName, match="Did you mean 'nsvq'"):
        bottleneck("nvsq")


@pytest.mark.parametrize("kind", CODES)
def test_what_goes_in_and_comes_out(kind: str) -> None:
    part = made(kind)
    z = noise(7, part.takes)
    assert widths(CODES[kind]) == (part.takes, part.gives)
    for training in (True, False):
        quantised, indices, loss = part.train(training)(z)
        assert quantised.shape == (7, part.gives)
        assert loss.shape == ()
        assert (indices is None) == (part.perplexity is None) == (part.space.segments[0].kind in GAUSSIAN)
    actions = part.belief(z).mode()
    assert actions.shape == (7, part.space.width)
    assert torch.allclose(part.embed(actions), quantised, atol=1e-5)  # in eval mode, what it says is what it passes on
    drawn = part.draw(5, torch.Generator().manual_seed(1))
    assert part.embed(drawn).shape == (5, part.gives)


@pytest.mark.parametrize("kind", CODES)
def test_evaluation_moves_nothing_and_draws_nothing(kind: str) -> None:
    part = made(kind).eval()
    before = {name: value.clone() for name, value in part.state_dict().items()}
    state = torch.get_rng_state()
    part(noise(5, part.takes))
    assert all(torch.equal(before[name], value) for name, value in part.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", CODES)
def test_gradients_reach_what_went_in(kind: str) -> None:
    part = made(kind).train()
    z = noise(6, part.takes).requires_grad_()
    quantised, _, loss = part(z)
    (gradient,) = torch.autograd.grad((quantised * noise(6, part.gives, seed=2)).sum() + loss, z)
    assert bool((gradient.abs() > 1e-6).all())


def test_substituted_noise_is_as_long_as_the_way_to_the_code_and_teaches_both() -> None:
    """z + |z - c| u (Vali & Bäckström 2022, eq. 6): the distance stays, the direction is drawn."""
    part = NSVQ(2, 4, 3).train()
    part(noise(9, 6))  # the first batch places the codes
    z = noise(9, 6, seed=3).requires_grad_()
    quantised, indices, loss = part(z)
    assert indices is not None
    apart = (z - part.lookup(indices)).view(9, 2, 3).norm(dim=-1)
    assert torch.allclose((quantised - z).view(9, 2, 3).norm(dim=-1), apart, atol=1e-5)
    assert float(loss) == 0.0
    again, _, _ = part(z)
    assert not torch.allclose(again, quantised)
    book, input_ = torch.autograd.grad(quantised.square().sum(), [part.book, z])
    assert bool((book.abs().sum(-1)[0, indices.unique()] > 0).all())
    assert bool((input_.abs() > 0).all())
    near, indices, _ = part.eval()(z)
    assert torch.equal(near, part.lookup(indices))


def test_numbers_are_rounded_to_their_levels_by_hand() -> None:
    """Three levels are -1, 0, 1; two are -1, 1."""
    part = FSQ((3, 2)).eval()
    assert part.space.width == 6
    assert part.book[0].tolist() == [[a, b] for a in (-1.0, 0.0, 1.0) for b in (-1.0, 1.0)]
    quantised, indices, _ = part(torch.tensor([[0.1, 2.0], [-3.0, -2.0], [3.0, 0.3], [0.6, -0.1]]))
    assert quantised.tolist() == [[0.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]  # tanh(0.6) = 0.54 rounds up
    assert indices is not None
    assert indices.flatten().tolist() == [3, 0, 5, 4]
    assert part.restart_dead(torch.Generator()) == 0
    used = part(3 * noise(4000, 2))[1]
    assert used is not None
    assert used.unique().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_token_is_one_of_a_learnt_book_or_of_levels_whose_product_is_asked_for() -> None:
    learnt, fixed = (bottleneck(**token_code(12, 5, levels)) for levels in ((), (3, 2, 2)))
    assert isinstance(learnt, GroupedVQ)
    assert isinstance(fixed, FSQ)
    assert (learnt.codes, learnt.takes, fixed.codes, fixed.takes) == (12, 5, 12, 3)
    for wrong in ((3, 2), (12, 1), (3, 4, 2)):
        with pytest.raises(UnusableInput, match="codes, and 12 are asked for"):
            token_code(12, 5, wrong)


def test_the_price_of_a_gaussian_is_its_divergence_by_hand() -> None:
    """Mean 1, variance 1: 1/2 nat a number; mean 0, variance e: (e - 2) / 2."""
    part = Gaussian(2, beta=0.1).eval()
    mean, _, price = part(torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert mean.tolist() == [[1.0, 1.0]]
    assert float(price) == pytest.approx(0.1 * 2 * 0.5)
    assert float(part(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))[2]) == pytest.approx(0.1 * (torch.e - 2))
    part.train()
    z = torch.cat([torch.full((4000, 2), 3.0), torch.full((4000, 2), 2 * -0.7)], 1)
    drawn, _, _ = part(z)
    assert torch.allclose(drawn.mean(0), torch.tensor([3.0, 3.0]), atol=0.05)
    assert torch.allclose(drawn.std(0).log(), torch.tensor([-0.7, -0.7]), atol=0.05)
    assert float(part.bits) > 0
    assert part.belief(z[:1]).params.tolist() == [pytest.approx([3.0, 3.0, -0.7, -0.7])]


def test_a_free_vector_is_passed_as_it_is_and_drawn_as_it_came() -> None:
    part = Free(2).train()
    z = torch.tensor([5.0, -2.0]) + torch.tensor([0.5, 2.0]) * noise(64, 2)
    for _ in range(400):
        assert torch.equal(part(z)[0], z)
    drawn = part.draw(4000, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.mean(0), z.mean(0), atol=0.1)
    assert torch.allclose(drawn.std(0), z.std(0), atol=0.15)


@pytest.mark.parametrize("kind", ["vq", "nsvq"])
def test_the_first_batch_places_the_codes_and_use_is_counted(kind: str) -> None:
    part = made(kind).train()
    assert isinstance(part, Codes)
    z = noise(50, part.takes)
    part(z)
    if kind == "nsvq":  # averages have moved on by now
        assert torch.cdist(part.book[0], z.view(-1, 3)).min(1).values.max() < 0.02
    for _ in range(300):  # one input only: one code a position is used
        part(z[:1])
    assert part.perplexity < 2.1
