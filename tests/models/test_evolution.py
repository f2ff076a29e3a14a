"""CMA-ES: what it finds, that it turns with its problem, and that a state restores bit for bit; dreamt returns."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import NonFinite, UnusableInput
from retrodict.models.controller import Controller
from retrodict.models.evolution import CMAES, dreamt_returns, evolving
from retrodict.rng import torch_rng
from retrodict.roles import View
from retrodict.spaces import ActionSpace, categorical


def minimised(function: Callable[[Tensor], Tensor], start: Tensor, generations: int, spread: float = 0.5) -> CMAES:
    made = CMAES(len(start), 16, spread)
    made.mean.copy_(start)
    for number in range(generations):
        found = made.ask(torch_rng("minimised", number))
        made.tell(found, -function(found))
    return made


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def turned(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=torch_rng("turned"), dtype=torch.float64))[0]


def test_a_quadratic() -> None:
    goal = torch.arange(6.0).double()
    made = minimised(lambda x: (x - goal).square().sum(1), torch.zeros(6).double(), 80)
    assert (made.mean - goal).abs().max() < 1e-4
    assert float(made.spread) < 1e-3


def test_an_ellipsoid_is_found_as_well_when_it_is_turned_and_its_shape_is_learnt() -> None:
    long = 10 ** torch.linspace(0, 4, 5).double()  # curvatures

    def ellipsoid(x: Tensor, axes: Tensor) -> Tensor:
        return (long * (x @ axes).square()).sum(1)

    for axes in (torch.eye(5).double(), turned(5)):
        made = minimised(lambda x, axes=axes: ellipsoid(x, axes), torch.ones(5).double(), 180)  # type: ignore[misc]
        assert float(ellipsoid(made.mean[None], axes)) < 1e-6
        spread = (axes.T @ made.covariance @ axes).diagonal() * long  # equal where C is the inverse of the curvature
        assert float(spread.max() / spread.min()) < 20


def test_rosenbrock_in_five_dimensions() -> None:
    made = minimised(rosenbrock, torch.zeros(5).double(), 320)
    assert (made.mean - 1).abs().max() < 1e-4


def test_the_constants_of_the_tutorial() -> None:
    made = CMAES(10, 10)
    raw = [math.log(5.5) - math.log(i) for i in range(1, 6)]
    assert made.weights.tolist() == pytest.approx([w / sum(raw) for w in raw])
    mu = sum(raw) ** 2 / sum(w * w for w in raw)
    assert made.effective == pytest.approx(mu)
    assert made.path_rate == pytest.approx((mu + 2) / (10 + mu + 5))
    assert made.rank_one == pytest.approx(2 / (11.3**2 + mu))
    assert made.rank_mu == pytest.approx(2 * (mu - 2 + 1 / mu) / (144 + mu))


def test_one_generation_by_hand() -> None:
    """In one dimension with four candidates: the mean moves to the weighted two best."""
    made = CMAES(1, 4, 1.0)
    found = torch.tensor([[0.0], [1.0], [2.0], [3.0]]).double()
    made.tell(found, torch.tensor([0.0, 5.0, 9.0, 1.0]))
    first, second = (math.log(2.5) - math.log(i) for i in (1, 2))
    step = (2.0 * first + 1.0 * second) / (first + second)
    assert float(made.mean) == pytest.approx(step)
    c, mu = made.path_rate, made.effective
    path = math.sqrt(c * (2 - c) * mu) * step
    assert float(made.path) == pytest.approx(path)
    assert float(made.spread) == pytest.approx(math.exp(c / made.damping * (path / made.length - 1)))


def test_a_state_restores_bit_for_bit() -> None:
    whole, half, other = (CMAES(5, 8, 0.3) for _ in range(3))

    def generations(made: CMAES, numbers: range) -> None:
        for number in numbers:
            found = made.ask(torch_rng("restored", number))
            made.tell(found, -rosenbrock(found))

    generations(whole, range(30))
    generations(half, range(17))
    other.load_state_dict(half.state_dict())
    generations(other, range(17, 30))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_what_cannot_be_evolved_is_refused() -> None:
    for wrong in ((0, 8, 0.1), (3, 3, 0.1), (3, 8, 0.0)):
        with pytest.raises(UnusableInput, match="candidates"):
            CMAES(*wrong)
    made = CMAES(2, 4)
    with pytest.raises(NonFinite, match="fitness of candidate 1 is not finite"):
        made.tell(made.ask(torch_rng(0)), torch.tensor([1.0, float("nan"), 0.0, 0.0]))


SPACE = ActionSpace((categorical("move", ("no", "yes")),))
SHOWN = View(size=(2, 2), features=1)


class Promise:
    """A world of one feature, a row's number, that rewards "yes" by 2 and ends each step with probability 1/2."""

    view, space = View(size=(2, 2)), SPACE

    def observe(self, past: Clip, state: Tensor | None = None) -> Tensor:
        assert past.frames is not None
        return past.frames[:, -1, 0, 0, :1].float()

    def imagine(self, state: Tensor, actions: Controller, steps: int, rng: torch.Generator) -> tuple[Clip, Tensor]:
        shown = Clip(features=state.unsqueeze(1))
        chosen = torch.stack([actions.act(shown)[0].mode() for _ in range(steps)], 1)
        halves = torch.full((len(state), steps), 0.5)
        return Clip(
            features=state.unsqueeze(1).expand(-1, steps + 1, -1), rewards=2 * chosen[..., 1], ends=halves
        ), state


def starts(values: list[int]) -> Clip:
    frames = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, 2, 1, 2, 2).contiguous()
    return Clip(frames=frames)


def test_all_candidates_dream_from_all_starts_and_rewards_count_while_the_episode_is_on() -> None:
    crowd = Controller(SHOWN, SPACE, count=3)
    crowd.weights.copy_(torch.tensor([[0.0, 1, 0, 0], [1.0, 0, 0, 0], [2.5, 0, 0, 1]]))  # always, never, above 2.5
    world: object = Promise()
    found = dreamt_returns(world, crowd, starts([1, 2, 3, 4]), 3, torch_rng(0))  # type: ignore[arg-type]
    whole = 2 * (1 + 0.5 + 0.25)
    assert found.tolist() == [[whole] * 4, [0.0] * 4, [0.0, 0.0, whole, whole]]


def test_a_controller_evolves_towards_what_the_dream_rewards() -> None:
    crowd, evolution = Controller(SHOWN, SPACE, count=8), CMAES(4, 8, 0.5)
    world: object = Promise()
    with torch.no_grad():
        for number in range(15):
            told = evolving(evolution, starts([1, 2, 3]), torch_rng("evolving", number), world, crowd, 2)  # type: ignore[arg-type]
    assert told["dream/return"] == 3.0
    best = Controller(SHOWN, SPACE)
    best.load_state_dict({"weights": evolution.mean.float().unsqueeze(0)})
    assert best.act(Clip(features=torch.tensor([[[1.0]], [[3.0]]])))[0].mode().tolist() == [[0.0, 1.0]] * 2
