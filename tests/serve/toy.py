"""A world that is exactly sprites without its goal, in codes that an adapter turns into moves, and a server around it.

Run as a program, it serves the page until it is stopped, and prints the address first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvicorn
from jaxtyping import Float, UInt8
from torch import Tensor
from websockets.sync.client import ClientConnection, connect

from retrodict.clip import Clip
from retrodict.envs.sprites import ACTIONS, MOVES
from retrodict.models.frame_world import FrameWorld
from retrodict.nn.conv import normalise
from retrodict.roles import System, View
from retrodict.run.collect import UNSEEN
from retrodict.serve.batch import Model
from retrodict.serve.game import Game
from retrodict.serve.guard import PROTOCOL, Guard, listen, server
from retrodict.serve.save import Shelf
from retrodict.serve.server import Table, app, largest
from retrodict.serve.start import speeches_of
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, code

CELL, SIZE = 4, 36
GROUND = (26, 26, 30)
RED = (220, 40, 40)
MOVE = ActionSpace((categorical("move", ACTIONS),))
CODES = ActionSpace((code("code", len(ACTIONS)),))
VIEW = View(size=(SIZE, SIZE))
PAIR = View(frames=2, size=(SIZE, SIZE))


def agent(frames: UInt8[Tensor, "n c h w"]) -> Tensor:
    """Cell of the red sprite in every frame (row, column); -1 where there is none."""
    red = (frames.permute(0, 2, 3, 1) == torch.tensor(RED, dtype=torch.uint8)).all(-1)[:, ::CELL, ::CELL].flatten(1)
    at = red.float().argmax(1)
    cells = torch.stack([at // (SIZE // CELL), at % (SIZE // CELL)], 1)
    return torch.where(red.any(1, keepdim=True), cells, -1)


class Walk(FrameWorld):
    """Moves the red sprite by codes: code k is move (k + 1) mod 5. `fail` makes it raise while it is set."""

    view, space = VIEW, CODES

    def __init__(self) -> None:
        super().__init__()
        self.fail, self.calls = "", 0
        self.rows: list[int] = []  # of every batch

    def predict(
        self, frames: UInt8[Tensor, "n f c h w"], actions: Float[Tensor, "n d"] | None
    ) -> Float[Tensor, "n c h w"]:
        assert actions is not None
        self.rows.append(len(frames))
        if self.fail:
            raise ValueError(self.fail)
        following = frames[:, -1].clone()
        for row, (cell, move) in enumerate(zip(agent(frames[:, -1]), self.moves(actions), strict=True)):
            if cell[0] < 0:
                continue
            there = (cell + torch.tensor(MOVES[int(move)])).clamp(0, SIZE // CELL - 1)
            for (y, x), colour in ((cell, GROUND), (there, RED)):
                box = following[row, :, y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL]
                box[:] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
        return normalise(following)

    @staticmethod
    def moves(actions: Float[Tensor, "n d"]) -> Tensor:
        return (actions.argmax(-1) + 1) % len(ACTIONS)


class Weather(Walk):
    """Walks by true moves, and turns its first pixel white where an event is typed."""

    space = ActionSpace((*MOVE.segments, Segment("event", "text", tuple("abcdefgh"))))

    @staticmethod
    def moves(actions: Tensor) -> Tensor:
        return actions[:, :5].argmax(-1)

    def predict(self, frames: Tensor, actions: Tensor | None) -> Tensor:
        assert actions is not None
        following = super().predict(frames, actions)
        following[:, :, 0, 0] = torch.where(actions[:, 5:6] >= 0, 0.5, following[:, :, 0, 0])
        return following


class Reader:
    """Reads the code off two frames, exactly."""

    view, space = PAIR, CODES

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        rows = []
        for frames in clip.frames:
            cells = agent(frames)
            went = [tuple(step) for step in (cells[1:] - cells[:-1]).tolist()]
            rows.append([[tuple(m) for m in MOVES.tolist()].index(step) for step in went])
        return Distribution.point(CODES, CODES.one_hot((torch.tensor(rows) - 1) % len(ACTIONS)))


class Shift:
    """Moves are codes, one further on."""

    inner = CODES

    def __init__(self, space: ActionSpace = MOVE) -> None:
        self.space = space

    def decode(self, belief: Distribution, clip: Clip) -> Distribution:
        return Distribution(self.space, belief.params.roll(1, -1))

    def encode(self, actions: Float[Tensor, "b k d"], clip: Clip) -> Float[Tensor, "b k e"]:
        return actions.roll(-1, -1)


def game(
    out: Path, env: str | None = "sprites", frame: Tensor | None = None, space: ActionSpace = MOVE, **more: Any
) -> Game:  # fmt: skip
    """A game of the toy world, beside real sprites; `space` has other names for its moves."""
    system = System(forward=Walk(), inverse=Reader(), adapter=Shift(space))
    speeches = speeches_of(system, "toy")
    told = {"command": "play", "source": "dream", "run": "toy", "env": env}
    shelf = Shelf(out, VIEW, 10, {speech.name: speech.forward.space for speech in speeches}, told)
    given: dict[str, Any] = {"title": "toy", **more}
    level = None if env is None else UNSEEN
    return Game(
        speeches=speeches, shelf=shelf, model=Model(), worlds=ThreadPoolExecutor(1),
        names_file=out / "names.json", frame=frame, env=env,
        level=level, **given,
    )  # fmt: skip


def walk(played: Game) -> Walk:
    """The toy world inside a game."""
    forward = played.speeches[-1].forward
    assert isinstance(forward, Walk)
    return forward


@dataclass
class Served:
    """A running server."""

    guard: Guard
    game: Game
    table: Table

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.guard.port}"

    def connect(self, **more: Any) -> ClientConnection:
        """Opens a websocket as the page does."""
        given = {"origin": f"http://{self.host}", "subprotocols": [PROTOCOL, self.guard.token], "compression": None}
        return connect(f"ws://{self.host}/socket", **{**given, **more})


def told_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What `retrodict play --json` says of itself first; an AssertionError where it ends before."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != "}\n":
        lines.append(process.stdout.readline())
        assert lines[-1], f"the command ended with {process.wait(20)} after saying {''.join(lines)!r}"
    found: dict[str, Any] = json.loads("".join(lines))
    return found


@contextmanager
def serving(played: Game) -> Iterator[Served]:
    """Serves a game from a thread."""
    with listen(0) as socket:
        inner = app(played)
        guard = Guard(inner, socket.getsockname()[1])
        page: uvicorn.Server = server(guard, largest(played))
        thread = threading.Thread(target=page.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        while not page.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        try:
            yield Served(guard, played, inner.state.table)
        finally:
            page.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the server did not end"


if __name__ == "__main__":
    torch.set_num_threads(1)
    with serving(game(Path(sys.argv[1]))) as up:
        print(up.guard.url, flush=True)
        sys.stdin.read()
