"""Refuses numbers that are not finite: a step that meets one leaves every weight and buffer as before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.errors import NonFinite
from retrodict.nn.part import Part

Optimisers = Mapping[str, torch.optim.Optimizer]


class Found(Exception):
    """A tensor that is not finite; the message is its name."""

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor
        super().__init__(tensor)


@contextmanager
def guarded(part: Part, step: int, episodes: Callable[[], list[str]]) -> Iterator[None]:
    """A step whose changes to the part's buffers are undone where it meets a number that is not finite.

    Raises:
        NonFinite: with the step's number and its episodes, in the place of what was `Found`.
    """
    buffers = [buffer.clone() for buffer in part.buffers()]  # a forward pass may move them
    try:
        yield
    except (Found, NonFinite) as found:
        with torch.no_grad():
            for buffer, old in zip(part.buffers(), buffers, strict=True):
                buffer.copy_(old)
        raise NonFinite(found.tensor, step, episodes()) from None


def refuse(part: Part, batch: Any, values: Mapping[str, float], optimisers: Optimisers | None = None) -> None:
    """Raises Found for the first of inputs, weights, losses, gradients and optimiser state that is not finite.

    `batch` is a clip or a dict of them, or anything else where a step reads none; `values` are losses and, named with
    a slash, norms of gradients and other figures.
    """
    optimisers = optimisers or {}
    states = [v for o in optimisers.values() for entry in o.state.values() for v in entry.values()]
    given = [tensor for _, tensor in inputs(batch)]  # a loss may hide what is bad in them: two-hot clamps an infinity
    whole = [t for t in (*part.parameters(), *part.buffers(), *states, *given) if t.is_floating_point() and t.numel()]
    if all(map(math.isfinite, values.values())) and bool(_total(whole).isfinite()):
        return
    for name, tensor in _suspects(part, optimisers, batch):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise Found(name)
    for bad in (name for name, value in values.items() if not math.isfinite(value)):
        raise Found(f"norm of {bad}" if bad.endswith("/gradient") else bad if "/" in bad else f"loss {bad}")


@torch.no_grad()
def _total(tensors: Sequence[Tensor]) -> Tensor:
    """A number that is not finite when one in the tensors is not: 20 times cheaper than the largest."""
    if any(tensor.is_cuda for tensor in tensors):  # few kernels for all
        return torch.nn.utils.get_total_norm([tensor.to(torch.float32) for tensor in tensors], 1.0)
    return torch.stack([tensor.sum() for tensor in tensors]).sum() if tensors else torch.zeros(())


def clips_of(batch: Any) -> dict[str, Clip]:
    """The clips of a step by name; none where it reads no data."""
    if isinstance(batch, Clip):
        return {"batch": batch}
    return batch if isinstance(batch, dict) else {}


def inputs(batch: Any) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a step's clips by name, "input CLIP.FIELD"."""
    for name, clip in clips_of(batch).items():
        for entry in fields(clip):
            value = getattr(clip, entry.name)
            if isinstance(value, Tensor):
                yield f"input {name}.{entry.name}", value


def _suspects(part: Part, optimisers: Optimisers, batch: Any) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a step by name, causes before effects."""
    yield from inputs(batch)
    for name, parameter in part.named_parameters():
        yield f"weight {name}", parameter
    for name, parameter in part.named_parameters():
        for optimiser in optimisers.values():
            for kind, value in optimiser.state.get(parameter, {}).items():
                yield f"optimiser state {kind} of {name}", value
    for name, parameter in part.named_parameters():
        if parameter.grad is not None:
            yield f"gradient of {name}", parameter.grad
    for name, buffer in part.named_buffers():
        yield f"buffer {name}", buffer
