"""Labels a folder of videos: import, train or take a model, infer, judge, write what other tools can train on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.cache import resize
from retrodict.data.schema import Episodes
from retrodict.data.store import Store
from retrodict.errors import UnusableInput
from retrodict.roles import InverseModel
from retrodict.spaces import Distribution

CHUNK = 256  # frames that are inferred at once: bounds memory, whatever an episode's length


def infer_episode(inverse: InverseModel, source: Episodes, id: str) -> Distribution:
    """Answers every step of one episode, streaming its frames: a distribution over axis "t-1".

    Frames are resized to what the model sees; the answers equal those to the whole episode at once.

    Raises:
        UnusableInput: the episode has fewer than two frames.
    """
    before = max(0, -inverse.view.offsets()[0])
    after = max(1, inverse.view.offsets()[-1])
    total = source.lengths[id]
    held: Tensor | None = None  # frames first .. first + len - 1 of the episode
    first = answered = 0
    parts: list[Tensor] = []
    for piece in _frames(source, id):
        piece = resize(piece[0], inverse.view.size)
        held = piece if held is None else torch.cat([held, piece])
        seen = first + len(held)
        ready = total - 1 if seen == total else seen - after  # steps before this one have all their frames
        if ready - answered < (1 if seen == total else CHUNK):
            continue
        with torch.no_grad():
            belief = inverse.infer(Clip(frames=held[None]))
        parts.append(belief.params[0, answered - first : ready - first].cpu())
        answered = ready
        keep = max(0, answered - before)
        held, first = held[keep - first :], keep
    if not parts:
        raise UnusableInput(f"episode {id!r} has {total} frames; an action needs two")
    return Distribution(inverse.space, torch.cat(parts))


def _frames(source: Episodes, id: str) -> Iterator[UInt8[Tensor, "1 n c h w"]]:
    """Yields an episode's frames in order, in pieces of at most CHUNK."""
    if isinstance(source, Store):
        yield from source.stream(id, CHUNK)
        return
    frames = source.read(id).frames
    if frames is not None:
        yield from torch.split(frames, CHUNK, dim=1)
