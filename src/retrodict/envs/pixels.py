"""Pixels: any Gymnasium id that renders "rgb_array", seen as small square frames."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Float32, UInt8

from retrodict.envs.world import World, layout
from retrodict.errors import UnknownName, UnusableInput


class Pixels(World):
    """n copies of a Gymnasium environment, its pictures averaged down to `size` x `size`. It has no expert.

    `limit` defaults to the environment's own; success is `info["success"]` or `info["is_success"]` where it is given,
    and otherwise false, with `tells_success` false as well. With `numbers` the environment's observation is told beside
    the pictures, as `proprio`; without `pictures`, which takes `numbers`, nothing is drawn and frames stay black, as a
    machine without a display wants it. An action lasts `repeat` of its steps, whose rewards are added up. Further
    options go to `gymnasium.make`.

    Raises:
        UnknownName: no such id.
        UnusableInput: it renders no pictures, its actions have no layout, its observations are no numbers, or neither
            pictures nor numbers are asked for.
    """

    told_by: tuple[str, ...] = ("success", "is_success")  # what in `info` says that an episode succeeded

    def __init__(
        self, n: int, id: str, size: int = 64, limit: int | None = None, fps: int | None = None, numbers: bool = False,
        pictures: bool = True, repeat: int = 1, **options: Any,
    ) -> None:  # fmt: skip
        if id not in gymnasium.registry:
            raise UnknownName("Gymnasium id", id, list(gymnasium.registry))
        if size < 1 or repeat < 1:
            raise UnusableInput(f"size and repeat must be 1 or more; got {size} and {repeat}")
        if not (pictures or numbers):
            raise UnusableInput(f"{id} shows nothing with pictures=false; ask for its observations with numbers=true")
        if taken := {"render_mode", "disable_env_checker"} & set(options):
            raise UnusableInput(f"{id}: {sorted(taken)} cannot be set, since frames have to be rendered as arrays")
        mode = "rgb_array" if pictures else None
        try:
            self._envs = [gymnasium.make(id, render_mode=mode, disable_env_checker=True, **options) for _ in range(n)]
            self._envs[0].reset(seed=0)
            if pictures:
                self._envs[0].render()  # says at once what is missing to draw it
        except (gymnasium.error.Error, ImportError) as error:  # of a simulator that is old, or not installed
            raise UnusableInput(f"{id} cannot be made with render_mode={mode!r}: {error}") from error
        first = self._envs[0]
        if limit is None:
            spec = first.spec
            whole = spec.max_episode_steps if spec is not None and spec.max_episode_steps else 1000
            limit = -(-whole // repeat)
        fps = max(1, round((first.metadata.get("render_fps") or 15) / repeat)) if fps is None else fps
        native = first.action_space
        super().__init__(id, n, (size, size), layout(native), fps, limit, native)
        self._drawn, self._pictures = pictures, np.zeros((n, size, size, 3), np.uint8)
        self.repeat, self.proprio = repeat, _names(id, first.observation_space) if numbers else ()
        self._told = np.zeros((n, len(self.proprio)), np.float32)
        self.tells_success = False  # until it does

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in map(int, np.flatnonzero(mask)):
            self._hear(row, self._envs[row].reset(seed=int(self.seeds[row]))[0])
            self._draw(row)

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        rewards, over = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        success = np.zeros(self.num_envs, bool)
        for row in map(int, np.flatnonzero(live)):
            for _ in range(self.repeat):
                seen, reward, over[row], cut, told = self._envs[row].step(actions[row])
                rewards[row] += reward
                answers = [bool(told[name]) for name in self.told_by if name in told]
                self.tells_success |= bool(answers)
                success[row] |= bool(answers) and answers[0]
                if over[row] or cut:
                    break
            self._truncated[row] = cut and not over[row]  # its own limit may be shorter than ours
            self._hear(row, seen)
            self._draw(row)
        return rewards, over, success

    def sensed(self) -> Float32[np.ndarray, "n s"]:
        """Returns the observations as numbers, if they were asked for."""
        return self._told.copy()

    def _hear(self, row: int, seen: Any) -> None:
        if self.proprio:
            self._told[row] = np.asarray(spaces.flatten(self._envs[row].observation_space, seen), np.float32)

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return self._pictures.copy()

    def close_extras(self, **_: Any) -> None:
        """Closes every copy."""
        for env in self._envs:
            env.close()

    def _picture(self, row: int) -> Any:
        return self._envs[row].render()

    def _draw(self, row: int) -> None:
        if not self._drawn:
            return
        picture = self._picture(row)
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
            met = getattr(picture, "shape", type(picture).__name__)
            raise UnusableInput(f"{self.name} renders {met}; expected pictures of h x w x 3")
        self._pictures[row] = shrunk(picture, self.size)


def _names(id: str, space: spaces.Space[Any]) -> tuple[str, ...]:
    """Names of the numbers of an observation: NAME.NUMBER of a part that has a name."""
    if isinstance(space, spaces.Dict):
        return tuple(f"{name}.{number}" for name, part in space.items() for number in _names(id, part))
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UnusableInput(f"{id} observes {space}, which are no numbers; leave out numbers=true")
    return tuple(map(str, range(math.prod(space.shape))))


def shrunk(picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resizes by area: each new pixel is the exact mean of what it covers."""
    rows, columns = _shares(picture.shape[0], size[0]), _shares(picture.shape[1], size[1])
    mean = np.einsum("ab,bcx,dc->adx", rows, picture.astype(np.float32), columns, optimize=True)
    result: UInt8[np.ndarray, "h2 w2 3"] = np.rint(mean).astype(np.uint8)
    return result


def _shares(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Returns how much of each new pixel every old one fills."""
    edges = np.linspace(0, old, new + 1)
    left, right = np.maximum.outer(edges[:-1], np.arange(old)), np.minimum.outer(edges[1:], np.arange(1, old + 1))
    shares = np.clip(right - left, 0, None)
    result: Float[np.ndarray, "new old"] = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return result
