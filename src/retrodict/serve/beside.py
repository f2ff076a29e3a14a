"""The real world beside the dreamt one: the same keys, and back to any moment by playing its level again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict.envs.world import MAX_SEED
from retrodict.errors import RetrodictError, UnknownName, UnusableInput
from retrodict.models.wordless import shared_columns
from retrodict.roles import View
from retrodict.serve.batch import Failed, translated
from retrodict.serve.game import Game
from retrodict.serve.messages import Picture
from retrodict.serve.pictures import fitted, frame_of, shape_of
from retrodict.serve.session import KEY, Frame, Session

if TYPE_CHECKING:
    from retrodict.envs.world import World

R = TypeVar("R")
LIMIT = 20_000  # steps of a level, where the world lets one choose: as long as a session


def made(name: str, options: Mapping[str, Any]) -> World:
    """Makes one copy of a world, with room for long levels.

    Raises: as `envs.catalog.make`.
    """
    from retrodict.envs.catalog import make

    try:
        return make(name, 1, **{"limit": LIMIT, **options})
    except UnknownName as error:
        if "'limit'" not in str(error):
            raise
        return make(name, 1, **options)


def seen(frame: UInt8[np.ndarray, "h w c"], view: View) -> Frame:
    """Returns a world's frame as the model sees it: at its size, cameras on the channels."""
    own = torch.from_numpy(frame).permute(2, 0, 1)
    if tuple(own.shape) == (view.channels, *view.size):
        return own.contiguous()
    return frame_of(fitted(_wide(frame), shape_of(view)), view)


def _wide(frame: UInt8[np.ndarray, "h w c"]) -> Picture:
    split = frame.reshape(*frame.shape[:2], -1, 3).transpose(0, 2, 1, 3)  # h w (n c) -> h n w c
    return np.ascontiguousarray(split.reshape(frame.shape[0], -1, 3))


class Beside:
    """One player's copy of the real world; what fails in it ends it, and not the dream.

    `why` says why none runs along, `at` is the number of the moment at which it stands.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.world: World | None = None
        self._columns: dict[int, int] = {}  # of the model's actions, in the world's (`shared_columns`)
        self.at: int | None = None
        self.over = self.won = False
        self.task = ""
        self.why = game.apart if game.env else "no real world is known that begins with this frame"
        self._levels: dict[int, int] = {}  # of the moments that began one
        self._level = -1 if game.level is None else game.level

    @property
    def name(self) -> str | None:
        """The world that runs along; None where there is none, or none any more."""
        return None if self.why else self.game.env

    async def start(self, level: int) -> Frame:
        """Starts a level and returns its first frame."""
        self.at, self._level = None, level
        return await self._do(self._begin, level)

    def stands(self, number: int, *, began: bool = False) -> None:
        """Notes the moment at which the world now stands, which may have begun its level."""
        self.at = number
        if began:
            self._levels[number] = self._level

    def next(self, level: int) -> int:
        """Returns the level after the last one, or the one that is asked for."""
        return (self._level + 1) % (MAX_SEED + 1) if level < 0 else level

    def stop(self, why: str) -> None:
        """Lets the world run along no longer, for a reason."""
        self.why = why

    async def step(self, session: Session, speech: int, action: Float[Tensor, "d"]) -> Frame | None:
        """Takes the same step as the dream, after going to where the player stands; None where it cannot."""
        if self.why or self._levels.get(session.number(session.branch, 0)) is None:
            return None
        here = session.number(session.branch, session.at)
        at, self.at = self.at, None  # until the step is done
        try:
            true = await self._true(session, session.at, speech, action)
            if true is None or (at != here and not await self._return(session)):
                return None
            return await self._do(self._step, true)
        except RetrodictError as error:
            self.stop(str(error))
            return None

    async def close(self) -> None:
        """Frees the world."""
        if self.world is not None:
            await self._do(self.world.close)

    async def _return(self, session: Session) -> bool:
        """Plays the level again up to where the player stands."""
        actions = []
        for at in range(1, session.at + 1):
            moment = session.moment(at)
            if moment.kind == KEY and moment.action is not None:
                true = await self._true(session, at - 1, moment.speech, moment.action)
                if true is None:
                    return False
                actions.append(true)
        frame = await self._do(self._replay, self._levels[session.number(session.branch, 0)], actions)
        shown = session.moment().real
        if shown is not None and not torch.equal(frame, shown):
            self.stop("its level, played again, showed something else: it cannot be rewound")
        return shown is not None and not self.why

    async def _true(self, session: Session, at: int, speech: int, action: Float[Tensor, "d"]) -> Tensor | None:
        """Returns what the world takes for an action in a way of speaking; None where nothing translates it."""
        spoken = self.game.speeches[speech]
        if spoken.name == "actions":
            return action
        if spoken.adapter is None:
            return None
        return await self.game.model.do(translated, spoken, session.moment(at).frame, action)

    async def _do(self, work: Callable[..., R], *given: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.game.worlds, _tried, work, *given)

    def _begin(self, level: int) -> Frame:
        if self.game.env is None:
            raise UnusableInput(self.why)
        if self.world is None:
            self.world = made(self.game.env, self.game.options)
            columns = shared_columns(self.game.speeches[0].forward.space, self.world.actions)
            assert self.game.apart or columns is not None, "a world that runs along hears the same actions"
            self._columns = columns or {}
        frames, _ = self.world.reset(seed=[level])
        self.task, self.over, self.won = self.world.texts()[0], False, False
        return seen(frames[0], self.game.view)

    def _step(self, action: Float[Tensor, "d"]) -> Frame:
        assert self.world is not None, "a world that stands somewhere was made"
        true = action.new_zeros(1, self.world.actions.width)
        true[0, [*self._columns.values()]] = action[[*self._columns]]
        frames, _, terminated, truncated, told = self.world.step(self.world.native(true))
        self.over, self.won = bool(terminated[0] or truncated[0]), bool(told["success"][0])
        return seen(frames[0], self.game.view)

    def _replay(self, level: int, actions: Sequence[Float[Tensor, "d"]]) -> Frame:
        frame = self._begin(level)
        for action in actions:
            frame = self._step(action)
        return frame


def _tried(work: Callable[..., R], *given: object) -> R:
    try:
        return work(*given)
    except RetrodictError:
        raise
    except Exception as error:  # a simulator may raise anything
        raise Failed(f"the real world failed with {type(error).__name__}: {str(error)[:200]}") from error
