"""Worlds by name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

import gymnasium

from retrodict.envs.world import World
from retrodict.errors import MissingPackage, UnknownName, UnusableInput

_CLASSES = {  # name -> module of envs, class
    "sprites": ("sprites", "Sprites"), "catch": ("catch", "Catch"), "road": ("road", "Road"),
    "scroll": ("scroll", "Scroll"), "dodge": ("dodge", "Dodge"), "pendulum": ("pendulum", "Pendulum"),
    "arm": ("arm", "Arm"), "babyai": ("babyai", "BabyAI"), "car_racing": ("car_racing", "CarRacing"),
}  # fmt: skip
_OWN = (*_CLASSES, "maze", "coinrun")
_PROCGEN = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot",
    "heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip


def worlds() -> tuple[str, ...]:
    """Returns the names that `make` knows besides Gymnasium's ids and BabyAI's levels."""
    return (*_OWN, *(f"procgen:{game}" for game in _PROCGEN))


def make(name: str, n: int = 1, /, **options: Any) -> World:
    """Makes n copies of a world: a name of `worlds()`, a BabyAI level such as "BabyAI-GoToRedBall-v0", or a
    Gymnasium id that renders "rgb_array" (also those of the control suite, "dm_control/walker-walk-v0").

    Raises:
        UnknownName: no such world.
        MissingPackage: its simulator is not installed.
        UnusableInput: an option that this world does not have, or a value it cannot use.
    """
    kind, given = _kind(name)
    options = _checked(kind, name, options, given)
    try:
        return kind(n, **given | options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):  # of Gymnasium's environments, which check their own
            raise
        raise UnusableInput(f"world {name!r}: {error}") from error


def _checked(
    kind: Callable[..., World], name: str, options: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """Refuses options that a world does not have, and values that are not of the kind of its own; 1 is read as 1.0."""
    found = dict(options)
    known = dict(list(signature(kind).parameters.items())[1:])  # without n
    free = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values())
    for option, value in options.items():
        if option in given or option == "n" or (option not in known and not free):
            raise UnknownName(f"option of world {name!r}", option, {*known} - {*given})
        if option not in known:
            continue
        usual = known[option].default
        wanted = int if usual is None else type(usual)  # a limit or a rate that the world chooses itself
        if wanted is float and type(value) is int:
            found[option] = float(value)
        elif type(value) is not wanted and not (usual is None and value is None):
            raise UnusableInput(f"world {name!r}: {option} must be of type {wanted.__name__}, got {value!r}")
    return found


def _kind(name: str) -> tuple[Callable[..., World], dict[str, Any]]:
    """Returns a world's class, and what its name says of its options."""
    if name in _CLASSES or name.startswith("BabyAI-"):
        module, own = _CLASSES.get(name, _CLASSES["babyai"])
        return getattr(import_module(f"retrodict.envs.{module}"), own), {} if name in _CLASSES else {"level": name}
    game = name.removeprefix("procgen:")
    if name in ("maze", "coinrun") or (name != game and game in _PROCGEN):
        from retrodict.envs.procgen import Procgen

        return Procgen, {"game": game}
    if name.startswith("dm_control/"):
        _register_dm_control()
    if name in gymnasium.registry:
        from retrodict.envs.pixels import Pixels

        return Pixels, {"id": name}
    raise UnknownName("world", name, [*worlds(), *gymnasium.registry])


def _register_dm_control() -> None:
    """Makes Gymnasium know the DeepMind Control Suite."""
    if importlib.util.find_spec("shimmy") is None or importlib.util.find_spec("dm_control") is None:
        raise MissingPackage("dm_control", "the DeepMind Control Suite", "pip install 'shimmy[dm-control]'")
    with redirect_stdout(sys.stderr):  # it prints what else it could not register
        gymnasium.register_envs(import_module("shimmy"))
