"""Recall: a world that keeps all it shows scores one, one that keeps nothing scores nothing, by the same measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.envs.scroll import ACTIONS, MOVES, TILE, WINDOW, Scroll, render
from retrodict.figures import recall_figures
from retrodict.figures.recall_figures import STEPS, WORDS, alike, left, measured, spoken
from retrodict.segments import Segment
from retrodict.spaces import ActionSpace, categorical

TEXT = Segment("event", "text", tuple(map(str, range(32))))
SPACE = ActionSpace((categorical("move", ACTIONS), TEXT))
MIDDLE, WIDE = 30, 64  # tile at which one begins, and tiles a side of a plane


class Plane:
    """A world of tiles that are made up when first seen, on a plane that it keeps; or that it forgets at every step."""

    def __init__(self, forgets: bool = False, space: ActionSpace = SPACE) -> None:
        self.forgets, self.space = forgets, space

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.frames is not None
        if state is None:
            state = {"plane": self.unknown(past.rows), "corner": np.full((past.rows, 2), MIDDLE * TILE)}
        state = {name: value.copy() for name, value in state.items()}
        for row in range(past.rows):
            self.view(state, row)[:] = past.frames[row, -1].permute(1, 2, 0).numpy()
        return state

    def unknown(self, rows: int) -> np.ndarray:
        marks = rng.numpy_rng("plane", rows).integers(0, 256, (rows, WIDE, WIDE, 3), np.uint8)
        return marks.repeat(TILE, 1).repeat(TILE, 2)

    def view(self, state: Any, row: int) -> np.ndarray:
        y, x = state["corner"][row]
        return np.asarray(state["plane"][row, y : y + WINDOW, x : x + WINDOW])

    def imagine(self, state: Any, actions: Tensor, steps: int, generator: torch.Generator) -> tuple[Clip, Any]:
        state = {name: value.copy() for name, value in state.items()}
        rows = len(state["corner"])
        frames = [np.stack([self.view(state, row) for row in range(rows)])]
        for step in range(steps):
            for row in range(rows):
                told = self.space.describe(actions[row, step])
                state["corner"][row] += MOVES[ACTIONS.index(str(told["move"]))] * TILE
                if told["event"] == WORDS:
                    self.view(state, row)[16:24, 16:24] = ring(self.view(state, row)[16:24, 16:24])
            frames.append(np.stack([self.view(state, row) for row in range(rows)]))
            if self.forgets:
                fresh = self.unknown(rows + 1)[:rows]
                for row in range(rows):
                    y, x = state["corner"][row]
                    fresh[row, y : y + WINDOW, x : x + WINDOW] = self.view(state, row)
                state["plane"] = fresh
        return Clip(frames=torch.from_numpy(np.stack(frames, 1)).permute(0, 1, 4, 2, 3)), state

    def decode(self, clip: Clip) -> Clip:
        return clip


def ring(tile: np.ndarray) -> np.ndarray:
    """The mark that painting leaves, on the tile's own ground (its corner)."""
    world = Scroll(1, screens="1x1", stride=8, paint=True)
    world.reset(seed=0)
    state = world.state()
    state["marks"][:] = 28
    drawn = render(state)[0, :TILE, :TILE]
    return np.where((drawn == drawn[0, 0]).all(-1, keepdims=True), tile[0, 0], drawn)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_figures, "ROWS", 8)


def scroll(copies: int) -> Scroll:
    return Scroll(copies, screens="3x3", stride=8, paint=True)


@pytest.mark.usefixtures("few")
def test_a_world_that_keeps_its_plane_recalls_all_and_its_control_nothing() -> None:
    found = measured("recall", Plane(), scroll, 5)  # type: ignore[arg-type]
    assert found.pop("recall.no_memory") == 0
    assert [found.pop(f"recall.no_memory_k{k}") for k in range(1, STEPS + 1)] == [0.0] * STEPS
    assert found.pop("recall.copy") < 0.2  # bare tiles of one colour may happen to lie where others were
    assert set(found.values()) == {1.0}
    assert set(found) == {"recall", *(f"recall.k{k}" for k in (*range(1, STEPS + 1), 24))}


@pytest.mark.usefixtures("few")
def test_a_world_that_forgets_recalls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_figures, "STEPS", 3)
    monkeypatch.setattr(recall_figures, "LONG", 4)
    found = measured("recall", Plane(forgets=True), scroll, 5)  # type: ignore[arg-type]
    assert found["recall"] == 0


@pytest.mark.usefixtures("few")
def test_what_is_asked_for_and_what_is_painted_stays_where_it_is_kept_and_nothing_comes_unasked() -> None:
    kept = measured("event_persists", Plane(), scroll, 5)  # type: ignore[arg-type]
    assert kept == {
        "event_persists": 1.0, "event_persists.at_once": 1.0, "event_persists.tile": 1.0,
        "event_persists.no_edit": 0.0, "event_persists.painted": 1.0,
    }  # fmt: skip
    lost = measured("event_persists", Plane(forgets=True), scroll, 5)  # type: ignore[arg-type]
    assert lost["event_persists"] == lost["event_persists.painted"] == 0
    assert lost["event_persists.at_once"] == 1


@pytest.mark.usefixtures("few")
def test_an_object_on_another_ground_is_there_and_its_tile_is_not() -> None:
    class Careless(Plane):
        def imagine(self, state: Any, actions: Tensor, steps: int, generator: torch.Generator) -> tuple[Clip, Any]:
            clip, state = super().imagine(state, actions, steps, generator)
            for row in range(len(state["corner"])):
                if self.space.describe(actions[row, 0])["event"] == WORDS:
                    self.view(state, row)[16:24, 16:24] = ring(np.full((8, 8, 3), 7, np.uint8))
            return clip, state

    found = measured("event_persists", Careless(), scroll, 5)  # type: ignore[arg-type]
    assert (found["event_persists"], found["event_persists.tile"]) == (1.0, 0.0)


def test_the_object_is_what_changed_and_is_the_same_everywhere() -> None:
    world = scroll(6)
    frames, _ = world.reset(seed=3)
    edited, *_ = world.step(np.full(6, 5))
    found = recall_figures.drawn(*(torch.from_numpy(f).permute(0, 3, 1, 2) for f in (frames, edited)))
    pink = (edited == np.array([255, 60, 230])).all(-1).all(0)
    assert np.array_equal(found.numpy(), pink)
    assert int(found.sum()) == int((ring(np.zeros((8, 8, 3), np.uint8)) > 0).all(-1).sum())


def test_what_has_left_the_view_is_what_the_movement_leaves_behind() -> None:
    one = left(4, 1).int()  # left, right, up, down
    assert one.sum((1, 2)).tolist() == [4, 4, 4, 4]
    assert bool(one[0, :, 3].all())
    assert bool(one[1, :, 0].all())
    assert bool(one[2, 3].all())
    assert bool(one[3, 0].all())
    assert left(4, 3).int().sum((1, 2)).tolist() == [12] * 4
    assert bool(left(4, 4).all())


def test_tiles_are_alike_when_all_their_pixels_are() -> None:
    frame = torch.zeros(1, 3, WINDOW, WINDOW, dtype=torch.uint8)
    other = frame.clone()
    other[0, 1, 9, 31] = 1
    found = alike(frame, other)[0]
    assert found.shape == (4, 4)
    assert (~found).nonzero().tolist() == [[1, 3]]


def test_where_there_are_no_words_the_last_value_asks() -> None:
    recorded = scroll(1).actions
    assert recorded.describe(spoken(recorded, "left")) == {"move": "left"}
    assert recorded.describe(spoken(recorded, "stay", WORDS)) == {"move": "paint"}
    assert SPACE.describe(spoken(SPACE, "stay", WORDS)) == {"move": "stay", "event": WORDS}
