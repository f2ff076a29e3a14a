"""Pendulum: a rod that a weak motor has to swing up and hold, told in numbers and drawn.

Rules, rewards and starts are those of Gymnasium's Pendulum-v1; here many swing at once, and any moment can be restored.
Random torques return about -1,230 in an episode of 200 steps, and so does doing nothing. Levels are seeds.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Float32, UInt8

from retrodict.envs.world import ArrayWorld
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, continuous

TORQUE, SPEED, STEP, GRAVITY = 2.0, 8.0, 0.05, 10.0  # N m, rad/s, s, m/s²; mass 1 kg, length 1 m
FPS, LIMIT = 20, 200
ROD, GROUND = (255, 200, 60), (20, 20, 28)


class Pendulum(ArrayWorld):
    """One torque a step; it costs angle² + speed² / 10 + torque² / 1000, and ends after 200 steps. To pass
    within 0.1 rad of upright is a success.

    `proprio` is cosine and sine of the angle from upright, and the speed. One picture does not show the speed.
    """

    proprio = ("cos", "sin", "speed")

    def __init__(self, n: int, size: int = 16) -> None:
        if size < 8:
            raise UnusableInput(f"pendulum needs pictures of 8 pixels or more; got {size}")
        torque = continuous("torque", ("joint",), -TORQUE, TORQUE, unit="N m", center=(0.0,), scale=(TORQUE,))
        super().__init__(
            "pendulum",
            n,
            (size, size),
            ActionSpace((torque,)),
            FPS,
            LIMIT,
            spaces.Box(-TORQUE, TORQUE, (1,), np.float32),
        )
        self._now = {"angle": np.zeros(n), "speed": np.zeros(n)}

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in np.flatnonzero(mask):
            angle, speed = numpy_rng(int(self.seeds[row]), "pendulum").uniform([-np.pi, -1.0], [np.pi, 1.0])
            self._now["angle"][row], self._now["speed"][row] = angle, speed

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        torque = np.clip(actions[:, 0].astype(float), -TORQUE, TORQUE)  # a motor gives no more than it can
        angle, speed = self._now["angle"], self._now["speed"]
        cost = _upright(angle) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
        faster = np.clip(speed + (1.5 * GRAVITY * np.sin(angle) + 3.0 * torque) * STEP, -SPEED, SPEED)
        self._now = {
            "angle": np.where(live, angle + faster * STEP, angle), "speed": np.where(live, faster, speed),
        }  # fmt: skip
        return -cost, np.zeros(self.num_envs, bool), np.abs(_upright(self._now["angle"])) < 0.1

    def sensed(self) -> Float32[np.ndarray, "n s"]:
        """Returns cosine, sine and speed."""
        angle = self._now["angle"]
        return np.stack([np.cos(angle), np.sin(angle), self._now["speed"]], 1).astype(np.float32)

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        side = np.linspace(-1.3, 1.3, self.size[0])
        angle = self._now["angle"][:, None, None]
        along = side * -np.sin(angle) - side[:, None] * np.cos(angle)  # of a point's place, up to the rod's end
        along = np.clip(along, 0.0, 1.0)
        away = np.hypot(side + along * np.sin(angle), side[:, None] + along * np.cos(angle))
        share = np.clip(1.5 - away * self.size[0] / 2.6, 0.0, 1.0)[..., None]
        return np.asarray((share * np.array(ROD) + (1 - share) * np.array(GROUND)).round().astype(np.uint8))

    def expert(self) -> Float32[np.ndarray, "n 1"]:
        """Returns the torque that brings the energy to that of standing upright, and holds it there."""
        angle, speed = _upright(self._now["angle"]), self._now["speed"]
        energy = speed**2 / 2 + 1.5 * GRAVITY * (np.cos(angle) - 1)
        pump = TORQUE * np.sign(-energy) * np.where(speed == 0, 1.0, np.sign(speed))
        hold = -(9.0 * angle + 2.5 * speed)
        near = (np.abs(angle) < 0.35) & (np.abs(speed) < 3.0)
        return np.clip(np.where(near, hold, pump), -TORQUE, TORQUE).astype(np.float32)[:, None]


def _upright(angle: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The angle from upright, -π to π."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
