"""The verdict on labels, against cases computed by hand."""

from __future__ import annotations

import pytest
import torch

from retrodict.errors import UnusableInput
from retrodict.label.verdict import agree, commonest, held_out, judge
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, continuous

MOVES = ActionSpace((categorical("move", ("stay", "left", "right"), groups=(("stay", "left"),)),))
MIXED = ActionSpace((categorical("move", ("a", "b")), Segment("keys", "binary", ("x", "y")), continuous("v", ("v",))))


def evidence(right: int, wrong: int, majority: float, sure: float = 0.9, unsure: float = 0.4) -> dict[str, object]:
    return {
        "correct": [1] * right + [0] * wrong,
        "confidence": [sure] * right + [unsure] * wrong,
        "majority": majority,
    }


def test_merged_values_agree_and_others_do_not() -> None:
    stay, left, right = torch.eye(3)
    first, second = torch.stack([stay, left, right, right]), torch.stack([left, left, right, stay])
    assert agree(MOVES, first, second).tolist() == [True, True, True, False]


def test_an_action_agrees_only_when_every_segment_does() -> None:
    base = torch.tensor([1.0, 0, 1, 0, 0.5])
    other_move, other_key = torch.tensor([0.0, 1, 1, 0, 0.5]), torch.tensor([1.0, 0, 1, 1, 0.5])
    near, far = torch.tensor([1.0, 0, 1, 0, 0.69]), torch.tensor([1.0, 0, 1, 0, 0.71])  # tolerance: 0.1 of 2
    rows = torch.stack([base, other_move, other_key, near, far])
    assert agree(MIXED, base.expand(5, -1), rows).tolist() == [True, False, False, True, False]


def test_the_best_constant_is_the_commonest_merged_value_key_state_and_the_median() -> None:
    stay, left, right = torch.eye(3)
    assert int(commonest(MOVES, torch.stack([right, right, stay, left, left])).argmax()) == 0  # stay and left: 3 of 5
    rows = torch.tensor([[1.0, 0, 1, 0, -1], [0, 1, 1, 0, 0.2], [0, 1, 0, 0, 0.3]])
    assert torch.equal(commonest(MIXED, rows), torch.tensor([[0.0, 1, 1, 0, 0.2]]))


def test_evidence_of_answers_counts_what_is_right_and_what_a_constant_would_get() -> None:
    truth = torch.eye(3)[[0, 1, 2, 2, 2]]
    belief = Distribution.point(MOVES, torch.eye(3)[[1, 1, 2, 0, 2]])
    found = held_out(belief, truth)
    assert found["correct"] == [1, 1, 1, 0, 1]
    assert found["majority"] == pytest.approx(3 / 5)
    assert found["confidence"] == [1.0] * 5
    assert found["labels"] == held_out(belief, truth)["labels"]
    assert found["labels"] != held_out(belief, truth.flip(0))["labels"]  # in another order
    with pytest.raises(UnusableInput, match="at least one label"):
        held_out(Distribution.point(MOVES, truth[:0]), truth[:0])


def test_limits_count_the_deviations_that_hold_nine_tenths_of_the_truths() -> None:
    space = ActionSpace((Segment("keys", "binary", ("k",)), continuous("v", ("x", "y"), scale=(2.0, 1.0))))
    wanted = torch.arange(1, 20.0)  # 19 labels: the 18th smallest error holds nine tenths
    params = torch.zeros(19, 5)
    params[:, 3:] = torch.tensor([0.5, 4.0]).log()  # deviations of 1 and 4 in the action's own unit
    truth = torch.stack([torch.ones(19), wanted, torch.zeros(19)], 1)
    belief = Distribution(space, params)
    found = torch.tensor(held_out(belief, truth)["limits"])
    assert found[3:].tolist() == pytest.approx([18.0, 0.0])
    low, high = belief.bounds(found).unbind(1)
    assert ((truth >= low) & (truth <= high)).double().mean(0).tolist() == pytest.approx([1, 18 / 19, 1])
    assert low[0, 1:].tolist() == pytest.approx([-18.0, 0.0])


def test_nearly_all_right_is_usable_without_abstention() -> None:
    verdict = judge(evidence(62, 2, 0.3))  # 0.969, Wilson's lower bound 0.893
    assert (verdict.word, verdict.usable, verdict.abstain_below) == ("usable", True, 0.0)
    assert verdict.low == pytest.approx(0.893, abs=1e-3)


def test_no_better_than_a_constant_is_not_actions() -> None:
    verdict = judge(evidence(30, 34, 0.4))  # 0.469, lower bound 0.352: might be the constant's 0.4
    assert (verdict.word, verdict.usable) == ("not actions", False)
    assert "always the same answer gets 40%" in verdict.reason


def test_in_between_abstains_where_the_labels_can_guarantee_the_precision() -> None:
    verdict = judge(evidence(70, 30, 0.3, sure=0.9, unsure=0.4))
    assert verdict.word == "usable with abstention"
    assert verdict.abstain_below == pytest.approx(0.9)  # the 70 surest are all right; 80 would not be enough


def test_few_labels_abstain_by_confidence_and_say_that_nothing_is_guaranteed() -> None:
    verdict = judge(evidence(6, 2, 0.2), precision=0.8)
    assert (verdict.word, verdict.abstain_below) == ("usable with abstention", 0.8)
    assert "a guarantee takes" in verdict.reason


def test_without_evidence_nothing_is_claimed() -> None:
    verdict = judge(None)
    assert (verdict.word, verdict.usable, verdict.accuracy) == ("unknown", False, None)
