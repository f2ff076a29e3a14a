"""Inference over episodes: streamed answers equal whole ones, and labels are bound to frames and model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from retrodict.clip import ABSTAINED, MISSING, PREDICTED, RECORDED, Clip
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Episodes, Schema
from retrodict.data.store import Store
from retrodict.errors import Damaged, Incompatible, UnusableInput
from retrodict.label import infer
from retrodict.label.infer import Labelled, Labeller, infer_episode, infer_episodes, recorded_answers
from retrodict.models.inverse import Inverse
from retrodict.models.windows import window_index
from retrodict.rng import isolated, torch_rng
from retrodict.roles import InverseModel, View
from retrodict.spaces import ActionSpace, Distribution, categorical

SPACE = ActionSpace((categorical("move", ("dark", "bright")),))
SCHEMA = Schema(SPACE, {"observation.image": (8, 8, 3)}, 10)


class Brightness:
    """Logits of a step: how much brighter the frame `after` it is than the one `before`; edges repeat."""

    def __init__(self, before: int = 0, frames: int = 2) -> None:
        self.view, self.space = View(frames, before, size=(8, 8)), SPACE
        self.asked: list[int] = []  # frames of each clip that it was shown

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        level = clip.frames.float().mean((2, 3, 4))
        shown = window_index(clip, self.view, clip.steps)
        change = (level.gather(1, shown[..., -1]) - level.gather(1, shown[..., 0])) / 16
        self.asked.append(clip.length)
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
    assert max(model.asked) <= 4 + 2 * frames  # memory is bounded by the chunk, not by the episode


def test_a_single_frame_has_no_step_to_answer() -> None:
    store = MemoryStore(SCHEMA, [episode(1, 0)])
    assert infer_episode(Brightness(), store, store.ids[0]).params.shape == (0, 2)


LENGTHS = (5, 1, 9, 3, 23, 2, 1, 14)


def answers(model: InverseModel, store: Episodes, groups: list[list[str]]) -> dict[str, torch.Tensor]:
    found = infer._answers(Labeller(model), store, groups)
    ids = [id for group in groups for id in group]
    return {id: answer.belief.params for id, answer in zip(ids, found, strict=True)}


@pytest.mark.parametrize("view", [(0, 2), (1, 3), (3, 5)])
def test_episodes_answered_side_by_side_are_answered_as_alone(
    view: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(SCHEMA, [episode(length, seed=length) for length in LENGTHS])
    monkeypatch.setattr(infer, "CHUNK", 8)
    model = Brightness(*view)
    got = answers(model, store, [list(store.ids)])
    assert list(got) == list(store.ids)
    for id in store.ids:
        assert torch.equal(got[id], Brightness(*view).infer(store.read(id)).params[0]), id
    assert len(model.asked) < len(LENGTHS)


def net(inputs: str = "both", kind: str = "grid") -> Inverse:
    with isolated("net"):
        part = Inverse(View(3, 1, size=(16, 16)), SPACE, inputs, "flatten", kind, patch=4, width=8, depth=1, hidden=16)
    part.temperature.fill_(1.7)
    return part.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def noise(length: int, seed: int) -> Clip:
    rng = torch_rng(seed, "noise")
    return Clip(frames=torch.randint(0, 256, (1, length, 3, 16, 16), generator=rng, dtype=torch.uint8))


@pytest.mark.parametrize("kind", ["grid", "impala"])
def test_a_nets_answers_are_the_very_ones_at_equal_batches_and_near_them_at_others(kind: str) -> None:
    schema = Schema(SPACE, {"observation.image": (16, 16, 3)}, 10)
    store = MemoryStore(schema, [noise(length, length) for length in (30, infer.CHUNK, 7, 200)])
    part = net(kind=kind)
    whole = {id: part.infer(store.read(id)).params[0].detach() for id in store.ids}
    for id in store.ids[:2]:  # one batch each
        assert torch.equal(infer_episode(part, store, id).params, whole[id])
    for id, params in answers(part, store, [list(store.ids)]).items():
        assert torch.allclose(params, whole[id], rtol=0, atol=1e-5)


def test_a_groups_answers_do_not_depend_on_what_was_done_before() -> None:
    schema = Schema(SPACE, {"observation.image": (16, 16, 3)}, 10)
    store = MemoryStore(schema, [noise(length, length) for length in (30, 41, 7, 20)])
    part = net()
    whole = answers(part, store, [list(store.ids[:2]), list(store.ids[2:])])
    later = answers(part, store, [list(store.ids[2:])])
    assert all(torch.equal(whole[id], later[id]) for id in later)


class Broken(MemoryStore):
    """Its third episode cannot be read."""

    def stream(self, id: str, frames: int = 64) -> Iterator[torch.Tensor]:
        if id == self.ids[2]:
            raise Damaged(id, "frames", "none")
        return super().stream(id, frames)


def test_what_cannot_be_decoded_is_told_in_its_turn_and_what_was_committed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Broken(SCHEMA, [episode(6, seed) for seed in range(4)])
    monkeypatch.setattr(infer, "GROUP", 12)
    with Store.create(tmp_path / "labels", Schema(SPACE, {}, 10)) as labels:
        with pytest.raises(Damaged, match="000002"):
            infer_episodes(Labeller(Brightness()), source, labels, "model-1")
        assert labels.ids == source.ids[:2]
    assert not [thread for thread in threading.enumerate() if thread is not threading.main_thread()]


def test_leaving_early_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "CHUNK", 4)
    store = MemoryStore(SCHEMA, [episode(50, seed) for seed in range(5)])
    with closing(infer._answers(Labeller(Brightness()), store, [[id] for id in store.ids])) as found:
        next(found)
        assert threading.active_count() > 1  # it decodes ahead
    assert threading.active_count() == 1


def test_groups_are_whole_episodes_of_so_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "GROUP", 10)
    lengths = {"a": 4, "b": 7, "c": 30, "d": 1, "e": 2}
    assert list(infer._groups(list(lengths), lengths)) == [["a", "b"], ["c"], ["d", "e"]]


def test_recorded_steps_are_answered_beside_what_was_recorded() -> None:
    store = MemoryStore(SCHEMA, [episode(6, 1, labelled=2), episode(4, 2)])
    belief, truth = recorded_answers(Brightness(), store, store.ids)
    assert belief.params.shape == (2, 2)
    assert torch.equal(truth, SPACE.one_hot(torch.zeros(2)))
    with pytest.raises(UnusableInput, match="no step"):
        recorded_answers(Brightness(), store, store.ids[1:])


def labelled_store(folder: Path, source: MemoryStore) -> Store:
    labels = Store.create(folder, Schema(SPACE, {}, 10))
    infer_episodes(Labeller(Brightness()), source, labels, "model-1")
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
        infer_episodes(Labeller(Brightness()), more, labels, "model-1")
        assert [len(commit.episodes) for commit in labels.commits] == [1, 1]
        assert labels.ids == more.ids


def test_video_of_another_rate_is_refused() -> None:
    store = MemoryStore(SCHEMA, [episode(6, 0, labelled=3)])
    model = Brightness()
    for rate in (0.0, 10.0):  # any rate, or that of the video
        model.view = View(2, rate=rate, size=(8, 8))
        assert len(infer_episode(model, store, store.ids[0]).params) == 5
    model.view = View(2, rate=30.0, size=(8, 8))
    with pytest.raises(Incompatible, match="trained at 30 frames/s and this video has 10; import it with --fps 30"):
        infer_episode(model, store, store.ids[0])
    with pytest.raises(Incompatible, match="frames/s"):
        recorded_answers(model, store, store.ids)
