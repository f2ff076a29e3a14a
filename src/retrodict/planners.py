"""Planners: policies that think. They imagine what sequences of actions lead to, score it, and take the best.

A decision begins with the last plan moved on by a step; at an episode's beginning there is none. Noise is addressed by
seed, episode (`Clip.segment`) and decision, so a row's answer does not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from retrodict import tree
from retrodict.clip import Clip
from retrodict.errors import Incompatible, NoFrames, UnusableInput
from retrodict.models.wordless import wordless
from retrodict.nn.graph import Graph, capturable
from retrodict.rng import torch_rng
from retrodict.roles import ForwardModel, Memory, Score, State, join
from retrodict.segments import GAUSSIAN, normaliser
from retrodict.spaces import ActionSpace, Distribution, Segment

REACH = 3.0  # standard deviations of a latent vector that count as its range


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision starts from: the world's state, of each row its decision number and its noise, and noise for a
    world that draws none. Scores are looked at as they come, or kept as `unseen` until the decision is made."""

    state: State
    count: list[int]
    rngs: list[torch.Generator]
    spare: torch.Generator
    unseen: list[Tensor] | None = None


class Planner:
    """A Policy that imagines `samples` futures of `horizon` steps at once; a subclass says which.

    Words that the world takes stay unsaid. Its answer is certain. Its memory is the world's state, the number of
    decisions in this episode, and the last plan. On a CUDA device decisions are captured as one graph, with the same
    answers, where `captured` is set to true.

    Raises:
        Incompatible: the score reads other actions or frames than the world makes.
        UnusableInput: there is no step or no future to imagine, or the world takes words alone.
    """

    kept = 0  # plans that go on to the next decision beside the best guess

    def __init__(self, forward: ForwardModel, score: Score, horizon: int, samples: int, seed: int) -> None:
        if horizon < 1 or samples < 1:
            raise UnusableInput(f"a planner imagines 1 step and 1 future or more; got {horizon} and {samples}")
        forward = wordless(forward)
        join(forward, score)
        self.inner, self.score, self.horizon, self.samples, self.seed = forward, score, horizon, samples, seed
        self.space, self.view = forward.space, replace(forward.view, before=forward.view.frames - 1)
        self.middle, self.half = _range(forward.space)
        self.captured = False
        self._decisions: _Captured | None = None
        self._draws = False

    def think(
        self, now: Moment, plan: Float[Tensor, "b k d"], kept: Float[Tensor, "b e k d"], young: Bool[Tensor, "b"]
    ) -> tuple[Distribution, Float[Tensor, "b k d"], Float[Tensor, "b e k d"]]:
        """Returns the answer, the plan, and the plans to keep; `young` rows have just begun and kept nothing."""
        raise NotImplementedError

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        rows, device = past.rows, past.device
        self.middle, self.half = self.middle.to(device), self.half.to(device)
        blank = self.middle.expand(rows, self.horizon, -1)
        if memory is None:
            state, count = self.inner.observe(past), torch.zeros(rows, dtype=torch.long, device=device)
            plan, kept = blank, blank.unsqueeze(1).repeat(1, self.kept, 1, 1)
        else:
            state = self.inner.observe(past, tree.child(memory, "state"))
            count, plan, kept = (tree.leaf(memory, name) for name in ("count", "plan", "kept"))
            gone = min(past.steps, self.horizon)
            plan = torch.cat([plan[:, gone:], blank[:, :gone]], 1)
            kept = torch.cat([kept[:, :, gone:], kept[:, :, -1:].repeat(1, 1, gone, 1)], 2)
            count = counted(past, count)
            plan = torch.where((count == 0)[:, None, None], blank, plan)
        rngs = noises(past, count, self.seed, "plan")
        now = Moment(state, count.tolist(), rngs, torch_rng(self.seed, "plan/unused", device=device))
        belief, plan, kept = self._thought(now, plan, kept, count == 0)
        return belief, {"state": state, "count": count + 1, "plan": plan, "kept": kept}

    def _thought(self, now: Moment, plan: Tensor, kept: Tensor, young: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """What `think` answers, as a graph where it may: one is captured after the first decision of so many rows."""
        if not (self.captured and capturable(plan.device)):
            return self.think(now, plan, kept, young)
        if self._decisions is not None and self._decisions.rows == len(plan):
            return self._decisions(now, plan, kept, young) or self.think(now, plan, kept, young)
        answer = self.think(now, plan, kept, young)
        self._decisions = _Captured(self, now, plan, kept, young)
        return answer

    def worth(self, now: Moment, plans: Float[Tensor, "b n k d"]) -> Float[Tensor, "b n"]:
        """Imagines and scores plans: all rows together, or one by one where the world draws.

        Raises:
            UnusableInput: the score is not one finite number for each future.
        """
        rows = len(plans)
        if rows > 1 and not self._draws:
            unused = None if now.unseen is not None else now.spare.get_state()
            found = self._worth(now.state, plans, now.spare)
            if unused is None or torch.equal(unused, now.spare.get_state()):
                return self._finite(found, plans, now)
            self._draws = True  # what was imagined with shared noise is thrown away
        each = [self._worth(tree.row(now.state, row), plans[row : row + 1], now.rngs[row]) for row in range(rows)]
        return self._finite(torch.cat(each), plans, now)

    def _worth(self, state: State, plans: Float[Tensor, "b n k d"], rng: torch.Generator) -> Float[Tensor, "b n"]:
        wide = tree.repeat(state, plans.shape[1])
        clip, _ = self.inner.imagine(wide, plans.flatten(0, 1), self.horizon, rng)
        found = self.score(seen(self.inner, clip, self.score))
        if not isinstance(found, Tensor) or not found.is_floating_point() or found.shape != (clip.rows,):
            what = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise UnusableInput(
                f"a score is one number for each of {clip.rows} futures, floats of a tensor; got {what}"
            )
        return found.view(plans.shape[:2])

    def _finite(self, found: Tensor, plans: Tensor, now: Moment) -> Tensor:
        if now.unseen is not None:
            now.unseen.append(found)
            return found.where(found.isfinite(), 0)  # no more than a way on: such an answer is not used
        bad = (~found.isfinite()).nonzero()
        if len(bad):
            row, number = bad[0].tolist()
            raise UnusableInput(
                f"{len(bad)} of {found.numel()} imagined futures have a score ({type(self.score).__name__}) that is "
                f"not finite. The first is {found[row, number].item()}, of plan {number} in row {row} at decision "
                f"{now.count[row]}, which begins with {self.space.describe(plans[row, number, 0])}; look at what the "
                "world imagines there"
            )
        return found


class _Captured:
    """A planner's decisions for so many rows, captured as one CUDA graph."""

    def __init__(self, planner: Planner, now: Moment, plan: Tensor, kept: Tensor, young: Tensor) -> None:
        self.rows, device = len(plan), plan.device
        self._inputs = [tensor.clone() for tensor in tree.flatten((now.state, plan, kept, young)).values()]
        self._rngs = [torch.Generator(device).manual_seed(0) for _ in now.rngs]
        spare = torch.Generator(device).manual_seed(0)

        def work() -> tuple[Distribution, Tensor, Tensor, Tensor]:
            state, mine, held, new = _filled((now.state, plan, kept, young), self._inputs)
            moment = Moment(state, now.count, self._rngs, spare, [])
            belief, planned, keep = planner.think(moment, mine, held, new)
            assert moment.unseen, "a planner scores what it imagines"
            return belief, planned, keep, torch.stack([found.isfinite().all() for found in moment.unseen]).all()

        self._graph = Graph(work, device, [*self._rngs, spare])

    def __call__(
        self, now: Moment, plan: Tensor, kept: Tensor, young: Tensor
    ) -> tuple[Distribution, Tensor, Tensor] | None:
        """Returns the answer, the plan and the plans to keep; None where a score is not finite."""
        given = tree.flatten((now.state, plan, kept, young)).values()
        for mine, one in zip(self._inputs, given, strict=True):
            mine.copy_(one)
        for generator, wanted in zip(self._rngs, now.rngs, strict=True):
            generator.manual_seed(wanted.initial_seed())
        belief, planned, keep, good = self._graph.launch()
        return (replace(belief, params=belief.params.clone()), planned.clone(), keep.clone()) if bool(good) else None


def _filled(shape: tree.Tree, leaves: list[Tensor]) -> Any:
    """The same tree with other tensors, in their order."""
    left = iter(leaves)
    return tree.map_tensors(lambda _: next(left), shape)


def counted(past: Clip, count: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
    """The number of each row's decision, which is 0 again where another episode begins in what is new of `past`."""
    if past.segment is None:
        return count
    return count.masked_fill((past.segment[:, 1:] != past.segment[:, :-1]).any(1), 0)


def noises(past: Clip, count: Int64[Tensor, "b"], seed: int, name: str) -> list[torch.Generator]:
    """Each row's noise: that of its episode and decision, whatever its neighbours are."""
    episodes = [0] * past.rows if past.segment is None else past.segment[:, -1].tolist()
    return [torch_rng(seed, name, e, n, device=past.device) for e, n in zip(episodes, count.tolist(), strict=True)]


def seen(forward: ForwardModel, clip: Clip, score: Score) -> Clip:
    """What a score is given of an imagined clip: with frames where the world can decode them, unless the score says by
    `looks = False` that it needs none."""
    if not getattr(score, "looks", True):
        return clip
    try:
        return forward.decode(clip)
    except NoFrames:
        return clip


class GradientPlanner(Planner):
    """Climbs the score by back-propagation through the world, from several plans at once, by Adam.

    It works under no_grad, and needs a world and a score through which gradients flow: frames of bytes let none pass.

    Raises:
        Incompatible: an action is a choice or a key, or no gradient comes from the score to the actions.
    """

    def __init__(
        self, forward: ForwardModel, score: Score, horizon: int, samples: int, iterations: int, rate: float, seed: int
    ) -> None:
        super().__init__(forward, score, horizon, samples, seed)
        if any(segment.kind not in GAUSSIAN for segment in self.space.segments):
            raise Incompatible("gradients plan over axes alone, and this world takes choices or keys; plan by cem")
        if iterations < 1 or rate <= 0:
            raise UnusableInput(f"gradients need an iteration and a rate above 0; got {iterations} and {rate}")
        self.iterations, self.rate = iterations, rate

    def think(
        self, now: Moment, plan: Float[Tensor, "b k d"], kept: Float[Tensor, "b e k d"], young: Bool[Tensor, "b"]
    ) -> tuple[Distribution, Float[Tensor, "b k d"], Float[Tensor, "b e k d"]]:
        """Starts from the last plan and from random ones; answers the best that was met."""
        middle, half = self.middle, self.half
        shape = (self.samples - 1, *plan.shape[1:])
        noise = torch.stack([torch.rand(shape, generator=rng, device=plan.device) for rng in now.rngs]) * 2 - 1
        at = torch.cat([((plan - middle) / half).unsqueeze(1), noise], 1).detach().requires_grad_()
        climb = torch.optim.Adam([at], self.rate, maximize=True)
        best, record = plan, torch.full((len(plan),), -torch.inf, device=plan.device)
        for iteration in range(self.iterations + 1):
            with torch.enable_grad():
                plans = middle + half * at
                found = self.worth(now, plans)
                if iteration < self.iterations:
                    at.grad = self._slope(found, at)
            with torch.no_grad():
                top, number = found.max(1)
                best, record = better(best, record, plans[rows_of(plans), number], top)
                if iteration < self.iterations:
                    climb.step()
                    at.clamp_(-1, 1)
        return Distribution.point(self.space, best[:, 0]), best, kept

    def _slope(self, found: Tensor, at: Tensor) -> Tensor:
        slope = torch.autograd.grad(found.sum(), at, allow_unused=True)[0] if found.requires_grad else None
        if slope is None:
            raise Incompatible(
                f"no gradient comes from {type(self.score).__name__} through {type(self.inner).__name__} to the "
                "actions; plan by cem, or score features or rewards that the world imagines with gradients"
            )
        if not bool(slope.isfinite().all()):
            raise UnusableInput(f"the gradient of {type(self.score).__name__} is not finite; plan by cem")
        return slope


def gradient(
    forward: ForwardModel, score: Score, horizon: int = 8, samples: int = 4, iterations: int = 30, rate: float = 0.1,
    seed: int = 0,
) -> GradientPlanner:  # fmt: skip
    """Plans by back-propagation; `rate` is how far a step may go, in halves of an axis's range."""
    return GradientPlanner(forward, score, horizon, samples, iterations, rate, seed)


def _range(space: ActionSpace) -> tuple[Float[Tensor, "d"], Float[Tensor, "d"]]:
    """The middle of each axis, or equal probabilities; half the range of each axis, or 0."""
    ends = [_ends(segment) for segment in space.segments]
    return torch.cat([middle for middle, _ in ends]), torch.cat([half for _, half in ends])


def _ends(segment: Segment) -> tuple[Tensor, Tensor]:
    ones = torch.ones(segment.width)
    if segment.kind == "vector":
        center, scale = normaliser(segment, ones)
        return center, REACH * scale
    if segment.kind == "continuous":
        return ones * (segment.low + segment.high) / 2, ones * (segment.high - segment.low) / 2
    return ones / (2 if segment.kind == "binary" else segment.width), 0 * ones


def better(best: Tensor, record: Tensor, plan: Tensor, worth: Tensor) -> tuple[Tensor, Tensor]:
    """The better of two plans of each row, and its score."""
    more = worth > record
    return torch.where(more[:, None, None], plan, best), torch.where(more, worth, record)


def rows_of(plans: Tensor) -> Tensor:
    """The number of each row."""
    return torch.arange(len(plans), device=plans.device)
