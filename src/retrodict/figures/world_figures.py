"""Figures of worlds: what a trial measures of a system's forward model, and what `retrodict measure` tells of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.cache import Cache, piece_of, resize
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Episodes, Schema
from retrodict.errors import Incompatible, NoFrames, UnknownName, UnusableInput
from retrodict.figures.judge import Judge
from retrodict.measure import obedience
from retrodict.measure.branches import Branches, counterfactuals
from retrodict.measure.inputs import Ints
from retrodict.measure.intervals import Estimate
from retrodict.measure.worlds import Control
from retrodict.models.wordless import shared_columns, wordless
from retrodict.roles import Adapter, ForwardModel, System, remembered
from retrodict.segments import ONE_HOT
from retrodict.spaces import ActionSpace, Distribution

if TYPE_CHECKING:
    from retrodict.envs.world import World

AHEAD = 8  # steps
FRAMES = 20_000  # of a dataset that are looked at
WINDOWS = 512  # of test video, where nothing else is said
STATES = 200  # in which every request is tried, likewise
USED = 0.01  # share of the test steps from which on a code is in use
MEASURES = ("horizon_skill", "drift", "sensitivity", "delta_psnr", "judged_controllability", "effect_consistency")


@dataclass(frozen=True)
class Ground:
    """Where worlds are measured: test video, the real world in so many copies, levels of it, and who judges."""

    test: Cache
    world: Callable[..., World]  # (copies, **options)
    levels: Sequence[int]
    random: float  # share of random actions on the way to a state
    judge: Callable[[], Judge]
    windows: int = WINDOWS  # of the test video
    states: int = STATES  # in which every request is tried


def measured(name: str, system: System, ground: Ground) -> dict[str, float]:
    """Measures a system's forward model in its own actions: {name: the figure, name.PART: what stands beside it}.

    horizon_skill: 1 - error / error of the last seen frame, mean over AHEAD steps; each step beside it, of all and of
    moving pixels. drift: dB lost from the first to the last of them. sensitivity: error of the next frame after other
    actions / after the right ones. delta_psnr: dB between right and random actions, four frames ahead.
    judged_controllability: share of requests that a judge reads off the generated frames (`measure.worlds.Control`).
    effect_consistency: of the agent's displacement by request, in sprites where nothing is in the way. A world that
    takes words is told none.

    Raises:
        UnusableInput: the system has no forward model, or the world or its actions are none that this can measure.
    """
    forward = system.forward
    if forward is None:
        raise UnusableInput(f"{name} cannot be measured: the system has no forward model")
    forward = wordless(forward)
    if name == "judged_controllability":
        return _judged(system, forward, ground)
    if name == "effect_consistency":
        return {name: _consistency(system, forward, ground)}
    clip, before = _windows(system, forward, ground.test, AHEAD, ground.windows)
    if name in ("horizon_skill", "drift"):
        return _foresight(name, obedience.horizon(forward, clip, before))
    found = obedience.sensitivity(forward, clip, before)
    if name == "sensitivity":
        return {name: found.shuffled.value, **_ends(name, found.shuffled), f"{name}.still": found.still.value}
    if name == "delta_psnr":
        return {name: found.delta_psnr.value, **_ends(name, found.delta_psnr)}
    raise UnknownName("measure of a world", name, MEASURES)


def _ends(name: str, found: Estimate) -> dict[str, float]:
    ends = {f"{name}.low": found.low, f"{name}.high": found.high}
    return {key: value for key, value in ends.items() if value is not None}


def context(system: System, forward: ForwardModel) -> int:
    """How many frames before the present one a world and the inverse that speaks its actions look at or remember."""
    views = [role.view for role in (forward, system.inverse) if role is not None]
    return max(remembered(forward), *(-view.offsets()[0] for view in views))


def _windows(system: System, forward: ForwardModel, test: Cache, ahead: int, most: int = WINDOWS) -> tuple[Clip, int]:
    before = context(system, forward)
    shared = shared_columns(forward.space, test.space) is not None
    clip = obedience.windows(test, before, ahead, most, known=shared)
    clip = obedience.told(clip, test.space, forward, system.inverse)
    if shared and not bool((sayable := clip.known[:, before:].all(1)).all()):
        if not bool(sayable.any()):
            raise UnusableInput(
                f"every window has an action that the world lacks; it speaks {forward.space.columns}; give data with "
                "stretches that have none of it"
            )
        clip = clip.pick(sayable.nonzero()[:, 0])
    return clip, before


def _foresight(name: str, found: obedience.Horizon) -> dict[str, float]:
    if name == "drift":
        parts = dict[str, float]()
        for k, one in enumerate(found.drift, 1):
            parts |= {f"{name}.{k}": one.value, **_ends(f"{name}.{k}", one)}
        return {name: found.drift[-1].value, **parts}
    parts = dict[str, float]()
    for kind, error in (("", found.whole), ("moving.", found.moving)):
        parts |= {f"{name}.{kind}{k}": one.value for k, one in enumerate(error.skill, 1) if one is not None}
    whole = [one.value for one in found.whole.skill if one is not None]
    if not whole:
        raise UnusableInput("nothing moves in the test video, so there is no skill in foreseeing it")
    return {name: float(np.mean(whole)), **parts}


def requests(forward: ForwardModel, clip: Clip, before: int) -> Float[Tensor, "k d"]:
    """What a world can be asked for: a value of each class of true actions, or every code in use among windows that
    bear its actions.

    Raises:
        UnusableInput: its actions are not choices, so that there is no list of them.
    """
    if not all(segment.kind in ONE_HOT for segment in forward.space.segments):
        raise UnusableInput(f"the world takes numbers ({forward.space.columns}), of which there is no list to ask for")
    segment = forward.space.discrete
    if segment is not None and not forward.space.latent:
        return torch.eye(segment.width)[np.unique(segment.merged, return_index=True)[1].tolist()]
    assert clip.actions is not None  # of windows that bear its actions
    values, counts = np.unique(clip.actions[:, before].cpu().numpy(), axis=0, return_counts=True)
    return torch.from_numpy(values[counts >= USED * clip.rows][::-1].copy())  # in the order of their numbers


@torch.no_grad()
def meanings(asked: Float[Tensor, "k d"], adapter: Adapter | None, branches: Branches) -> Ints:
    """The class "m k" of true actions that each request stands for in each past: itself, or as the adapter says.

    Raises:
        UnusableInput: codes have no names, as there is no adapter.
    """
    space, rows = branches.space, branches.past.rows
    if adapter is None:
        if asked.shape[1] != space.width:
            raise UnusableInput("these codes have no names; give labels, so that an adapter can be fitted")
        return np.tile(space.classes(asked).numpy(), (rows, 1))
    last = branches.past.cut(branches.past.length - 1, branches.past.length)
    each = [Distribution.point(adapter.inner, one.expand(rows, 1, -1)) for one in asked]
    return np.stack([space.classes(adapter.decode(belief, last).mode())[:, 0].numpy() for belief in each], 1)


def _branches(system: System, forward: ForwardModel, ground: Ground) -> Branches:
    segment = ground.test.space.discrete
    if segment is None:
        raise UnusableInput(f"not every action can be tried: the actions are {ground.test.space.columns}")
    world = ground.world(segment.width)
    try:
        levels = ground.levels[: ground.states]
        return counterfactuals(world, levels, context(system, forward), ground.random)
    finally:
        world.close()


Asked = tuple[Control, Judge, Float[Tensor, "k d"]]


def _asked(system: System, forward: ForwardModel, ground: Ground) -> Asked:
    """How a world obeys every request, who says so, and the requests; the judge comes last, as it may have to learn."""
    asked = requests(forward, *_windows(system, forward, ground.test, 1, ground.windows))
    branches = _branches(system, forward, ground)
    own = shared_columns(forward.space, branches.space)
    past = obedience.told(branches.past, branches.space, forward, system.inverse) if branches.past.steps else None
    true = asked
    if own is not None:
        true = asked.new_zeros(len(asked), branches.space.width)
        true[:, list(own.values())] = asked[:, list(own)]
    means, judge = meanings(true, None if own is not None else system.adapter, branches), ground.judge()
    found = obedience.judged(forward, judge.inverse, branches, asked, means, past, encoder=system.encoder)
    return found, judge, asked


def _judged(system: System, forward: ForwardModel, ground: Ground) -> dict[str, float]:
    name = "judged_controllability"
    found, judge, _ = _asked(system, forward, ground)
    parts = {f"{name}.{part}": one.value for part, one in _beside(found, judge).items() if one is not None}
    return {name: found.score.value, **_ends(name, found.score), **parts}


def _beside(found: Control, judge: Judge) -> dict[str, Estimate | None]:
    """What is told beside a share that a judge reads as asked."""
    parts = ("raw", "blocked", "shuffled", "random", "real", "encoded")
    return {part: getattr(found, part) for part in parts} | {"judge": judge.accuracy}


def _consistency(system: System, forward: ForwardModel, ground: Ground) -> float:
    from retrodict.envs.sprites import GRID, Sprites, track

    world = ground.world(1)
    if not isinstance(world, Sprites) or world.textures != "plain":
        raise UnusableInput("effect consistency reads where the agent is, which only plain sprites tell")

    def where(frames: UInt8[Tensor, "n c h w"]) -> Int[np.ndarray, "n 2"]:
        return track(frames.permute(0, 2, 3, 1).cpu().numpy())

    clip, before = _windows(system, forward, ground.test, 1, ground.windows)
    assert clip.frames is not None  # the test video has them
    cells = where(clip.frames[:, before])
    free = np.flatnonzero(((cells > 0) & (cells < GRID - 1)).all(1))[: ground.states]
    past = clip.cut(0, before + 1).pick(torch.from_numpy(free))
    return obedience.consistency(forward, past, requests(forward, clip, before), where)


def sample(source: Episodes, ids: Sequence[str], size: tuple[int, int], seed: int = 0) -> Cache:
    """Some of these episodes, drawn until there are FRAMES frames, at the size that a model sees; of each no more."""
    clips: list[Clip] = []
    left = FRAMES
    for i in rng.numpy_rng(seed, "sample").permutation(len(ids)):
        length = min(source.lengths[ids[i]], FRAMES)
        if length <= left and length > 1:
            clips.append(opening(source, ids[i], length, size).with_(proprio=None))
            left -= length
    if not clips:
        raise UnusableInput("no episode has two frames, so nothing happens in any")
    cameras = {name: (*size, shape[2]) for name, shape in source.schema.cameras.items()}
    schema = Schema(source.schema.space, cameras, source.schema.fps, rewards=source.schema.rewards)
    return Cache.build(MemoryStore(schema, clips))


def opening(source: Episodes, id: str, length: int, size: tuple[int, int]) -> Clip:
    """The first frames of an episode, at the size that a model sees, with numbers, actions, and what those led to."""
    pieces, count = list[Tensor](), 0
    for piece in source.stream(id, piece_of(source.schema)):
        pieces.append(resize(piece[0], size))
        count += len(pieces[-1])
        if count >= length:
            break
    rest = source.read(id, frames=False).cut(0, length)
    kept = ("frames", "actions", "source", "confidence", "rewards", "ends", "text", "proprio")
    return rest.with_(frames=torch.cat(pieces)[None, :length]).only(*kept)


def examined(
    system: System, source: Episodes, ids: Sequence[str], ground: Callable[[Cache], Ground] | None = None
) -> tuple[dict[str, Any], Shown | None]:
    """Measures a system's world on episodes of a dataset; returns plain JSON values, and what it generates.

    Judged controllability, which needs a real world to try every action in, is among them where there is a `ground`.

    Raises:
        UnusableInput: there is no forward model, or no episode is long enough. NoFrames: it imagines no frames.
        Incompatible: it understands neither the recorded actions nor those of its own inverse.
    """
    forward = system.forward
    if forward is None:
        raise UnusableInput("the system has no forward model, so there is no world to measure")
    if forward.view.proprio:
        raise NoFrames(
            "this world is shown numbers, and worlds are measured on frames; `retrodict act` scores who plans in it"
        )
    forward = wordless(forward)
    cache = sample(source, ids, forward.view.size)
    clip, before = _windows(system, forward, cache, min(AHEAD, int((cache.last - cache.first).max())))
    foreseen, heeded = obedience.horizon(forward, clip, before), obedience.sensitivity(forward, clip, before)
    told: dict[str, Any] = {
        "windows": clip.rows, "episodes": foreseen.psnr[0].count, "context": before + 1,
        "skill": _points(foreseen.whole.skill), "moving": _points(foreseen.moving.skill),
        "psnr": _points(foreseen.psnr), "drift": _points(foreseen.drift), "word": heeded.word,
        "sensitivity": _point(heeded.shuffled), "still": _point(heeded.still), "delta_psnr": _point(heeded.delta_psnr),
        "cycle": _cycle(system, forward, clip, before),
    }  # fmt: skip
    if foreseen.rewards is not None:
        told["rewards"] = asdict(foreseen.rewards)
    if foreseen.ends is not None:
        told["ends"] = asdict(foreseen.ends)
    if ground is not None:
        told["judged"] = _verdict(system, forward, ground(cache))
    return told, shown(forward, clip, before)


def _verdict(system: System, forward: ForwardModel, ground: Ground) -> dict[str, Any]:
    """What a judge reads off the world: of choices the share read as asked, of numbers their R²; else a note."""
    try:
        if all(segment.kind == "continuous" for segment in ground.test.space.segments):
            return _read_by_judge(system.decoded(), ground)
        found, judge, asked = _asked(system, forward, ground)
    except (UnusableInput, Incompatible) as reason:
        return {"value": None, "note": str(reason)}
    points = {name: _point(one) for name, one in _beside(found, judge).items()}
    by = dict(zip(request_names(forward.space, asked), found.by, strict=True))
    return {**_point(found.score), "of": "share", **points, "by": by}


def _read_by_judge(system: System, ground: Ground) -> dict[str, Any]:
    """Of numbers there is no list to ask for: every window is asked for the action of another one."""
    assert system.forward is not None  # it is measured
    forward = wordless(system.forward)
    clip, before = _windows(system, forward, ground.test, 1, ground.windows)
    if forward.space != ground.test.space:
        raise Incompatible(f"a judge reads {ground.test.space.columns}; the world takes {forward.space.columns}")
    judge = ground.judge()
    found = obedience.cycle(forward, judge.inverse, clip, before)
    beside = {"shuffled": found.chance, "real": obedience.reading(judge.inverse, clip, before), "judge": judge.accuracy}
    return {**_point(found.score), "of": "R²", **{name: _point(one) for name, one in beside.items()}, "by": {}}


def request_names(space: ActionSpace, asked: Float[Tensor, "k d"]) -> list[str]:
    """Names of requests, for people."""
    if space.discrete is None:
        return [", ".join(space.columns[column] for column in one.nonzero()[:, 0].tolist()) for one in asked]
    return [value_names(space)[int(one.argmax())] for one in asked]


def _cycle(system: System, forward: ForwardModel, clip: Clip, before: int) -> dict[str, Any]:
    try:
        if system.inverse is None:
            raise Incompatible("the system has no inverse model to read what was generated")
        read = obedience.cycle(forward, system.inverse, clip, before)
    except Incompatible as reason:
        return {"value": None, "note": str(reason)}
    return {**_point(read.score), "chance": _point(read.chance), "by": read.by}


def value_names(space: ActionSpace) -> tuple[str, ...]:
    """Names of the values of a single choice, for people: a code has a number alone."""
    assert space.discrete is not None  # of a single choice
    return tuple(f"code {value}" if space.latent else value for value in space.discrete.values)


Shown = tuple[tuple[str, ...], UInt8[Tensor, "n k c h w"]]


def shown(forward: ForwardModel, clip: Clip, before: int, count: int = 3) -> Shown | None:
    """Seen frames and what each request makes of them, with names; None where a world takes no single choice."""
    segment = forward.space.discrete
    if segment is None:
        return None
    asked = requests(forward, clip, before)
    names = ("seen", *request_names(forward.space, asked))
    past = clip.cut(0, before + 1).pick(np.linspace(0, clip.rows - 1, min(count, clip.rows)).astype(int).tolist())
    made = obedience.generated(forward, past, asked.expand(past.rows, -1, -1))
    assert past.frames is not None  # of windows
    return names, torch.cat([past.frames[:, -1:], made], 1)


def _points(found: Sequence[Estimate | None]) -> list[dict[str, Any]]:
    return [{"x": k, **_point(one)} for k, one in enumerate(found, 1)]


def _point(found: Estimate | None) -> dict[str, float | None]:
    if found is None:
        return {"value": None, "low": None, "high": None}
    return {"value": found.value, "low": found.low, "high": found.high}
