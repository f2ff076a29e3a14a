"""Dodge: shots fall, half of them aimed at where the player stands, and the player steps aside as long as it can.

+1 for every step that is survived, so a return is a life's length. Chance lives about a fifth of the limit (64 of 300
steps over 1,000 levels): `RATE` was set for that once, and stays. Levels are seeds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64, UInt8

from retrodict.envs.world import ArrayWorld
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, categorical

WINDOW, SIDE, STRIDE = 32, 4, 2  # pixels of a frame's side, of the player's and a shot's, and of one move
PLACES = (WINDOW - SIDE) // STRIDE + 1  # of player and shots, overlapping ones side by side
FALL = WINDOW // STRIDE  # steps from a shot's first frame until it is gone
NEAR = 3  # rows from the bottom, in moves, in which a shot touches the player
RATE, SPREAD = 0.05, 2  # shots a step; how many places beside the player an aimed one may fall
ACTIONS = ("left", "stay", "right")
SHOT, PLAYER, GROUND = (255, 170, 50), (80, 170, 255), (16, 16, 24)
NONE = -9  # place of a shot that is not there, near to nobody

State = Mapping[str, np.ndarray]


class Dodge(ArrayWorld):
    """The player moves by two pixels in a row of 15 places, and all shots fall as fast; an episode ends with a hit.

    To live until the limit is a success.
    """

    def __init__(self, n: int, limit: int = 300, fps: int = 10) -> None:
        actions = ActionSpace((categorical("move", ACTIONS),))
        super().__init__("dodge", n, (WINDOW, WINDOW), actions, fps, limit, spaces.Discrete(len(ACTIONS)))
        self._now = {
            "player": np.zeros(n, np.int64),
            "shots": np.full((n, FALL), NONE),  # place of the shot in each row, as one is fired a step at most
            "fate": np.zeros((n, limit, 3)),  # of each step, in 0..1: is there a shot, is it aimed, and where
        }

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in np.flatnonzero(mask):
            rng = numpy_rng(int(self.seeds[row]), "dodge")
            self._now["player"][row] = rng.integers(0, PLACES)
            self._now["fate"][row] = rng.random((self.limit, 3))
        self._now["shots"][mask] = NONE

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        player = np.clip(self._now["player"] + actions - 1, 0, PLACES - 1)
        fallen = np.concatenate([self._fired(player)[:, None], self._now["shots"][:, :-1]], 1)
        self._now["player"] = np.where(live, player, self._now["player"])
        self._now["shots"] = np.where(live[:, None], fallen, self._now["shots"])
        hit = np.asarray(touched(self._now["shots"][:, -NEAR:], self._now["player"][:, None]).any(1))
        return np.where(hit, 0.0, 1.0), hit, ~hit & (self.steps + 1 >= self.limit)

    def _fired(self, player: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        steps = np.minimum(self.steps, self.limit - 1)
        shot, aimed, where = self._now["fate"][np.arange(self.num_envs), steps].T
        beside = player + np.floor(where * (2 * SPREAD + 1)).astype(np.int64) - SPREAD
        place = np.where(aimed < 0.5, np.clip(beside, 0, PLACES - 1), np.floor(where * PLACES).astype(np.int64))
        return np.where(shot < RATE, place, NONE)

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return render(self._now)

    def expert(self) -> Int64[np.ndarray, "n"]:
        """Returns the first step of the longest life among the shots that are there; among equals, towards the
        middle."""
        places, shots = np.arange(PLACES), self._now["shots"]
        ahead = np.zeros((self.num_envs, PLACES))  # steps lived from each place on
        for step in reversed(range(1, FALL)):
            near = shots[:, max(0, FALL - NEAR - step) : FALL - step]
            hit = touched(near[:, None], places[None, :, None]).any(2)
            ahead = np.where(hit, 0.0, 1 + _moves(ahead).max(2))
        worth = ahead - 0.01 * abs(places - PLACES // 2)
        return np.asarray(_moves(worth)[np.arange(self.num_envs), self._now["player"]].argmax(1))


def touched(shots: Int64[np.ndarray, "*n"], player: Int64[np.ndarray, "*n"]) -> Bool[np.ndarray, "*n"]:
    """Which shots, at the player's height, overlap it."""
    return np.asarray(abs(shots - player) < SIDE // STRIDE)


def _moves(worth: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p 3"]:
    """What each place is worth after left, stay and right; the walls hold."""
    wide = np.pad(worth, ((0, 0), (1, 1)), "edge")
    return np.stack([wide[:, :-2], wide[:, 1:-1], wide[:, 2:]], 2)


def render(state: State) -> UInt8[np.ndarray, "n h w 3"]:
    """Draws states: "player" (n) at 0..14, "shots" (n 16) at 0..14 from the top row down, NONE where there is none."""
    at = np.arange(WINDOW)
    across = at - STRIDE * state["shots"][..., None]  # n r w
    lit = (across >= 0) & (across < SIDE)
    rows = np.arange(FALL)[:, None] * STRIDE
    tall = (at >= rows) & (at < rows + SIDE)  # r h
    shot = np.einsum("nrw,rh->nhw", lit.astype(np.uint8), tall.astype(np.uint8)) > 0
    under = at - STRIDE * state["player"][:, None]
    player = (at >= WINDOW - SIDE)[:, None] & ((under >= 0) & (under < SIDE))[:, None]
    return np.where(shot[..., None], SHOT, np.where(player[..., None], PLAYER, GROUND)).astype(np.uint8)
