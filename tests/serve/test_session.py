"""A session keeps every moment exactly, on branches over one history, in bounded memory."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from retrodict import tree
from retrodict.errors import UnknownName, UnusableInput
from retrodict.serve import session as module
from retrodict.serve.session import EDIT, KEY, START, Moment, Session

SHAPE = (3, 4, 5)


def frame(i: int) -> Tensor:
    return torch.full(SHAPE, i % 256, dtype=torch.uint8)


def state(i: int) -> tree.Tree:
    return {"i": torch.tensor([[i]])}


def pressed(i: int, speech: int = 0, kind: int = KEY) -> Moment:
    return Moment(kind, speech, frame(i), torch.tensor([float(i), 0.5]) if kind == KEY else None, frame(i + 100))


def played(steps: int) -> Session:
    session = Session(SHAPE)
    session.start(frame(0), state(0))
    for i in range(1, steps + 1):
        session.add(pressed(i), state(i))
    return session


def shown(session: Session, branch: int) -> list[int]:
    return [int(session.moment(at, branch).frame[0, 0, 0]) for at in range(len(session.branches[branch]))]


def test_a_moment_is_read_back_exactly() -> None:
    session = Session(SHAPE)
    exact = torch.randint(0, 256, SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    session.start(exact, state(0))
    session.add(Moment(KEY, 1, 255 - exact, torch.tensor([-1.5, 0.25, 3.0]), exact.flip(0)), state(1))
    first, second = session.moment(0), session.moment(1)
    assert (first.kind, first.speech, first.action, first.real) == (START, 0, None, None)
    assert torch.equal(first.frame, exact)
    assert (second.kind, second.speech) == (KEY, 1)
    assert torch.equal(second.frame, 255 - exact)
    assert second.action is not None
    assert second.action.tolist() == [-1.5, 0.25, 3.0]
    assert second.real is not None
    assert torch.equal(second.real, exact.flip(0))


def test_going_on_from_within_opens_a_branch_and_the_old_one_stays() -> None:
    session = played(5)
    session.stand(0, 2)
    assert session.add(pressed(30), state(30))
    assert not session.add(pressed(31), state(31))
    assert shown(session, 0) == [0, 1, 2, 3, 4, 5]
    assert shown(session, 1) == [0, 1, 2, 30, 31]
    session.stand(1, 1)  # a branch of the branch, from within what it shares with its parent
    assert session.add(pressed(40), state(40))
    assert shown(session, 2) == [0, 1, 40]
    assert [(b.parent, b.fork) for b in session.branches] == [(None, 0), (0, 3), (1, 2)]
    assert (session.branch, session.at) == (2, 2)
    assert session.state() == state(40)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40))
def test_any_play_is_what_was_done_up_to_each_fork(moves: list[tuple[int, bool]]) -> None:
    session, told, here = played(0), [[0]], 0
    for i, (to, back) in enumerate(moves, 1):
        if back:
            to %= len(told[here])
            session.stand(here, to)
            if to < len(told[here]) - 1:
                told.append(told[here][: to + 1])
                here = len(told) - 1
        session.add(pressed(i), state(i))
        told[here].append(i)
    assert [shown(session, branch) for branch in range(len(told))] == told


def test_states_are_bounded_by_number_and_by_bytes_but_the_last_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STATES", 4)
    session = played(10)
    kept = []
    for at in range(11):
        session.stand(0, at)
        kept.append(session.state() is not None)
    assert kept == [False] * 7 + [True] * 4
    monkeypatch.setattr(module, "STATE_BYTES", 1)
    session.add(pressed(11), state(11))
    assert session.state() == state(11)
    session.stand(0, 10)
    assert session.state() is None


def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    session = played(600)
    tracemalloc.start()
    try:
        for i in range(2000):
            session.add(pressed(i), {"wide": torch.zeros(1, 64)})
        early = tracemalloc.get_traced_memory()[0]
        for i in range(4000):
            session.add(pressed(i), {"wide": torch.zeros(1, 64)})
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert late - early < 200_000, "two index entries a moment are all that grows"
    assert len(session.here) == 6601


def test_the_past_begins_at_an_edit_a_start_or_another_way_of_speaking() -> None:
    session = played(3)
    assert session.past(16).length == 4
    assert session.past(2).length == 2
    session.add(pressed(4, kind=EDIT), state(4))
    assert session.past(16).length == 1
    assert session.past(16).actions is None
    session.add(pressed(5), state(5))
    session.add(pressed(6, speech=1), state(6))
    session.add(pressed(7, speech=1), state(7))
    past = session.past(16)
    assert past.frames is not None
    assert past.actions is not None
    assert past.frames[0, :, 0, 0, 0].tolist() == [5, 6, 7]
    assert past.actions[0, :, 0].tolist() == [6, 7]
    frames = session.past(16, actions=False).frames
    assert frames is not None
    assert frames[0, :, 0, 0, 0].tolist() == [4, 5, 6, 7]


def test_what_is_not_there_is_refused_and_moves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    session = played(3)
    for branch, at, kind in ((0, 4, UnusableInput), (0, -1, UnusableInput), (1, 0, UnknownName), (-1, 0, UnknownName)):
        with pytest.raises(kind):
            session.stand(branch, at)
    assert (session.branch, session.at) == (0, 3)
    monkeypatch.setattr(module, "MOST_MOMENTS", 4)
    with pytest.raises(UnusableInput, match="save it"):
        session.add(pressed(4), state(4))
    monkeypatch.setattr(module, "MOST_MOMENTS", 99)
    monkeypatch.setattr(module, "MOST_BRANCHES", 1)
    session.stand(0, 1)
    with pytest.raises(UnusableInput, match="branches"):
        session.add(pressed(5), state(5))
    assert shown(session, 0) == [0, 1, 2, 3]
    assert len(session.branches) == 1
