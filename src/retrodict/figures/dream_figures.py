"""What practice in a dream is worth: a policy's return in the real game, beside what needs no dream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.controller import Controller
from retrodict.models.evolution import CMAES, dreamt_returns
from retrodict.models.filtered import Filtered
from retrodict.roles import ForwardModel, System

if TYPE_CHECKING:
    from retrodict.envs.rollout import Actor
    from retrodict.envs.world import World

MEASURES = ("ratio_to_random",)
CANDIDATES, TRIES = 16, 2  # of a generation in the real game, and the episodes of each
SEARCH = 64  # training levels on which plans are compared


def measured(
    system: System, make: Callable[[int], World], levels: Sequence[int], train: range, frames: int
) -> dict[str, float]:
    """Measures a system whose policy is a controller on its world's features; `make` makes so many copies of the game.

    ratio_to_random: mean return over the levels / that of uniform actions. Beside it those returns (`return`,
    `random`), and on the same levels: `nothing`, of the action "stay"; `open_loop`, the best plan that
    never looks, sweeps among them, chosen on training levels; `evolved_in_real`, the same controller on the same
    features after evolution in the real game for as many frames as were recorded, and the number of its generations;
    `expert`. `dream_return` is what the world promises the policy, for as many steps as the game lasts.

    Raises:
        UnusableInput: the system's policy is none on features, uniform actions earn nothing to compare with, or the
            game has no action that does nothing.
    """
    from retrodict.envs.blind import blind, idle, swings
    from retrodict.envs.rollout import expert, open_loop, policy_actor, uniform

    filtered = system.policy
    inner = filtered.actor if isinstance(filtered, Filtered) else None
    if not isinstance(filtered, Filtered) or not isinstance(inner, Controller):
        raise UnusableInput("ratio_to_random needs a controller on a world's features, as that of world_models")
    world, search = make(len(levels)), train[:SEARCH]
    by_chance = _mean(world, levels, uniform(world))
    if by_chance <= 0:
        raise UnusableInput(f"uniform actions earn {by_chance} here, so that there is no ratio to them")
    nothing = idle(world)
    if nothing is None:
        raise UnusableInput(f"{world.name} has no action that does nothing, to compare with")
    plans = [blind(make(32), search), *swings(world)]
    other = make(len(search))
    plan = max(plans, key=lambda plan: _mean(other, search, open_loop(other, plan)))
    real, generations = evolved(filtered.world, inner, make, train[len(search) :], frames)
    acting: dict[str, Actor] = {
        "return": policy_actor(filtered, world, mode=False), "nothing": open_loop(world, nothing),
        "open_loop": open_loop(world, plan),
        "evolved_in_real": policy_actor(real, world, mode=False), "expert": expert(world),
    }  # fmt: skip
    parts = {name: _mean(world, levels, actor) for name, actor in acting.items()}
    parts |= {
        "random": by_chance,
        "generations_in_real": float(generations),
        "dream_return": _promised(filtered.world, inner, world, levels),
    }
    return {"ratio_to_random": parts["return"] / by_chance, **{f"ratio_to_random.{k}": v for k, v in parts.items()}}


def _mean(world: World, levels: Sequence[int], actor: Any) -> float:
    from retrodict.envs.rollout import score

    return float(np.mean(score(world, levels, actor)["returns"]))


def evolved(
    dreamt: ForwardModel, inner: Controller, make: Callable[[int], World], levels: Sequence[int], frames: int
) -> tuple[Filtered, int]:
    """Evolves a controller like this one, on the same features, in the real game, as long as generations seem to fit
    into `frames`. Returns it, and their number."""
    from retrodict.envs.rollout import policy_actor, score

    crowd = Controller(inner.view, inner.space, inner.bias, CANDIDATES)
    evolution, world = CMAES(crowd.weights.shape[1], CANDIDATES), make(CANDIDATES * TRIES)
    left, longest, number = frames, 0, 0
    while left >= longest:
        found = evolution.ask(rng.torch_rng("evolved in real", number))
        crowd.weights.copy_(found)
        now = levels[number * world.num_envs : (number + 1) * world.num_envs]
        played = score(world, now, policy_actor(Filtered(dreamt, crowd), world))
        evolution.tell(found, torch.tensor(played["returns"]).view(CANDIDATES, TRIES).mean(1))
        spent = sum(played["lengths"]) + len(now)
        left, longest, number = left - spent, max(longest, spent), number + 1
    best = Controller(inner.view, inner.space, inner.bias)
    best.load_state_dict({"weights": evolution.mean.float().unsqueeze(0)})
    return Filtered(dreamt, best), number


@torch.no_grad()
def _promised(dreamt: ForwardModel, inner: Controller, world: World, levels: Sequence[int]) -> float:
    """Mean return that the world dreams of from the first frames of these levels."""
    frames, _ = world.reset(seed=list(levels))
    starts = Clip(frames=torch.from_numpy(frames).permute(0, 3, 1, 2).unsqueeze(1).contiguous())
    noise = rng.torch_rng("promised")
    return float(dreamt_returns(dreamt, inner, starts, world.limit, noise).mean())
