"""Latent measures on counts done by hand, and on shuffled or constant codes, which must score nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrodict.errors import UnusableInput
from retrodict.measure.latents import (
    code_usage,
    fit_linear,
    fit_table,
    information,
    joint_codes,
    leak,
    probe_curve,
    transfer_distance,
)

RNG = np.random.default_rng(0)
ACTIONS = RNG.integers(0, 4, 2000)


def test_several_codes_become_one() -> None:
    found = joint_codes(np.array([[1, 5], [0, 5], [1, 5], [1, 4]]))
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3


def test_usage_counts_what_is_used() -> None:
    found = code_usage(np.array([0, 0, 2, 2]), size=8)
    assert (found.used, found.size, found.perplexity) == (2, 8, 2.0)
    assert found.counts.tolist() == [2, 0, 2, 0, 0, 0, 0, 0]
    assert code_usage(np.full(9, 5), size=8).perplexity == 1.0  # collapsed


def test_information_by_hand() -> None:
    # Joint counts 2 2 / 0 4: H(a) = H(1/4) bits, H(q) = 1, H(q, a) = 1.5.
    codes, actions = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1, 1, 1])
    entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    found = information(codes, actions)
    assert found.raw == pytest.approx(entropy + 1 - 1.5)
    assert found.action_entropy == pytest.approx(entropy)
    assert found.excess == pytest.approx(1.5 - entropy)
    assert found.corrected == found.raw - found.correction
    assert found.recovered == pytest.approx(found.corrected / entropy)


def test_codes_that_are_the_action_recover_all_of_it() -> None:
    found = information((ACTIONS + 1) % 4, ACTIONS)
    assert found.raw == pytest.approx(found.action_entropy)
    assert found.recovered == pytest.approx(1.0, abs=0.01)
    assert found.excess == pytest.approx(0.0, abs=1e-12)


def test_shuffled_codes_carry_nothing_once_corrected() -> None:
    codes = RNG.integers(0, 64, 2000)
    found = information(codes, ACTIONS)
    assert found.raw > 0.05  # the trap: random codes look informative
    assert abs(found.corrected) < 0.03  # four standard deviations
    assert found.excess == pytest.approx(6.0 - found.raw, abs=0.05)


def test_a_finer_code_shows_as_excess_and_one_action_has_nothing_to_recover() -> None:
    finer = ACTIONS * 2 + RNG.integers(0, 2, 2000)
    assert information(finer, ACTIONS).excess == pytest.approx(1.0, abs=0.01)
    assert information(finer, np.zeros(2000, int)).recovered is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30), st.permutations(range(4)))
def test_information_does_not_depend_on_the_names_of_codes(pairs: list[tuple[int, int]], names: list[int]) -> None:
    codes, actions = np.array(pairs).T
    found = information(codes, actions, shuffles=1)
    assert found.raw == pytest.approx(information(np.array(names)[codes], actions, shuffles=1).raw)
    assert -1e-12 <= found.raw <= min(found.code_entropy, found.action_entropy) + 1e-12


def test_table_names_codes_and_falls_back_on_the_majority() -> None:
    #           code 0: class 2 twice; code 1: classes 0 and 1 tied; code 3: class 1 once; code 4: class 1
    probe = fit_table(np.array([0, 0, 1, 1, 3, 4]), np.array([2, 2, 0, 1, 1, 1]))
    # Class 1 is the commonest of all: it wins the tie, and codes 2 (never met) and 9 (beyond the table).
    assert probe.predict(np.array([0, 1, 2, 3, 9])).tolist() == [2, 1, 1, 1, 1]


def test_a_majority_of_labels_does_not_overrule_a_code_of_its_own() -> None:
    probe = fit_table(np.array([0] * 50 + [1]), np.array([1] * 50 + [0]))
    assert probe.predict(np.array([0, 1])).tolist() == [1, 0]


def test_linear_probe_solves_its_own_optimality_condition() -> None:
    features = RNG.normal(size=(80, 3)) * [1.0, 100.0, 0.01] + 5
    truth = (features[:, 0] > 5).astype(int) + (features[:, 1] > 50)
    probe = fit_linear(features, truth, strength=2.0)
    x = (features - features.mean(0)) / features.std(0)
    logits = x @ probe.weights + probe.bias
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = x.T @ (soft - np.eye(3)[truth]) + 2.0 * probe.weights
    assert np.abs(gradient).max() < 1e-3  # of a sum over 80 labels


def test_linear_probe_ignores_scale_and_a_feature_that_never_changes() -> None:
    x = RNG.normal(size=(60, 2))
    truth = (x[:, 0] + x[:, 1] > 0).astype(int)
    fitted = fit_linear(x, truth)
    dead = np.concatenate([x * [1000.0, 0.001], np.full((60, 1), 7.0)], 1)
    assert (fit_linear(dead, truth).predict(dead) == fitted.predict(x)).all()


def test_one_class_among_the_labels_is_predicted_everywhere() -> None:
    probe = fit_linear(RNG.normal(size=(5, 2)), np.full(5, 2))
    assert probe.predict(RNG.normal(size=(9, 2))).tolist() == [2] * 9


def test_probe_curves_rise_for_good_latents_and_stay_at_chance_for_random_ones() -> None:
    train, test = slice(0, 1000), slice(1000, 2000)
    features = np.eye(4)[ACTIONS] + RNG.normal(size=(2000, 4)) * 0.2
    for latents in (ACTIONS, features):
        points = probe_curve(latents[train], ACTIONS[train], latents[test], ACTIONS[test], (2, 256), draws=3)
        assert [p.labels for p in points] == [2, 256]
        assert points[0].accuracy < 0.6  # two labels name two classes at most
        assert points[1].accuracy > 0.99
    shuffled = RNG.permutation(features)
    control = probe_curve(shuffled[train], ACTIONS[train], shuffled[test], ACTIONS[test], (256,), draws=3)
    assert control[0].accuracy == pytest.approx(0.25, abs=0.05)
    assert len(control[0].accuracies) == 3


def test_more_labels_than_steps_are_refused() -> None:
    with pytest.raises(UnusableInput, match="64"):
        probe_curve(np.arange(4), np.arange(4), np.arange(4), np.arange(4), (64,))


def test_the_cut_test() -> None:
    assert leak(0.0, 2.0) == 1.0  # reconstructs an unrelated frame: the latent carries it
    assert leak(2.0, 2.0) == 0.0
    assert leak(3.0, 2.0) == -0.5
    with pytest.raises(UnusableInput):
        leak(1.0, 0.0)


def test_transfer_distance() -> None:
    z = RNG.normal(size=(1000, 4)) * [1.0, 2.0, 3.0, 4.0]
    assert transfer_distance(z, z) == 0.0
    assert transfer_distance(z, RNG.permutation(z)) == pytest.approx(1.0, abs=0.1)
    # By hand: differences 2 and 0, mean square 2; all four pairs: 4, 0, 4, 0 -> 2.
    assert transfer_distance(np.array([[0.0], [0.0]]), np.array([[2.0], [0.0]])) == pytest.approx(1.0)
    with pytest.raises(UnusableInput):
        transfer_distance(np.ones((3, 2)), np.ones((3, 2)))


@pytest.mark.parametrize(
    "refused",
    [
        lambda: joint_codes(np.zeros((0, 2), int)),
        lambda: joint_codes(np.zeros((2, 2))),
        lambda: code_usage(np.array([8]), size=8),
        lambda: information(np.array([], int), np.array([], int)),
        lambda: information(np.array([0]), np.array([0]), shuffles=0),
        lambda: fit_table(np.array([0]), np.array([0, 1])),
        lambda: fit_linear(np.array([[np.nan]]), np.array([0])),
        lambda: fit_linear(np.array([[1.0]]), np.array([0]), strength=0.0),
        lambda: leak(np.nan, 1.0),
    ],
)
def test_unusable_arrays_are_refused(refused: object) -> None:
    with pytest.raises(UnusableInput):
        refused()  # type: ignore[operator]
