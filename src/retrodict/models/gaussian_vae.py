"""A convolutional variational autoencoder: frames as a few Gaussian numbers, and back (V of World Models)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import NoFrames, UnusableInput
from retrodict.nn.conv import to_bytes
from retrodict.nn.part import Part
from retrodict.roles import View

FREE = 0.5  # nats of each latent number that cost nothing


class GaussianVAE(Part):
    """q(z | frame) = N(mean, exp(log_variance)) of `latent` numbers in all; a clip's features are the means.

    Convolutions of 4 pixels and stride 2, one for each of `channels`. Every cell of the last grid has `numbers` of its
    own, and the decoder is the mirror, without a sigmoid: a small thing on dark ground is found, which by numbers that
    stand for a whole frame and a sigmoid it was not within our steps. With `kernels` it has just those, as published:
    `numbers` for a frame, an encoder without padding, and a decoder from one cell by kernels of these sizes, for frames
    of 64 x 64 pixels (Ha and Schmidhuber, World Models, 2018, appendix A.1).

    Raises:
        UnusableInput: the view has several frames, or its size does not suit the layers.
    """

    every, causal = 1, True

    def __init__(
        self, view: View, numbers: int = 2, channels: Sequence[int] = (16, 32, 64), kernels: Sequence[int] = ()
    ) -> None:
        super().__init__()
        if view.frames != 1:
            raise UnusableInput(f"this autoencoder sees one frame at a time; got a view of {view.frames}")
        self.view = view
        sizes, edge = [view.size], 0 if kernels else 1
        for _ in channels:
            sizes.append(((sizes[-1][0] + 2 * edge - 2) // 2, (sizes[-1][1] + 2 * edge - 2) // 2))
        if min(sizes[-1]) < 1:
            raise UnusableInput(f"{len(channels)} layers halve frames of {view.size} pixels to nothing; use fewer")
        layers: list[nn.Module] = []
        for before, after in zip((view.channels, *channels), channels, strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, edge), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        grid, flat = (channels[-1], *sizes[-1]), channels[-1] * sizes[-1][0] * sizes[-1][1]
        self.latent = numbers if kernels else numbers * sizes[-1][0] * sizes[-1][1]
        self.mean, self.log_variance = (_read(grid, numbers, bool(kernels)) for _ in range(2))
        if kernels:
            self.spread: nn.Module = nn.Linear(numbers, flat)
            back = [nn.Unflatten(1, (flat, 1, 1)), *_published(flat, channels, kernels, view), nn.Sigmoid()]
        else:
            layers = [nn.Unflatten(1, (numbers, *sizes[-1])), nn.Conv2d(numbers, channels[-1], 1), nn.ReLU()]
            self.spread = nn.Sequential(*layers, nn.Flatten())
            back = [nn.Unflatten(1, grid), *_mirror(channels, sizes, view)]
        self.decoder = nn.Sequential(*back)
        shape = self.decoder(torch.zeros(1, flat)).shape[1:]
        if shape != (view.channels, *view.size):
            raise UnusableInput(f"kernels {tuple(kernels)} draw frames of {tuple(shape[1:])} pixels, not {view.size}")

    def posterior(self, frames: UInt8[Tensor, "*n c h w"]) -> tuple[Float[Tensor, "*n z"], Float[Tensor, "*n z"]]:
        """Returns mean and log variance of each frame's latent numbers."""
        lead = frames.shape[:-3]
        seen = self.encoder((frames.flatten(0, -4) if lead else frames.unsqueeze(0)) / 255.0)
        return self.mean(seen).view(*lead, -1), self.log_variance(seen).view(*lead, -1)

    def draw(self, latent: Float[Tensor, "n z"]) -> Float[Tensor, "n c h w"]:
        """Returns the frames of latent numbers, in 0..1 (as they are drawn, a little outside, too)."""
        return self.decoder(self.spread(latent))  # type: ignore[no-any-return]

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
        frames = to_bytes(drawn - 0.5)
        return clip.with_(frames=frames.view(clip.rows, clip.length, *frames.shape[1:]))


def _read(grid: tuple[int, int, int], numbers: int, whole: bool) -> nn.Module:
    if whole:
        return nn.Linear(grid[0] * grid[1] * grid[2], numbers)
    return nn.Sequential(nn.Unflatten(1, grid), nn.Conv2d(grid[0], numbers, 1), nn.Flatten())


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
