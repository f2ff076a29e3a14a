"""Inference over whole episodes: streamed, kept episode by episode, and joined to the frames again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict.clip import ABSTAINED, PREDICTED, RECORDED, Clip
from retrodict.data.cache import piece_of, resize
from retrodict.data.schema import Episodes, hash_arrays
from retrodict.data.store import Store
from retrodict.errors import UnusableInput
from retrodict.roles import InverseModel
from retrodict.spaces import Distribution

CHUNK = 256  # frames that are inferred at once: bounds memory, whatever an episode's length
GROUP = 16  # episodes whose labels are committed at once: what a kill can cost


def infer_episode(inverse: InverseModel, source: Episodes, id: str) -> Distribution:
    """Answers every step of one episode, streaming its frames: a distribution over axis "t-1".

    Frames are resized to what the model sees; the answers equal those to the whole episode at once.
    """
    before = max(0, -inverse.view.offsets()[0])
    after = max(1, inverse.view.offsets()[-1])
    total = source.lengths[id]
    held = torch.zeros(0, dtype=torch.uint8)  # frames first .. first + len - 1 of the episode
    first = answered = 0
    parts = [torch.zeros(0, inverse.space.parameters)]
    for piece in source.stream(id, min(CHUNK, piece_of(source.schema))):
        frames = resize(piece[0], inverse.view.size)
        held = torch.cat([held, frames]) if len(held) else frames
        seen = first + len(held)
        ready = total - 1 if seen == total else seen - after  # steps before this one have all their frames
        if ready <= answered:
            continue
        with torch.no_grad():
            belief = inverse.infer(Clip(frames=held[None]))
        parts.append(belief.params[0, answered - first : ready - first].float().cpu())
        answered = ready
        keep = max(0, answered - before)
        held, first = held[keep - first :], keep
    return Distribution(inverse.space, torch.cat(parts))


def recorded_answers(
    inverse: InverseModel, source: Episodes, ids: Sequence[str]
) -> tuple[Distribution, Float[Tensor, "n d"]]:
    """Returns what the model believes about every recorded step (axis n), and the recorded actions.

    Raises:
        UnusableInput: no step has a recorded action.
    """
    params, truth = [], []
    for id in ids:
        clip = source.read(id, frames=False)
        if clip.actions is None or clip.source is None:
            continue
        keep = clip.source[0] == RECORDED
        if bool(keep.any()):
            params.append(infer_episode(inverse, source, id).params[keep])
            truth.append(clip.actions[0, keep])
    if not params:
        raise UnusableInput("no step of this dataset has a recorded action to compare with")
    return Distribution(inverse.space, torch.cat(params)), torch.cat(truth)


def infer_episodes(
    inverse: InverseModel, source: Episodes, labels: Store, model: str, limits: Float[Tensor, "p"] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:  # fmt: skip
    """Appends the labels of every episode that `labels` does not hold yet, in groups; recorded actions stay.

    `labels` is a store without frames; its commits are bound to the model and to the frames of the episodes. With
    `limits` (`Distribution.bounds`) each label says what it lies between.
    """
    waiting = iter([id for id in source.ids if id not in labels.lengths])
    while ids := list(islice(waiting, GROUP)):
        clips = [_labelled(inverse, source, id, limits) for id in ids]
        labels.append(clips, {"model": model, "frames": {id: source.hash(id) for id in ids}}, ids)
        if say is not None:
            say(f"labelled {len(labels.ids)} of {len(source.ids)} episodes")


class Labelled:
    """The episodes of a dataset with the actions of a store of labels; below a confidence, it abstains.

    Raises:
        UnusableInput: the labels are not of these frames, or are not complete.
    """

    def __init__(self, source: Episodes, labels: Store, abstain_below: float = 0.0) -> None:
        self.source, self.labels, self.abstain_below = source, labels, abstain_below
        self.schema = replace(source.schema, space=labels.schema.space, bounds=labels.schema.bounds)
        bound = {id: hash for commit in labels.commits for id, hash in commit.provenance["frames"].items()}
        for id in source.ids:
            if bound.get(id) != source.hash(id):
                raise UnusableInput(f"{labels.folder} has no labels of the frames of episode {id!r}; label them first")

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique names of the episodes."""
        return self.source.ids

    @property
    def lengths(self) -> Mapping[str, int]:
        """Number of frames (T) of each episode."""
        return self.source.lengths

    @property
    def digest(self) -> str:
        """SHA-256 of frames, labels and the confidence below which it abstains."""
        return hash_arrays(self.source.digest, self.labels.digest, repr(self.abstain_below))

    def hash(self, id: str) -> str:
        """Returns the SHA-256 of one episode's frames and times."""
        return self.source.hash(id)

    def read(self, id: str, *, frames: bool = True) -> Clip:
        """Returns one episode with its labels."""
        own = self.labels.read(id, frames=False)
        assert own.source is not None  # a store's clip has all three
        assert own.confidence is not None
        unsure = (own.source == PREDICTED) & (own.confidence < self.abstain_below)
        source = torch.where(unsure, ABSTAINED, own.source)
        clip = self.source.read(id, frames=frames)
        return clip.with_(actions=own.actions, source=source, confidence=own.confidence, bounds=own.bounds)

    def stream(self, id: str, frames: int = 64) -> Iterator[UInt8[Tensor, "1 n c h w"]]:
        """Yields the frames of one episode in order, `frames` at a time."""
        return self.source.stream(id, frames)


def _labelled(inverse: InverseModel, source: Episodes, id: str, limits: Float[Tensor, "p"] | None) -> Clip:
    """Returns an episode's labels without its frames; what was recorded in the same space stays."""
    belief = infer_episode(inverse, source, id)
    actions, confidence = belief.mode()[None], belief.confidence().clamp(0, 1)[None]
    bounds = None if limits is None else belief.bounds(limits)[None]
    known = torch.full(confidence.shape, PREDICTED, dtype=torch.uint8)
    there = source.read(id, frames=False)
    if source.schema.space == inverse.space and there.actions is not None and there.source is not None:
        recorded = there.source == RECORDED
        actions = torch.where(recorded.unsqueeze(-1), there.actions, actions)
        confidence = torch.where(recorded, 1.0, confidence)
        known = torch.where(recorded, RECORDED, known)
        if bounds is not None:
            bounds = torch.where(recorded[..., None, None], there.actions.unsqueeze(2), bounds)
    times, text = there.times, there.text
    return Clip(actions=actions, source=known, confidence=confidence, bounds=bounds, times=times, text=text)
