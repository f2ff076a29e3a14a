"""Health: whether the actions of a dataset belong to its frames, and what else is wrong, in figures and plain words.

times, frames, actions ─ symptoms        recorded steps ─ probe, forecast        latent runs ─ codes
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from retrodict.clip import RECORDED, Clip
from retrodict.data.check import look
from retrodict.data.schema import Episodes
from retrodict.label.codes import codes_of
from retrodict.label.crossfit import FOLDS
from retrodict.label.forecast import SHARES, TARGET, Forecast, forecast
from retrodict.label.probe import (
    Offset,
    Sample,
    answers,
    better,
    chosen,
    find_drift,
    find_offset,
    gathered,
    scan,
    skills,
    spread_of,
)
from retrodict.label.scores import SEEN, scores
from retrodict.label.symptoms import Finding, Found, clock, doing, recording, views
from retrodict.label.verdict import PRECISION, Verdict, Word, agree, commonest, held_out, judge
from retrodict.measure.intervals import wilson
from retrodict.measure.labels import BINS, calibration
from retrodict.roles import System

UNSURE = 0.05  # calibration error, beyond what chance makes of so few labels
WORSE = 0.15  # by how much an episode's share of right answers must lie below that of all, to be named
MOST_EPISODES = 20  # that are listed, the worst


@dataclass(frozen=True)
class Health:
    """A check-up: `checked` (see `data.check.check`), the verdict, the figures by name, and what is wrong.

    Everything is plain JSON; a figure that the data cannot give is None or absent.
    """

    checked: Mapping[str, Any]
    verdict: Verdict
    figures: Mapping[str, Any]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        health = {"verdict": self.verdict, "figures": self.figures, "findings": self.findings}
        value: dict[str, Any] = json.loads(json.dumps({**self.checked, "health": health}, default=asdict))
        return value


def words(told: Mapping[str, Any]) -> list[str]:
    """Returns the JSON of a check-up in plain words: the main figures, what is wrong, the verdict."""
    figures, lines = told["health"]["figures"], []
    if labels := figures.get("labels"):
        found, right = labels["offset"]["steps"], labels["right"]
        lines.append(f"offset         {_steps(found)}")
        share = {name: f"{one['value']:.0%}" for name, one in right.items()}
        known = f"{share['two frames']} of {labels['count']} recorded steps from two frames, "
        known += f"{share['one frame']} from one, {share['constant']} by always one answer"
        if numbers := _r2(labels["parts"]):
            known = f"{labels['count']} recorded steps, R² of {numbers}"
        lines += [f"read rightly   {known}", f"more labels    {labels['forecast']['reason']}"]
    if figures["clock"] and figures["recording"]:
        both = {**figures["clock"], **figures["recording"]}
        known = "{rate:.2f} frames/s, {missing} dropped, {copies} repeated, {cuts} cuts".format(**both)
        lines.append(f"recording      {known}")
    for book in figures.get("codes", {}).get("books", ()):
        looks = "; ".join(f"{row['share']:.0%} {row['looks']}" for row in book["rows"][:4])
        lines.append(f"codes          {book['used']} of {book['size']} used, worth {book['perplexity']:.1f}: {looks}")
    lines += [f"wrong          {finding['kind']}: {finding['word']}" for finding in told["health"]["findings"]]
    return [*lines, f"health         {told['health']['verdict']['word']}: {told['health']['verdict']['reason']}"]


def examine(
    source: Episodes, folder: Path | str, system: System | None = None, evidence: Mapping[str, Any] | None = None,
    precision: float = PRECISION, seed: int = 0, say: Callable[[str], None] = lambda line: None, every: bool = True,
) -> Health:  # fmt: skip
    """Examines a dataset, and the system that labelled it where there is one.

    `evidence` are that system's answers to held-out labels (`verdict.held_out`); without them small networks answer
    recorded steps, and the verdict says how far these actions can be read from these frames. Frames are streamed once,
    all of them or, unless `every`, those of some episodes (`probe.chosen`).

    Raises:
        UnusableInput, Damaged: as `data.check.check`.
    """

    def choose(clips: Mapping[str, Clip]) -> list[str]:
        return chosen(source.lengths, {id: int((_source(clip) == RECORDED).sum()) for id, clip in clips.items()}, seed)

    say("looking at the frames")
    checked, seen = look(source, folder, choose, every)
    clips = {id: one.clip for id, one in seen.items()}
    motions = {id: one.motion for id, one in seen.items() if one.motion is not None}
    sample, fps = gathered(source, seen, seed), source.schema.fps
    told = {"clock": clock(clips, fps), "recording": recording(motions, fps)}
    told["doing"] = doing(source.schema.space, clips, motions)
    told["views"] = views(motions, [*source.schema.cameras], unlabelled=sample is None)
    verdict = Verdict("unknown", "there are no recorded actions, or too few, to measure with")
    if sample is not None:
        say(f"asking {len(sample)} recorded steps")
        told["labels"], verdict = read(sample, fps, precision, seed)
    if evidence is not None:
        told["calibration"], verdict = _calibration(evidence), judge(evidence, precision)
    if system is not None:
        told["codes"] = codes_of(system, source, motions)
    figures = {name: one[0] for name, one in told.items()}
    findings = tuple(finding for one in told.values() for finding in one[1])
    return Health(checked, verdict, {**figures, "episodes": _episodes(source, figures)}, findings)


def read(sample: Sample, fps: int, precision: float, seed: int = 0) -> tuple[Found, Verdict]:
    """Answers recorded steps by networks that have not seen them, where their effect is, and says what follows.

    Choices and keys are right or wrong, and give a forecast; numbers are judged by how much of them is explained.
    """
    scanned = scan(sample, seed)
    offset, drift = find_offset(scanned), find_drift(sample, scanned)
    shift = offset.steps or 0
    known = sample.only(sample.valid(shift))
    truth, belief, single = known.actions, answers(known, shift, seed), answers(known, shift, seed, frames=1)
    constant = commonest(known.space, truth).expand_as(truth)
    said = {"two frames": belief.mode(), "one frame": single.mode(), "constant": constant}
    right = {name: agree(known.space, answer, truth) for name, answer in said.items()}
    skill = {name: skills(known.space, answer, truth) for name, answer in said.items()}
    evidence, parts = held_out(belief, truth), scores(belief, truth)
    if numeric := bool(_r2(parts)):
        ahead = Forecast(precision, len(known), (), reason="no forecast: numbers are not right or wrong")
        verdict = _of_numbers(skill["two frames"] - skill["constant"], parts)
    else:
        ahead = _forecast(known, shift, right["two frames"], evidence["majority"], fps, precision, seed)
        verdict = judge(evidence, precision)
    found = [*_offset_words(offset), *_drift_words(drift), *(_leaks(known, skill) if offset.steps is not None else ())]
    if (hidden := parts.get("hardly_seen")) and offset.steps is not None:
        told = f"small networks hardly read {', '.join(hidden)} (R² below {SEEN}): another camera may show more, or it "
        found.append(Finding("part", f"{told}takes a trained model"))
    cameras, apart = _cameras(sample, shift, seed)
    episodes, low = _by_episode(known, right["two frames"])
    shares = {name: _mean(one) for name, one in (skill if numeric else right).items()}
    figures = {
        "count": len(known), "offset": asdict(offset), "drift": drift, "right": shares, "numbers": numeric,
        "parts": parts, "forecast": asdict(ahead), "cameras": cameras, "by_episode": episodes,
    }  # fmt: skip
    return (figures, [*found, *apart, *low]), _moved(verdict, offset)


def _forecast(
    known: Sample, shift: int, right: Bool[Tensor, "n"], chance: float, fps: int, precision: float, seed: int
) -> Forecast:
    """Asks networks of fewer labels as well; the target is the precision, or once that is reached TARGET."""
    told = [answers(known, shift, seed, share=share).mode() for share in SHARES[:-1]]
    fewer = [agree(known.space, answer, known.actions) for answer in told]
    table = torch.stack([*fewer, right], 1).double().numpy()
    counts, reached = np.array(SHARES) * len(known) * (FOLDS - 1) / FOLDS, table[:, -1].mean() >= precision
    target = max(precision, TARGET) if reached else precision
    return forecast(table, counts, len(known), chance, fps, target, seed)


def _of_numbers(gain: Float[Tensor, "n"], parts: Mapping[str, Any]) -> Verdict:
    """A verdict on actions that are numbers, by how much of their variance small networks explain.

    `gain` is by how much each score is above that of always one answer.
    """
    told = f"R² of {_r2(parts)} by small networks; a trained model says how exact labels get"
    if not better(gain):
        return Verdict("not actions", f"{told}; that is not beyond doubt better than always one answer", len(gain))
    word: Word = "usable" if not parts["hardly_seen"] else "usable with abstention"
    return Verdict(word, told, len(gain))


def _r2(parts: Mapping[str, Any]) -> str:
    """R² of each number, in words; empty where no number varies."""
    return ", ".join(f"{name[3:]} {value:.2f}" for name, value in parts.items() if name.startswith("r2_"))


def _mean(scores: Tensor) -> dict[str, float | None]:
    """A mean with its 95 % interval: Wilson's where each answer is right or wrong, else the normal one."""
    if scores.dtype != torch.bool:
        return {**spread_of(scores)}
    share = wilson(int(scores.sum()), len(scores))
    return {"value": share.value, "low": share.low, "high": share.high}


def _moved(verdict: Verdict, offset: Offset) -> Verdict:
    """Where actions are is not where their effect is: as they are recorded, they are none."""
    if not offset.steps:
        return verdict
    told = f"they are {offset.steps:+d} steps away from their effect; of these, once moved, {verdict.reason}"
    return replace(verdict, word="not actions", reason=told)


def _offset_words(offset: Offset) -> list[Finding]:
    if offset.steps is None:
        ends = f"{offset.scores[0]['x']:+d} to {offset.scores[-1]['x']:+d}"
        return [Finding("unreadable", f"at no shift from {ends} frames do the frames tell the actions beyond doubt")]
    if not offset.steps:
        return []
    score = {row["x"]: row["value"] for row in offset.scores}
    far = f"{abs(offset.steps)} step" + ("s" if abs(offset.steps) > 1 else "")
    early = offset.steps > 0
    told = f"actions are recorded {far} {'before (a latency)' if early else 'after'} their effect is seen "
    told += f"(score {score[offset.steps]:.2f} there, {score[0]:.2f} where they are). Move every action {far} "
    told += f"{'later' if early else 'earlier'}, or train with --recipe vpt --set shifts=[{offset.steps}]"
    return [Finding("offset", told)]


def _drift_words(drift: tuple[tuple[int, int], tuple[int, int]] | None) -> list[Finding]:
    if drift is None:
        return []
    (first, early), (last, late) = drift
    told = f"their offset is {early:+d} near step {first} and {late:+d} near step {last}: cut long episodes, or mend "
    return [Finding("drift", f"the clock of the actions drifts against the frames: {told}the times")]


def _leaks(sample: Sample, skill: Mapping[str, Float[Tensor, "n"]]) -> list[Finding]:
    """Whether something else than motion tells the action: a single frame, or the episode that it is in."""
    found = []
    two, one = skill["two frames"], skill["one frame"]
    if not better(two - one):
        told = f"one frame tells the action as well as two (score {one.mean():.2f} and {two.mean():.2f}): labels "
        found.append(Finding("one frame", f"{told}would say what is usually done there, not what was done"))
    truth, usual = sample.actions, sample.actions.clone()
    groups = [(sample.episode == number).nonzero()[:, 0] for number in np.unique(sample.episode).tolist()]
    groups = [mine for mine in groups if len(mine) > 2]
    for mine in groups:
        usual[mine] = commonest(sample.space, truth[mine])
    same = agree(sample.space, usual, truth)[torch.cat(groups)].float() if groups else torch.zeros(1)
    constant = agree(sample.space, commonest(sample.space, truth).expand_as(truth), truth).float()
    if float(same.mean()) > 0.95 and float(constant.mean()) < 0.8:
        told = f"{same.mean():.0%} of the recorded steps have the commonest action of their episode, so the look of "
        found.append(Finding("episode", f"{told}an episode gives it away: record episodes in which actions change"))
    return found


def _cameras(sample: Sample, shift: int, seed: int) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Each camera alone: how much it tells, of which part, and at which offset (one that cannot say is asked at
    `shift`); nothing of a single one."""
    rows: list[dict[str, Any]] = []
    for name in sample.steps.cache.cameras if len(sample.steps.cache.cameras) > 1 else ():
        alone = sample.camera(name)
        offset = find_offset(scan(alone, seed)).steps
        at = shift if offset is None else offset
        known = alone.only(alone.valid(at))
        belief = answers(known, at, seed)
        parts, said = scores(belief, known.actions), belief.mode()
        right = skills(known.space, said, known.actions) if _r2(parts) else agree(known.space, said, known.actions)
        rows.append({"camera": name, "offset": offset, "right": _mean(right), "parts": parts})
    if len({row["offset"] for row in rows} - {None}) < 2:
        return rows, []
    told = ", ".join(f"{row['camera']}: {row['offset']:+d}" for row in rows if row["offset"] is not None)
    return rows, [Finding("cameras", f"cameras are not in step; offsets of the actions: {told}")]


def _by_episode(sample: Sample, flags: Bool[Tensor, "n"]) -> Found:
    """Right answers and questions by episode; an episode far below the rest is named."""
    ids = sample.steps.cache.ids
    rows = {}
    for number in np.unique(sample.episode).tolist():
        mine = flags[sample.episode == number]
        rows[ids[number]] = [int(mine.sum()), len(mine)]
    limit = float(flags.float().mean()) - WORSE
    low = [id for id, (good, asked) in rows.items() if (wilson(good, asked, 0.999).high or 0.0) < limit]
    if not low:
        return rows, []
    told = f"{len(low)} episodes are read far worse than the rest, such as {low[0]} ({rows[low[0]][0]} of "
    return rows, [Finding("episodes", f"{told}{rows[low[0]][1]} right)", tuple(low[:5]))]


def _calibration(evidence: Mapping[str, Any]) -> Found:
    """How far stated confidence is from the share that is right, on held-out labels."""
    found = calibration(np.array(evidence["confidence"]), np.array(evidence["correct"]))
    count = len(evidence["correct"])
    bins = [{"confidence": b.confidence, "accuracy": b.accuracy, "count": b.steps} for b in found.bins]
    figures = {"error": found.error, "labels": count, "bins": bins}
    if found.error <= UNSURE + 0.4 * (BINS / count) ** 0.5:  # so much is chance (see measure.labels.Calibration)
        return figures, []
    told = f"stated confidence is {found.error:.2f} away from the share that is right, on {count} held-out labels"
    return figures, [Finding("calibration", f"{told}: do not choose by it")]


def _episodes(source: Episodes, figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The episodes in which most is wrong, the worst first: faults of the recording, steps without an action, and how
    many of the steps that were asked were read rightly."""
    faults = {**figures["recording"]["by_episode"], "dropped": figures["clock"].get("by_episode", {})}
    read, missing, rows = figures.get("labels", {}).get("by_episode", {}), figures["doing"]["by_episode"], []
    for id in source.ids:
        right, asked = read.get(id, (0, 0))
        row = {kind: found.get(id, 0) for kind, found in faults.items()}
        told = {"episode": id, "frames": source.lengths[id], **row, "missing": missing.get(id)}
        rows.append({**told, "asked": asked, "right": right})
    rows.sort(key=lambda row: (-sum(row[kind] for kind in faults), row["right"] - row["asked"]))
    return rows[:MOST_EPISODES]


def _steps(offset: int | None) -> str:
    """An offset in words."""
    return "cannot be told" if offset is None else f"{offset:+d} steps" if offset else "none"


def _source(clip: Clip) -> Tensor:
    assert clip.source is not None  # every source of episodes fills it
    return clip.source
