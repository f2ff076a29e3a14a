"""Randomness as a pure function of its address: the same (seed, names, numbers) give the same stream, everywhere.

Nothing in retrodict draws from Python's, numpy's or torch's global state; `isolated` guards code that might.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index

import numpy as np
import torch


def key(*address: int | str) -> int:
    """Hashes an address such as (seed, "vpt/inverse", step) to 63 bits; numpy's whole numbers equal Python's."""
    text = "\x1f".join(f"str:{part}" if isinstance(part, str) else f"int:{index(part)}" for part in address)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_rng(*address: int | str) -> np.random.Generator:
    """Returns numpy's generator for this address."""
    return np.random.Generator(np.random.Philox(key(*address)))


def torch_rng(*address: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns torch's generator for this address on this device."""
    return torch.Generator(device=device).manual_seed(key(*address))


def seed_layers(seed: int) -> None:
    """Seeds the global generators of torch, from which layers draw (dropout and the like).

    `torch.manual_seed` does as much, and on a machine without CUDA keeps a stack trace at every call.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def isolated(*address: int | str) -> Iterator[None]:
    """Seeds all global generators from this address inside, and restores them outside.

    For library code that draws from global state (weight initialisation, dropout).
    """
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    seed = key(*address)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_layers(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
