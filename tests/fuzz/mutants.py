"""What the fuzz tests damage files with, and how many damaged files a test tries."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import numpy as np

from retrodict.rng import numpy_rng

FULL = os.environ.get("RETRODICT_FAULTS") == "full"
BOXES = re.compile(rb"ftyp|moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|minf|stbl|stsd|stts|ctts|stss|stsc|stsz|stco|mdat")

Rng = np.random.Generator
Mutation = Callable[[bytearray, Rng, bytes], bytearray]


def count(full: int, few: int = 100) -> int:
    """How many mutants a test tries: a few in `make test`, all in `make fuzz`."""
    return full if FULL else few


def _place(data: bytes, rng: Rng) -> int:
    """A place in a file; half the time near one of its ends, where containers keep what they say of the rest."""
    edge = min(400, len(data))
    end = int(rng.integers(2)) * (len(data) - edge)
    return int(rng.integers(len(data))) if rng.random() < 0.5 else end + int(rng.integers(edge))


def _flip(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    for _ in range(int(rng.integers(1, 9))):
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return data


def _overwrite(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    start, length = _place(data, rng), int(rng.integers(1, 17))
    data[start : start + length] = rng.bytes(len(data[start : start + length]))
    return data


def _cut(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    return data[: int(rng.integers(len(data)))]


def _delete(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    start = _place(data, rng)
    del data[start : start + int(rng.integers(1, 200))]
    return data


def _repeat(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    start, length = _place(data, rng), int(rng.integers(1, 200))
    return data[: start + length] + data[start:]


def _zeros(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    start, length = _place(data, rng), int(rng.integers(1, 400))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def _digit(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    """Another digit in place of one, where there are any: a text stays a text."""
    digits = [place for place, byte in enumerate(data) if byte in b"0123456789"]
    if digits:
        data[digits[int(rng.integers(len(digits)))]] = 48 + int(rng.integers(10))
    return data


def _box(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    """Gives a box another size, or one of its numbers an extreme value; in what has no boxes, four bytes anywhere."""
    boxes = [match.start() for match in BOXES.finditer(data)]
    name = boxes[int(rng.integers(len(boxes)))] if boxes else _place(data, rng)
    at = name + 4 * int(rng.choice([-1, -1, -1, 1, 2, 3, 4, 5]))
    value = int(rng.choice([0, 1, 7, 8, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, int(rng.integers(4096))]))
    if 0 <= at <= len(data) - 4:
        data[at : at + 4] = value.to_bytes(4, "big")
    return data


def _head(data: bytearray, rng: Rng, other: bytes) -> bytearray:
    """The beginning of another file before the rest of this one."""
    length = int(rng.integers(1, min(len(data), len(other))))
    return bytearray(other[:length]) + data[length:]


MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _overwrite, _cut, _delete, _repeat, _zeros, _digit, _box, _box, _head)


def mutant(data: bytes, other: bytes, *address: str | int) -> bytes:
    """A damaged copy, which is told by its address; `other` is a file of another kind. Never equal to `data`."""
    rng = numpy_rng("mutant", *address)
    while True:
        changed = MUTATIONS[int(rng.integers(len(MUTATIONS)))](bytearray(data), rng, other)
        if changed != data:
            return bytes(changed)
