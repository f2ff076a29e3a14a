"""The world that comes with the package: small, steerable, and its card says how it was made."""

from __future__ import annotations

import re
import shlex

import numpy as np
import torch

from retrodict import load
from retrodict.cli.grammar import parse
from retrodict.clip import Clip
from retrodict.envs import sprites
from retrodict.envs.catalog import make
from retrodict.serve.start import own_world

MOST = 2_000_000  # bytes


def test_it_goes_where_the_true_world_goes() -> None:
    """One step from 40 levels: wherever the agent really moves, it moves there in imagination."""
    system, real, moves = load(own_world()), make("sprites", 40), np.arange(40) % 5
    forward = system.decoded().forward
    assert forward is not None
    assert forward.space == real.actions
    before, _ = real.reset(seed=list(range(40)))
    seen = Clip(frames=torch.from_numpy(before).permute(0, 3, 1, 2).unsqueeze(1))
    with torch.no_grad():
        actions = forward.space.one_hot(torch.from_numpy(moves)).unsqueeze(1)
        clip, _ = forward.imagine(forward.observe(seen), actions, 1, torch.Generator().manual_seed(0))
        frames = forward.decode(clip).frames
    assert frames is not None
    assert (frames.shape, frames.dtype) == ((40, 2, 3, 36, 36), torch.uint8)
    after = sprites.track(real.step(moves)[0])
    moved = (after != sprites.track(before)).any(1)
    there = (sprites.track(frames[:, 1].permute(0, 2, 3, 1).numpy()) == after).all(1)
    assert moved.sum() > 20
    assert there[moved].mean() > 0.9


def test_it_is_small_and_its_card_says_how_to_make_it_again() -> None:
    folder = own_world()
    card, about = (folder / "README.md").read_text(), load(folder).about
    assert sum(file.stat().st_size for file in folder.iterdir() if file.name != "README.md") <= MOST
    assert f"seed {about['seed']}" in card
    assert f"At commit {about['commit']}" in card.replace("\n", " ")  # settings of a recipe change, commits do not
    lines = [shlex.split(line) for line in re.findall(r"^    retrodict (.+)", card, re.MULTILINE)]
    assert [line[:2] for line in lines] == [["check", about["recipe"]]]
    for line in lines:
        parse(line)
    assert "\n    python scripts/pack_world.py runs/" in card
