"""A world without frames, its critics and a policy, learnt together (Hansen, Su and Wang, TD-MPC2, ICLR 2024).

A latent follows from the last one and the action; rewards, ends and values are read off it. What is seen is numbers
where the view asks for them, else frames. Beyond the published system it speaks choices and keys, and episodes end.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Self, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import NoFrames, NoLikelihood, UnusableInput
from retrodict.models import sight
from retrodict.models.windows import continued, frame_windows, last_window
from retrodict.nn.conv import PatchGrid, normalise, patch_for, stem_shape
from retrodict.nn.part import Part
from retrodict.nn.simnorm import Critics, ManyLinear, SimNorm, mlp
from retrodict.nn.twohot import TwoHot
from retrodict.roles import Memory, Policy, State, View, next_action
from retrodict.segments import GAUSSIAN, normaliser, within_reach
from retrodict.spaces import ActionSpace, Distribution
from retrodict.tree import leaf

PUBLISHED = (64, 64)  # frames for which there is a published encoder


def encoder_of(view: View, latent: int, hidden: int, layers: int, norm: SimNorm) -> nn.Sequential:
    """Numbers by an MLP; frames of 64 pixels by four convolutions, whose output is the latent; others by patches."""
    if view.proprio:
        return mlp(view.proprio, [hidden] * max(layers - 1, 1), latent, norm)
    channels = view.frames * view.channels
    if view.size == PUBLISHED:
        if latent % 16:
            raise UnusableInput(f"a latent of frames of 64 pixels is a multiple of 16; got {latent}")
        width = latent // 16
        return nn.Sequential(
            nn.Conv2d(channels, width, 7, 2), nn.ReLU(), nn.Conv2d(width, width, 5, 2), nn.ReLU(),
            nn.Conv2d(width, width, 3, 2), nn.ReLU(), nn.Conv2d(width, width, 3), nn.Flatten(), norm,
        )  # fmt: skip
    # each feature is normalised over its frame, so that small things on an even ground stand out
    grid = nn.Sequential(PatchGrid(channels, patch_for(view.size), 16, 1), nn.GroupNorm(16, 16))
    flat = math.prod(stem_shape(grid, channels, view.size))
    return nn.Sequential(grid, nn.Flatten(), *mlp(flat, [hidden], latent, norm))


class LatentWorld(Part):
    """Encoder, latent dynamics, rewards, ends, critics and the policy prior of TD-MPC2.

    Latents are softmax groups of `group`. Actions enter as `units`: axes in -1..1 of their bounds, choices one-hot.
    With `episodic`, ends are learnt; without, no episode ends. Groups of parameters: encoder, world, policy.
    """

    middle: Tensor
    reach: Tensor
    scale: Tensor

    def __init__(
        self, view: View, space: ActionSpace, latent: int = 512, hidden: int = 512, encoder: int = 256, layers: int = 2,
        critics: int = 5, group: int = 8, bins: int = 101, limit: float = 10.0, dropout: float = 0.01,
        episodic: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if view.before != view.frames - 1 or (view.proprio and view.frames != 1) or latent % group:
            raise UnusableInput(
                f"this world sees one frame's numbers, or frames up to the present one, and its latent is groups of "
                f"{group}; got {view} and {latent}"
            )
        self.view, self.space, self.latent, self.episodic = view, space, latent, episodic
        told, norm = latent + space.width, SimNorm(group)
        self.encoder = encoder_of(view, latent, encoder, layers, norm)
        self.dynamics = mlp(told, [hidden] * 2, latent, norm)
        self.reward = mlp(told, [hidden] * 2, bins)
        self.termination = mlp(latent, [hidden] * 2, 1) if episodic else None
        self.prior = mlp(latent, [hidden] * 2, space.parameters)
        self.critics = Critics(critics, told, hidden, bins, dropout)
        self.apply(_begin)
        for last in (self.reward[-1], self.critics.layers[-1]):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        self.targets = deepcopy(self.critics).requires_grad_(False)
        self.numbers = TwoHot("symlog", bins, limit)
        middle, reach = torch.zeros(space.width), torch.ones(space.width)
        for segment, columns, _ in space.slices():
            if segment.kind in GAUSSIAN:
                middle[columns], reach[columns] = (segment.low + segment.high) / 2, (segment.high - segment.low) / 2
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("scale", torch.ones(()))  # of values: moving range of 5 % to 95 %, at least 1

    def train(self, mode: bool = True) -> Self:
        """As any module, but target critics drop nothing out."""
        super().train(mode)
        self.targets.eval()
        return self

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The encoder learns at a pace of its own, and the policy from the critics alone."""
        apart = {"encoder": list(self.encoder.parameters()), "policy": list(self.prior.parameters())}
        others = {id(parameter) for group in apart.values() for parameter in group}
        world = [p for p in self.parameters() if p.requires_grad and id(p) not in others]
        return {"encoder": apart["encoder"], "world": world, "policy": apart["policy"]}

    def paces(self) -> dict[str, float]:
        """The published encoders learn at 0.3 of the rate, that of other frames at all of it."""
        return {"encoder": 0.3 if self.view.proprio or self.view.size == PUBLISHED else 1.0}

    @torch.no_grad()
    def after_step(self, step: int, rate: float) -> None:
        """Target critics follow by a hundredth."""
        for target, critic in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
            target.lerp_(critic, 0.01)

    def gauges(self) -> dict[str, float]:
        """How far values spread."""
        return {"value/scale": float(self.scale)}

    def encode(self, clip: Clip) -> Float[Tensor, "b t d"]:
        """Latents of all frames."""
        if self.view.proprio:
            return self.encoder(sight.told(clip, self.view))  # type: ignore[no-any-return]
        seen = frame_windows(clip, self.view)
        return self.encoder(normalise(seen).flatten(1, 2)).view(clip.rows, clip.length, -1)  # type: ignore[no-any-return]

    def units(self, actions: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Actions as they enter the nets; a number beyond an axis's bounds does what the bound does, if it is one."""
        return within_reach((actions - self.middle) / self.reach, -1, 1)

    def next(self, z: Float[Tensor, "*n d"], units: Float[Tensor, "*n a"]) -> Float[Tensor, "*n d"]:
        """The latent that follows."""
        return self.dynamics(torch.cat([z, units], -1))  # type: ignore[no-any-return]

    def proposals(self, z: Float[Tensor, "*n d"], noise: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What the policy may do, as units "k *n a"; the weight of each "k *n"; the policy's entropy "*n".

        A single choice is weighed over all its values, so that no gradient is estimated. Else one action is drawn:
        axes from a Gaussian behind tanh, choices and keys straight through. An axis's entropy is the number of axes
        times minus the log density before tanh, as published.
        """
        said = self.prior(z)
        if self.space.discrete is not None:
            every = torch.eye(self.space.width, device=z.device)
            every = every.view(-1, *[1] * (z.ndim - 1), self.space.width).expand(-1, *z.shape[:-1], -1)
            return every, said.softmax(-1).movedim(-1, 0), Distribution(self.space, said).entropy()
        drawn, entropy = self._drawn(said, noise)
        return drawn.unsqueeze(0), torch.ones_like(entropy).unsqueeze(0), entropy

    def _drawn(self, said: Float[Tensor, "*n p"], noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """What a policy that says this does, as units, and its entropy."""
        drawn, entropy = [], said.new_zeros(said.shape[:-1])
        for segment, _, parameters in self.space.slices():
            part = said[..., parameters]
            if segment.kind in GAUSSIAN:
                mean, log_std = _gaussian(part)
                normal = torch.randn(mean.shape, generator=noise, device=mean.device)
                drawn.append(torch.tanh(mean + log_std.exp() * normal))
                surprise = 0.5 * normal.square() + log_std + 0.5 * math.log(2 * math.pi)
                entropy = entropy + segment.width * surprise.sum(-1)
            else:
                belief = Distribution(ActionSpace((segment,)), part)
                drawn.append(belief.rsample(noise))
                entropy = entropy + belief.entropy()
        return torch.cat(drawn, -1), entropy

    def believed(self, z: Float[Tensor, "*n d"]) -> Distribution:
        """The policy prior at a latent. An axis's is the Gaussian that touches the squashed one at its middle."""
        said, parts = self.prior(z), []
        for segment, columns, parameters in self.space.slices():
            part = said[..., parameters]
            if segment.kind in GAUSSIAN:
                mean, log_std = _gaussian(part)
                mean, slope = mean.tanh(), (1 - mean.tanh().square()).clamp_min(1e-4)
                center, scale = normaliser(segment, mean)
                middle, reach = self.middle[columns], self.reach[columns]
                part = torch.cat(
                    [(mean * reach + middle - center) / scale, log_std + (slope * reach / scale).log()], -1
                )
            parts.append(part)
        return Distribution(self.space, torch.cat(parts, -1))

    def value(self, z: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """What all critics hold of the likeliest action at a latent, on average."""
        units = self.units(self.believed(z).mode())
        return self.numbers.mean(self.critics(torch.cat([z, units], -1))).mean(0)

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen; the state is the latent, and the last frames where it is made of several."""
        if self.view.proprio:
            return {"z": self.encode(past.cut(past.length - 1, past.length))[:, 0]}
        if self.view.frames > 1 and state is not None:
            past = continued(leaf(state, "seen"), past)
        window = last_window(past, self.view)
        z = self.encoder(normalise(window).flatten(1, 2))
        return {"z": z, "seen": window[:, 1:]} if self.view.frames > 1 else {"z": z}

    def imagine(
        self, state: State, actions: Float[Tensor, "b k d"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out `steps` steps: features "b k+1 d" are latents; rewards, and ends at the latents that follow.

        Its own policy draws as it is trained, axes from behind tanh; any other, and it elsewhere, from its belief.
        """
        z, memory, shown = leaf(state, "z"), None, []
        chosen, latents = [], [z]
        actor: Tensor | Policy = Prior(self) if actions is None else actions
        for step in range(steps):
            if isinstance(actor, Prior) and actor.world is self:
                action = self._drawn(self.prior(z), rng)[0] * self.reach + self.middle
            else:
                action, memory = next_action(actor, step, self._for(actor, Clip(features=z.unsqueeze(1))), memory, rng)
            chosen.append(action)
            shown.append(torch.cat([z, self.units(action)], -1))
            z = self.dynamics(shown[-1])
            latents.append(z)
        features = torch.stack(latents, 1)
        reached = {**cast(dict[str, State], state), "z": z}
        if not steps:
            return Clip(features=features), reached
        ends = features.new_zeros(len(z), steps)
        if self.termination is not None:
            ends = self.termination(features[:, 1:]).squeeze(-1).sigmoid()
        rewards = self.numbers.mean(self.reward(torch.stack(shown, 1)))
        return Clip(features=features, actions=torch.stack(chosen, 1), rewards=rewards, ends=ends), reached

    def _for(self, actor: Tensor | Policy, seen: Clip) -> Clip:
        return seen if isinstance(actor, Tensor) or actor.view.features else self.decode(seen)

    def decode(self, clip: Clip) -> Clip:
        """There are no frames to decode."""
        raise NoFrames("this world imagines latents, rewards and ends, and has no frames; plan in it by its rewards")

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """There is no likelihood."""
        raise NoLikelihood("this world says what follows and not how likely it is; it cannot score a given next frame")


class Prior(Part):
    """The policy of a latent world, by itself: of latents where there are some, else of what is seen."""

    def __init__(self, world: LatentWorld) -> None:
        super().__init__()
        self.world, self.space = world, world.space
        self.view = replace(world.view, features=world.latent)

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        if past.features is not None:
            return self.world.believed(past.features[:, -1]), None
        return self.world.believed(leaf(self.world.observe(past), "z")), None


class Bootstrap:
    """A Score: what a latent world's critics hold of the last latent of a clip."""

    looks = False  # at frames

    def __init__(self, world: LatentWorld) -> None:
        self.world = world

    def __call__(self, clip: Clip) -> Float[Tensor, "b"]:
        """The value of each row."""
        if clip.features is None:
            raise UnusableInput("critics of a latent world judge its latents, and this clip has none")
        return self.world.value(clip.features[:, -1])


def learning(
    part: LatentWorld, clip: Clip, noise: torch.Generator, discount: float = 0.99, rho: float = 0.5,
    consistency: float = 20.0, entropy: float = 1e-4, shift: int = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """Losses of a window of H + 1 frames: the world's, and the policy's on the latents that the world went through.

    Foreseen latents weigh `consistency`, rewards and values 0.1, and step t counts rho ** t (Hansen et al., sections
    3.1 and 3.2; the weights of the published code but for ends, which weigh 1 there, and 0.1 as rewards do here).
    Steps without an action, and all that follow, count nothing; an episode that was cut is not one that ended. `shift`
    is the most pixels by which frames are moved about.
    """
    if clip.rewards is None or clip.ends is None or clip.actions is None:
        raise UnusableInput("TD-MPC2 learns from actions, rewards and ends; this data lacks some of them")
    before = part.view.before
    counts = clip.known[:, before:].cumprod(1).to(torch.float32)  # b h
    units, rewards, ends = part.units(clip.actions[:, before:]), clip.rewards[:, before:], clip.ends[:, before:]
    horizon = units.shape[1]
    fading = rho ** torch.arange(horizon + 1, device=units.device)
    if shift and not part.view.proprio:
        clip = _moved(clip, shift, noise)
    with torch.no_grad():
        seen = part.encode(clip)[:, before + 1 :]
        goal = rewards + discount * (1 - ends) * _worth(part, seen, noise, target=True)[0]
    z = part.encode(clip.cut(0, before + 1))[:, -1]
    latents = [z]
    for t in range(horizon):
        latents.append(part.next(latents[-1], units[:, t]))
    path = torch.stack(latents, 1)  # b h+1 d
    told = torch.cat([path[:, :-1], units], -1)
    share = fading[:-1] * counts / counts.numel()
    foreseen = ((path[:, 1:] - seen).square().mean(-1) * share).sum()
    reward = (part.numbers.loss(part.reward(told), rewards) * share).sum()
    value = (part.numbers.loss(part.critics(told), goal).mean(0) * share).sum()
    whole = consistency * foreseen + 0.1 * reward + 0.1 * value
    if part.termination is not None:
        over = F.binary_cross_entropy_with_logits(part.termination(path[:, 1:]).squeeze(-1), ends, reduction="none")
        whole = whole + 0.1 * (over * counts).mean()
    alive = F.pad(counts * (1 - ends), (1, 0), value=1.0)  # b h+1
    worth, unsure = _worth(part, path.detach(), noise, target=False)
    with torch.no_grad():
        low, high = (torch.quantile(worth[:, 0].detach(), share) for share in (0.05, 0.95))
        part.scale.lerp_((high - low).clamp_min(1.0), 0.01)
    policy = -((worth / part.scale + entropy * unsure) * fading * alive).mean()
    return {"encoder": whole, "world": whole, "policy": policy}


def _worth(part: LatentWorld, z: Float[Tensor, "*n d"], noise: torch.Generator, target: bool) -> tuple[Tensor, Tensor]:
    """What two random critics hold of the policy's action at a latent, and its entropy: the lower of two target
    critics, else their mean."""
    critics = part.targets if target else part.critics
    chosen = torch.randperm(critics.members, generator=noise, device=z.device)[:2]
    units, weight, entropy = part.proposals(z, noise)
    told = torch.cat([z.expand(len(units), *z.shape), units], -1)
    each = part.numbers.mean(critics(told, chosen))
    both = each.amin(0) if target else each.mean(0)
    return (weight * both).sum(0), entropy


def _gaussian(part: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log deviation, -10 to 2, of axes before tanh."""
    mean, log_std = part.chunk(2, -1)
    return mean, -10 + 6 * (log_std.tanh() + 1)


def _begin(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | ManyLinear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def _moved(clip: Clip, by: int, noise: torch.Generator) -> Clip:
    """Frames moved by up to so many pixels, edges repeated; all frames of a row alike."""
    frames = clip.frames
    assert frames is not None
    height, width = frames.shape[-2:]
    down, across = torch.randint(-by, by + 1, (2, clip.rows, 1), generator=noise, device=frames.device)
    rows = (torch.arange(height, device=frames.device) + down).clamp(0, height - 1)  # b h
    columns = (torch.arange(width, device=frames.device) + across).clamp(0, width - 1)
    which = torch.arange(clip.rows, device=frames.device)[:, None, None]
    moved = frames.permute(0, 3, 4, 1, 2)[which, rows[:, :, None], columns[:, None, :]]
    return clip.with_(frames=moved.permute(0, 3, 4, 1, 2))
