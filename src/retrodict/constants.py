"""Numbers that never change, as tensors that are made once: another device than the CPU is waited for to make them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def constant(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns numbers that never change as a tensor, made once on each device. It is not to be written to."""
    if torch.compiler.is_compiling():  # a trace has tensors of its own
        return torch.tensor(numbers, device=device, dtype=dtype)
    return _constant(numbers, device, dtype)


@lru_cache(maxsize=1024)
def _constant(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # it outlives who asks
        return torch.tensor(numbers, device=device, dtype=dtype)
