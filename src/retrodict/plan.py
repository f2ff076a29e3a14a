"""Compositions of roles: planners, proposals judged by an inverse, plans read by it, an inverse out of a world.

Everything here speaks to roles only, so any inverse meets any forward model and policy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict import tree
from retrodict.clip import Clip, stack
from retrodict.errors import Incompatible, NoLikelihood, UnusableInput
from retrodict.models.wordless import wordless
from retrodict.planners import counted, gradient, noises, seen
from retrodict.roles import ForwardModel, InverseModel, Memory, Policy, Score, State, View, join
from retrodict.search import cem, icem, mppi, random_shooting
from retrodict.spaces import Distribution

__all__ = [
    "BayesInverse", "BestOfN", "CycleScore", "GenerateThenInfer", "Reach", "Rewards", "Uniform", "WeightedScore",
    "bayes_inverse", "best_of_n", "cem", "generate_then_infer", "gradient", "icem", "mppi", "random_shooting",
    "self_inverse",
]  # fmt: skip


class Rewards:
    """Scores a clip by its discounted rewards, each times the probability that no earlier step ended the episode.

    `value` scores how a clip would go on after its last frame; it counts discounted, where nothing has ended.
    """

    looks = False  # at frames

    def __init__(self, discount: float = 0.99, value: Score | None = None) -> None:
        if not 0 < discount <= 1:
            raise UnusableInput(f"a discount lies above 0 and not above 1; got {discount}")
        self.discount, self.value = discount, value

    def __call__(self, clip: Clip) -> Float[Tensor, "b"]:
        """The discounted return of each row."""
        if clip.rewards is None:
            raise UnusableInput(
                "no rewards were imagined, by which futures are compared here; plan in a world that foretells them, "
                "such as that of dreamer_v3, tdmpc2 or iris, or by another score"
            )
        goes_on = torch.ones_like(clip.rewards) if clip.ends is None else 1 - clip.ends
        weight = (self.discount * goes_on).cumprod(1)  # of what comes after each step
        total = clip.rewards[:, :1].sum(1) + (weight[:, :-1] * clip.rewards[:, 1:]).sum(1)
        return total if self.value is None else total + weight[:, -1] * self.value(clip)


class WeightedScore:
    """The sum of scores, each times its weight."""

    def __init__(self, *parts: tuple[Score, float]) -> None:
        if not parts:
            raise UnusableInput("a sum of scores needs at least one (score, weight)")
        self.parts, self.looks = parts, any(getattr(score, "looks", True) for score, _ in parts)

    def __call__(self, clip: Clip) -> Float[Tensor, "b"]:
        """Scores each row."""
        return torch.stack([weight * score(clip) for score, weight in self.parts]).sum(0)


class CycleScore:
    """Scores a clip by how likely its own actions are to an inverse model that looks at its frames.

    A world that obeys is read back as it was told: cycle consistency, the verifier of a bootstrapped model.
    """

    def __init__(self, inverse: InverseModel) -> None:
        self.inverse, self.view, self.space = inverse, inverse.view, inverse.space

    def __call__(self, clip: Clip) -> Float[Tensor, "b"]:
        """Mean log probability of the clip's actions over its real steps."""
        if clip.actions is None:
            raise UnusableInput("cycle consistency needs a clip with the actions that were asked for")
        logs = self.inverse.infer(clip).log_prob(clip.actions, merge=True)
        real = clip.real.to(logs.dtype)
        return (logs * real).sum(1) / real.sum(1).clamp_min(1.0)


class Reach:
    """Scores a clip by how near its last frame comes to a picture, `goal`: minus the mean square of the differences of
    pixels, in units of their range."""

    def __init__(self, goal: UInt8[Tensor, "c h w"]) -> None:
        self.goal = goal

    def __call__(self, clip: Clip) -> Float[Tensor, "b"]:
        """The score of each row."""
        if clip.frames is None:
            raise UnusableInput("a picture is to be reached, and what was imagined has no frames")
        if clip.frames.shape[2:] != self.goal.shape:
            raise UnusableInput(
                f"frames of {tuple(clip.frames.shape[2:])} cannot reach a picture of {tuple(self.goal.shape)}; "
                "give both as channels x height x width"
            )
        far = clip.frames[:, -1].float() - self.goal.to(clip.device).float()
        return -(far / 255).square().flatten(1).mean(1)


class BestOfN:
    """A ForwardModel that imagines n futures for every row and keeps the one with the best score."""

    def __init__(self, forward: ForwardModel, score: Score, n: int) -> None:
        if n < 1:
            raise UnusableInput(f"best_of_n needs n >= 1; got {n}")
        self.inner, self.score, self.n = forward, score, n
        self.view, self.space = forward.view, forward.space

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen."""
        return self.inner.observe(past, state)

    def imagine(
        self, state: State, actions: Float[Tensor, "b k d"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out n futures per row and keeps the best.

        Raises:
            UnusableInput: a score is not finite.
        """
        wide = tree.repeat(state, self.n)
        proposed = actions.repeat_interleave(self.n, 0) if isinstance(actions, Tensor) else actions
        clip, reached = self.inner.imagine(wide, proposed, steps, rng)
        worth = self.score(seen(self.inner, clip, self.score)).view(-1, self.n)
        if not bool(worth.isfinite().all()):
            row, number = (~worth.isfinite()).nonzero()[0].tolist()
            raise UnusableInput(
                f"the score ({type(self.score).__name__}) of future {number} of row {row} is "
                f"{worth[row, number].item()}; look at what the world imagines there"
            )
        best = worth.argmax(1)
        rows = torch.arange(len(best), device=best.device) * self.n + best
        return clip.pick(rows), tree.pick(reached, rows)

    def decode(self, clip: Clip) -> Clip:
        """Turns features into frames."""
        return self.inner.decode(clip)

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """Log probability of each next frame under the inner model."""
        return self.inner.log_prob(clip)


def best_of_n(forward: ForwardModel, judge: InverseModel | Score, n: int) -> BestOfN:
    """Forward proposes, inverse (or any score) chooses; to an inverse, which reads no words, none are said.

    Raises:
        Incompatible: the judge cannot look at what this world imagines.
    """
    if isinstance(judge, InverseModel):
        forward = wordless(forward)
        join(forward, judge)
        return BestOfN(forward, CycleScore(judge), n)
    return BestOfN(forward, judge, n)


class GenerateThenInfer:
    """A policy that imagines what comes next and reads the first action off it (UniPi, Video Language Planning)."""

    def __init__(self, forward: ForwardModel, inverse: InverseModel, horizon: int, seed: int) -> None:
        if horizon < 1:
            raise UnusableInput(f"a plan needs a horizon of at least one step; got {horizon}")
        self.inner, self.inverse, self.horizon, self.seed = forward, inverse, horizon, seed
        self.space = inverse.space
        view = forward.view
        self.view = View(view.frames, view.frames - 1, view.every, view.rate, view.size, view.channels, view.cameras)

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame; the memory is the forward model's state and the number of decisions."""
        state = self.inner.observe(past) if memory is None else self.inner.observe(past, tree.child(memory, "state"))
        count = torch.zeros(past.rows, dtype=torch.long, device=past.device)
        if memory is not None:
            count = counted(past, tree.leaf(memory, "count"))
        rngs = noises(past, count, self.seed, "generate")
        each = [self.inner.imagine(tree.row(state, row), None, self.horizon, rng)[0] for row, rng in enumerate(rngs)]
        seen = self.inner.decode(stack(each)).with_(actions=None, source=None)
        return self.inverse.infer(seen)[:, 0], {"state": state, "count": count + 1}


def generate_then_infer(
    forward: ForwardModel, inverse: InverseModel, horizon: int = 1, seed: int = 0
) -> GenerateThenInfer:
    """Forward imagines a plan by itself, inverse reads the actions off it.

    Raises:
        Incompatible: the inverse cannot look at what this world imagines.
    """
    if forward.view.size != inverse.view.size:
        join(forward, inverse)
    return GenerateThenInfer(forward, inverse, horizon, seed)


class BayesInverse:
    """q(a | o, o') ∝ p(o' | o, a) π(a | o): an inverse model distilled out of a world and a policy."""

    def __init__(self, forward: ForwardModel, policy: Policy) -> None:
        self.inner, self.policy, self.space = forward, policy, forward.space
        before = max(forward.view.before, policy.view.frames - 1)
        view = forward.view
        self.view = View(before + 2, before, view.every, view.rate, view.size, view.channels, view.cameras)

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step by trying every value of the action."""
        steps = []
        count = self.space.width
        every = F.one_hot(torch.arange(count, device=clip.device), count).float()
        for t in range(clip.steps):
            past = clip.cut(max(0, t - self.view.before), t + 1).with_(actions=None, source=None, confidence=None)
            prior = self.policy.act(past)[0].params.log_softmax(-1)  # b d
            pair = clip.cut(max(0, t - self.view.before), t + 2)
            wide = pair.with_(source=None, confidence=None).pick(
                torch.arange(clip.rows, device=clip.device).repeat_interleave(count)
            )
            tried = every.repeat(clip.rows, 1)[:, None].expand(-1, wide.steps, -1)
            likelihood = self.inner.log_prob(wide.with_(actions=tried.contiguous()))[:, -1]
            steps.append(prior + likelihood.view(clip.rows, count))
        if not steps:
            return Distribution(self.space, torch.zeros(clip.rows, 0, self.space.parameters, device=clip.device))
        return Distribution(self.space, torch.stack(steps, 1))


def bayes_inverse(forward: ForwardModel, policy: Policy) -> BayesInverse:
    """Makes an inverse model out of a forward model with a likelihood and a policy over the same actions, words aside.

    Raises:
        Incompatible: they speak different actions, or the action is not a single choice that can be enumerated.
    """
    forward = wordless(forward)
    join(forward, policy)
    if forward.space.discrete is None:
        raise Incompatible("bayes_inverse tries every action, so the action must be one choice among named values")
    return BayesInverse(forward, policy)


class Uniform:
    """A policy of a single choice that takes every value as likely, whatever it sees."""

    def __init__(self, forward: ForwardModel) -> None:
        self.view, self.space = forward.view, forward.space

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        return Distribution(self.space, torch.zeros(past.rows, self.space.parameters, device=past.device)), memory


@torch.no_grad()
def self_inverse(forward: ForwardModel) -> BayesInverse | None:
    """Returns what a world itself reads off its frames, all actions being as likely before; None where its action is
    not a single choice, words aside, or it has no likelihood, which is asked of one black pair of frames."""
    if all(segment.kind == "text" for segment in forward.space.segments):
        return None
    forward, view = wordless(forward), forward.view
    if forward.space.discrete is None:
        return None
    inverse = bayes_inverse(forward, Uniform(forward))
    try:
        inverse.infer(Clip(frames=torch.zeros(1, 2, view.channels, *view.size, dtype=torch.uint8)))
    except NoLikelihood:
        return None
    return inverse
