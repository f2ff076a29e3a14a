"""What stands between the network and every page of ours: who may ask, how much, how often and for how long.

One rule each, and none has an exception:

- The server listens on 127.0.0.1. A request is answered when its only Host header names this server (a name that a web
  page made point here does not) and its Origin, where there is one, is this server's own.
- Requests read and change nothing: GET and HEAD. What changes something goes through a websocket, which needs the
  Origin and the token.
- The token travels in the page's fragment and as a websocket subprotocol: in no address that is sent, no log, no
  cookie. So no other page, and no other server of this machine, ever has it sent along by the browser.
- Messages have a largest size and a highest rate, connections a largest number and a longest life. New connections
  beyond a rate wait for their turn, each carries one request, and bytes are taken in a few at a time: who was cut off
  and comes back keeps the others waiting no longer than one who asks politely.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from retrodict.errors import UnusableInput

PROTOCOL = "retrodict.1"  # subprotocol of every websocket; the token stands beside it
MOST_CONNECTIONS = 64  # at a time
OPENINGS, CROWD = 20.0, 120.0  # new connections a second, and at once; those beyond wait
LONGEST_REQUEST = 20.0  # seconds that a connection may last without becoming a websocket
MOST_HEADERS = 16 << 10  # bytes
MOST_FRAGMENTS = 64  # parts of one message
MOST_PINGS = 30  # in a second
PIECE = 4 << 10  # bytes of a websocket that are looked at before the next are, if it is still there
MOST_UNREAD = 16 << 20  # bytes sent that the other side does not take
PING_SECONDS = 20.0  # a websocket whose other side is silent for so long, when asked, is closed

_POLICY = (
    "default-src 'self'; connect-src 'self' ws://{host}; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store", "connection": "close",
}  # fmt: skip


class Guard:
    """Lets a request through to the app inside, or refuses it before any work is done.

    `token` is what a websocket has to show; keep it to the address that the person opens.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app, self.port = app, port
        self.token = secrets.token_urlsafe(32)
        self.openings = Rate(OPENINGS, CROWD)
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if port == 80:  # which a browser does not write
            self.hosts |= {"127.0.0.1", "localhost"}

    @property
    def url(self) -> str:
        """The address to open: the token stands in its fragment, which no browser sends."""
        return f"http://127.0.0.1:{self.port}/#{self.token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request or websocket."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif (refusal := self.refusal(scope)) is None:
            host = _only(scope, b"host") or ""
            await self.app(scope, receive, _with_headers(send, host))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})  # before accepting: 403
        else:
            await _answer(send, *refusal)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Says why a request is refused, as a status and words; None where it may pass."""
        host = _only(scope, b"host")
        if host is None or host.lower() not in self.hosts:
            return 403, "the Host header is not this server's"
        origins = _all(scope, b"origin")
        if origins and origins != [f"http://{host.lower()}"]:
            return 403, "another page asks"
        if scope["type"] == "websocket":
            return None if origins and self._shown(scope) else (403, "the token is missing or wrong")
        return None if scope["method"] in ("GET", "HEAD") else (405, "ask by GET, and tell by websocket")

    def _shown(self, scope: Scope) -> bool:
        told = list(scope.get("subprotocols", ()))
        same = [hmac.compare_digest(word.encode(), self.token.encode()) for word in told[:4]]
        return len(told) == 2 and told[0] == PROTOCOL and same[1]


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _only(scope: Scope, name: bytes) -> str | None:
    found = _all(scope, name)
    return found[0] if len(found) == 1 else None


def _with_headers(send: Send, host: str) -> Send:
    wanted = {**_HEADERS, "content-security-policy": _POLICY.format(host=host)}
    extra = [(name.encode(), value.encode()) for name, value in wanted.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, words: str) -> None:
    body = words.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Rate:
    """How often something may happen: `rate` a second, and `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self.left, self.at = burst, 0.0

    def take(self, now: float) -> bool:
        """Counts one, at `now` seconds of any clock; False where it is one too many, which does not count."""
        self._refill(now)
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def wait(self, now: float) -> float:
        """Counts one, whose turn comes in so many seconds."""
        self._refill(now)
        self.left -= 1
        return max(0.0, -self.left / self.rate)

    def _refill(self, now: float) -> None:
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now


class Door(H11Protocol):
    """A connection: there are only so many, and each is read in its turn, and is a websocket or ends within seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection, lets it wait, or ends it at once."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self.loop.call_later(LONGEST_REQUEST, self._end)
        assert isinstance(self.config.app, Guard), "the server is made for a guarded app"
        if wait := self.config.app.openings.wait(self.loop.time()):
            transport.pause_reading()
            self.loop.call_later(wait, transport.resume_reading)

    def _end(self) -> None:
        if self.transport.get_protocol() is self and not self.transport.is_closing():
            self.transport.abort()


class Wire(WebSocketsSansIOProtocol):
    """A websocket: few fragments to a message, few pings, and nothing piles up for one who does not read."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.pings = Rate(MOST_PINGS, MOST_PINGS)

    def data_received(self, data: bytes) -> None:
        """Takes in bytes, as long as the other side is within bounds."""
        for start in range(0, len(data), PIECE):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + PIECE])
        if self.transport.get_write_buffer_size() > MOST_UNREAD and not self.transport.is_closing():
            self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        """Takes in a further fragment."""
        if len(self.frames) < MOST_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.transport.abort()

    def handle_ping(self) -> None:
        """Answers a ping; of those that came in one piece with too many, none after the end."""
        if self.transport.is_closing():
            return
        if self.pings.take(self.loop.time()):
            super().handle_ping()
        else:
            self.transport.abort()


def listen(port: int) -> socket.socket:
    """Opens the server's socket, on this machine's own address alone; port 0 is any free one.

    Raises:
        UnusableInput: the port is taken, or not ours to take.
    """
    if not 0 <= port <= 65535:
        raise UnusableInput(f"--port must be 1..65535, or 0 for a free one; got {port}")
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio asks: else it sends late
    try:
        if os.name == "posix":  # elsewhere this option lets others take the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("127.0.0.1", port))
        opened.listen(MOST_CONNECTIONS)
    except OSError as error:
        opened.close()
        why = f"port {port} cannot be opened ({error.strerror}); leave --port out for a free one"
        raise UnusableInput(why) from error
    return opened


def server(app: Guard, largest: int) -> uvicorn.Server:
    """Returns a server for a guarded app; no message to it may be larger than `largest` bytes."""
    config = uvicorn.Config(
        app, http=Door, ws=Wire, loop="asyncio", ws_max_size=largest, ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS, ws_per_message_deflate=False, h11_max_incomplete_event_size=MOST_HEADERS,
        log_config=None, log_level="error", access_log=False, proxy_headers=False, server_header=False,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    return uvicorn.Server(config)
