"""Scroll: a plane of coloured tiles and marks, larger than the window through which it is seen.

Look away and come back: a world model that remembers shows what was there before. Nothing is won or lost. Levels are
seeds. With `paint` a sixth action leaves a mark on the middle tile, which has to be there still after a look away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64, UInt8

from retrodict.envs.world import ArrayWorld
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, categorical

WINDOW, TILE = 32, 8  # pixels a side of what is seen, and of a tile
STRIDES = (4, 8)
ACTIONS = ("left", "right", "up", "down", "stay")
MOVES = np.array([(0, -1), (0, 1), (-1, 0), (1, 0), (0, 0), (0, 0)])  # (row, column) of each action; the last paints
OPPOSITE = (1, 0, 3, 2)  # of each move
FARTHEST = 12  # steps that the recorded player goes away before it comes back
GROUNDS = np.array([
    (52, 60, 92), (92, 62, 52), (54, 88, 62), (96, 88, 52), (84, 56, 92), (50, 90, 96), (104, 104, 110), (36, 38, 44),
], np.uint8)  # fmt: skip
INKS = np.array([(250, 240, 120), (245, 110, 90), (120, 235, 150), (130, 190, 255), (255, 60, 230)], np.uint8)
PAINT = 28  # the mark that an action leaves: the last shape in the last ink
_BARE = 0.45  # share of tiles without a mark

State = Mapping[str, np.ndarray]


class Scroll(ArrayWorld):
    """The window moves by `stride` pixels over `screens` ("rows x columns" of windows), and stops at the border.

    With a stride of 8 every frame shows whole tiles, which suits models of patches.
    """

    tells_success = False

    def __init__(
        self, n: int, screens: str = "3x3", stride: int = 4, paint: bool = False, limit: int = 100, fps: int = 10
    ) -> None:
        if not re.fullmatch(r"[1-9][0-9]?x[1-9][0-9]?", screens):
            raise UnusableInput(f"screens must be rows x columns, such as 3x3 or 1x4; got {screens!r}")
        if stride not in STRIDES:
            raise UnusableInput(f"stride must be one of {STRIDES} pixels; got {stride}")
        rows, columns = (int(number) * (WINDOW // TILE) for number in screens.split("x"))
        names = (*ACTIONS, "paint") if paint else ACTIONS
        actions = ActionSpace((categorical("move", names),))
        super().__init__("scroll", n, (WINDOW, WINDOW), actions, fps, limit, spaces.Discrete(len(names)))
        self.stride, self.paints = stride, paint
        self._most = np.array([rows, columns]) * TILE - WINDOW  # farthest corner of the window
        self._now = {
            "grounds": np.zeros((n, rows, columns), np.int64),
            "marks": np.zeros((n, rows, columns), np.int64),
            "corner": np.zeros((n, 2), np.int64),
            "plan": np.zeros((n, limit), np.int64),
        }

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in map(int, np.flatnonzero(mask)):
            rng, shape = numpy_rng(int(self.seeds[row]), "scroll"), self._now["marks"].shape[1:]
            marks = rng.integers(1, PAINT, shape)  # never the one that is painted
            self._now["grounds"][row] = rng.integers(0, len(GROUNDS), shape)
            self._now["marks"][row] = np.where(rng.random(shape) < _BARE, 0, marks)
            self._now["corner"][row] = rng.integers(0, self._most // self.stride + 1) * self.stride
            self._now["plan"][row] = self._planned(rng, self._now["corner"][row])

    def _planned(self, rng: np.random.Generator, corner: Int64[np.ndarray, "2"]) -> Int64[np.ndarray, "limit"]:
        """Draws whole looks away and back, and a few steps to somewhere else between them."""
        plan: list[int] = []
        while len(plan) < self.limit:
            away, on = rng.integers(0, 4, 2)
            far, few, coin = rng.integers(1, FARTHEST + 1), rng.integers(0, 7), rng.random()
            far = min(far, _room(corner, self._most, self.stride)[away])
            if self.paints and coin < 0.5:
                plan.append(len(ACTIONS))
            plan += [int(away)] * far + [OPPOSITE[away]] * far
            few = min(few, _room(corner, self._most, self.stride)[on])
            corner = corner + MOVES[on] * few * self.stride
            plan += [int(on)] * few + [ACTIONS.index("stay")] * int(coin > 0.8 or far + few == 0)
        return np.array(plan[: self.limit])

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        moved = np.clip(self._now["corner"] + MOVES[actions] * self.stride, 0, self._most)
        self._now["corner"] = np.where(live[:, None], moved, self._now["corner"])
        painting = np.flatnonzero(live & (actions == len(ACTIONS)))
        middle = (self._now["corner"][painting] + WINDOW // 2) // TILE
        self._now["marks"][painting, middle[:, 0], middle[:, 1]] = PAINT
        never = np.zeros(self.num_envs, bool)
        return np.zeros(self.num_envs), never, never

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return render(self._now)

    def room(self) -> Int64[np.ndarray, "n 4"]:
        """Returns how many steps each row can still go left, right, up and down."""
        return _room(self._now["corner"], self._most, self.stride)

    def expert(self) -> Int64[np.ndarray, "n"]:
        """Returns the level's own walk: 1 to 12 steps away and back, again and again, and a few steps in between."""
        steps = np.minimum(self.steps, self.limit - 1)
        return np.asarray(self._now["plan"][np.arange(self.num_envs), steps])


def _room(corner: Int64[np.ndarray, "*n 2"], most: Int64[np.ndarray, "2"], stride: int) -> Int64[np.ndarray, "*n 4"]:
    ends = np.stack([corner[..., 1], (most - corner)[..., 1], corner[..., 0], (most - corner)[..., 0]], -1)
    return np.asarray(ends // stride)


def render(state: State) -> UInt8[np.ndarray, "n h w 3"]:
    """Draws states: "grounds" and "marks" of all tiles (n rows columns), "corner" of the window (n 2: row, column)."""
    pixels = state["corner"][:, :, None] + np.arange(WINDOW)  # n 2 w
    down, across = pixels[:, 0, :, None], pixels[:, 1, None, :]
    row = np.arange(len(pixels))[:, None, None]
    mark = state["marks"][row, down // TILE, across // TILE]
    inked = _SHAPES[(mark - 1) // (len(INKS) - 1), down % TILE, across % TILE] & (mark > 0)
    ink = np.where(mark == PAINT, len(INKS) - 1, (mark - 1) % (len(INKS) - 1))
    ground = GROUNDS[state["grounds"][row, down // TILE, across // TILE]]
    return np.where(inked[..., None], INKS[ink], ground)


def _shapes() -> Bool[np.ndarray, "shape 8 8"]:
    """Disc, cross, square, triangle, bars, diamond, ring: each inside of its tile."""
    y, x = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
    inside, far = np.maximum(abs(y), abs(x)) < 3, np.hypot(y, x)
    shapes = [
        far < 3, (abs(x) < 1) | (abs(y) < 1), np.maximum(abs(y), abs(x)) > 1, abs(x) < (y + 3.5) / 2,
        y % 2 == 0.5, abs(x) + abs(y) < 3.5, (far > 1.8) & (far < 3.6),
    ]  # fmt: skip
    return np.stack([shape & inside for shape in shapes])


_SHAPES = _shapes()
