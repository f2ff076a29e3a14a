"""A recurrent forward model of latent numbers, with a mixture of Gaussians for each (M of World Models).

A state is a tree: the latent numbers "z" of the last frame, and "h" and "c", what the LSTM knows of the frames and
actions before it, so that "h" is what it expected. A clip's features are z and h side by side.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import NoLikelihood, UnusableInput
from retrodict.models.gaussian_vae import GaussianVAE, resampled
from retrodict.nn.device import refuse_unless
from retrodict.nn.part import Part
from retrodict.roles import Memory, Policy, State, next_action
from retrodict.spaces import ActionSpace
from retrodict.tree import leaf

Fields = dict[str, Tensor]  # of a state: STATE
STATE = ("z", "h", "c", "first")
END_WEIGHT = 10.0  # of a step that ends an episode, in the loss


class Expected(NamedTuple):
    """What is expected of the next step: mixtures of each latent number, and of the step its end and reward."""

    mix: Float[Tensor, "*n z k"]  # log weights
    mean: Float[Tensor, "*n z k"]
    log_std: Float[Tensor, "*n z k"]
    end: Float[Tensor, "*n"]  # logit
    reward: Float[Tensor, "*n"]

    def log_prob(self, latent: Float[Tensor, "*n z"]) -> Float[Tensor, "*n z"]:
        """Log density of each latent number by itself."""
        far = (latent.unsqueeze(-1) - self.mean) * (-self.log_std).exp()
        each = -0.5 * far.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return (self.mix + each).logsumexp(-1)

    def sample(self, temperature: float, rng: torch.Generator) -> Float[Tensor, "*n z"]:
        """Draws latent numbers: weights at this temperature, and noise of its root's size."""
        shape, device = self.mean.shape[:-1], self.mean.device
        share = (self.mix / temperature).softmax(-1).cumsum(-1)
        chosen = (torch.rand((*shape, 1), generator=rng, device=device) > share[..., :-1]).sum(-1, keepdim=True)
        mean, log_std = self.mean.gather(-1, chosen).squeeze(-1), self.log_std.gather(-1, chosen).squeeze(-1)
        normal = torch.randn(shape, generator=rng, device=device)
        return mean + log_std.exp() * math.sqrt(temperature) * normal


class MDNRNN(Part):
    """p(z', end, reward | z, a, what was before) by an LSTM (Ha and Schmidhuber, World Models, 2018, appendix A.2).

    The mixture has `mixtures` components for each latent number independently. With `ends` (and `rewards`) the model
    also says whether an episode ends with a step (and what the step earns); where an end weighs more in training than
    it occurs, what is told is the probability nevertheless. An action that is not known is zeros. `temperature` is that
    of dreams. Two switches are those of the published model for Doom: `restarts` tells the LSTM of first frames, and
    `cell` puts c between z and h in the features.
    """

    remembers = 15  # frames before the present one that it is shown where it is measured

    def __init__(
        self, vae: GaussianVAE, space: ActionSpace, hidden: int = 128, mixtures: int = 5, ends: bool = True,
        rewards: bool = True, temperature: float = 1.0, restarts: bool = False, cell: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if temperature <= 0:
            raise UnusableInput(f"a temperature is above 0; got {temperature}")
        self.vae, self.space, self.view = vae, space, vae.view
        self.hidden, self.mixtures, self.ends, self.rewards = hidden, mixtures, ends, rewards
        self.temperature, self.restarts, self.cell = temperature, restarts, cell
        self.features = vae.latent + (2 if cell else 1) * hidden
        # the last input is a constant: its weights are the bias, of which torch would keep two
        self.net = nn.LSTM(vae.latent + space.width + restarts + 1, hidden, bias=False, batch_first=True)
        self.head = nn.Linear(hidden, ends + rewards + vae.latent * 3 * mixtures)
        with torch.no_grad():
            self.net.all_weights[0][0][hidden : 2 * hidden, -1] = 1.0  # forget little at first

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters but the autoencoder's, which is trained before."""
        return {"all": [*self.net.parameters(), *self.head.parameters()]}

    def unroll(
        self, latent: Float[Tensor, "b t z"], actions: Float[Tensor, "b t a"], first: Float[Tensor, "b t"],
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Float[Tensor, "b t d"], tuple[Tensor, Tensor]]:  # fmt: skip
        """Returns what the LSTM knows after each frame and the action taken in it, and its memory (h, c)."""
        flags = [first.unsqueeze(-1)] if self.restarts else []
        one = torch.ones_like(first).unsqueeze(-1)
        inside = None if memory is None else (memory[0].unsqueeze(0), memory[1].unsqueeze(0))
        known, (h, c) = self.net(torch.cat([latent, actions, *flags, one], -1), inside)
        return known, (h[0], c[0])

    def expected(self, known: Float[Tensor, "*n d"]) -> Expected:
        """Reads what is expected off what is known."""
        out = self.head(known)
        own = int(self.ends) + int(self.rewards)
        mixture = out[..., own:].unflatten(-1, (self.vae.latent, 3, self.mixtures))
        mix, mean, log_std = mixture.unbind(-2)
        nothing = out.new_zeros(out.shape[:-1])
        end = out[..., 0] if self.ends else nothing - 40.0
        reward = out[..., own - 1] if self.rewards else nothing + 1.0
        return Expected(mix.log_softmax(-1), mean, log_std, end, reward)

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen; rows in which another episode begins forget the one before."""
        if past.frames is None:
            raise UnusableInput("this model looks at frames and the clip has none")
        if state is None:
            seen = self.vae.posterior(past.frames)[0]
            now = self._begun(seen[:, 0])
        else:
            now = {name: leaf(state, name) for name in STATE}
            seen = torch.cat([now["z"].unsqueeze(1), self.vae.posterior(past.frames[:, 1:])[0]], 1)
        actions, goes_on = _actions(past, self.space.width), past.real
        for t in range(past.steps):
            now = _followed(self._stepped(now, actions[:, t]), seen[:, t + 1], goes_on[:, t])
        return cast(State, now)

    def _begun(self, latent: Float[Tensor, "b z"]) -> Fields:
        blank = latent.new_zeros(len(latent), self.hidden)
        return {"z": latent, "h": blank, "c": blank, "first": latent.new_ones(len(latent))}

    def _stepped(self, now: Fields, action: Float[Tensor, "b a"]) -> tuple[Tensor, Tensor]:
        inputs = (now["z"].unsqueeze(1), action.unsqueeze(1), now["first"].unsqueeze(1))
        return self.unroll(*inputs, (now["h"], now["c"]))[1]

    def _features(self, now: Fields) -> Float[Tensor, "b f"]:
        return torch.cat([now["z"], now["c"], now["h"]] if self.cell else [now["z"], now["h"]], -1)

    def imagine(
        self, state: State, actions: Float[Tensor, "b k a"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out `steps` steps. A policy whose view asks for features is shown this world's, any other frames."""
        if actions is None and steps:
            raise UnusableInput("this world does not choose actions by itself; give it actions or a policy")
        now, memory = {name: leaf(state, name) for name in STATE}, None
        features, taken, outcomes = [self._features(now)], list[Tensor](), list[Expected]()
        for step in range(steps):
            assert actions is not None
            action, memory = next_action(actions, step, self._shown(actions, features, memory), memory, rng)
            h, c = self._stepped(now, action)
            expected = self.expected(h)
            latent = expected.sample(self.temperature, rng)
            now = {"z": latent, "h": h, "c": c, "first": torch.zeros_like(now["first"])}
            features.append(self._features(now))
            taken.append(action)
            outcomes.append(expected)
        told: dict[str, Any] = {"actions": torch.stack(taken, 1)} if taken else {}
        if taken and self.ends:
            logits = torch.stack([outcome.end for outcome in outcomes], 1)
            told["ends"] = (logits - math.log(END_WEIGHT)).sigmoid()
        if taken and self.rewards:
            told["rewards"] = torch.stack([outcome.reward for outcome in outcomes], 1)
        return Clip(features=torch.stack(features, 1), **told), cast(State, now)

    def _shown(self, actions: Any, features: list[Tensor], memory: Memory) -> Clip:
        """What a policy sees of the last frame, and of the one before it where it remembers."""
        last = Clip(features=torch.stack(features[-1 if memory is None else -2 :], 1))
        if isinstance(actions, Tensor) or actions.view.features:
            return last
        with torch.no_grad():
            return self.decode(last).with_(features=None)

    def decode(self, clip: Clip) -> Clip:
        """Returns the clip with the frames of its features."""
        return self.vae.decode(clip)

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """Log density of the latent numbers of each next frame; 0 where a step is not real."""
        if clip.frames is None or clip.actions is None:
            raise NoLikelihood("scoring the next frame needs a clip with frames and actions")
        if clip.steps == 0:
            return clip.actions.new_zeros(clip.rows, 0)
        seen, found = self.vae.posterior(clip.frames)[0], list[Tensor]()
        now, actions = self._begun(seen[:, 0]), _actions(clip, self.space.width)
        for t, goes_on in enumerate(clip.real.unbind(1)):
            memory = self._stepped(now, actions[:, t])
            found.append(self.expected(memory[0]).log_prob(seen[:, t + 1]).sum(-1) * goes_on)
            now = _followed(memory, seen[:, t + 1], goes_on)
        return torch.stack(found, 1)


def _followed(memory: tuple[Tensor, Tensor], latent: Float[Tensor, "b z"], goes_on: Bool[Tensor, "b"]) -> Fields:
    """The state at the next frame; where that begins another episode, nothing is known of what was before."""
    h, c = (part * goes_on.unsqueeze(1) for part in memory)
    return {"z": latent, "h": h, "c": c, "first": (~goes_on).to(h.dtype)}


def _actions(clip: Clip, width: int) -> Float[Tensor, "b t-1 a"]:
    if clip.actions is None:
        return torch.zeros(clip.rows, clip.steps, width, device=clip.device)
    return clip.actions * clip.known.unsqueeze(-1)


def foretelling(world: MDNRNN, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """Negative log density of each latent number of the next frame, and the errors of end and reward, a step's mean.

    Latent numbers are drawn anew from what the autoencoder believes (the clip's features: means and log variances, or
    its frames), the inputs and the targets alike. Rows begin with an empty memory and hold one episode.

    Raises:
        UnusableInput: the world is to tell ends or rewards, and the clips have none; or a row holds several episodes.
    """
    with torch.no_grad():
        if clip.features is not None:
            mean, log_variance = clip.features.chunk(2, -1)
        else:
            assert clip.frames is not None
            mean, log_variance = world.vae.posterior(clip.frames)
        latent = resampled(mean, log_variance, noise)
    real = clip.real
    refuse_unless(
        ~(real[:, 1:] & ~real[:, :-1]).any(),
        "this world learns from clips that begin within their episode, as `Steps` draws them",
    )
    first = torch.zeros(clip.rows, clip.steps, device=clip.device)
    if clip.times is not None:
        first = (clip.times[:, :-1] == 0).to(first.dtype)
    known, _ = world.unroll(latent[:, :-1], _actions(clip, world.space.width), first)
    expected, weight = world.expected(known), real.to(latent.dtype) / real.sum().clamp_min(1)
    loss = -expected.log_prob(latent[:, 1:]).mean(-1)
    if world.ends:
        ends = _told(clip.ends, "ends")
        missed = F.binary_cross_entropy_with_logits(expected.end, ends, reduction="none")
        loss = loss + missed * (1 + (END_WEIGHT - 1) * ends)
    if world.rewards:
        loss = loss + (expected.reward - _told(clip.rewards, "rewards")).square()
    return {"all": (loss * weight).sum()}


def _told(values: Tensor | None, name: str) -> Tensor:
    if values is None:
        raise UnusableInput(f"this world learns {name}, and the data has none; record a world that has")
    return values
