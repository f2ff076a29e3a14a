"""Nets that are compiled while a loss runs, also as CUDA graphs.

Updates alone are compiled. What a part plays, answers and saves goes through the same nets as they are, so that a run
is the same run in either way; its weights agree up to rounding. The first updates are slow, as they compile.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from retrodict.errors import UnknownName, UnusableInput
from retrodict.nn.part import Part

EAGER = "none"
WHOLE = "whole"  # no net is compiled, and a whole update is one graph (`run.captured`)
# What torch.compile is told. Random numbers are drawn as without it; "graphs" is the mode "reduce-overhead".
WAYS: dict[str, dict[str, Any]] = {
    "default": {"options": {"fallback_random": True}},
    "graphs": {"options": {"fallback_random": True, "triton.cudagraphs": True}},
}


def refuse_unfit(how: str, device: str) -> None:
    """Raises UnusableInput where nets cannot be compiled in this way on this device."""
    if how == EAGER:
        return
    if how not in (*WAYS, WHOLE):
        raise UnknownName("way to compile", how, (EAGER, *WAYS, WHOLE))
    if how != "default" and not device.startswith("cuda"):
        raise UnusableInput(f"expected a CUDA device for --compile {how}; got {device!r}. Use --compile default")
    if how != WHOLE and compiler() is None:
        raise UnusableInput("--compile needs a C++ compiler and none was found: install g++, or name one in CXX")


def compiler() -> str | None:
    """The C++ compiler that is there."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Compiled:
    """A loss `loss(part, batch, noise)` that runs with the part's nets compiled."""

    def __init__(self, loss: Callable[..., Any], how: str) -> None:
        self.loss, self.how = loss, how
        self._part: nn.Module | None = None
        self._calls: list[tuple[nn.Module, Callable[..., Any]]] = []

    def __call__(self, part: Part, batch: Any, noise: torch.Generator) -> Any:
        """Returns what the loss returns."""
        if part is not self._part:
            self._part = part
            self._calls = [(net, torch.compile(_own(net), dynamic=False, **WAYS[self.how])) for net in nets(part)]
        if self.how == "graphs":
            # graphs write where those of the last update did, whose values are needed no more
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with _lasting(), self._compiled():
            return self.loss(part, batch, noise)

    @contextmanager
    def _compiled(self) -> Iterator[None]:
        for net, call in self._calls:
            net._compiled_call_impl = call
        try:
            yield
        finally:
            for net, _ in self._calls:
                net._compiled_call_impl = None


def nets(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules of a part that are no parts, nor lists of modules."""
    for child in module.children():
        if isinstance(child, Part | nn.ModuleList | nn.ModuleDict):
            yield from nets(child)
        else:
            yield child


def _own(net: nn.Module) -> Callable[..., Any]:
    """A net's forward pass as a function of its own. torch counts by code, which nets of a class share, for how many
    shapes it compiled, and passes over code of its own, such as that of nn.Sequential."""

    def forward(*inputs: Any, **named: Any) -> Any:
        return net.forward(*inputs, **named)

    forward.__code__ = forward.__code__.replace(co_name=type(net).__name__)
    return forward


@contextmanager
def _lasting() -> Iterator[None]:
    """Lets what a forward pass keeps outlive one backward pass: the losses of several groups may share it."""
    import torch._functorch.config

    with torch._functorch.config.patch(donated_buffer=False):
        yield
