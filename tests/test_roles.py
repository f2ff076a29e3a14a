"""Roles: what can be joined and why not, and roles that speak true actions through an adapter.

The toy world counts: its pixel grows by 1 for code 0 and by 3 for code 1. The toy adapter makes a code of a true
action by the frame it is taken in: on even pixels "slow" is code 0, on odd pixels it is code 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import Incompatible, NoFrames
from retrodict.roles import (
    Encoder,
    ForwardModel,
    InverseModel,
    Policy,
    System,
    View,
    compatible,
    join,
)
from retrodict.spaces import ActionSpace, Distribution, categorical, code

TRUE = ActionSpace((categorical("speed", ("slow", "fast")),))
CODES = ActionSpace((code("latent", 2),))
RNG = torch.Generator().manual_seed(0)


def pixels(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(1, -1, 1, 1, 1)


def read(clip: Clip) -> list[int]:
    assert clip.frames is not None
    return clip.frames.flatten().tolist()


def true(*names: str) -> Tensor:
    return torch.stack([TRUE.vector({"speed": name}) for name in names]).unsqueeze(0)


class Counter:
    """A forward model of codes."""

    view, space = View(size=(1, 1), channels=1), CODES

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.frames is not None
        return {"x": past.frames[:, -1]}

    def imagine(self, state: Any, actions: Any, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        frames = [state["x"]]
        for step in range(steps):
            grown = CODES.index(actions[:, step]) * 2 + 1
            frames.append(frames[-1] + grown.to(torch.uint8).view(-1, 1, 1, 1))
        return Clip(frames=torch.stack(frames, 1)), {"x": frames[-1]}

    def decode(self, clip: Clip) -> Clip:
        return clip

    def log_prob(self, clip: Clip) -> Tensor:
        assert clip.frames is not None
        assert clip.actions is not None
        seen = clip.frames.flatten(2).float().squeeze(-1)
        return -(seen.diff(dim=1) - (CODES.index(clip.actions) * 2 + 1)).abs()


class Blind(Counter):
    """The same world with features in place of frames."""

    def imagine(self, state: Any, actions: Any, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        clip, state = super().imagine(state, actions, steps, rng)
        assert clip.frames is not None
        return Clip(features=clip.frames.flatten(2).float()), state

    def decode(self, clip: Clip) -> Clip:
        raise NoFrames("this world has no decoder")


class Reader:
    """An inverse model of codes."""

    view, space = View(frames=2, size=(1, 1), channels=1), CODES

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        grown = clip.frames.flatten(2).squeeze(-1).long().diff(dim=1)
        return Distribution.point(CODES, CODES.one_hot((grown - 1) // 2))


class Chooser:
    """A policy over codes or true actions that always takes the second, and notes what it was shown."""

    def __init__(self, space: ActionSpace, features: int = 0) -> None:
        self.view, self.space = View(size=(1, 1), channels=1, features=features), space
        self.logits = torch.tensor([0.0, 30.0], requires_grad=True)
        self.shown: list[list[int]] = []

    def act(self, past: Clip, memory: Any = None) -> tuple[Distribution, Any]:
        self.shown.append(read(past) if past.frames is not None else [])
        count = torch.zeros(past.rows) if memory is None else memory["count"]
        return Distribution(self.space, self.logits.expand(past.rows, -1)), {"count": count + 1}


class Parity:
    """The adapter: swaps the two values on odd pixels."""

    space, inner = TRUE, CODES

    def decode(self, belief: Distribution, clip: Clip) -> Distribution:
        steps = belief.params.shape[1]
        return Distribution(TRUE, self.swapped(belief.params, clip, steps))

    def encode(self, actions: Tensor, clip: Clip) -> Tensor:
        return self.swapped(actions, clip, actions.shape[1])

    def swapped(self, values: Tensor, clip: Clip, steps: int) -> Tensor:
        assert clip.frames is not None
        odd = (clip.frames.flatten(2)[:, :steps] % 2).bool()
        return torch.where(odd, values.flip(-1), values)


class Direct(Parity):
    """An adapter that needs no frames."""

    def encode(self, actions: Tensor, clip: Clip) -> Tensor:
        return actions


def test_toys_fill_their_roles() -> None:
    assert isinstance(Counter(), ForwardModel)
    assert isinstance(Reader(), InverseModel)
    assert isinstance(Chooser(CODES), Policy)
    assert not isinstance(Reader(), Policy | Encoder | ForwardModel)


def test_offsets_of_a_view() -> None:
    assert View().offsets() == (0,)
    assert View(frames=4, before=1, every=2).offsets() == (-2, 0, 2, 4)


BASE = View(rate=10.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size": (32, 64)}, r"\(64, 64\) and \(32, 64\) pixels"),
        ({"cameras": ("wrist",)}, "observation.image in 3 channels, and wrist in 3 channels"),
        ({"channels": 1}, "observation.image in 3 channels, and observation.image in 1 channels"),
        ({"rate": 20.0}, "10.0 and 20.0 frames/s"),
    ],
)
def test_views_that_differ_give_the_reason(changed: dict[str, Any], said: str) -> None:
    one, two = Reader(), Counter()
    one.view, two.view = BASE, replace(BASE, **changed)  # type: ignore[misc]
    reason = compatible(one, two)
    assert reason is not None
    with pytest.raises(Incompatible, match=f"Reader and Counter cannot be joined: .*{said}"):
        join(one, two)


def test_windows_and_free_rates_may_differ() -> None:
    one, two = Reader(), Counter()
    one.view, two.view = BASE, replace(BASE, frames=4, before=2, every=3, rate=0.0)  # type: ignore[misc]
    assert compatible(one, two) is None
    assert compatible(lambda clip: clip, one) is None  # a score says nothing about what it sees


def test_roles_of_two_languages_are_told_to_use_an_adapter() -> None:
    reason = compatible(Reader(), Chooser(TRUE))
    assert reason == (
        "they speak different actions: code latent=0, latent=1 and categorical speed=slow, speed=fast; join them "
        "through an adapter"
    )
    assert compatible(Reader(), Chooser(CODES)) is None


def test_a_system_without_adapter_decodes_to_itself() -> None:
    system = System(forward=Counter())
    assert system.decoded() is system
    assert list(system.parts()) == ["forward"]


def test_decoded_roles_speak_true_actions_and_can_be_joined() -> None:
    system = System(inverse=Reader(), forward=Counter(), policy=Chooser(CODES), adapter=Parity(), about={"recipe": "t"})
    decoded = system.decoded()
    assert list(decoded.parts()) == ["inverse", "forward", "policy"]
    assert decoded.about == {"recipe": "t"}
    for part in decoded.parts().values():
        assert part.space == TRUE
        assert compatible(part, Chooser(TRUE)) is None
    assert isinstance(decoded.inverse, InverseModel)
    assert isinstance(decoded.forward, ForwardModel)
    assert isinstance(decoded.policy, Policy)


def test_decoded_inverse_reads_the_frame_each_action_was_taken_in() -> None:
    inverse = System(inverse=Reader(), adapter=Parity()).decoded().inverse
    assert inverse is not None
    # 2 -> 3 by code 0 on an even pixel: slow. 3 -> 4 by code 0 on an odd one: fast. 4 -> 7 by code 1, even: fast.
    found = inverse.infer(Clip(frames=pixels(2, 3, 4, 7)))
    assert TRUE.index(found.mode()).tolist() == [[0, 1, 1]]


def test_decoded_policy_answers_for_the_last_frame() -> None:
    policy = System(policy=Chooser(CODES), adapter=Parity()).decoded().policy
    assert policy is not None
    belief, memory = policy.act(Clip(frames=pixels(2, 3)))
    assert belief.params.shape == (1, 2)
    assert TRUE.index(belief.mode()).tolist() == [0]  # code 1 on an odd pixel is slow
    belief, memory = policy.act(Clip(frames=pixels(3, 4)), memory)
    assert TRUE.index(belief.mode()).tolist() == [1]
    assert memory["count"].tolist() == [2.0]  # type: ignore[index,call-overload]


def test_decoded_world_takes_true_actions() -> None:
    forward = System(forward=Counter(), adapter=Parity()).decoded().forward
    assert forward is not None
    state = forward.observe(Clip(frames=pixels(9, 2), actions=true("slow")))
    clip, state = forward.imagine(state, true("slow", "slow", "fast"), 3, RNG)
    # slow on 2 adds 1, slow on 3 adds 3, fast on 6 adds 3
    assert read(clip) == [2, 3, 6, 9]
    assert clip.actions is not None
    assert torch.equal(clip.actions, true("slow", "slow", "fast"))
    assert read(forward.imagine(state, None, 0, RNG)[0]) == [9]


def test_decoded_world_scores_true_actions() -> None:
    forward = System(forward=Counter(), adapter=Parity()).decoded().forward
    assert forward is not None
    clip = Clip(frames=pixels(2, 3, 6), actions=true("slow", "fast"))
    assert forward.log_prob(clip).tolist() == [[0.0, -2.0]]  # fast on 3 would have added 1
    assert forward.log_prob(clip.with_(actions=true("slow", "slow"))).tolist() == [[0.0, 0.0]]


def test_a_policy_inside_is_shown_the_frame_it_acted_on_and_what_came_of_it() -> None:
    forward = System(forward=Counter(), adapter=Parity()).decoded().forward
    assert forward is not None
    policy = Chooser(TRUE)
    clip, _ = forward.imagine({"x": pixels(2)[:, 0]}, policy, 3, RNG)
    assert read(clip) == [2, 5, 6, 9]  # always fast: 3 on even pixels, 1 on odd ones
    assert policy.shown == [[2], [2, 5], [5, 6]]
    assert clip.actions is not None
    clip.actions[..., 1].sum().backward()
    assert policy.logits.grad is not None  # gradients reach the policy


def test_a_world_without_frames_needs_a_policy_that_reads_its_features() -> None:
    forward = System(forward=Blind(), adapter=Direct()).decoded().forward
    assert forward is not None
    start = {"x": pixels(2)[:, 0]}
    clip, _ = forward.imagine(start, Chooser(TRUE, features=1), 2, RNG)
    assert clip.features is not None
    assert clip.features.flatten().tolist() == [2.0, 5.0, 8.0]
    with pytest.raises(NoFrames):
        forward.imagine(start, Chooser(TRUE), 2, RNG)


def test_a_world_of_codes_does_not_choose_true_actions() -> None:
    forward = System(forward=Counter(), adapter=Parity()).decoded().forward
    assert forward is not None
    with pytest.raises(Incompatible, match="chooses codes"):
        forward.imagine({"x": pixels(2)[:, 0]}, None, 1, RNG)
