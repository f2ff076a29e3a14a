"""Procgen: its sixteen games through procgen-mirror 0.10.7, one level a seed.

Reset makes level `seed` of an unlimited set in a small environment of its own and moves the exact state into the row,
so any seed can be played in any row, and held-out levels are other seeds. Procgen starts the next level in the very
step that ends one and never shows the last frame. For maze it is drawn from the exact state; elsewhere the frame
before is repeated and the row is reported as `unseen`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64, UInt8

from retrodict.envs import procgen_maze as maze
from retrodict.envs.world import World
from retrodict.errors import MissingPackage, UnknownName, UnusableInput
from retrodict.rng import numpy_rng
from retrodict.spaces import ActionSpace, categorical

ACTIONS = (
    "left-down", "left", "left-up", "down", "stay", "up", "right-down", "right", "right-up",
    "key-d", "key-a", "key-w", "key-s", "key-q", "key-e",
)  # fmt: skip
_KEYS = (4, 9, 10, 11, 12, 13, 14)  # stay, and keys that these games do not use
# Measured by branching exact states under all actions: never told apart by one step. On coinrun's busier levels 0 and
# 1, 3 and 4, 6 and 7 do differ in 4 % of states. Games that were not measured have no groups.
GROUPS = {
    "maze": ((0, 1, 2), _KEYS, (6, 7, 8)),
    "coinrun": ((0, 1), (3, *_KEYS), (6, 7)),
    "bigfish": (_KEYS,),
}
LIMITS = {"maze": 100, "coinrun": 250, "bigfish": 400}  # agent steps an episode; 500 elsewhere
_STATE_BYTES = 2**20
_RIGHT, _RIGHT_JUMP = ACTIONS.index("right"), ACTIONS.index("right-up")
_STAY = ACTIONS.index("stay")
_COINRUN_JUMPS = 0.6  # share of jumps with the best blind return measured, 7.03


class Procgen(World):
    """A Procgen game at 64 x 64; `mode` is "easy" or "hard". Seeds are level numbers.

    Raises:
        MissingPackage: procgen-mirror is not installed.
        UnknownName: no such game or mode.
    """

    def __init__(
        self, n: int, game: str = "maze", mode: str = "easy", limit: int | None = None, fps: int = 15, threads: int = 0
    ) -> None:
        self._make, games = _load()
        if game not in games:
            raise UnknownName("Procgen game", game, games)
        if mode not in ("easy", "hard"):
            raise UnknownName("Procgen mode", mode, ("easy", "hard"))
        groups = [[ACTIONS[i] for i in group] for group in GROUPS.get(game, ())]
        actions = ActionSpace((categorical("key", ACTIONS, groups),))
        limit = LIMITS.get(game, 500) if limit is None else limit
        super().__init__(f"procgen:{game}", n, (64, 64), actions, fps, limit, spaces.Discrete(len(ACTIONS)))
        self.game = game
        self._options = {"env_name": game, "distribution_mode": mode, "num_levels": 1, "rand_seed": 0}
        self._env = self._make(num=n, start_level=0, num_threads=threads, **self._options)
        self._buffer = self._env._ffi.new(f"char[{_STATE_BYTES}]")
        self._pictures = np.zeros((n, 64, 64, 3), np.uint8)
        self._mazes: list[maze.Maze | None] = [None] * n

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in map(int, np.flatnonzero(mask)):
            level = self._make(num=1, start_level=int(self.seeds[row]), num_threads=0, **self._options)
            (exact,) = level.get_state()
            level.close()
            self._put(row, exact)
            if self.game == "maze":
                self._mazes[row] = maze.Maze(exact)
        self._show(mask)

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        self._env.act(np.where(live, actions, _STAY).astype(np.int32))
        rewards, _, over = self._env.observe()
        success = over & np.array([bool(known["prev_level_complete"]) for known in self._env.get_info()])
        self._unseen = over.copy()
        for row in map(int, np.flatnonzero(live)):
            playing = self._mazes[row]
            if playing is not None:
                playing.press(int(actions[row]))
                if success[row]:
                    self._put(row, playing.final())
                    self._unseen[row] = False
        self._show(live & ~self._unseen)
        return rewards.astype(float), over, success

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return self._pictures.copy()

    @property
    def has_expert(self) -> bool:
        """True where `expert` answers."""
        return self.game in ("maze", "coinrun")

    def expert(self) -> Int64[np.ndarray, "n"]:
        """Returns, for maze, a step of a shortest path from the exact state; for coinrun the best blind mixture."""
        if self.game == "coinrun":
            jumps = [numpy_rng(int(s), "coinrun", int(t)).random() for s, t in zip(self.seeds, self.steps, strict=True)]
            return np.where(np.array(jumps) < _COINRUN_JUMPS, _RIGHT_JUMP, _RIGHT)
        if self.game != "maze":
            return super().expert()
        moves = np.full(self.num_envs, _STAY)
        for row in map(int, np.flatnonzero(~self.done)):
            playing = self._mazes[row]
            assert playing is not None  # every started row has one
            moves[row] = playing.advice(maze.agent(self._exact(row)))
        return moves

    def state(self) -> dict[str, Any]:
        """Returns the exact state of every row, as Procgen's own bytes."""
        exact = [self._exact(row) for row in range(self.num_envs)]
        return self._clock() | {"games": exact, "pictures": self._pictures.copy()}

    def restore(self, state: dict[str, Any]) -> UInt8[np.ndarray, "n h w 3"]:
        """Puts every row back into a state that `state` returned, and returns its frames."""
        if "games" not in state or len(state["games"]) != self.num_envs:
            raise UnusableInput(f"this state is not one of {self.num_envs} rows of {self.name}")
        self._set_clock(state)
        for row, exact in enumerate(state["games"]):
            self._put(row, exact)
            if self.game == "maze" and not self.done[row]:
                self._mazes[row] = maze.Maze(exact)
        self._pictures = state["pictures"].copy()
        return self._frames()

    def close_extras(self, **_: Any) -> None:
        """Frees the simulator."""
        self._env.close()

    def _show(self, rows: Bool[np.ndarray, "n"]) -> None:
        self._pictures[rows] = self._env.observe()[1]["rgb"][rows]

    def _put(self, row: int, exact: bytes) -> None:
        self._env.call_c_func("set_state", row, exact, len(exact))

    def _exact(self, row: int) -> bytes:
        length = self._env.call_c_func("get_state", row, self._buffer, _STATE_BYTES)
        return bytes(self._env._ffi.buffer(self._buffer, length))


def install_procgen() -> list[list[str]]:
    """Returns the commands that install Procgen.

    Its metadata asks for numpy below 2, which it does not need, so pip must not follow it.
    """
    pip = [sys.executable, "-m", "pip", "install"]
    return [
        [*pip, "--no-deps", "procgen-mirror==0.10.7", "gym3==0.3.3"],
        [*pip, "cffi", "filelock", "imageio", "imageio-ffmpeg", "glfw", "moderngl"],
    ]


def _load() -> tuple[Any, list[str]]:
    """Imports Procgen, with a stand-in for the one name that it takes from the abandoned `gym`."""
    names = ("gym", "gym.envs", "gym.envs.registration")
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = ModuleType(name)
    sys.modules[names[-1]].__dict__.setdefault("register", lambda **_: None)
    try:
        from procgen.env import ENV_NAMES, ProcgenGym3Env
    except ImportError as error:
        raise MissingPackage("procgen-mirror", "Procgen", "retrodict doctor --install procgen") from error
    finally:
        for name in absent:
            del sys.modules[name]
    return ProcgenGym3Env, list(ENV_NAMES)
