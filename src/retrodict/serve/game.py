"""What is played: a run's world and how it may be steered, where play begins, and what persons called its keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from retrodict.data.durable import sync_write
from retrodict.errors import UnusableInput
from retrodict.roles import State, View
from retrodict.serve.batch import Model, Speech, wholes
from retrodict.serve.keys import Keyboard
from retrodict.serve.save import Shelf

Names = dict[str, dict[str, str]]  # way of speaking -> key -> name


@dataclass
class Game:
    """A run, ready to be played by several players.

    `frame` is where play begins when it is given (a picture, an episode); else the real world's levels are. `level` is
    the first of them; None where there is no real world, which may also stay `apart`, for a reason.
    """

    title: str
    speeches: tuple[Speech, ...]
    shelf: Shelf
    model: Model
    worlds: ThreadPoolExecutor  # one thread, on which all simulators live: their pictures are often bound to it
    names_file: Path
    frame: UInt8[Tensor, "c h w"] | None = None
    env: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    level: int | None = None
    notes: tuple[str, ...] = ()
    apart: str = ""

    def __post_init__(self) -> None:
        self.names = _read(self.names_file, [speech.name for speech in self.speeches])
        self._wholes: dict[str, list[Tensor]] = {}
        self.saving = asyncio.Lock()

    @property
    def view(self) -> View:
        """What the world is shown."""
        return self.speeches[0].forward.view

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame."""
        return self.view.channels, *self.view.size

    async def prepare(self, state: State) -> None:
        """Asks the world for whole actions to offer as keys, where its space has no key for a single value."""
        for speech in self.speeches:
            space = speech.forward.space
            if speech.name in self._wholes or not space.latent or space.discrete is not None:
                continue
            try:
                self._wholes[speech.name] = await self.model.do(wholes, speech, state, self.model.seed)
            except UnusableInput:  # it does not choose by itself: single values are what there is
                self._wholes[speech.name] = []

    def keyboard(self, speech: int) -> Keyboard:
        """Returns the keys of a way of speaking, under their present names."""
        spoken = self.speeches[speech]
        return Keyboard(spoken.forward.space, self.names[spoken.name], self._wholes.get(spoken.name, ()))

    def close(self) -> None:
        """Ends the threads."""
        self.worlds.shutdown(wait=False)
        self.model.close()

    def rename(self, speech: int, key: str, name: str) -> None:
        """Calls a key by a name, for all players and for later sessions; "" gives it its own name back.

        Raises:
            UnknownName: no such key.
        """
        self.keyboard(speech).action([key])  # which knows all keys
        names = self.names[self.speeches[speech].name]
        names.pop(key, None)
        if name:
            names[key] = name
        sync_write(self.names_file, json.dumps(self.names, indent=1).encode())


def _read(file: Path, speeches: list[str]) -> Names:
    """Reads names of earlier sessions; a file that is not ours is refused."""
    if not file.exists():
        return {name: {} for name in speeches}
    try:
        value = json.loads(file.read_text())
        names = {name: dict(value.get(name, {})) for name in speeches}
    except (ValueError, AttributeError, TypeError) as error:
        raise UnusableInput(f"{file} should hold the names of keys as JSON; remove it to start without any") from error
    if not all(isinstance(text, str) for of in names.values() for pair in of.items() for text in pair):
        raise UnusableInput(f"{file} should map keys to names; remove it to start without any")
    return names
