"""Values typed on the command line: `--set a.b=3`, sizes, durations, worlds' options."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from retrodict.errors import UnknownName, UnusableInput

C = TypeVar("C")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def with_settings(config: C, pairs: Sequence[str]) -> C:
    """Returns a configuration with `name=value` replaced; `a.b=value` reaches into the field a.

    Raises:
        UnknownName: no such field. UnusableInput: the value is of another kind than the field's.
    """
    for pair in pairs:
        name, value = _split(pair)
        config = _replaced(config, name.split("."), value, pair)
    return config


def options(pairs: Sequence[str]) -> dict[str, Any]:
    """Returns {name: value} of `name=value` pairs; a value that is no JSON is text."""
    return dict(_split(pair) for pair in pairs)


def seconds(text: str) -> float:
    """Reads a duration such as 90s, 60m or 1.5h; "" is 0, which means no limit."""
    if not text:
        return 0.0
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    if found is None or float(found[1]) == 0:
        raise UnusableInput(f"{text!r} is no duration; write it as 90s, 60m or 1.5h")
    return float(found[1]) * _SECONDS[found[2]]


def size(text: str) -> tuple[int, int] | None:
    """Reads WIDTHxHEIGHT in pixels as (width, height); "" is None."""
    if not text:
        return None
    found = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if found is None:
        raise UnusableInput(f"{text!r} is no size; write it as WIDTHxHEIGHT, such as 64x64")
    return int(found[1]), int(found[2])


def _split(pair: str) -> tuple[str, Any]:
    name, mark, text = pair.partition("=")
    if not (name and mark):
        raise UnusableInput(f"{pair!r} sets nothing; write it as name=value, such as fit.steps=200")
    try:
        return name, json.loads(text, parse_constant=_no_number)
    except ValueError:
        return name, {"True": True, "False": False}.get(text, text)  # as Python writes them


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")  # NaN and Infinity, which Python would read


def _replaced(config: Any, path: list[str], value: Any, pair: str) -> Any:
    if not is_dataclass(config) or isinstance(config, type):
        raise UnusableInput(f"--set {pair}: {path[0]!r} would lie inside a plain value")
    known = [field.name for field in fields(config)]
    if path[0] not in known:
        raise UnknownName(f"setting of {type(config).__name__}", path[0], known)
    old = getattr(config, path[0])
    if len(path) > 1:
        return replace(config, **{path[0]: _replaced(old, path[1:], value, pair)})
    return replace(config, **{path[0]: _as(old, value, pair)})


def _as(old: Any, value: Any, pair: str) -> Any:
    """Returns the value as the kind of the old one; what would lose something is refused."""
    if is_dataclass(old):
        raise UnusableInput(
            f"--set {pair}: name a field inside, such as {pair.partition('=')[0]}.{fields(old)[0].name}"
        )
    if isinstance(old, tuple) and isinstance(value, list):
        return _tuples(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableInput(f"--set {pair}: expected a finite number like {old!r} (float)")
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, str) and not isinstance(value, str):
        return pair.partition("=")[2]
    if type(value) is not type(old):
        raise UnusableInput(f"--set {pair}: expected a value like {old!r} ({type(old).__name__})")
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
