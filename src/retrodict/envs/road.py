"""Road: a car on a winding road, seen from behind the wheel at day, at night, in fog or in snow, with other cars.

Lengths are half widths of the road, times steps. Going straight on in a bend takes the car off the road. Levels are
seeds: bends, weather, cars, and where the expert would like to be. `road_view` draws and reads the pictures.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Float32, UInt8

from retrodict.envs.road_view import FAR, SAID, WEATHERS, attributes, captions, curvature, render
from retrodict.envs.world import ArrayWorld, joined_names
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, continuous

STEER = 0.15  # half widths to the side for each one ahead, at full lock
PULL = 5.0  # the same for a curvature of 1: what a bend asks for
SLOW, TOP, PUSH = 0.4, 1.6, 0.1  # speeds, and the change of speed that an action of 1 makes
STEEPEST = 0.02  # greatest curvature
_LAPS = 320.0  # length over which bends repeat
_BEHIND, _LOOP = 4.0, 72.0  # cars come again from ahead once they are so far behind
_KEEP = 5.0  # cars in the way do not let anybody nearer
_LIKES = 3  # sine waves of each of the expert's wishes


class Road(ArrayWorld):
    """Actions steer (right is positive) and change the speed, both in -1..1; beyond, they go as far as 1.

    Each step on the road earns the share of top speed that it is driven at. Leaving the road ends the episode; to stay
    on it until the limit is a success. `weather` is one of WEATHERS or several joined by "+", of which each level
    draws one; each level has 0 to `cars` other cars, which nobody can hit: those in the way drive on. With `numbers`
    the attributes that captions put in words (`road_view.SAID`) are told beside the pictures, as `proprio`.
    """

    def __init__(
        self,
        n: int,
        size: int = 32,
        weather: str = "day+night+fog+snow",
        cars: int = 2,
        limit: int = 200,
        fps: int = 10,
        numbers: bool = False,
    ) -> None:
        self.proprio = SAID if numbers else ()
        self.kinds = [WEATHERS.index(name) for name in joined_names("weather", weather, WEATHERS)]
        if size < 24:
            raise UnusableInput(f"road needs a size of 24 pixels or more to show where it goes; got {size}")
        if cars < 0:
            raise UnusableInput(f"cars must be 0 or more; got {cars}")
        actions = ActionSpace((continuous("drive", ("steer", "speed"), relative=True),))
        native = spaces.Box(-1.0, 1.0, (2,), np.float32)
        super().__init__("road", n, (size, size), actions, fps, limit, native)
        self._now = {
            "place": np.zeros(n), "offset": np.zeros(n), "speed": np.ones(n), "weather": np.zeros(n, np.int64),
            "curve": np.tile([0.0, 1.0, 0.0], (n, 3, 1)), "there": np.zeros((n, cars), bool),
            **{name: np.zeros((n, cars)) for name in ("gaps", "lanes", "paces")},
            "likes": np.zeros((n, 2, _LIKES, 2)),
        }  # fmt: skip

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        cars = self._now["gaps"].shape[1]
        for row in map(int, np.flatnonzero(mask)):
            rng = numpy_rng(int(self.seeds[row]), "road")
            high = rng.uniform(0.3, 1, 3)
            turns = 2 * np.pi * rng.choice(np.arange(2, 8), 3, replace=False) / _LAPS
            curve = np.stack([STEEPEST * high / high.sum(), turns, rng.uniform(0, 2 * np.pi, 3)], 1)
            likes = np.stack([rng.uniform(0.08, 0.25, (2, _LIKES)), rng.uniform(0, 2 * np.pi, (2, _LIKES))], -1)
            self._put(
                row, place=0.0, offset=rng.uniform(-0.4, 0.4), speed=rng.uniform(0.8, 1.2), curve=curve, likes=likes,
                weather=self.kinds[int(rng.integers(len(self.kinds)))], gaps=rng.uniform(6, 60, cars),
                lanes=rng.choice([-0.5, 0.5], cars), paces=rng.uniform(0.3, 0.8, cars),
                there=np.arange(cars) < rng.integers(0, cars + 1),
            )  # fmt: skip

    def _put(self, row: int, **values: np.ndarray | float) -> None:
        for name, value in values.items():
            self._now[name][row] = value

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        now, (steer, push) = self._now, np.clip(actions, -1, 1).astype(np.float64).T
        speed = np.clip(now["speed"] + PUSH * push, SLOW, TOP)
        aside = speed * (STEER * steer - PULL * curvature(now))
        ahead = {"speed": speed, "place": now["place"] + speed, "offset": now["offset"] + aside}
        ahead["gaps"] = self._traffic(speed, ahead["offset"])
        for name, value in ahead.items():
            now[name] = np.where(live.reshape(-1, *[1] * (value.ndim - 1)), value, now[name])
        left = np.abs(now["offset"]) > 1
        return speed / TOP * ~left, left, ~left & (self.steps + 1 >= self.limit)

    def _traffic(self, speed: Float[np.ndarray, "n"], offset: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n cars"]:
        gaps, mine = self._now["gaps"], speed[:, None]
        blocked = (gaps > 0) & (gaps < _KEEP) & (np.abs(self._now["lanes"] - offset[:, None]) < 0.7)
        paces = np.where(blocked, np.maximum(self._now["paces"], mine + 0.2), self._now["paces"])
        return np.asarray((gaps + paces - mine + _BEHIND) % _LOOP - _BEHIND)

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return render(self._now, self.size[0])

    def sensed(self) -> Float32[np.ndarray, "n s"]:
        """Returns the number of each attribute's word where `numbers` are told: n weather-traffic-bend."""
        if not self.proprio:
            return super().sensed()
        told = attributes(self._now, self.size[0])
        return np.stack([told[name] for name in SAID], 1).astype(np.float32)

    def texts(self) -> tuple[str, ...]:
        """Returns a caption of each row's picture, such as "night, a car ahead, the road bends left"."""
        return captions(attributes(self._now, self.size[0]))

    def expert(self) -> Float32[np.ndarray, "n 2"]:
        """Returns actions that keep the car near a place on the road and a speed that wander slowly, level by level.

        A picture shows where the car is and not where it would like to be, so the steering is no function of it.
        """
        turns, phase = np.moveaxis(self._now["likes"], -1, 0)  # n 2 waves
        place, speed = np.sin(turns * self.steps[:, None, None] + phase).sum(-1).T
        move = 0.15 * (0.3 * place - self._now["offset"]) / self._now["speed"]
        steer = (move + PULL * curvature(self._now)) / STEER
        push = (1.0 + 0.2 * speed - self._now["speed"]) / PUSH
        return np.asarray(np.clip(np.stack([steer, push], 1), -1, 1).astype(np.float32))


assert _LOOP - _BEHIND > FAR, "cars come again where nobody sees it"
