"""Worlds by name."""

from __future__ import annotations

from typing import Any

import gymnasium

from retrodict.envs.world import World
from retrodict.errors import UnknownName, UnusableInput

_OWN = ("sprites", "babyai", "maze", "coinrun")
_PROCGEN = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot",
    "heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip


def worlds() -> tuple[str, ...]:
    """Returns the names that `make` knows besides Gymnasium's ids and BabyAI's levels."""
    return (*_OWN, *(f"procgen:{game}" for game in _PROCGEN))


def make(name: str, n: int = 1, **options: Any) -> World:
    """Makes n copies of a world: a name of `worlds()`, a BabyAI level such as "BabyAI-GoToRedBall-v0", or a
    Gymnasium id that renders "rgb_array".

    Raises:
        UnknownName: no such world.
        MissingPackage: its simulator is not installed.
        UnusableInput: an option that this world does not have, or a value it cannot use.
    """
    try:
        return _make(name, n, options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UnusableInput(f"world {name!r}: {error}") from error


def _make(name: str, n: int, options: dict[str, Any]) -> World:
    if name == "sprites":
        from retrodict.envs.sprites import Sprites

        return Sprites(n, **options)
    if name == "babyai" or name.startswith("BabyAI-"):
        from retrodict.envs.babyai import BabyAI

        return BabyAI(n, **(options if name == "babyai" else {"level": name} | options))
    game = name.removeprefix("procgen:")
    if name in ("maze", "coinrun") or (name != game and game in _PROCGEN):
        from retrodict.envs.procgen import Procgen

        return Procgen(n, game=game, **options)
    if name in gymnasium.registry:
        from retrodict.envs.pixels import Pixels

        return Pixels(n, id=name, **options)
    raise UnknownName("world", name, [*worlds(), *gymnasium.registry])
