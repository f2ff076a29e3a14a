"""The one model that all players share: what they ask for at the same time is answered as rows of one batch.

Everything that touches the model runs on one thread. While it works, requests wait; then all of them go in together.
States are trees of tensors, so those of several players are put row to row, and taken apart again afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from retrodict import tree
from retrodict.clip import Clip
from retrodict.errors import RetrodictError
from retrodict.label.verdict import agree
from retrodict.models.wordless import Silence, wordless
from retrodict.rng import torch_rng
from retrodict.roles import Adapter, ForwardModel, InverseModel, State, compatible
from retrodict.serve.keys import apart, nearest
from retrodict.spaces import Distribution

J = TypeVar("J")
R = TypeVar("R")
WHOLES = 9  # actions that a world of vectors, or of several codes, is asked to draw for its keys
_DRAWN = 64  # actions among which those are chosen
NINETY = 1.645  # standard deviations to each side that hold 90 % of a Gaussian
TIED = 1e-4  # nats between the likeliest and the unlikeliest value, below which an answer says nothing
INVERSE, ITSELF = "the run's own inverse model", "the world itself, by Bayes"  # who says what was pressed


class Failed(RetrodictError):
    """The model did not answer; the message says what it said instead."""


@dataclass(frozen=True, slots=True)
class Speech:
    """One way to steer the world: by true actions, or by the codes that its recipe found.

    `inverse` is None where nothing can say what was pressed, and `by` says who does: weaker evidence where it is the
    world itself. `adapter` turns codes into true actions.
    """

    name: str  # actions or codes
    forward: ForwardModel
    inverse: InverseModel | None = None
    adapter: Adapter | None = None
    by: str = INVERSE

    @property
    def judge(self) -> InverseModel | None:
        """The inverse model that can say what was pressed, if not which words, where there is one."""
        if self.inverse is None or compatible(self.inverse, self.forward) is None:
            return self.inverse
        return self.inverse if compatible(self.inverse, wordless(self.forward)) is None else None

    @property
    def reach(self) -> int:
        """Frames before the last two that the judge is shown, at most."""
        return 0 if self.judge is None else max(0, -min(self.judge.view.offsets()))

    @property
    def lag(self) -> int:
        """Frames after a step that the judge is shown, beyond the one that it leads to."""
        return 0 if self.judge is None else max(0, max(self.judge.view.offsets()) - 1)


@dataclass(slots=True)
class Step:
    """One player's next step: from a state, by an action, with the seconds that its parts took."""

    speech: Speech
    state: State
    action: Float[Tensor, "1 d"]
    frame: UInt8[Tensor, "c h w"] | None = None
    following: State = None
    asked: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    took: float = 0.0
    rows: int = 1  # steps that were answered together


@dataclass(slots=True)
class Look:
    """A step of some frames at which the inverse model is to say what was pressed, and whether it was this action.

    `right` is None where all that was pressed lies on axes that could not be read.
    """

    speech: Speech
    frames: UInt8[Tensor, "t c h w"]
    action: Float[Tensor, "d"]
    step: int
    right: bool | None = False
    believed: Float[Tensor, "d"] | None = None
    unread: tuple[str, ...] = ()  # columns of numbers that nobody could read off these frames


class Batch(Generic[J]):
    """Jobs that wait while the model works, and are then done together, each by filling in its answer."""

    def __init__(self, do: Callable[..., Awaitable[None]], together: Callable[[Sequence[J]], None]) -> None:
        self._do, self._together = do, together
        self._waiting: list[tuple[J, asyncio.Future[J]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def put(self, job: J) -> J:
        """Does a job with others and returns it with its answer.

        Raises:
            Failed: the model raised.
        """
        answer: asyncio.Future[J] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._do(self._together, [job for job, _ in batch])
            except RetrodictError as error:
                if len(batch) > 1:
                    await self._apart(batch)
                else:
                    _tell(batch[0][1], error)
            for job, answer in batch:
                if not answer.done():
                    answer.set_result(job)

    async def _apart(self, batch: Sequence[tuple[J, asyncio.Future[J]]]) -> None:
        """Does the jobs of a batch that failed one by one, so that one player's trouble is no other's."""
        for job, answer in batch:
            try:
                await self._do(self._together, [job])
            except RetrodictError as error:
                _tell(answer, error)


class Model:
    """Answers all players: steps and looks in batches, other work in between, on a thread of its own."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.ticks = seed, 0
        self.thread = ThreadPoolExecutor(1, "model")
        self._steps: Batch[Step] = Batch(self.do, self._imagine)
        self._looks: Batch[Look] = Batch(self.do, judge)

    async def step(self, speech: Speech, state: State, action: Float[Tensor, "d"]) -> Step:
        """Imagines one step.

        Raises:
            Failed: the model raised.
        """
        return await self._steps.put(Step(speech, state, action.unsqueeze(0)))

    async def look(self, look: Look) -> Look:
        """Lets the inverse model say what was pressed.

        Raises:
            Failed: the model raised.
        """
        return await self._looks.put(look)

    async def do(self, work: Callable[..., R], *given: object) -> R:
        """Does other work on the model's thread.

        Raises:
            Failed: it raised something that was not meant for people.
        """
        return await asyncio.get_running_loop().run_in_executor(self.thread, _guarded, work, *given)

    def close(self) -> None:
        """Ends the thread."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _imagine(self, steps: Sequence[Step]) -> None:
        for group in _grouped(steps, lambda step: (step.speech.name, _kind(step.state))):
            self.ticks += 1
            began = time.perf_counter()
            imagine(group, torch_rng(self.seed, "play", self.ticks))
            for step in group:
                step.waited, step.took, step.rows = began - step.asked, time.perf_counter() - began, len(group)


def _grouped(jobs: Sequence[J], kind: Callable[[J], object]) -> Iterable[list[J]]:
    groups: dict[object, list[J]] = {}
    for job in jobs:
        groups.setdefault(kind(job), []).append(job)
    return groups.values()


def _tell(answer: asyncio.Future[J], error: RetrodictError) -> None:
    if not answer.done():
        answer.set_exception(error)


def _guarded(work: Callable[..., R], *given: object) -> R:
    try:
        with torch.inference_mode():
            return work(*given)
    except RetrodictError:
        raise
    except Exception as error:  # a model may raise anything; the page shows it, the session lives on
        raise Failed(f"the model failed with {type(error).__name__}: {str(error)[:200]}") from error


def _kind(state: State) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
    """What has to be equal for states to be rows of one batch."""
    return tuple((name, tuple(part.shape[1:]), part.dtype) for name, part in tree.flatten(state).items())


def imagine(steps: Sequence[Step], rng: torch.Generator) -> None:
    """Imagines the next frame of every step as one batch, and takes the answers apart."""
    world = steps[0].speech.forward
    state = tree.concatenate([step.state for step in steps])
    clip, following = world.imagine(state, torch.cat([step.action for step in steps]).unsqueeze(1), 1, rng)
    frames = shown(world, clip)
    for row, step in enumerate(steps):
        step.frame = frames[row]
        step.following = tree.pick(following, torch.tensor([row]))


def shown(world: ForwardModel, clip: Clip) -> UInt8[Tensor, "b c h w"]:
    """Returns the last frame of every row."""
    frames = world.decode(clip.cut(clip.length - 1, clip.length)).frames
    if frames is None:
        raise Failed(f"{type(world).__name__} decodes to no frames")
    return frames[:, -1].cpu()


def observe(speech: Speech, past: Clip) -> State:
    """Returns the state after these frames."""
    return speech.forward.observe(past)


def judge(looks: Sequence[Look]) -> None:
    """Lets the inverse model answer looks of equal length as one batch each; who holds every value of a choice for as
    likely, or leaves all numbers open, has read nothing, and is never right.

    Of an axis the nearest key counts, and none where it was left open.
    """
    for group in _grouped(looks, lambda look: (look.speech.name, tuple(look.frames.shape))):
        model = group[0].speech.judge
        assert model is not None, "the caller asks only where there is a judge"
        seen = Clip(frames=torch.stack([look.frames for look in group]))
        answers = model.infer(seen)
        silence = Silence(group[0].speech.forward.space)  # of the words, which nothing reads
        believed, params, open_axes = answers.mode(), answers.params, left_open(answers)
        axes = apart(model.space) > 0
        for row, look in enumerate(group):
            held, unread = params[row, look.step], open_axes[row, look.step]
            blank = model.space.discrete is not None and float(held.amax() - held.amin()) < TIED
            blank |= bool(axes.any()) and bool(unread[axes].all())
            told = torch.stack([silence.dropped(look.action), believed[row, look.step]])
            asked, read = nearest(model.space, told)
            others = told.masked_fill(axes, 0.0)
            right = bool((asked == read)[~unread].all()) and bool(agree(model.space, others[:1], others[1:]))
            pressed = asked != 0
            unsaid = bool(pressed.any()) and bool(unread[pressed].all())
            look.right = False if blank else None if unsaid else right
            look.unread = tuple(name for name, flag in zip(model.space.columns, unread.tolist(), strict=True) if flag)
            look.believed = silence.encode(believed[row : row + 1, look.step : look.step + 1], seen)[0, 0]


def left_open(belief: Distribution) -> Bool[Tensor, "*n d"]:
    """Which columns are axes of which a belief's 90 % interval is wider than from one key to nothing pressed."""
    low, high = belief.bounds(torch.full(belief.params.shape[-1:], NINETY)).unbind(-2)
    wide = apart(belief.space)
    return (wide > 0) & (high - low > wide / 2)


def translated(speech: Speech, frame: UInt8[Tensor, "c h w"], action: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
    """Returns the true action that an adapter takes a code for."""
    assert speech.adapter is not None, "the caller asks only where there is an adapter"
    belief = Distribution.point(speech.adapter.inner, action[None, None])
    return speech.adapter.decode(belief, Clip(frames=frame[None, None])).mode()[0, 0]


def outcomes(
    speech: Speech, state: State, actions: Sequence[Float[Tensor, "d"]], seed: int
) -> list[UInt8[Tensor, "c h w"]]:
    """Imagines one step from the same state under each of these actions."""
    frames: list[Tensor] = []
    for first in range(0, len(actions), 16):
        some = torch.stack([*actions[first : first + 16]])
        rng = torch_rng(seed, "play/effects", first)
        clip, _ = speech.forward.imagine(tree.repeat(state, len(some)), some.unsqueeze(1), 1, rng)
        frames += shown(speech.forward, clip)
    return frames


def wholes(speech: Speech, state: State, seed: int) -> list[Float[Tensor, "d"]]:
    """Draws actions as the world does, and returns a few that differ: the commonest codes, or vectors far apart.

    Raises:
        UnusableInput: this world does not choose actions by itself.
    """
    clip, _ = speech.forward.imagine(tree.repeat(state, _DRAWN), None, 1, torch_rng(seed, "play/wholes"))
    assert clip.actions is not None, "a world that chose actions says which"
    drawn = clip.actions[:, 0].cpu()
    distinct, counts = torch.unique(drawn, dim=0, return_counts=True)
    if len(distinct) < _DRAWN // 2:
        return [*distinct[counts.argsort(descending=True, stable=True)[:WHOLES]]]
    chosen = [0]
    while len(chosen) < WHOLES:  # the one farthest from all so far
        chosen.append(int(torch.cdist(distinct, distinct[chosen]).min(1).values.argmax()))
    return [*distinct[chosen]]
