"""What recipes that practise in a world give their parts: the switches and weights of each published version."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pendulum_samples import swings
from torch import nn

from retrodict.check import load_recipe
from retrodict.data.batch import Steps
from retrodict.models.imagination import Dreamer, dreaming
from retrodict.models.tdmpc import learning
from retrodict.roles import View
from retrodict.run.run import Run, Views
from retrodict.segments import categorical, continuous
from retrodict.spaces import ActionSpace

FRAMES = View(1, size=(64, 64))
JOINTS, KEYS = ActionSpace((continuous("joints", tuple("abcdef")),)), ActionSpace((categorical("key", ("a", "b")),))
COMMON = {"trace": 0.95, "horizon": 15, "rewarded": 1.0}
PUBLISHED: dict[str, dict[str, Any]] = {
    "dreamer_v1": {
        "discount": 0.99, "entropy": 0.0, "gradient": "dynamics", "scaled": False, "slow_values": False,
        "slow_weight": 0.0, "replayed": 0.0, "dyn": 0.5, "rep": 0.5, "free": 3.0, "each": False, "ended": 10.0,
    },
    "dreamer_v2": {
        "discount": 0.999, "entropy": 1e-3, "gradient": "reinforce", "scaled": False, "slow_values": True,
        "slow_weight": 0.0, "replayed": 0.0, "dyn": 0.08, "rep": 0.02, "free": 0.0, "each": False, "ended": 5.0,
    },
    "dreamer_v3": {
        "discount": 0.997, "entropy": 3e-4, "gradient": "reinforce", "scaled": True, "slow_values": False,
        "slow_weight": 1.0, "replayed": 0.3, "dyn": 1.0, "rep": 0.1, "free": 1.0, "each": True, "ended": 1.0,
    },
}  # fmt: skip


class Caught(Exception):
    """Carries what a recipe was about to train with."""


def caught(monkeypatch: pytest.MonkeyPatch, folder: Path, views: Views, name: str) -> Any:
    """What a recipe of the Dreamers hands on to practise: how its agent is made, and its loss."""
    module = load_recipe(name)

    def stop(run: Run, agent: Any, loss: Any, *rest: Any) -> None:
        raise Caught(agent, loss)

    monkeypatch.setattr(module, "practised", stop)
    with Run(folder, views) as run, pytest.raises(Caught) as found:
        module.train(module.paper(), run)
    return found.value.args


def untrained(run: Run, stage: str, part: Any, *rest: Any) -> Any:
    """Stands in for `Run.fit` where weights do not matter."""
    return part.eval()


def settings(loss: partial[Any], function: Any) -> dict[str, Any]:
    """Every setting of a loss, the defaults among them."""
    assert loss.func is function
    given = inspect.signature(function).parameters
    return {name: one.default for name, one in given.items() if one.default is not one.empty} | loss.keywords


def weights(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_each_dreamer_learns_by_the_terms_of_its_paper(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sprites: Views, name: str
) -> None:
    _, loss = caught(monkeypatch, tmp_path, sprites, name)
    assert settings(loss, dreaming) == pytest.approx(PUBLISHED[name] | COMMON)


def test_the_nets_of_the_first_dreamer_have_their_published_sizes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sprites: Views
) -> None:
    agent: Dreamer = caught(monkeypatch, tmp_path, sprites, "dreamer_v1")[0](FRAMES, JOINTS, 8)
    assert weights(agent.world) - weights(agent.world.end) == 5_296_820  # 5.30 M
    seen = 230 * 400 + 400  # features to the first layer
    assert weights(agent.actor) == seen + 3 * (400 * 400 + 400) + 400 * 12 + 12  # 0.58 M
    assert weights(agent.critic) == weights(agent.slow) == seen + 2 * (400 * 400 + 400) + 401


def test_the_second_dreamer_acts_on_choices_by_likelihood_and_on_axes_through_its_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sprites: Views
) -> None:
    made, loss = caught(monkeypatch, tmp_path, sprites, "dreamer_v2")
    agent = made(FRAMES, KEYS, 8)
    assert (agent.slow_share, agent.paces()) == (100.0, {"actor": 0.2, "critic": 0.5})
    assert loss.keywords["gradient"] == "reinforce"
    (group,) = load_recipe("dreamer_v2").paper().practise.optimiser(list(agent.actor.parameters()), 1.0).param_groups
    assert group["eps"] == 1e-5
    assert group["lr"] * group["weight_decay"] == pytest.approx(1e-6)  # of each weight, in each update


@pytest.mark.parametrize(("preset", "consistency"), [("paper", 20.0), ("tiny", 20.0), ("catch", 0.3)])
def test_tdmpc2_hands_its_settings_to_its_loss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sprites: Views, preset: str, consistency: float
) -> None:
    def stop(run: Run, stage: str, part: Any, loss: Any, *rest: Any) -> None:
        raise Caught(loss)

    module = load_recipe("tdmpc2")
    monkeypatch.setattr(Run, "fit", stop)
    cfg = getattr(module, preset)()
    with Run(tmp_path, sprites) as run, pytest.raises(Caught) as found:
        module.train(cfg, run)
    told = settings(found.value.args[0], learning)
    assert (told["rho"], told["consistency"], told["entropy"]) == (0.5, consistency, cfg.entropy)
    assert told["shift"] == cfg.shift


def test_tdmpc2_explores_while_it_plays_and_its_policy_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played: list[Any] = []

    def replay(run: Run, recorded: Steps, policy: Any, steps: int, whole: bool = True) -> Steps:
        played.append(policy)
        return recorded

    module, data = load_recipe("tdmpc2"), swings()
    monkeypatch.setattr(Run, "replay", replay)
    monkeypatch.setattr(Run, "fit", untrained)
    with Run(tmp_path, data) as run:
        system = module.train(module.micro(), run)
    past = data.unlabelled.draw(1, 0).only("proprio").cut(0, 1)
    assert len(played) == 1
    with torch.no_grad():
        plays, told = (policy.act(past)[0] for policy in (played[0](system.forward), system.policy))
    noise = torch.Generator().manual_seed(0)
    assert float(torch.cat([told.sample(noise) for _ in range(50)]).std()) < 1e-3
    assert float(torch.cat([plays.sample(noise) for _ in range(50)]).std()) > 0.05  # 0.05 of half its range is 0.1


@pytest.mark.parametrize(("preset", "temperature"), [("tiny", 1.0), ("cool", 0.5), ("warm", 1.25), ("paper", 1.15)])
def test_the_controller_of_world_models_evolves_in_a_dream_of_the_set_temperature(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sprites: Views, preset: str, temperature: float
) -> None:
    def stop(run: Run, stage: str, part: Any, body: Any, *rest: Any) -> None:
        raise Caught(body)

    module = load_recipe("world_models")
    cfg = replace(module.micro(), temperature=getattr(module, preset)().temperature)
    monkeypatch.setattr(Run, "fit", untrained)
    monkeypatch.setattr(Run, "loop", stop)
    with Run(tmp_path, sprites) as run, pytest.raises(Caught) as found:
        module.train(cfg, run)
    assert found.value.args[0].keywords["world"].temperature == temperature
