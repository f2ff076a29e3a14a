"""Latent actions: what explains the next frame, learnt without labels, and how it becomes true actions.

One core for LAPO, LAPA's quantiser and LAOM, which differ in switches: the window and input of the inverse, the
bottleneck, the target of the forward model (pixels, or features that follow the encoder or stand still), whether labels
train it too (`LabelledInverse`) or name what it found (`CodeAdapter`), and when dead codes restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from retrodict import rng as randomness
from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.encoder import FrameEncoder, frozen_copy
from retrodict.models.frame_world import FrameWorld, Mixer, NextFrame, refuse_gaps
from retrodict.models.inverse import TransitionNet
from retrodict.models.windows import windows
from retrodict.nn.conv import normalise
from retrodict.nn.part import Part
from retrodict.nn.quantize import COLLAPSED, bottleneck, widths
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution

VQ = {"kind": "vq", "positions": 1, "codes": 8, "width": 16}
DECAYED = 0.2  # of its peak: a rate below this counts as decayed, and codes may settle


class LatentInverse(Part):
    """Reads a latent action from a window of frames that includes the next one; `code` describes the bottleneck."""

    def __init__(
        self, view: View, code: Mapping[str, Any] = VQ, inputs: str = "difference", pool: str = "changed",
        kind: str = "grid", patch: int = 8, width: int = 32, depth: int = 2, encoder: FrameEncoder | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.view = view
        self.net = TransitionNet(view, inputs, pool, kind, patch, width, depth, 4 * width, encoder)
        self.to_code = nn.Linear(4 * width, widths(code)[0])
        self.quantiser = bottleneck(**code)
        self.space = self.quantiser.space

    def latent(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, "n i"]:
        """Returns the latent before the bottleneck."""
        return self.to_code(self.net(frames))  # type: ignore[no-any-return]

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step with a belief over latent actions; nearer codes are likelier."""
        params = self.quantiser.belief(self.latent(windows(clip, self.view))).params
        return Distribution(self.space, params.view(clip.rows, clip.steps, self.space.parameters))


class LatentForward(FrameWorld):
    """Predicts the next frame from the last ones and a latent action; it never sees the next frame."""

    def __init__(
        self, view: View, code: Mapping[str, Any] = VQ, mix: str = "conv", patch: int = 8, width: int = 48,
        depth: int = 3, encoder: FrameEncoder | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.view = view
        self.net = NextFrame(view, widths(code)[1], mix, patch, width, depth, encoder)
        self.quantiser = bottleneck(**code)
        self.space = self.quantiser.space

    def predict(
        self, frames: UInt8[Tensor, "n f c h w"], actions: Float[Tensor, "n d"] | None
    ) -> Float[Tensor, "n c h w"]:
        """Returns the next frame after these latent actions."""
        if actions is None:
            raise UnusableInput("this world needs a latent action for every step")
        return self.net(frames, self.quantiser.embed(actions))  # type: ignore[no-any-return]

    def choose(self, frames: UInt8[Tensor, "n f c h w"], rng: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws latent actions as often as they came up in training."""
        return self.quantiser.draw(len(frames), rng)

    def errors(
        self, seen: UInt8[Tensor, "n f c h w"], latent: Float[Tensor, "n e"], following: UInt8[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Returns the mean squared error of the next frame, and that of showing the last one again."""
        wanted = normalise(following)
        return F.mse_loss(self.net(seen, latent), wanted), F.mse_loss(normalise(seen[:, -1]), wanted)


def nearest(clip: Clip, world: LatentForward) -> dict[str, Tensor]:
    """Of the clip's last step, the code whose predicted frame comes nearest to the real one: {"actions": n d}."""
    assert clip.frames is not None
    seen, following = clip.frames[:, -1 - world.view.frames : -1], normalise(clip.frames[:, -1])
    each = F.one_hot(torch.arange(world.space.width, device=clip.device)).float()
    far = [(world.predict(seen, one.expand(clip.rows, -1)) - following).square().flatten(1).mean(1) for one in each]
    return {"actions": each[torch.stack(far, 1).argmin(1)]}


class FeatureForward(Part):
    """Predicts features of the next frame from those of the last ones and a latent action (LAOM).

    The target follows the encoder as a moving average (`follow` is its share per step), so that the answer does not
    slip away under the prediction; a frozen encoder is its own target. No gradient reaches the encoder through the
    last frames, nor through the target: only through the latent action.
    """

    def __init__(
        self, view: View, latent: int, encoder: FrameEncoder, follow: float = 0.01, mix: str = "conv", width: int = 48,
        depth: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        refuse_gaps(view)
        self.view, self.encoder, self.follow = view, encoder, follow
        self.target = encoder if encoder.frozen else frozen_copy(encoder)
        channels, *cells = encoder.shape
        self.front = nn.Conv2d(view.frames * channels, width, 1)
        self.mixer = Mixer(latent, (cells[0], cells[1]), mix, width, depth)
        self.back = nn.Conv2d(width, channels, 1)

    def errors(
        self, seen: UInt8[Tensor, "n f c h w"], latent: Float[Tensor, "n e"], following: UInt8[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Returns the mean squared error of the next features, and that of answering with the last ones.

        Features are measured in units of their spread over the batch, so that shrinking them gains nothing.
        """
        with torch.no_grad():
            wanted = self.target.grid(following.unsqueeze(1))[:, 0]
            center, spread = wanted.mean((0, 2, 3), keepdim=True), wanted.std((0, 2, 3), keepdim=True) + 1e-4
            last = self.target.grid(seen[:, -1:])[:, 0]
            context = self.encoder.grid(seen)
        change = self.back(self.mixer(self.front(context.flatten(1, 2)), latent))
        wanted, last = (wanted - center) / spread, (last - center) / spread
        return F.mse_loss(last + change, wanted), F.mse_loss(last, wanted)

    @torch.no_grad()
    def after_step(self, step: int, rate: float) -> None:
        """Moves the target after the encoder."""
        if not self.encoder.frozen:
            for mine, new in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
                mine.lerp_(new, self.follow)


class LabelledInverse(Part):
    """A latent inverse with a head that speaks true actions, to be trained with it (the label head of LAOM).

    `temperature` is that of calibration, as of any inverse model.
    """

    temperature: Tensor

    def __init__(self, inverse: LatentInverse, space: ActionSpace, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.inverse, self.view, self.space = inverse, inverse.view, space
        self.head = nn.Sequential(nn.Dropout(dropout), _net(inverse.quantiser.gives, hidden, space.parameters))
        self.register_buffer("temperature", torch.ones(space.parameters))

    def belief(self, frames: UInt8[Tensor, "n f c h w"]) -> Distribution:
        """Answers windows, uncalibrated."""
        latent, _, _ = self.inverse.quantiser(self.inverse.latent(frames))
        return Distribution(self.space, self.head(latent))

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step of the clip, calibrated."""
        belief = self.belief(windows(clip, self.view)).scaled(self.temperature)
        return Distribution(self.space, belief.params.view(clip.rows, clip.steps, self.space.parameters))


W = TypeVar("W", LatentForward, FeatureForward)


class LatentAction(Part, Generic[W]):
    """A latent inverse and a forward model that share bottleneck and encoder (LAPO, Schmidt & Jiang 2024, eq. 2).

    Dead codes restart every `restart_every` steps while the learning rate is above the share `settle` of its peak.
    Codes that nobody restarts while the net still moves collapse, so `settle` is at most DECAYED.
    """

    def __init__(
        self, inverse: LatentInverse, world: W, labelled: LabelledInverse | None = None, restart_every: int = 40,
        settle: float = DECAYED,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= settle <= DECAYED:
            raise UnusableInput(f"codes may settle once the rate is below {DECAYED} of its peak; got {settle}")
        self.inverse, self.labelled = inverse, labelled
        self.world: W = world
        seer = world.net if isinstance(world, LatentForward) else world
        if isinstance(world, LatentForward):
            world.quantiser = inverse.quantiser
        if seer.encoder is not None and inverse.net.encoder is not None:
            seer.encoder = inverse.net.encoder
        if labelled is not None:
            labelled.inverse = inverse
        self.view = inverse.view
        self.restart_every, self.settle = restart_every, settle
        self.restarted = 0  # codes, in the last step; told, and not kept

    @property
    def head(self) -> LabelledInverse:
        """The label head that is trained with it.

        Raises:
            UnusableInput: there is none.
        """
        if self.labelled is None:
            raise UnusableInput("this latent action has no label head; name its latents with an adapter")
        return self.labelled

    def explain(
        self, frames: UInt8[Tensor, "n f c h w"], far: UInt8[Tensor, "n c h w"] | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Int[Tensor, "n p"] | None]:
        """Returns (next-frame error, loss of the bottleneck, codes) of windows whose last frame is the next one.

        `far` is a later frame that the inverse is shown in its place (LAOM's pair o_t, o_t+k); what is predicted is
        the next one all the same.
        """
        shown = frames if far is None else torch.cat([frames[:, :-1], far[:, None]], 1)
        latent, indices, price = self.inverse.quantiser(self.inverse.latent(shown))
        error, _ = self.world.errors(frames[:, -1 - self.world.view.frames : -1], latent, frames[:, -1])
        return error, price, indices

    @torch.no_grad()
    def alarms(self, frames: UInt8[Tensor, "n f c h w"]) -> dict[str, float]:
        """What a good reconstruction hides, of windows of different clips (see measure.latents and measure.worlds).

        error: of the next frame, as a share of that of the last one shown again. shuffled: the same with latents of
        other rows; near `error`, the latent is ignored. cut: the same when row i ends with the next frame of row i+1;
        near `error`, the latent carries the frame rather than the action.
        """
        seen = frames[:, -1 - self.world.view.frames : -1]
        cut = torch.cat([frames[:, :-1], frames[:, -1:].roll(1, 0)], 1)
        latent, _, _ = self.inverse.quantiser(self.inverse.latent(frames))
        smuggled, _, _ = self.inverse.quantiser(self.inverse.latent(cut))
        error, copy = self.world.errors(seen, latent, frames[:, -1])
        shuffled, _ = self.world.errors(seen, latent.roll(1, 0), frames[:, -1])
        cut_error, cut_copy = self.world.errors(seen, smuggled, cut[:, -1])
        pairs = {"error": (error, copy), "shuffled": (shuffled, copy), "cut": (cut_error, cut_copy)}
        return {name: float(mine / still.clamp_min(1e-9)) for name, (mine, still) in pairs.items()}

    def gauges(self) -> dict[str, float]:
        """How evenly the codes are used, and how many dead ones the last step restarted; nothing without codes."""
        used = self.inverse.quantiser.perplexity
        return {} if used is None else {"codes/perplexity": used, "codes/restarted": float(self.restarted)}

    def alarm(self) -> str:
        """Says that the codes have collapsed, if they have."""
        used = self.inverse.quantiser.perplexity
        if used is None or used >= COLLAPSED:
            return ""
        return f"its codes collapsed: they are worth {used:.1f}; train longer"

    def after_step(self, step: int, rate: float) -> None:
        """Restarts dead codes while the net moves, and moves the target."""
        due = (step + 1) % self.restart_every == 0 and rate > self.settle
        self.restarted = self.inverse.quantiser.restart_dead(randomness.torch_rng("restart", step)) if due else 0
        self.world.after_step(step, rate)


class CodeAdapter(Part):
    """Maps codes to true actions and back by two small nets fitted on the labelled steps.

    `hidden` is 0 for a table (linear on one-hot codes), else the width of one hidden layer.
    """

    def __init__(self, space: ActionSpace, inner: ActionSpace, hidden: int = 0) -> None:
        super().__init__()
        self.space, self.inner = space, inner
        self.to_action = _net(inner.width, hidden, space.parameters)
        self.to_inner = _net(space.width, hidden, inner.parameters)

    def decode(self, belief: Distribution, clip: Clip) -> Distribution:
        """Turns a belief over codes into one over true actions; a single code is mixed exactly."""
        if self.inner.discrete is None or self.space.discrete is None:
            return Distribution(self.space, self.to_action(belief.mode()))
        eye = torch.eye(self.inner.width, device=belief.params.device)
        table = self.to_action(eye).log_softmax(-1)  # codes x actions
        mixed = (belief.params.log_softmax(-1).unsqueeze(-1) + table).logsumexp(-2)
        return Distribution(self.space, mixed)

    def encode(self, actions: Float[Tensor, "b k d"], clip: Clip) -> Float[Tensor, "b k e"]:
        """Turns true actions into their likeliest codes."""
        return Distribution(self.inner, self.to_inner(actions)).mode()

    def loss(self, codes: Float[Tensor, "n e"], actions: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Negative log likelihood in both directions; indistinguishable actions count as one."""
        forth = Distribution(self.space, self.to_action(codes)).log_prob(actions, merge=True)
        back = Distribution(self.inner, self.to_inner(actions)).log_prob(codes)
        return -(forth + back).mean()


def _net(inputs: int, hidden: int, outputs: int) -> nn.Module:
    if not hidden:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
