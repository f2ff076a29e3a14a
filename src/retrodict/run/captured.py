"""Updates that are captured: an update's loss and gradients as one CUDA graph, from the first batch on.

Nothing is compiled. Optimisers and what a part does after a step stay outside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrodict.errors import UnusableInput
from retrodict.nn.graph import Graph
from retrodict.nn.part import Part
from retrodict.run import finite
from retrodict.run.update import Update


class Captured:
    """An update as one CUDA graph.

    It is captured anew for another part, or for batches of other shapes.

    Raises:
        UnusableInput: the loss waits for a number or reads memory of the CPU, or batches differ in their words.
    """

    def __init__(self, update: Update) -> None:
        self.update = update
        self._part: Part | None = None
        self._shapes: list[Any] = []
        self._words: list[Any] = []

    def __call__(self, part: Part, batch: Any, noise: torch.Generator) -> dict[str, Tensor]:
        """Returns what the update returns; the same memory holds it each time."""
        given = [tensor for _, tensor in finite.inputs(batch)]
        shapes = [(tuple(tensor.shape), tensor.dtype) for tensor in given]
        if part is not self._part or shapes != self._shapes:
            self._capture(part, batch, noise.device)
            self._part, self._shapes, self._words = part, shapes, _words(batch)
        if _words(batch) != self._words:
            raise UnusableInput("batches differ in their words, which no graph takes in; use --compile default or none")
        for mine, one in zip(self._inputs, given, strict=True):
            mine.copy_(one)
        self._noise.manual_seed(noise.initial_seed())
        numbers, gradients = self._graph.launch()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        return numbers

    def _capture(self, part: Part, batch: Any, device: torch.device) -> None:
        """Captures the update on a copy of the batch; the part stays as it is."""
        copies = {name: clip.pick(range(clip.rows)) for name, clip in finite.clips_of(batch).items()}
        mine = copies if isinstance(batch, dict) else copies["batch"]
        self._inputs = [tensor for _, tensor in finite.inputs(mine)]
        self._noise = torch.Generator(device).manual_seed(0)
        buffers = [buffer.clone() for buffer in part.buffers()]

        def work() -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor | None]]]:
            return self.update(part, mine, self._noise), [(p, p.grad) for p in part.parameters()]

        self._graph = Graph(work, device, [self._noise])
        with torch.no_grad():
            for buffer, old in zip(part.buffers(), buffers, strict=True):
                buffer.copy_(old)


def _words(batch: Any) -> list[Any]:
    return [clip.text for clip in finite.clips_of(batch).values()]
