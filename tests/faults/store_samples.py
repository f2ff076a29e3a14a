"""Small datasets that the fault tests of the store damage."""

from __future__ import annotations

from pathlib import Path

import torch

from retrodict.clip import Clip
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.rng import torch_rng
from retrodict.spaces import ActionSpace, categorical

SCHEMA = Schema(ActionSpace((categorical("action", ("left", "right")),)), {"observation.image": (8, 8, 3)}, 10)


def episode(number: int) -> Clip:
    """Episode `number` of any dataset here: its frames and actions follow from the number."""
    rng = torch_rng(number, "fault")
    t = 2 + number % 4
    return Clip(
        frames=torch.randint(0, 256, (1, t, 3, 8, 8), generator=rng, dtype=torch.uint8),
        actions=SCHEMA.space.one_hot(torch.randint(0, 2, (1, t - 1), generator=rng)),
        text=(f"task {number % 3}",),
    )


def dataset(folder: Path, groups: tuple[int, ...] = (2, 1, 3)) -> Store:
    """A closed dataset of several commits."""
    with Store.create(folder, SCHEMA) as store:
        number = 0
        for count in groups:
            store.append([episode(i) for i in range(number, number + count)])
            number += count
    return Store.open(folder)


def whole(store: Store) -> bool:
    """True when the dataset's episodes are episode(0), episode(1), ... in order and bit for bit."""
    for number, id in enumerate(store.ids):
        want, got = episode(number), store.read(id)
        if id != f"{number:06d}" or got.text != want.text:
            return False
        if not (torch.equal(got.frames, want.frames) and torch.equal(got.actions, want.actions)):  # type: ignore[arg-type]
            return False
    return True
