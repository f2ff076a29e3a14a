"""A session on disk: an ordinary dataset, whose source is a dream, and one video of each branch.

Every step is saved once: a branch begins at the frame where it left its parent, and what was saved before is not
saved again. Long branches become several episodes, so that memory stays bounded. A step by the brush has no action:
its source is missing, so that nothing learns that an action painted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.data.schema import IMAGE_PIXELS, Schema
from retrodict.data.store import SCHEMA_FILE, Store
from retrodict.report import film
from retrodict.roles import View
from retrodict.serve.messages import Picture
from retrodict.serve.pictures import cameras, picture_of
from retrodict.serve.session import KEY, Branch, Moment, Session
from retrodict.spaces import ActionSpace

EPISODE = 1000  # steps of one episode at most


@dataclass(frozen=True)
class Shelf:
    """Where sessions are saved: OUT/actions and OUT/codes are datasets, OUT/videos holds the videos.

    `spaces` are those of each way of speaking, in the order of `Moment.speech`; `provenance` goes into every commit.
    """

    out: Path
    view: View
    fps: int
    spaces: Mapping[str, ActionSpace]
    provenance: Mapping[str, Any]

    def schema(self, speech: str) -> Schema:
        """Returns the schema of what is saved in a way of speaking."""
        return Schema(self.spaces[speech], cameras(self.view), self.fps, video=max(self.view.size) > IMAGE_PIXELS)

    def opened(self, speech: str) -> Store:
        """Opens the dataset of a way of speaking for writing, or makes it; raises as `Store.open_or_create`."""
        made = {"system": self.provenance.get("system")}
        refusal = "holds what another run dreamt; name another folder with --out"
        return Store.open_or_create(self.out / speech, self.schema(speech), made, refusal)

    def taken(self) -> bool:
        """Whether a dataset of another run, or of other weights of this one, lies there already."""
        for speech in self.spaces:
            if (self.out / speech / SCHEMA_FILE).is_file():
                with Store.open(self.out / speech) as store:
                    if not self._ours(store, speech):
                        return True
        return False

    def _ours(self, store: Store, speech: str) -> bool:
        others = {commit.provenance.get("system") for commit in store.commits}
        return store.schema == self.schema(speech) and others <= {self.provenance.get("system")}


@dataclass(frozen=True, slots=True)
class _Part:
    """An episode to be: moments first..last of a branch, all steps told in one way."""

    branch: int
    first: int
    last: int
    speech: int


def save(session: Session, shelf: Shelf, name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """Commits what is not saved yet, group by group, and writes the videos; returns what was written.

    What an earlier call committed before it failed lies in the dataset already; videos that it owed are written now.

    Raises:
        UnusableInput: the folder holds a dataset of something else.
        Locked: another process saves there now.
    """
    parts = [part for i, branch in enumerate(session.branches) for part in _parts(session, i, branch)]
    speeches = list(shelf.spaces)
    with ExitStack() as opened:
        stores = {
            number: opened.enter_context(shelf.opened(speeches[number]))
            for number in sorted({part.speech for part in parts})
        }
        for part in parts:
            _commit(session, stores[part.speech], part, name, {**shelf.provenance, **more})
    grown = [i for i, branch in enumerate(session.branches) if branch.saved > branch.filmed]
    for i in grown:
        _video(session, shelf, i, f"{name}-{i}.mp4")
        session.branches[i].filmed = session.branches[i].saved
    return {"episodes": len(parts), "steps": sum(part.last - part.first for part in parts), "videos": len(grown)}


def _parts(session: Session, number: int, branch: Branch) -> Iterator[_Part]:
    """Cuts what is new of a branch into episodes: where the way of speaking changes, and where one gets long."""
    first = branch.fork + branch.saved - 1  # the last moment that lies in the dataset, or where the branch began
    first, end = max(0, first), len(branch)
    speeches = [session.moment(at, number).speech for at in range(first + 1, end)]
    start = first
    for at in range(first + 1, end):
        last = at == end - 1
        if last or at - start == EPISODE or speeches[at - first] != speeches[at - first - 1]:
            yield _Part(number, start, at, speeches[at - first - 1])
            start = at


def _commit(session: Session, store: Store, part: _Part, name: str, provenance: Mapping[str, Any]) -> None:
    branch = session.branches[part.branch]
    told = {"session": name, "branch": branch.name, "parent": branch.parent, "first": part.first}
    id = f"{name}-{part.branch}-{part.first:05d}"
    store.append([_clip(session, part, store.schema)], {**provenance, **told}, [id])
    branch.saved = part.last + 1 - branch.fork


def _clip(session: Session, part: _Part, schema: Schema) -> Clip:
    moments = [session.moment(at, part.branch) for at in range(part.first, part.last + 1)]
    nothing = torch.zeros(schema.space.width)
    actions = [nothing if moment.action is None else moment.action for moment in moments[1:]]
    source = [RECORDED if moment.kind == KEY else MISSING for moment in moments[1:]]
    return Clip(
        frames=torch.stack([moment.frame for moment in moments])[None], actions=torch.stack(actions)[None],
        source=torch.tensor([source], dtype=torch.uint8), text=("",),
    )  # fmt: skip


def _video(session: Session, shelf: Shelf, number: int, name: str) -> None:
    """Writes all of a branch from its start as mp4, beside the real world where one ran along."""
    length = len(session.branches[number])
    paired = any(session.moment(at, number).real is not None for at in range(length))
    pictures = (_picture(session.moment(at, number), shelf.view, paired) for at in range(length))
    film.write(shelf.out / "videos" / name, pictures, shelf.fps)


def _picture(moment: Moment, view: View, paired: bool) -> Picture:
    dream = picture_of(moment.frame, view)
    if not paired:
        return film.beside(dream)
    return film.beside(dream, np.zeros_like(dream) if moment.real is None else picture_of(moment.real, view))
