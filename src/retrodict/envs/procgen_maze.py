"""Procgen's maze from its exact state: shortest paths, and the last frame that Procgen itself never shows."""

from __future__ import annotations

import struct
from collections import deque

import numpy as np
from jaxtyping import Int64

from retrodict.errors import UnusableInput

WALL, FREE, CHEESE = 51, 100, 2
_LEFT, _DOWN, _STAY, _UP, _RIGHT = 1, 3, 4, 5, 7  # action numbers
_MOVES = {_LEFT: (-1, 0), _RIGHT: (1, 0), _DOWN: (0, -1), _UP: (0, 1)}
_GOES_LEFT, _GOES_RIGHT = (0, 1, 2), (6, 7, 8)
# The player in a serialised state: x, y, vx, vy, then these radii, type, picture, theme and layer; nothing else in a
# maze has radius 0.5 and type 0. Its mirrored flag is the sixteenth field.
_PLAYER = struct.pack("<ff4i", 0.5, 0.5, 0, 0, 0, 1)
_MIRRORED = 15 * 4
_TAIL = 3 * 4  # after the grid come the maze's size, the world's size and an end mark


def grid(state: bytes) -> tuple[Int64[np.ndarray, "w h"], int]:
    """Returns the cells, indexed [x, y] with y upwards, and their byte offset in the state.

    Raises:
        UnusableInput: the bytes are not a maze's state as procgen-mirror 0.10.7 writes it.
    """
    (side,) = struct.unpack("<i", state[-8:-4])
    start = len(state) - _TAIL - side * side * 4
    if side < 3 or start < 12 or struct.unpack("<3i", state[start - 12 : start]) != (side, side, side * side):
        raise UnusableInput("this is not a maze's state as procgen-mirror 0.10.7 writes it")
    cells = np.frombuffer(state, "<i4", side * side, start).reshape(side, side)
    return cells.T.astype(np.int64), start


def agent(state: bytes) -> tuple[int, int]:
    """Returns the player's cell (x, y)."""
    x, y = struct.unpack_from("<ff", state, _player(state))
    return int(x), int(y)


def moved(state: bytes, cell: tuple[int, int], mirrored: bool) -> bytes:
    """Returns the state with the player in another cell, which it leaves empty."""
    out = bytearray(state)
    at = _player(state)
    struct.pack_into("<ff", out, at, cell[0] + 0.5, cell[1] + 0.5)
    struct.pack_into("<i", out, at + _MIRRORED, int(mirrored))
    cells, start = grid(state)
    struct.pack_into("<i", out, start + 4 * (cell[1] * len(cells) + cell[0]), FREE)
    return bytes(out)


def _player(state: bytes) -> int:
    at = state.find(_PLAYER)
    if at < 16 or state.find(_PLAYER, at + 1) >= 0:
        raise UnusableInput("found no single player in this state; expected a maze of procgen-mirror 0.10.7")
    return at - 16


class Maze:
    """What is known of one running level: its way to the cheese, and where the mouse looks."""

    def __init__(self, state: bytes) -> None:
        self.first = state
        cells, _ = grid(state)
        self.cheese = tuple(int(i) for i in np.argwhere(cells == CHEESE)[0])
        self.away = distances(cells, (self.cheese[0], self.cheese[1]))
        self.mirrored = bool(struct.unpack_from("<i", state, _player(state) + _MIRRORED)[0])

    def press(self, action: int) -> None:
        """Notes an action: the mouse turns with every sideways key, also against a wall."""
        if action in _GOES_LEFT + _GOES_RIGHT:
            self.mirrored = action in _GOES_RIGHT

    def advice(self, cell: tuple[int, int]) -> int:
        """Returns the action that brings the player nearer to the cheese."""
        near = {action: self.away[cell[0] + dx, cell[1] + dy] for action, (dx, dy) in _MOVES.items()}
        best = min(near, key=lambda action: near[action])
        return best if near[best] < self.away[cell] else _STAY

    def final(self) -> bytes:
        """Returns the state in which the player has just eaten the cheese."""
        return moved(self.first, (self.cheese[0], self.cheese[1]), self.mirrored)


def distances(cells: Int64[np.ndarray, "w h"], goal: tuple[int, int]) -> Int64[np.ndarray, "w h"]:
    """Returns the steps from each cell to the goal; walls and cut-off cells are farther than any path.

    One column and row more than the board has, so that what lies beyond any border (also at -1) is far as well.
    """
    far = cells.size
    away = np.full(tuple(side + 1 for side in cells.shape), far)
    away[goal] = 0
    queue = deque([goal])
    while queue:
        x, y = queue.popleft()
        for dx, dy in _MOVES.values():
            i, j = x + dx, y + dy
            inside = 0 <= i < cells.shape[0] and 0 <= j < cells.shape[1]
            if inside and cells[i, j] != WALL and away[i, j] == far:
                away[i, j] = away[x, y] + 1
                queue.append((i, j))
    return away
