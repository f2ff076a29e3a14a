"""CMA-ES: evolution of a vector of numbers, and of controllers inside a dream (C of World Models)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import NonFinite, UnusableInput
from retrodict.models.controller import Controller
from retrodict.nn.part import Part
from retrodict.nn.returns import still_on
from retrodict.roles import ForwardModel
from retrodict.tree import pick


class CMAES(Part):
    """The covariance matrix adaptation evolution strategy, with a full matrix (Hansen, The CMA Evolution Strategy: A
    Tutorial, arXiv 1604.00772, figure 7 and table 1, without negative weights). All its state is buffers.

    Raises:
        UnusableInput: fewer than one number or four candidates, or a spread that is not positive.
    """

    mean: Tensor
    spread: Tensor
    covariance: Tensor
    axes: Tensor
    path: Tensor
    drift: Tensor
    generation: Tensor
    weights: Tensor

    def __init__(self, numbers: int, candidates: int = 32, spread: float = 0.1) -> None:
        super().__init__()
        if numbers < 1 or candidates < 4 or spread <= 0:
            raise UnusableInput(
                f"expected numbers, 4 candidates or more, a spread above 0; got {numbers}, {candidates}, {spread}"
            )
        self.numbers, self.candidates = numbers, candidates
        double, n = torch.float64, numbers
        self.register_buffer("mean", torch.zeros(n, dtype=double))
        self.register_buffer("spread", torch.tensor(spread, dtype=double))  # step size σ
        self.register_buffer("covariance", torch.eye(n, dtype=double))  # C
        self.register_buffer("axes", torch.eye(n, dtype=double))  # B D, the columns: C = B D² Bᵀ
        self.register_buffer("path", torch.zeros(n, dtype=double))  # p_σ
        self.register_buffer("drift", torch.zeros(n, dtype=double))  # p_c
        self.register_buffer("generation", torch.zeros((), dtype=torch.long))
        parents = candidates // 2
        raw = math.log((candidates + 1) / 2) - torch.arange(1, parents + 1, dtype=double).log()
        self.register_buffer("weights", raw / raw.sum(), persistent=False)
        self.effective = mu = float(raw.sum() ** 2 / raw.square().sum())
        self.path_rate = (mu + 2) / (n + mu + 5)
        self.damping = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (n + 1)) - 1) + self.path_rate
        self.drift_rate = (4 + mu / n) / (n + 4 + 2 * mu / n)
        self.rank_one = 2 / ((n + 1.3) ** 2 + mu)
        self.rank_mu = min(1 - self.rank_one, 2 * (mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
        self.length = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # expected of a normal vector

    def ask(self, rng: torch.Generator) -> Float64[Tensor, "k n"]:
        """Draws the candidates of a generation."""
        normal = torch.randn(self.candidates, self.numbers, generator=rng, dtype=torch.float64)
        return self.mean + self.spread * normal @ self.axes.T

    def tell(self, found: Float64[Tensor, "k n"], fitness: Float[Tensor, "k"]) -> None:
        """Takes in how good the candidates are, higher being better.

        Raises:
            NonFinite: a fitness is not finite, and nothing was taken in; or the candidates were not.
        """
        bad = (~fitness.isfinite()).nonzero()
        if len(bad):
            raise NonFinite(f"fitness of candidate {int(bad[0])}", int(self.generation))
        best = fitness.argsort(descending=True, stable=True)[: len(self.weights)]
        steps = (found[best] - self.mean) / self.spread
        step = self.weights @ steps
        scales = self.axes.norm(dim=0)
        white = (self.axes / scales) @ ((self.axes / scales).T @ step / scales)  # C^-1/2 step
        self.generation += 1
        c, mu = self.path_rate, self.effective
        self.path.mul_(1 - c).add_(white, alpha=math.sqrt(c * (2 - c) * mu))
        far = float(self.path.norm()) / math.sqrt(1 - (1 - c) ** (2 * int(self.generation)))
        moving = float(far < (1.4 + 2 / (self.numbers + 1)) * self.length)
        d = self.drift_rate
        self.drift.mul_(1 - d).add_(step, alpha=moving * math.sqrt(d * (2 - d) * mu))
        kept = 1 - self.rank_one * (1 - (1 - moving) * d * (2 - d)) - self.rank_mu
        self.covariance.mul_(kept).add_(self.rank_one * torch.outer(self.drift, self.drift))
        self.covariance.add_(self.rank_mu * (steps.T * self.weights) @ steps)
        self.mean += self.spread * step
        self.spread *= math.exp(c / self.damping * (float(self.path.norm()) / self.length - 1))
        if not bool(self.covariance.isfinite().all()):
            raise NonFinite("covariance", int(self.generation))
        squares, axes = torch.linalg.eigh((self.covariance + self.covariance.T) / 2)
        self.axes.copy_(axes * squares.clamp_min(1e-20).sqrt())


def dreamt_returns(
    world: ForwardModel, controller: Controller, starts: Clip, steps: int, rng: torch.Generator
) -> Float[Tensor, "k b"]:
    """Return of every controller from each of the same starts, `steps` steps in the world's dream; a reward counts by
    the probability that the episode is still on."""
    state = world.observe(starts)
    state = pick(state, torch.arange(starts.rows).repeat(controller.count))
    dream, _ = world.imagine(state, controller, steps, rng)
    if dream.rewards is None or dream.ends is None:
        raise UnusableInput("practice needs a world that imagines rewards and ends")
    return (dream.rewards * still_on(dream.ends)).sum(1).view(controller.count, starts.rows)


def evolving(
    evolution: CMAES, starts: Clip, rng: torch.Generator, world: ForwardModel, controller: Controller, steps: int
) -> dict[str, float]:
    """A step of `run.loop`: a generation, judged by its mean return in the dream from the first frames of `starts`.

    The controller's `count` is that of the candidates, and its weights are overwritten.
    """
    found = evolution.ask(rng)
    controller.weights.copy_(found)
    fitness = dreamt_returns(world, controller, starts.cut(0, 1), steps, rng).mean(1)
    evolution.tell(found, fitness)
    return {"dream/return": float(fitness.mean()), "dream/best": float(fitness.max()),
            "dream/spread": float(evolution.spread)}  # fmt: skip
