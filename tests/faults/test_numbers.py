"""N1 and N2: a number that is not finite stops training before it is taken in; the same seed gives the same bits.

Six places are spoiled, in parts by hand and in every recipe: actions and rewards of the input, weight, loss, gradient,
optimiser state; in recipes that learn from recorded numbers those too; in loops without gradients inputs, buffers and
figures. What planners imagine is spoiled in test_planners. Frames are bytes, which are always finite. Batches have no
look-ahead.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pendulum_samples import swings
from torch import Tensor

from retrodict import rng
from retrodict.check import load_recipe, recipes
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.envs.sprites import Sprites
from retrodict.errors import NonFinite
from retrodict.models import evolution
from retrodict.models.inverse import Inverse
from retrodict.models.latent_action import LatentAction, LatentForward, LatentInverse
from retrodict.models.losses import labelled
from retrodict.nn.part import Part
from retrodict.recipes import world_models
from retrodict.roles import View
from retrodict.run import loop, repeat
from retrodict.run.log import Log
from retrodict.run.loop import Fit, weights_hash
from retrodict.run.run import Run, Views
from retrodict.run.update import Loss, Update

PLAYING = ("dreamer_v1", "dreamer_v2", "dreamer_v3", "tdmpc2")  # recipes that may play, and learn from numbers
AT = 3  # the step that meets the bad number
SIZE = (36, 36)


class Poison(Log):
    """Spoils something after the step before AT, and remembers what the part was then."""

    def __init__(self, part: Part, spoil: Callable[[], object] = lambda: None) -> None:
        super().__init__(quiet=True)
        self.part, self.spoil, self.steps = part, spoil, 0

    def step(self, step: int, values: dict[str, float]) -> None:
        super().step(step, values)
        self.steps += 1
        if step == AT - 1:
            self.spoil()
            self.before = weights_hash(self.part)


def inverse(views: Views) -> Inverse:
    with rng.isolated("weights"):
        return Inverse(View(2, size=SIZE), views.labelled.cache.space, patch=4, width=4, depth=1, hidden=8)


def stopped(folder: Path, views: Views, part: Part, log: Poison, loss: Loss, data: Steps) -> NonFinite:
    with Run(folder, views, log=log, commit_steps=1) as run, pytest.raises(NonFinite) as caught:
        run.fit("part", part, loss, data, Fit(steps=8, batch=4))
    assert (log.steps, caught.value.step) == (AT, AT)
    assert weights_hash(part) == log.before
    assert set(caught.value.episodes) <= set(views.labelled.cache.ids)
    assert caught.value.episodes
    assert f"step {AT}" in str(caught.value)
    assert caught.value.episodes[0] in str(caught.value)
    return caught.value


def at_step(loss: Loss, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Loss:
    calls = 0

    def changed(part: Any, clip: Any, noise: torch.Generator) -> Any:
        nonlocal calls
        calls += 1
        values = dict(loss(part, clip, noise))
        return change(values) if calls == AT + 1 else values

    return changed


BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", BAD)
def test_a_bad_input_is_named(tmp_path: Path, sprites: Views, value: float) -> None:
    few = sprites.labelled
    actions = few.target_actions().numpy().copy()
    data = few.with_actions(actions, np.ones(len(few), np.uint8), np.ones(len(few), np.float32), "own")
    part = inverse(sprites)
    log = Poison(part, lambda: data.columns["actions"].fill(value))
    error = stopped(tmp_path, sprites, part, log, labelled, data)
    assert error.tensor == "input batch.actions"


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["net.stem.layers.0.weight", "head.bias"])
def test_a_bad_weight_is_named_even_when_the_loss_is_finite(
    tmp_path: Path, sprites: Views, name: str, value: float
) -> None:
    part = inverse(sprites)

    def spoil() -> None:
        part.get_parameter(name).data[0].fill_(value)

    error = stopped(tmp_path, sprites, part, Poison(part, spoil), labelled, sprites.labelled)
    assert error.tensor == f"weight {name}"


@pytest.mark.parametrize("value", BAD)
def test_a_bad_loss_is_named(tmp_path: Path, sprites: Views, value: float) -> None:
    part = inverse(sprites)
    loss = at_step(labelled, lambda losses: {"all": losses["all"] * 0 + value})
    assert stopped(tmp_path, sprites, part, Poison(part), loss, sprites.labelled).tensor == "loss all"


class Backwards(torch.autograd.Function):
    """Passes a value on, and hands back a bad gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor, value: float) -> Tensor:
        context.value = value
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(gradient, context.value), None


@pytest.mark.parametrize("value", BAD)
def test_a_bad_gradient_is_named_though_the_loss_is_fine(tmp_path: Path, sprites: Views, value: float) -> None:
    part = inverse(sprites)
    good = dict(part.named_parameters())["head.bias"]

    def loss(part: Inverse, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
        losses = labelled(part, clip, noise)
        return {"all": losses["all"] + Backwards.apply(good, value).sum() if log.steps == AT else losses["all"]}

    log = Poison(part)
    assert stopped(tmp_path, sprites, part, log, loss, sprites.labelled).tensor == "gradient of head.bias"


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("kind", ["exp_avg", "exp_avg_sq"])
def test_a_bad_optimiser_state_is_named(
    tmp_path: Path, sprites: Views, monkeypatch: pytest.MonkeyPatch, kind: str, value: float
) -> None:
    part, made = inverse(sprites), []

    def remember(*args: Any) -> dict[str, torch.optim.Optimizer]:
        made.append(build(*args))
        return made[-1]

    build = loop._optimisers
    monkeypatch.setattr(loop, "_optimisers", remember)

    def spoil() -> None:
        made[0]["all"].state[part.head.weight][kind].fill_(value)

    error = stopped(tmp_path, sprites, part, Poison(part, spoil), labelled, sprites.labelled)
    assert error.tensor == f"optimiser state {kind} of head.weight"


def inputs_of(batch: Any, place: str) -> list[Tensor]:
    """Actions, rewards or recorded numbers of a batch that a loss may look at; frames are bytes, and hidden actions are
    no input."""
    clips = batch.values() if isinstance(batch, dict) else [batch]
    if place == "input proprio":
        return [clip.proprio for clip in clips if clip.proprio is not None]
    if place == "input rewards":
        return [clip.rewards for clip in clips if clip.rewards is not None and clip.rewards.numel()]
    return [clip.actions for clip in clips if clip.actions is not None and bool(clip.known.any())]


def spoil(
    place: str, value: float, part: Part, loss: Loss, optimisers: Any, draw: Callable[..., Any]
) -> tuple[Loss, Callable[..., Any]]:
    """Spoils one place of a step; returns the loss and what draws its batch."""
    weight = next(iter(next(iter(part.groups().values()))))

    def drawn(*address: Any) -> Any:
        batch = draw(*address)
        for spoilt in inputs_of(batch, place):
            spoilt.fill_(value)
        return batch

    def lost(part: Any, batch: Any, noise: torch.Generator) -> Any:
        losses = dict(loss(part, batch, noise))
        first = next(iter(losses))
        bad = losses[first] * value if place == "loss" else losses[first] + Backwards.apply(weight, value).sum()
        return losses | {first: bad}

    if place == "weight":
        weight.data[(0,) * weight.dim()] = value
    elif place == "optimiser state":
        state = next(iter(optimisers.values())).state[weight]
        next(v for k, v in state.items() if k != "step")[(0,) * weight.dim()] = value
    return (lost if place in ("loss", "gradient") else loss), (drawn if place.startswith("input") else draw)


@pytest.mark.parametrize("place", ["input", "input rewards", "weight", "loss", "gradient", "optimiser state"])
@pytest.mark.parametrize("name", recipes())
def test_every_recipe_stops_within_the_step(
    tmp_path: Path, sprites: Views, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    stops(tmp_path, sprites, monkeypatch, name, place)


@pytest.mark.parametrize("name", PLAYING)
def test_a_recipe_that_learns_from_numbers_stops_at_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stops(tmp_path, swings(), monkeypatch, name, "input proprio")


def stops(folder: Path, views: Views, monkeypatch: pytest.MonkeyPatch, name: str, place: str) -> None:
    """A recipe whose step meets a bad number in this place names it, and has taken nothing in."""
    module, real, draw, spoiled = load_recipe(name), loop._step, loop._draw, list[str]()
    at = int(rng.numpy_rng("N1", name, place).integers(1, 3))
    value = BAD[int(rng.numpy_rng("N1 value", name, place).integers(3))]

    def step(
        stage: loop.Stage, part: Part, update: Update, data: Any, cfg: Fit, optimisers: Any, number: int
    ) -> dict[str, float]:
        # a stage may see frames alone
        found = not place.startswith("input") or inputs_of(draw(stage, part, data, cfg, number), place)
        if number != at or not found:
            return real(stage, part, update, data, cfg, optimisers, number)
        spoiled.append(stage.name)
        loss, drawn = spoil(place, value, part, update.loss, optimisers, draw)
        monkeypatch.setattr(loop, "_draw", drawn)
        before = weights_hash(part)
        try:
            return real(stage, part, replace(update, loss=loss), data, cfg, optimisers, number)
        finally:
            assert weights_hash(part) == before

    monkeypatch.setattr(loop, "_step", step)
    with Run(folder, views) as run, pytest.raises(NonFinite) as caught:
        module.train(module.micro(), run)
    assert len(spoiled) == 1
    kind, _, field = place.partition(" ")
    if kind == "input":
        assert caught.value.tensor.startswith("input ")
        assert caught.value.tensor.endswith(f".{field or 'actions'}")
    else:
        assert caught.value.tensor.startswith(place)
    assert caught.value.step == at
    assert set(caught.value.episodes) <= set(views.labelled.cache.ids)
    assert caught.value.episodes


LOOPS = {"world_models": "controller", "genie": "tokens", "genie_play": "tokens"}  # stages without gradients


@pytest.mark.parametrize("place", ["input", "buffer", "buffer that the step makes", "figure"])
@pytest.mark.parametrize("name", LOOPS)
def test_every_loop_without_gradients_stops_within_the_step(
    tmp_path: Path, sprites: Views, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    module, real, spoilt = load_recipe(name), repeat._step, list[str]()
    at = int(rng.numpy_rng("N1 loop", name, place).integers(1, 3))
    value = BAD[int(rng.numpy_rng("N1 loop value", name, place).integers(3))]

    def broken(part: Part) -> None:
        spoilt.append(next(n for n, b in part.named_buffers() if b.is_floating_point()))
        part.get_buffer(spoilt[-1]).view(-1)[0] = value

    def step(
        stage: loop.Stage, part: Part, body: repeat.Body[Part], number: int, data: Steps | None, batch: int
    ) -> dict[str, float]:
        assert stage.name == LOOPS[name]
        if number != at:
            return real(stage, part, body, number, data, batch)

        def lost(part: Part, given: Any, noise: torch.Generator) -> dict[str, float]:
            told = body(part, given, noise)
            if place == "figure":
                spoilt.append(next(iter(told)))
                told[spoilt[-1]] = value
            elif place == "buffer that the step makes":
                broken(part)
            return told

        if place == "buffer":
            broken(part)
        if place == "input":
            assert data is not None
            drawn = data.draw
            monkeypatch.setattr(Steps, "draw", lambda _, *address: bad_actions(drawn(*address), value))
        before = weights_hash(part)
        try:
            return real(stage, part, lost, number, data, batch)
        finally:
            assert weights_hash(part) == before

    monkeypatch.setattr(repeat, "_step", step)
    with Run(tmp_path, sprites) as run, pytest.raises(NonFinite) as caught:
        module.train(module.micro(), run)
    spoiled = spoilt[-1] if spoilt else ""
    told = {"input": "input batch.actions", "figure": spoiled}
    assert caught.value.tensor == told.get(place, f"buffer {spoiled}")
    assert caught.value.step == at
    assert caught.value.episodes
    assert set(caught.value.episodes) <= set(sprites.labelled.cache.ids)


def bad_actions(clip: Clip, value: float) -> Clip:
    return clip.with_(actions=torch.full((clip.rows, clip.steps, 4), value), source=None, confidence=None)


def test_a_dream_whose_rewards_are_bad_teaches_no_controller(
    tmp_path: Path, sprites: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = evolution.dreamt_returns, 0

    def dreamt(*arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        found = real(*arguments)
        if calls == 2:
            found[1, 0] = math.nan
        return found

    monkeypatch.setattr(evolution, "dreamt_returns", dreamt)
    with Run(tmp_path, sprites) as run, pytest.raises(NonFinite) as caught:
        world_models.train(world_models.micro(), run)
    assert (caught.value.tensor, caught.value.step) == ("fitness of candidate 1", 1)
    assert caught.value.episodes


class Poisoned(Sprites):
    """Sprites whose rewards are bad."""

    def _advance(self, actions: Any, live: Any) -> Any:
        rewards, terminated, success = super()._advance(actions, live)
        return np.where(live, math.nan, rewards), terminated, success


@pytest.mark.parametrize("name", PLAYING)
def test_a_bad_reward_of_the_world_that_is_played_in_stops_the_step_that_draws_it(
    tmp_path: Path, sprites: Views, name: str
) -> None:
    module = load_recipe(name)
    with Run(tmp_path, sprites, world=lambda: Poisoned(2, 36)) as run, pytest.raises(NonFinite) as caught:
        module.train(module.micro(), run)
    assert caught.value.tensor == "input batch.rewards"
    assert any(id not in sprites.labelled.cache.ids for id in caught.value.episodes)


def test_numbers_that_are_only_large_are_no_alarm(tmp_path: Path, sprites: Views) -> None:
    class Large(Part):
        def __init__(self) -> None:
            super().__init__()
            self.small = torch.nn.Parameter(torch.ones(2))
            self.register_buffer("large", torch.full((3,), 3e38))  # their sum overflows

    def loss(part: Large, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
        return {"all": part.small.square().sum()}

    with Run(tmp_path, sprites) as run:
        part = run.fit("part", Large(), loss, sprites.labelled, Fit(steps=2))
    assert bool((part.small < 1).all())


def test_the_first_group_does_not_move_when_the_second_is_bad(tmp_path: Path, sprites: Views) -> None:
    class Two(Part):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))

        def groups(self) -> dict[str, list[torch.nn.Parameter]]:
            return {"left": [self.left], "right": [self.right]}

    def loss(part: Two, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
        return {"left": part.left.square().sum(), "right": part.right.square().sum()}

    part = Two()
    bad = at_step(loss, lambda losses: {**losses, "right": losses["right"] * math.nan})
    assert stopped(tmp_path, sprites, part, Poison(part), bad, sprites.labelled).tensor == "loss right"


def test_buffers_that_a_forward_pass_moved_go_back(tmp_path: Path, sprites: Views) -> None:
    """A codebook's averages move in the forward pass, before the loss is known to be bad."""
    small = {"patch": 4, "width": 4, "depth": 1}
    with rng.isolated("weights"):
        part = LatentAction(LatentInverse(View(2, size=SIZE), **small), LatentForward(View(1, size=SIZE), **small))

    def loss(part: LatentAction[LatentForward], clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
        assert clip.frames is not None
        error, commitment, _ = part.explain(clip.frames)
        return {"all": error + commitment}

    bad = at_step(loss, lambda losses: {"all": losses["all"] * math.nan})
    assert stopped(tmp_path, sprites, part, Poison(part), bad, sprites.labelled).tensor == "loss all"


def test_after_the_cause_is_gone_the_run_goes_on_as_if_it_had_not_been(tmp_path: Path, sprites: Views) -> None:
    part = inverse(sprites)
    bad = at_step(labelled, lambda losses: {"all": losses["all"] * math.nan})
    bad.__module__, bad.__qualname__ = labelled.__module__, labelled.__qualname__  # the same stage
    stopped(tmp_path / "cut", sprites, part, Poison(part), bad, sprites.labelled)
    hashes = []
    for folder in ("cut", "whole"):
        with Run(tmp_path / folder, sprites) as run:
            hashes.append(
                weights_hash(run.fit("part", inverse(sprites), labelled, sprites.labelled, Fit(steps=8, batch=4)))
            )
    assert hashes[0] == hashes[1]


SCRIPT = """
import sys
from functools import partial
import torch
torch.set_num_threads(1)
from retrodict.check import load_recipe, recipes
from retrodict.contract import sprite_views
from retrodict.envs.sprites import Sprites
from retrodict.run.loop import weights_hash
from retrodict.run.run import Run, parts_of
views = sprite_views(episodes=10, labels=16)
game = partial(Sprites, 2, 36)
for name, world in (*((name, None) for name in sorted(recipes())), ("dreamer_v3", game), ("tdmpc2", game)):
    module = load_recipe(name)
    with Run(f"{sys.argv[1]}/{name}{'' if world is None else '-plays'}", views, world=world) as run:
        system = module.train(module.micro(), run)
    print(name, views.digest, *(weights_hash(part) for role in system.parts().values() for part in parts_of(role)))
"""


def test_hash_seed_locale_day_and_folder_do_not_matter(tmp_path: Path) -> None:
    said = []
    worlds = (
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"},
        {"PYTHONHASHSEED": "77", "LC_ALL": "C.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Apia"},
    )
    for number, world in enumerate(worlds):
        place = tmp_path / f"place {number}"
        place.mkdir()
        environment = {**os.environ, **world, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", SCRIPT, str(place / "run")]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout)
    names = [line.split()[0] for line in said[0].splitlines()]
    assert names == [*sorted(recipes()), "dreamer_v3", "tdmpc2"]  # the last two while they play
    assert len(set(said[0].splitlines())) == len(names)  # and so they come to other weights
    assert all(len(line.split()) > 2 for line in said[0].splitlines())
    assert said[0] == said[1]
