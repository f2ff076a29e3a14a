"""The five roles, what each must be shown (`View`), and whether two can be joined (`compatible`).

    Encoder       frames <-> features
    InverseModel  q(a | o, o')      which action connects two frames
    ForwardModel  p(o' | o, a)      what an action leads to
    Policy        π(a | o)          what to do; a planner is a policy that thinks
    Score         clip -> number    higher is better

Roles never call no_grad, detach or train(): callers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from retrodict.clip import Clip, concatenate
from retrodict.errors import Incompatible
from retrodict.spaces import ActionSpace, Distribution
from retrodict.tree import Tree

State: TypeAlias = Tree
Memory: TypeAlias = Tree


@dataclass(frozen=True, slots=True)
class View:
    """What a role must be shown to answer for step t.

    It sees `frames` frames, `every` apart, of which `before` lie before frame t; the edges of an episode repeat. With a
    negative `before` the first of them lies so many times `every` after frame t, where an action shows its effect late.
    `rate` is frames per second (0: any), `size` is (height, width), `cameras` their names in channel order,
    `proprio` the number of recorded low-dimensional values it needs, `features` the number of a world's own.
    """

    frames: int = 1
    before: int = 0
    every: int = 1
    rate: float = 0.0
    size: tuple[int, int] = (64, 64)
    channels: int = 3
    cameras: tuple[str, ...] = ("observation.image",)
    proprio: int = 0
    features: int = 0

    def offsets(self) -> tuple[int, ...]:
        """Frame offsets relative to frame t, in order."""
        return tuple((i - self.before) * self.every for i in range(self.frames))


@runtime_checkable
class Encoder(Protocol):
    """Turns frames into features or tokens and back; a tokenizer when its latents are integers."""

    view: View
    every: int
    causal: bool

    def encode(self, clip: Clip) -> Clip:
        """Returns the clip with `features`."""
        ...

    def decode(self, clip: Clip) -> Clip:
        """Returns the clip with `frames` made from `features`."""
        ...


@runtime_checkable
class InverseModel(Protocol):
    """Says which action connects two frames: q(a | o, o')."""

    view: View
    space: ActionSpace

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step of the clip: a distribution over axes "b t-1"."""
        ...


@runtime_checkable
class ForwardModel(Protocol):
    """Says what an action leads to: p(o' | o, a)."""

    view: View
    space: ActionSpace

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen; with a state, `past` is the last seen frame and what is new."""
        ...

    def imagine(
        self, state: State, actions: Float[Tensor, "b k d"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out `steps` steps: steps + 1 frames, the first being the last one seen. A policy is stepped inside;
        with None the model chooses."""
        ...

    def decode(self, clip: Clip) -> Clip:
        """Turns features into frames, or raises NoFrames."""
        ...

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """Log probability of each next frame, up to a constant free of the action, or raises NoLikelihood."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Says what to do: π(a | o)."""

    view: View
    space: ActionSpace

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame of `past`: a distribution over axis "b", and what to remember."""
        ...


class Score(Protocol):
    """A number per clip: reward, value, goal distance or verifier; higher is better."""

    def __call__(self, clip: Clip) -> Float[Tensor, "b"]:
        """Scores each row."""
        ...


class Adapter(Protocol):
    """Maps actions of a recipe's own space to true actions and back."""

    space: ActionSpace
    inner: ActionSpace

    def decode(self, belief: Distribution, clip: Clip) -> Distribution:
        """Turns a belief over inner actions into one over `space`, given the frames it was made from."""
        ...

    def encode(self, actions: Float[Tensor, "b k d"], clip: Clip) -> Float[Tensor, "b k e"]:
        """Turns true actions into inner ones."""
        ...


@dataclass(frozen=True, slots=True)
class System:
    """What a recipe returns and `retrodict.load` gives back: its roles, in the recipe's own action space."""

    encoder: Encoder | None = None
    inverse: InverseModel | None = None
    forward: ForwardModel | None = None
    policy: Policy | None = None
    score: Score | None = None
    adapter: Adapter | None = None
    about: Mapping[str, Any] = field(default_factory=dict)  # recipe, config digest, temperature, measures: plain JSON

    def parts(self) -> dict[str, Any]:
        """Returns the roles that are present, by name."""
        names = ("encoder", "inverse", "forward", "policy", "score", "adapter")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    def decoded(self) -> System:
        """Returns the system with its roles speaking true actions (itself when it has no adapter)."""
        if self.adapter is None:
            return self
        return replace(
            self,
            inverse=None if self.inverse is None else DecodedInverse(self.inverse, self.adapter),
            forward=None if self.forward is None else DecodedForward(self.forward, self.adapter),
            policy=None if self.policy is None else DecodedPolicy(self.policy, self.adapter),
            adapter=None,
        )


def remembered(forward: Any) -> int:
    """How many frames before the present one a world is to be shown, beyond its view, to know where it is: what it
    `remembers`, or the world inside it does; 0 where neither says."""
    if forward is None:
        return 0
    return getattr(forward, "remembers", 0) or remembered(getattr(forward, "inner", None))


def compatible(a: Any, b: Any) -> str | None:
    """Returns the reason why two roles cannot be joined, or None when they can."""
    if getattr(a, "space", None) is not None and getattr(b, "space", None) is not None and a.space != b.space:
        words = any(segment.kind == "text" for role in (a, b) for segment in role.space.segments)
        how = "leave words out by models.wordless.wordless(world)" if words else "join them through an adapter"
        return f"they speak different actions: {in_words(a.space)} and {in_words(b.space)}; {how}"
    first, second = getattr(a, "view", None), getattr(b, "view", None)
    if first is None or second is None:
        return None
    if first.size != second.size:
        return f"they see frames of {first.size} and {second.size} pixels; train both at one size"
    if first.cameras != second.cameras or first.channels != second.channels:
        seen = [f"{', '.join(view.cameras)} in {view.channels} channels" for view in (first, second)]
        return f"they see different cameras: {seen[0]}, and {seen[1]}"
    if first.rate and second.rate and first.rate != second.rate:
        return f"they run at {first.rate} and {second.rate} frames/s; resample one of them"
    return None


def join(a: Any, b: Any) -> None:
    """Raises Incompatible with the reason when two roles cannot be joined."""
    reason = compatible(a, b)
    if reason is not None:
        raise Incompatible(f"{type(a).__name__} and {type(b).__name__} cannot be joined: {reason}")


def in_words(space: ActionSpace) -> str:
    """What a space speaks: of each segment the kind, the first columns, and the range of numbers."""
    told = []
    for part in space.segments:
        columns = ", ".join(part.columns[:8]) + (f", … {part.width} in all" if part.width > 8 else "")
        told.append(f"{part.kind} {columns}" + (f" ({part.low:g}..{part.high:g})" if part.kind == "continuous" else ""))
    return " + ".join(told)


def next_action(
    actions: Float[Tensor, "b k d"] | Policy, step: int, seen: Clip, memory: Memory, rng: torch.Generator
) -> tuple[Float[Tensor, "b d"], Memory]:
    """The action of a step that is imagined: the one that was given, or what a policy does that is shown `seen`."""
    if isinstance(actions, Tensor):
        return actions[:, step], memory
    belief, memory = actions.act(seen, memory)
    return belief.rsample(rng), memory


class DecodedInverse:
    """An inverse model that answers in true actions through an adapter."""

    def __init__(self, inner: InverseModel, adapter: Adapter) -> None:
        self.inner, self.adapter = inner, adapter
        self.view, self.space = inner.view, adapter.space

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step of the clip in true actions."""
        return self.adapter.decode(self.inner.infer(clip), clip)


class DecodedPolicy:
    """A policy that acts in true actions through an adapter."""

    def __init__(self, inner: Policy, adapter: Adapter) -> None:
        self.inner, self.adapter = inner, adapter
        self.view, self.space = inner.view, adapter.space

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame in true actions."""
        belief, memory = self.inner.act(past, memory)
        widened = Distribution(belief.space, belief.params.unsqueeze(1), belief.weight)  # b -> b 1
        return self.adapter.decode(widened, past.cut(past.length - 1, past.length))[:, 0], memory


class DecodedForward:
    """A forward model that takes true actions through an adapter."""

    def __init__(self, inner: ForwardModel, adapter: Adapter) -> None:
        self.inner, self.adapter = inner, adapter
        self.view, self.space = inner.view, adapter.space

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen, with its true actions translated."""
        return self.inner.observe(self._translated(past), state)

    def imagine(
        self, state: State, actions: Float[Tensor, "b k d"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out one step at a time, since a true action's code may depend on the frame it is taken in.

        A policy is shown the last frame seen, then two frames at a time: the one it acted on and what came of it.
        """
        memory: Memory = None
        total: Clip | None = None
        shown, _ = self.inner.imagine(state, None, 0, rng)
        for step in range(steps):
            if actions is None:
                raise Incompatible(
                    "this world chooses codes, not true actions: give it actions or a policy, or let the run's own "
                    "forward model go on, and its adapter decode what the run's own inverse reads"
                )
            given = isinstance(actions, Tensor) or actions.view.features or shown.frames is not None
            action, memory = next_action(actions, step, shown if given else self.inner.decode(shown), memory, rng)
            inner_action = self.adapter.encode(action.unsqueeze(1), shown.cut(shown.length - 1, shown.length))
            clip, state = self.inner.imagine(state, inner_action, 1, rng)
            shown = clip.with_(actions=action.unsqueeze(1))
            total = shown if total is None else concatenate(total, shown)
        return (total if total is not None else shown), state

    def decode(self, clip: Clip) -> Clip:
        """Turns features into frames."""
        return self.inner.decode(clip)

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """Log probability of each next frame under the true actions."""
        return self.inner.log_prob(self._translated(clip))

    def _translated(self, clip: Clip) -> Clip:
        if clip.actions is None or clip.steps == 0:
            return clip.with_(actions=None, source=None, confidence=None)
        return clip.with_(actions=self.adapter.encode(clip.actions, clip))
