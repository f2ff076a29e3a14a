"""Catch: a ball falls from the top, and a paddle has to be under it when it lands.

The smallest game whose reward comes late. Of five columns the paddle covers one, so whoever does not look catches one
ball in five, whatever the play: a mean return of -0.6. Levels are seeds; there are 25 different starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64, UInt8

from retrodict.envs.world import ArrayWorld
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, categorical

GRID = 16  # squares a side, of size / 16 pixels each
COLUMNS = 5  # places of the ball and of the paddle, three squares apart
FALL = 13  # steps until the ball lies on the paddle's row
ACTIONS = ("left", "stay", "right")
BALL, PADDLE, GROUND = (255, 200, 60), (70, 150, 255), (20, 20, 28)

State = Mapping[str, np.ndarray]


class Catch(ArrayWorld):
    """The ball falls one square a step and lands after 13; +1 when it is caught, -1 when not, and the episode ends.

    `size` is a multiple of 16 pixels, `reward` what a catch is worth in the place of 1.
    """

    def __init__(self, n: int, size: int = 16, fps: int = 10, reward: float = 1.0) -> None:
        _squares(size)
        self.reward = reward
        actions = ActionSpace((categorical("move", ACTIONS),))
        super().__init__("catch", n, (size, size), actions, fps, FALL, spaces.Discrete(len(ACTIONS)))
        self._now = {name: np.zeros(n, np.int64) for name in ("row", "column", "paddle")}

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in np.flatnonzero(mask):
            start = numpy_rng(int(self.seeds[row]), "catch").integers(0, COLUMNS, 2)
            self._now["column"][row], self._now["paddle"][row] = start
        self._now["row"][mask] = 0

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        moved = np.clip(self._now["paddle"] + actions - 1, 0, COLUMNS - 1)
        self._now["paddle"] = np.where(live, moved, self._now["paddle"])
        self._now["row"] = self._now["row"] + live
        landed = self._now["row"] == FALL
        caught = landed & (self._now["column"] == self._now["paddle"])
        return np.where(caught, self.reward, -self.reward) * landed, landed, caught

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return render(self._now, self.size[0])

    def expert(self) -> Int64[np.ndarray, "n"]:
        """Returns a move towards the ball's column, or "stay" under it."""
        return np.asarray(1 + np.sign(self._now["column"] - self._now["paddle"]))


def render(state: State, size: int = GRID) -> UInt8[np.ndarray, "n h w 3"]:
    """Draws states: "row" 0..13 and "column" 0..4 of the ball, "paddle" 0..4."""
    squares = np.arange(GRID)
    down = squares - state["row"][:, None]
    across = squares - 3 * state["column"][:, None]
    under = squares - 3 * state["paddle"][:, None]
    ball = ((down >= 0) & (down < 2))[:, :, None] & ((across >= 1) & (across < 3))[:, None]
    paddle = (squares == GRID - 1)[:, None] & ((under >= 0) & (under < 4))[:, None]
    small = np.where(ball[..., None], BALL, np.where(paddle[..., None], PADDLE, GROUND)).astype(np.uint8)
    return small.repeat(_squares(size), 1).repeat(size // GRID, 2)


def read(frames: UInt8[np.ndarray, "n h w 3"]) -> dict[str, Any]:
    """Reads states off pictures, also blurred ones: "row", "column" and "paddle" where they fit best, and "seen", false
    where no ball is bright enough to be one (less than half of its red)."""
    pixels = _squares(frames.shape[1])
    squares = frames.astype(np.float32).reshape(len(frames), GRID, pixels, GRID, pixels, 3).mean((2, 4))
    tall = squares[:, : FALL + 1, :, 0] + squares[:, 1 : FALL + 2, :, 0]
    left = 3 * np.arange(COLUMNS) + 1
    fits = ((tall[:, :, left] + tall[:, :, left + 1]) / 4).reshape(len(frames), -1)  # red of each place for a ball
    best = fits.argmax(1)
    blue = squares[:, -1, :, 2] - squares[:, -1, :, 0]
    paddle = sum(blue[:, left + i] for i in range(-1, 3)).argmax(1)
    bright = (BALL[0] + GROUND[0]) / 2
    return {"row": best // COLUMNS, "column": best % COLUMNS, "paddle": paddle, "seen": fits.max(1) > bright}


def _squares(size: int) -> int:
    """Returns the pixels of a square's side."""
    if size % GRID or size < GRID:
        raise UnusableInput(f"catch needs a size that is a multiple of {GRID}, such as 16, 32 or 64; got {size}")
    return size // GRID
