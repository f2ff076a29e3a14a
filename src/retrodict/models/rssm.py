"""The recurrent state-space model: one forward model with switches for Dreamer V1, V2 and V3.

h_t = f(h_{t-1}, z_{t-1}, a_{t-1}) is the memory; z_t is drawn from the posterior q(z | h_t, o_t) where something was
seen, and from the prior p(z | h_t) where it is imagined. Reward and end of step t are read off the frame it leads to.
Sources: Hafner et al., PlaNet (ICML 2019), DreamerV1 (ICLR 2020), V2 (ICLR 2021), V3 (Nature 2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import NoLikelihood, UnknownName, UnusableInput
from retrodict.models.sight import Brush, Eyes, told
from retrodict.nn.conv import normalise, to_bytes
from retrodict.nn.heads import mixed
from retrodict.nn.part import Part
from retrodict.nn.recurrent import BlockCell, BlockLinear, NormedCell, PlainCell, dense
from retrodict.nn.twohot import TwoHot, symexp, symlog
from retrodict.roles import Memory, Policy, State, View, next_action
from retrodict.segments import GAUSSIAN, normaliser, within_reach
from retrodict.spaces import ActionSpace
from retrodict.tree import leaf

CELLS, LATENTS = ("plain", "normed", "blocks"), ("gaussian", "categorical")


@dataclass(frozen=True)
class Seen:
    """What an unrolled clip gave at every frame; beliefs as `RSSM.latent` takes them."""

    h: Float[Tensor, "b t d"]
    z: Float[Tensor, "b t s"]
    post: Float[Tensor, "b t p"]
    prior: Float[Tensor, "b t p"]

    @property
    def features(self) -> Float[Tensor, "b t f"]:
        """[z, h]."""
        return torch.cat([self.z, self.h], -1)


@dataclass(frozen=True)
class Size:
    """How large a recurrent world is.

    Fields: width of the memory, of layers around it; numbers or choices of a latent, values of a choice; width and
    number of layers in heads; kind of eyes (`sight.Eyes`), their channels, and pixels of a patch (0: the largest up to
    8 that gives 4 a side).
    """

    deter: int = 64
    hidden: int = 64
    stoch: int = 16
    classes: int = 8
    units: int = 64
    layers: int = 2
    eyes: str = "patches"
    channels: int = 16
    patch: int = 0


class RSSM(Part):
    """Sees single frames, or the numbers beside them where its view has `proprio`.

    cell: `plain` (V1), `normed` (V2) or `blocks` (V3); latent: `gaussian` of `stoch` numbers, or `categorical`, `stoch`
    choices among `classes` with a share `mixed` drawn evenly; with `bins` rewards are beliefs over so many, of symlogs
    up to `limit`, and numbers are said as symlogs (V3), with 0 both are means of Gaussians with variance 1. Rewards are
    learnt in units of `unit`. The error of seen numbers weighs `sharp`: a few numbers say less than the pixels of a
    frame, and latents that cost more than they tell stay blurred. Without `outcomes` it tells no rewards and no ends,
    as of video that has none.
    """

    remembers = 15  # frames before the present one that it is shown where it is measured

    def __init__(
        self, view: View, space: ActionSpace, cell: str = "blocks", latent: str = "categorical", deter: int = 256,
        hidden: int = 64, stoch: int = 16, classes: int = 8, units: int = 64, layers: int = 1, sight_layers: int = 3,
        eyes: str = "patches", channels: int = 16, patch: int = 4, act: str = "silu", normed: str = "rms",
        prior_layers: int = 2, blocks: int = 8, mixed: float = 0.01, bins: int = 255,
        unit: float = 1.0, sharp: float = 1.0, limit: float = 20.0, outcomes: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.outcomes = outcomes
        if view.frames != 1:
            raise UnusableInput(f"a recurrent world sees one frame and remembers the others; got a view of {view}")
        if cell not in CELLS:
            raise UnknownName("cell of a recurrent world", cell, CELLS)
        if latent not in LATENTS:
            raise UnknownName("latent of a recurrent world", latent, LATENTS)
        if unit <= 0:
            raise UnusableInput(f"the unit of rewards lies above 0; got {unit}")
        self.view, self.space, self.latent_kind, self.unit, self.sharp = view, space, latent, unit, sharp
        self.shape, self.mixed = (stoch, classes if latent == "categorical" else 1), mixed
        self.deter, wide, params = deter, stoch * self.shape[1], stoch * (classes if latent == "categorical" else 2)
        self.features = deter + wide
        if cell == "blocks":
            self.cell: nn.Module = BlockCell((wide, space.width), deter, hidden, act, blocks)
        else:
            kind = PlainCell if cell == "plain" else NormedCell
            self.cell = kind(wide + space.width, deter, hidden, act)
        self.apart = cell == "blocks"
        self.eyes = Eyes(view, eyes, channels, patch, units, sight_layers, act, normed, bins > 0)
        self.brush = Brush(view, deter, wide, eyes, channels, patch, units, sight_layers, act, normed, blocks)
        self.prior = nn.Sequential(dense(deter, hidden, prior_layers, act, normed), nn.Linear(hidden, params))
        self.post = nn.Sequential(dense(deter + self.eyes.width, hidden, 1, act, normed), nn.Linear(hidden, params))
        self.bins = TwoHot(bins=bins, limit=limit) if bins else None
        if not outcomes:
            return
        said = nn.Linear(units, self.bins.bins if self.bins is not None else 1)
        if bins:
            nn.init.zeros_(said.weight)
        nn.init.zeros_(said.bias)
        self.reward = nn.Sequential(dense(self.features, units, layers, act, normed), said)
        self.end = nn.Sequential(dense(self.features, units, layers, act, normed), nn.Linear(units, 1))

    def belief(self, said: Float[Tensor, "*n p"]) -> Float[Tensor, "*n p"]:
        """Turns what a head said into log probabilities of choices, or into means and standard deviations."""
        if self.latent_kind == "gaussian":
            mean, spread = said.chunk(2, -1)
            return torch.cat([mean, F.softplus(spread) + 0.1], -1)
        return mixed(said.view(*said.shape[:-1], *self.shape), self.mixed).flatten(-2)

    def noise(self, rows: int, rng: torch.Generator | None) -> Float[Tensor, "n s c"] | None:
        """Numbers that decide a draw of latents; None where the likeliest are to be taken."""
        if rng is None:
            return None
        shape = (rows, *self.shape)
        if self.latent_kind == "gaussian":
            return torch.randn(shape, generator=rng, device=rng.device)
        return -torch.rand(shape, generator=rng, device=rng.device).clamp(1e-6, 1 - 1e-6).log().neg().log()

    def latent(self, belief: Float[Tensor, "n p"], noise: Float[Tensor, "n s c"] | None) -> Float[Tensor, "n s"]:
        """Draws latents (gradients flow: reparameterised, or straight through), or takes the likeliest."""
        if self.latent_kind == "gaussian":
            mean, deviation = belief.chunk(2, -1)
            return mean if noise is None else mean + deviation * noise.flatten(1)
        logs = belief.view(-1, *self.shape)
        hard = F.one_hot((logs if noise is None else logs + noise).argmax(-1), self.shape[1]).to(logs.dtype)
        p = logs.exp()
        return (hard + (p - p.detach())).flatten(1)

    def divergence(self, a: Float[Tensor, "*n p"], b: Float[Tensor, "*n p"]) -> Float[Tensor, "*n"]:
        """Kullback-Leibler divergence of belief a from belief b, in nats, summed over latents."""
        if self.latent_kind == "categorical":
            return (a.exp() * (a - b)).sum(-1)
        (m, s), (n, t) = a.chunk(2, -1), b.chunk(2, -1)
        return (t.log() - s.log() + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5).sum(-1)

    def step(
        self, h: Float[Tensor, "n d"], z: Float[Tensor, "n s"], actions: Float[Tensor, "n a"]
    ) -> Float[Tensor, "n d"]:
        """The next memory; actions are normalised (`acted`)."""
        return self.cell(h, z, actions) if self.apart else self.cell(h, torch.cat([z, actions], -1))  # type: ignore[no-any-return]

    def acted(self, actions: Float[Tensor, "*n a"]) -> Float[Tensor, "*n a"]:
        """Actions as the cell takes them: axes in units of their scale, and no further than they reach."""
        parts = []
        for segment, columns, _ in self.space.slices():
            value = actions[..., columns]
            if segment.kind in GAUSSIAN:
                center, scale = normaliser(segment, value)
                value = (within_reach(value, segment.low, segment.high) - center) / scale
            parts.append(value)
        return torch.cat(parts, -1)

    def blank(self, rows: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Memory and latent of an episode that has not begun."""
        return like.new_zeros(rows, self.deter), like.new_zeros(rows, self.features - self.deter)

    def unroll(self, clip: Clip, rng: torch.Generator | None = None, state: State = None) -> Seen:
        """Takes a clip in; with a state, its first frame is the last one seen and is not looked at again.

        Rows begin anew where their segment changes: memory, latent and the action before are then nothing.
        """
        skip = 0 if state is None else 1
        seen = self.eyes(clip.cut(skip, clip.length) if skip < clip.length else clip)
        led = torch.zeros(clip.rows, clip.length, self.space.width, device=clip.device)
        if clip.actions is not None and clip.steps:
            led[:, 1:] = self.acted(clip.actions) * clip.known.unsqueeze(-1)
        begins = _begins(clip)
        h, z = self.blank(clip.rows, seen) if state is None else (leaf(state, "h"), leaf(state, "z"))
        out: list[tuple[Tensor, Tensor, Tensor]] = []
        for t in range(skip, clip.length):
            keep = (~begins[:, t, None]).to(h.dtype)
            h = self.step(h * keep, z * keep, led[:, t] * keep)
            post = self.belief(self.post(torch.cat([h, seen[:, t - skip]], -1)))
            z = self.latent(post, self.noise(clip.rows, rng))
            out.append((h, z, post))
        if not out:
            return Seen(h.unsqueeze(1), z.unsqueeze(1), h.new_zeros(len(h), 0, 0), h.new_zeros(len(h), 0, 0))
        memory, latent, post = (torch.stack(parts, 1) for parts in zip(*out, strict=True))
        return Seen(memory, latent, post, self.belief(self.prior(memory)))

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen; latents are the likeliest."""
        seen = self.unroll(past, None, state)
        return {"h": seen.h[:, -1], "z": seen.z[:, -1]}

    def imagine(
        self, state: State, actions: Float[Tensor, "b k d"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out features, rewards and ends; a policy that does not look at features is shown decoded frames."""
        if actions is None and steps:
            raise UnusableInput("a recurrent world does not choose actions by itself; give it actions or a policy")
        h, z = leaf(state, "h"), leaf(state, "z")
        features, taken = [torch.cat([z, h], -1)], []
        memory: Memory = None
        for step in range(steps):
            assert actions is not None
            shown = Clip(features=torch.stack(features[-1 if memory is None else -2 :], 1))
            if not isinstance(actions, Tensor) and not actions.view.features:
                shown = self.decode(shown)
            action, memory = next_action(actions, step, shown, memory, rng)
            h = self.step(h, z, self.acted(action))
            z = self.latent(self.belief(self.prior(h)), self.noise(len(h), rng))
            features.append(torch.cat([z, h], -1))
            taken.append(action)
        whole = torch.stack(features, 1)
        clip = Clip(features=whole, actions=torch.stack(taken, 1) if taken else None)
        if self.outcomes:
            clip = clip.with_(rewards=self.rewarded(whole[:, 1:]), ends=self.ended(whole[:, 1:]).sigmoid())
        return clip, {"h": h, "z": z}

    def rewarded(self, features: Float[Tensor, "*n f"]) -> Float[Tensor, "*n"]:
        """The expected reward of the step that led here."""
        said = self.reward(features)
        return self.unit * (said.squeeze(-1) if self.bins is None else self.bins.mean(said))

    def ended(self, features: Float[Tensor, "*n f"]) -> Float[Tensor, "*n"]:
        """The logit that the episode ended with the step that led here."""
        return self.end(features).squeeze(-1)  # type: ignore[no-any-return]

    def decode(self, clip: Clip) -> Clip:
        """Returns the clip with frames, or with numbers where those are what this world sees."""
        if clip.features is None:
            return clip
        said = self.brush(clip.features.flatten(0, 1))
        if self.view.proprio:
            numbers = symexp(said) if self.bins is not None else said
            return clip.with_(proprio=numbers.view(*clip.features.shape[:2], -1))
        return clip.with_(frames=to_bytes(said).view(*clip.features.shape[:2], *said.shape[1:]))

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """Raises NoLikelihood: what was not drawn has none that could be computed."""
        raise NoLikelihood("a recurrent world has no likelihood of a frame, only of latents that it drew itself")

    def mistaken(self, features: Float[Tensor, "n f"], clip: Clip) -> Float[Tensor, "n"]:
        """The reconstruction's error at every frame of a clip, rows then frames, summed over what is seen.

        A frame counts as if it had 64x64 pixels, as those of the papers have, so that small ones weigh no less.
        """
        said = self.brush(features)
        if self.view.proprio:
            numbers = told(clip, self.view).flatten(0, 1)
            aim = symlog(numbers) if self.bins is not None else numbers
        else:
            assert clip.frames is not None
            aim = normalise(clip.frames.flatten(0, 1))
        weight = (1.0 if self.bins is not None else 0.5) * (
            self.sharp if self.view.proprio else 4096 / math.prod(self.view.size)
        )
        return weight * ((said - aim) ** 2).flatten(1).sum(1)  # type: ignore[no-any-return]


def _begins(clip: Clip) -> Bool[Tensor, "b t"]:
    """True at the first frame of every episode, and of the clip."""
    begins = torch.zeros(clip.rows, clip.length, dtype=torch.bool, device=clip.device)
    begins[:, 0].fill_(True)
    if clip.segment is not None:
        begins[:, 1:] = clip.segment[:, 1:] != clip.segment[:, :-1]
    return begins


def modelling(
    world: RSSM, clip: Clip, noise: torch.Generator, dyn: float = 1.0, rep: float = 0.1, free: float = 1.0,
    each: bool = True, ended: float = 1.0, rewarded: float = 1.0,
) -> dict[str, Tensor]:  # fmt: skip
    """Loss of a world: what was seen, the reward and end of every step, and the divergence of posterior and prior.

    `dyn` pulls the prior to the posterior and `rep` the posterior to the prior (V3: 1 and 0.1; V2: 0.8 and 0.2 of a
    weight; V1: both 0.5, which sums to the plain divergence); divergences below `free` nats cost nothing, `each` says
    whether at every frame (V3) or of the mean over the batch (V1, V2).
    """
    return {"all": explained(world, clip, world.unroll(clip, noise), dyn, rep, free, each, ended, rewarded)}


def explained(
    world: RSSM, clip: Clip, seen: Seen, dyn: float, rep: float, free: float, each: bool, ended: float, rewarded: float
) -> Float[Tensor, ""]:
    """The loss of `modelling`, of a clip that is unrolled already."""
    if world.outcomes and (clip.rewards is None or clip.ends is None):
        raise UnusableInput(
            "this world learns rewards and ends, and the data has none; record a world that has, or make it without "
            "outcomes"
        )
    there = torch.ones(clip.rows, clip.length, device=clip.device)
    if clip.segment is not None:
        there = (clip.segment >= 0).float()
    frames, steps = there.sum().clamp_min(1), clip.real.float()
    count = steps.sum().clamp_min(1)
    features = seen.features
    total: Tensor = (world.mistaken(features.flatten(0, 1), clip).view_as(there) * there).sum() / frames
    arrived = features[:, 1:]
    if world.outcomes:
        assert clip.rewards is not None
        assert clip.ends is not None
        said, aim = world.reward(arrived), clip.rewards / world.unit
        reward = 0.5 * (said.squeeze(-1) - aim) ** 2 if world.bins is None else world.bins.loss(said, aim)
        end = F.binary_cross_entropy_with_logits(world.ended(arrived), clip.ends, reduction="none")
        total = total + ((rewarded * reward + ended * end) * steps).sum() / count
    for weight, a, b in ((dyn, seen.post.detach(), seen.prior), (rep, seen.post, seen.prior.detach())):
        apart = world.divergence(a, b)
        if each:
            total = total + weight * (apart.clamp_min(free) * there).sum() / frames
        else:
            total = total + weight * ((apart * there).sum() / frames).clamp_min(free)
    return total


def spread_out(module: nn.Module, kind: str) -> None:
    """Draws the weights of linear and convolutional layers anew; those that are zero stay, and biases become zero.

    kind: `even` (Glorot's uniform; V1, V2) or `normal` (truncated at two deviations, by the inputs; V3). A layer of
    blocks has the inputs and outputs of all its blocks together.
    """
    for layer in module.modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | BlockLinear):
            continue
        if not bool(layer.weight.any()):
            continue
        if kind == "even" and isinstance(layer, BlockLinear):
            reach = math.sqrt(6 / (layer.blocks * sum(layer.weight.shape[1:])))
            nn.init.uniform_(layer.weight, -reach, reach)
        elif kind == "even":
            nn.init.xavier_uniform_(layer.weight)
        elif kind == "normal":
            inputs = layer.weight[0].numel()
            if isinstance(layer, BlockLinear):
                inputs = layer.blocks * layer.weight.shape[1]
            elif isinstance(layer, nn.ConvTranspose2d):
                inputs = layer.weight.shape[0]
            deviation = 1.1368 / math.sqrt(inputs)
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        else:
            raise UnknownName("way to draw weights", kind, ("even", "normal"))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
