"""Which device there is, and how to ask it little: work on it goes on while nothing has to know its numbers."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from retrodict.errors import UnusableInput


def device_of(device: str) -> str:
    """The device, if torch has it here.

    Raises:
        UnusableInput: there is none of this name.
    """
    known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if device in known or (device == "cuda" and len(known) > 1):
        return device
    try:
        if not device.startswith(("cuda", "meta")):
            torch.empty(0, device=device)  # others, such as mps, are known to torch alone
            return device
    except (RuntimeError, AssertionError, NotImplementedError):
        pass
    raise UnusableInput(f"expected the device to be one of {', '.join(known)}, as torch has here; got {device!r}")


def number_in(module: nn.Module, name: str) -> float:
    """Returns the number in a buffer of a module. Its device is asked once, and again after the buffer changed.

    Raises:
        UnusableInput: a CUDA graph is being captured, which would go on with this number when it has changed.
    """
    buffer = module.get_buffer(name)
    if buffer.is_cuda and torch.cuda.is_current_stream_capturing():
        raise UnusableInput(
            f"{type(module).__name__} asks for its {name!r}, which no graph does; use --compile default"
        )
    if buffer.is_inference():  # which does not tell when it changes
        return float(buffer)
    answers: dict[str, tuple[int, Tensor, int, float]] = module.__dict__.setdefault("_numbers", {})
    of, asked, version, answer = answers.get(name, (0, None, 0, 0.0))
    if of != id(module) or asked is not buffer or version != buffer._version:  # a copy counts changes anew
        answer = float(buffer)
        answers[name] = id(module), buffer, buffer._version, answer
    return answer


def refuse_unless(good: Bool[Tensor, ""], words: str) -> None:
    """Refuses what is not good. Another device than the CPU is not waited for: it fails by itself, later.

    Raises:
        UnusableInput: it is not.
    """
    if good.device.type != "cpu":
        torch._assert_async(good)
    elif not bool(good):
        raise UnusableInput(words)
