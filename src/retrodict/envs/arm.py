"""Arm: a robot hand over a table, seen by two cameras at right angles, moved by relative motions and a gripper.

A motion of 1 is 2 cm a step. In `reach` the closed hand has to stay low over the red disc; in `pick` the blue cube has
to be set down on it. Levels are seeds: places, table texture and hues; a texture changes what is seen, never what
happens. With a latency of k, an action shows its effect k steps later than in the next frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Float32, UInt8

from retrodict.envs.arm_scene import CAMERAS, CUBE, FINGERS, HAND, RATE, SIDE, SUBSTEPS, TEXTURES, scene
from retrodict.envs.world import World, joined_names, refuse_other
from retrodict.errors import UnknownName, UnusableInput
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, Segment, continuous

STRIDE = 0.02  # metres that a motion of 1 goes in one step
LIMITS = {"reach": 60, "pick": 120}
HOLD = 3  # steps for which the goal has to hold
NEAR, LOW, SET = 0.025, 0.06, 0.03  # metres: from the disc's middle; height of a low hand; the cube's from the disc
_OPEN, _SHUT = 0.03, 0.005  # metres a finger slides from the middle: open; less is closed
_SPREAD, _APART = 0.14, 0.09  # metres: places lie in a square of twice the first, disc and cube this far apart

Array = Float[np.ndarray, "n"]


class Arm(World):
    """The arm scene; `task` is "reach" or "pick", `cameras` one of "front" and "side" or both joined by "+".

    `textures` is one of TEXTURES or several joined by "+", of which each level draws one. `latency` counts control
    steps. Motions beyond 1 go as far as 1, as motors do.
    """

    def __init__(
        self, n: int, task: str = "reach", cameras: str = "front+side", textures: str = "checker+noise+speckle",
        latency: int = 0, limit: int | None = None,
    ) -> None:  # fmt: skip
        if task not in LIMITS:
            raise UnknownName("task of the arm", task, LIMITS)
        if latency < 0:
            raise UnusableInput(f"latency counts control steps, 0 or more; got {latency}")
        self.kinds, self.seen_by = joined_names("texture", textures, TEXTURES), joined_names("camera", cameras, CAMERAS)
        self.task, self.latency, self._scene = task, latency, scene()
        move = continuous("move", ("x", "y", "z"), unit="2 cm", relative=True)
        layout = ActionSpace((move, Segment("gripper", "binary", ("closed",))))
        native = spaces.Box(np.array([-1, -1, -1, 0], np.float32), np.ones(4, np.float32))
        names = [f"observation.images.{name}" for name in self.seen_by]
        super().__init__("arm", n, (SIDE, SIDE), layout, RATE, limit or LIMITS[task], native, names)
        self._rows = [self._scene.data() for _ in range(n)]
        self._looks = [self._scene.look(("plain",), 0)] * n
        self._waiting = np.zeros((n, latency, 4), np.float32)  # actions that have not been carried out
        self._held = np.zeros(n, np.int64)  # steps for which the goal has held

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in map(int, np.flatnonzero(mask)):
            rng, data = numpy_rng(int(self.seeds[row]), "arm"), self._rows[row]
            hand, disc, cube = rng.uniform(-_SPREAD, _SPREAD, (3, 2))
            while np.linalg.norm(disc - cube) < _APART:
                disc, cube = rng.uniform(-_SPREAD, _SPREAD, (2, 2))
            self._scene.mj.mj_resetData(self._scene.model, data)
            data.qpos[CUBE] = [*cube, 0.02, 1, 0, 0, 0]
            data.qpos[HAND] = [*hand, rng.uniform(0.09, 0.2)]
            data.qpos[FINGERS] = _OPEN
            data.mocap_pos[0] = [*disc, 0.002]
            self._scene.mj.mj_forward(self._scene.model, data)
            self._looks[row] = self._scene.look(self.kinds, int(self.seeds[row]))
            self._waiting[row], self._held[row] = 0, 0

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        queue = np.concatenate([self._waiting, actions[:, None]], 1)
        self._waiting = np.where(live[:, None, None], queue[:, 1:], self._waiting)
        for row in map(int, np.flatnonzero(live)):
            data, due = self._rows[row], queue[row, 0]
            data.ctrl[:3] = np.clip(due[:3], -1, 1) * STRIDE * RATE
            data.ctrl[3:] = 0.0 if due[3] >= 0.5 else _OPEN
            self._scene.mj.mj_step(self._scene.model, data, SUBSTEPS)
        self._held = np.where(live, np.where(self._reached(), self._held + 1, 0), self._held)
        success = self._held >= HOLD
        return success.astype(float), success, success

    def _frames(self) -> UInt8[np.ndarray, "n h w c"]:
        draw, cameras = self._scene.draw, self.seen_by
        return np.stack([draw(data, look, cameras) for data, look in zip(self._rows, self._looks, strict=True)])

    def places(self) -> dict[str, Float[np.ndarray, "n k"]]:
        """Returns where things are, in metres: "hand", "disc" and "cube" (x, y, z), "fingers" (from the middle)."""
        parts = {"hand": HAND, "cube": slice(0, 3), "fingers": FINGERS}
        found = {name: np.stack([data.qpos[part] for data in self._rows]) for name, part in parts.items()}
        return found | {"disc": np.stack([data.mocap_pos[0] for data in self._rows])}

    def _reached(self) -> Bool[np.ndarray, "n"]:
        at = self.places()
        if self.task == "reach":
            shut = (at["fingers"] < _SHUT).all(1)
            return shut & (at["hand"][:, 2] < LOW) & (_flat(at["hand"], at["disc"]) < NEAR)
        open_ = (at["fingers"] > 0.8 * _OPEN).all(1)
        return open_ & (at["cube"][:, 2] < 0.025) & (_flat(at["cube"], at["disc"]) < SET)

    def expert(self) -> Float32[np.ndarray, "n 4"]:
        """Returns what a script does in the present states, counting in the motions that are still to come."""
        at = self.places()
        coming = STRIDE * np.clip(self._waiting[..., :3], -1, 1).sum(1)
        at["cube"] = at["cube"] + coming * _grasped(at)[:, None]
        at["hand"] = at["hand"] + coming
        aim, closed = (_reach if self.task == "reach" else _pick)(at)
        move = np.clip((aim - at["hand"]) / STRIDE, -1, 1)
        return np.concatenate([move, closed[:, None]], 1).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Returns the exact state of every row: MuJoCo's own numbers, and what waits to be carried out."""
        mj, model = self._scene.mj, self._scene.model
        exact = np.zeros((self.num_envs, mj.mj_stateSize(model, mj.mjtState.mjSTATE_INTEGRATION)))
        for row, data in zip(exact, self._rows, strict=True):
            mj.mj_getState(model, data, row, mj.mjtState.mjSTATE_INTEGRATION)
        return self._clock() | {"bodies": exact, "waiting": self._waiting.copy(), "held": self._held.copy()}

    def restore(self, state: Mapping[str, Any]) -> UInt8[np.ndarray, "n h w c"]:
        """Puts every row back into a state that `state` returned, and returns its frames."""
        refuse_other(state, self.state())
        self._set_clock(state)
        mj, self._waiting, self._held = self._scene.mj, state["waiting"].copy(), state["held"].copy()
        for row, data in enumerate(self._rows):
            mj.mj_setState(self._scene.model, data, state["bodies"][row], mj.mjtState.mjSTATE_INTEGRATION)
            self._looks[row] = self._scene.look(self.kinds, int(self.seeds[row]))
        return self._frames()


Places = Mapping[str, Float[np.ndarray, "n k"]]


def _reach(at: Places) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
    """Flies over to the disc, sinks where it is near, and closes on the way."""
    far = _flat(at["hand"], at["disc"])
    return _point(at["disc"], np.where(far < 0.03, 0.045, 0.1)), far < 0.08


def _pick(at: Places) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
    """Opens over the cube, sinks, closes, lifts, carries, sets down, opens and leaves; whatever happens in between."""
    hand, cube, disc = at["hand"], at["cube"], at["disc"]
    beside, away = _flat(hand, cube), _flat(cube, disc)
    within, grasped = _within(at), _grasped(at)
    home = (away < 0.02) & (cube[:, 2] < 0.024)
    raised, high = cube[:, 2] > 0.06, hand[:, 2] > 0.09
    over = _point(cube, np.where(beside < 0.01, 0.035, 0.12))  # to the cube, and down
    over[:, :2] = np.where((high | (beside < 0.02))[:, None], over[:, :2], hand[:, :2])  # first up
    carry = _point(disc, np.where(away < 0.015, 0.034, 0.12))
    carry[:, :2] = np.where((raised | (away < 0.02))[:, None], carry[:, :2], hand[:, :2])
    aim = np.where(grasped[:, None], carry, np.where(within[:, None], hand, over))
    aim = np.where(home[:, None], _point(hand, np.full(len(hand), 0.14)), aim)
    return aim, within & ~home


def _within(at: Places) -> Bool[np.ndarray, "n"]:
    """True where the cube is between the fingers."""
    return (_flat(at["hand"], at["cube"]) < 0.012) & (np.abs(at["hand"][:, 2] - at["cube"][:, 2] - 0.015) < 0.015)


def _grasped(at: Places) -> Bool[np.ndarray, "n"]:
    return _within(at) & (at["fingers"] < 0.8 * _OPEN).all(1)


def _flat(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Array:
    """Distance on the table."""
    return np.asarray(np.linalg.norm(a[:, :2] - b[:, :2], axis=1))


def _point(where: Float[np.ndarray, "n 3"], height: Array) -> Float[np.ndarray, "n 3"]:
    return np.concatenate([where[:, :2], height[:, None]], 1)
