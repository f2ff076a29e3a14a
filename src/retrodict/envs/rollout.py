"""Rollouts: whole episodes of a world under an actor, in the order of their seeds.

What an actor does in an episode depends on its own seed, the episode's seed and the step alone, never on how many
copies of the world run side by side. To that end an actor is shown the episode's seed as `segment` and the step as
`times`; rows without an episode have segment -1, and what is answered for them is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.envs.world import MAX_SEED, World
from retrodict.errors import Incompatible, UnusableInput
from retrodict.rng import numpy_rng, torch_rng
from retrodict.roles import Memory, Policy, in_words
from retrodict.spaces import Distribution

Actor = Callable[[Clip], Tensor]  # the last frame of every row ("b 1 c h w"; segment, times, text) -> actions "b d"


@dataclass(slots=True)
class _Episode:
    """What has been seen of one running episode."""

    number: int
    text: str
    frames: list[UInt8[np.ndarray, "h w c"]] = field(default_factory=list)
    proprio: list[Float32[np.ndarray, "s"]] = field(default_factory=list)
    actions: list[Tensor] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    unseen: bool = False  # the simulator did not show the frame after the last step

    def clip(self, fps: int, terminated: bool) -> Clip:
        steps = len(self.actions)
        ends = torch.zeros(1, steps)
        ends[0, -1] = float(terminated)
        actions, source = torch.stack(self.actions), torch.full((1, steps), RECORDED, dtype=torch.uint8)
        if self.unseen:  # an action must not be learnt from a frame that it did not lead to
            actions[-1], source[0, -1] = 0, MISSING
        seen = _seen(np.stack(self.frames)) if self.frames else {}
        return Clip(
            **{name: value.contiguous().unsqueeze(0) for name, value in seen.items()},
            proprio=torch.from_numpy(np.stack(self.proprio)).unsqueeze(0) if self.proprio else None,
            actions=actions.unsqueeze(0),
            source=source,
            rewards=torch.tensor([self.rewards], dtype=torch.float32),
            ends=ends,
            segment=torch.zeros(1, steps + 1, dtype=torch.int32),
            times=torch.arange(steps + 1, dtype=torch.float64).unsqueeze(0) / fps,
            text=(self.text,),
        )


def rollout(
    world: World, seeds: Sequence[int], actor: Actor, keep_frames: bool = True
) -> Iterator[tuple[Clip, bool, float]]:
    """Yields (clip of one row, success, return) of one finished episode per seed, in the order of seeds.

    A row that finishes is given the next seed at once. Without `keep_frames` the clips have no frames.

    Raises:
        UnusableInput: a seed is out of 0..2**31-1 or occurs twice (it would be the same episode again).
    """
    if len(set(seeds)) != len(seeds):
        raise UnusableInput("seeds must be distinct: the same seed is the same episode")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise UnusableInput(f"seeds must lie in 0..{MAX_SEED}; got {seed}")
    rows: list[_Episode | None] = [None] * world.num_envs
    finished: dict[int, tuple[Clip, bool, float]] = {}
    waiting = given = 0
    frames = np.zeros((world.num_envs, *(world.single_observation_space.shape or ())), world.observation_space.dtype)
    while waiting < len(seeds):
        given, frames = _refill(world, seeds, rows, given, frames, keep_frames)
        actions = actor(_shown(world, rows, frames)).to("cpu", torch.float32)
        frames, rewards, terminated, truncated, infos = world.step(world.native(actions))
        proprio = world.sensed()
        for i, episode in enumerate(rows):
            if episode is None:
                continue
            episode.actions.append(actions[i].clone())
            episode.unseen = bool(infos["unseen"][i])
            episode.rewards.append(float(rewards[i]))
            if keep_frames:
                episode.frames.append(frames[i])
            if world.proprio:
                episode.proprio.append(proprio[i])
            if terminated[i] or truncated[i]:
                clip = episode.clip(world.fps, bool(terminated[i]))
                finished[episode.number] = (clip, bool(infos["success"][i]), float(sum(episode.rewards)))
                rows[i] = None
        while waiting in finished:
            yield finished.pop(waiting)
            waiting += 1


def _refill(
    world: World, seeds: Sequence[int], rows: list[_Episode | None], given: int, frames: np.ndarray, keep_frames: bool
) -> tuple[int, np.ndarray]:
    """Starts the next seeds in the rows that are free."""
    free = [i for i, row in enumerate(rows) if row is None][: len(seeds) - given]
    if not free:
        return given, frames
    mask = np.zeros(world.num_envs, bool)
    mask[free] = True
    wanted = [0] * world.num_envs
    for offset, i in enumerate(free):
        wanted[i] = seeds[given + offset]
    frames, _ = world.reset(seed=wanted, options={"reset_mask": mask})
    texts, proprio = world.texts(), world.sensed()
    for offset, i in enumerate(free):
        rows[i] = _Episode(
            given + offset, texts[i], [frames[i]] if keep_frames else [], [proprio[i]] if world.proprio else []
        )
    return given + len(free), frames


def _seen(observed: np.ndarray) -> dict[str, Tensor]:
    """What was observed as a part of a clip: frames, or what a dream without frames shows in their place, features."""
    values = torch.from_numpy(observed)
    return {"frames": values.permute(0, 3, 1, 2)} if values.dim() == 4 else {"features": values.flatten(1)}


def _shown(world: World, rows: list[_Episode | None], frames: np.ndarray) -> Clip:
    running = np.array([row is not None for row in rows])
    return Clip(
        **{name: value.unsqueeze(1) for name, value in _seen(frames).items()},
        proprio=torch.from_numpy(world.sensed()).unsqueeze(1) if world.proprio else None,
        segment=torch.from_numpy(np.where(running, world.seeds, -1).astype(np.int32)).unsqueeze(1),
        times=torch.from_numpy(world.steps / world.fps).unsqueeze(1),
        text=world.texts(),
    )


def score(world: World, seeds: Sequence[int], actor: Actor) -> dict[str, list[Any]]:
    """Returns success (bool), returns and lengths (steps) of one episode per seed."""
    success, returns, lengths = [], [], []
    for clip, solved, total in rollout(world, seeds, actor, keep_frames=False):
        success.append(solved)
        returns.append(total)
        lengths.append(clip.steps)
    return {"success": success, "returns": returns, "lengths": lengths}


class _Dice:
    """Uniform numbers addressed by (seed, episode, step)."""

    def __init__(self, world: World, width: int, *address: int | str) -> None:
        self.fps, self.shape, self.address = world.fps, (world.limit, width), address
        self.tables: dict[int, Float[np.ndarray, "limit k"]] = {}

    def __call__(self, clip: Clip) -> Float[np.ndarray, "b k"]:
        episodes, steps = _where(clip, self.fps)
        running = set(episodes.tolist())
        self.tables = {e: self.tables[e] if e in self.tables else self._table(e) for e in running}
        return np.stack([self.tables[e][min(s, self.shape[0] - 1)] for e, s in zip(episodes, steps, strict=True)])

    def _table(self, episode: int) -> Float[np.ndarray, "limit k"]:
        return numpy_rng(*self.address, episode).random(self.shape)


class _Held(_Dice):
    """Uniform numbers, each of which stays for 1 to `longest` steps."""

    def __init__(self, world: World, width: int, longest: int, *address: int | str) -> None:
        super().__init__(world, width, *address)
        self.longest = longest

    def _table(self, episode: int) -> Float[np.ndarray, "limit k"]:
        draws = numpy_rng(*self.address, "lengths", episode)
        lengths = draws.integers(1, self.longest + 1, self.shape[0])
        return super()._table(episode).repeat(lengths, 0)[: self.shape[0]]


class _Waves(_Dice):
    """Numbers in 0..1 that swing slowly: each is the sum of three sine waves of its own."""

    def __init__(self, world: World, period: int, seed: int) -> None:
        super().__init__(world, world.actions.width, "smooth", seed)
        self.period = period

    def _table(self, episode: int) -> Float[np.ndarray, "limit k"]:
        steps, width = self.shape
        draws = numpy_rng(*self.address, episode)
        turns = draws.uniform(0.4, 1.6, (3, 1, width)) * np.arange(steps)[:, None] / self.period
        waves = np.sin(2 * np.pi * (turns + draws.random((3, 1, width)))).sum(0)
        return np.asarray(np.clip(0.5 + waves / 4, 0, 1 - 1e-9))


def _where(clip: Clip, fps: int) -> tuple[Int64[np.ndarray, "b"], Int64[np.ndarray, "b"]]:
    """Returns the episode and the step of each row's last frame."""
    if clip.segment is None or clip.times is None:
        raise UnusableInput("an actor needs clips with segment (the episode's seed) and times; use rollout")
    return clip.segment[:, -1].numpy().astype(np.int64), np.rint(clip.times[:, -1].numpy() * fps).astype(np.int64)


def uniform(world: World, seed: int = 0) -> Actor:
    """Acts at random: every value as likely, every axis between its bounds."""
    dice = _Dice(world, 2 * world.actions.width, "uniform", seed)  # half of them serve `expert`

    def act(clip: Clip) -> Tensor:
        return torch.from_numpy(_uniform(world, dice(clip)))

    return act


def _uniform(world: World, numbers: Float[np.ndarray, "b k"]) -> Float[np.ndarray, "b d"]:
    parts = []
    for segment, columns, _ in world.actions.slices():
        part = numbers[:, columns]
        if segment.kind == "categorical":
            parts.append(np.eye(segment.width, dtype=np.float32)[(part[:, 0] * segment.width).astype(int)])
        elif segment.kind == "binary":
            parts.append((part < 0.5).astype(np.float32))
        elif segment.center:
            parts.append((np.array(segment.center) + (2 * part - 1) * np.array(segment.scale)).astype(np.float32))
        else:
            parts.append((segment.low + part * (segment.high - segment.low)).astype(np.float32))
    return np.concatenate(parts, 1)


def smooth(world: World, seed: int = 0, period: int = 25) -> Actor:
    """Acts at random and slowly, without looking: axes swing between their bounds about once in `period` steps, and a
    choice or a key stays for a while. Recordings of it show what an action does, and leave the expert's ways."""
    if period < 1:
        raise UnusableInput(f"period counts steps, 1 or more; got {period}")
    waves = _Waves(world, period, seed)
    return lambda clip: torch.from_numpy(_uniform(world, waves(clip)))


def expert(world: World, random: float = 0.0, seed: int = 0, held: int = 1) -> Actor:
    """Acts as the world's scripted expert, with this share of uniform actions mixed in, each held for 1 to `held`
    steps."""
    if not 0 <= random <= 1 or held < 1:
        raise UnusableInput(
            f"the share of random actions must lie in 0..1, and each is held for 1 or more; got {random}, {held}"
        )
    if not world.has_expert:
        world.expert()  # says so before anything is played or written
    width = world.actions.width + 1
    dice = _Dice(world, width, "expert", seed) if held == 1 else _Held(world, width, held, "expert", seed)

    def act(clip: Clip) -> Tensor:
        numbers = dice(clip)
        scripted = world.vectors(world.expert())
        chosen: Bool[np.ndarray, "b 1"] = numbers[:, -1:] < random
        return torch.from_numpy(np.where(chosen, _uniform(world, numbers), scripted))

    return act


def open_loop(world: World, plan: Tensor, seed: int = 0) -> Actor:
    """Acts without looking: `plan` is a sequence of actions "k d", repeated, or the probabilities "v" of the values."""
    if plan.ndim == 2:
        return lambda clip: plan[torch.from_numpy(_where(clip, world.fps)[1]) % len(plan)]
    _single_choice(world)
    if plan.shape != (world.actions.width,) or bool((plan < 0).any()) or abs(float(plan.sum()) - 1) > 1e-4:
        raise UnusableInput(f"expected {world.actions.width} probabilities that sum to 1; got {plan.tolist()}")
    edges = plan.double().cumsum(0).numpy()
    edges[int(plan.nonzero().max()) :] = 1.0  # rounding must not open a gap behind the last value in use
    dice = _Dice(world, 1, "open loop", seed)
    return lambda clip: world.actions.one_hot(torch.from_numpy(np.searchsorted(edges, dice(clip)[:, 0], "right")))


def policy_actor(
    policy: Policy, world: World, mode: bool = True, temperature: float = 1.0, seed: int = 0, device: str = "cpu"
) -> Actor:
    """Acts as a policy: its mode, or a draw at this temperature.

    A policy with a memory is shown the last frame and the new one; one without is shown as many frames as its view
    asks for. Frames of the row's earlier episode differ in `segment`, where a policy restarts by itself.

    Raises:
        Incompatible: the policy speaks other actions, or sees frames of another size or rate, or the world shows none.
    """
    if policy.space != world.actions:
        raise Incompatible(f"the policy speaks {in_words(policy.space)}; {world.name} takes {in_words(world.actions)}")
    if world.single_observation_space.dtype != np.uint8:
        raise Incompatible(f"the policy looks at frames, and {world.name} shows numbers alone")
    if policy.view.size != world.size:
        raise Incompatible(
            f"the policy sees frames of {policy.view.size} pixels (height, width); {world.name} has {world.size}. Many "
            "worlds have an option for it, such as --set size=36; or train with another --frame-size"
        )
    if policy.view.proprio not in (0, len(world.proprio)):
        raise Incompatible(f"the policy is shown {policy.view.proprio} numbers; {world.name} tells {world.proprio}")
    if policy.view.rate and policy.view.rate != world.fps:
        raise Incompatible(f"the policy acts at {policy.view.rate:g} decisions/s; {world.name} takes {world.fps}")
    memory: Memory = None
    seen: list[Clip] = []
    taken: list[Tensor] = []  # taken[i] leads from seen[i] to seen[i + 1]
    window = (policy.view.frames - 1) * policy.view.every + 1

    def act(clip: Clip) -> Tensor:
        nonlocal memory
        seen.append(clip)
        keep = window if memory is None else 2
        del seen[:-keep], taken[: len(taken) - keep + 1]
        past = _joined(seen, taken)
        with torch.no_grad():
            belief, memory = policy.act((_framed(past, window) if memory is None else past).to(device), memory)
            actions = (belief.mode() if mode else _drawn(belief.scaled(temperature), clip, world.fps, seed)).cpu()
        taken.append(actions)
        return actions

    return act


def _joined(seen: list[Clip], taken: list[Tensor]) -> Clip:
    """Joins single frames and the actions between them into one clip."""
    parts: dict[str, Any] = {
        name: torch.cat([getattr(clip, name) for clip in seen], 1)
        for name in ("frames", "proprio", "segment", "times") if getattr(seen[0], name) is not None
    }  # fmt: skip
    if taken:
        source = torch.full((seen[-1].rows, len(taken)), RECORDED, dtype=torch.uint8)
        parts |= {"actions": torch.stack(taken, 1), "source": source}
    return Clip(**parts, text=seen[-1].text)


def _framed(past: Clip, window: int) -> Clip:
    """Returns exactly `window` frames of each row's running episode, its first frame repeated where it is younger."""
    if window == 1:
        return past
    assert past.segment is not None  # _joined made all three
    assert past.frames is not None
    assert past.times is not None
    same = past.segment == past.segment[:, -1:]
    first = same.int().argmax(1, keepdim=True)
    index = torch.arange(past.length - window, past.length).expand(past.rows, -1).maximum(first)
    rows = torch.arange(past.rows).unsqueeze(1)
    frames, times = past.frames[rows, index], past.times[rows, index]
    proprio = None if past.proprio is None else past.proprio[rows, index]
    return Clip(frames=frames, proprio=proprio, segment=past.segment[rows, index], times=times, text=past.text)


def _drawn(belief: Distribution, clip: Clip, fps: int, seed: int) -> Tensor:
    where = zip(*(part.tolist() for part in _where(clip, fps)), strict=True)
    rngs = [torch_rng(seed, "act", episode, step, device=belief.params.device) for episode, step in where]
    return torch.stack([belief[row].sample(rng) for row, rng in enumerate(rngs)])


def _single_choice(world: World) -> None:
    if world.actions.discrete is None:
        raise UnusableInput(f"{world.name} has no single choice of values; give a sequence of actions instead")
