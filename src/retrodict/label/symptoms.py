"""Symptoms: what times, frames and actions say by themselves of a recording, without any model.

Each function takes episodes by id, and returns figures in plain JSON and a plain word for each thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrodict.clip import MISSING, PREDICTED, RECORDED, Clip
from retrodict.data.motion import Motion
from retrodict.segments import ONE_HOT
from retrodict.spaces import ActionSpace

CUT = 20.0  # of 255: the least mean change of pixels that can be a cut
FEW, RARE, COMMON = 3, 0.01, 0.05  # cases, and shares of steps, below which jumps are none; above which cuts are none
DOUBLE = 1.6  # times as far as usual, from which a step is a jump
EVEN = 0.85  # share of steps that go about as far as those around, below which a jump says nothing
MISMATCH = 0.01  # of a rate
NULLS = {"stay", "still", "none", "noop", "no-op", "nop", "null", "idle", "wait", "nothing", "stop", "done"}

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Places = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: its kind, the plain word with what to do, and the episodes where it is worst."""

    kind: str
    word: str
    episodes: tuple[str, ...] = ()


Found = tuple[dict[str, Any], list[Finding]]


def worst(counts: Mapping[str, float], most: int = 5) -> tuple[str, ...]:
    """The ids with the largest counts above zero, the worst first."""
    return tuple(sorted((id for id, count in counts.items() if count > 0), key=lambda id: -counts[id])[:most])


def clock(clips: Mapping[str, Clip], fps: int) -> Found:
    """Times against the grid of k / fps: the true rate, frames missing in gaps, and how far the rest runs off."""
    gaps = {id: np.diff(clip.times[0].numpy()) for id, clip in clips.items() if clip.times is not None and clip.steps}
    if not gaps:
        return {}, []
    usual = float(np.median(np.concatenate([*gaps.values()])))
    missing = {id: int(np.maximum(np.round(dt / usual) - 1, 0).sum()) for id, dt in gaps.items()}
    steady = {id: np.abs(dt / usual - 1) < 0.5 for id, dt in gaps.items()}
    off = {id: float(np.abs(np.cumsum(np.where(steady[id], dt - 1 / fps, 0))).max() * fps) for id, dt in gaps.items()}
    rate = 1 / float(np.mean(np.concatenate([dt[steady[id]] for id, dt in gaps.items()])))
    lost, drift = sum(missing.values()), max(off.values())
    figures = {"declared": fps, "rate": rate, "missing": lost, "drift": drift, "by_episode": missing}
    found = []
    if abs(rate / fps - 1) > MISMATCH:
        told = f"declared are {fps} frames/s, and the times say {rate:.2f}; import again with the true rate"
        found.append(Finding("rate", told))
    elif drift > 0.5:
        told = f"times leave the grid of {fps} frames/s by up to {drift:.1f} frames: the clock drifts. Use the times, "
        found.append(Finding("clock", f"{told}not frame numbers, to join other logs", worst(off)))
    if lost:
        told = f"{lost} frames were dropped where the times jump; an action there spans several frames: cut there"
        found.append(Finding("dropped", told, worst(missing)))
    return figures, found


def cuts(change: npt.NDArray[Any]) -> list[int]:
    """Steps that are changes of shot, by the mean changes (0..255) between neighbours: alone threefold above both."""
    padded = np.concatenate([[0.0], change, [0.0]])
    return np.flatnonzero((change >= CUT) & (change >= 3 * padded[:-2]) & (change >= 3 * padded[2:])).tolist()


def all_cuts(motions: Mapping[str, Motion]) -> Places:
    """The cuts of every episode; none where they are so common that this is how the view moves."""
    found = {id: cuts(motion.change.max(1)) for id, motion in motions.items()}
    few = sum(map(len, found.values())) <= COMMON * sum(map(len, motions.values()))
    return found if few else {id: [] for id in motions}


def jumps(motions: Mapping[str, Motion]) -> Places | None:
    """Steps in which things move much further than in the steps around; None where motion is too uneven to tell.

    A frame that was dropped, and no gap left in the times, shows as a double step.
    """
    found, even, moving = Places(), 0, 0
    for id, motion in motions.items():
        far = motion.far.max(1)
        near = _around(np.where(far > 0, far, np.nan), 4)
        seen = np.isfinite(near).any(0)
        usual = np.where(seen, np.nanmedian(np.where(seen, near, 0.0), axis=0), np.inf)
        ratio = far / usual
        found[id] = np.flatnonzero((ratio >= DOUBLE) & (far - usual >= 0.5)).tolist()
        even += int(((ratio > 0.75) & (ratio < 1.34)).sum())
        moving += int((seen & (far > 0)).sum())
    return found if moving and even >= EVEN * moving else None


def copies(motions: Mapping[str, Motion], double: Mapping[str, Sequence[int]]) -> tuple[Places, int]:
    """Frames that repeat the one before although time went on, by the number of their step, and their period (or 0).

    A frame without change is a copy when the next step makes up for it, being double, or when such frames come with a
    period of 2 to 6. Others may be pauses.
    """
    still: dict[str, Flags] = {id: np.asarray(motion.still.all(1)) for id, motion in motions.items()}
    for period in range(2, 7):
        if _periodic([*still.values()], period):
            return {id: np.flatnonzero(one).tolist() for id, one in still.items()}, period
    return {id: [step - 1 for step in double.get(id, ()) if step and one[step - 1]] for id, one in still.items()}, 0


def _periodic(still: Sequence[Flags], period: int) -> bool:
    """True when nearly every `period`-th step is still and few others are."""
    on, others = [np.zeros(0, bool)], [np.zeros(0, bool)]
    for one in still:
        phases = [one[phase::period] for phase in range(period)]
        best = max(range(period), key=lambda phase: float(phases[phase].mean()) if len(phases[phase]) else 0.0)
        on.append(phases.pop(best))
        others += phases
    first, rest = np.concatenate(on), np.concatenate(others)
    return bool(first.sum() >= 10 and first.mean() > 0.95 and rest.mean() < 0.3)


def _around(values: npt.NDArray[Any], reach: int) -> Floats:
    """Values of the steps before and after each step, without its own: 2 reach x n; NaN beyond the ends."""
    gap = np.full(reach, np.nan)
    padded = np.concatenate([gap, values, gap])
    return np.stack([padded[reach + i : reach + i + len(values)] for i in range(-reach, reach + 1) if i])


def recording(motions: Mapping[str, Motion], fps: int) -> Found:
    """Cuts, copies and jumps, with their words."""
    cut, double = all_cuts(motions), jumps(motions)
    copied, period = copies(motions, double or {})
    apart = {id: {*cut[id], *(step + 1 for step in copied[id])} for id in motions}  # these are told already
    rest = {id: [step for step in steps if step not in apart[id]] for id, steps in (double or {}).items()}
    kinds = {"cuts": cut, "copies": copied, "jumps": rest}
    counts = {kind: {id: len(one) for id, one in found.items()} for kind, found in kinds.items()}
    total: dict[str, Any] = {kind: sum(one.values()) for kind, one in counts.items()}
    found, steps = [], sum(map(len, motions.values()))
    if total["cuts"]:
        id = worst(counts["cuts"])[0]
        told = f"{total['cuts']} cuts inside episodes (such as after frame {cut[id][0]} of {id}): cut the video there"
        found.append(Finding("cuts", told, worst(counts["cuts"])))
    if period:
        told = f"about every {period}. frame repeats the one before: the video was made from {fps * (period - 1)}/"
        told += f"{period} frames/s; import it with --fps {max(1, fps * (period - 1) // period)}"
        found.append(Finding("copies", told, worst(counts["copies"])))
    elif total["copies"]:
        told = f"{total['copies']} frames repeat the one before while things moved on: no action can be seen there"
        found.append(Finding("copies", told, worst(counts["copies"])))
    if total["jumps"] >= max(FEW, RARE * steps):
        told = f"in {total['jumps']} steps things move twice as far as around: frames were dropped, with no gap in "
        told += "the times; an action there spans several frames"
        found.append(Finding("jumps", told, worst(counts["jumps"])))
    return {**total, "jumps": None if double is None else total["jumps"], "period": period, "by_episode": counts}, found


def views(motions: Mapping[str, Motion], cameras: Sequence[str], unlabelled: bool) -> Found:
    """By camera, how often nothing changes and how often the view itself moves."""
    if not motions:
        return {}, []
    rows, found = [], []
    for number, name in enumerate(cameras):
        still = float(np.concatenate([motion.still[:, number] for motion in motions.values()]).mean())
        by_episode = {id: float(motion.camera[:, number].mean()) for id, motion in motions.items()}
        moving = float(np.concatenate([motion.camera[:, number] for motion in motions.values()]).mean())
        rows.append({"camera": name, "still": still, "moving": moving})
        if still > 0.5:
            found.append(Finding("still", f"{name}: in {still:.0%} of the steps nothing changes"))
        if unlabelled and moving > 0.1:
            told = f"{name}: the view itself moves in {moving:.0%} of the steps; codes found here may be the camera's, "
            found.append(Finding("camera motion", f"{told}not an actor's", worst(by_episode)))
    return {"cameras": rows}, found


def doing(space: ActionSpace, clips: Mapping[str, Clip], motions: Mapping[str, Motion]) -> Found:
    """How often an action is missing, does nothing, or is not to be seen."""
    known = null = unseen = 0
    missing = {}
    for id, clip in clips.items():
        assert clip.source is not None  # every source of episodes fills it
        missing[id] = int((clip.source == MISSING).sum())
        idle = nothing_done(space, clip)
        if idle is not None and id in motions:
            there = np.isin(clip.source[0].numpy(), (RECORDED, PREDICTED))
            known, null = known + int(there.sum()), null + int((idle & there).sum())
            unseen += int((~idle & there & motions[id].still.all(1)).sum())
    acted, found = known - null, []
    figures = {"null_share": null / known if known else None, "unseen_share": unseen / acted if acted else None}
    if known and null > 0.8 * known:
        told = f"in {null / known:.0%} of the steps nothing is done: accuracy flatters, so look at each action"
        found.append(Finding("null", told))
    if acted and unseen > 0.3 * acted:
        told = f"in {unseen / acted:.0%} of the steps in which something is done nothing changes in the frames"
        found.append(Finding("unseen", told))
    return {**figures, "by_episode": missing}, found


def nothing_done(space: ActionSpace, clip: Clip) -> Flags | None:
    """Where an action does nothing, by step: a choice with such a name, no key, a change of about zero.

    None when the space has no such action.
    """
    if clip.actions is None:
        return None
    null = np.ones(clip.steps, bool)
    for segment, columns, _ in space.slices():
        part = clip.actions[0, :, columns].numpy()
        if segment.kind in ONE_HOT:
            names = np.array([value.lower() in NULLS for value in segment.values])
            if not names.any():
                return None
            null &= names[part.argmax(1)]
        elif segment.kind == "binary":
            null &= (part < 0.5).all(1)
        elif segment.relative:
            null &= (np.abs(part) <= 0.01 * max(abs(segment.low), abs(segment.high))).all(1)
        else:
            return None
    return null
