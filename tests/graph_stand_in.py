"""A stand-in for a CUDA graph, where there is no such device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch


class Again:
    """Does the work when it is captured, as what warms up does, and anew, from the same memory, at each launch."""

    made: ClassVar[int] = 0

    def __init__(self, work: Callable[[], Any], device: torch.device, noise: Any = ()) -> None:
        Again.made += 1
        drawn = torch.get_rng_state()
        self.work = work
        work()
        torch.set_rng_state(drawn)

    def launch(self) -> Any:
        return self.work()
