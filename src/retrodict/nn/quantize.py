"""Quantisers: one class per method, all with `forward(z) -> (quantised, indices, losses)`.

Usage and resets are live: `used` is a moving average of code use, and dead codes restart until `settle` steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class GroupedVQ(nn.Module):
    """Vector quantisation with codebooks moved by exponential averages (VQ-EMA; van den Oord et al. 2017, appendix A).

    z of width `positions * width` is cut into positions; `books` codebooks are shared among them in turn (sharing
    cures the collapse of separate books). Codes unused for a while restart at a random input. In eval mode nothing
    moves.
    """

    book: Tensor
    count: Tensor
    total: Tensor
    used: Tensor
    ready: Tensor
    recent: Tensor

    def __init__(
        self, positions: int, codes: int, width: int, books: int = 1, decay: float = 0.98, commitment: float = 0.25
    ) -> None:
        super().__init__()
        self.positions, self.codes, self.width, self.books = positions, codes, width, books
        self.decay, self.commitment = decay, commitment
        self.register_buffer("book", torch.randn(books, codes, width) * 0.1)
        self.register_buffer("count", torch.ones(books, codes))
        self.register_buffer("total", self.book.clone())
        self.register_buffer("used", torch.ones(books, codes))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        self.register_buffer("recent", torch.zeros(books, 256, width))

    def forward(self, z: Float[Tensor, "n e"]) -> tuple[Float[Tensor, "n e"], Int[Tensor, "n p"], Float[Tensor, ""]]:
        """Returns (straight-through quantised z, code per position, commitment loss)."""
        parts = z.view(len(z), self.positions, self.width)
        if self.training and not self.ready:
            self._start_from(parts.detach())
        indices = self.assign(parts)
        quantised = self.lookup(indices)
        if self.training:
            self._move(parts.detach(), indices)
        loss = self.commitment * F.mse_loss(parts, quantised.view_as(parts).detach())
        return z + (quantised - z).detach(), indices, loss

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

    @torch.no_grad()
    def _start_from(self, parts: Tensor) -> None:
        flat = [
            torch.cat([parts[:, p] for p in range(self.positions) if p % self.books == b]) for b in range(self.books)
        ]
        for b, values in enumerate(flat):
            pick = torch.linspace(0, len(values) - 1, self.codes).long()
            self.book[b] = values[pick] + 1e-3 * values.std(correction=0).clamp_min(1e-3) * self.book[b].sign()
            self.total[b], self.count[b] = self.book[b].clone(), torch.ones(self.codes)
        self.ready.fill_(True)

    @torch.no_grad()
    def _move(self, parts: Tensor, indices: Tensor) -> None:
        for b in range(self.books):
            mine = [p for p in range(self.positions) if p % self.books == b]
            values, codes = torch.cat([parts[:, p] for p in mine]), torch.cat([indices[:, p] for p in mine])
            one_hot = F.one_hot(codes, self.codes).to(values.dtype)
            self.count[b].mul_(self.decay).add_(one_hot.sum(0), alpha=1 - self.decay)
            self.total[b].mul_(self.decay).add_(one_hot.T @ values, alpha=1 - self.decay)
            self.used[b].mul_(self.decay).add_(one_hot.mean(0) * self.codes, alpha=1 - self.decay)
            smooth = (self.count[b] + 1e-5) / (self.count[b].sum() + self.codes * 1e-5) * self.count[b].sum()
            self.book[b] = self.total[b] / smooth.unsqueeze(-1)
            around = torch.arange(self.recent.shape[1], device=values.device) % len(values)
            self.recent[b] = values[around]  # all of it real inputs, also when there are fewer

    @torch.no_grad()
    def restart_dead(self, rng: torch.Generator, threshold: float = 0.05) -> int:
        """Moves codes used less than `threshold` of their fair share onto recent inputs; returns how many."""
        restarted = 0
        for b in range(self.books):
            for dead in (self.used[b] < threshold).nonzero().flatten().tolist():
                pick = int(torch.randint(self.recent.shape[1], (1,), generator=rng))
                self.book[b, dead] = self.recent[b, pick]
                self.total[b, dead], self.count[b, dead], self.used[b, dead] = self.recent[b, pick], 1.0, 1.0
                restarted += 1
        return restarted

    @property
    def perplexity(self) -> float:
        """2^H of code use, averaged over books: 1 is collapse, `codes` is even use."""
        share = self.used / self.used.sum(-1, keepdim=True).clamp_min(1e-9)
        return float(torch.exp(-(share * share.clamp_min(1e-9).log()).sum(-1)).mean())
