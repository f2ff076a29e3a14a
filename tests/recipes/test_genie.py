"""Genie: what its parts learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict.clip import PREDICTED, Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.models.token_world import MaskedWorld
from retrodict.models.tokenizers import PatchTokenizer
from retrodict.nn.quantize import code_space
from retrodict.recipes import genie
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
