"""The play server: the page's files, and one websocket for each of at most four players around one model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from retrodict.errors import RetrodictError
from retrodict.report.style import THEME
from retrodict.serve.beside import Beside
from retrodict.serve.game import Game
from retrodict.serve.guard import PROTOCOL, Guard, Rate
from retrodict.serve.messages import MOST_TEXT, parse
from retrodict.serve.pictures import shape_of
from retrodict.serve.player import Player

PLAYERS = 4
MESSAGES, BURST = 60.0, 120.0  # a second, and at once
SEATS, CROWD = 0.5, 6.0  # new sessions a second, and at once
SEATING = 10.0  # seconds within which a page says who it is
REFUSED, MOVED = 4000, 4001  # codes with which a websocket is closed: told why; the page is open elsewhere
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Line:
    """One websocket, to which sending is harmless after the other side is gone."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket, self.rate = socket, Rate(MESSAGES, BURST)

    async def send(self, message: str | bytes) -> None:
        """Sends a message."""
        with suppress(WebSocketDisconnect, RuntimeError):  # gone, or closed by us a moment ago
            if isinstance(message, str):
                await self.socket.send_text(message)
            else:
                await self.socket.send_bytes(message)

    async def close(self, code: int, reason: str) -> None:
        """Says goodbye."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self.socket.close(code, reason)

    async def receive(self) -> str | bytes | None:
        """Returns the next message; None when the other side is gone, or is closed for telling too much."""
        await asyncio.sleep(0)  # many messages of one page wait in a row; the others have their turn in between
        message = await self.socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        if not self.rate.take(time.monotonic()):
            await self.close(1008, f"more than {MESSAGES:.0f} messages a second")
            return None
        text, pixels = message.get("text"), message.get("bytes")
        return text if text is not None else bytes(pixels or b"")


class Table:
    """The players around one model. A session whose page is gone waits for it, or for the next page without one."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.seats: dict[str, Player] = {}
        self.lines: dict[str, Line] = {}  # of the players that are here
        self.arrivals = Rate(SEATS, CROWD)
        self.telling: dict[str, asyncio.Task[None]] = {}  # a seat's keys anew, the last time

    async def sit(self, socket: WebSocket) -> None:
        """Serves one page from its first message to its last."""
        await socket.accept(PROTOCOL)
        line = Line(socket)
        try:
            asked = await asyncio.wait_for(line.receive(), SEATING)
            command, fields = parse(asked if isinstance(asked, str) else "")
        except (TimeoutError, RetrodictError):
            await line.close(1008, "the first message says which seat the page had")
            return
        seat = self._seat(fields["seat"]) if command == "sit" else None
        if seat is None:
            await line.close(REFUSED, f"{PLAYERS} players are here already, or too many came at once")
            return
        await self._play(seat, line)

    def _seat(self, wanted: str) -> str | None:
        """Returns the seat that a page had, else the one that was left last, else a new one; None where all are taken,
        or a crowd comes in."""
        if wanted in self.seats:
            return wanted
        if not self.arrivals.take(time.monotonic()):
            return None
        if left := [seat for seat in self.seats if seat not in self.lines]:
            return left[-1]
        if len(self.seats) >= PLAYERS:
            return None
        seat = secrets.token_hex(8)
        self.seats[seat] = Player(self.game, Beside(self.game), self.announce)
        return seat

    async def _play(self, seat: str, line: Line) -> None:
        player, before = self.seats[seat], self.lines.get(seat)
        self.lines[seat] = line
        if before is not None:
            await before.close(MOVED, "this session is open in another tab")
        player.send = line.send
        await player.tell("seat", seat=seat)
        pace = asyncio.create_task(player.pace())
        try:
            await player.begin()
            while (message := await line.receive()) is not None:
                await self._take(player, message)
        finally:
            pace.cancel()
            if self.lines.get(seat) is line:
                del self.lines[seat]
                self.seats[seat] = self.seats.pop(seat)  # the last one that was left
                player.leave()

    async def _take(self, player: Player, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await player.paint(message)
            return
        try:
            command, fields = parse(message)
        except RetrodictError as error:
            await player.tell("error", text=str(error))
            return
        if command != "sit":
            await player.handle(command, fields)

    async def announce(self) -> None:
        """Tells all players that are here what the keys are called now; nobody waits for one who does not read."""
        for seat in self.lines:
            if before := self.telling.get(seat):
                before.cancel()
            self.telling[seat] = asyncio.create_task(self.seats[seat].show_keys())

    async def close(self) -> None:
        """Ends all sessions and threads."""
        for player in self.seats.values():
            await player.close()
        self.game.close()


def pages() -> dict[str, tuple[bytes, str]]:
    """Returns {path: (content, type)} of all files of the page, read once; no path comes from outside."""
    folder = files("retrodict.serve") / "pages"
    found = {f"/{file.name}": file.read_bytes() for file in folder.iterdir() if _kind(file.name)}
    found["/"] = found.pop("/index.html")
    found["/theme.css"] = THEME.encode()
    return {path: (content, _kind(path if path != "/" else ".html")) for path, content in found.items()}


def _kind(name: str) -> str:
    return _KINDS.get(name[name.rfind(".") :], "") if "." in name else ""


def app(game: Game) -> Starlette:
    """Returns the server's routes around a table."""
    table = Table(game)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        await table.close()

    routes: list[BaseRoute] = [_file(path, *content) for path, content in sorted(pages().items())]
    made = Starlette(routes=[*routes, WebSocketRoute("/socket", table.sit)], lifespan=life)
    made.state.table = table
    return made


def _file(path: str, content: bytes, kind: str) -> Route:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(path, answer, methods=["GET"])


def guarded(game: Game, port: int) -> Guard:
    """Returns the whole server as one guarded app."""
    return Guard(app(game), port)


def largest(game: Game) -> int:
    """Returns the size of the largest message that a page may send, in bytes: a painted frame, or words."""
    height, width = shape_of(game.view)
    return max(MOST_TEXT, 3 * height * width)
