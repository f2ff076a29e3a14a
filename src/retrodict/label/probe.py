"""Probe: how well the frames of a dataset tell its recorded actions, and at which offset.

Small networks answer recorded steps of episodes that they have not seen, from frames that lie up to RADIUS before or
after; where they answer best, the effect of an action is. A shift is believed only when it beats the others beyond
doubt: "cannot say" is an answer.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from retrodict import rng
from retrodict.clip import RECORDED
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.check import Seen
from retrodict.data.memory import MemoryStore
from retrodict.data.motion import small_size
from retrodict.data.schema import Episodes, Schema
from retrodict.label.crossfit import FOLDS
from retrodict.label.verdict import commonest
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.nn.conv import patch_for
from retrodict.run.log import Log
from retrodict.run.loop import Fit, Stage, fit
from retrodict.segments import GAUSSIAN, ONE_HOT
from retrodict.spaces import ActionSpace, Distribution

RADIUS = 5  # shifts looked at, in frames, to both sides
SHIFTS = range(-RADIUS, RADIUS + 1)
FRAMES, MOST = 20_000, 1024  # frames of the episodes that are looked at; recorded steps that are asked
FEWEST = 16  # recorded steps below which nothing is fitted
SCAN, QUICK = Fit(60, 32, 8e-3), Fit(100, 32, 8e-3)  # how long networks are trained, for each shift and at the best
STRETCH = 40  # steps that are held out together where there are too few episodes to hold out whole ones
SURE, LEAST = 3.0, 0.03  # standard errors, and the difference in score, by which one shift must be the better
APART = 20  # steps between the first and the last third of the labels, to speak of a drift


@dataclass(frozen=True)
class Sample:
    """Recorded steps, and the part of the held-out ones that each belongs to."""

    steps: Steps
    fold: Int[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def space(self) -> ActionSpace:
        """What the actions are."""
        return self.steps.cache.space

    @property
    def actions(self) -> Float[Tensor, "n d"]:
        """The recorded actions."""
        return self.steps.target_actions()

    @property
    def episode(self) -> Int[Tensor, "n"]:
        """The number of each step's episode in the cache."""
        return torch.from_numpy(self.steps.cache.episode[self.steps.index]).long()

    @property
    def number(self) -> Int[Tensor, "n"]:
        """The number of each step in its episode."""
        return torch.from_numpy(self.steps.index - self.steps.cache.first[self.steps.index])

    def valid(self, shift: int) -> Bool[Tensor, "n"]:
        """Where the two frames `shift` later lie in the episode."""
        at, cache = self.steps.index, self.steps.cache
        return torch.from_numpy((at + shift >= cache.first[at]) & (at + shift < cache.last[at]))

    def only(self, keep: Bool[Tensor, "n"]) -> Sample:
        """Only some of the steps."""
        return Sample(self.steps.only(keep.nonzero()[:, 0].numpy()), self.fold[keep])

    def camera(self, name: str) -> Sample:
        """The same steps as one camera sees them."""
        old, names = self.steps.cache, self.steps.cache.cameras
        width = old.channels // len(names)  # those of a dataset are alike where there are several
        first = names.index(name) * width
        cache = Cache(old.frames[:, first : first + width], old.starts, old.ids, old.space, old.columns, old.texts,
                      old.fps, f"{old.digest}/{name}", (name,))  # fmt: skip
        return Sample(replace(self.steps, cache=cache), self.fold)


def chosen(lengths: Mapping[str, int], recorded: Mapping[str, int], seed: int) -> list[str]:
    """Draws episodes to look at, those with recorded steps first, until there are FRAMES frames."""
    order = rng.numpy_rng(seed, "probe").permutation(len(recorded))
    ids = sorted(np.array([*recorded], object)[order].tolist(), key=lambda id: not recorded[id])
    total = np.cumsum([lengths[id] for id in ids])
    return [id for id, frames in zip(ids, total, strict=True) if frames <= FRAMES or id == ids[0]]


def gathered(source: Episodes, seen: Mapping[str, Seen], seed: int) -> Sample | None:
    """Puts together the recorded steps of the episodes whose small frames were kept; None when they are too few."""
    schema = source.schema
    kept = {id: one.clip.with_(frames=one.small[None], rewards=None, ends=None, proprio=None, bounds=None)
            for id, one in seen.items() if one.small is not None}  # fmt: skip
    if not kept or any(segment.kind == "text" for segment in schema.space.segments):
        return None
    cameras = {name: (*small_size(schema.size), shape[2]) for name, shape in schema.cameras.items()}
    store = MemoryStore(Schema(schema.space, cameras, schema.fps))
    store.append([*kept.values()], ids=[*kept])
    steps = Steps.all(Cache.build(store))
    steps = steps.only(np.flatnonzero(steps.columns["source"][steps.index] == RECORDED))
    if len(steps) < FEWEST:
        return None
    steps = steps if len(steps) <= MOST else steps.uniform(MOST, seed, "probe")
    sample = Sample(steps, torch.zeros(len(steps), dtype=torch.long))
    few = len(np.unique(sample.episode)) < 2 * FOLDS
    group = sample.episode * (1 << 32) + (sample.number // STRETCH if few else 0)
    groups, place = np.unique(group.numpy(), return_inverse=True)
    order = rng.numpy_rng(seed, "probe/folds").permutation(len(groups))
    return replace(sample, fold=torch.from_numpy(order[place] % FOLDS))


def answers(
    sample: Sample, shift: int = 0, seed: int = 0, *, cfg: Fit = QUICK, folds: int = FOLDS, frames: int = 2,
    share: float = 1.0,
) -> Distribution:  # fmt: skip
    """Answers every step from frames `shift` later, by a network trained on a share of the other folds' labels.

    With one frame it sees what an action is taken in, not what it does. Steps without such frames are not answered:
    their parameters are zeros.
    """
    params, valid = torch.zeros(len(sample), sample.space.parameters), sample.valid(shift)
    for fold in range(folds):
        mine = sample.fold % folds == fold
        rest, held = (~mine & valid).nonzero()[:, 0], (mine & valid).nonzero()[:, 0]
        order = rng.numpy_rng(seed, "share", fold).permutation(len(rest))[: math.ceil(share * len(rest))]
        if len(order) and len(held):
            model = _trained(sample.steps.only(rest[np.sort(order)].numpy()), shift, frames, cfg, seed, fold)
            params[held] = _answered(model, sample.steps.only(held.numpy()))
    return Distribution(sample.space, params)


def _trained(steps: Steps, shift: int, frames: int, cfg: Fit, seed: int, fold: int) -> Inverse:
    """Trains from weights of the fold's own, so that no figure hangs on the luck of one start."""
    view = steps.cache.view(frames, -shift)
    shown, pool = ("both", "mean_max") if frames > 1 else ("frames", "flatten")
    with rng.isolated(seed, "probe", fold):
        model = Inverse(view, steps.cache.space, shown, pool, "grid", patch_for(view.size), 16, 1, 32)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder) / "probe", "probe", seed, {}, "the same command", commit_seconds=math.inf)
        fit(stage, model, labelled, steps.shown(view), cfg, Log(quiet=True))
    return model


@torch.no_grad()
def _answered(model: Inverse, steps: Steps) -> Float[Tensor, "n p"]:
    """Answers from the frames of the view alone; `infer_steps` would answer each step between there and the action."""
    found = []
    for _, clip in steps.shown(model.view).batches(256):
        assert clip.frames is not None  # a cache has frames
        found.append(model.belief(clip.frames).params)
    return torch.cat(found)


def skills(space: ActionSpace, answered: Float[Tensor, "n d"], truth: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Scores each answer, on average over segments: 1 for a right choice, the share of right keys, and for numbers
    1 - error² / variance."""
    total = torch.zeros(len(truth))
    for segment, columns, _ in space.slices():
        a, b = answered[:, columns], truth[:, columns]
        if segment.kind in ONE_HOT:
            merged = torch.tensor(segment.merged)
            total += (merged[a.argmax(1)] == merged[b.argmax(1)]).float()
        elif segment.kind in GAUSSIAN:
            varying = (b != b[0]).any(0)
            a, b = a[:, varying], b[:, varying]
            total += 1 - ((a - b).square() / b.var(0, correction=0)).mean(1) if bool(varying.any()) else 1
        else:
            total += ((a >= 0.5) == (b >= 0.5)).float().mean(1)
    return total / len(space.segments)


@dataclass(frozen=True, slots=True)
class Offset:
    """`steps`: the effect of an action is seen so many steps after the one it is recorded at (negative: before it);
    None when no shift tells. `scores` are {"x": shift, "value", "low", "high"}, with 95 % intervals; `constant` is the
    score of always one answer."""

    steps: int | None
    scores: tuple[dict[str, float], ...]
    constant: float


@dataclass(frozen=True, slots=True)
class Scan:
    """Scores of all steps at all shifts, and of always one answer; `valid` says where the frames lie in the episode."""

    table: Float[Tensor, "n s"]
    valid: Bool[Tensor, "n s"]
    always: Float[Tensor, "n"]

    def peak(self, rows: Bool[Tensor, "n"] | slice = slice(None)) -> int | None:
        """The best shift when it beats the constant answer and 0 beyond doubt; else 0 when that beats the constant."""
        table, valid, always = self.table[rows], self.valid[rows], self.always[rows]
        means = (table * valid).sum(0) / valid.sum(0).clamp_min(1)
        best = int(torch.where(valid.sum(0) >= FEWEST, means, -torch.inf).argmax())
        for number in (best, RADIUS):
            both = valid[:, number] & valid[:, RADIUS]
            told = better((table[:, number] - always)[valid[:, number]])
            if told and (number == RADIUS or better((table[:, number] - table[:, RADIUS])[both])):
                return number - RADIUS
        return None


def scan(sample: Sample, seed: int = 0) -> Scan:
    """Answers all steps at all shifts."""
    truth, space = sample.actions, sample.space
    told = [answers(sample, shift, seed, cfg=SCAN, folds=2).mode() for shift in SHIFTS]
    table = torch.stack([skills(space, answer, truth) for answer in told], 1)
    valid = torch.stack([sample.valid(shift) for shift in SHIFTS], 1)
    return Scan(table, valid, skills(space, commonest(space, truth).expand_as(truth), truth))


def find_offset(found: Scan) -> Offset:
    """Takes the best shift when it is beyond doubt."""
    table, valid = found.table, found.valid
    rows = [{"x": s, **spread_of(table[valid[:, i], i])} for i, s in enumerate(SHIFTS) if int(valid[:, i].sum()) > 1]
    return Offset(found.peak(), tuple(rows), float(found.always.mean()))


def spread_of(values: Float[Tensor, "n"]) -> dict[str, float]:
    """Returns a mean with its 95 % interval: {"value", "low", "high"}."""
    mean, half = float(values.mean()), 1.96 * standard_error(values)
    return {"value": mean, "low": mean - half, "high": mean + half}


def better(gain: Float[Tensor, "n"]) -> bool:
    """True when a paired difference is above zero beyond doubt."""
    return len(gain) > 1 and float(gain.mean()) > max(LEAST, SURE * standard_error(gain))


def standard_error(values: Float[Tensor, "n"]) -> float:
    """Returns the standard error of a mean."""
    return float(values.double().std()) / math.sqrt(len(values))


def find_drift(sample: Sample, found: Scan) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Returns (step, offset) of the first and of the last third of the labels where both are sure and differ."""
    ends = torch.quantile(sample.number.double(), torch.tensor([1 / 3, 2 / 3], dtype=torch.double))
    thirds = sample.number <= ends[0], sample.number >= ends[1]
    middles = [int(sample.number[third].median()) for third in thirds]
    if middles[1] - middles[0] < APART or min(int(third.sum()) for third in thirds) < 4 * FEWEST:
        return None
    first, last = (found.peak(third) for third in thirds)
    if first is None or last is None or first == last:
        return None
    return (middles[0], first), (middles[1], last)
