"""World: n copies of one game, seen as pixels, with named actions and often an expert.

A World is a Gymnasium vector environment without autoreset. An environment whose episode is over ignores further
steps (reward 0, still done, same frame) until `reset` with a mask starts it again. Levels are seeds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from retrodict.errors import UnknownName, UnusableInput
from retrodict.rng import key
from retrodict.spaces import ActionSpace, Segment, categorical

MAX_SEED = 2**31 - 1  # seeds travel as int32 in Clip.segment

CAMERA = "observation.image"  # of a world that has only one

Observed = tuple[UInt8[np.ndarray, "n h w c"], dict[str, Any]]
Stepped = tuple[
    UInt8[np.ndarray, "n h w c"],
    Float[np.ndarray, "n"],
    Bool[np.ndarray, "n"],
    Bool[np.ndarray, "n"],
    dict[str, Any],
]


class World(VectorEnv[Any, Any, Any], ABC):
    """n copies of one game, seen as pixels, with named actions and an expert.

    Each camera gives three channels; several stack on the channels of a frame, in the order of `cameras`. A subclass
    fills `_start`, `_advance` and `_frames`, which see all rows but must leave rows outside the mask alone.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}  # noqa: RUF012  as gymnasium declares it
    name: str
    actions: ActionSpace
    fps: int
    limit: int
    tells_success: bool = True  # False where the game never said whether an episode was a success
    proprio: tuple[str, ...] = ()  # names of the numbers that it tells beside its pictures

    def __init__(
        self,
        name: str,
        n: int,
        size: tuple[int, int],
        actions: ActionSpace,
        fps: int,
        limit: int,
        native: spaces.Space[Any],
        cameras: Sequence[str] = (CAMERA,),
    ) -> None:
        if n < 1 or limit < 1 or fps < 1:
            raise UnusableInput(
                f"world {name!r} needs n, limit and fps of 1 or more; got n={n}, limit={limit}, fps={fps}"
            )
        self.name, self.size, self.actions, self.fps, self.limit = name, size, actions, fps, limit
        self.num_envs, self.cameras = n, dict.fromkeys(cameras, (*size, 3))  # as a Schema has them
        self.single_observation_space = spaces.Box(0, 255, (*size, 3 * len(cameras)), np.uint8)
        self.observation_space = batch_space(self.single_observation_space, n)
        self.single_action_space = native
        self.action_space = batch_space(native, n)
        self.seeds: Int64[np.ndarray, "n"] = np.arange(n, dtype=np.int64)
        self.steps: Int64[np.ndarray, "n"] = np.zeros(n, np.int64)
        self._started = np.zeros(n, bool)
        self._terminated = np.zeros(n, bool)
        self._truncated = np.zeros(n, bool)
        self._success = np.zeros(n, bool)
        self._unseen = np.zeros(n, bool)  # rows whose simulator did not show the last step's outcome

    @abstractmethod
    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        """Makes level `self.seeds[i]` in every masked row."""

    @abstractmethod
    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        """Steps the live rows; returns rewards, terminated and success of this step."""

    @abstractmethod
    def _frames(self) -> UInt8[np.ndarray, "n h w c"]:
        """Draws the present states into an array that the caller may keep."""

    @property
    def done(self) -> Bool[np.ndarray, "n"]:
        """True where no episode is running: over, or never started."""
        return self._terminated | self._truncated | ~self._started

    def reset(self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None) -> Observed:
        """Starts the rows of `options["reset_mask"]` (all by default).

        An int seeds row i with seed + i, a list gives one seed a row (read in masked rows only), None goes on from
        each row's last seed.

        Raises:
            UnusableInput: an unknown option, a mask or a list of the wrong length, or a seed out of 0..2**31-1.
        """
        mask = self._mask(dict(options or {}))
        wanted = self._wanted(seed)
        if wanted[mask].min(initial=0) < 0 or wanted[mask].max(initial=0) > MAX_SEED:
            raise UnusableInput(f"seeds must lie in 0..{MAX_SEED}; got {wanted[mask].tolist()}")
        self.seeds = np.where(mask, wanted, self.seeds)
        self.steps[mask] = 0
        self._started |= mask
        for flag in (self._terminated, self._truncated, self._success):
            flag[mask] = False
        self._start(mask)
        return self._frames(), {"success": self._success.copy(), "seed": self.seeds.copy()}

    def step(self, actions: Any) -> Stepped:
        """Takes native actions, one a row; rows that are done ignore theirs.

        `infos["success"]` says which episodes have succeeded; `infos["unseen"]` in which rows the simulator did not
        show what the last step led to, so that the frame before it is repeated.

        Raises:
            UnusableInput: no row was ever reset; the actions have another shape than `action_space`, are not finite, or
                are none of the choices.
        """
        actions = np.asarray(actions)
        if not self._started.any():
            raise UnusableInput(f"{self.name} has not begun; reset it before its first step")
        if actions.shape != self.action_space.shape:
            raise UnusableInput(f"{self.name} takes actions of shape {self.action_space.shape}; got {actions.shape}")
        self._refuse_non_finite(actions)
        actions = self._chosen(actions)
        live = ~self.done
        rewards, terminated, success = self._advance(actions, live)
        self.steps += live
        self._terminated |= live & terminated
        self._truncated |= live & ~terminated & (self.steps >= self.limit)
        self._success |= live & success
        rewards = np.where(live, rewards, 0.0)
        infos = {"success": self._success.copy(), "unseen": live & self.done & self._unseen}
        return self._frames(), rewards, self._terminated.copy(), self._truncated.copy(), infos

    def sensed(self) -> Float32[np.ndarray, "n s"]:
        """Returns the numbers that `proprio` names, of the present states."""
        return np.zeros((self.num_envs, 0), np.float32)

    @property
    def has_expert(self) -> bool:
        """True where `expert` answers."""
        return type(self).expert is not World.expert

    def expert(self) -> np.ndarray:
        """Returns the scripted expert's native actions for the present states.

        Raises:
            UnusableInput: this world has no expert.
        """
        raise UnusableInput(f"{self.name} has no scripted expert; record it with random actions or a trained policy")

    def texts(self) -> tuple[str, ...]:
        """Returns the instruction of each row, "" where there is none."""
        return ("",) * self.num_envs

    def _refuse_non_finite(self, actions: np.ndarray) -> None:
        if actions.dtype.kind != "f" or len(actions) != self.num_envs:
            return
        bad = ~np.isfinite(actions).reshape(len(actions), -1).all(1) & ~self.done  # rows that are done ignore theirs
        if bad.any():
            row = int(bad.argmax())
            raise UnusableInput(
                f"{self.name} was given an action that is not finite, {actions[row].tolist()}, in row {row} at step "
                f"{int(self.steps[row])} of its level {int(self.seeds[row])}; look at the policy that chose it"
            )

    def _chosen(self, actions: np.ndarray) -> np.ndarray:
        """Refuses choices that there are not; rows that are done ignore theirs, which are made the first one."""
        space = self.single_action_space
        if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return actions
        low = np.asarray(space.start)
        high, done = low + (space.n if isinstance(space, spaces.Discrete) else space.nvec), self.done
        while done.ndim < actions.ndim:
            done = done[..., None]
        if actions.dtype.kind not in "iu" or (~done & ((actions < low) | (actions >= high))).any():
            raise UnusableInput(f"{self.name} takes actions {low}..{high - 1}; got {actions.tolist()}")
        return np.where(done, low, actions)

    def native(self, vectors: Float[Tensor, "n d"] | Float[np.ndarray, "n d"]) -> np.ndarray:
        """Turns action vectors into what `step` takes.

        Raises:
            UnusableInput: they have another width than `actions`, or are not finite in a row that is not done.
        """
        values = np.asarray(vectors)
        if values.ndim != 2 or values.shape[1] != self.actions.width:
            raise UnusableInput(f"{self.name} speaks actions of {self.actions.width} columns; got {values.shape}")
        self._refuse_non_finite(values)
        space = self.single_action_space
        if isinstance(space, spaces.Box):
            return values.reshape(-1, *space.shape).astype(space.dtype)
        if isinstance(space, spaces.MultiBinary):
            return (values >= 0.5).astype(np.int8).reshape(-1, *space.shape)
        picks = [values[:, columns].argmax(1) for _, columns, _ in self.actions.slices()]
        return picks[0] if isinstance(space, spaces.Discrete) else np.stack(picks, 1)

    def vectors(self, native: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Turns native actions into action vectors."""
        values = np.asarray(native)
        if isinstance(self.single_action_space, spaces.Box | spaces.MultiBinary):
            return values.reshape(len(values), -1).astype(np.float32)
        values = values.reshape(len(values), -1)
        widths = [segment.width for segment in self.actions.segments]
        return np.concatenate([np.eye(w, dtype=np.float32)[values[:, i]] for i, w in enumerate(widths)], 1)

    def _clock(self) -> dict[str, np.ndarray]:
        """Returns what every exact state holds besides the game's own."""
        flags = {"started": self._started, "terminated": self._terminated, "truncated": self._truncated}
        mine = {"seeds": self.seeds, "steps": self.steps, "success": self._success} | flags
        return {name: value.copy() for name, value in mine.items()}

    def _set_clock(self, state: Mapping[str, Any]) -> None:
        self.seeds, self.steps, self._success = (state[name].copy() for name in ("seeds", "steps", "success"))
        self._started, self._terminated = state["started"].copy(), state["terminated"].copy()
        self._truncated = state["truncated"].copy()

    def _mask(self, options: dict[str, Any]) -> Bool[np.ndarray, "n"]:
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if options:
            raise UnusableInput(f"{self.name} knows the reset option 'reset_mask' only; got {sorted(options)}")
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise UnusableInput(f"reset_mask must be {self.num_envs} booleans; got {mask.dtype} {mask.shape}")
        return mask

    def _wanted(self, seed: int | Sequence[int] | None) -> Int64[np.ndarray, "n"]:
        if seed is None:
            again = [key(int(old), "again") % (MAX_SEED + 1) for old in self.seeds]
            return np.where(self._started, again, self.seeds)
        if isinstance(seed, int | np.integer):
            return np.arange(self.num_envs, dtype=np.int64) + int(seed)
        if len(seed) != self.num_envs:
            raise UnusableInput(f"{self.name} has {self.num_envs} rows; got {len(seed)} seeds")
        return np.array([0 if s is None else int(s) for s in seed], dtype=np.int64)


class ArrayWorld(World):
    """A World whose exact state is arrays with one row for each copy, kept by name in `_now`."""

    _now: dict[str, np.ndarray]

    def state(self) -> dict[str, np.ndarray]:
        """Returns the exact state of every row: the game's own arrays, and what `restore` needs besides."""
        return {name: value.copy() for name, value in self._now.items()} | self._clock()

    def restore(self, state: Mapping[str, np.ndarray]) -> UInt8[np.ndarray, "n h w c"]:
        """Puts every row back into a state that `state` returned, and returns its frames.

        Raises:
            UnusableInput: the state lacks an array, or holds one of another shape.
        """
        refuse_other(state, self.state())
        self._set_clock(state)
        self._now = {name: state[name].copy() for name in self._now}
        return self._frames()


def refuse_other(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raises UnusableInput unless a state has all arrays of a world's own, in their shapes."""
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            raise UnusableInput(f"this state has no {name!r} of shape {value.shape}: it is another world's")


def joined_names(kind: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    """Splits the value of an option such as "noise+checker" into names, each of which must be known."""
    names = tuple(dict.fromkeys(given.split("+")))
    for name in names:
        if name not in known:
            raise UnknownName(kind, name, known)
    return names


def layout(space: spaces.Space[Any], names: Sequence[str] = ()) -> ActionSpace:
    """Returns the ActionSpace of a native space; `names` names the values, keys or axes.

    Raises:
        UnusableInput: the space is none of Discrete, MultiDiscrete, MultiBinary and bounded Box.
    """
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return ActionSpace((categorical("action", names or [str(i) for i in range(int(space.n))]),))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        parts = [categorical(f"action{i}", [str(j) for j in range(int(n))]) for i, n in enumerate(space.nvec)]
        return ActionSpace(tuple(parts))
    if isinstance(space, spaces.MultiBinary):
        keys = tuple(names) or tuple(str(i) for i in range(int(np.prod(space.shape))))
        return ActionSpace((Segment("keys", "binary", keys),))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and bool(space.is_bounded()):
        return ActionSpace((_axes(space, names),))
    raise UnusableInput(f"actions of type {space} are not supported; use Discrete, MultiDiscrete, MultiBinary or Box")


def native_space(actions: ActionSpace) -> spaces.Space[Any]:
    """Returns the native space of a layout, the way back from `layout`: a choice is Discrete, several MultiDiscrete,
    keys MultiBinary, numbers (perhaps with keys, as 0..1) a Box.

    Raises:
        UnusableInput: the layout mixes choices with other kinds, or holds text.
    """
    kinds = {segment.kind for segment in actions.segments}
    if kinds <= {"categorical", "code"}:
        sizes = [segment.width for segment in actions.segments]
        return spaces.Discrete(sizes[0]) if len(sizes) == 1 else spaces.MultiDiscrete(sizes)
    if kinds == {"binary"}:
        return spaces.MultiBinary(actions.width)
    if not kinds <= {"binary", "continuous", "vector"}:
        raise UnusableInput(f"actions of kinds {', '.join(sorted(kinds))} side by side have no native space")
    ends = np.concatenate([_ends(segment) for segment in actions.segments], 1).astype(np.float32)
    return spaces.Box(ends[0], ends[1])


def _ends(segment: Segment) -> Float[np.ndarray, "2 d"]:
    """Lowest and highest value of each column: center and scale say them where `layout` wrote them, for each axis."""
    if segment.kind == "binary":
        return np.repeat([[0.0], [1.0]], segment.width, 1)
    if segment.center and segment.scale:
        center, scale = np.array(segment.center), np.array(segment.scale)
        ends = np.stack([center - scale, center + scale])
        if np.allclose([ends.min(), ends.max()], [segment.low, segment.high]):
            return ends
    return np.repeat([[segment.low], [segment.high]], segment.width, 1)


def _axes(space: spaces.Box, names: Sequence[str]) -> Segment:
    low, high = space.low.reshape(-1).astype(float), space.high.reshape(-1).astype(float)
    axes = tuple(names) or tuple(str(i) for i in range(len(low)))
    center, scale = (low + high) / 2, (high - low) / 2
    return Segment(
        "action", "continuous", axes, low=float(low.min()), high=float(high.max()),
        center=tuple(center.tolist()), scale=tuple(scale.tolist()),
    )  # fmt: skip
