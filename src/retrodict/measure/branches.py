"""Branches: moments of a real world, and what every value of the action leads to there.

One frame has one recorded next frame. Whether a world obeys is a question about all the others, which a simulator can
answer: it is brought to the same moment once for every value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from retrodict import rng
from retrodict.clip import MISSING, RECORDED, Clip, stack
from retrodict.errors import UnusableInput
from retrodict.measure.inputs import Ints
from retrodict.spaces import ActionSpace

if TYPE_CHECKING:
    from retrodict.envs.world import World


@dataclass(frozen=True, slots=True)
class Branches:
    """M moments of a real world, and the real next frame there of every value of the action."""

    past: Clip  # before + 1 frames, with the actions that led here
    following: UInt8[Tensor, "m a c h w"]
    space: ActionSpace

    @property
    def merged(self) -> Ints:
        """The class of each value."""
        assert self.space.discrete is not None  # counterfactuals raised otherwise
        return np.array(self.space.discrete.merged)

    @property
    def alike(self) -> Bool[np.ndarray, "m c c"]:
        """True where a value of one class and a value of the other lead to the same frame."""
        flat = self.following.flatten(2)
        equal = torch.stack([(flat == flat[:, [a]]).all(2) for a in range(flat.shape[1])], 1)  # m a a
        members = torch.from_numpy(np.eye(self.merged.max() + 1)[self.merged]).double()  # a c
        return np.asarray((members.T @ equal.double() @ members > 0).numpy())


def counterfactuals(
    world: World, levels: Sequence[int], before: int = 0, random: float = 0.3, seed: int = 0
) -> Branches:
    """Stops in every level at a moment drawn by the seed, and tries every value of the action there.

    The world has a row for each value. All rows replay the same actions, which its expert (with this share of random
    ones; where there is none, chance) took in that level, from the start to the moment; then each takes its own value.
    Moments at which a simulator does not show what comes next are left out.

    Raises:
        UnusableInput: the action is not a single choice, the world has another number of rows, its rows differ after
            the same actions, or no moment is left.
    """
    from retrodict.envs.rollout import expert, rollout, uniform

    segment = world.actions.discrete
    if segment is None:
        raise UnusableInput(f"{world.name} has no single choice of values, so not every action can be tried")
    if world.num_envs != segment.width:
        raise UnusableInput(
            f"{world.name} has {segment.width} action values and needs a row for each; it has {world.num_envs}"
        )
    actor = expert(world, random, seed) if world.has_expert else uniform(world, seed)
    played = [clip.actions for clip, _, _ in rollout(world, levels, actor, keep_frames=False)]
    pasts, following = [], []
    for number, (level, actions) in enumerate(zip(levels, played, strict=True)):
        assert actions is not None  # a rollout has them
        at = int(rng.numpy_rng(seed, "moment", level).integers(actions.shape[1]))
        frames = _replayed(world, level, actions[0, :at])
        every, *_, infos = world.step(world.native(world.actions.one_hot(torch.arange(segment.width))))
        if not infos["unseen"].any():
            pasts.append(_past(frames, actions[:, :at], before, number))
            following.append(torch.from_numpy(every).permute(0, 3, 1, 2))
    if not pasts:
        raise UnusableInput(f"{world.name} never shows what the actions lead to, so there is nothing to compare with")
    return Branches(stack(pasts), torch.stack(following).contiguous(), world.actions)


def _replayed(world: World, level: int, actions: Float[Tensor, "t d"]) -> list[UInt8[np.ndarray, "h w c"]]:
    """Plays the same actions in every row of one level, and returns the frames, which must be equal in all rows."""
    frames, _ = world.reset(seed=[level] * world.num_envs)
    kept = []
    for step in range(len(actions) + 1):
        if step:
            frames = world.step(world.native(actions[step - 1].expand(world.num_envs, -1)))[0]
        if (frames != frames[:1]).any():
            raise UnusableInput(f"{world.name}: level {level} differs between copies after {step} equal actions")
        kept.append(frames[0])
    return kept


def _past(frames: Sequence[np.ndarray], actions: Float[Tensor, "1 t d"], before: int, number: int) -> Clip:
    """The last before + 1 frames as one row; what lies before the episode repeats its first frame."""
    lack = max(0, before + 1 - len(frames))
    shown = torch.from_numpy(np.stack([frames[0]] * lack + list(frames[-(before + 1) :])))
    taken = actions[:, max(0, actions.shape[1] - before) :]
    source = torch.tensor([[MISSING] * (before - taken.shape[1]) + [RECORDED] * taken.shape[1]], dtype=torch.uint8)
    return Clip(
        frames=shown.permute(0, 3, 1, 2)[None].contiguous(),
        actions=torch.cat([actions.new_zeros(1, before - taken.shape[1], actions.shape[2]), taken], 1),
        source=source.view(1, before),
        segment=torch.tensor([[-1] * lack + [number] * (before + 1 - lack)], dtype=torch.int32),
    )
