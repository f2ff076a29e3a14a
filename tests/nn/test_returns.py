"""Returns of imagined steps, against what a plain loop over one row finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from retrodict.nn.returns import lambda_returns, still_on

numbers = st.floats(-100, 100, width=32)
chances = st.sampled_from([0.0, 1.0]) | st.floats(0, 1, width=32)


@st.composite
def episodes(draw: st.DrawFn) -> dict[str, Any]:
    """Rows of steps: rewards, values of every frame and ends, some in the middle, some less than certain."""
    batch, steps = draw(st.integers(1, 3)), draw(st.integers(1, 6))

    def rows(of: st.SearchStrategy[float], length: int) -> list[list[float]]:
        return [[draw(of) for _ in range(length)] for _ in range(batch)]

    return {
        "rewards": rows(numbers, steps), "values": rows(numbers, steps + 1), "ends": rows(chances, steps),
        "discount": draw(chances), "trace": draw(chances),
    }  # fmt: skip


NOTHING = {"rewards": [[0.0, 0.0]], "values": [[0.0] * 3], "ends": [[0.0, 0.0]], "discount": 1.0, "trace": 1.0}
AN_END = {"rewards": [[1.0, 2.0, 4.0]], "values": [[9.0] * 4], "ends": [[0.0, 1.0, 0.0]], "discount": 1.0, "trace": 0.5}
AT_THE_LAST = NOTHING | {"values": [[0.0, 0.0, 8.0]], "ends": [[0.0, 1.0]]}


def mixed_returns(case: dict[str, Any], row: int) -> list[float]:
    """λ-returns as what they are: means of n-step returns, each by its weight (Sutton & Barto, 12.3)."""
    rewards, values, ends = (case[name][row] for name in ("rewards", "values", "ends"))
    found = []
    for start in range(len(rewards)):
        total, left, so_far, weight = 0.0, 1.0, 0.0, 1.0
        for t in range(start, len(rewards)):
            so_far += left * rewards[t]
            left *= case["discount"] * (1 - ends[t])
            last = t == len(rewards) - 1
            total += weight * (1.0 if last else 1 - case["trace"]) * (so_far + left * values[t + 1])
            weight *= case["trace"]
        found.append(total)
    return found


@given(episodes())
@example(NOTHING)
@example(AN_END)
@example(AT_THE_LAST)
def test_returns_are_those_of_a_plain_loop(case: dict[str, Any]) -> None:
    rewards, values, ends = (torch.tensor(case[name]) for name in ("rewards", "values", "ends"))
    found = lambda_returns(rewards, values, 1 - ends, case["discount"], case["trace"])
    right = torch.tensor([mixed_returns(case, row) for row in range(len(rewards))])
    assert torch.allclose(found, right, rtol=1e-4, atol=1e-3)


@given(episodes(), st.data())
def test_nothing_counts_after_an_end(case: dict[str, Any], data: st.DataObject) -> None:
    rewards, values, ends = (torch.tensor(case[name]) for name in ("rewards", "values", "ends"))
    end = data.draw(st.integers(0, rewards.shape[1] - 1))
    ends[:, end] = 1
    found = lambda_returns(rewards, values, 1 - ends, case["discount"], case["trace"])
    rewards[:, end + 1 :], values[:, end + 1 :] = 1e6, -1e6
    again = lambda_returns(rewards, values, 1 - ends, case["discount"], case["trace"])
    assert torch.equal(found[:, : end + 1], again[:, : end + 1])
    assert torch.equal(found[:, end], rewards[:, end])


def test_an_episode_that_is_only_cut_off_is_worth_what_its_last_frame_is() -> None:
    """By hand: 1 + 0.5 x (2 + 0.5 x 8) = 4; of one that ended at the last step, 1 + 0.5 x 2 = 2."""
    rewards, values = torch.tensor([[1.0, 2.0]]).repeat(2, 1), torch.tensor([[0.0, 0.0, 8.0]]).repeat(2, 1)
    goes_on = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert lambda_returns(rewards, values, goes_on, 0.5, 1.0).tolist() == [[4, 6], [2, 2]]
    assert lambda_returns(rewards, values, goes_on, 0.5, 0.0).tolist() == [[1, 6], [1, 2]]


@given(episodes())
@example(NOTHING)
@example(AN_END)
def test_a_step_counts_as_far_as_no_earlier_one_ended_the_episode(case: dict[str, Any]) -> None:
    found = still_on(torch.tensor(case["ends"]))
    for row, ends in zip(found.tolist(), case["ends"], strict=True):
        left = 1.0
        for counts, end in zip(row, ends, strict=True):
            assert counts == pytest.approx(left, abs=1e-6)
            left *= 1 - end
