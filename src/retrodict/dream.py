"""Dream: a learned world as a Gymnasium environment, so that whatever acts in worlds acts in dreams, unchanged.

A dream starts from recorded frames, which its seed chooses, and goes on by what the model imagines. States are trees,
so a dream branches at any moment.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from retrodict import tree
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache, resize
from retrodict.data.foreign import open_dataset
from retrodict.data.schema import Episodes
from retrodict.envs.catalog import make
from retrodict.envs.world import MAX_SEED, World, native_space
from retrodict.errors import Incompatible, NoFrames, UnusableInput
from retrodict.models.wordless import respoken, shared_columns, wordless
from retrodict.nn.device import device_of
from retrodict.rng import key, numpy_rng, torch_rng
from retrodict.roles import ForwardModel, State, System, remembered
from retrodict.run.checkpoint import load_system
from retrodict.run.collect import UNSEEN, Origin, recorded_in

_NOTHING = "this system has no forward model to dream with; train a recipe that returns one"
LIMIT = 100  # steps after which a dream is cut
RATE = 10  # steps per second of a model that fits any rate
BEGINNINGS = 64  # in which a dream begins where no starts are given

Source = ForwardModel | System
Starts = Clip | Steps


class Dream(World):
    """n dreams of one forward model side by side, each at its own pace, as a World.

    Observations are decoded frames; numbers where those are what the model sees; or features where it decodes nothing
    (then no policy that looks at frames can act here). Rewards and ends are those that the model imagines, 0 and never
    where it imagines none; an end comes with the probability that the model gives it. A model that draws is asked row
    by row, with noise addressed by the row's seed and step, so that a dream does not depend on its neighbours. One that
    takes words beside its actions is told none.

    `starts` are rows of recorded frames, of which the last is where the dream begins, or steps of a cache, which are
    shown to the model with as much before them as it remembers. The model must be in evaluation mode, as
    `retrodict.load` returns it, and on `device`.

    Raises:
        UnusableInput: the system has no forward model, there is nothing to start from, or its actions have no native
            space.
    """

    tells_success = False

    def __init__(self, source: Source, starts: Starts, n: int = 1, limit: int = LIMIT, device: str = "cpu") -> None:
        forward = source.decoded().forward if isinstance(source, System) else source
        if forward is None:
            raise UnusableInput(_NOTHING)
        forward, view = wordless(forward), forward.view
        self.forward, self.device = forward, device_of(str(device))
        self._starts = starts
        if isinstance(starts, Steps):
            around = starts.shown(view)
            self._starts = replace(around, before=max(around.before, remembered(forward)))
        if self._count < 1:
            raise UnusableInput("a dream needs at least one recorded frame to start from")
        told = starts.actions if isinstance(starts, Clip) and starts.steps else None
        if told is not None and told.shape[-1] != forward.space.width:
            raise Incompatible(
                f"the clip's actions have {told.shape[-1]} columns, this world's {forward.space.width}: "
                f"{', '.join(forward.space.columns[:8])}; give frames alone (clip.with_(actions=None, source=None))"
            )
        rate, native = round(view.rate) or RATE, native_space(forward.space)
        super().__init__("dream", n, view.size, forward.space, rate, limit, native, view.cameras)
        self.cameras = dict.fromkeys(view.cameras, (*view.size, view.channels // len(view.cameras)))
        self._states: list[State] = [None] * n
        self._texts, self._draws = [""] * n, False
        _, shown = self._begun(0)
        pixels = shown.dtype == np.uint8
        low, high = (0, 255) if pixels else (-np.inf, np.inf)
        self.single_observation_space = spaces.Box(low, high, shown.shape[1:], np.uint8 if pixels else np.float32)
        self.observation_space = batch_space(self.single_observation_space, n)
        self._shown = np.zeros((n, *shown.shape[1:]), shown.dtype)

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in map(int, np.flatnonzero(mask)):
            number = key(int(self.seeds[row]), "dream/start") % self._count
            self._states[row], shown = self._begun(number)
            self._shown[row] = shown[0]
            self._texts[row] = self._seen(number).text[0]  # type: ignore[index]

    @property
    def _count(self) -> int:
        return len(self._starts) if isinstance(self._starts, Steps) else self._starts.rows

    def _seen(self, number: int) -> Clip:
        """One row of what a dream starts from."""
        if isinstance(self._starts, Steps):
            clip = self._starts.batch(np.array([number])).cut(0, self._starts.target + 1)
            if shared_columns(self.forward.space, recorded := self._starts.cache.space) is None:
                clip = clip.with_(actions=None, source=None, confidence=None)
            elif clip.steps:
                clip = respoken(clip, recorded, self.forward.space)
        else:
            clip = self._starts.pick([number])
        return clip if clip.text is not None else clip.with_(text=("",))

    def _begun(self, number: int) -> tuple[State, np.ndarray]:
        """The model's state at a start, and how it sees it."""
        with torch.no_grad():
            state = self.forward.observe(self._seen(number).to(self.device))
            clip, state = self.forward.imagine(state, None, 0, torch_rng(0, "dream/begin", device=self.device))
        return state, self._look(clip)

    def _look(self, clip: Clip) -> Shaped[np.ndarray, "b *o"]:
        """The last frame of every row, or its numbers, or its features."""
        try:
            with torch.no_grad():
                clip = self.forward.decode(clip)
        except NoFrames:
            pass
        if clip.frames is not None:
            return clip.frames[:, -1].permute(0, 2, 3, 1).contiguous().cpu().numpy()
        seen = clip.features if clip.proprio is None else clip.proprio
        if seen is None:
            raise UnusableInput("this model imagines no frames, numbers or features, so there is nothing to see")
        return seen[:, -1].detach().float().cpu().numpy()

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        rewards, ended = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        if not live.any():
            return rewards, ended, np.zeros_like(ended)
        taken = torch.from_numpy(self.vectors(actions)).to(self.device)
        for rows, clip, state in self._imagined(live, taken):
            self._shown[rows] = self._look(clip)
            for i, row in enumerate(rows):
                self._states[row] = tree.pick(state, torch.tensor([i]))
            if clip.rewards is not None:
                rewards[rows] = clip.rewards[:, -1].cpu().numpy()
            if clip.ends is not None:
                coins = [numpy_rng(int(self.seeds[row]), "dream/end", int(self.steps[row])).random() for row in rows]
                ended[rows] = np.array(coins) < clip.ends[:, -1].cpu().numpy()
        return rewards, ended, np.zeros_like(ended)

    def _imagined(
        self, live: Bool[np.ndarray, "n"], taken: Float[Tensor, "n d"]
    ) -> Iterator[tuple[Int64[np.ndarray, "k"], Clip, State]]:
        """One step of the live rows: those whose states have one shape together, unless the model draws."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for row in map(int, np.flatnonzero(live)):
            shape = tuple((name, part.shape) for name, part in tree.flatten(self._states[row]).items())
            alike.setdefault(shape, []).append(row)
        for rows in alike.values():
            if len(rows) > 1 and not self._draws:
                noise = torch_rng(0, "dream/unused", device=self.device)
                unused = noise.get_state()
                result = self._asked(rows, taken, noise)
                if torch.equal(unused, noise.get_state()):
                    yield result
                    continue
                self._draws = True  # what was imagined with shared noise is thrown away
            for row in rows:
                address = (int(self.seeds[row]), "dream", int(self.steps[row]))
                yield self._asked([row], taken, torch_rng(*address, device=self.device))

    def _asked(
        self, rows: list[int], taken: Float[Tensor, "n d"], noise: torch.Generator
    ) -> tuple[Int64[np.ndarray, "k"], Clip, State]:
        joined = tree.concatenate([self._states[row] for row in rows])  # a copy, so the model may write into it
        with torch.no_grad():
            return np.array(rows), *self.forward.imagine(joined, taken[rows].unsqueeze(1), 1, noise)

    def _frames(self) -> Shaped[np.ndarray, "n *o"]:
        return self._shown.copy()

    def texts(self) -> tuple[str, ...]:
        """Returns the instruction that came with each row's start."""
        return tuple(self._texts)

    def state(self) -> dict[str, Any]:
        """Returns the state of every row: the model's trees, and what `restore` needs besides."""
        mine = {"states": list(self._states), "shown": self._shown.copy(), "texts": list(self._texts)}
        return mine | self._clock()

    def restore(self, state: Mapping[str, Any]) -> Shaped[np.ndarray, "n *o"]:
        """Puts every row back into a state that `state` returned, and returns its frames."""
        if "shown" not in state or state["shown"].shape != self._shown.shape:
            raise UnusableInput(f"this state is not one of {self.num_envs} dreams that look like these")
        self._set_clock(state)
        self._states, self._texts, self._shown = list(state["states"]), list(state["texts"]), state["shown"].copy()
        return self._frames()

    def branch(self) -> Dream:
        """Returns dreams that are at this moment now, and go their own way; they share the model."""
        twin = copy.copy(self)
        twin.action_space, twin.single_action_space = copy.deepcopy((self.action_space, self.single_action_space))
        twin.restore(self.state())
        return twin


class DreamEnv(gymnasium.Env[Any, Any]):
    """One dream as a Gymnasium environment; settings as `Dream` has them.

    `reset(seed=s)` starts the dream of seed s, the same as a row of `Dream` with that seed; without a seed the next one
    is drawn from the environment's own generator.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RATE}  # noqa: RUF012  as gymnasium declares it

    def __init__(
        self,
        source: Source,
        starts: Starts,
        limit: int = LIMIT,
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        self.dreams = Dream(source, starts, 1, limit, device)
        self.observation_space = self.dreams.single_observation_space
        self.action_space = self.dreams.single_action_space
        self.metadata = type(self).metadata | {"render_fps": self.dreams.fps}
        if render_mode not in (None, "rgb_array"):
            raise UnusableInput(f"a dream renders 'rgb_array' or nothing; got {render_mode!r}")
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts a dream; it has no options."""
        super().reset(seed=seed)
        level = int(self.np_random.integers(MAX_SEED)) if seed is None else seed
        shown, _ = self.dreams.reset(seed=level, options=options)
        return shown[0], {"seed": level}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes a native action."""
        shown, rewards, terminated, truncated, _ = self.dreams.step(np.asarray(action)[None])
        return shown[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """Returns the first camera of the frame that is seen now, h w 3, under render_mode "rgb_array"."""
        if self.render_mode is None:
            return None
        if self.observation_space.dtype != np.uint8:
            raise NoFrames("this model cannot decode its states to frames; there is no picture to render")
        picture = self.dreams.state()["shown"][0][..., :3]
        return picture if picture.shape[-1] == 3 else picture[..., :1].repeat(3, -1)

    def branch(self) -> DreamEnv:
        """Returns a dream that is at this moment now, and goes its own way."""
        twin = copy.copy(self)
        twin.dreams, twin._np_random = self.dreams.branch(), copy.deepcopy(self._np_random)
        twin.action_space = twin.dreams.single_action_space
        return twin

    def state(self) -> dict[str, Any]:
        """Returns the dream's state, as `Dream.state`."""
        return self.dreams.state()

    def restore(self, state: Mapping[str, Any]) -> Any:
        """Puts the dream back into a state that `state` returned, and returns what is seen there."""
        return self.dreams.restore(state)[0]


def dream(
    source: Source | Path | str, starts: Starts | Episodes | Path | str | None = None, n: int | None = None,
    limit: int = LIMIT, device: str = "cpu", render_mode: str | None = None,
) -> DreamEnv | Dream:  # fmt: skip
    """Makes a learned world an environment: that of a run's folder, of a system such as `retrodict.load` returns, or a
    forward model. It is one, which may render as `rgb_array`, or with `n` that many as a vector environment.

    It starts from any frame of a dataset or its folder, or, where none is given, as levels do that no recording has, of
    the world in which the run's data was recorded.

    Raises:
        UnusableInput: as `Dream`; or nothing says where it starts. Incompatible: that world has other cameras.
    """
    made: Source = load_system(source, device) if isinstance(source, str | Path) else source
    if starts is None:
        starts = beginnings(made)
    elif not isinstance(starts, Clip | Steps):
        starts = open_dataset(Path(starts)) if isinstance(starts, str | Path) else starts
        if not hasattr(starts, "read"):
            raise UnusableInput(f"a dream starts from a dataset, steps of one, or a clip; got {type(starts).__name__}")
        forward = made.forward if isinstance(made, System) else made
        starts = Steps.all(Cache.build(starts, None if forward is None else forward.view.size))
    if n is None:
        return DreamEnv(made, starts, limit, device, render_mode)
    if render_mode is not None:
        raise UnusableInput("several dreams are seen as they are observed; leave out render_mode, or n")
    return Dream(made, starts, n, limit, device)


def beginnings(source: Source) -> Clip:
    """First frames of levels that no recording has, of the world in which a system's data was recorded.

    Raises:
        UnusableInput: the system does not say in which. Incompatible: it has other cameras than the system sees.
    """
    origin = recorded_in(source) if isinstance(source, System) else Origin()
    forward = source.forward if isinstance(source, System) else source
    if forward is None:
        raise UnusableInput(_NOTHING)
    if origin.env is None:
        raise UnusableInput(
            "this world does not say where its data was recorded, so that nothing says where a dream starts; give "
            "starts: a dataset, steps of one, or a clip"
        )
    world, view = make(origin.env, BEGINNINGS, **origin.options), forward.view
    try:
        frames, _ = world.reset(seed=[UNSEEN + level for level in range(BEGINNINGS)])
        if frames.shape[-1] != view.channels:
            raise Incompatible(f"{origin.env} shows {frames.shape[-1]} channels; the world sees {view.channels}")
        shown = resize(torch.from_numpy(frames).permute(0, 3, 1, 2), view.size).unsqueeze(1)
        told = torch.from_numpy(world.sensed()).unsqueeze(1) if world.proprio else None
        return Clip(frames=shown.contiguous(), proprio=told, text=tuple(world.texts()))
    finally:
        world.close()
