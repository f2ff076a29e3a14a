"""The schema and the dataset in memory: filling, refusing, identity."""

from __future__ import annotations

import json

import pytest
import torch

from retrodict.clip import ABSTAINED, MISSING, PREDICTED, RECORDED, Clip
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.errors import UnknownName, UnusableInput
from retrodict.spaces import ActionSpace, categorical, continuous

SPACE = ActionSpace((categorical("action", ("left", "right")),))
SCHEMA = Schema(SPACE, {"observation.image": (4, 6, 3)}, fps=10)


def episode(t: int = 5, value: int = 0, **more: object) -> Clip:
    frames = torch.full((1, t, 3, 4, 6), value, dtype=torch.uint8)
    actions = SPACE.one_hot(torch.arange(t - 1) % 2)[None]
    return Clip(**({"frames": frames, "actions": actions} | more))  # type: ignore[arg-type]


def test_a_schema_survives_json_exactly() -> None:
    space = ActionSpace((continuous("move", ("x", "y"), low=-0.1, high=0.3, unit="m"), categorical("grip", ("o", "c"))))
    schema = Schema(space, {"observation.b": (4, 4, 3), "observation.a": (4, 4, 1)}, 30, proprio=("p", "q"))
    back = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert back == schema
    assert list(back.cameras) == ["observation.b", "observation.a"]  # their order is the order of channels
    assert (back.channels, back.size) == (4, (4, 4))


@pytest.mark.parametrize(
    "change",
    [
        {"fps": 29.97},
        {"fps": 0},
        {"cameras": {"observation/image": (4, 4, 3)}},
        {"cameras": {"front": (4, 4, 3)}},
        {"cameras": {"observation.image": (4, 4, 4)}},
        {"cameras": {"observation.a": (4, 4, 3), "observation.b": (4, 8, 3)}},
        {"cameras": {"observation.a": (4, 4, 1)}, "video": True},
        {"proprio": ("x", "x")},
    ],
)
def test_a_schema_that_cannot_be_stored_is_refused(change: dict[str, object]) -> None:
    fields: dict[str, object] = {"space": SPACE, "cameras": {"observation.image": (4, 4, 3)}, "fps": 10}
    with pytest.raises(UnusableInput):
        Schema(**(fields | change))  # type: ignore[arg-type]


def test_a_schema_with_an_unknown_or_absent_key_is_refused() -> None:
    value = SCHEMA.to_json()
    with pytest.raises(UnknownName, match="fsp"):
        Schema.from_json(value | {"fsp": 3})
    del value["fps"]
    with pytest.raises(UnusableInput, match="fps"):
        Schema.from_json(value)


def test_absent_fields_are_filled() -> None:
    store = MemoryStore(SCHEMA, [episode(3), Clip(frames=episode(3).frames)])
    labelled, bare = (store.read(id) for id in store.ids)
    assert labelled.source is not None
    assert labelled.source.tolist() == [[RECORDED, RECORDED]]
    assert labelled.confidence is not None
    assert labelled.confidence.tolist() == [[1.0, 1.0]]
    assert labelled.times is not None
    assert labelled.times.tolist() == [[0.0, 0.1, 0.2]]
    assert labelled.rewards is None
    assert bare.source is not None
    assert bare.source.tolist() == [[MISSING, MISSING]]
    assert bare.actions is not None
    assert bare.actions.abs().sum() == 0


def test_actions_are_zeroed_where_they_are_missing_and_nowhere_else() -> None:
    source = torch.tensor([[MISSING, RECORDED, PREDICTED, ABSTAINED]], dtype=torch.uint8)
    store = MemoryStore(SCHEMA, [episode(5, source=source, confidence=torch.tensor([[0.0, 1.0, 0.7, 0.2]]))])
    actions = store.read(store.ids[0]).actions
    assert actions is not None
    assert actions[0].sum(-1).tolist() == [0.0, 1.0, 1.0, 1.0]


def test_an_episode_of_one_frame_has_no_steps() -> None:
    store = MemoryStore(SCHEMA, [Clip(frames=episode(1).frames)])
    clip = store.read(store.ids[0])
    assert clip.actions is not None
    assert clip.actions.shape == (1, 0, 2)


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (lambda: Clip(actions=episode().actions), "stores frames"),
        (lambda: episode(frames=torch.zeros(1, 5, 3, 6, 4, dtype=torch.uint8)), "frames has shape"),
        (lambda: episode(actions=torch.zeros(1, 4, 3)), "actions has shape"),
        (lambda: episode(proprio=torch.zeros(1, 5, 2)), "no proprio"),
        (lambda: episode(actions=torch.full((1, 4, 2), float("nan"))), "not finite"),
        (lambda: episode(times=torch.zeros(1, 5, dtype=torch.float64)), "times must grow"),
        (lambda: episode(source=torch.full((1, 4), 9, dtype=torch.uint8)), "source is 9"),
        (lambda: episode(source=torch.full((1, 4), PREDICTED, dtype=torch.uint8)), "need their confidence"),
        (lambda: episode(confidence=torch.full((1, 4), 1.5)), "probability"),
        (lambda: episode(actions=None, source=torch.ones(1, 4, dtype=torch.uint8)), "no actions"),
        (lambda: Clip(frames=torch.zeros(2, 5, 3, 4, 6, dtype=torch.uint8)), "one row"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_and_nothing_added(clip, words: str) -> None:  # type: ignore[no-untyped-def]
    store = MemoryStore(SCHEMA)
    with pytest.raises(UnusableInput, match=words):
        store.append([episode(), clip()])
    assert store.ids == ()


def test_ids_are_unique_and_may_be_chosen() -> None:
    store = MemoryStore(SCHEMA)
    assert store.append([episode()], ids=["000001"]) == ("000001",)
    assert store.append([episode()]) == ("000002",)  # 000001 is taken
    for bad in (["000001"], ["a", "b"], ["a\n"], [""]):
        with pytest.raises(UnusableInput):
            store.append([episode()], ids=bad)
    with pytest.raises(UnknownName, match="000001"):
        store.read("00001")


def test_the_hash_is_of_frames_and_times_and_the_digest_of_everything() -> None:
    one, other_action, other_frame = (
        MemoryStore(SCHEMA, [clip])
        for clip in (episode(), episode(actions=episode().actions.flip(1)), episode(value=1))  # type: ignore[union-attr]
    )
    assert one.hash("000000") == other_action.hash("000000") != other_frame.hash("000000")
    assert len({one.digest, other_action.digest, other_frame.digest}) == 3
    assert one.digest == MemoryStore(SCHEMA, [episode()]).digest


def test_frames_can_be_declined() -> None:
    store = MemoryStore(SCHEMA, [episode()])
    clip = store.read("000000", frames=False)
    assert clip.frames is None
    assert clip.length == 5
