"""Sprites: a red agent walks to a green goal on a 9 x 9 board, perhaps among blue distractors and under textures.

The board's borders clip: a move into a border leaves the frame unchanged and looks like "stay", which is the honest
ambiguity that confidence has to report. Levels are seeds, and a texture changes what is seen, never what happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64, UInt8

from retrodict.envs.world import ArrayWorld, joined_names
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, categorical

GRID = 9  # cells a side
TEXTURES = ("plain", "noise", "checker", "stripes")
ACTIONS = ("stay", "up", "down", "left", "right")
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])  # (row, column) of each action
RED, GREEN, BLUE = (220, 40, 40), (40, 200, 60), (60, 90, 230)
_GROUND = (26, 26, 30)  # plain
_DRIFT = 24  # largest change of a sprite's colour between textured levels, per channel

State = Mapping[str, np.ndarray]


class Sprites(ArrayWorld):
    """The sprite world; `textures` is one of TEXTURES or several joined by "+", of which each level draws one."""

    def __init__(
        self, n: int, size: int = 36, distractors: int = 0, textures: str = "plain", limit: int = 30, fps: int = 10
    ) -> None:
        _pixels(size)
        self.textures, self.kinds = textures, joined_names("texture", textures, TEXTURES)
        if distractors < 0:
            raise UnusableInput(f"distractors must be 0 or more; got {distractors}")
        actions = ActionSpace((categorical("move", ACTIONS),))
        super().__init__("sprites", n, (size, size), actions, fps, limit, spaces.Discrete(len(ACTIONS)))
        self._now = {
            "agent": np.zeros((n, 2), np.int64),
            "goal": np.zeros((n, 2), np.int64),
            "distractors": np.zeros((n, distractors, 2), np.int64),
            "velocity": np.zeros((n, distractors, 2), np.int64),
            "ties": np.zeros((n, limit)),  # the expert's coin for each step of the episode
        }
        self._grounds, self._colours = np.zeros((n, size, size, 3), np.uint8), np.zeros((n, 3, 3), np.uint8)

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        now = self._now
        for row in np.flatnonzero(mask):
            rng = numpy_rng(int(self.seeds[row]), "sprites")
            start, goal = rng.choice(GRID * GRID, 2, replace=False)
            now["agent"][row], now["goal"][row] = divmod(start, GRID), divmod(goal, GRID)
            now["distractors"][row] = rng.integers(0, GRID, now["distractors"][row].shape)
            drift = rng.integers(0, 8, len(now["velocity"][row]))  # one of the eight directions: none stands still
            now["velocity"][row] = np.stack(np.divmod(drift + (drift >= 4), 3), -1) - 1
            self._grounds[row], self._colours[row] = _look(self.kinds, int(self.seeds[row]), self.size[0])
            now["ties"][row] = numpy_rng(int(self.seeds[row]), "sprites/expert").random(self.limit)

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        now = self._now
        moved = np.clip(now["agent"] + MOVES[actions], 0, GRID - 1)
        now["agent"] = np.where(live[:, None], moved, now["agent"])
        ahead = now["distractors"] + now["velocity"]
        velocity = np.where((ahead < 0) | (ahead >= GRID), -now["velocity"], now["velocity"])  # bounce
        now["velocity"] = np.where(live[:, None, None], velocity, now["velocity"])
        now["distractors"] = np.where(live[:, None, None], now["distractors"] + velocity, now["distractors"])
        reached = (now["agent"] == now["goal"]).all(1)
        return reached.astype(float), reached, reached

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return _paint(self._now, self._grounds.copy(), self._colours)

    def expert(self) -> Int64[np.ndarray, "n"]:
        """Returns a step of a shortest path to the goal, its axis drawn in proportion to the distance along it."""
        gap = self._now["goal"] - self._now["agent"]
        far = np.abs(gap)
        coin = self._now["ties"][np.arange(self.num_envs), np.minimum(self.steps, self.limit - 1)]
        vertical = coin * far.sum(1) < far[:, 0]
        move = np.where(vertical, np.where(gap[:, 0] < 0, 1, 2), np.where(gap[:, 1] < 0, 3, 4))
        return np.where(far.sum(1) == 0, 0, move)

    def state(self) -> dict[str, np.ndarray]:
        """Returns the exact state: cells (row, column) of all sprites, and what `restore` needs besides."""
        return super().state() | {"texture": self.seeds.copy()}

    def restore(self, state: State) -> UInt8[np.ndarray, "n h w 3"]:
        """Puts every row back into a state that `state` returned, and returns its frames."""
        super().restore(state)
        self._grounds, self._colours = _looks(self.seeds, self.kinds, self.size[0])
        return self._frames()


def render(state: State, textures: str = "plain", size: int = 36) -> UInt8[np.ndarray, "n h w 3"]:
    """Draws states ("agent", "goal", "distractors", "texture") of any world or moment under any texture.

    The same states under two textures differ in looks alone, which is how agreement of labels is measured.
    """
    _pixels(size)
    return _paint(state, *_looks(state["texture"], joined_names("texture", textures, TEXTURES), size))


def track(frames: UInt8[np.ndarray, "n h w 3"]) -> Int64[np.ndarray, "n 2"]:
    """Returns the cell (row, column) of the agent, read off plain frames alone: the one whose mean colour is most its.

    Exact on this world's frames. On generated ones it is the nearest colour, also where no agent is left.
    """
    pixels = _pixels(frames.shape[1])
    cells = frames.reshape(len(frames), GRID, pixels, GRID, pixels, 3).mean((2, 4))
    far = ((cells - np.array(RED)) ** 2).sum(-1).reshape(len(frames), -1)
    return np.stack(np.divmod(far.argmin(1), GRID), 1).astype(np.int64)


def _paint(
    state: State, frames: UInt8[np.ndarray, "n h w 3"], colours: UInt8[np.ndarray, "n 3 3"]
) -> UInt8[np.ndarray, "n h w 3"]:
    """Paints the sprites over the grounds, in place; the agent comes last, so nothing hides it."""
    pixels = frames.shape[1] // GRID
    rows = np.arange(len(frames))
    cells = frames.reshape(len(frames), GRID, pixels, GRID, pixels, 3)
    layers = [(state["distractors"][:, i], 2) for i in range(state["distractors"].shape[1])]
    for where, kind in [*layers, (state["goal"], 1), (state["agent"], 0)]:
        cells[rows, where[:, 0], :, where[:, 1]] = colours[:, kind, None, None]
    return frames


def _looks(
    seeds: Int64[np.ndarray, "n"], kinds: tuple[str, ...], size: int
) -> tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n 3 3"]]:
    looks = [_look(kinds, int(seed), size) for seed in seeds]
    return np.stack([ground for ground, _ in looks]), np.stack([colours for _, colours in looks])


@lru_cache(maxsize=512)
def _look(kinds: tuple[str, ...], seed: int, size: int) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "3 3"]]:
    """Ground and the colours of agent, goal and distractors in one level."""
    rng = numpy_rng(seed, "sprites/texture")
    kind = kinds[int(rng.integers(len(kinds)))]
    sprites = np.array([RED, GREEN, BLUE])
    if kind == "plain":
        return np.full((size, size, 3), _GROUND, np.uint8), sprites.astype(np.uint8)
    sprites = np.clip(sprites + rng.integers(-_DRIFT, _DRIFT + 1, (3, 3)), 0, 255)
    return _ground(kind, rng, size), sprites.astype(np.uint8)


def _ground(kind: str, rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "h w 3"]:
    # Grey plus a faint tint: saturated grounds would hide the sprites, which is another task.
    first, second = (rng.integers(15, 60) + rng.integers(-8, 9, 3), rng.integers(70, 115) + rng.integers(-8, 9, 3))
    y, x = np.mgrid[:size, :size]
    if kind == "noise":
        share = rng.random((size, size))
    elif kind == "checker":
        cell = size // GRID
        share = ((y // cell + x // cell) % 2).astype(float)
    else:
        slope, width = rng.integers(-1, 2), int(rng.integers(2, 6))
        share = (((y + slope * x) // width) % 2).astype(float)
    return (first + share[..., None] * (second - first)).astype(np.uint8)


def _pixels(size: int) -> int:
    if size % GRID or size < GRID:
        raise UnusableInput(f"sprites needs a size that is a multiple of {GRID}, such as 36, 45, 54 or 63; got {size}")
    return size // GRID
