"""What practice in a dream is worth: every part of the ratio against play of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.envs.dodge import Dodge
from retrodict.envs.rollout import open_loop, policy_actor, score, uniform
from retrodict.errors import UnusableInput
from retrodict.figures import dream_figures
from retrodict.models.controller import Controller
from retrodict.models.evolution import dreamt_returns
from retrodict.models.filtered import Filtered
from retrodict.models.gaussian_vae import GaussianVAE
from retrodict.models.mdn_rnn import MDNRNN
from retrodict.roles import System, View

LEVELS, TRAIN, LIMIT = range(500, 506), range(1000, 5000), 40


def game(copies: int) -> Dodge:
    return Dodge(copies, limit=LIMIT)


@pytest.fixture(scope="module")
def filtered() -> Filtered:
    with rng.isolated("figures"):
        vae = GaussianVAE(View(size=(32, 32)), 4, (4, 4))
        world = MDNRNN(vae, game(1).actions, 6, 2).eval()
    controller = Controller(replace(world.view, features=world.features), world.space)
    controller.weights.copy_(torch.randn(controller.weights.shape, generator=rng.torch_rng("weights")))
    return Filtered(world, controller)


def mean(found: dict[str, list[float]]) -> float:
    return float(np.mean(found["returns"]))


def test_the_ratio_and_what_stands_beside_it(filtered: Filtered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dream_figures, "CANDIDATES", 4)
    monkeypatch.setattr(dream_figures, "TRIES", 1)
    found = dream_figures.measured(System(forward=filtered.world, policy=filtered), game, LEVELS, TRAIN, 600)
    parts = {name.removeprefix("ratio_to_random."): value for name, value in found.items()}
    world = game(6)
    chance = mean(score(world, LEVELS, uniform(world)))
    acted = mean(score(world, LEVELS, policy_actor(filtered, world, mode=False)))
    assert parts["random"] == chance
    assert parts["return"] == acted
    assert parts["ratio_to_random"] == acted / chance
    stay = torch.tensor([[0.0, 1.0, 0.0]])
    assert parts["nothing"] == mean(score(world, LEVELS, open_loop(world, stay)))
    assert parts["expert"] == LIMIT
    frames, _ = world.reset(seed=list(LEVELS))
    starts = Clip(frames=torch.from_numpy(frames).permute(0, 3, 1, 2).unsqueeze(1).contiguous())
    with torch.no_grad():
        promised = dreamt_returns(filtered.world, filtered.actor, starts, LIMIT, rng.torch_rng("promised"))  # type: ignore[arg-type]
    assert parts["dream_return"] == pytest.approx(float(promised.mean()))
    assert set(parts) >= {"open_loop", "evolved_in_real"}
    assert 2 <= parts["generations_in_real"] <= 600 / 4


def test_evolution_in_the_real_game_spends_the_frames_it_has(filtered: Filtered) -> None:
    spent: list[int] = []

    class Counted(Dodge):
        def step(
            self, actions: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
            spent.append(int((~self.done).sum()))
            return super().step(actions)

    inner = filtered.actor
    assert isinstance(inner, Controller)
    best, number = dream_figures.evolved(filtered.world, inner, lambda n: Counted(n, limit=LIMIT), TRAIN, 4000)
    frames = sum(spent) + number * dream_figures.CANDIDATES * dream_figures.TRIES
    assert 4000 - 2 * frames / number < frames < 4000 + frames / number
    assert isinstance(best.actor, Controller)
    assert not torch.equal(best.actor.weights, inner.weights)
    assert best.actor.count == 1


def test_a_policy_on_frames_has_no_such_ratio(filtered: Filtered) -> None:
    with pytest.raises(UnusableInput, match="controller"):
        dream_figures.measured(System(forward=filtered.world), game, LEVELS, TRAIN, 600)
