"""The forecast: laws that it must find again, and recorded sprites whose truth at many labels is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrodict.data.check import look
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.envs.rollout import expert, rollout
from retrodict.envs.sprites import Sprites
from retrodict.errors import UnusableInput
from retrodict.label.forecast import SHARES, LearningCurve, forecast
from retrodict.label.probe import Sample, answers, gathered
from retrodict.label.verdict import agree
from retrodict.rng import numpy_rng

FPS = 10


def drawn(counts: list[int], labels: int, floor: float, slope: float, rate: float, seed: int = 0) -> np.ndarray:
    """Answers that are wrong by the law floor + slope * count^-rate."""
    error = floor + slope * np.array(counts, float) ** -rate
    return (numpy_rng(seed, "law").uniform(size=(labels, 1)) >= error).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_a_power_law_is_found_again_within_its_interval(seed: int) -> None:
    counts = [150, 300, 450, 600]
    correct = drawn(counts, 800, 0.02, 3.0, 0.5, seed)  # 14 % wrong at 600, 5.06 % at 9600
    found = forecast(correct, np.array(counts), 800, 0.2, FPS, 0.9)  # 0.08 = 3 / sqrt(1406)
    assert found.needed is not None
    assert found.low is not None
    assert found.low <= 1406 - 800 <= (found.high or np.inf)
    assert found.minutes == pytest.approx(found.needed / FPS / 60)
    far = found.ahead[-1]
    assert far["x"] == 12_800
    assert far["low"] <= 1 - 0.02 - 3 * 12_800**-0.5 <= far["high"]


def test_more_measured_labels_narrow_the_interval_and_more_labels_never_hurt() -> None:
    counts = np.array([30, 60, 90, 120])
    wide, narrow = (LearningCurve(drawn(counts.tolist(), n, 0.0, 3.0, 0.5), counts, 0.1) for n in (160, 16_000))
    assert np.ptp(narrow.accuracy(240)) < np.ptp(wide.accuracy(240))
    accuracy = np.stack([wide.accuracy(n) for n in (120, 240, 480, 960)])
    assert (np.diff(accuracy, axis=0) >= 0).all()
    needed = wide.needed(0.9)
    reached = np.isfinite(needed)
    assert [1 - wide.last[i] * (wide.floor[i] + (1 - wide.floor[i]) * (needed[i] / 120) ** -wide.rate[i])
            for i in np.flatnonzero(reached)[:20]] == pytest.approx([0.9] * 20)  # fmt: skip


@pytest.mark.parametrize(
    ("right", "labels", "chance", "said"),
    [
        (0.9, 20, 0.3, "too few; give 24 or more"),
        (0.35, 64, 0.3, "hardly better than always the same answer"),
        (0.6, 64, 0.3, "do not show a way to 95%"),
        (0.98, 640, 0.3, "is about reached"),
    ],
)
def test_what_cannot_be_foretold_is_said(right: float, labels: int, chance: float, said: str) -> None:
    correct = np.repeat((np.arange(labels) < right * labels)[:, None].astype(float), len(SHARES), 1)
    found = forecast(correct, np.array(SHARES) * labels, labels, chance, FPS, 0.95)
    assert said in found.reason
    assert found.needed == (0 if "reached" in said else None)
    assert found.reason.startswith("no forecast") == (found.needed is None)


def test_a_constant_leaves_no_curve() -> None:
    with pytest.raises(UnusableInput, match="hardly better"):
        LearningCurve(np.zeros((64, 4)), np.array([16, 32, 48, 64]), 0.2)


@pytest.fixture(scope="module")
def pool() -> Sample:
    """Recorded steps of sprites."""
    world = Sprites(8, 36)
    schema = Schema(world.actions, {"observation.image": (36, 36, 3)}, FPS)
    clips = [clip for clip, _, _ in rollout(world, range(100), expert(world, 0.5))]
    store = MemoryStore(schema, [clip.with_(rewards=None, ends=None) for clip in clips])
    found = gathered(store, look(store, "d", lambda clips: clips)[1], 0)
    assert found is not None
    return found


def right(sample: Sample, share: float = 1.0, seed: int = 0) -> np.ndarray:
    belief = answers(sample, 0, seed, share=share)
    return np.asarray(agree(sample.space, belief.mode(), sample.actions).double())


def test_few_labels_of_sprites_foretell_what_many_give(pool: Sample) -> None:
    """Truth is measured on the same world with 128 and 256 labels, on episodes that were not seen."""
    truth = {count: right(pool, count / (0.75 * len(pool))).mean() for count in (128, 256)}
    assert min(truth.values()) > 0.9
    foretold = 0
    for seed, labels in enumerate((24, 32, 64)):
        part = pool.only(torch.from_numpy(numpy_rng(seed, "few").permutation(len(pool)) < labels))
        correct, counts = np.stack([right(part, share, seed) for share in SHARES], 1), np.array(SHARES) * labels * 0.75
        curve = LearningCurve(correct, counts, 0.25, seed)
        for count in (128, 256):
            low, high = np.quantile(curve.accuracy(count), [0.025, 0.975])
            assert low <= truth[count] <= high, f"{count} labels from {labels}"
        found = forecast(correct, counts, labels, 0.25, FPS, float(truth[128]), seed)
        if found.needed and found.low is not None:  # what 128 labels reach takes 128 labels
            foretold += 1
            assert labels + found.low <= 128 <= labels + (np.inf if found.high is None else found.high)
    assert foretold
