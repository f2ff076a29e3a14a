"""Tokenizers: frames to whole numbers and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.errors import NoFrames, UnusableInput
from retrodict.models.tokenizers import (
    FAINT,
    ConvTokenizer,
    LearnedTokenizer,
    PatchTokenizer,
    VideoTokenizer,
    motion,
    unlike,
)
from retrodict.nn.conv import normalise
from retrodict.nn.quantize import token_code
from retrodict.roles import Encoder, View

VIEW = View(size=(8, 12))
VQ = {"kind": "vq", "positions": 1, "codes": 16, "width": 4}


def tiled(*numbers: int) -> Tensor:
    """A frame of six 4x4 patches, each of one grey."""
    grid = torch.tensor(numbers, dtype=torch.uint8).view(2, 3)
    return grid.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(3, -1, -1)


def clip_of(*frames: Tensor) -> Clip:
    return Clip(frames=torch.stack(frames).unsqueeze(0).contiguous())


def learnt(codes: int, *frames: Tensor, apart: float = 4.0) -> PatchTokenizer:
    made = PatchTokenizer(VIEW, 4, codes, apart)
    made.learn(clip_of(*frames), rng.torch_rng("learn"))
    return made


def test_patches_that_were_seen_come_back_exactly() -> None:
    clip = clip_of(tiled(0, 10, 20, 30, 40, 50), tiled(50, 50, 0, 0, 10, 10))
    tokenizer = learnt(8, *clip.frames[0])  # type: ignore[index]
    assert int(tokenizer.filled) == 6
    coded = tokenizer.encode(clip)
    assert coded.features is not None
    assert coded.features.shape == (1, 2, 6)
    assert coded.features[0, 1].tolist()[0] == coded.features[0, 1].tolist()[1]
    assert tokenizer.decode(coded.with_(frames=None)).frames.equal(clip.frames)  # type: ignore[union-attr]


def test_a_patch_like_one_of_the_book_does_not_join_it_and_is_shown_as_that() -> None:
    tokenizer = learnt(8, tiled(0, 100, 100, 100, 100, 100))
    told = tokenizer.learn(clip_of(tiled(3, 98, 0, 0, 0, 0)), rng.torch_rng(0))
    assert int(tokenizer.filled) == 2
    assert told == {"codes/filled": 2.0, "codes/unlike": 0.0}
    shown = tokenizer.decode(tokenizer.encode(clip_of(tiled(3, 98, 0, 0, 0, 0)))).frames
    assert shown is not None
    assert shown[0, 0].equal(tiled(0, 100, 0, 0, 0, 0))


def test_a_full_book_says_what_share_is_unlike_all_of_it() -> None:
    tokenizer = learnt(2, tiled(0, 0, 0, 100, 100, 100))
    told = tokenizer.learn(clip_of(tiled(0, 50, 200, 0, 0, 0)), rng.torch_rng(0))
    assert told["codes/filled"] == 2
    assert told["codes/unlike"] == pytest.approx(2 / 3)  # of its three different patches
    assert tokenizer.alarm().startswith("its book of 2 patches is full, and 67% of the different ones seen last are")
    tokenizer.learn(clip_of(tiled(0, 100, 0, 0, 0, 0)), rng.torch_rng(0))
    assert tokenizer.alarm() == ""  # what is seen now is known


def test_a_book_that_has_room_or_lacks_little_gives_no_alarm() -> None:
    assert learnt(4, tiled(0, 50, 100, 150, 150, 150)).alarm() == ""  # full, and whole
    shown = [tiled(*[20 * number] * 6) for number in range(11)]
    assert learnt(10, *shown).alarm() == ""  # one in eleven is unlike all
    assert "18%" in learnt(9, *shown).alarm()
    assert learnt(12, *shown).alarm() == ""


@pytest.mark.parametrize("kind", ["conv", "video"])
def test_learned_tokenizers_are_encoders_of_whole_numbers(kind: str) -> None:
    with rng.isolated("tokenizer"):
        if kind == "conv":
            made: LearnedTokenizer = ConvTokenizer(VIEW, VQ, 4, 8, 1)
        else:
            made = VideoTokenizer(View(3, 2, size=(8, 12)), VQ, 4, 8, 1, 2)
    assert isinstance(made, Encoder)
    clip = Clip(frames=torch.randint(0, 256, (2, 4, 3, 8, 12), generator=rng.torch_rng(0), dtype=torch.uint8))
    made.eval()
    with torch.no_grad():
        coded = made.encode(clip)
        shown = made.decode(coded.with_(frames=None)).frames
    assert coded.features is not None
    assert coded.features.shape == (2, 4, 6)
    assert bool(((coded.features >= 0) & (coded.features < 16) & (coded.features == coded.features.round())).all())
    assert shown is not None
    assert shown.shape == clip.frames.shape  # type: ignore[union-attr]
    assert shown.dtype == torch.uint8


def test_a_video_tokenizer_looks_back_and_never_ahead() -> None:
    with rng.isolated("tokenizer"):
        made = VideoTokenizer(View(3, 2, size=(8, 12)), VQ, 4, 8, 1, 2).eval()
    frames = torch.rand(1, 3, 3, 8, 12, generator=rng.torch_rng(0)).requires_grad_()
    patches = made._latents(frames)
    for t in range(3):
        (gradient,) = torch.autograd.grad(patches[:, t].sum(), frames, retain_graph=True)
        reached = (gradient.abs().amax((0, 2, 3, 4)) > 0).tolist()
        assert reached == [u <= t for u in range(3)]


@pytest.mark.parametrize("code", [VQ, token_code(16, 4, (4, 4))], ids=["vq", "fsq"])
def test_the_loss_of_a_tokenizer_falls_and_frames_come_back(code: dict[str, Any]) -> None:
    with rng.isolated("tokenizer"):
        made = ConvTokenizer(VIEW, code, 4, 16, 1)
    greys = rng.torch_rng("greys")
    frames = torch.stack(
        [tiled(*(int(x) for x in torch.randint(0, 3, (6,), generator=greys) * 100)) for _ in range(32)]
    ).unsqueeze(1)
    optimiser = torch.optim.Adam(made.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss = made.loss(frames)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert 2 < made.gauges()["codes/perplexity"] < 16
    assert made.alarm() == ""
    clip = Clip(frames=frames[:4])
    with torch.no_grad():
        shown = made.eval().decode(made.encode(clip).with_(frames=None)).frames
    assert shown is not None
    assert (shown.float() - frames[:4].float()).abs().mean() < 12  # greys are 100 apart


def test_what_moves_weighs_more_than_what_stays() -> None:
    still, moved = torch.zeros(1, 2, 3, 8, 12), torch.zeros(1, 2, 3, 8, 12)
    moved[0, 1, :, 3, 4] = 0.5  # one pixel changes, and its eight neighbours count as well: 9 of 96
    weights = motion(moved, moving=2.0)
    assert weights.shape == (1, 2, 8, 12)
    assert torch.equal(weights[:, 0], weights[:, 1])  # a window's last frame has the weights of the change to it
    assert weights.mean().item() == pytest.approx(1)
    near, far = weights[0, 0, 2:5, 3:6], weights[0, 0, 6, 9]
    assert torch.equal(near, near[0, 0].expand(3, 3))
    assert (near[0, 0] / far).item() == pytest.approx(1 + 2.0 * 96 / 9)
    assert torch.equal(motion(still, moving=2.0), torch.ones(1, 2, 8, 12))
    with pytest.raises(UnusableInput, match="windows of two frames"):
        motion(moved[:, :1], moving=2.0)


def test_a_tokenizer_that_weighs_motion_pays_for_the_same_error_more_where_something_moves() -> None:
    with rng.isolated("tokenizer"):
        plain, weighing = (ConvTokenizer(VIEW, VQ, 4, 16, 1, moving=moving).eval() for moving in (0.0, 5.0))
    weighing.load_state_dict(plain.state_dict())
    moves = torch.stack([tiled(*[128] * 6), tiled(128, 255, *[128] * 4)]).unsqueeze(0)  # grey is what it shows at first
    still = moves[:, :1].expand(-1, 2, -1, -1, -1)
    assert weighing.loss(still).item() == pytest.approx(plain.loss(still).item())
    assert weighing.loss(moves).item() > 1.05 * plain.loss(moves).item()  # the bright patch is the one that is missed


def test_structural_similarity_by_hand_and_what_it_is_for() -> None:
    edge = torch.zeros(1, 1, 3, 3)
    edge[..., 2] = 0.09  # a faint edge: mean 0.03 above grey, variance 0.0018 in its one window
    flat = torch.full_like(edge, 0.03)  # of the same light
    light = (2 * 0.53 * 0.53 + FAINT) / (0.53**2 + 0.53**2 + FAINT)
    assert unlike(flat, edge).item() == pytest.approx(1 - light * FAINT / (0.0018 + FAINT), abs=1e-5)
    assert unlike(edge, edge).item() == pytest.approx(0, abs=1e-6)
    assert unlike(-edge, edge).item() > 1  # the edge is there, the wrong way round
    darker = edge - 0.05
    assert (flat - edge).square().mean() < (darker - edge).square().mean()  # which a squared error likes better
    assert unlike(flat, edge) > 10 * unlike(darker, edge)


def test_structure_is_added_to_what_a_tokenizer_pays() -> None:
    with rng.isolated("tokenizer"):
        plain, seeing = (ConvTokenizer(VIEW, VQ, 4, 16, 1, structure=weight).eval() for weight in (0.0, 2.0))
    seeing.load_state_dict(plain.state_dict())
    frames = torch.stack([tiled(*[128] * 6), tiled(128, 255, *[128] * 4)]).unsqueeze(0)
    shown = plain._shown(plain.quantiser(plain._latents(frames.flatten(0, 1)))[0])
    added = 2 * unlike(shown, normalise(frames.flatten(0, 1))).item()
    assert added > 0
    assert seeing.loss(frames).item() == pytest.approx(plain.loss(frames).item() + added)


def test_an_alarm_says_that_the_codebook_collapsed_and_none_that_it_is_well() -> None:
    made = ConvTokenizer(VIEW, VQ, 4, 8, 1)
    assert made.alarm() == ""  # nothing is known yet
    made.quantiser.used.zero_()
    made.quantiser.used[0, 3] = 16.0
    assert "16 codes are worth 1.0" in made.alarm()
    made.quantiser.used.fill_(1.0)
    assert made.alarm() == ""


def test_what_cannot_be_tokenised_is_refused() -> None:
    with pytest.raises(UnusableInput, match="patch 5 does not divide"):
        PatchTokenizer(VIEW, 5)
    with pytest.raises(UnusableInput, match="one position"):
        ConvTokenizer(VIEW, {**VQ, "positions": 2}, 4)
    with pytest.raises(UnusableInput, match="one frame"):
        ConvTokenizer(View(2, 1, size=(8, 12)), VQ, 4)
    with pytest.raises(UnusableInput, match="present frame"):
        VideoTokenizer(View(3, 1, size=(8, 12)), VQ, 4)
    with pytest.raises(NoFrames, match="encode it first"):
        PatchTokenizer(VIEW, 4).decode(clip_of(tiled(0, 0, 0, 0, 0, 0)))
