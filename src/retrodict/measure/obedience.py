"""Questions to a world, asked through the role alone: does it foresee, does it heed actions, does it do what is asked?

Whatever fills `ForwardModel` is asked the same way: it observes a context, imagines steps, and what it decodes is
compared, by the formulas of `worlds`. A world that has no frames, or that chooses its actions, says so by its errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from retrodict import rng, tree
from retrodict.clip import PREDICTED, RECORDED, Clip, stack
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.errors import Incompatible, NoFrames, UnusableInput
from retrodict.measure import worlds
from retrodict.measure.branches import Branches
from retrodict.measure.inputs import Ints
from retrodict.measure.intervals import Estimate, bootstrap_ratio
from retrodict.models.wordless import respoken, shared_columns
from retrodict.roles import Encoder, ForwardModel, InverseModel
from retrodict.segments import GAUSSIAN, ONE_HOT
from retrodict.spaces import ActionSpace

BATCH = 128  # rows that are imagined at once
GENIE = 4  # frames after the prompt at which Genie compares PSNR


def windows(cache: Cache, before: int, ahead: int, most: int = 512, known: bool = True, seed: int = 0) -> Clip:
    """Returns up to `most` windows of before + 1 + ahead frames, all of one episode from the present frame on.

    `known` keeps those whose steps ahead all carry an action. What lies before an episode repeats its first frame.

    Raises:
        UnusableInput: no episode has so many steps ahead.
    """
    steps = Steps.all(cache)
    fits = steps.index + ahead <= cache.last[steps.index]
    if known:
        there = np.isin(cache.columns["source"], (RECORDED, PREDICTED))
        ends = np.minimum(steps.index[:, None] + np.arange(ahead), len(there) - 1)
        fits &= there[ends].all(1)
    places = np.flatnonzero(fits)
    if not len(places):
        what = "known actions" if known else "frames"
        raise UnusableInput(f"no episode has {ahead} steps with {what}; record longer ones, or look less far ahead")
    if len(places) > most:
        places = np.sort(rng.numpy_rng(seed, "windows").choice(places, most, replace=False))
    return replace(steps, before=before, after=ahead).batch(places)


@torch.no_grad()
def told(clip: Clip, recorded: ActionSpace, forward: ForwardModel, inverse: InverseModel | None = None) -> Clip:
    """Returns the clip with actions that a world understands: those recorded, else what an inverse of its own reads.

    A world that takes words besides is told none; where it lacks the value of a step, that action is missing.

    Raises:
        Incompatible: the world speaks neither.
    """
    if clip.actions is not None and shared_columns(forward.space, recorded) is not None:
        return respoken(clip, recorded, forward.space)
    if inverse is None or inverse.space != forward.space:
        raise Incompatible(
            f"the world speaks {forward.space.columns} and the actions are {recorded.columns}; give an inverse model "
            "that speaks as the world does, or an adapter"
        )
    read = [inverse.infer(clip.pick(rows)).mode() for rows in _batches(clip.rows, BATCH)]
    return clip.with_(actions=torch.cat(read), source=None, confidence=None)


def _batches(rows: int, each: int) -> Iterator[Tensor]:
    return (torch.arange(start, min(start + each, rows)) for start in range(0, rows, each))


@torch.no_grad()
def imagined(forward: ForwardModel, past: Clip, actions: Float[Tensor, "b k d"], seed: int = 0) -> Clip:
    """Rolls out k steps after each past: k + 1 frames, the first of them the last one seen."""
    parts = []
    for rows in _batches(past.rows, BATCH):
        noise = rng.torch_rng(seed, "imagined", int(rows[0]), device=past.device)
        dream, _ = forward.imagine(forward.observe(past.pick(rows)), actions[rows], actions.shape[1], noise)
        parts.append(forward.decode(dream).with_(features=None))
    return stack(parts)


def _frames(clip: Clip) -> UInt8[Tensor, "b t c h w"]:
    if clip.frames is None:
        raise UnusableInput("worlds are measured on frames, and this clip has none")
    return clip.frames


def _ahead(clip: Clip, before: int) -> Float[Tensor, "b k d"]:
    if clip.actions is None or clip.steps <= before:
        raise UnusableInput(f"expected windows with actions after frame {before}; got {clip.length} frames")
    return clip.actions[:, before:]


def _units(clip: Clip, before: int) -> Ints:
    """The episode of each window, where it is known."""
    if clip.segment is None:
        return np.arange(clip.rows)
    return clip.segment[:, before].cpu().numpy().astype(np.int64)


def _errors(clip: Clip, dream: Clip, before: int, moving: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Errors "n k" of what was imagined, and of the last seen frame; in pieces, as they are not bytes."""
    truth, shown = _frames(clip)[:, before:], _frames(dream)
    pieces = []
    for start in range(0, clip.rows, BATCH):
        rows = slice(start, start + BATCH)
        real, made = truth[rows, : shown.shape[1]].cpu().numpy(), shown[rows].cpu().numpy()
        pieces.append(worlds.row_errors(made[:, 1:], real[:, 1:], real[:, 0], moving))
    model, copy = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return model, copy


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a world foresees under the right actions, by step ahead, with intervals over episodes.

    `moving` counts pixels that differ from the last seen frame in the truth; `drift` is in dB since the first step;
    `rewards` and `ends` are None where the world imagines none, or the clips have none.
    """

    whole: worlds.HorizonError
    moving: worlds.HorizonError
    psnr: tuple[Estimate, ...]
    drift: tuple[Estimate, ...]
    rewards: worlds.RewardFit | None
    ends: worlds.EndFit | None


def horizon(forward: ForwardModel, clip: Clip, before: int, seed: int = 0) -> Horizon:
    """Rolls out the actions of windows from frame `before` on, and compares with what was to come."""
    actions, unit = _ahead(clip, before), _units(clip, before)
    dream = imagined(forward, clip.cut(0, before + 1), actions, seed)
    model, copy = _errors(clip, dream, before)
    quality = worlds.decibels(model)
    said, paid = dream.rewards, None if clip.rewards is None else clip.rewards[:, before:]
    chance, over = dream.ends, None if clip.ends is None else clip.ends[:, before:]
    return Horizon(
        worlds.error_by_horizon(model, copy, unit),
        worlds.error_by_horizon(*_errors(clip, dream, before, moving=True), unit),
        tuple(worlds.mean_over(quality[:, k], unit) for k in range(quality.shape[1])),
        worlds.drift(model, unit),
        None if said is None or paid is None else worlds.reward_fit(_flat(paid), _flat(said)),
        None if chance is None or over is None else worlds.end_fit(_flat(over), _flat(chance)),
    )


def _flat(values: Tensor) -> np.ndarray:
    return values.flatten().cpu().numpy()


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How much worse the next frame becomes after other actions: `shuffled` over windows, and `still`, doing nothing.

    Both are ratios of errors to that after the right actions (1: ignored). `delta_psnr` compares right actions with
    random ones four frames ahead, or as far as the windows reach; `word` says it in words (`worlds.verdict`).
    """

    shuffled: Estimate
    still: Estimate
    delta_psnr: Estimate
    word: worlds.Word


def sensitivity(forward: ForwardModel, clip: Clip, before: int, seed: int = 0) -> Sensitivity:
    """Asks for the right actions of windows, for those of other windows, for doing nothing, and for random ones."""
    actions, unit = _ahead(clip, before), _units(clip, before)
    far, draw = min(GENIE, actions.shape[1]), rng.numpy_rng(seed, "sensitivity")

    def error(given: Tensor, ahead: int) -> np.ndarray:
        dream = imagined(forward, clip.cut(0, before + 1), given[:, :ahead], seed)
        return np.asarray(_errors(clip, dream, before)[0][:, -1])

    own = error(actions, 1)
    other = error(actions[torch.from_numpy(draw.permutation(len(actions)))], 1)
    shuffled = worlds.action_sensitivity(own, other, unit)
    return Sensitivity(
        shuffled,
        worlds.action_sensitivity(own, error(idle(forward.space, actions), 1), unit),
        worlds.delta_psnr(error(actions, far), error(anything(forward.space, actions, draw), far), unit),
        worlds.verdict(shuffled),
    )


def idle(space: ActionSpace, actions: Float[Tensor, "b k d"]) -> Float[Tensor, "b k d"]:
    """Doing nothing: zeros, no words, and the commonest value of each choice, as a choice has no zero."""
    nothing = torch.zeros_like(actions)
    for segment, columns, _ in space.slices():
        if segment.kind in ONE_HOT:
            nothing[..., columns.start + int(actions[..., columns].sum((0, 1)).argmax())] = 1.0
        elif segment.kind == "text":
            nothing[..., columns] = -1.0
    return nothing


def anything(space: ActionSpace, actions: Float[Tensor, "b k d"], draw: np.random.Generator) -> Float[Tensor, "b k d"]:
    """Random actions: each value of a choice as likely; numbers and keys as they came up at another step."""
    order = torch.from_numpy(draw.permutation(actions.shape[0] * actions.shape[1]))
    drawn = actions.flatten(0, 1)[order].view(actions.shape).clone()
    for segment, columns, _ in space.slices():
        if segment.kind in ONE_HOT:
            pick = torch.from_numpy(draw.integers(segment.width, size=actions.shape[:2]))
            drawn[..., columns] = F.one_hot(pick, segment.width).to(actions.dtype)
    return drawn


@dataclass(frozen=True, slots=True)
class Cycle:
    """What an inverse reads off generated pairs against what was asked: the share of choices and keys, R² of numbers.

    `chance` compares with requests that the world was not given; `by` is the share of each value of a single choice.
    """

    score: Estimate
    chance: Estimate
    by: dict[str, float]


@torch.no_grad()
def cycle(forward: ForwardModel, inverse: InverseModel, clip: Clip, before: int, seed: int = 0) -> Cycle:
    """Asks every window for the next action of another window, and lets the inverse read what came of it.

    Its own action would not do: a world that does what is usual, whatever it is told, would look obedient.

    Raises:
        Incompatible: the inverse speaks other actions than the world.
    """
    if inverse.space != forward.space:
        raise Incompatible(
            f"the inverse speaks {inverse.space.columns} and the world {forward.space.columns}; cycle consistency "
            "compares actions of one kind, so decode both through an adapter"
        )
    actions, draw = _ahead(clip, before)[:, 0], rng.numpy_rng(seed, "cycle")
    asked, control = (actions[torch.from_numpy(draw.permutation(len(actions)))] for _ in range(2))
    made = generated(forward, clip.cut(0, before + 1), asked[:, None], seed)
    read = _read(inverse, clip.cut(0, before + 1), made[:, 0])
    unit, space = _units(clip, before), forward.space
    by = {}
    if segment := space.discrete:
        shares = worlds.agreement_by(space.classes(asked).cpu().numpy(), space.classes(read).cpu().numpy())
        named = [f"code {name}" if space.latent else name for name in segment.merged_names]
        by = {named[number]: share for number, share in shares.items()}
    return Cycle(_agreement(space, asked, read, unit), _agreement(space, control, read, unit), by)


@torch.no_grad()
def reading(inverse: InverseModel, clip: Clip, before: int) -> Estimate:
    """What an inverse reads off the real next frames against what was done, counted as in `cycle`: its ceiling."""
    real = _frames(clip)[:, before + 1]
    read = _read(inverse, clip.cut(0, before + 1), real)
    return _agreement(inverse.space, _ahead(clip, before)[:, 0], read, _units(clip, before))


def _agreement(space: ActionSpace, asked: Tensor, read: Tensor, unit: Ints) -> Estimate:
    parts, wholes = [], []
    for segment, columns, _ in space.slices():
        a, b = asked[:, columns].cpu().double(), read[:, columns].cpu().double()
        if segment.kind in GAUSSIAN:
            whole = (a - a.mean(0)).square().sum(1)
            part = whole - (a - b).square().sum(1)  # so that Σ part / Σ whole is R²
        else:
            same = (a >= 0.5) == (b >= 0.5)
            if segment.kind in ONE_HOT:
                merged = torch.tensor(segment.merged)
                same = (merged[a.argmax(1)] == merged[b.argmax(1)])[:, None]
            part, whole = same.double().mean(1), torch.ones(len(a), dtype=torch.float64)
        parts.append(worlds.by_unit(part.numpy(), unit))
        wholes.append(worlds.by_unit(whole.numpy(), unit))
    return bootstrap_ratio(np.stack(parts, 1), np.stack(wholes, 1))


@torch.no_grad()
def generated(
    forward: ForwardModel, past: Clip, asked: Float[Tensor, "m k d"], seed: int = 0
) -> UInt8[Tensor, "m k c h w"]:
    """Returns the next frame that a world makes of each of k requests in each of m pasts."""
    frames, k = [], asked.shape[1]
    for rows in _batches(past.rows, max(1, BATCH // k)):
        state = tree.repeat(forward.observe(past.pick(rows)), k)
        noise = rng.torch_rng(seed, "generated", int(rows[0]), device=past.device)
        dream, _ = forward.imagine(state, asked[rows].flatten(0, 1)[:, None], 1, noise)
        made = _frames(forward.decode(dream))[:, 1]
        frames.append(made.view(len(rows), k, *made.shape[1:]))
    return torch.cat(frames)


@torch.no_grad()
def _read(inverse: InverseModel, past: Clip, following: UInt8[Tensor, "m c h w"]) -> Float[Tensor, "m d"]:
    """What an inverse reads off the step from each past to a frame."""
    pairs = _followed(past, following)
    return torch.cat([inverse.infer(pairs.pick(rows))[:, -1].mode() for rows in _batches(pairs.rows, BATCH)])


def _followed(past: Clip, following: UInt8[Tensor, "m c h w"]) -> Clip:
    """The frames of each past, and one more."""
    segment = None if past.segment is None else torch.cat([past.segment, past.segment[:, -1:]], 1)
    return Clip(frames=torch.cat([_frames(past), following[:, None]], 1), segment=segment)


def judged(
    forward: ForwardModel, judge: InverseModel, branches: Branches, asked: Float[Tensor, "k d"], means: Ints,
    past: Clip | None = None, seed: int = 0, encoder: Encoder | None = None,
) -> worlds.Control:  # fmt: skip
    """Asks the world for each request in each state, and lets a judge, who reads true actions, say what came of it.

    means[m, k] is the class of true actions that a request stands for there; `past` the past with the actions of the
    world's own space, where it looks at any; `encoder` what the world draws through, if it has frames. Definitions:
    `worlds.Control`. Source of the measure: GameWorld Score (Zhang et al., Matrix-Game, 2025), which has an inverse
    model judge generated video.

    Raises:
        Incompatible: the judge speaks other actions than the real world.
    """
    if judge.space != branches.space:
        raise Incompatible(f"the judge speaks {judge.space.columns}; the world has {branches.space.columns}")
    past = past or branches.past
    made = generated(forward, past, asked.expand(past.rows, -1, -1), seed)
    kept = None if encoder is None else _redrawn(encoder, branches)
    return worlds.controllability(
        classes(judge, branches.past, made), means, classes(judge, branches.past, branches.following),
        branches.merged, branches.alike, seed, None if kept is None else classes(judge, branches.past, kept),
    )  # fmt: skip


@torch.no_grad()
def _redrawn(encoder: Encoder, branches: Branches) -> UInt8[Tensor, "m k c h w"] | None:
    """The real next frames, encoded and decoded behind their pasts; None where the encoder cannot decode."""
    each = []
    for k in range(branches.following.shape[1]):
        shown = _followed(branches.past, branches.following[:, k])
        batches = [shown.pick(rows) for rows in _batches(shown.rows, BATCH)]
        try:
            each.append(torch.cat([_frames(encoder.decode(encoder.encode(batch)))[:, -1] for batch in batches]))
        except NoFrames:
            return None
    return torch.stack(each, 1)


def classes(judge: InverseModel, past: Clip, following: UInt8[Tensor, "m k c h w"]) -> Ints:
    """Returns the class "m k" of the action that a judge reads between each past and the frames after it."""
    each = [judge.space.classes(_read(judge, past, following[:, k])).cpu().numpy() for k in range(following.shape[1])]
    return np.stack(each, 1)


Tracker = Callable[[UInt8[Tensor, "n c h w"]], Int[np.ndarray, "n 2"]]


def consistency(forward: ForwardModel, past: Clip, asked: Float[Tensor, "k d"], where: Tracker, seed: int = 0) -> float:
    """Returns 1 - within / total variance of how far a tracker sees things move after each request, in all pasts.

    It is 0 where every request does the same. In the pasts, nothing may be in the way.
    """
    made = generated(forward, past, asked.expand(past.rows, -1, -1), seed)
    start = where(_frames(past)[:, -1])
    effects = np.concatenate([where(made[:, k]) - start for k in range(len(asked))]).astype(np.float64)
    if (effects == effects[0]).all():
        return 0.0
    return worlds.effect_consistency(np.repeat(np.arange(len(asked)), past.rows), effects)
