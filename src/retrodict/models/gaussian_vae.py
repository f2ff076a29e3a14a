"""A convolutional variational autoencoder: frames as a few Gaussian numbers, and back (V of World Models)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import NoFrames, UnusableInput
from retrodict.nn.part import Part
from retrodict.roles import View

FREE = 0.5  # nats of each latent number that cost nothing


class GaussianVAE(Part):
    """q(z | frame) = N(mean, exp(log_variance)) of `latent` numbers; a clip's features are the means.

    Convolutions of 4 pixels and stride 2, one for each of `channels`. The decoder is their mirror; with `kernels` it is
    the published one: from one cell by kernels of these sizes, beside an encoder without padding, for 64 x 64 pixels
    (Ha and Schmidhuber, World Models, 2018, appendix A.1).

    Raises:
        UnusableInput: the view has several frames, or its size does not suit the layers.
    """

    every, causal = 1, True

    def __init__(
        self, view: View, latent: int = 16, channels: Sequence[int] = (16, 32, 64), kernels: Sequence[int] = ()
    ) -> None:
        super().__init__()
        if view.frames != 1:
            raise UnusableInput(f"this autoencoder sees one frame at a time; got a view of {view.frames}")
        self.view, self.latent = view, latent
        sizes, edge = [view.size], 0 if kernels else 1
        for _ in channels:
            sizes.append(((sizes[-1][0] + 2 * edge - 2) // 2, (sizes[-1][1] + 2 * edge - 2) // 2))
        if min(sizes[-1]) < 1:
            raise UnusableInput(f"{len(channels)} layers halve frames of {view.size} pixels to nothing; use fewer")
        layers: list[nn.Module] = []
        for before, after in zip((view.channels, *channels), channels, strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, edge), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        flat = channels[-1] * sizes[-1][0] * sizes[-1][1]
        self.mean, self.log_variance = nn.Linear(flat, latent), nn.Linear(flat, latent)
        self.spread = nn.Linear(latent, flat)
        start = (flat, 1, 1) if kernels else (channels[-1], *sizes[-1])
        back = _published(flat, channels, kernels, view) if kernels else _mirror(channels, sizes, view)
        self.decoder = nn.Sequential(nn.Unflatten(1, start), *back)
        shape = self.decoder(torch.zeros(1, flat)).shape[1:]
        if shape != (view.channels, *view.size):
            raise UnusableInput(f"kernels {tuple(kernels)} draw frames of {tuple(shape[1:])} pixels, not {view.size}")

    def posterior(self, frames: UInt8[Tensor, "*n c h w"]) -> tuple[Float[Tensor, "*n z"], Float[Tensor, "*n z"]]:
        """Returns mean and log variance of each frame's latent numbers."""
        lead = frames.shape[:-3]
        seen = self.encoder((frames.flatten(0, -4) if lead else frames.unsqueeze(0)) / 255.0)
        return self.mean(seen).view(*lead, -1), self.log_variance(seen).view(*lead, -1)

    def draw(self, latent: Float[Tensor, "n z"]) -> Float[Tensor, "n c h w"]:
        """Returns the frames of latent numbers, in 0..1."""
        return self.decoder(self.spread(latent)).sigmoid()  # type: ignore[no-any-return]

    def encode(self, clip: Clip) -> Clip:
        """Returns the clip with the means of its frames as features."""
        if clip.frames is None:
            raise UnusableInput("this autoencoder looks at frames and the clip has none")
        return clip.with_(features=self.posterior(clip.frames)[0])

    def decode(self, clip: Clip) -> Clip:
        """Returns the clip with the frames of its features, of which the first `latent` numbers count."""
        if clip.features is None:
            raise NoFrames("this clip has no features to make frames of; encode it first")
        drawn = self.draw(clip.features[..., : self.latent].flatten(0, 1))
        frames = (drawn * 255).round().to(torch.uint8)
        return clip.with_(frames=frames.view(clip.rows, clip.length, *frames.shape[1:]))


def _published(flat: int, channels: Sequence[int], kernels: Sequence[int], view: View) -> list[nn.Module]:
    wide = [flat, *reversed(channels[:-1]), view.channels]
    if len(wide) != len(kernels) + 1:
        raise UnusableInput(f"expected a kernel for each of {len(wide) - 1} layers; got {tuple(kernels)}")
    layers: list[nn.Module] = []
    for i, kernel in enumerate(kernels):
        layers += [nn.ConvTranspose2d(wide[i], wide[i + 1], kernel, 2), nn.ReLU()]
    return layers[:-1]


def _mirror(channels: Sequence[int], sizes: Sequence[tuple[int, int]], view: View) -> list[nn.Module]:
    wide, layers = [view.channels, *channels], list[nn.Module]()
    for i in reversed(range(len(channels))):
        odd = sizes[i][0] - 2 * sizes[i + 1][0], sizes[i][1] - 2 * sizes[i + 1][1]
        layers += [nn.ConvTranspose2d(wide[i + 1], wide[i], 4, 2, 1, odd), nn.ReLU()]
    return layers[:-1]


def resampled(mean: Float[Tensor, "*n z"], log_variance: Float[Tensor, "*n z"], noise: torch.Generator) -> Tensor:
    """Draws latent numbers, with gradients to both parameters."""
    normal = torch.randn(mean.shape, generator=noise, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * normal


def autoencoding(vae: GaussianVAE, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """Squared error summed over pixels in 0..1, and what the latent numbers cost beyond the free nats of a frame."""
    if clip.frames is None:
        raise UnusableInput("this loss needs clips with frames")
    frames = clip.frames.flatten(0, 1)
    mean, log_variance = vae.posterior(frames)
    drawn = vae.draw(resampled(mean, log_variance, noise))
    error = (drawn - frames / 255.0).square().flatten(1).sum(1)
    nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return {"all": (error + nats.clamp_min(FREE * vae.latent)).mean()}


@torch.no_grad()
def latents(clip: Clip, vae: GaussianVAE) -> dict[str, Tensor]:
    """Mean and log variance of both frames of steps, side by side ("n 2 2z"), for `run.map`."""
    assert clip.frames is not None
    return {"latents": torch.cat(vae.posterior(clip.frames[:, :2]), -1)}
