"""Familiar video passes the gate, foreign video does not, and what a codec changes is not foreign."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retrodict.clip import Clip
from retrodict.contract import sprite_views
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.envs.rollout import rollout, uniform
from retrodict.envs.sprites import Sprites
from retrodict.label.gate import familiarity, gated
from retrodict.models.familiarity import FLOOR, Familiarity
from retrodict.models.inverse import Inverse
from retrodict.roles import System, View
from retrodict.run.run import Run, Views
from retrodict.spaces import UNKNOWN


def frames(textures: str = "plain") -> torch.Tensor:
    """Frames of levels that no run has seen."""
    world = Sprites(4, 36, textures=textures)
    clips = [
        clip.frames[0] for clip, _, _ in rollout(world, range(500, 508), uniform(world)) if clip.frames is not None
    ]
    return torch.cat(clips)


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Familiarity:
    with Run(tmp_path_factory.mktemp("gate"), sprite_views(20, 32)) as run:
        return familiarity(run)


def refused(score: Familiarity, seen: torch.Tensor) -> float:
    return float((score(Clip(frames=seen.unsqueeze(1))) < 0).float().mean())


def test_own_video_passes_and_foreign_video_does_not(score: Familiarity) -> None:
    own = frames()
    assert refused(score, own) == 0
    assert refused(score, frames("checker+noise+stripes")) >= 0.95
    assert refused(score, torch.randint(0, 256, own.shape, dtype=torch.uint8)) == 1
    assert refused(score, torch.zeros_like(own)) == 1


def test_what_a_codec_changes_is_not_foreign(score: Familiarity) -> None:
    own = frames()
    noise = torch.randint(-3, 4, own.shape, generator=torch.Generator().manual_seed(0))
    assert refused(score, (own.int() + noise).clamp(0, 255).to(torch.uint8)) == 0


def test_one_foreign_frame_makes_a_clip_foreign(score: Familiarity) -> None:
    own = frames()[:2]
    spoilt = own.clone()
    spoilt[1] = 255 - spoilt[1]
    assert (score(Clip(frames=torch.stack([own, spoilt]))) < 0).tolist() == [False, True]


def test_distance_by_hand() -> None:
    """Known: a black patch. A frame of one grey and three black patches is a quarter of the grey level away."""
    score = Familiarity(View(size=(16, 16)), patch=8, size=1)
    black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    score.learn(score.patches(black), black)
    assert score.limit == pytest.approx(FLOOR)
    grey = black.clone()
    grey[..., :8, :8] = 51
    assert score.distance(grey).tolist() == pytest.approx([0.2 / 4])


def test_the_limit_is_what_held_out_frames_ask_for() -> None:
    score = Familiarity(View(size=(8, 8)), patch=8, size=1)
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    held = torch.cat([torch.full((1, 3, 8, 8), level, dtype=torch.uint8) for level in range(0, 102, 1)])
    score.learn(score.patches(black), held, share=0.9)
    assert (score(Clip(frames=held.unsqueeze(1))) < 0).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_system_gets_a_gate_once_and_only_with_an_inverse(tmp_path: Path) -> None:
    views = sprite_views(6, 16)
    inverse = Inverse(View(2, size=(36, 36)), views.labelled.cache.space, patch=4, width=8, depth=1, hidden=8)
    with Run(tmp_path / "run", views) as run:
        assert gated(System(), run).score is None
        once = gated(System(inverse=inverse), run)
        assert isinstance(once.score, Familiarity)
        assert gated(once, run) is once


@pytest.mark.parametrize("seed", [0, 1])
def test_an_episode_of_one_frame_is_no_video_to_learn_from(tmp_path: Path, seed: int) -> None:
    shown = frames()
    schema = Schema(UNKNOWN, {"observation.image": (36, 36, 3)}, 10)
    cache = Cache.build(MemoryStore(schema, [Clip(frames=shown[None, :9]), Clip(frames=shown[None, :1])]))
    steps = Steps.all(cache)
    with Run(tmp_path / "run", Views(steps, steps), seed) as run:
        assert refused(familiarity(run), shown[:9]) == 0


@pytest.mark.parametrize("patch", [1, 2, 3, 5, 6, 7, 8])
def test_any_patch_is_described_by_cells_that_divide_it(patch: int) -> None:
    score = Familiarity(View(size=(7 * patch, 7 * patch)), patch)
    seen = score.patches(torch.zeros(2, 3, 7 * patch, 7 * patch, dtype=torch.uint8))
    assert seen.shape == (2, 49, score.known.shape[1])
