"""CarRacing: Gymnasium's race seen from above, with an expert that reads the track; for `paper` presets.

Frames are what World Models was shown (Ha and Schmidhuber, 2018): the dashboard cut off, 64 x 64 pixels.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from retrodict.envs.pixels import Pixels
from retrodict.envs.world import layout
from retrodict.errors import MissingPackage

ID, ROWS = "CarRacing-v3", 84  # rows of the 96 above the dashboard
AXES = ("steer", "gas", "brake")
_AHEAD, _TURN, _DAMP = 5, 2.2, 0.12  # tiles that the expert looks ahead; its gains on angle and on angular speed
_BRISK, _SLOW, _GRIP = 85.0, 42.0, 70.0  # speeds on a straight and in the tightest bend; how a bend limits speed
_SIGHT = 22  # tiles ahead whose bend limits the speed


class CarRacing(Pixels):
    """n copies of CarRacing-v3, with continuous steering, gas and brake. A success is a lap with 95 % of the tiles.

    Raises:
        MissingPackage: Box2D is not installed.
    """

    told_by = ("lap_finished",)

    def __init__(self, n: int, size: int = 64, limit: int = 1000, fps: int = 50) -> None:
        if importlib.util.find_spec("Box2D") is None:
            raise MissingPackage("Box2D", "CarRacing", "pip install 'retrodict[box2d]'")
        super().__init__(n, ID, size, limit, fps)
        self.actions = layout(self.single_action_space, AXES)

    def _picture(self, row: int) -> Any:
        return self._envs[row].unwrapped.state[:ROWS]  # type: ignore[attr-defined]

    def expert(self) -> Float32[np.ndarray, "n 3"]:
        """Returns actions of a driver who steers for a point on the track ahead, and slows down for bends."""
        driven = [_drive(env.unwrapped) if env.unwrapped.car else np.zeros(3) for env in self._envs]  # type: ignore[attr-defined]
        return np.stack(driven).astype(np.float32)


def _drive(game: Any) -> Float[np.ndarray, "3"]:
    track = np.array([tile[2:4] for tile in game.track])
    hull = game.car.hull
    here, speed = np.array(hull.position), float(np.hypot(*hull.linearVelocity))
    ahead = np.roll(track, -int(np.linalg.norm(track - here, axis=1).argmin()), 0)
    aim = ahead[_AHEAD] - here
    off = _wrapped(np.arctan2(-aim[0], aim[1]) - hull.angle)  # a car at angle 0 looks up; left is positive
    steer = np.clip(-_TURN * off + _DAMP * hull.angularVelocity, -1, 1)
    wanted = _limit(ahead[: _SIGHT + 2])
    gas = np.clip(0.1 * (wanted - speed), 0, 1) * (1 - 0.6 * abs(steer))  # rear wheels slip when they push in a turn
    return np.array([steer, gas, np.clip(0.03 * (speed - wanted), 0, 0.5)])


def _limit(points: Float[np.ndarray, "k 2"]) -> float:
    """Speed for the next tiles: less, the more the track turns over any ten of them."""
    along = np.diff(points, axis=0)
    turns = np.cumsum(_wrapped(np.diff(np.arctan2(along[:, 1], along[:, 0]))))
    turned = float(np.abs(turns[10:] - turns[:-10]).max(initial=turns[:10].max()))
    return float(np.clip(_GRIP / max(turned, 1e-3), _SLOW, _BRISK))


def _wrapped(angle: Any) -> Any:
    return (angle + np.pi) % (2 * np.pi) - np.pi
