"""Genie: what its parts learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrodict import load
from retrodict.clip import PREDICTED, Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.errors import UnknownName, UnusableInput
from retrodict.models.latent_action import LatentForward, nearest
from retrodict.models.token_world import MaskedWorld
from retrodict.models.tokenizers import PatchTokenizer
from retrodict.nn.quantize import FSQ, code_space
from retrodict.recipes import gaia1, genie, iris
from retrodict.roles import View
from retrodict.run.run import Run, Views


def test_frames_that_are_looked_back_at_bear_their_codes_as_when_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, cfg = code_space(1, 2), genie.micro()
    frames = torch.zeros(1, 24, 3, 8, 8, dtype=torch.uint8)
    cache = Cache.build(MemoryStore(Schema(space, {"observation.image": (8, 8, 3)}, 10), [Clip(frames=frames)]))
    steps, count = Steps.all(cache), 23
    given = (np.full(count, PREDICTED, np.uint8), np.ones(count, np.float32), "codes")
    codes = steps.with_actions(space.one_hot(torch.zeros(count)).numpy(), *given)
    shown: list[tuple[Tensor, Tensor]] = []
    drafted = MaskedWorld.drafted

    def spied(
        world: MaskedWorld, tokens: Tensor, actions: Tensor, known: Tensor, times: Tensor, open_: Tensor
    ) -> Tensor:
        shown.append((known, times))
        return drafted(world, tokens, actions, known, times, open_)

    monkeypatch.setattr(MaskedWorld, "drafted", spied)
    with Run(tmp_path, Views(steps, steps)) as run:
        genie.dynamics(cfg, run, PatchTokenizer(cache.view(), 4, 16), codes, space)
    known, times = (torch.cat(part) for part in zip(*shown, strict=True))
    back = known[times[:, 0] >= 0][:, 1:-1]  # of whole clips, but the first frame, to which nothing led, and the last
    assert back.shape[1] == cfg.dynamics.memory
    assert float(back.float().mean()) > 0.5  # some codes are withheld


def levelled() -> dict[str, tuple[Any, Any]]:
    conv = replace(genie.micro(), tokens=genie.Tokens("conv", codes=16), levels=(4, 2, 2))
    video = replace(genie.micro(), tokens=genie.Tokens("video", codes=16, width=16, depth=1), levels=(4, 4))
    return {
        "genie conv": (genie, conv), "genie video": (genie, video),
        "iris": (iris, replace(iris.micro(), levels=(4, 4))), "gaia1": (gaia1, replace(gaia1.micro(), levels=(4, 4))),
    }  # fmt: skip


@pytest.mark.parametrize("name", levelled())
def test_tokens_of_fixed_levels_are_a_setting_of_every_learnt_tokenizer(
    sprites: Views, tmp_path: Path, name: str
) -> None:
    recipe, cfg = levelled()[name]
    with Run(tmp_path, sprites) as run:
        system = run.finish(recipe.train(cfg, run), {})
    assert isinstance(system.encoder.quantiser, FSQ)
    assert system.encoder.codes == 16
    clip = Clip(frames=sprites.unlabelled.batch(np.arange(2)).frames[:, :1])
    seen, _ = system.forward.imagine(system.forward.observe(clip), None, 2, torch.Generator().manual_seed(0))
    assert seen.frames.shape == (2, 3, *clip.frames.shape[2:])
    assert load(tmp_path).encoder.quantiser.book.equal(system.encoder.quantiser.book)


def test_levels_that_no_token_has_are_refused(sprites: Views, tmp_path: Path) -> None:
    with Run(tmp_path, sprites) as run:
        with pytest.raises(UnusableInput, match="patches are the codes"):
            genie.train(replace(genie.micro(), levels=(4, 4)), run)
        with pytest.raises(UnusableInput, match="make 8 codes, and 16"):
            iris.train(replace(iris.micro(), levels=(4, 2)), run)


class Painter(LatentForward):
    """A world whose codes paint the next frame dark, grey and bright."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.view, self.space = View(1, size=(4, 4)), code_space(1, 3)

    def predict(self, frames: Tensor, actions: Tensor | None) -> Tensor:
        assert actions is not None
        return (actions.argmax(-1).float() / 2 - 0.5).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def test_the_nearest_code_is_the_one_that_foretells_what_came() -> None:
    frames = torch.zeros(3, 2, 3, 4, 4, dtype=torch.uint8)
    frames[:, 1] = torch.tensor([20, 240, 120]).view(3, 1, 1, 1)
    assert nearest(Clip(frames=frames), Painter())["actions"].argmax(-1).tolist() == [0, 2, 1]


@pytest.mark.parametrize("last_steps", [True, False])
def test_last_steps_get_the_code_that_foretells_them_where_none_was_learnt(
    sprites: Views, tmp_path: Path, last_steps: bool
) -> None:
    cfg = replace(genie.micro(), last_steps=last_steps)
    with Run(tmp_path, sprites) as run:
        actions = genie.latent_action(cfg, run)
        codes = genie.coded(cfg, run, actions)
    steps = codes.shown(actions.inverse.view)
    clip = steps.batch(np.arange(len(steps)))
    with torch.no_grad():
        said = actions.inverse.infer(clip).mode()[:, steps.target]
        foretold = nearest(clip.cut(0, 2), actions.world)["actions"]
    last = torch.from_numpy(steps.index + 1 == steps.cache.last[steps.index])
    wanted = said if last_steps else torch.where(last[:, None], foretold, said)
    assert 0 < int(last.sum()) < len(last)
    assert torch.equal(steps.target_actions(), wanted)


def test_tokens_that_cannot_weigh_what_moves_and_kinds_that_there_are_not_are_refused(
    sprites: Views, tmp_path: Path
) -> None:
    cfg = genie.micro()
    with Run(tmp_path, sprites) as run:
        with pytest.raises(UnusableInput, match="set moving to 0 for tokens of kind patches"):
            genie.tokenizer(replace(cfg, moving=0.5), run)
        with pytest.raises(UnknownName, match="kind of tokenizer"):
            genie.tokenizer(replace(cfg, tokens=genie.Tokens("cubes")), run)
