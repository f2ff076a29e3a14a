"""Tokenizers: frames as a grid of whole numbers, and back.

    PatchTokenizer  patches that were seen, the nearest one each     Dedieu et al. 2025 (nearest-neighbour tokenizer)
    ConvTokenizer   features of a convolutional net, quantised       IRIS, GAIA-1 (VQ), with FSQ as another bottleneck
    VideoTokenizer  a causal transformer over space and time, VQ     Genie (ST-ViViT)

All are encoders (roles.Encoder) whose features are token numbers. `tokens` and `pixels` see windows of `view.frames`
frames, since a VideoTokenizer looks back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from retrodict import rng as randomness
from retrodict.clip import Clip
from retrodict.errors import NoFrames, UnusableInput
from retrodict.models.windows import frame_windows
from retrodict.nn.conv import Refine, normalise, to_bytes
from retrodict.nn.device import number_in
from retrodict.nn.masks import Mask
from retrodict.nn.part import Part
from retrodict.nn.quantize import FSQ, Codes, bottleneck
from retrodict.nn.transformer import SpaceTime
from retrodict.roles import View

FEW = 0.02  # of the codes in use (perplexity), below which a codebook counts as collapsed
UNKNOWN = 0.1  # of the patches that are seen, above which a full book counts as too small
FAINT = 0.002  # variance of a window, of a range of 1, below which its structure hardly counts
MOST = 300.0  # times the average, that a pixel's change counts as where what moves is weighed


class Tokenizer(Part):
    """What all tokenizers have in common: `codes` values for each of `cells` patches of a frame."""

    view: View
    every = 1
    causal = True
    codes: int

    def __init__(self, view: View, patch: int) -> None:
        super().__init__()
        if view.size[0] % patch or view.size[1] % patch:
            raise UnusableInput(f"patch {patch} does not divide frames of {view.size} pixels")
        if view.every != 1 or view.before != view.frames - 1:
            raise UnusableInput(f"a tokenizer sees the present frame and those before it; got {view}")
        self.view, self.patch = view, patch
        self.rows, self.columns = view.size[0] // patch, view.size[1] // patch
        self.cells = self.rows * self.columns

    def tokens(self, frames: UInt8[Tensor, "n f c h w"]) -> Int[Tensor, "n k"]:
        """Returns the tokens of each window's last frame, row by row."""
        raise NotImplementedError

    def pixels(self, tokens: Int[Tensor, "n f k"]) -> UInt8[Tensor, "n c h w"]:
        """Returns the last frame of each window of tokens."""
        raise NotImplementedError

    def spread(self, cells: Bool[Tensor, "n k"]) -> Bool[Tensor, "n h w"]:
        """Returns what is true of cells for each of their pixels."""
        grid = cells.view(-1, self.rows, self.columns)
        return grid.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)

    def vectors(self) -> Float[Tensor, "k e"]:
        """What each token stands for, as numbers: like tokens lie near one another."""
        raise NotImplementedError

    def encode(self, clip: Clip) -> Clip:
        """Returns the clip with its tokens as features (b t cells, whole numbers as floats)."""
        found = self.tokens(frame_windows(clip, self.view))
        return clip.with_(features=found.view(clip.rows, clip.length, self.cells).float())

    def decode(self, clip: Clip) -> Clip:
        """Returns the clip with the frames of its tokens."""
        if clip.features is None:
            raise NoFrames("this clip has no tokens to make frames of; encode it first")
        back = self.view.before
        tokens = clip.features.round().long()
        early = tokens[:, :1].expand(-1, back, -1)
        windows = torch.cat([early, tokens], 1).unfold(1, back + 1, 1).transpose(2, 3)  # b t f k
        frames = self.pixels(windows.flatten(0, 1))
        return clip.with_(frames=frames.view(clip.rows, clip.length, *frames.shape[1:]))


class PatchTokenizer(Tokenizer):
    """Tokens are the nearest of at most `codes` patches that were seen: nothing is trained, so nothing collapses.

    A patch joins the book when its root mean squared distance from all others is above `apart` (in bytes), while there
    is room (Dedieu et al., Improving transformer world models for data-efficient RL, 2025, section 4.3).
    """

    book: Tensor
    filled: Tensor

    def __init__(self, view: View, patch: int = 8, codes: int = 512, apart: float = 4.0) -> None:
        super().__init__(view, patch)
        if view.frames != 1:
            raise UnusableInput(f"a patch tokenizer sees one frame; got a view of {view.frames}")
        self.codes, self.apart = codes, apart
        self.unknown = 0.0  # share of the patches that were seen last and are unlike the book; told, and not kept
        self.register_buffer("book", torch.zeros(codes, view.channels * patch * patch))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def vectors(self) -> Float[Tensor, "k e"]:
        """The patches."""
        return self.book

    def _patches(self, frames: Tensor) -> Float[Tensor, "n k e"]:
        return F.unfold(frames.float(), self.patch, stride=self.patch).transpose(1, 2)

    def tokens(self, frames: UInt8[Tensor, "n f c h w"]) -> Int[Tensor, "n k"]:
        """Nearest patch of the book for each patch of the last frame."""
        patches = self._patches(frames[:, -1])
        book = self.book[: max(1, int(number_in(self, "filled")))]
        nearness = patches @ book.T - 0.5 * book.square().sum(-1)
        return nearness.argmax(-1)

    def pixels(self, tokens: Int[Tensor, "n f k"]) -> UInt8[Tensor, "n c h w"]:
        """Lays the patches side by side."""
        patches = self.book[tokens[:, -1]].transpose(1, 2)
        return F.fold(patches, self.view.size, self.patch, stride=self.patch).to(torch.uint8)

    def learn(self, clip: Clip, noise: torch.Generator) -> dict[str, float]:
        """Adds what the clip shows that the book does not have yet, in random order."""
        assert clip.frames is not None
        patches = self._patches(clip.frames.flatten(0, 1)).flatten(0, 1).unique(dim=0)  # type: ignore[no-untyped-call]
        patches = patches[torch.randperm(len(patches), generator=noise)]
        limit = self.apart**2 * patches.shape[1]
        known = self.book[: int(self.filled)]
        far = torch.full((len(patches),), torch.inf)
        for start in range(0, len(known), 64):
            far = torch.minimum(far, torch.cdist(patches, known[start : start + 64]).square().amin(1))
        while int(self.filled) < self.codes and bool((far > limit).any()):
            new = patches[int((far > limit).int().argmax())]
            self.book[int(self.filled)] = new
            self.filled += 1
            far = torch.minimum(far, (patches - new).square().sum(1))
        self.unknown = float((far > limit).float().mean())
        return {"codes/filled": float(self.filled), "codes/unlike": self.unknown}

    def alarm(self) -> str:
        """Says that the book is full and many patches that are seen are not in it, if it is so."""
        if self.unknown <= UNKNOWN:  # while there is room, none stays unknown
            return ""
        return (
            f"its book of {self.codes} patches is full, and {self.unknown:.0%} of the different ones seen last are "
            "unlike all of them; allow more patches, or let apart be larger"
        )


class LearnedTokenizer(Tokenizer):
    """A tokenizer with a trained codebook; `code` describes its bottleneck (nn.quantize, one position)."""

    quantiser: Codes

    def __init__(self, view: View, patch: int, code: Mapping[str, Any]) -> None:
        super().__init__(view, patch)
        made = bottleneck(**code)
        if not isinstance(made, Codes) or made.positions != 1:
            raise UnusableInput(f"a tokenizer needs a bottleneck of codes with one position; got {dict(code)}")
        self.quantiser, self.codes = made, made.codes
        self.restarted = 0  # codes, in the last step; told, and not kept

    def loss(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, ""]:
        """Squared error of the frames in units of their variance (van den Oord et al. 2017), and the price."""
        raise NotImplementedError

    def vectors(self) -> Float[Tensor, "k e"]:
        """The code vectors."""
        every = torch.arange(self.codes, device=next(self.parameters()).device)
        return self.quantiser.lookup(every.unsqueeze(1))

    def gauges(self) -> dict[str, float]:
        """How evenly the codes are used: perplexity, of `codes`; and how many dead ones the last step restarted."""
        return {"codes/perplexity": self.quantiser.perplexity, "codes/restarted": float(self.restarted)}

    def alarm(self) -> str:
        """Says that the codebook has collapsed, if it has."""
        used = self.quantiser.perplexity
        if used >= max(2.0, FEW * self.codes):
            return ""
        other = "" if isinstance(self.quantiser, FSQ) else ", or set levels (FSQ)"
        return f"its codebook collapsed: {self.codes} codes are worth {used:.1f}; train longer{other}"

    def after_step(self, step: int, rate: float) -> None:
        """Restarts dead codes every 20 steps while the net moves."""
        due = (step + 1) % 20 == 0 and rate > 0.2
        self.restarted = self.quantiser.restart_dead(randomness.torch_rng("restart", step)) if due else 0

    def _assign(self, z: Float[Tensor, "n e"]) -> Int[Tensor, "n"]:
        return self.quantiser.assign(self.quantiser.parts(z))[:, 0]


def _error(shown: Tensor, wanted: Tensor) -> Float[Tensor, "*n h w"]:
    """Squared error in units of the frames' variance: beside a small one, the price would still the encoder."""
    spread = (wanted - wanted.mean(0)).square().mean().clamp_min(1e-4)
    return (shown - wanted).square().mean(-3) / spread


def motion(frames: Float[Tensor, "n f c h w"], moving: float) -> Float[Tensor, "n f h w"]:
    """Weights of pixels, 1 on average: 1 where nothing moves, and `moving` more the more a pixel and its neighbours
    change from a window's frames to the next, in units of what pixels change on average, of which MOST count.

    Raises:
        UnusableInput: the windows have one frame, which does not show what moves.
    """
    if frames.shape[1] < 2:
        raise UnusableInput("what moves is seen in windows of two frames or more; these have one")
    change = frames.diff(dim=1).square().mean(2)
    spread = F.max_pool2d(change, 3, 1, 1)
    weight = 1 + moving * (spread / spread.mean().clamp_min(1e-9)).clamp_max(MOST)
    return torch.cat([weight, weight[:, -1:]], 1) / weight.mean()


def _rare_colours(shown: Tensor, wanted: Tensor) -> Float[Tensor, "n h w"]:
    """Squared error in units of the covariance of the frames' channels: a rare colour weighs as much as brightness."""
    colours = wanted.transpose(0, 1).flatten(1)
    colours = colours - colours.mean(1, keepdim=True)
    spread = colours @ colours.T / (colours.shape[1] - 1)
    inverse = torch.linalg.inv_ex(spread + 1e-4 * torch.eye(len(spread), device=spread.device)).inverse
    off = shown - wanted
    return torch.einsum("nchw,cd,ndhw->nhw", off, inverse, off) / off.shape[1]


def unlike(shown: Float[Tensor, "n c h w"], wanted: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """1 - structural similarity (Wang et al., Image quality assessment, 2004, eq. 13, with FAINT for both constants),
    in windows of 3 x 3 pixels of normalised frames, -0.5..0.5.

    It asks whether an edge is there, also a faint one, where a squared error asks how much of all light it misses.
    """
    shown, wanted = shown + 0.5, wanted + 0.5
    mean, other = F.avg_pool2d(shown, 3, 1), F.avg_pool2d(wanted, 3, 1)
    spread = F.avg_pool2d(shown.square(), 3, 1) - mean.square() + F.avg_pool2d(wanted.square(), 3, 1) - other.square()
    both = F.avg_pool2d(shown * wanted, 3, 1) - mean * other
    light = (2 * mean * other + FAINT) / (mean.square() + other.square() + FAINT)
    return 1 - (light * (2 * both + FAINT) / (spread + FAINT)).mean()


class ConvTokenizer(LearnedTokenizer):
    """A convolutional VQ-VAE of single frames (van den Oord et al. 2017; IRIS and GAIA-1 in small).

    With `colours`, errors count in units of the covariance of colours, so that small things of a colour of their own
    are kept; without, they count as they are. With `moving` (see `motion`; of windows of two frames or more) what moves
    counts more than what stays, so that small things that move are kept (own). `structure` times what is `unlike` is
    added, so that faint edges are kept.
    """

    def __init__(
        self, view: View, code: Mapping[str, Any], patch: int = 8, width: int = 64, depth: int = 2,
        colours: bool = False, moving: float = 0.0, structure: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(view, patch, code)
        self.colours, self.moving, self.structure = colours, moving, structure
        if view.frames != 1:
            raise UnusableInput(f"a convolutional tokenizer sees one frame; got a view of {view.frames}")
        self.inward = nn.Sequential(
            nn.Conv2d(view.channels, width, patch, stride=patch), *(Refine(width) for _ in range(depth)),
            nn.Conv2d(width, self.quantiser.takes, 1),
        )  # fmt: skip
        self.outward = nn.Sequential(
            nn.Conv2d(self.quantiser.gives, width, 1), *(Refine(width) for _ in range(depth)),
            nn.ConvTranspose2d(width, view.channels, patch, stride=patch),
        )  # fmt: skip

    def _latents(self, frames: Tensor) -> Float[Tensor, "m e"]:
        return rearrange(self.inward(normalise(frames)), "n e y x -> (n y x) e")  # type: ignore[no-any-return]

    def _shown(self, latents: Float[Tensor, "m e"]) -> Float[Tensor, "n c h w"]:
        return self.outward(rearrange(latents, "(n y x) e -> n e y x", y=self.rows, x=self.columns))  # type: ignore[no-any-return]

    def tokens(self, frames: UInt8[Tensor, "n f c h w"]) -> Int[Tensor, "n k"]:
        """Codes of the last frame."""
        return self._assign(self._latents(frames[:, -1])).view(len(frames), self.cells)

    def pixels(self, tokens: Int[Tensor, "n f k"]) -> UInt8[Tensor, "n c h w"]:
        """The frame that these codes stand for."""
        return to_bytes(self._shown(self.quantiser.lookup(tokens[:, -1].reshape(-1, 1))))

    def loss(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, ""]:
        """Error of all frames."""
        flat = frames.flatten(0, 1)
        passed, _, price = self.quantiser(self._latents(flat))
        shown, wanted = self._shown(passed), normalise(flat)
        error = _rare_colours(shown, wanted) if self.colours else _error(shown, wanted)
        if self.moving:
            error = error * motion(wanted.view(frames.shape), self.moving).flatten(0, 1)
        if self.structure:
            price = price + self.structure * unlike(shown, wanted)
        return error.mean() + price  # type: ignore[no-any-return]


class VideoTokenizer(LearnedTokenizer):
    """Genie's tokenizer: patches through a transformer over space and causal time, quantised, and back (ST-ViViT)."""

    def __init__(
        self, view: View, code: Mapping[str, Any], patch: int = 4, width: int = 512, depth: int = 8, heads: int = 8
    ) -> None:
        super().__init__(view, patch, code)
        size, mask = view.channels * patch * patch, Mask(memory=max(1, view.before))
        self.place = nn.Parameter(torch.randn(self.cells, width) * 0.5)
        self.embed, self.unembed = nn.Linear(size, width), nn.Linear(width, size)
        self.encoder = SpaceTime((self.rows, self.columns), width, depth, heads, mask)
        self.decoder = SpaceTime((self.rows, self.columns), width, depth, heads, mask)
        self.inward = nn.Linear(width, self.quantiser.takes)
        self.outward = nn.Linear(self.quantiser.gives, width)

    def _latents(self, frames: Tensor) -> Float[Tensor, "n f k e"]:
        patches = rearrange(normalise(frames), "n f c (y p) (x q) -> n f (y x) (c p q)", p=self.patch, q=self.patch)
        return self.inward(self.encoder(self.embed(patches) + self.place, _times(frames))[0])  # type: ignore[no-any-return]

    def _shown(self, latents: Float[Tensor, "n f k e"]) -> Float[Tensor, "n f c h w"]:
        patches = self.unembed(self.decoder(self.outward(latents) + self.place, _times(latents))[0])
        return rearrange(patches, "n f (y x) (c p q) -> n f c (y p) (x q)", y=self.rows, p=self.patch, q=self.patch)  # type: ignore[no-any-return]

    def tokens(self, frames: UInt8[Tensor, "n f c h w"]) -> Int[Tensor, "n k"]:
        """Codes of the last frame, seen after those before it."""
        return self._assign(self._latents(frames)[:, -1].flatten(0, 1)).view(len(frames), self.cells)

    def pixels(self, tokens: Int[Tensor, "n f k"]) -> UInt8[Tensor, "n c h w"]:
        """The last frame that these codes stand for."""
        latents = self.quantiser.lookup(tokens.reshape(-1, 1)).view(*tokens.shape, -1)
        return to_bytes(self._shown(latents)[:, -1])

    def loss(self, frames: UInt8[Tensor, "n f c h w"]) -> Float[Tensor, ""]:
        """Error of all frames of the windows."""
        latents = self._latents(frames)
        passed, _, price = self.quantiser(latents.flatten(0, 2))
        return _error(self._shown(passed.view_as(latents)), normalise(frames)).mean() + price  # type: ignore[no-any-return]


def _times(windows: Tensor) -> Int[Tensor, "n f"]:
    return torch.arange(windows.shape[1], device=windows.device).expand(len(windows), -1)


def tokenizing(tokenizer: LearnedTokenizer, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """The loss of a learned tokenizer over windows of `view.frames` frames or more."""
    if clip.frames is None:
        raise UnusableInput("this loss needs clips with frames")
    return {"all": tokenizer.loss(clip.frames)}


def learning_patches(tokenizer: PatchTokenizer, clip: Clip, noise: torch.Generator) -> dict[str, float]:
    """A step of `run.loop` that fills the book of patches."""
    return tokenizer.learn(clip, noise)
