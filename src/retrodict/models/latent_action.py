"""Latent actions: codes that explain the next frame, learnt without labels, and the adapter to true actions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from retrodict import rng as randomness
from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.frame_world import FrameWorld, NextFrame
from retrodict.models.inverse import TransitionNet
from retrodict.models.windows import windows
from retrodict.nn.conv import normalise
from retrodict.nn.part import Part
from retrodict.nn.quantize import GroupedVQ
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution, code


def code_space(positions: int, codes: int) -> ActionSpace:
    """The space of `positions` codes of `codes` values each."""
    return ActionSpace(tuple(code(f"code{p}" if positions > 1 else "code", codes) for p in range(positions)))


class LatentInverse(Part):
    """Reads a code from a window of frames that includes the next one."""

    def __init__(
        self,
        view: View,
        positions: int = 1,
        codes: int = 8,
        code_width: int = 16,
        books: int = 1,
        decay: float = 0.98,
        commitment: float = 0.25,
        inputs: str = "difference",
        pool: str = "changed",
        kind: str = "grid",
        patch: int = 8,
        width: int = 32,
        depth: int = 2,
    ) -> None:
        super().__init__()
        self.view, self.space = view, code_space(positions, codes)
        self.net = TransitionNet(view, inputs, pool, kind, patch, width, depth, 4 * width)
        self.to_code = nn.Linear(4 * width, positions * code_width)
        self.quantiser = GroupedVQ(positions, codes, code_width, books, decay, commitment)

    def latent(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, "n e"]:
        """Returns the latent before quantisation."""
        return self.to_code(self.net(frames))  # type: ignore[no-any-return]

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step with a belief over codes; nearer codes are likelier."""
        parts = self.latent(windows(clip, self.view)).view(-1, self.quantiser.positions, self.quantiser.width)
        logits = []
        for position in range(self.quantiser.positions):
            book = self.quantiser.book[position % self.quantiser.books]
            spread = torch.cdist(book, book).square().mean().clamp_min(1e-6)
            logits.append(-20.0 * torch.cdist(parts[:, position], book).square() / spread)
        return Distribution(self.space, torch.cat(logits, -1).view(clip.rows, clip.steps, self.space.parameters))


class LatentForward(FrameWorld):
    """Predicts the next frame from the last ones and a code; it never sees the next frame."""

    def __init__(
        self,
        view: View,
        positions: int = 1,
        codes: int = 8,
        code_width: int = 16,
        books: int = 1,
        mix: str = "conv",
        patch: int = 8,
        width: int = 48,
        depth: int = 3,
    ) -> None:
        super().__init__()
        self.view, self.space = view, code_space(positions, codes)
        self.net = NextFrame(view, positions * code_width, mix, patch, width, depth)
        self.quantiser = GroupedVQ(positions, codes, code_width, books)

    def predict(
        self, frames: UInt8[Tensor, "n f c h w"], actions: Float[Tensor, "n d"] | None
    ) -> Float[Tensor, "n c h w"]:
        """Returns the next frame after these codes (one-hot, positions side by side)."""
        if actions is None:
            raise UnusableInput("this world needs a code for every step")
        codes = actions.view(-1, self.quantiser.positions, self.quantiser.codes).argmax(-1)
        return self.net(frames, self.quantiser.lookup(codes))  # type: ignore[no-any-return]

    def choose(self, frames: UInt8[Tensor, "n f c h w"], rng: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws codes as often as they were used in training."""
        columns = []
        for position in range(self.quantiser.positions):
            share = self.quantiser.used[position % self.quantiser.books].clamp_min(1e-6)
            picked = torch.multinomial(share, len(frames), replacement=True, generator=rng)
            columns.append(F.one_hot(picked, self.quantiser.codes).float())
        return torch.cat(columns, -1)


class LatentAction(Part):
    """A latent inverse and a latent forward model that share one quantiser (LAPO, Schmidt & Jiang 2024, eq. 2)."""

    def __init__(
        self, inverse: LatentInverse, world: LatentForward, restart_every: int = 40, restart_until: int = 10_000
    ) -> None:
        super().__init__()
        self.inverse, self.world = inverse, world
        world.quantiser = inverse.quantiser
        self.view = inverse.view
        self.restart_every, self.restart_until = restart_every, restart_until

    def explain(
        self, frames: UInt8[Tensor, "n f c h w"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Int[Tensor, "n p"]]:
        """Returns (next-frame error, commitment loss, codes) of windows whose last frame is the next one."""
        quantised, indices, commitment = self.inverse.quantiser(self.inverse.latent(frames))
        predicted = self.world.net(frames[:, -1 - self.world.view.frames : -1], quantised)
        error = F.mse_loss(predicted, normalise(frames[:, -1]))
        self.world.note_error(error)
        return error, commitment, indices

    def after_step(self, step: int) -> None:
        """Restarts dead codes on a schedule that is part of the settings."""
        if (step + 1) % self.restart_every == 0 and step < self.restart_until:
            self.inverse.quantiser.restart_dead(randomness.torch_rng("restart", step))


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
