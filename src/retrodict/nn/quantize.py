"""Bottlenecks: what a latent action may be. One class per method, all with `forward(z) -> (z_q, indices, loss)`.

    GroupedVQ  codebooks moved by averages       van den Oord et al. 2017, appendix A
    NSVQ       codebook behind substituted noise Vali & Bäckström 2022, as in LAPA
    FSQ        rounded numbers, no codebook      Mentzer et al. 2024
    Gaussian   a vector with a price per bit     Kingma & Welling 2014, as in AdaWorld
    Free       a vector as it is                 as in LAOM

Each says which actions it speaks (`space`), how many numbers a step it `takes` and `gives`, how it reads an action back
(`embed`), what it draws when nobody chooses, and how even its codes are used (`perplexity`, None for vectors). In eval
mode nothing moves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from retrodict.errors import UnknownName, UnusableInput
from retrodict.nn.device import number_in
from retrodict.rng import isolated
from retrodict.segments import code, vector
from retrodict.spaces import ActionSpace, Distribution

COLLAPSED = 1.5  # perplexity below which codes say nothing
EXACT = "donot_use_mm_for_euclid_dist"  # else distances depend on how many there are to find
Passed = tuple[Tensor, Tensor | None, Tensor]  # quantised z (n e), code per position (n p) or None, loss


def code_space(positions: int, codes: int) -> ActionSpace:
    """The space of `positions` codes of `codes` values each."""
    return ActionSpace(tuple(code(f"code{p}" if positions > 1 else "code", codes) for p in range(positions)))


class Bottleneck(nn.Module):
    """What all bottlenecks have in common."""

    space: ActionSpace
    takes: int
    gives: int

    def forward(self, z: Float[Tensor, "n i"]) -> Passed:
        """Returns what passes through with its gradient, the codes if there are any, and the price."""
        raise NotImplementedError

    def belief(self, z: Float[Tensor, "n i"]) -> Distribution:
        """Returns what z says, in actions of `space`."""
        raise NotImplementedError

    def embed(self, actions: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Returns what a forward model is given for these actions."""
        return actions

    def draw(self, count: int, rng: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws actions as they came up in training."""
        raise NotImplementedError

    def restart_dead(self, rng: torch.Generator, threshold: float = 0.05) -> int:
        """Moves codes used less than `threshold` of their fair share onto recent inputs; returns how many."""
        return 0

    @property
    def perplexity(self) -> float | None:
        """2^H of code use, averaged over books: 1 is collapse, the number of codes is even use."""
        return None


class Codes(Bottleneck):
    """Codes from `books` of vectors, shared by the positions in turn (sharing cures the collapse of separate books)."""

    book: Tensor
    used: Tensor
    ready: Tensor
    recent: Tensor
    decay = 0.98  # of the averages of use

    def __init__(self, positions: int, codes: int, width: int, books: int) -> None:
        super().__init__()
        self.positions, self.codes, self.width, self.books = positions, codes, width, books
        self.space = code_space(positions, codes)
        self.takes = self.gives = positions * width
        self.register_buffer("used", torch.ones(books, codes))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        self.register_buffer("recent", torch.zeros(books, 256, width))

    def parts(self, z: Float[Tensor, "n i"]) -> Float[Tensor, "n p e"]:
        """Cuts z into positions."""
        return z.view(-1, self.positions, self.width)

    def forward(self, z: Float[Tensor, "n i"]) -> Passed:
        """Returns z through its nearest codes, those codes, and the loss of the method."""
        parts = self.parts(z)
        if self.training and not number_in(self, "ready"):
            self._start_from(parts.detach())
        indices = self.assign(parts)
        quantised = self.lookup(indices)
        if self.training:
            self._move(parts.detach(), indices)
        return self._through(parts.flatten(1), quantised, indices)

    def _through(self, z: Tensor, quantised: Tensor, indices: Tensor) -> Passed:
        return z + (quantised - z).detach(), indices, z.new_zeros(())

    def assign(self, parts: Float[Tensor, "n p e"]) -> Int[Tensor, "n p"]:
        """Nearest code per position."""
        columns = []
        for position in range(self.positions):
            book = self.book[position % self.books]
            columns.append(torch.cdist(parts[:, position], book).argmin(-1))
        return torch.stack(columns, 1)

    def lookup(self, indices: Int[Tensor, "n p"]) -> Float[Tensor, "n e"]:
        """Code vectors, positions side by side."""
        vectors = [self.book[position % self.books][indices[:, position]] for position in range(self.positions)]
        return torch.cat(vectors, -1)

    def belief(self, z: Float[Tensor, "n i"]) -> Distribution:
        """Nearer codes are likelier."""
        parts, logits = self.parts(z), []
        for position in range(self.positions):
            book = self.book[position % self.books]
            spread = torch.cdist(book, book).square().mean().clamp_min(1e-6)
            apart = torch.cdist(parts[:, position], book, compute_mode=EXACT).square()
            logits.append(-20.0 * apart / spread)
        return Distribution(self.space, torch.cat(logits, -1))

    def embed(self, actions: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Looks up the vectors of one-hot codes, positions side by side."""
        return self.lookup(actions.view(-1, self.positions, self.codes).argmax(-1))

    def draw(self, count: int, rng: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws codes as often as they were used in training."""
        columns = []
        for position in range(self.positions):
            share = self.used[position % self.books].clamp_min(1e-6)
            picked = torch.multinomial(share, count, replacement=True, generator=rng)
            columns.append(F.one_hot(picked, self.codes).float())
        return torch.cat(columns, -1)

    @property
    def perplexity(self) -> float:
        """2^H of code use, averaged over books."""
        share = self.used / self.used.sum(-1, keepdim=True).clamp_min(1e-9)
        return float(torch.exp(-(share * share.clamp_min(1e-9).log()).sum(-1)).mean())

    @torch.no_grad()
    def restart_dead(self, rng: torch.Generator, threshold: float = 0.05) -> int:
        """Moves dead codes onto recent inputs, drawn anew at every call, so that none stays a copy of another."""
        dead = (self.used < threshold).nonzero().tolist()
        for b, number in dead:
            pick = int(torch.randint(self.recent.shape[1], (1,), generator=rng))
            self._place(b, number, self.recent[b, pick])
            self.used[b, number] = 1.0
        return len(dead)

    def _place(self, b: int, number: int, value: Tensor) -> None:
        self.book[b, number] = value

    @torch.no_grad()
    def _start_from(self, parts: Tensor) -> None:
        """Places the codes on the first batch."""
        for b in range(self.books):
            values = torch.cat([parts[:, p] for p in range(self.positions) if p % self.books == b])
            pick = torch.linspace(0, len(values) - 1, self.codes).long()
            nudge = 1e-3 * values.std(correction=0).clamp_min(1e-3) * self.book[b].sign()
            for number, value in enumerate(values[pick] + nudge):
                self._place(b, number, value)
        self.ready.fill_(True)

    @torch.no_grad()
    def _move(self, parts: Tensor, indices: Tensor) -> None:
        """Notes which codes are used, and the inputs at which dead ones may restart."""
        for b in range(self.books):
            mine = [p for p in range(self.positions) if p % self.books == b]
            values, codes = torch.cat([parts[:, p] for p in mine]), torch.cat([indices[:, p] for p in mine])
            one_hot = F.one_hot(codes, self.codes).to(values.dtype)
            self.used[b].mul_(self.decay).add_(one_hot.mean(0) * self.codes, alpha=1 - self.decay)
            self._follow(b, values, one_hot)
            around = torch.arange(self.recent.shape[1], device=values.device) % len(values)
            self.recent[b] = values[around]  # all of it real inputs, also when there are fewer

    def _follow(self, b: int, values: Tensor, one_hot: Tensor) -> None:
        """Moves a book after its inputs, where the method does so."""


class GroupedVQ(Codes):
    """Vector quantisation with codebooks moved by exponential averages (VQ-EMA; van den Oord et al. 2017, appendix A).

    z is passed straight through; `commitment` weighs its squared distance from its code.
    """

    count: Tensor
    total: Tensor

    def __init__(
        self, positions: int, codes: int, width: int, books: int = 1, decay: float = 0.98, commitment: float = 0.25
    ) -> None:
        super().__init__(positions, codes, width, books)
        self.decay, self.commitment = decay, commitment
        self.register_buffer("book", torch.randn(books, codes, width) * 0.1)
        self.register_buffer("count", torch.ones(books, codes))
        self.register_buffer("total", self.book.clone())

    def _through(self, z: Tensor, quantised: Tensor, indices: Tensor) -> Passed:
        loss = self.commitment * F.mse_loss(z, quantised.detach())
        return z + (quantised - z).detach(), indices, loss

    def _place(self, b: int, number: int, value: Tensor) -> None:
        """Averages move the book, so they restart with it; else it would return to where it was dead."""
        self.book[b, number] = self.total[b, number] = value
        self.count[b, number].fill_(1.0)

    def _follow(self, b: int, values: Tensor, one_hot: Tensor) -> None:
        self.count[b].mul_(self.decay).add_(one_hot.sum(0), alpha=1 - self.decay)
        self.total[b].mul_(self.decay).add_(one_hot.T @ values, alpha=1 - self.decay)
        smooth = (self.count[b] + 1e-5) / (self.count[b].sum() + self.codes * 1e-5) * self.count[b].sum()
        self.book[b] = self.total[b] / smooth.unsqueeze(-1)


class NSVQ(Codes):
    """Vector quantisation by noise substitution (Vali & Bäckström 2022, eq. 6): z + |z - c| u, u a random direction.

    Gradients reach both z and the learned book, so there is no loss beside. One book serves all positions. In eval mode
    z is its code. The noise is of the kind of dropout: torch's own stream, which the training loop seeds at every step.
    """

    def __init__(self, positions: int, codes: int, width: int) -> None:
        super().__init__(positions, codes, width, 1)
        self.book = nn.Parameter(torch.randn(1, codes, width))

    def _through(self, z: Tensor, quantised: Tensor, indices: Tensor) -> Passed:
        if not self.training:
            return quantised, indices, z.new_zeros(())
        apart = self.parts(z - quantised).norm(dim=-1, keepdim=True)
        noise = F.normalize(torch.randn_like(self.parts(z)), dim=-1)
        return z + (apart * noise).flatten(1), indices, z.new_zeros(())

    def _place(self, b: int, number: int, value: Tensor) -> None:
        self.book.data[b, number] = value


class FSQ(Codes):
    """Finite scalar quantisation (Mentzer et al. 2024): each number is squashed and rounded to one of `levels[i]`.

    All combinations are codes, prod(levels) of them at fixed places, so none can die or collapse into another. Levels
    lie evenly over -1..1, so that an even number of them needs no offset.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__(1, math.prod(levels), len(levels), 1)
        grid = itertools.product(*[torch.linspace(-1, 1, number).tolist() for number in levels])
        self.register_buffer("book", torch.tensor(list(grid))[None])
        self.ready.fill_(True)

    def parts(self, z: Float[Tensor, "n i"]) -> Float[Tensor, "n p e"]:
        """Squashes each number into -1..1."""
        return torch.tanh(z).unsqueeze(1)

    def restart_dead(self, rng: torch.Generator, threshold: float = 0.05) -> int:
        """Moves nothing: the codes are fixed."""
        return 0


class Free(Bottleneck):
    """A vector as it is (LAOM): no quantiser. Its mean and spread are kept, to draw from."""

    center: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.takes = self.gives = width
        self.space = ActionSpace((vector("latent", width),))
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def forward(self, z: Float[Tensor, "n i"]) -> Passed:
        """Returns z."""
        self._note(z)
        return z, None, z.new_zeros(())

    def belief(self, z: Float[Tensor, "n i"]) -> Distribution:
        """Certainty of z."""
        return Distribution.point(self.space, z)

    def draw(self, count: int, rng: torch.Generator) -> Float[Tensor, "n d"]:
        """Draws from a Gaussian of the mean and spread seen in training."""
        noise = torch.randn(count, self.gives, generator=rng, device=self.center.device)
        return self.center + self.spread * noise

    @torch.no_grad()
    def _note(self, z: Tensor) -> None:
        if self.training:
            self.center.lerp_(z.mean(0), 0.02)
            self.spread.lerp_(z.std(0, correction=0), 0.02)


class Gaussian(Free):
    """A Gaussian per number (beta-VAE, as in AdaWorld): it takes means and log variances, and gives a draw.

    The loss is `beta` times the divergence from N(0, 1); `bits` is what a step's latent carries by that measure. Where
    it grows without bound the name VAE is all that is left of the noise.
    """

    bits: Tensor

    def __init__(self, width: int, beta: float = 1e-3) -> None:
        super().__init__(width)
        self.takes, self.beta = 2 * width, beta
        self.register_buffer("bits", torch.zeros(()))

    def forward(self, z: Float[Tensor, "n i"]) -> Passed:
        """Returns a draw (in eval mode the mean), and the price of its information."""
        mean, log_var = z.chunk(2, -1)
        divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(-1).mean()
        self._note(mean)
        if self.training:
            self.bits.lerp_(divergence.detach() / math.log(2), 0.02)
            mean = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        return mean, None, self.beta * divergence

    def belief(self, z: Float[Tensor, "n i"]) -> Distribution:
        """The Gaussian itself."""
        mean, log_var = z.chunk(2, -1)
        return Distribution(self.space, torch.cat([mean, 0.5 * log_var], -1))


BOTTLENECKS: dict[str, type[Bottleneck]] = {
    "vq": GroupedVQ, "nsvq": NSVQ, "fsq": FSQ, "gaussian": Gaussian, "none": Free,
}  # fmt: skip


def bottleneck(kind: str, **settings: Any) -> Bottleneck:
    """Makes a bottleneck by name; `settings` are the arguments of its class."""
    if kind not in BOTTLENECKS:
        raise UnknownName("bottleneck", kind, BOTTLENECKS)
    return BOTTLENECKS[kind](**settings)


def token_code(codes: int, width: int, levels: tuple[int, ...] = ()) -> dict[str, Any]:
    """Describes the quantiser of a token: a learnt book of `codes` vectors of `width` numbers, or fixed `levels` (FSQ).

    Raises:
        UnusableInput: the levels do not make so many codes.
    """
    if not levels:
        return {"kind": "vq", "positions": 1, "codes": codes, "width": width}
    if min(levels) < 2 or math.prod(levels) != codes:
        raise UnusableInput(
            f"levels {list(levels)} make {math.prod(levels)} codes, and {codes} are asked for; give levels of 2 or "
            "more whose product that is, such as [8, 8, 4] for 256, or ask for as many codes"
        )
    return {"kind": "fsq", "levels": levels}


def widths(code: Mapping[str, Any]) -> tuple[int, int]:
    """How many numbers a bottleneck of this description takes and gives; asked without drawing its weights."""
    with isolated("bottleneck"):
        asked = bottleneck(**code)
    return asked.takes, asked.gives
