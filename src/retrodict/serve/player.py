"""One player: what the page tells becomes moments of a session, and what happens is shown to the page.

A frame is sent as soon as it is imagined; what the inverse model thinks of it follows. One thing happens at a time
(`lock`); a fault of the model is told once and leaves the session as it was.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import RetrodictError, UnusableInput
from retrodict.roles import State
from retrodict.serve import screen
from retrodict.serve.batch import Look, Speech, observe, outcomes
from retrodict.serve.beside import Beside
from retrodict.serve.game import Game
from retrodict.serve.keys import Keyboard
from retrodict.serve.pictures import frame_of, shape_of
from retrodict.serve.save import save
from retrodict.serve.session import CONTEXT, EDIT, KEY, Moment, Session

VERDICTS = 50  # latest steps over which obedience is told
_SOONEST = 0.25  # of a frame's time: a key that goes down waits no longer, and steps follow no faster

Send = Callable[[str | bytes], Awaitable[None]]


class Player:
    """One player. `send` carries messages to the page, and is replaced when the page comes back; `announce` tells all
    players that a key has another name."""

    def __init__(self, game: Game, beside: Beside, announce: Callable[[], Awaitable[None]]) -> None:
        self.game, self.beside, self.announce = game, beside, announce
        self.session, self.lock = Session(game.shape), asyncio.Lock()
        self.name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.speech, self.press = 0, 0
        self.held: list[str] = []
        self.fresh: list[str] = []  # went down since the last step
        self.on: set[str] = set()  # toggles
        self.other: int | None = None  # branch to compare with
        self.verdicts: deque[bool] = deque(maxlen=VERDICTS)
        self.running, self.changed = asyncio.Event(), asyncio.Event()
        self.send: Send = _nowhere
        self.commands: dict[str, Callable[..., Awaitable[None]]] = {
            "hold": self._hold, "step": self._step, "run": self._run, "rewind": self._rewind, "switch": self._switch,
            "compare": self._compare, "name": self._name, "measure": self._measure, "speak": self._speak,
            "event": self._event, "start": self._start, "save": self._save,
        }  # fmt: skip

    @property
    def spoken(self) -> Speech:
        """The way of speaking that is in use."""
        return self.game.speeches[self.speech]

    @property
    def keyboard(self) -> Keyboard:
        """The keys that are in use."""
        return self.game.keyboard(self.speech)

    async def handle(self, command: str, fields: Mapping[str, Any]) -> None:
        """Does what the page tells; what cannot be done is told, and changes nothing."""
        await self._try(lambda: self._begun(command != "start", lambda: self.commands[command](**fields)))

    async def paint(self, pixels: bytes) -> None:
        """Takes a frame that a person changed, and goes on from it."""
        await self._try(lambda: self._begun(True, lambda: self._paint(pixels)))

    async def pace(self) -> None:
        """Steps in real time while the player lets it run; ends by being cancelled."""
        clock, period = asyncio.get_running_loop().time, 1 / self.game.shelf.fps
        while True:
            await self.running.wait()
            began = clock()
            await self._try(lambda: self._tick(rest=True))
            await asyncio.sleep(max(0.0, began + _SOONEST * period - clock()))
            if not self.fresh:
                self.changed.clear()
                with suppress(TimeoutError):  # a key that goes down does not wait for the clock
                    await asyncio.wait_for(self.changed.wait(), max(0.0, began + period - clock()))

    async def begin(self) -> None:
        """Starts the session, unless it is there already, and shows all of it."""
        await self._try(self._begin)

    def leave(self) -> None:
        """Stops the clock; the session stays for when the page comes back."""
        self.running.clear()
        self.held, self.fresh, self.send = [], [], _nowhere

    async def close(self) -> None:
        """Ends the session for good."""
        self.leave()
        async with self.lock:
            self.session.close()
            await self.beside.close()

    async def tell(self, kind: str, **more: Any) -> None:
        """Tells the page something without pictures."""
        await self.send(json.dumps({"kind": kind, **more}, allow_nan=False))

    async def show_keys(self) -> None:
        """Tells the page which keys there are, and what they are called."""
        keyboard = self.keyboard
        await self.tell("keys", speech=self.spoken.name, keys=screen.key_values(keyboard, self.on))

    async def _begun(self, needed: bool, work: Callable[[], Awaitable[None]]) -> None:
        if needed and not self.session.branches:
            raise UnusableInput("there is no frame yet: what kept it away was told; try to start again")
        await work()

    async def _try(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            async with self.lock:
                await work()
        except RetrodictError as error:
            self.running.clear()
            await self.tell("error", text=str(error))
            await self.tell("running", on=False)
        except OSError as error:  # of the disk
            self.running.clear()
            await self.tell("error", text=f"{error.strerror or error}: the disk did not take it. The session is kept")

    async def _begin(self) -> None:
        if not self.session.branches:
            await self._open()
        judge = self.spoken.judge is not None
        height, width = shape_of(self.game.view)
        await self.tell(
            "welcome", title=self.game.title, size=[width, height], fps=self.game.shelf.fps, notes=self.game.notes,
            speeches=[speech.name for speech in self.game.speeches], judge=judge, real=self.beside.name,
            why=self.beside.why, task=self.beside.task, levels=self.game.level is not None,
            event=self.keyboard.text is not None,
        )  # fmt: skip
        await self.show_keys()
        await self._show_branches()
        await self._show()
        await self._measure()

    async def _open(self, level: int | None = None) -> None:
        """Opens a branch at a level's first frame, or at the frame that was given."""
        game, frame, real = self.game, self.game.frame, None
        if game.level is not None:
            real = await self.beside.start(game.level if level is None else level)
            if frame is None or level is not None:
                frame = real
            elif not torch.equal(frame, real):
                self.beside.stop("the episode does not begin like the level that it names")
        if frame is None:
            raise UnusableInput(f"there is no frame to begin with: {self.beside.why}")
        state = await game.model.do(observe, self.spoken, Clip(frames=frame[None, None]))
        await game.prepare(state)
        self.session.start(frame, state, None if self.beside.why else real, self.speech)
        if real is not None:
            self.beside.stands(self.session.number(self.session.branch, 0), began=True)

    async def _hold(self, keys: list[str], press: int) -> None:
        keyboard = self.keyboard
        went_down = [id for id in keys if id not in self.held]
        toggles = {id for id in went_down if id in keyboard.keys and keyboard.keys[id].kind == "toggle"}
        keyboard.action([id for id in keys if id not in toggles], self.on)  # which knows all keys
        self.held = list(keys)
        if not went_down:
            return
        self.on ^= toggles
        self.fresh += [id for id in went_down if id not in toggles]
        self.press = press
        if toggles:
            await self.show_keys()
        if self.running.is_set():
            self.changed.set()
        else:
            await self._tick(rest=bool(toggles))

    async def _step(self, press: int) -> None:
        self.press = press
        if not await self._tick(rest=True):
            raise UnusableInput("this world has no action for pressing nothing; hold a key, then step")

    async def _tick(self, rest: bool) -> bool:
        """Takes a step by what is held; False where nothing says what to do."""
        keyboard = self.keyboard
        held = [*self.held, *(id for id in self.fresh if id not in self.held)]
        held = [id for id in held if id in keyboard.keys and keyboard.keys[id].kind != "toggle"]
        self.fresh = []
        action = keyboard.action(held, sorted(self.on & keyboard.keys.keys()), rest=rest)
        if action is None:
            return False
        await self._advance(action)
        return True

    async def _advance(self, action: Float[Tensor, "d"]) -> None:
        """Takes a step, shows it, and lets the inverse model say what was pressed."""
        began, why = time.perf_counter(), self.beside.why
        state = await self._state()
        step, real = await asyncio.gather(
            self.game.model.step(self.spoken, state, action),
            self.beside.step(self.session, self.speech, action),
        )
        assert step.frame is not None, "a step that was answered has a frame"
        opened = self.session.add(Moment(KEY, self.speech, step.frame, action, real), step.following)
        self.beside.stands(self.session.number(self.session.branch, self.session.at))
        seconds = {"wait": step.waited, "model": step.took, "all": time.perf_counter() - began}
        if opened:
            await self._show_branches()
        if why != self.beside.why:
            await self.tell("real", name=self.beside.name, why=self.beside.why)
        await self._show(seconds, step.rows)
        await self._judge()

    async def _state(self) -> State:
        """Returns the state in which the player stands; an older one is made again from the frames before it."""
        state = self.session.state()
        if state is None:
            speech = self.game.speeches[self.session.moment().speech]
            state = await self.game.model.do(observe, speech, self.session.past(CONTEXT))
            self.session.keep(state)
        return state

    async def _judge(self) -> None:
        speech, session = self.spoken, self.session
        if speech.judge is None or session.at < speech.lag:
            return
        moment = session.moment(session.at - speech.lag)
        seen = session.past(speech.reach + 2 + speech.lag, actions=False)
        step = seen.steps - 1 - speech.lag
        if moment.kind != KEY or moment.speech != self.speech or step < 0:
            return
        assert moment.action is not None, "a key's moment has its action"
        assert seen.frames is not None, "a session is made of frames"
        look = await self.game.model.look(Look(speech, seen.frames[0], moment.action, step))
        assert look.believed is not None, "a look that was answered says what it saw"
        if look.right is not None:
            self.verdicts.append(look.right)
        pressed = screen.said(self.keyboard, speech.forward.space, moment.action)
        read = screen.said(self.keyboard, speech.forward.space, look.believed, look.unread)
        share = sum(self.verdicts) / len(self.verdicts) if self.verdicts else None
        at, of = session.at - speech.lag, len(self.verdicts)
        await self.tell("judged", at=at, right=look.right, pressed=pressed, read=read, share=share, of=of, by=speech.by)

    async def _paint(self, pixels: bytes) -> None:
        height, width = shape_of(self.game.view)
        if len(pixels) != 3 * height * width:
            raise UnusableInput(f"a painted frame has {3 * height * width} bytes; got {len(pixels)}")
        self.running.clear()
        frame = frame_of(np.frombuffer(pixels, np.uint8).reshape(height, width, 3), self.game.view)
        before, past = self.session.moment(), self.session.past(CONTEXT)
        assert past.frames is not None, "a session is made of frames"
        past.frames[0, -1] = frame  # what led here stays, so that what moved still moves
        state = await self.game.model.do(observe, self.game.speeches[before.speech], past)
        old = self.session.number(self.session.branch, self.session.at)
        self.session.add(Moment(EDIT, before.speech, frame, None, before.real), state)
        if self.beside.at == old:  # the real world stays where it is
            self.beside.stands(self.session.number(self.session.branch, self.session.at))
        await self._show_branches()
        await self._show()
        await self.tell("running", on=False)
        await self._measure()

    async def _event(self, text: str) -> None:
        action = self.keyboard.action(self.held, sorted(self.on), text) if text else None
        if action is None:
            raise UnusableInput("type what should happen")
        await self._advance(action)

    async def _run(self, on: bool) -> None:
        if on:
            self.running.set()
        else:
            self.running.clear()
        await self.tell("running", on=on, waits=self.keyboard.rest() is None)

    async def _rewind(self, to: int) -> None:
        self.running.clear()
        self.session.stand(self.session.branch, to)
        await self.tell("running", on=False)
        await self._show()

    async def _switch(self, branch: int) -> None:
        self.running.clear()
        self.session.stand(branch, len(self.session.known(branch)) - 1)
        await self.tell("running", on=False)
        await self._show()

    async def _compare(self, branch: int) -> None:
        if branch >= 0:
            self.session.known(branch)
        self.other = branch if branch >= 0 else None
        await self._show()

    async def _start(self, level: int) -> None:
        self.running.clear()
        await self._open(None if level < 0 and self.game.level is None else self.beside.next(level))
        await self.tell("running", on=False)
        await self._show_branches()
        await self._show()
        await self._measure()

    async def _name(self, key: str, name: str) -> None:
        self.game.rename(self.speech, key, name)
        await self.announce()

    async def _speak(self, speech: str) -> None:
        known = [spoken.name for spoken in self.game.speeches]
        if speech not in known:
            raise UnusableInput(f"this run speaks {' and '.join(known)}; got {speech[:20]!r}")
        self.running.clear()
        self.speech, self.held, self.fresh, self.on = known.index(speech), [], [], set()
        self.verdicts.clear()
        await self.tell("running", on=False)
        await self.show_keys()
        await self._measure()

    async def _save(self) -> None:
        await self.tell("saving")
        names = {name: names for name, names in self.game.names.items() if names}
        more = {"names": names} if names else {}
        async with self.game.saving:  # a dataset has one writer
            wrote = await asyncio.to_thread(save, self.session, self.game.shelf, self.name, more)
        await self.tell("saved", **wrote, folder=str(self.game.shelf.out))

    async def _measure(self) -> None:
        """Imagines a step under each key from where the player stands, and shows what each changes."""
        state, rest = await self._state(), self.keyboard.rest()
        keys, actions = screen.alone(self.keyboard)
        asked = actions if rest is None else [*actions, rest]
        frames = await self.game.model.do(outcomes, self.spoken, state, asked, self.game.model.seed)
        before = self.session.moment().frame if rest is None else frames.pop()
        told = (self.spoken.name, self.session.at, keys, before, frames, self.game.view)
        await self.send(screen.effects_message(*told))

    async def _show(self, seconds: Mapping[str, float] | None = None, rows: int = 0) -> None:
        """Shows where the player stands, beside the real world and the branch that is compared with."""
        began = time.perf_counter()
        shown = screen.panes(self.session, self.game.view, self.other)
        spent = {**(seconds or {}), "encode": time.perf_counter() - began}
        over, won = (self.beside.over, self.beside.won) if "real" in shown else (False, False)
        await self.send(
            screen.frame_message(
                self.session,
                shown,
                spent,
                press=self.press,
                rows=rows,
                over=over,
                won=won,
                led=self._led(),
                other=-1 if self.other is None else self.other,
            )
        )

    def _led(self) -> str:
        """Returns what was pressed to come here, in words; "" at a start and after the brush."""
        moment = self.session.moment()
        if moment.action is None:
            return ""
        space = self.game.speeches[moment.speech].forward.space
        return screen.said(self.game.keyboard(moment.speech), space, moment.action)

    async def _show_branches(self) -> None:
        await self.tell("branches", branches=screen.branch_values(self.session), branch=self.session.branch)


async def _nowhere(message: str | bytes) -> None:
    """Where messages go while no page listens."""
