"""The gate: how familiar video must be for a run's labels to be believed, learnt from the run's own frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.models.familiarity import Familiarity
from retrodict.nn.conv import patch_for
from retrodict.roles import Score, System
from retrodict.run.run import Run

FRAMES = 600  # frames that are looked at, and as many held-out ones


def gated(system: System, run: Run) -> System:
    """Returns the system with a Score of familiarity, unless it has a score or no inverse model."""
    if system.inverse is None or system.score is not None:
        return system
    return replace(system, score=familiarity(run))


def familiarity(run: Run) -> Familiarity:
    """Learns which patches the run's video holds, as stages of the run; the limit is set on episodes kept apart."""
    steps = run.data.unlabelled
    ids = [steps.cache.ids[number] for number in np.unique(steps.cache.episode[steps.index])]  # those with a step
    order = rng.numpy_rng(run.seed, "gate").permutation(len(ids))
    kept = max(1, len(ids) // 5) if len(ids) > 1 else 0
    own, held = ({ids[i] for i in part} for part in (order[kept:], order[:kept] if kept else order))
    score = Familiarity(steps.cache.view(), patch_for(steps.cache.size))

    def first(clip: Clip) -> dict[str, torch.Tensor]:
        assert clip.frames is not None  # of a cache
        return {"frames": clip.frames[:, 0]}

    seen = run.map("gate/seen", first, _some(steps, own, run.seed))["frames"]
    apart = run.map("gate/held", first, _some(steps, held, run.seed))["frames"]
    score.learn(score.patches(seen), apart)
    return score


def _some(steps: Steps, ids: set[str], seed: int) -> Steps:
    """At most FRAMES steps of these episodes, drawn evenly."""
    inside = np.isin(steps.cache.episode[steps.index], [n for n, id in enumerate(steps.cache.ids) if id in ids])
    mine = steps.only(np.flatnonzero(inside))
    return mine if len(mine) <= FRAMES else mine.uniform(FRAMES, seed, "gate")


@torch.no_grad()
def refused(score: Score, video: Steps) -> float:
    """Share of the steps of a video at which a score is negative."""
    return float(torch.cat([(score(clip.cut(0, 2)) < 0).float() for _, clip in video.batches(256)]).mean())
