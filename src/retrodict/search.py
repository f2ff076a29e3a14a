"""Search for a plan: random shooting, CEM, iCEM and MPPI, for axes, choices and keys alike.

A search holds a belief about the best plan: a mean and a spread for every axis of every step, probabilities for every
choice and key. Plans are drawn from it, and it moves to the best ones, its elites. Spreads are in halves of an axis's
range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from retrodict import tree
from retrodict.errors import UnusableInput
from retrodict.nn.graph import side_by_side
from retrodict.planners import Moment, Planner, better, rows_of
from retrodict.roles import ForwardModel, Policy, Score, join
from retrodict.segments import GAUSSIAN, normaliser
from retrodict.spaces import ActionSpace, Distribution


@dataclass(frozen=True, slots=True)
class Search:
    """How a plan is looked for."""

    iterations: int
    elites: int  # best plans of an iteration, to which the belief moves
    least: float  # spread of an axis, and share of equal probabilities mixed into those of a choice or key
    largest: float  # spread with which every decision begins
    temperature: float = 0.0  # weights of elites are softmax(score / temperature); 0: they count alike
    colour: float = 0.0  # spectral density of noise in time is 1 / frequency ** colour
    kept: int = 0  # elites that are tried again, in the next iteration and decision
    uniform: bool = False  # draw plans without regard to the belief, all alike
    explore: bool = False  # answer with the spread that is left, in place of certainty

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.elites < 1 or not 0 <= self.kept <= self.elites:
            raise UnusableInput(f"a search needs an iteration, an elite, and kept within 0..elites; got {self}")
        if not 0 <= self.least <= min(1, self.largest) or self.temperature < 0 or self.colour < 0:
            raise UnusableInput(f"a search needs 0 <= least <= 1 and largest, temperature and colour >= 0; got {self}")


class SearchPlanner(Planner):
    """Random shooting, CEM, iCEM and MPPI: one search, whose differences are settings.

    The likeliest plan is always tried, and so are `proposals` of a policy, rolled out in the world.
    """

    def __init__(
        self, forward: ForwardModel, score: Score, horizon: int, samples: int, seed: int, how: Search,
        policy: Policy | None = None, proposals: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(forward, score, horizon, samples, seed)
        if (policy is None) != (proposals == 0):
            raise UnusableInput(f"proposals need a policy, and a policy their number; got {proposals} of {policy}")
        self.fresh = samples - 1 - how.kept - proposals
        if self.fresh < max(1, how.kept) or how.elites > samples:
            raise UnusableInput(
                f"{samples} samples are too few for {how.elites} elites, {how.kept} kept, and {proposals} proposals"
            )
        if policy is not None:
            join(self.inner, policy)
        self.how, self.kept, self.policy, self.proposals = how, how.kept, policy, proposals

    def think(
        self, now: Moment, plan: Float[Tensor, "b k d"], kept: Float[Tensor, "b e k d"], young: Bool[Tensor, "b"]
    ) -> tuple[Distribution, Float[Tensor, "b k d"], Float[Tensor, "b e k d"]]:
        """Draws, imagines, scores, and moves the belief to the elites; answers the best plan, under a temperature an
        elite that is drawn by its weight."""
        how, middle, half = self.how, self.middle, self.half
        mean = torch.where(half > 0, plan, (plan + middle) / 2)  # a choice is open again by half
        spread = (how.largest * half).expand_as(mean)
        proposed = self._proposed(now, plan)
        best, record = plan, torch.full((len(plan),), -torch.inf, device=plan.device)
        for iteration in range(how.iterations):
            fresh = self._drawn(mean, spread, now.rngs)
            if iteration == 0:
                kept = torch.where(young[:, None, None, None], fresh[:, : how.kept], kept)
            tried = torch.cat([likeliest(self.space, mean).unsqueeze(1), proposed, kept, fresh], 1)
            top = self.worth(now, tried).topk(how.elites, 1)
            elites = tried[rows_of(tried).unsqueeze(1), top.indices]
            best, record = better(best, record, elites[:, 0], top.values[:, 0])
            weight = self._weights(top.values)
            mean = (weight[..., None, None] * elites).sum(1)
            spread = (weight[..., None, None] * (elites - mean.unsqueeze(1)) ** 2).sum(1).sqrt()
            spread = spread.clamp(how.least * half, how.largest * half)
            mean = torch.where(half > 0, mean, (1 - how.least) * mean + how.least * middle)
            kept = elites[:, : how.kept]
        if how.temperature:
            best = _one_of(elites, weight, now.rngs)
        belief = Distribution.point(self.space, best[:, 0])
        return (self._loosened(belief, spread[:, 0]) if how.explore else belief), mean, kept

    def _weights(self, scores: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        if not self.how.temperature:
            return torch.full_like(scores, 1 / scores.shape[1])
        return (scores / self.how.temperature).softmax(1)

    def _drawn(self, mean: Tensor, spread: Tensor, rngs: list[torch.Generator]) -> Float[Tensor, "b n k d"]:
        """New plans of every row."""
        shape = (self.fresh, *mean.shape[1:])
        noise = torch.stack([torch.randn(shape, generator=rng, device=mean.device) for rng in rngs])
        middle, half = self.middle, self.half
        if self.how.uniform:
            plans = drawn(self.space, middle.expand_as(mean), torch.zeros_like(mean), noise)
            return plans.where(half == 0, middle + half * (2 * torch.special.ndtr(noise) - 1))
        return self._bounded(drawn(self.space, mean, spread, coloured(noise, self.how.colour)))

    def _bounded(self, plans: Float[Tensor, "b n k d"]) -> Float[Tensor, "b n k d"]:
        low, high = self.middle - self.half, self.middle + self.half
        return plans.where(self.half == 0, plans.clamp(low, high))

    def _proposed(self, now: Moment, plan: Tensor) -> Float[Tensor, "b p k d"]:
        """What the policy does in the world, a few times over."""
        if self.policy is None:
            return plan.new_zeros(len(plan), 0, *plan.shape[1:])

        def of(row: int, rng: torch.Generator) -> Tensor:
            wide = tree.repeat(tree.row(now.state, row), self.proposals)
            clip, _ = self.inner.imagine(wide, self.policy, self.horizon, rng)
            assert clip.actions is not None, "a world tells what a policy did in it"
            return clip.actions

        found = side_by_side([partial(of, row, rng) for row, rng in enumerate(now.rngs)])
        return self._bounded(torch.stack(found))

    def _loosened(self, belief: Distribution, spread: Float[Tensor, "b d"]) -> Distribution:
        """The same with this spread of axes."""
        params = []
        for segment, columns, parameters in self.space.slices():
            part = belief.params[:, parameters]
            if segment.kind in GAUSSIAN:
                scale = normaliser(segment, part)[1]
                part = torch.cat([part.chunk(2, -1)[0], (spread[:, columns] / scale).clamp_min(1e-5).log()], -1)
            params.append(part)
        return replace(belief, params=torch.cat(params, -1))


def random_shooting(
    forward: ForwardModel, score: Score, horizon: int = 8, samples: int = 64, seed: int = 0
) -> SearchPlanner:
    """Tries plans drawn uniformly, and the rest of the last one."""
    return SearchPlanner(forward, score, horizon, samples, seed, Search(1, 1, 0.0, 1.0, uniform=True))


def cem(
    forward: ForwardModel, score: Score, horizon: int = 8, samples: int = 64, iterations: int = 4, elites: int = 8,
    least: float = 0.05, largest: float = 1.0, seed: int = 0,
) -> SearchPlanner:  # fmt: skip
    """The cross-entropy method (Rubinstein, 1999)."""
    return SearchPlanner(forward, score, horizon, samples, seed, Search(iterations, elites, least, largest))


def icem(
    forward: ForwardModel, score: Score, horizon: int = 8, samples: int = 64, iterations: int = 4, elites: int = 8,
    least: float = 0.05, largest: float = 1.0, colour: float = 2.0, share: float = 0.3, seed: int = 0,
) -> SearchPlanner:  # fmt: skip
    """CEM with noise that lasts, and with a share of the elites tried again (Pinneri et al., CoRL 2020).

    Of that paper's improvements, samples that get fewer and averages over iterations are left out.
    """
    how = Search(iterations, elites, least, largest, colour=colour, kept=round(share * elites))
    return SearchPlanner(forward, score, horizon, samples, seed, how)


def mppi(
    forward: ForwardModel, score: Score, horizon: int = 3, samples: int = 512, iterations: int = 6, elites: int = 64,
    temperature: float = 2.0, least: float = 0.05, largest: float = 2.0, policy: Policy | None = None,
    proposals: int = 0, explore: bool = False, seed: int = 0,
) -> SearchPlanner:  # fmt: skip
    """Model predictive path integral control (Williams et al., 2017), with TD-MPC2's numbers (Hansen et al., 2024).

    Its temperature of 0.5 there multiplies scores; 2.0 here divides them. With `explore` the answer has the spread
    that is left, to draw from while collecting; its mode is the same. A value of the last frame is the score's to add.
    """
    how = Search(iterations, elites, least, largest, temperature, explore=explore)
    return SearchPlanner(forward, score, horizon, samples, seed, how, policy, proposals)


def drawn(
    space: ActionSpace, mean: Float[Tensor, "b k d"], spread: Float[Tensor, "b k d"], noise: Float[Tensor, "b n k d"]
) -> Float[Tensor, "b n k d"]:
    """Plans as standard normal noise makes them: an axis by its spread, a choice and a key by its quantile."""
    parts = []
    for segment, columns, _ in space.slices():
        center, part = mean[..., columns].unsqueeze(1), noise[..., columns]
        if segment.kind in GAUSSIAN:
            parts.append(center + spread[..., columns].unsqueeze(1) * part)
            continue
        quantile = torch.special.ndtr(part).clamp(1e-6, 1 - 1e-6)
        if segment.kind == "binary":
            parts.append((quantile < center).to(part.dtype))
        else:  # the Gumbel trick
            chosen = (center.log() - (-quantile.log()).log()).argmax(-1)
            parts.append(F.one_hot(chosen, segment.width).to(part.dtype))
    return torch.cat(parts, -1)


def likeliest(space: ActionSpace, mean: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """The likeliest actions of a belief."""
    parts = []
    for segment, columns, _ in space.slices():
        part = mean[..., columns]
        if segment.kind == "binary":
            part = (part > 0.5).to(part.dtype)
        elif segment.kind not in GAUSSIAN:
            part = F.one_hot(part.argmax(-1), segment.width).to(part.dtype)
        parts.append(part)
    return torch.cat(parts, -1)


def coloured(noise: Float[Tensor, "b n k d"], colour: float) -> Float[Tensor, "b n k d"]:
    """Makes white noise power-law noise in time, of the same variance (Timmer & König, 1995).

    The lowest frequency, 0, counts as that of one turn in the horizon.
    """
    steps = noise.shape[-2]
    spectrum = torch.fft.rfft(noise, dim=-2) * _gain(steps, colour, noise.device).unsqueeze(-1)
    return torch.fft.irfft(spectrum, steps, dim=-2)  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _gain(steps: int, colour: float, device: torch.device) -> Float[Tensor, "f"]:
    """How much of each frequency goes into noise of a colour."""
    with torch.inference_mode(False):  # it outlives who asks
        turns = torch.fft.rfftfreq(steps, device=device).clamp_min(1 / steps)
        gain = turns ** (-colour / 2)
        whole = torch.cat([gain, gain[1 : (steps + 1) // 2]])  # negative frequencies as well
        scaled: Tensor = gain / (whole**2).mean().sqrt()
        return scaled


def _one_of(plans: Tensor, weight: Float[Tensor, "b e"], rngs: list[torch.Generator]) -> Float[Tensor, "b k d"]:
    number = [torch.multinomial(row, 1, generator=rng) for row, rng in zip(weight, rngs, strict=True)]
    return plans[rows_of(plans), torch.cat(number)]
