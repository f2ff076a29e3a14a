"""Messages between page and server: what may be told, checked before anything else looks at it, and what is shown.

The page tells short JSON objects (`parse`), and pictures that a person painted as bare RGB bytes of exactly one frame.
The server tells JSON objects, and pictures as one binary message each time (`pack`): the length of a JSON header as
four bytes (little endian), the header, and the RGB bytes of the pictures that it lists as [width, height].
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from retrodict.errors import UnknownName, UnusableInput

MOST_TEXT = 1024  # bytes of a message that is no picture
MOST_NAME = 40  # letters of a name that a person gives
MOST_EVENT = 200  # letters of a typed event
MOST_KEYS = 16  # keys held at once

Picture = UInt8[np.ndarray, "h w 3"]

# Every message and its fields; what is not listed is refused.
COMMANDS: dict[str, dict[str, type]] = {
    "sit": {"seat": str},  # "" where it had none
    "hold": {"keys": list, "press": int},
    "step": {"press": int},
    "run": {"on": bool},
    "rewind": {"to": int},
    "switch": {"branch": int},
    "compare": {"branch": int},  # -1 for none
    "name": {"key": str, "name": str},
    "measure": {},
    "speak": {"speech": str},
    "event": {"text": str},
    "start": {"level": int},
    "save": {},
}


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Reads a message of the page: its command, and its fields.

    Raises:
        UnusableInput: it is too long, no JSON object, or its fields are not those of the command.
        UnknownName: no such command.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MOST_TEXT:
        raise UnusableInput(f"a message has at most {MOST_TEXT} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableInput("a message is a JSON object") from error
    if not isinstance(value, dict) or not isinstance(command := value.pop("do", None), str):
        raise UnusableInput('a message is a JSON object with "do"')
    if command not in COMMANDS:
        raise UnknownName("message", command[:MOST_NAME], COMMANDS)
    wanted = COMMANDS[command]
    if value.keys() != wanted.keys() or any(type(value[name]) is not kind for name, kind in wanted.items()):
        fields = ", ".join(f"{name}: {kind.__name__}" for name, kind in wanted.items())
        raise UnusableInput(f"{command} takes {fields or 'nothing'}")
    _check(value)
    return command, value


def _check(value: Mapping[str, Any]) -> None:
    keys = value.get("keys", [])
    if len(keys) > MOST_KEYS or not all(isinstance(key, str) for key in keys):
        raise UnusableInput(f"keys are at most {MOST_KEYS} names")
    if any(isinstance(number, int) and not -1 <= number < 2**31 for number in value.values()):
        raise UnusableInput("a number lies in -1..2**31-1")
    for field, most in (("name", MOST_NAME), ("text", MOST_EVENT)):
        if field in value and (len(value[field]) > most or not value[field].isprintable()):
            raise UnusableInput(f"a {field} has at most {most} printable letters")


def pack(header: Mapping[str, Any], pictures: Sequence[Picture] = ()) -> bytes:
    """Writes a message with pictures for the page."""
    sizes = [[picture.shape[1], picture.shape[0]] for picture in pictures]
    told = json.dumps({**header, "pictures": sizes}, allow_nan=False).encode()
    pixels = [np.ascontiguousarray(picture).tobytes() for picture in pictures]
    return b"".join([struct.pack("<I", len(told)), told, *pixels])


def unpack(message: bytes) -> tuple[dict[str, Any], list[Picture]]:
    """Reads what `pack` wrote."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    pictures, at = [], 4 + length
    for width, height in header.pop("pictures"):
        flat = np.frombuffer(message, np.uint8, 3 * width * height, at)
        pictures.append(flat.reshape(height, width, 3))
        at += 3 * width * height
    return header, pictures
