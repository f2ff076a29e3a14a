"""What a latent world sees and says it sees: frames, or recorded numbers where its view has them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import UnknownName, UnusableInput
from retrodict.nn.conv import normalise, stem, stem_shape
from retrodict.nn.recurrent import ACTIVATIONS, BlockLinear, dense, norm
from retrodict.nn.twohot import symlog
from retrodict.roles import View

KINDS = ("patches", "strided", "pooled")
_POOLED, _STRIDED = (2, 3, 4, 4), (1, 2, 4, 8)  # channels of four layers, in units of the width


def told(clip: Clip, view: View) -> Tensor:
    """The numbers of a clip as a world with this view needs them: b t s."""
    if clip.proprio is None or clip.proprio.shape[-1] != view.proprio:
        met = "none" if clip.proprio is None else clip.proprio.shape[-1]
        raise UnusableInput(f"this model is shown {view.proprio} recorded numbers and the clip has {met}")
    return clip.proprio


class Eyes(nn.Module):
    """Reads every frame, or its numbers, as one vector: b t … -> b t e; `width` is e.

    kind: `patches` (any size), `strided` (64 pixels; Dreamer V1 and V2) or `pooled` (64 pixels; DreamerV3).
    """

    def __init__(
        self, view: View, kind: str, channels: int, patch: int, units: int, layers: int, act: str, normed: str,
        squash: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.view, self.squash = view, squash
        if view.proprio:
            self.net: nn.Module = dense(view.proprio, units, layers, act, normed)
            self.width = units
            return
        if kind == "patches":
            front = stem("refine", view.channels, patch, channels, 2)
            self.net, flat = front, stem_shape(front, view.channels, view.size)
        elif kind in KINDS:
            _refuse_other_sizes(view, kind)
            self.net = _strided(view.channels, channels, act) if kind == "strided" else _pooled(view.channels, channels)
            flat = stem_shape(self.net, view.channels, view.size)
        else:
            raise UnknownName("kind of eyes", kind, KINDS)
        self.width = flat[0] * flat[1] * flat[2]

    def forward(self, clip: Clip) -> Float[Tensor, "b t e"]:
        """Returns what is seen."""
        if self.view.proprio:
            numbers = told(clip, self.view)
            return self.net(symlog(numbers) if self.squash else numbers)  # type: ignore[no-any-return]
        frames = clip.frames
        shape = (self.view.channels, *self.view.size)
        if frames is None or tuple(frames.shape[2:]) != shape:
            met = "none" if frames is None else f"some of {tuple(frames.shape[2:])}"
            raise UnusableInput(f"this model sees frames of {shape} (channels, height, width); the clip has {met}")
        return self.net(normalise(frames).flatten(0, 1)).flatten(1).view(clip.rows, clip.length, -1)  # type: ignore[no-any-return]


class Brush(nn.Module):
    """Says what is seen from features [z, h]: frames in [-0.5, 0.5], n c h w, or numbers, n s (`squash`: symlogs)."""

    def __init__(
        self, view: View, deter: int, latent: int, kind: str, channels: int, patch: int, units: int, layers: int,
        act: str, normed: str, blocks: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.view, self.deter, self.kind = view, deter, kind
        width = deter + latent
        if view.proprio:
            last = nn.Linear(units, view.proprio)
            self.net: nn.Module = nn.Sequential(dense(width, units, layers, act, normed), last)
        elif kind == "patches":
            cells = (view.size[0] // patch, view.size[1] // patch)
            self.net = nn.Sequential(
                nn.Linear(width, channels * cells[0] * cells[1]), nn.Unflatten(1, (channels, *cells)),
                nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
                nn.ConvTranspose2d(channels, view.channels, patch, stride=patch),
            )  # fmt: skip
        elif kind == "strided":
            self.net = _unstrided(width, view.channels, channels, act)
        else:
            self.net = _Unpooled(deter, latent, view.channels, channels, units, blocks)

    def forward(self, features: Float[Tensor, "n f"]) -> Tensor:
        """Returns what is said to be seen."""
        return self.net(features)  # type: ignore[no-any-return]


def _refuse_other_sizes(view: View, kind: str) -> None:
    if view.size != (64, 64):
        raise UnusableInput(f"{kind!r} eyes see frames of 64x64 pixels, and these are {view.size}; use 'patches'")


def _strided(inputs: int, width: int, act: str) -> nn.Sequential:
    parts: list[nn.Module] = []
    for times in _STRIDED:
        parts += [nn.Conv2d(inputs, times * width, 4, 2), ACTIVATIONS[act]()]
        inputs = times * width
    return nn.Sequential(*parts)


def _unstrided(inputs: int, outputs: int, width: int, act: str) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Linear(inputs, 32 * width), nn.Unflatten(1, (32 * width, 1, 1))]
    last = 32 * width
    for times, side in ((4, 5), (2, 5), (1, 6)):
        parts += [nn.ConvTranspose2d(last, times * width, side, 2), ACTIVATIONS[act]()]
        last = times * width
    return nn.Sequential(*parts, nn.ConvTranspose2d(last, outputs, 6, 2))


class _ChannelNorm(nn.Module):
    """RMS norm over channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm("rms", width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]


def _pooled(inputs: int, width: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for times in _POOLED:
        wide = times * width
        parts += [nn.Conv2d(inputs, wide, 5, padding=2), nn.MaxPool2d(2), _ChannelNorm(wide), nn.SiLU()]
        inputs = wide
    return nn.Sequential(*parts)


class _Unpooled(nn.Module):
    """DreamerV3's decoder: memory through blocks and latent through layers make 4x4 cells, which are doubled."""

    def __init__(self, deter: int, latent: int, outputs: int, width: int, units: int, blocks: int) -> None:
        super().__init__()
        self.latent, wide = latent, _POOLED[-1] * width
        self.memory = BlockLinear(deter, 16 * wide, blocks)
        self.own = nn.Sequential(dense(latent, 2 * units, 1, "silu", "rms"), nn.Linear(2 * units, 16 * wide))
        self.after = nn.Sequential(_ChannelNorm(wide), nn.SiLU())
        parts: list[nn.Module] = []
        for times in _POOLED[-2::-1]:
            parts += [nn.Upsample(scale_factor=2), nn.Conv2d(wide, times * width, 5, padding=2)]
            parts += [_ChannelNorm(times * width), nn.SiLU()]
            wide = times * width
        self.rest = nn.Sequential(*parts, nn.Upsample(scale_factor=2), nn.Conv2d(wide, outputs, 5, padding=2))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c h w"]:
        z, h = features[:, : self.latent], features[:, self.latent :]
        cells = (self.memory(h) + self.own(z)).unflatten(1, (-1, 4, 4))
        return self.rest(self.after(cells)).sigmoid() - 0.5  # type: ignore[no-any-return]
