"""Calibration against closed forms, and its promises against simulations in which they could fail."""

import math

import numpy as np
import pytest
import torch

from retrodict.errors import UnusableInput
from retrodict.measure.calibrate import (
    PRIOR,
    abstention_threshold,
    class_temperatures,
    conformal_cutoff,
    conformal_margin,
    labels_needed,
    limits,
    match_accuracy,
    temperatures,
)
from retrodict.segments import Segment
from retrodict.spaces import ActionSpace, Distribution, categorical, continuous


def test_the_conformal_cutoff_by_hand() -> None:
    # 9 labels at level 0.8: rank ceil(10 * 0.8) = 8, the eighth largest probability.
    assert conformal_cutoff(np.arange(1, 10) / 10, level=0.8) == 0.2


def test_too_few_labels_keep_every_class() -> None:
    assert conformal_cutoff(np.full(18, 0.9)) == 0.0
    assert conformal_cutoff(np.full(19, 0.9)) == 0.9
    assert conformal_margin(np.full(18, 0.5)) is None
    assert conformal_margin(np.append(np.full(18, 0.5), -2.0)) == 2.0


def test_conformal_sets_cover_as_promised_even_for_a_poor_model() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        own = rng.beta(2, 3, size=31)  # probability of the true class; nothing like calibrated
        covered.append(own[30] >= conformal_cutoff(own[:30], level=0.8))
    assert 0.74 < np.mean(covered) < 0.9  # exact coverage is 25/31 = 0.806


def test_precision_of_95_percent_takes_59_faultless_labels() -> None:
    assert labels_needed(0.95) == 59
    assert labels_needed(0.5, level=0.75) == 2
    sure = np.linspace(0.5, 1.0, 59)
    assert abstention_threshold(sure, np.ones(59, bool), 0.95) == 0.5
    assert abstention_threshold(sure[1:], np.ones(58, bool), 0.95) is None


def test_the_threshold_cuts_off_the_unsure_half() -> None:
    confidence = np.concatenate([np.linspace(0.9, 1.0, 600), np.linspace(0.3, 0.5, 400)])
    correct = np.concatenate([np.ones(600), np.tile([0, 1], 200)])
    threshold = abstention_threshold(confidence, correct, 0.95)
    assert threshold is not None
    assert 0.5 < threshold <= 0.95
    assert abstention_threshold(confidence, correct, 0.6) == 0.3
    assert abstention_threshold(confidence, np.tile([0, 1], 500), 0.95) is None


def test_the_promised_precision_holds_when_confidence_says_nothing() -> None:
    # The true precision is just below the one asked for at every threshold: any answer is a broken promise.
    rng = np.random.default_rng(2)
    broken = sum(
        abstention_threshold(rng.uniform(size=300), rng.uniform(size=300) < 0.899, 0.9) is not None for _ in range(400)
    )
    assert broken / 400 <= 0.05


@pytest.mark.parametrize(
    "refused",
    [
        lambda: match_accuracy(np.zeros((0, 2)), np.zeros(0, int)),
        lambda: match_accuracy(np.zeros((2, 2)), np.array([0, 2])),
        lambda: match_accuracy(np.zeros((2, 2)), np.array([0, 1]), merged=(0,)),
        lambda: conformal_cutoff(np.array([1.5])),
        lambda: conformal_cutoff(np.array([0.5]), level=1.0),
        lambda: conformal_margin(np.array([])),
        lambda: abstention_threshold(np.array([0.5]), np.array([1]), 1.0),
        lambda: abstention_threshold(np.array([]), np.array([]), 0.9),
    ],
)
def test_unusable_arrays_are_refused(refused: object) -> None:
    with pytest.raises(UnusableInput):
        refused()  # type: ignore[operator]


def test_confidence_matches_accuracy_by_hand() -> None:
    """Two values at logits ±1: confidence is sigmoid(2 / T); 3 of 4 right asks for (3 + 1) / (4 + 2)."""
    logits = np.array([[1.0, -1.0]] * 4)
    temperature = match_accuracy(logits, np.array([0, 0, 0, 1]))
    assert 1 / (1 + np.exp(-2 / temperature)) == pytest.approx(4 / 6, abs=1e-6)


def test_faultless_labels_do_not_ask_for_certainty() -> None:
    logits = np.array([[5.0, -5.0]] * 18)
    temperature = match_accuracy(logits, np.zeros(18, int))
    assert 1 / (1 + np.exp(-10 / temperature)) == pytest.approx(19 / 20, abs=1e-6)


def test_merged_values_are_one_class_when_matching() -> None:
    """Classes 0.8 and 0.2; all 8 right ask for 9 / 10: (0.8 / 0.2)^(1 / T) = 9."""
    logits = np.log(np.array([[0.4, 0.4, 0.2]] * 8))
    temperature = match_accuracy(logits, np.array([0] * 8), merged=[0, 0, 1])
    assert np.log(4) / temperature == pytest.approx(np.log(9), abs=1e-6)


def test_calibrated_logits_need_no_temperature_and_sharpened_ones_theirs() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (6000, 4))
    chosen = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    assert match_accuracy(logits, chosen) == pytest.approx(1.0, abs=0.05)
    assert match_accuracy(3 * logits, chosen) == pytest.approx(3.0, abs=0.15)
    assert class_temperatures(3 * logits, chosen) == pytest.approx([3.0] * 4, abs=0.3)


def test_each_class_gets_the_temperature_of_its_own_mistakes_by_hand() -> None:
    """Class 0 is right 20 times of 20, class 1 10 of 20: their accuracies are drawn to (30 + 1) / (40 + 2)."""
    logits = np.array([[2.0, -2.0]] * 20 + [[-2.0, 2.0]] * 20)
    truth = np.array([0] * 20 + [1] * 10 + [0] * 10)
    overall = 31 / 42
    first, second = class_temperatures(logits, truth)
    for found, right in ((first, 20), (second, 10)):
        wanted = (right + PRIOR * overall) / (20 + PRIOR)
        assert 1 / (1 + np.exp(-4 / found)) == pytest.approx(wanted, abs=1e-6)
    assert first < match_accuracy(logits, truth) < second


def test_a_class_that_was_never_answered_takes_the_temperature_of_all() -> None:
    logits = np.array([[2.0, -2.0, -9.0]] * 8)
    truth = np.array([0] * 6 + [1] * 2)
    found = class_temperatures(logits, truth)
    assert found[1] == found[2] == pytest.approx(match_accuracy(logits, truth))


def test_every_kind_of_segment_is_made_as_sure_as_it_is_right() -> None:
    """A choice, two keys and an axis that claims a tenth of its true error."""
    space = ActionSpace(
        (
            categorical("move", ("a", "b", "c"), (("b", "c"),)),
            Segment("keys", "binary", ("x", "y")),
            continuous("turn", ("yaw",), center=(2.0,), scale=(4.0,)),
        )
    )
    truth = torch.zeros(400, space.width)
    truth[:, 0] = (torch.arange(400) % 4 > 0).float()  # a in 3 of 4, else b
    truth[:, 1] = 1 - truth[:, 0]
    truth[:, 3] = (torch.arange(400) % 2).float()
    truth[:, 5] = 2 + 4 * torch.randn(400, generator=torch.Generator().manual_seed(0))
    params = torch.zeros(400, space.parameters)
    params[:, 0], params[:, 3], params[:, 6] = 5.0, 3.0, math.log(0.1)
    params[:, 4] = (2 * truth[:, 4] - 1) * 0.1  # always right and hardly sure
    found = temperatures(Distribution(space, params), truth)
    assert found[1] == found[2]  # one class
    scaled = Distribution(space, params).scaled(found)
    assert scaled.merged("move")[:, 0].mean().item() == pytest.approx(0.75, abs=0.01)
    assert scaled.probabilities("keys")[:, 0].mean().item() == pytest.approx(0.5, abs=0.01)
    assert scaled.probabilities("keys")[:, 1].max().item() <= 401 / 402 + 1e-4
    spread = scaled.params[0, 6].exp().item()
    assert spread == pytest.approx(((truth[:, 5] - 2) / 4).square().mean().sqrt().item(), rel=1e-4)
    assert torch.equal(scaled.mode(), Distribution(space, params).mode())


def test_sets_and_intervals_hold_the_truth_as_often_as_promised() -> None:
    """Over 300 draws of 40 labels, the sets of a fresh step hold it with 0.9 or more, and not with certainty."""
    space = ActionSpace(
        (categorical("move", ("a", "b", "c")), Segment("keys", "binary", ("x",)), continuous("turn", ("yaw",)))
    )
    rng = torch.Generator().manual_seed(0)
    held = torch.zeros(3)
    for _ in range(300):
        params = torch.randn(41, space.parameters, generator=rng) * 1.5
        truth = Distribution(space, params / 2).sample(rng)  # what the model says is too sure
        belief = Distribution(space, params)
        found = belief[-1:].bounds(limits(belief[:-1], truth[:-1]))[0]
        inside = (found[0] - 1e-5 <= truth[-1]) & (truth[-1] <= found[1] + 1e-5)
        held += torch.stack([inside[:3].all(), inside[3], inside[4]]).float()
    assert (held / 300 >= 0.86).all()
    assert (held / 300 <= 0.99).all()


def test_too_few_labels_leave_everything_open() -> None:
    space = ActionSpace((categorical("move", ("a", "b", "c")), continuous("turn", ("yaw",))))
    belief = Distribution(space, torch.tensor([[9.0, 0.0, 0.0, 0.0, 0.0]]).expand(8, -1))
    found = belief.bounds(limits(belief, belief.mode()))[0]
    assert found[1, :3].tolist() == [1, 1, 1]
    assert found[1, 3] - found[0, 3] == pytest.approx(200)


def test_labels_that_were_answered_several_times_count_once() -> None:
    logits = np.array([[2.0, -2.0]] * 6 + [[-1.0, 1.0]] * 4)
    truth = np.array([0] * 5 + [1] * 4 + [0])
    thrice = np.concatenate([logits] * 3), np.concatenate([truth] * 3)
    assert match_accuracy(*thrice, None, 3) == pytest.approx(match_accuracy(logits, truth))
    assert class_temperatures(*thrice, None, 3) == pytest.approx(class_temperatures(logits, truth))
