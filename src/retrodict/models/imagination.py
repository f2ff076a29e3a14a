"""An actor and a critic on a latent world's features, which practise in what it imagines (Dreamer V1 to V3)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.constants import constant
from retrodict.errors import UnknownName, UnusableInput
from retrodict.models.filtered import Filtered
from retrodict.models.rssm import RSSM, explained, spread_out
from retrodict.nn.heads import ActorHead
from retrodict.nn.part import Part
from retrodict.nn.recurrent import dense
from retrodict.nn.returns import lambda_returns
from retrodict.nn.twohot import TwoHot
from retrodict.roles import Memory, State, View
from retrodict.spaces import ActionSpace, Distribution


class FeatureActor(Part):
    """A policy on a world's features, without a memory of its own."""

    def __init__(
        self, view: View, space: ActionSpace, units: int = 64, layers: int = 3, act: str = "silu", normed: str = "rms",
        least: float = 0.1, mixed: float = 0.01,
    ) -> None:  # fmt: skip
        super().__init__()
        if not view.features:
            raise UnusableInput(f"this actor looks at a world's features; got a view without any: {view}")
        self.view, self.space = view, space
        self.net = dense(view.features, units, layers, act, normed)
        self.head = ActorHead(units, space, least=least, mixed=mixed)

    def belief(self, features: Float[Tensor, "*n f"]) -> Distribution:
        """What to do, given features."""
        return Distribution(self.space, self.head(self.net(features)))

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        if past.features is None:
            raise UnusableInput("this policy looks at a world's features and the clip has none; use Filtered")
        return self.belief(past.features[:, -1]), None


class Critic(nn.Module):
    """The value of features: the mean of a Gaussian, or of a belief over `bins`."""

    def __init__(
        self, features: int, units: int, layers: int, act: str, normed: str, bins: int, limit: float = 20.0
    ) -> None:
        super().__init__()
        self.bins = TwoHot(bins=bins, limit=limit) if bins else None
        last = nn.Linear(units, self.bins.bins if self.bins is not None else 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(dense(features, units, layers, act, normed), last)

    def forward(self, features: Float[Tensor, "*n f"]) -> Float[Tensor, "*n"]:
        """Returns values."""
        said = self.net(features)
        return said.squeeze(-1) if self.bins is None else self.bins.mean(said)

    def loss(self, features: Float[Tensor, "*n f"], aim: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """What it costs to be told these values."""
        said = self.net(features)
        return 0.5 * (said.squeeze(-1) - aim) ** 2 if self.bins is None else self.bins.loss(said, aim)


class Dreamer(Part):
    """A world, an actor and a critic that are trained side by side, each by its own loss (`dreaming`).

    `slow` is how the slow critic follows: 0 not at all, below 1 by this share after every step (V3), else a copy after
    every so many (V2). `spread` follows the range of imagined returns. With `bins`, values have symlogs up to `limit`.
    The critic has `critic_layers`, 0: as many as the actor.
    """

    spread: Tensor

    def __init__(
        self, world: RSSM, units: int = 64, layers: int = 3, act: str = "silu", normed: str = "rms",
        bins: int = 255, slow: float = 0.02, actor_pace: float = 1.0, critic_pace: float = 1.0,
        least: float = 0.1, mixed: float = 0.01, limit: float = 20.0, critic_layers: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not world.outcomes:
            raise UnusableInput("one practises in a world that tells rewards and ends; make it with outcomes=True")
        self.world, self.slow_share = world, slow
        self.own_paces = {"actor": actor_pace, "critic": critic_pace}
        view = replace(world.view, features=world.features, proprio=0)
        self.actor = FeatureActor(view, world.space, units, layers, act, normed, least, mixed)
        self.critic = Critic(world.features, units, critic_layers or layers, act, normed, bins, limit)
        self.slow = Critic(world.features, units, critic_layers or layers, act, normed, bins, limit)
        self.slow.load_state_dict(self.critic.state_dict())
        self.slow.requires_grad_(False)
        self.register_buffer("spread", torch.zeros(()))

    @torch.no_grad()
    def begin(self, kind: str, acting: float = 1.0) -> Dreamer:
        """Draws all weights anew (`spread_out`), the last of the actor `acting` as large (V3: 0.01, so that what it
        does is nearly even); the slow critic begins as the critic. Returns itself."""
        spread_out(self, kind)
        self.actor.head.weight.mul_(acting)
        self.slow.load_state_dict(self.critic.state_dict())
        return self

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """World, actor and critic."""
        parts = {"world": self.world, "actor": self.actor, "critic": self.critic}
        return {name: list(part.parameters()) for name, part in parts.items()}

    def paces(self) -> dict[str, float]:
        """Learning rates of actor and critic, as shares of the world's."""
        return self.own_paces

    @torch.no_grad()
    def after_step(self, step: int, rate: float) -> None:
        """Lets the slow critic follow."""
        if 0 < self.slow_share < 1:
            for slow, fast in zip(self.slow.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, self.slow_share)
        elif self.slow_share >= 1 and (step + 1) % int(self.slow_share) == 0:
            self.slow.load_state_dict(self.critic.state_dict())

    def policy(self) -> Filtered:
        """What acts outside."""
        return Filtered(self.world, self.actor)


def dreaming(
    agent: Dreamer, clip: Clip, noise: torch.Generator, horizon: int = 15, discount: float = 0.997,
    trace: float = 0.95, entropy: float = 3e-4, gradient: str = "reinforce", scaled: bool = True,
    slow_values: bool = False, slow_weight: float = 1.0, replayed: float = 0.3, dyn: float = 1.0, rep: float = 0.1,
    free: float = 1.0, each: bool = True, ended: float = 1.0, rewarded: float = 1.0,
) -> dict[str, Tensor]:  # fmt: skip
    """Losses of world, actor and critic: every frame of a clip is the start of an imagined future.

    gradient: `reinforce`, -log π(a) (R - v) / S (V3; V2 for choices), or `dynamics`, -R through the imagined steps (V1;
    V2 for axes). S is a moving range of returns, 5th to 95th percentile, at least 1 (`scaled`; V3). `slow_values`
    bootstraps from the slow critic (V2); `slow_weight` keeps the critic near it, and `replayed` trains it on what was
    seen as well, through the world (V3). The rest: `rssm.modelling`.
    """
    world, actor, critic = agent.world, agent.actor, agent.critic
    if gradient not in ("reinforce", "dynamics"):
        raise UnknownName("gradient of an actor", gradient, ("reinforce", "dynamics"))
    seen = world.unroll(clip, noise)
    model = explained(world, clip, seen, dyn, rep, free, each, ended, rewarded)
    assert clip.ends is not None  # explained() has asked for both
    assert clip.rewards is not None
    start: State = {"h": seen.h.detach().flatten(0, 1), "z": seen.z.detach().flatten(0, 1)}
    with torch.set_grad_enabled(gradient == "dynamics"):
        dream, _ = world.imagine(start, _Still(actor), horizon, noise)
    assert dream.features is not None
    assert dream.actions is not None
    assert dream.rewards is not None
    assert dream.ends is not None
    here = _alive(clip).flatten()
    goes_on = 1 - dream.ends
    features = dream.features.detach()
    values = critic(dream.features)
    bootstrap = agent.slow(dream.features) if slow_values else values
    returns = lambda_returns(dream.rewards / world.unit, bootstrap, goes_on, discount, trace)
    weight = (discount * goes_on.detach()[:, :-1]).cumprod(1)
    weight = here.unsqueeze(1) * torch.cat([torch.ones_like(weight[:, :1]), weight], 1)
    count = weight.sum().clamp_min(1e-3)
    scale = _range(agent, returns.detach(), here) if scaled else returns.new_ones(())
    belief = actor.belief(features[:, :-1])
    if gradient == "dynamics":
        gain = -returns / scale
    else:
        gain = -belief.log_prob(dream.actions.detach()) * ((returns - bootstrap[:, :-1]) / scale).detach()
    acting = ((gain - entropy * belief.entropy()) * weight).sum() / count
    aims = returns.detach()
    judging = (critic.loss(features[:, :-1], aims) * weight).sum() / count
    if slow_weight:
        near = critic.loss(features[:, :-1], agent.slow(features[:, :-1]).detach())
        judging = judging + slow_weight * (near * weight).sum() / count
    if replayed:
        again = _replayed(agent, clip, seen.features, aims[:, 0].view(clip.rows, -1), discount, trace, slow_weight)
        model, judging = model + replayed * again, judging + replayed * again
    return {"world": model, "actor": acting, "critic": judging}


class _Still:
    """An actor whose actions say nothing of the features that they are chosen by: gradients reach it through what it
    does alone (DreamerV1, equation 7)."""

    def __init__(self, actor: FeatureActor) -> None:
        self.actor, self.view, self.space = actor, actor.view, actor.space

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        assert past.features is not None
        return self.actor.act(past.with_(features=past.features.detach()), memory)


def _alive(clip: Clip) -> Float[Tensor, "b t"]:
    """0 at padding and at frames with which an episode ended, 1 elsewhere: from where a future counts."""
    assert clip.ends is not None
    alive = torch.ones(clip.rows, clip.length, device=clip.device)
    alive[:, 1:] -= clip.ends * clip.real
    return alive if clip.segment is None else alive * (clip.segment >= 0)


@torch.no_grad()
def _range(agent: Dreamer, returns: Float[Tensor, "n h"], here: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """Follows the range of returns; at least 1."""
    if agent.training:
        counted = torch.where(here.unsqueeze(1) > 0.5, returns, math.nan).flatten()
        ends = torch.nanquantile(
            counted[:: max(1, len(counted) // 100_000)], constant((0.05, 0.95), counted.device, counted.dtype)
        )
        far = ends[1] - ends[0]
        agent.spread.lerp_(torch.where(far.isnan(), agent.spread, far), 0.01)  # where nothing counts, nothing moves
    return agent.spread.clamp_min(1.0)


def _replayed(
    agent: Dreamer, clip: Clip, features: Float[Tensor, "b t f"], imagined: Float[Tensor, "b t"], discount: float,
    trace: float, slow_weight: float,
) -> Float[Tensor, ""]:  # fmt: skip
    """The critic's loss on what was seen: λ-returns of recorded rewards, bootstrapped from imagined ones."""
    assert clip.rewards is not None
    assert clip.ends is not None
    real = clip.real.float()
    total = imagined[:, -1]
    found = []
    for t in reversed(range(clip.steps)):  # where the next frame is another episode's, a return is the imagined one
        mixed = (1 - trace) * imagined[:, t + 1] + trace * total
        total = clip.rewards[:, t] / agent.world.unit + discount * (1 - clip.ends[:, t]) * mixed
        total = torch.where(real[:, t] > 0, total, imagined[:, t])
        found.append(total)
    aims = torch.stack(found[::-1], 1)
    count, here = real.sum().clamp_min(1), features[:, :-1]
    loss = agent.critic.loss(here, aims) + slow_weight * agent.critic.loss(here, agent.slow(here).detach())
    return (loss * real).sum() / count
