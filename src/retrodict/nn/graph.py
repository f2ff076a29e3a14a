"""Work on a CUDA device that is captured once and launched as a whole: calls of small kernels outlast the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from retrodict.errors import UnusableInput

WARM = 3  # times that the work is done before it is captured, while libraries choose their kernels

T = TypeVar("T")


def capturable(device: torch.device) -> bool:
    """Whether graphs can be captured on a device."""
    return device.type == "cuda"


class Graph(Generic[T]):
    """Captures `work()`, which reads and writes memory that stays where it is, and what it returned, `result`.

    Each launch does the same with what lies there then, and writes `result` anew. The same kernels run as without, so
    that numbers are the same. Random numbers come from the generators `noise`, and from torch's own, which is left as
    it was; what else the work changes, such as buffers, is the caller's to put back.

    Raises:
        UnusableInput: the work waits for a number or reads memory of the CPU.
    """

    def __init__(self, work: Callable[[], T], device: torch.device, noise: Sequence[torch.Generator] = ()) -> None:
        self._graph, drawn = torch.cuda.CUDAGraph(), torch.cuda.get_rng_state(device)
        for generator in noise:
            self._graph.register_generator_state(generator)
        own = torch.cuda.current_stream(device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(own)
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                work()
        own.wait_stream(aside)
        try:
            with torch.cuda.graph(self._graph):
                self.result = work()
        except RuntimeError as error:
            raise UnusableInput(f"this cannot be captured as one graph: {str(error).splitlines()[0]}") from error
        torch.cuda.set_rng_state(drawn, device)

    def launch(self) -> T:
        """Does the work again; returns `result`."""
        self._graph.replay()
        return self.result


def side_by_side(works: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
    """Does works that do not need each other: one after the other, and at once in the launches of a `Graph`."""
    if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
        return [work() for work in works]
    own, found = torch.cuda.current_stream(), []
    streams = [torch.cuda.Stream() for _ in works]  # type: ignore[no-untyped-call]
    for stream, work in zip(streams, works, strict=True):
        stream.wait_stream(own)
        with torch.cuda.stream(stream):
            found.append(work())
    for stream in streams:
        own.wait_stream(stream)
    return found
