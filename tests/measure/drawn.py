"""A hand-made world over plain sprite frames, and a judge of them: what is right is known exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.envs.sprites import ACTIONS, GRID, MOVES, RED, track
from retrodict.errors import NoFrames
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution, categorical

SPACE = ActionSpace((categorical("move", ACTIONS),))
VIEW = View(1, 0, size=(36, 36))
PAIR = View(2, 0, size=(36, 36))
_GROUND = torch.tensor([26, 26, 30], dtype=torch.uint8)


def cells(frames: Tensor) -> np.ndarray:
    return track(frames.permute(0, 2, 3, 1).numpy())


class Drawn:
    """Moves the agent as told ("obeys"), never ("deaf"), or also through walls, to the other side ("ghost").

    It ends an episode never, pays 1 for going up, and forgets the goal where the agent has stood.
    """

    def __init__(
        self, manner: str = "obeys", space: ActionSpace = SPACE, order: tuple[int, ...] = (0, 1, 2, 3, 4)
    ) -> None:
        self.manner, self.space, self.view = manner, space, VIEW
        self.order = np.array(order)  # which move each value is
        self.asked = 0

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.frames is not None
        return {"frames": past.frames[:, -1]}

    def imagine(self, state: Any, actions: Tensor, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        self.asked += len(actions)
        frames = [state["frames"]]
        for step in range(steps):
            frames.append(self.moved(frames[-1], self.order[actions[:, step].argmax(1).numpy()]))
        paid = (actions.argmax(-1) == 1).float()
        clip = Clip(frames=torch.stack(frames, 1), actions=actions, rewards=paid, ends=torch.zeros_like(paid))
        return clip, {"frames": frames[-1]}

    def moved(self, frames: Tensor, moves: np.ndarray) -> Tensor:
        old = cells(frames)
        new = old + MOVES[moves]
        new = {"obeys": new.clip(0, GRID - 1), "deaf": old, "ghost": new % GRID}[self.manner]
        grid = frames.clone().unflatten(2, (GRID, 4)).unflatten(4, (GRID, 4))  # n c y 4 x 4
        rows = torch.arange(len(frames))
        grid[rows, :, old[:, 0], :, old[:, 1]] = _GROUND.view(1, 3, 1, 1)
        grid[rows, :, new[:, 0], :, new[:, 1]] = torch.tensor(RED, dtype=torch.uint8).view(1, 3, 1, 1)
        return grid.flatten(4, 5).flatten(2, 3)

    def decode(self, clip: Clip) -> Clip:
        return clip

    def log_prob(self, clip: Clip) -> Tensor:
        raise NotImplementedError


class Blank(Drawn):
    """A world that imagines no frames."""

    def decode(self, clip: Clip) -> Clip:
        raise NoFrames("it imagines features only, which nothing turns into frames")


class Reader:
    """Reads the move off the agent's displacement; `order` is which move each value of its space is."""

    def __init__(self, space: ActionSpace = SPACE, order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> None:
        self.space, self.view, self.order = space, PAIR, np.array(order)

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        where = cells(clip.frames.flatten(0, 1)).reshape(clip.rows, clip.length, 2)
        far = np.abs(np.diff(where, axis=1)[:, :, None] - MOVES[self.order]).sum(-1)  # b t-1 k
        return Distribution.point(self.space, self.space.one_hot(torch.from_numpy(far.argmin(-1))))
