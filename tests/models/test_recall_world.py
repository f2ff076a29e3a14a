"""Worlds that recall by place: one state however a clip is taken in, nothing from later, places that only compare."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from retrodict import rng, tree
from retrodict.clip import RECORDED, Clip
from retrodict.errors import UnusableInput
from retrodict.models.recall_world import RecallWorld
from retrodict.models.token_world import filling_in
from retrodict.models.tokenizers import PatchTokenizer
from retrodict.nn.places import turned
from retrodict.roles import View
from retrodict.segments import Segment
from retrodict.spaces import ActionSpace, categorical

PATCH, SIZE = 2, (4, 6)  # 2 rows and 3 columns of tokens
MOVE = categorical("move", ("left", "right", "stay"))
SPACE = ActionSpace((MOVE, Segment("event", "text", tuple(map(str, range(6))))))


def world(**more: Any) -> RecallWorld:
    with rng.isolated("world"):
        book = PatchTokenizer(View(size=SIZE), PATCH, 8)
        book.learn(Clip(frames=played(4, 3).frames), rng.torch_rng(0))
        model = RecallWorld(book, SPACE, 16, 2, 2, **{"memory": 3, "sinks": 1, "passes": 2, **more}).eval()
        torch.nn.init.normal_(model.moves.weight)
    return model


def played(rows: int, length: int) -> Clip:
    generator = rng.torch_rng("tiles", rows, length)
    tiles = torch.randint(0, 5, (rows, length, 1, 2, 3), generator=generator).byte() * 50
    frames = tiles.repeat_interleave(PATCH, -1).repeat_interleave(PATCH, -2).expand(-1, -1, 3, -1, -1).contiguous()
    names = [MOVE.values[i] for i in torch.randint(0, 3, (rows * (length - 1),), generator=generator)]
    actions = [SPACE.vector({"move": name, "event": "sun" if i % 3 == 0 else ""}) for i, name in enumerate(names)]
    told = torch.stack(actions).view(rows, length - 1, -1) if actions else torch.zeros(rows, 0, SPACE.width)
    return Clip(frames=frames, actions=told, source=torch.full((rows, length - 1), RECORDED).byte())


def following(model: RecallWorld, state: Any) -> Tensor:
    """Logits of the next frame, all of it masked."""
    rows = len(state["time"])
    action, known = SPACE.vector({"move": "right", "event": ""}).expand(rows, 1, -1), torch.ones(rows, 1, 2).bool()
    tokens = torch.zeros(rows, 1, model.tokenizer.cells, dtype=torch.long)
    x = model._inputs(tokens, action, known, torch.ones_like(tokens).bool())
    return model.logits(x, action, known, state["time"][:, None] + 1, state["cache"])


def test_a_clip_taken_in_at_once_or_frame_by_frame_gives_one_state() -> None:
    model, clip = world(), played(2, 8)
    with torch.no_grad():
        whole = model.observe(clip)
        state = model.observe(clip.cut(0, 1))
        for t in range(1, 8):
            state = model.observe(clip.cut(t - 1, t + 1), state)
        parted = model.observe(clip.cut(3, 8), model.observe(clip.cut(0, 4)))
        for found in (state, parted):
            for name, value in tree.flatten(whole).items():
                assert torch.allclose(tree.flatten(found)[name].float(), value.float(), atol=1e-5), name
            assert torch.allclose(following(model, found), following(model, whole), atol=1e-5)


def test_the_first_frame_that_is_never_forgotten_is_that_of_the_same_episode() -> None:
    model, clip = world(memory=1), played(2, 6)
    segment = torch.tensor([[4, 4, 4, 9, 9, 9], [5, 5, 5, 5, 5, 5]], dtype=torch.int32)
    with torch.no_grad():
        together = model.log_prob(clip.with_(segment=segment))
        alone = [model.log_prob(clip.cut(0, 3))[0], model.log_prob(clip.cut(3, 6))[0]]
        assert torch.allclose(together[0, :2], alone[0], atol=1e-5)
        assert torch.allclose(together[0, 3:], alone[1], atol=1e-5)
        assert float(together[0, 2]) == 0  # between them nothing happened
        assert torch.allclose(together[1], model.log_prob(clip)[1], atol=1e-5)
    with pytest.raises(UnusableInput, match="one episode a row"):
        filling_in(model, clip.with_(segment=segment), rng.torch_rng(0))


def test_what_the_cache_finds_is_what_all_frames_at_once_find() -> None:
    model, clip = world(memory=9), played(2, 6)
    assert clip.frames is not None
    with torch.no_grad():
        tokens = model.tokenizer.tokens(clip.frames.flatten(0, 1).unsqueeze(1)).view(2, 6, -1)
        open_ = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
        actions, known = model.led(clip)
        at_once = model.drafted(tokens, actions, known, model.times(clip), open_)
        for t in range(1, 6):
            state: Any = model.observe(clip.cut(0, t))
            x = model._inputs(tokens[:, t : t + 1], actions[:, t : t + 1], known[:, t : t + 1], open_[:, :1])
            time = state["time"][:, None] + 1
            alone = model.logits(x, actions[:, t : t + 1], known[:, t : t + 1], time, state["cache"])
            assert torch.allclose(alone[:, 0], at_once[:, t - 1], atol=1e-5)


def test_nothing_is_known_from_later_nor_of_what_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = world(memory=9), played(1, 5)
    assert clip.frames is not None
    tokens = model.tokenizer.tokens(clip.frames.flatten(0, 1).unsqueeze(1)).view(1, 5, -1)
    inputs, seen = model._inputs, []

    def noted(*given: Tensor) -> Tensor:
        seen.append(inputs(*given))
        seen[-1].retain_grad()
        return seen[-1]

    monkeypatch.setattr(model, "_inputs", noted)
    open_ = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
    for t in range(4):
        seen.clear()
        logits = model.drafted(tokens, *model.led(clip), model.times(clip), open_)[0, t]
        logits.sum().backward()
        taken_in, drafted = (value.grad[0].abs().sum((1, 2)) > 0 for value in seen)  # type: ignore[union-attr]
        assert taken_in.tolist() == [frame <= t for frame in range(4)]
        assert drafted.tolist() == [frame == t for frame in range(4)]
        other = torch.cat([tokens[:, : t + 1], (tokens[:, t + 1 :] + 1) % 5], 1)
        assert model.drafted(other, *model.led(clip), model.times(clip), open_)[0, t].equal(logits)


def test_only_how_far_apart_two_places_are_counts() -> None:
    generator = rng.torch_rng("places")
    query, key = torch.randn(2, 1, 1, 1, 16, generator=generator)
    here, there, away = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, -3.0]]]), torch.tensor([[[40.0, -7.0]]])
    near = (turned(query, here) * turned(key, there)).sum()
    far = (turned(query, here + away) * turned(key, there + away)).sum()
    assert torch.allclose(near, far, atol=1e-5)
    assert not torch.allclose(near, (turned(query, here + away) * turned(key, there)).sum(), atol=1e-2)
    assert turned(query, torch.zeros(1, 1, 2)).equal(query)


def test_words_and_unknown_actions_move_nothing_and_the_way_back_leads_to_the_start() -> None:
    model = world()
    with torch.no_grad():
        model.moves.weight[:, 1] = -model.moves.weight[:, 0]
        told = [("left", ""), ("left", "sun"), ("right", "")]
        actions = torch.stack([SPACE.vector({"move": move, "event": words}) for move, words in told])[None]
        moved = model.moved(actions, torch.ones(1, 3, 2).bool())
        assert moved[0, 0].equal(moved[0, 1])
        assert moved[0, 0].abs().sum() > 0
        assert not model.moved(actions, torch.tensor([True, False]).expand(1, 3, 2)).any()
        state: Any = model.observe(played(1, 1))
        _, after = model.imagine(state, actions[:, [0, 0, 2, 2]], 4, rng.torch_rng(0))
    assert isinstance(after, dict)
    assert torch.allclose(after["cache"]["here"], state["cache"]["here"], atol=1e-5)  # type: ignore[call-overload, index]


def test_however_long_one_plays_the_state_stays_as_large_and_the_first_frame_in_it() -> None:
    model, actions = world(), SPACE.vector({"move": "left", "event": ""}).expand(2, 50, -1)
    with torch.no_grad():
        state = model.observe(played(2, 1))
        _, after = model.imagine(state, actions, 50, rng.torch_rng(0))
    shapes = [{name: value.shape for name, value in tree.flatten(one).items()} for one in (state, after)]
    assert shapes[0] == shapes[1]
    assert sorted(tree.flatten(after)["cache.at"][0].tolist()) == [0, 48, 49, 50]


def test_all_actions_of_a_row_are_withheld_or_none() -> None:
    model, clip = world(), played(200, 4)
    _, _, known, _ = model.learnt_from(clip, rng.torch_rng(0))
    told = known[:, 1:].flatten(1)
    assert bool((told.all(1) | ~told.any(1)).all())
    assert 5 < int((~told.any(1)).sum()) < 50


def test_heads_must_have_room_for_two_axes() -> None:
    with pytest.raises(UnusableInput, match="that 32 divides"):
        RecallWorld(PatchTokenizer(View(size=SIZE), PATCH, 8), SPACE, 16, heads=8)
