"""Inference over episodes: streamed answers equal whole ones, and labels are bound to frames and model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retrodict.clip import ABSTAINED, MISSING, PREDICTED, RECORDED, Clip
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.errors import UnusableInput
from retrodict.label import infer
from retrodict.label.infer import Labelled, infer_episode, infer_episodes, recorded_answers
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution, categorical

SPACE = ActionSpace((categorical("move", ("dark", "bright")),))
SCHEMA = Schema(SPACE, {"observation.image": (8, 8, 3)}, 10)


class Brightness:
    """Logits of a step: how much brighter the frame `after` it is than the one `before`; edges repeat."""

    def __init__(self, before: int = 0, frames: int = 2) -> None:
        self.view, self.space = View(frames, before, size=(8, 8)), SPACE
        self.most = 0

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        self.most = max(self.most, clip.length)
        level = clip.frames.float().mean((2, 3, 4))
        offsets = self.view.offsets()
        index = torch.arange(clip.steps)
        first, last = (index + offsets[0]).clamp(0), (index + offsets[-1]).clamp(max=clip.length - 1)
        change = (level[:, last] - level[:, first]) / 16
        return Distribution(SPACE, torch.stack([-change, change], -1))


def episode(length: int, seed: int, labelled: int = 0) -> Clip:
    level = torch.randint(0, 255, (1, length, 1, 1, 1), generator=torch.Generator().manual_seed(seed))
    source = torch.full((1, length - 1), MISSING, dtype=torch.uint8)
    source[:, :labelled] = RECORDED
    actions = SPACE.one_hot(torch.zeros(1, length - 1)) * (source == RECORDED).unsqueeze(-1)
    return Clip(frames=level.expand(1, length, 3, 8, 8).to(torch.uint8), actions=actions, source=source)


@pytest.mark.parametrize(("before", "frames"), [(0, 2), (1, 3), (3, 5), (0, 4)])
@pytest.mark.parametrize("length", [2, 5, 8, 9, 23])
def test_streamed_answers_equal_those_to_the_whole_episode(
    before: int, frames: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = episode(length, seed=length)
    store = MemoryStore(SCHEMA, [clip])
    whole = Brightness(before, frames).infer(clip).params[0]
    monkeypatch.setattr(infer, "CHUNK", 4)
    model = Brightness(before, frames)
    assert torch.equal(infer_episode(model, store, store.ids[0]).params, whole)
    assert model.most <= 4 + 2 * frames  # memory is bounded by the chunk, not by the episode


def test_a_single_frame_has_no_step_to_answer() -> None:
    store = MemoryStore(SCHEMA, [episode(1, 0)])
    assert infer_episode(Brightness(), store, store.ids[0]).params.shape == (0, 2)


def test_recorded_steps_are_answered_beside_what_was_recorded() -> None:
    store = MemoryStore(SCHEMA, [episode(6, 1, labelled=2), episode(4, 2)])
    belief, truth = recorded_answers(Brightness(), store, store.ids)
    assert belief.params.shape == (2, 2)
    assert torch.equal(truth, SPACE.one_hot(torch.zeros(2)))
    with pytest.raises(UnusableInput, match="no step"):
        recorded_answers(Brightness(), store, store.ids[1:])


def labelled_store(folder: Path, source: MemoryStore) -> Store:
    labels = Store.create(folder, Schema(SPACE, {}, 10))
    infer_episodes(Brightness(), source, labels, "model-1")
    return labels


def test_labels_keep_what_was_recorded_and_abstain_below_a_confidence(tmp_path: Path) -> None:
    source = MemoryStore(SCHEMA, [episode(12, 3, labelled=2)])
    with labelled_store(tmp_path / "labels", source) as labels:
        told = Labelled(source, labels, abstain_below=0.9).read(source.ids[0])
        everything = Labelled(source, labels)
    belief = Brightness().infer(source.read(source.ids[0]))
    sure = belief.confidence()[0] >= 0.9
    want = torch.where(sure, PREDICTED, ABSTAINED)
    want[:2] = RECORDED
    assert told.source is not None
    assert told.source[0].tolist() == want.tolist()
    assert {PREDICTED, ABSTAINED} <= set(want.tolist())  # the case has both
    assert told.actions is not None
    assert torch.equal(told.actions[0, 2:], belief.mode()[0, 2:])
    assert told.confidence is not None
    assert told.confidence[0, :2].tolist() == [1.0, 1.0]
    assert torch.equal(told.frames, source.read(source.ids[0]).frames)
    assert everything.digest != Labelled(source, labels, 0.9).digest


def test_labels_are_bound_to_the_frames_they_were_made_from(tmp_path: Path) -> None:
    source = MemoryStore(SCHEMA, [episode(5, 1)])
    with labelled_store(tmp_path / "labels", source) as labels:
        Labelled(source, labels)
        with pytest.raises(UnusableInput, match="no labels of the frames"):
            Labelled(MemoryStore(SCHEMA, [episode(5, 2)]), labels)
        with pytest.raises(UnusableInput, match="no labels of the frames"):
            Labelled(MemoryStore(SCHEMA, [episode(5, 1), episode(5, 2)]), labels)


def test_going_on_labels_only_what_is_missing(tmp_path: Path) -> None:
    few, more = MemoryStore(SCHEMA, [episode(5, 1)]), MemoryStore(SCHEMA, [episode(5, 1), episode(7, 2)])
    with labelled_store(tmp_path / "labels", few) as labels:
        infer_episodes(Brightness(), more, labels, "model-1")
        assert [len(commit.episodes) for commit in labels.commits] == [1, 1]
        assert labels.ids == more.ids
