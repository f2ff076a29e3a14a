"""What parts are trained on: losses over windows, one scalar per parameter group."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.frame_world import FrameForward
from retrodict.models.inverse import Inverse
from retrodict.models.latent_action import CodeAdapter, LabelledInverse, LatentAction, LatentForward, LatentInverse
from retrodict.models.policy import ClipPolicy
from retrodict.nn.conv import normalise
from retrodict.segments import GAUSSIAN
from retrodict.spaces import ActionSpace, Distribution

FIRM = 0.5  # standard deviation, in normalised units, at which the means of numbers are fitted


def shown(clip: Clip) -> tuple[Tensor, Tensor]:
    """Returns the frames and actions of a clip that must have both."""
    if clip.frames is None or clip.actions is None:
        raise UnusableInput("this loss needs clips with frames and actions")
    return clip.frames, clip.actions


def fitted(belief: Distribution, actions: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    """Log likelihood by which beliefs are fitted; indistinguishable values count as one.

    The Gaussian's own likelihood weighs each axis by its present precision: an axis that is hard to see gets a large
    spread before its mean is found, and then no gradient. So means are fitted as if all spreads were FIRM, and spreads
    to the errors of means that stand still. Source: Seitzer et al., ICLR 2022, at β = 1.
    """
    total = belief.params.new_zeros(belief.params.shape[:-1])
    for segment, columns, parameters in belief.space.slices():
        part, value = Distribution(ActionSpace((segment,)), belief.params[..., parameters]), actions[..., columns]
        if segment.kind in GAUSSIAN:
            mean, log_std = part.params.chunk(2, -1)
            firm = torch.full_like(log_std, math.log(FIRM))
            total = total + replace(part, params=torch.cat([mean, firm], -1)).log_prob(value)
            part = replace(part, params=torch.cat([mean.detach(), log_std], -1))
        total = total + part.log_prob(value, merge=True)
    return total


def labelled(inverse: Inverse | LabelledInverse, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """Negative log likelihood of the label in each window; indistinguishable actions count as one."""
    frames, actions = shown(clip)
    belief = inverse.belief(frames)
    return {"all": -fitted(belief, actions[:, max(0, -inverse.view.offsets()[0])]).mean()}


def cloning(policy: ClipPolicy, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """Negative log likelihood of the action after the policy's frames, weighted by the confidence in it."""
    frames, actions = shown(clip)
    seen = policy.view.frames
    logs = fitted(policy.belief(frames[:, :seen]), actions[:, seen - 1])
    weight: Float[Tensor, "b"] = torch.ones_like(logs) if clip.confidence is None else clip.confidence[:, seen - 1]
    return {"all": -(logs * weight).sum() / weight.sum().clamp_min(1e-6)}


def next_frame(world: FrameForward, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """Squared error of the next frame in units of the error seen so far, which keeps its size comparable."""
    frames, actions = shown(clip)
    seen = world.view.frames
    error = torch.nn.functional.mse_loss(world.net(frames[:, :seen], actions[:, seen - 1]), normalise(frames[:, seen]))
    world.note_error(error)
    return {"all": error / world.variance.detach().clamp_min(1e-4)}


def explaining(model: LatentAction[LatentForward], clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """Error of the next frame in units of the error seen so far, plus the price of the bottleneck (LAPO, eq. 2)."""
    if clip.frames is None:
        raise UnusableInput("this loss needs clips with frames")
    error, price, _ = model.explain(clip.frames)
    model.world.note_error(error)
    return {"all": error / model.world.variance.clamp_min(1e-4).detach() + price}


def decoding(adapter: CodeAdapter, clip: Clip, noise: torch.Generator, inverse: LatentInverse) -> dict[str, Tensor]:
    """Latent actions of the labelled steps against their true ones, in both directions."""
    _, actions = shown(clip)
    with torch.no_grad():
        codes = inverse.infer(clip).mode()[:, inverse.view.before]
    return {"all": adapter.loss(codes, actions[:, inverse.view.before])}
