"""A policy on a world's features that acts on what the world is shown."""

from __future__ import annotations

from dataclasses import replace

import torch

from retrodict.clip import Clip
from retrodict.errors import Incompatible
from retrodict.nn.part import Part
from retrodict.roles import ForwardModel, Memory, Policy
from retrodict.spaces import Distribution
from retrodict.tree import leaf


class Filtered(Part):
    """A policy on a world's features that acts on frames: the world's state is its memory, and takes in what is seen
    and done. Where it is not told what was done, that is what the policy found likeliest.

    Raises:
        Incompatible: the policy speaks other actions, or asks for other features than the world has.
    """

    def __init__(self, world: ForwardModel, actor: Policy) -> None:
        super().__init__()
        self.world, self.actor = world, actor
        self.view, self.space = replace(world.view, features=0), world.space
        if actor.space != world.space:
            raise Incompatible(f"the policy speaks {actor.space.columns}, the world {world.space.columns}")

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        held = memory if isinstance(memory, dict) else {}
        if held and past.actions is None and past.steps == 1:
            past = past.with_(actions=leaf(held, "action").unsqueeze(1))
        state = self.world.observe(past, held.get("state"))
        now, _ = self.world.imagine(state, None, 0, torch.Generator(past.device))
        assert now.features is not None
        if now.features.shape[-1] != self.actor.view.features:
            raise Incompatible(
                f"the policy is shown {self.actor.view.features} features; this world has {now.features.shape[-1]}"
            )
        shown = now.features
        if held.get("actor") is not None:
            shown = torch.cat([leaf(held, "features"), shown], 1)
        segment = None if past.segment is None else past.segment[:, -shown.shape[1] :]
        belief, kept = self.actor.act(Clip(features=shown, segment=segment), held.get("actor"))
        return belief, {"state": state, "features": now.features, "action": belief.mode(), "actor": kept}
