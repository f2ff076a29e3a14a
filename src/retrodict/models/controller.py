"""Linear controllers on a world's features (C of World Models), and a policy on features that acts on frames."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import Incompatible, UnusableInput
from retrodict.nn.part import Part
from retrodict.roles import ForwardModel, Memory, Policy, View
from retrodict.segments import ONE_HOT
from retrodict.spaces import ActionSpace, Distribution


class Controller(Part):
    """Acts by a linear map of features: the choice that scores highest, a key above 0, tanh for what lies in a range.

    `count` controllers may act side by side, of which each answers an equal share of the rows, one share after the
    other. The weights of each are one row: biases first, then a row of `space.width` for each feature.
    """

    def __init__(self, view: View, space: ActionSpace, bias: bool = True, count: int = 1) -> None:
        super().__init__()
        if view.features < 1:
            raise UnusableInput(f"a controller is shown features; got a view without them: {view}")
        self.view, self.space, self.bias, self.count = view, space, bias, count
        self.weights = nn.Parameter(torch.zeros(count, (view.features + bias) * space.width), requires_grad=False)

    def scores(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b a"]:
        """Returns the linear map."""
        rows = features.view(self.count, -1, features.shape[1])
        if self.bias:
            rows = torch.cat([torch.ones_like(rows[..., :1]), rows], -1)
        return torch.bmm(rows, self.weights.view(self.count, -1, self.space.width)).flatten(0, 1)

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame, and remembers nothing."""
        if past.features is None:
            raise UnusableInput("this controller is shown a world's features; act on frames through `Filtered`")
        scores, parts = self.scores(past.features[:, -1]), list[Tensor]()
        for segment, columns, _ in self.space.slices():
            part = scores[:, columns]
            if segment.kind in ONE_HOT:
                parts.append(nn.functional.one_hot(part.argmax(-1), segment.width).to(part.dtype))
            elif segment.kind == "binary":
                parts.append((part > 0).to(part.dtype))
            else:
                parts.append(segment.low + (part.tanh() + 1) * (segment.high - segment.low) / 2)
        return Distribution.point(self.space, torch.cat(parts, -1)), None


class Filtered(Part):
    """A policy on a world's features that acts on frames: the world's state is its memory, and takes in what is seen
    and done. Where it is not told what was done, that is what the policy found likeliest.

    Raises:
        Incompatible: the policy speaks other actions, or asks for other features than the world has.
    """

    def __init__(self, world: ForwardModel, policy: Policy) -> None:
        super().__init__()
        self.world, self.policy = world, policy
        self.view, self.space = replace(world.view, features=0), world.space
        if policy.space != world.space:
            raise Incompatible(f"the policy speaks {policy.space.columns}, the world {world.space.columns}")

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        held = memory if isinstance(memory, dict) else {}
        if held and past.actions is None and past.steps == 1:
            done = held["action"]
            assert isinstance(done, Tensor)
            past = past.with_(actions=done.unsqueeze(1))
        state = self.world.observe(past, held.get("state"))
        now, _ = self.world.imagine(state, None, 0, torch.Generator(past.device))
        assert now.features is not None
        if now.features.shape[-1] != self.policy.view.features:
            raise Incompatible(
                f"the policy is shown {self.policy.view.features} features; this world has {now.features.shape[-1]}"
            )
        shown = now.features
        if held.get("policy") is not None:
            before = held["features"]
            assert isinstance(before, Tensor)
            shown = torch.cat([before, shown], 1)
        segment = None if past.segment is None else past.segment[:, -shown.shape[1] :]
        belief, kept = self.policy.act(Clip(features=shown, segment=segment), held.get("policy"))
        return belief, {"state": state, "features": now.features, "action": belief.mode(), "policy": kept}
