"""Numbers said as a belief over bins: regression by classification, whatever the scale (DreamerV3, TD-MPC2)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from retrodict.errors import UnusableInput


def symlog(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """sign(x) log(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Inverse of symlog: sign(x) (exp |x| - 1)."""
    return x.sign() * x.abs().expm1()


class TwoHot(nn.Module):
    """Bins around 0, and how a number lies between two of them; one beyond the last bin is at the last.

    kind: `symexp` (bins are symexp of even steps; numbers lie between them as they are, and the mean is of the bins:
    Hafner et al., DreamerV3) or `symlog` (bins are even steps between the symlogs of numbers, and the mean is taken
    there: Hansen et al., TD-MPC2). `limit` is the last bin's place before symexp; the number of bins is odd.
    """

    places: Tensor

    def __init__(self, kind: str = "symexp", bins: int = 255, limit: float = 20.0) -> None:
        super().__init__()
        if kind not in ("symexp", "symlog") or bins < 3 or bins % 2 == 0 or limit <= 0:
            raise UnusableInput(f"two-hot needs 'symexp' or 'symlog', an odd number of bins and a limit above 0; "
                                f"got {kind!r}, {bins} and {limit}")  # fmt: skip
        self.kind, self.bins = kind, bins
        upper = torch.linspace(0, limit, bins // 2 + 1)[1:]
        upper = symexp(upper) if kind == "symexp" else upper
        self.register_buffer("places", torch.cat([-upper.flip(0), torch.zeros(1), upper]), persistent=False)

    def encode(self, numbers: Float[Tensor, "*n"]) -> Float[Tensor, "*n k"]:
        """Returns weights of the bins whose mean is the number: at most two are not 0."""
        x = symlog(numbers) if self.kind == "symlog" else numbers
        x = x.clamp(self.places[0], self.places[-1])
        low = (torch.searchsorted(self.places, x.contiguous(), right=True) - 1).clamp(0, self.bins - 2)
        share = (x - self.places[low]) / (self.places[low + 1] - self.places[low])
        weights = x.new_zeros(*x.shape, self.bins).scatter_(-1, low.unsqueeze(-1), (1 - share).unsqueeze(-1))
        return weights.scatter_(-1, low.unsqueeze(-1) + 1, share.unsqueeze(-1))

    def mean(self, logits: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
        """Returns the number that is believed; bins are summed in pairs around 0, so that even logits are exactly 0."""
        half, p = self.bins // 2, logits.softmax(-1)
        found = ((p[..., half + 1 :] - p[..., :half].flip(-1)) * self.places[half + 1 :]).sum(-1)
        return symexp(found) if self.kind == "symlog" else found

    def loss(self, logits: Float[Tensor, "*n k"], numbers: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Cross entropy to the bins of the numbers."""
        return -(self.encode(numbers) * logits.log_softmax(-1)).sum(-1)
