"""Inference over whole episodes: decoded ahead, answered in batches, kept in groups, and joined to the frames again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from retrodict.clip import ABSTAINED, PREDICTED, RECORDED, Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import piece_of, resize
from retrodict.data.schema import Episodes, hash_arrays
from retrodict.data.store import Store
from retrodict.errors import Incompatible, UnusableInput
from retrodict.roles import InverseModel, Score, View
from retrodict.spaces import Distribution

CHUNK = 32  # frames that are inferred at once, whichever episodes they are of: what a processor's cache holds
AHEAD = 8  # chunks that may be decoded before their turn
GROUP = 4096  # frames of whole episodes whose labels are committed at once: what a kill can cost

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Labeller:
    """What labels: an inverse model; a score that is negative for foreign video, which it must not label; and the
    limits of the sets and intervals that its labels lie in (`Distribution.bounds`)."""

    inverse: InverseModel
    score: Score | None = None
    limits: Float[Tensor, "p"] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one episode: the belief about its steps, which of them are familiar, the clip without frames."""

    belief: Distribution
    familiar: Bool[Tensor, "t-1"]
    clip: Clip


@dataclass(frozen=True, slots=True)
class _Part:
    """Frames of one episode in a row; `steps` of them are to be answered, the others are context."""

    id: str
    frames: UInt8[Tensor, "t c h w"]
    steps: slice
    clip: Clip | None  # the episode without its frames, with its last part


def infer_episode(inverse: InverseModel, source: Episodes, id: str) -> Distribution:
    """Answers every step of one episode, streaming its frames: a distribution over axis "t-1".

    Frames are resized to what the model sees; the answers equal those to the whole episode at once.
    """
    return next(_answers(Labeller(inverse), source, [[id]])).belief


def _answers(labeller: Labeller, source: Episodes, groups: Iterable[Sequence[str]]) -> Generator[Answer]:
    """Yields the answer to each episode, group after group.

    Frames are decoded ahead in a thread, which alone touches `source`. What is inferred together depends on a group's
    episodes alone, so that the same groups get the same answers, whatever was done before.
    """
    inverse, done = labeller.inverse, 0
    whole = torch.zeros(0, 0)
    _fits(inverse.view, source)
    with closing(_ahead(_batches(inverse.view, source, groups), AHEAD)) as batches:
        for batch in batches:
            for part, answer in zip(batch, _infer(labeller, batch), strict=True):
                if done == 0:  # one allocation an episode: small ones that stay, between large ones that go, are holes
                    whole = torch.empty(source.lengths[part.id] - 1, answer.shape[1])
                whole[done : done + len(answer)] = answer
                done += len(answer)
                if part.clip is not None:
                    yield Answer(Distribution(inverse.space, whole[:, :-1]), whole[:, -1] >= 0, part.clip)
                    done = 0


def _fits(view: View, source: Episodes) -> None:
    """Refuses video at another rate: an action would last longer or shorter than the model ever saw."""
    if view.rate and view.rate != source.schema.fps:
        raise Incompatible(
            f"the model was trained at {view.rate:g} frames/s and this video has {source.schema.fps}; import it with "
            f"--fps {view.rate:g}, or train on video of its rate"
        )


def _batches(view: View, source: Episodes, groups: Iterable[Sequence[str]]) -> Generator[list[_Part]]:
    """Yields what is to be inferred at once: parts of some CHUNK frames together, all of one group."""
    for ids in groups:
        batch: list[_Part] = []
        for part in chain.from_iterable(_parts(view, source, id) for id in ids):
            batch.append(part)
            if sum(len(each.frames) for each in batch) >= CHUNK:
                yield batch
                batch = []
        if batch:
            yield batch


def _infer(labeller: Labeller, batch: Sequence[_Part]) -> list[Float[Tensor, "n p+1"]]:
    """Answers the steps of several parts side by side in one row, whose segments tell them apart.

    The last column is the score of the less familiar of a step's two frames, 0 without a score.
    """
    inverse, score = labeller.inverse, labeller.score
    lengths = torch.tensor([len(part.frames) for part in batch])
    frames = torch.cat([part.frames for part in batch])[None]
    segment = torch.repeat_interleave(torch.arange(len(batch), dtype=torch.int32), lengths)[None]
    if frames.shape[1] == len(batch):  # episodes of one frame
        return [torch.zeros(0, inverse.space.parameters + 1) for _ in batch]
    with torch.inference_mode():
        params = inverse.infer(Clip(frames=frames, segment=segment if len(batch) > 1 else None)).params[0]
        known = params.new_zeros(frames.shape[1]) if score is None else score(Clip(frames=frames.transpose(0, 1)))
        params = torch.cat([params, torch.minimum(known[:-1], known[1:])[:, None]], 1)
    apart = torch.split(torch.cat([params.float().cpu(), params.new_zeros(1, params.shape[1])]), lengths.tolist())
    return [answers[part.steps] for part, answers in zip(batch, apart, strict=True)]


def _parts(view: View, source: Episodes, id: str) -> Iterator[_Part]:
    before, after = max(0, -view.offsets()[0]), max(1, view.offsets()[-1])
    clip, total = source.read(id, frames=False), source.lengths[id]
    held = torch.zeros(0, dtype=torch.uint8)  # frames first .. first + len - 1 of the episode
    first = answered = 0
    for frames in _chunks(source, id, view.size):
        held = torch.cat([held, frames]) if len(held) else frames
        seen = first + len(held)
        done = seen == total
        ready = total - 1 if done else max(answered, seen - after)  # steps before this one have all their frames
        if ready > answered or done:
            yield _Part(id, held, slice(answered - first, ready - first), clip if done else None)
        answered = ready
        keep = max(0, answered - before)
        held, first = held[keep - first :], keep


def _chunks(source: Episodes, id: str, size: tuple[int, int]) -> Iterator[UInt8[Tensor, "n c h w"]]:
    """Yields an episode's frames as the model sees them, CHUNK at a time, however few fit in a piece at their size."""
    kept: list[Tensor] = []
    for piece in source.stream(id, min(CHUNK, piece_of(source.schema))):
        kept.append(resize(piece[0], size))
        if sum(map(len, kept)) >= CHUNK:
            yield torch.cat(kept)
            kept = []
    if kept:
        yield torch.cat(kept)


def _ahead(items: Generator[T], most: int) -> Generator[T]:
    """Yields what a generator yields, in its order and with its error, while a thread computes up to `most` ahead."""
    waiting: Queue[tuple[T | None, BaseException | None]] = Queue(most)
    left = Event()

    def work() -> None:
        end: BaseException | None = None
        try:
            with closing(items):
                for item in items:
                    waiting.put((item, None))
                    if left.is_set():
                        break
        except BaseException as error:  # it is raised where the items are used
            end = error
        waiting.put((None, end or StopIteration()))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while (entry := waiting.get())[1] is None:
            yield entry[0]  # type: ignore[misc]
        if not isinstance(entry[1], StopIteration):
            raise entry[1]
    finally:
        left.set()
        while thread.is_alive():  # it may wait for room
            with suppress(Empty):
                waiting.get_nowait()
            thread.join(0.01)


@torch.no_grad()
def infer_steps(inverse: InverseModel, steps: Steps, device: str = "cpu") -> Distribution:
    """Answers the steps of a selection, in order: axis n."""
    shown = steps.shown(inverse.view)
    params = [inverse.infer(clip.to(device))[:, shown.target].params.cpu() for _, clip in shown.batches(512)]
    return Distribution(inverse.space, torch.cat(params))


def recorded_answers(
    inverse: InverseModel, source: Episodes, ids: Sequence[str]
) -> tuple[Distribution, Float[Tensor, "n d"]]:
    """Returns what the model believes about every recorded step (axis n), and the recorded actions.

    Raises:
        UnusableInput: no step has a recorded action.
    """
    params, truth = [], []
    told = [id for id in ids if RECORDED in _sources(source, id)]
    for answer in _answers(Labeller(inverse), source, [told] if told else []):
        clip = answer.clip
        assert clip.actions is not None  # recorded
        assert clip.source is not None
        keep = clip.source[0] == RECORDED
        params.append(answer.belief.params[keep])
        truth.append(clip.actions[0, keep])
    if not params:
        raise UnusableInput("no step of this dataset has a recorded action to compare with")
    return Distribution(inverse.space, torch.cat(params)), torch.cat(truth)


def _sources(source: Episodes, id: str) -> list[int]:
    known = source.read(id, frames=False).source
    return [] if known is None else known[0].tolist()


def infer_episodes(
    labeller: Labeller, source: Episodes, labels: Store, model: str, say: Callable[[str], None] | None = None
) -> None:
    """Appends the labels of every episode that `labels` does not hold yet, in groups; recorded actions stay.

    `labels` is a store without frames; its commits are bound to the model and to the frames of the episodes.
    """
    waiting = [id for id in source.ids if id not in labels.lengths]
    groups = list(_groups(waiting, source.lengths))
    with closing(_answers(labeller, source, groups)) as answers:
        for ids in groups:
            clips = [_labelled(labeller, source, answer) for answer in islice(answers, len(ids))]
            labels.append(clips, {"model": model, "frames": {id: source.hash(id) for id in ids}}, ids)
            if say is not None:
                say(f"labelled {len(labels.ids)} of {len(source.ids)} episodes")


def _groups(ids: Sequence[str], lengths: Mapping[str, int]) -> Iterator[list[str]]:
    """Cuts ids into runs of GROUP frames or a little more."""
    group: list[str] = []
    frames = 0
    for id in ids:
        group.append(id)
        frames += lengths[id]
        if frames >= GROUP:
            yield group
            group, frames = [], 0
    if group:
        yield group


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

    def videos(self, id: str) -> Sequence[tuple[Path, float]]:
        """Returns the video file of each camera and where the episode begins in it, in seconds; none of images."""
        return self.source.videos(id)


def _labelled(labeller: Labeller, source: Episodes, answer: Answer) -> Clip:
    """Returns an episode's labels without its frames; what was recorded in the same space stays."""
    belief, there, limits = answer.belief, answer.clip, labeller.limits
    actions, confidence = belief.mode()[None], belief.confidence().clamp(0, 1)[None]
    bounds = None if limits is None else belief.bounds(limits)[None]
    known = torch.where(answer.familiar, PREDICTED, ABSTAINED).to(torch.uint8)[None]
    if source.schema.space == belief.space and there.actions is not None and there.source is not None:
        recorded = there.source == RECORDED
        actions = torch.where(recorded.unsqueeze(-1), there.actions, actions)
        confidence = torch.where(recorded, 1.0, confidence)
        known = torch.where(recorded, RECORDED, known)
        if bounds is not None:
            bounds = torch.where(recorded[..., None, None], there.actions.unsqueeze(2), bounds)
    times, text = there.times, there.text
    return Clip(actions=actions, source=known, confidence=confidence, bounds=bounds, times=times, text=text)
