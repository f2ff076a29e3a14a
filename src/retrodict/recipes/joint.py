"""Joint: one net from a frame to the next frame and the action, the rival of inferring the action afterwards.

Claim   next-frame loss on all video helps the action head less than an inverse model's labels do
Tiny    about 2 minutes a seed on 2 CPU cores: sprites success_64 beside vpt and bc
Paper   When does predictive inverse dynamics outperform behavior cloning? (arXiv 2601.21718); the net is own
Run     retrodict train joint --data D --out RUN --size tiny
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict import rng
from retrodict.clip import Clip
from retrodict.figures.claims import Figure
from retrodict.models.frame_world import FrameWorld
from retrodict.models.losses import shown
from retrodict.models.windows import frame_windows
from retrodict.nn.conv import normalise, patch_for, stem, stem_shape
from retrodict.nn.part import Part
from retrodict.roles import Memory, System, View
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.spaces import ActionSpace, Distribution

FIGURES = {
    "success_64": Figure("sprites", "success", seeds=5),
    "label_accuracy_64": Figure("sprites", "label_accuracy", seeds=5),
    "texture_agreement_64": Figure("sprites", "texture_agreement", seeds=5),
}


@dataclass(frozen=True)
class Config:
    """Settings of the joint net."""

    width: int = 32  # channels (own)
    depth: int = 2  # 3x3 layers after the patches (own)
    hidden: int = 128  # width of the dense layers (own)
    action_weight: float = 1.0  # of the action loss beside the next-frame loss (own)
    labels: int = 32  # labelled rows per batch, beside fit.batch rows of video (own)
    fit: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))


def micro() -> Config:
    """Settings for contract tests."""
    return Config(width=8, depth=1, hidden=16, labels=8, fit=Fit(8, 8))


def tiny() -> Config:
    """The committed settings."""
    return Config()


def paper() -> Config:
    """Settings for long runs."""
    return Config(width=128, depth=6, hidden=1024, fit=Fit(100_000, 128, 3e-4))


class JointNet(nn.Module):
    """One trunk with two heads: the next frame and the action that leads to it."""

    def __init__(self, view: View, space: ActionSpace, patch: int, width: int, depth: int, hidden: int) -> None:
        super().__init__()
        self.trunk = stem("grid", view.channels, patch, width, depth)
        d, y, x = stem_shape(self.trunk, view.channels, view.size)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(d * y * x, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.action = nn.Linear(hidden, space.parameters)
        self.spread = nn.Linear(hidden, d)  # what the dense layers know, told to every patch
        self.back = nn.Sequential(
            nn.Conv2d(d, width, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(width, view.channels, patch, stride=patch)
        )

    def forward(self, frames: UInt8[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n p"], Float[Tensor, "n c h w"]]:
        """Returns action parameters and the next frame."""
        x = normalise(frames)
        grid = self.trunk(x)
        dense = self.dense(grid)
        change = self.back(grid + self.spread(dense)[:, :, None, None])
        return self.action(dense), x + change


class JointPolicy(Part):
    """The action head as a policy."""

    def __init__(self, view: View, space: ActionSpace, patch: int, width: int, depth: int, hidden: int) -> None:
        super().__init__()
        self.view, self.space = view, space
        self.net = JointNet(view, space, patch, width, depth, hidden)

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        frames = frame_windows(past, self.view).view(past.rows, past.length, *past.frames.shape[2:])  # type: ignore[union-attr]
        return Distribution(self.space, self.net(frames[:, -1])[0]), None


class JointInverse(Part):
    """The action head as a label: it looks at the first frame alone, which is all that a joint net has to offer."""

    def __init__(self, policy: JointPolicy) -> None:
        super().__init__()
        self.policy, self.space = policy, policy.space
        self.view = replace(policy.view, frames=2, before=0)

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step from its first frame."""
        frames = frame_windows(clip, self.policy.view).view(clip.rows, clip.length, *clip.frames.shape[2:])  # type: ignore[union-attr]
        params = self.policy.net(frames[:, :-1].flatten(0, 1))[0]
        return Distribution(self.space, params.view(clip.rows, clip.steps, self.space.parameters))


class JointWorld(FrameWorld):
    """The next-frame head as a world that chooses for itself: it takes no action."""

    def __init__(self, policy: JointPolicy) -> None:
        super().__init__()
        self.policy, self.view, self.space = policy, policy.view, policy.space

    def predict(
        self, frames: UInt8[Tensor, "n f c h w"], actions: Float[Tensor, "n d"] | None
    ) -> Float[Tensor, "n c h w"]:
        """Returns the frame that it expects next, whatever the action."""
        return self.policy.net(frames[:, -1])[1]  # type: ignore[no-any-return]

    def choose(self, frames: UInt8[Tensor, "n f c h w"], rng: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws from the action head."""
        return Distribution(self.space, self.policy.net(frames[:, -1])[0]).sample(rng)


class Joint(Part):
    """The net with both losses."""

    def __init__(self, world: JointWorld, action_weight: float) -> None:
        super().__init__()
        self.world, self.action_weight = world, action_weight

    def loss(self, video: Clip, few: Clip) -> Tensor:
        """Next-frame error on video plus the action's negative log likelihood on labels."""
        assert video.frames is not None
        policy = self.world.policy
        error = F.mse_loss(policy.net(video.frames[:, 0])[1], normalise(video.frames[:, 1]))
        self.world.note_error(error)
        frames, actions = shown(few)
        belief = Distribution(policy.space, policy.net(frames[:, 0])[0])
        likelihood = belief.log_prob(actions[:, 0], merge=True).mean()
        return error / self.world.variance.detach().clamp_min(1e-4) - self.action_weight * likelihood


def both(joint: Joint, clips: Mapping[str, Clip], noise: torch.Generator) -> dict[str, Tensor]:
    """The loss over a batch of video and one of labels."""
    return {"all": joint.loss(clips["video"], clips["few"])}


def train(cfg: Config, run: Run) -> System:
    """Fits the net on all video and the labels at once."""
    video, few = run.data.unlabelled, run.data.labelled
    view = video.cache.view()
    with rng.isolated(run.seed, "joint"):
        policy = JointPolicy(view, few.cache.space, patch_for(view.size), cfg.width, cfg.depth, cfg.hidden)
    joint = Joint(JointWorld(policy), cfg.action_weight)
    joint = run.fit("joint", joint, both, {"video": (video, cfg.fit.batch), "few": (few, cfg.labels)}, cfg.fit)
    policy = joint.world.policy
    return System(inverse=JointInverse(policy), forward=joint.world, policy=policy)
