"""A world that takes words beside its actions, played without them, so that whatever speaks actions alone meets it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.errors import Incompatible, UnusableInput
from retrodict.roles import DecodedForward, ForwardModel, Policy, State
from retrodict.spaces import ActionSpace, Distribution


class Silence:
    """Translates actions without words into those of a space that has texts, which stay empty.

    Raises:
        UnusableInput: the space has texts alone.
    """

    def __init__(self, inner: ActionSpace) -> None:
        kept = [(segment, columns) for segment, columns, _ in inner.slices() if segment.kind != "text"]
        if not kept:
            raise UnusableInput(
                f"this world takes words alone ({', '.join(s.name for s in inner.segments)}); tell it some"
            )
        self.inner, self.space = inner, ActionSpace(tuple(segment for segment, _ in kept))
        self.columns = torch.cat([torch.arange(columns.start, columns.stop) for _, columns in kept])

    def decode(self, belief: Distribution, clip: Clip) -> Distribution:
        """Raises Incompatible: nothing believes in words."""
        raise Incompatible("a belief over words has no parameters, so none can be turned into one without them")

    def encode(self, actions: Float[Tensor, "b k d"], clip: Clip) -> Float[Tensor, "b k e"]:
        """Returns the actions with empty texts."""
        if actions.shape[-1] != self.space.width:
            raise UnusableInput(
                f"expected actions of {self.space.width} columns, without words; got {actions.shape[-1]}. Leave "
                "the texts away, or ask the world that takes them"
            )
        empty = actions.new_full((*actions.shape[:-1], self.inner.width), -1.0)
        return empty.index_copy(-1, self.columns.to(actions.device), actions)

    def dropped(self, actions: Float[Tensor, "*n e"]) -> Float[Tensor, "*n d"]:
        """Returns what is left of actions without their words."""
        return actions[..., self.columns.to(actions.device)]


class Wordless(DecodedForward):
    """A forward model that tells the one inside empty texts, and is the same otherwise; `wordless` makes it."""

    adapter: Silence

    def __init__(self, inner: ForwardModel) -> None:
        super().__init__(inner, Silence(inner.space))

    def imagine(
        self, state: State, actions: Float[Tensor, "b k d"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out `steps` steps, unguided where the world inside can go on unguided."""
        if actions is not None:
            return super().imagine(state, actions, steps, rng)
        clip, state = self.inner.imagine(state, None, steps, rng)
        return clip if clip.actions is None else clip.with_(actions=self.adapter.dropped(clip.actions)), state


def wordless(forward: ForwardModel) -> ForwardModel:
    """Returns a world that takes no words: itself, or where its actions have texts one that is told empty ones.

    Planners, dreams, `bayes_inverse`, and `best_of_n` with an inverse ask for it by themselves, and so meet any world.

    Raises:
        UnusableInput: the world takes words alone.
    """
    spoken = any(segment.kind == "text" for segment in forward.space.segments)
    return Wordless(forward) if spoken else forward


def shared_columns(space: ActionSpace, recorded: ActionSpace) -> dict[int, int] | None:
    """Returns which column of a model's actions is which of those that a world or a recording has, which knows no
    words; None where they differ in more. A model's choice may lack values of the other's.
    """
    mine = [segment for segment in space.segments if segment.kind != "text"]
    if [segment.name for segment in mine] != [segment.name for segment in recorded.segments]:
        return None
    for one, other in zip(mine, recorded.segments, strict=True):
        fewer = one.kind == other.kind == "categorical" and set(one.values) < set(other.values)
        if one != other and not fewer:
            return None
    return {space.columns.index(name): recorded.columns.index(name) for segment in mine for name in segment.columns}


def respoken(clip: Clip, recorded: ActionSpace, space: ActionSpace) -> Clip:
    """Returns a clip with recorded actions as a model takes them: without words, and missing where it lacks a value.

    Raises:
        Incompatible: the actions differ in more.
    """
    columns = shared_columns(space, recorded)
    if columns is None or clip.actions is None:
        raise Incompatible(f"the world speaks {space.columns} and the actions are {recorded.columns}")
    mine, theirs = list(columns), list(columns.values())
    given = clip.actions.new_full((*clip.actions.shape[:-1], space.width), -1.0)
    given[..., mine] = clip.actions[..., theirs]
    left_out = [column for column in range(recorded.width) if column not in theirs]
    lacking = (clip.actions[..., left_out] != 0).any(-1)
    if not bool(lacking.any()):
        return clip.with_(actions=given)
    source = torch.full_like(lacking, RECORDED, dtype=torch.uint8) if clip.source is None else clip.source
    return clip.with_(actions=given, source=source.masked_fill(lacking, MISSING))
