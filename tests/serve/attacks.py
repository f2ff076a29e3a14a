"""Those who mean harm to the server of the page: bent messages, floods, and connections that hold on (W3)."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from retrodict.rng import key
from retrodict.serve.guard import MOST_FRAGMENTS, MOST_PINGS, PROTOCOL
from retrodict.serve.messages import COMMANDS
from retrodict.serve.server import SEATING

WEBSOCKET = (
    "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


def mutants(count: int, seed: int) -> Iterator[str | bytes]:
    """Messages as ours, bent in every way; and noise."""
    dice = random.Random(key("play", "mutants", seed))
    samples = {list: ["0:1"], int: 1, str: "a", bool: True}
    for _ in range(count):
        command = dice.choice(list(COMMANDS))
        value: Any = {"do": command} | {name: samples[kind] for name, kind in COMMANDS[command].items()}
        text = bytearray(json.dumps(value).encode())
        way = dice.randrange(5)
        if way == 0:
            text = bytearray(dice.randbytes(dice.randrange(200)))
        elif way == 1:
            text = text[: dice.randrange(len(text))]
        elif way == 2:
            name = dice.choice(list(value))
            value[name] = dice.choice([None, -1, 2**40, "x" * 300, [], {}, [[[]]], 1e308, True, "../../etc", "\u202e"])
            text = bytearray(json.dumps(value).encode())
        else:
            for _ in range(dice.randrange(1, 6)):
                text[dice.randrange(len(text))] = dice.randrange(256)
        if way == 4:
            yield bytes(text)
        else:
            yield text.decode("utf-8", "replace")


def flood(host: str, token: str, messages: Iterator[str | bytes]) -> int:
    """Tells everything, a hundred messages to a connection; returns how many were told to one that heard them all."""
    told, waiting, seat = 0, list(messages), ""
    while waiting:
        some, waiting = waiting[:100], waiting[100:]
        with connecting(host, token) as line, suppress(ConnectionClosed):
            line.send(json.dumps({"do": "sit", "seat": seat}))
            seat = json.loads(line.recv(timeout=60))["seat"]
            for message in (*some, '{"do": "speak", "speech": "the end"}'):
                line.send(message)
            while "'the end'" not in str(line.recv(timeout=60)):
                pass
            told += len(some)
    return told


def connecting(host: str, token: str) -> ClientConnection:
    own = {"origin": f"http://{host}", "subprotocols": [PROTOCOL, token]}
    return connect(f"ws://{host}/socket", compression=None, max_size=None, **own)  # type: ignore[arg-type]


def bare(host: str, token: str) -> socket.socket:
    """A websocket as a bare socket, after the handshake."""
    name, _, port = host.partition(":")
    line = socket.create_connection((name, int(port)), timeout=10)
    proof = [f"Origin: http://{host}", *WEBSOCKET, f"Sec-WebSocket-Protocol: {PROTOCOL}, {token}"]
    line.sendall("\r\n".join(["GET /socket HTTP/1.1", f"Host: {host}", *proof, "", ""]).encode())
    assert b"101" in line.recv(4096)
    return line


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    length = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
    return bytes([(0x80 if final else 0) | opcode]) + length + b"\0\0\0\0" + payload


def ended(line: socket.socket) -> bool:
    """True where the server ended the connection, long before it would for other reasons."""
    line.settimeout(SEATING / 2)
    try:
        while line.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def send_all(line: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the server need not listen to the end
        line.sendall(data)


ATTACKS = {
    "a message without an end": frame(1, b"", False) + frame(0, b"", False) * (10 * MOST_FRAGMENTS),
    "pings": frame(9, b"x" * 100) * (100 * MOST_PINGS),
    "a message of 100 MB": b"\x82\xff" + struct.pack("!Q", 100_000_000) + b"\0\0\0\0" + bytes(1 << 20),
    "no frame at all": b"\xff" * 5000,
}
