"""Worlds that are told words beside actions: what is withheld, how they begin, and what guidance exaggerates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.next_token_world import NextTokenWorld, saying
from retrodict.models.token_world import NEVER
from retrodict.models.tokenizers import ConvTokenizer, PatchTokenizer
from retrodict.roles import View
from retrodict.segments import Segment, continuous
from retrodict.spaces import ActionSpace

WORDS = ("", "left", "right")  # where a frame is lit
SPACE = ActionSpace((continuous("push", ("x",)), Segment("caption", "text", tuple("01234"))))
VIEW = View(size=(2, 4))


def lit(right: Tensor) -> Tensor:
    """Frames (… 3 2 4) whose left or right half is lit."""
    halves = torch.nn.functional.one_hot(right, 2).repeat_interleave(2, -1).byte() * 200
    return halves[..., None, None, :].expand(*right.shape, 3, 2, 4).contiguous()


def told(words: list[str], push: float = 0.0) -> Tensor:
    return torch.stack([SPACE.vector({"push": [push], "caption": text}) for text in words]).unsqueeze(1)


def world(**more: Any) -> NextTokenWorld:
    book = PatchTokenizer(VIEW, 2, 2)
    book.learn(Clip(frames=lit(torch.tensor([[0, 1]]))), rng.torch_rng(0))
    with rng.isolated("spoken"):
        return NextTokenWorld(book, SPACE, 16, 1, 2, 1, **more).eval()


def spoken(rows: int, step: int) -> Clip:
    side = torch.randint(0, 2, (rows, 2), generator=rng.torch_rng("side", step))
    return Clip(frames=lit(side), actions=told([WORDS[1 + int(one)] for one in side[:, 1]]))


def test_each_part_of_an_action_is_withheld_from_its_own_share() -> None:
    clip = spoken(2000, 0)
    known = world(withheld=(0.2, 0.7)).learnt_from(clip, rng.torch_rng(0))[2]
    assert not bool(known[:, 0].any())  # nothing led to the first frame
    shares = 1 - known[:, 1].float().mean(0)
    assert shares.tolist() == pytest.approx([0.2, 0.7], abs=0.04)
    assert bool(world(withheld=(0.0, 0.0)).learnt_from(clip, rng.torch_rng(0))[2][:, 1].all())
    for wrong in ({"withheld": (0.1,)}, {"withheld": (0.1, 1.2)}, {"begun": -0.1}):
        with pytest.raises(UnusableInput, match="share"):
            world(**wrong)


def test_rows_that_begin_see_no_frame_and_are_told_words_alone() -> None:
    _, _, known, times = world(withheld=(0.0, 0.0), begun=0.5).learnt_from(spoken(500, 0), rng.torch_rng(0))
    begun = times[:, 0] == NEVER
    assert float(begun.float().mean()) == pytest.approx(0.5, abs=0.08)
    assert bool((times[:, 1] == 1).all())
    assert known[begun, 1].tolist() == [[False, True]] * int(begun.sum())
    assert bool(known[~begun, 1].all())


def test_an_empty_text_is_one_that_is_not_known() -> None:
    model, clip = world(), spoken(4, 0).with_(actions=told([""] * 4, 0.5))
    tokens, actions, known, times = model.learnt_from(clip, rng.torch_rng(0))
    known = torch.ones_like(known) & (torch.arange(2) > 0).view(1, 2, 1)
    with torch.no_grad():
        empty = model.likelihood(tokens, actions, known, times)
        unknown = model.likelihood(tokens, actions, known & torch.tensor([True, False]), times)
        assert empty.equal(unknown)
        said = model.likelihood(tokens, torch.cat([actions[:, :1], told(["left"] * 4, 0.5)], 1), known, times)
        assert not torch.allclose(said, empty)


def test_a_world_begins_with_what_the_words_say() -> None:
    model = world(withheld=(0.1, 0.1), begun=0.5)
    optimiser = torch.optim.Adam(model.groups()["all"], 1e-2)
    for step in range(60):
        loss = saying(model.train(), spoken(32, step), rng.torch_rng("noise", step))["all"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    words = [WORDS[1 + row % 2] for row in range(40)]

    def begins(actions: Tensor) -> list[int]:
        with torch.no_grad():
            dream, state = model.imagine(model.begin(len(actions)), actions, 1, rng.torch_rng("begin"))
        assert dream.frames is not None
        assert isinstance(state, dict)
        assert isinstance(state["time"], Tensor)
        assert state["time"].tolist() == [0] * len(actions)
        return (dream.frames[:, 1, 0, 0, 3] > 0).int().tolist()

    wanted = [row % 2 for row in range(40)]
    assert sum(a == b for a, b in zip(begins(told(words)), wanted, strict=True)) >= 38
    assert 10 <= sum(begins(told([""] * 40))) <= 30  # without words, either
    assert begins(told(words, -1.0)) == begins(told(words, 1.0))  # nothing can have led to a first frame


def test_guidance_exaggerates_words_and_nothing_without_them() -> None:
    plain, guided = world(), world(guidance=4.0)
    guided.load_state_dict(plain.state_dict())
    clip = spoken(64, 0)

    def dreamt(model: NextTokenWorld, words: str) -> tuple[Tensor, Any]:
        with torch.no_grad():
            dream, state = model.imagine(model.observe(clip), told([words] * 64), 1, rng.torch_rng("guided"))
        assert dream.frames is not None
        return dream.frames, state

    assert dreamt(plain, "")[0].equal(dreamt(guided, "")[0])
    assert not dreamt(plain, "right")[0].equal(dreamt(guided, "right")[0])
    assert dreamt(guided, "right")[1]["time"].shape == (64,)  # its cache has the rows that it was given


def test_a_small_thing_of_a_rare_colour_counts_as_much_as_brightness() -> None:
    grey = torch.linspace(0, 250, 8).byte().view(8, 1, 1, 1, 1).expand(8, 1, 3, 8, 8).clone()
    grey[:, :, :, 3, 4] = torch.tensor([250, 40, 40]).byte()

    def errors(colours: bool) -> tuple[float, float]:
        with rng.isolated("colours"):
            made = ConvTokenizer(View(size=(8, 8)), {"kind": "fsq", "levels": [2]}, 8, 4, 0, colours)
        losses = []
        for red, light in ((True, False), (False, True)):  # what is drawn lacks the red dot, or is too light by 10
            shown = grey[:, 0].clone()
            if red:
                shown[:, :, 3, 4] = shown[:, :, 0, 0]
            drawn = shown / 255.0 - 0.5 + (10 / 255 if light else 0.0)
            made._shown = lambda latents, drawn=drawn: drawn  # type: ignore[method-assign, assignment, misc]
            losses.append(float(made.eval().loss(grey)))
        return losses[0], losses[1]

    even, weighted = errors(False), errors(True)
    assert weighted[0] / weighted[1] > 10 * even[0] / even[1]
