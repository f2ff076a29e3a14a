"""One player's history: moments on disk, branches over them, and the states from which play can go on.

A moment is a frame and what led to it. Moments are numbered as they come and never change; a branch is a row of
moments that starts at the beginning or inside of another branch. Whoever goes back and does something else opens a
branch; nothing is lost. Memory is bounded: frames lie in a file without a name that ends with the process, and states
are kept for the latest moments only. From an older moment, the world is shown the frames that led there again.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from retrodict import tree
from retrodict.clip import Clip
from retrodict.errors import UnknownName, UnusableInput
from retrodict.roles import State

MOST_MOMENTS = 20_000  # of a session
MOST_BRANCHES = 64
MOST_STATES = 512  # kept in memory, and
STATE_BYTES = 64 << 20  # at most so many bytes of them, but for the last one
CONTEXT = 16  # frames that a world is shown to stand at an older moment
START, KEY, EDIT = 0, 1, 2  # what led to a moment: a start, an action, a person's brush
_HEADER = struct.Struct("<BBHII")  # kind, speech, columns of the action, bytes of the frame and of the real one

Frame = UInt8[Tensor, "c h w"]


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame, and what led to it from the moment before: an action in a way of speaking, or none.

    `real` is what the real world showed at the same time, where one ran along.
    """

    kind: int
    speech: int
    frame: Frame
    action: Float[Tensor, "d"] | None = None
    real: Frame | None = None


class Spool:
    """Moments in a temporary file, by number; nothing is ever rewritten."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="retrodict-play-")  # noqa: SIM115 - open as long as the session
        self._starts = array("Q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, moment: Moment) -> int:
        """Writes a moment and returns its number."""
        frame = zlib.compress(moment.frame.contiguous().numpy().tobytes(), 1)
        real = b"" if moment.real is None else zlib.compress(moment.real.contiguous().numpy().tobytes(), 1)
        action = b"" if moment.action is None else moment.action.numpy().astype("<f4").tobytes()
        head = _HEADER.pack(moment.kind, moment.speech, len(action) // 4, len(frame), len(real))
        self._file.seek(self._end)
        self._file.write(head + action + frame + real)
        self._starts.append(self._end)
        self._end += len(head) + len(action) + len(frame) + len(real)
        return len(self._starts) - 1

    def read(self, number: int, shape: tuple[int, int, int]) -> Moment:
        """Returns a moment, whose frames have this shape."""
        self._file.seek(self._starts[number])
        kind, speech, columns, size, real = _HEADER.unpack(self._file.read(_HEADER.size))
        action = np.frombuffer(self._file.read(4 * columns), "<f4").astype(np.float32)
        frames = [self._frame(size, shape), self._frame(real, shape) if real else None]
        assert frames[0] is not None, "every moment has a frame"
        return Moment(kind, speech, frames[0], torch.from_numpy(action) if columns else None, frames[1])

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def _frame(self, size: int, shape: tuple[int, int, int]) -> Frame:
        flat = np.frombuffer(zlib.decompress(self._file.read(size)), np.uint8)
        return torch.from_numpy(flat.reshape(shape).copy())


@dataclass(slots=True)
class Branch:
    """A row of moments: the first `fork` of its parent's, then its own.

    `saved` of its own lie in the dataset, and its video shows `filmed` of those.
    """

    name: str
    parent: int | None = None
    fork: int = 0
    own: array[int] = field(default_factory=lambda: array("I"))
    saved: int = 0
    filmed: int = 0

    def __len__(self) -> int:
        return self.fork + len(self.own)


class Session:
    """One player's moments and branches, and where the player stands: moment `at` of branch `branch`."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape, self.spool = shape, Spool()
        self.branches: list[Branch] = []
        self.branch, self.at = 0, 0
        self._states: OrderedDict[int, State] = OrderedDict()
        self._bytes = 0

    def close(self) -> None:
        """Frees the file and the states."""
        self.spool.close()
        self._states.clear()

    def start(self, frame: Frame, state: State, real: Frame | None = None, speech: int = 0) -> None:
        """Opens a branch that begins at a frame.

        Raises:
            UnusableInput: there is no room for another branch, or moment.
        """
        self._room(branch=True)
        self.branches.append(Branch(f"start {len([b for b in self.branches if b.parent is None]) + 1}"))
        self.branch = len(self.branches) - 1
        self._append(Moment(START, speech, frame, None, real), state)

    def add(self, moment: Moment, state: State) -> bool:
        """Goes on from where the player stands; from within a branch, by a new one. True where one was opened.

        Raises:
            UnusableInput: there is no room for another branch, or moment.
        """
        within = self.at < len(self.here) - 1
        self._room(branch=within)
        if within:
            self.branches.append(Branch(f"branch {len(self.branches) + 1}", self.branch, self.at + 1))
            self.branch = len(self.branches) - 1
        self._append(moment, state)
        return within

    @property
    def here(self) -> Branch:
        """The branch on which the player stands."""
        return self.branches[self.branch]

    def stand(self, branch: int, at: int) -> None:
        """Moves the player to a moment.

        Raises:
            UnknownName: no such branch. UnusableInput: the branch has no such moment.
        """
        self.known(branch)
        if not 0 <= at < len(self.branches[branch]):
            raise UnusableInput(f"the branch has moments 0..{len(self.branches[branch]) - 1}; got {at}")
        self.branch, self.at = branch, at

    def known(self, branch: int) -> Branch:
        """Returns a branch by its number, or raises UnknownName."""
        if not 0 <= branch < len(self.branches):
            raise UnknownName("branch", str(branch), [str(i) for i in range(len(self.branches))])
        return self.branches[branch]

    def number(self, branch: int, at: int) -> int:
        """Returns the number of a branch's moment."""
        place = self.branches[branch]
        while at < place.fork:
            assert place.parent is not None, "a branch without a parent shares nothing"
            place = self.branches[place.parent]
        return place.own[at - place.fork]

    def moment(self, at: int | None = None, branch: int | None = None) -> Moment:
        """Returns a moment of a branch; where the player stands by default."""
        number = self.number(self.branch if branch is None else branch, self.at if at is None else at)
        return self.spool.read(number, self.shape)

    def state(self) -> State | None:
        """Returns the state in which the player stands, where it is still kept."""
        return self._states.get(self.number(self.branch, self.at))

    def keep(self, state: State) -> None:
        """Keeps a state of where the player stands, at the price of the oldest ones."""
        number = self.number(self.branch, self.at)
        self._bytes += _size(state) - _size(self._states.pop(number, None))
        self._states[number] = state
        while len(self._states) > MOST_STATES or (self._bytes > STATE_BYTES and len(self._states) > 1):
            self._bytes -= _size(self._states.popitem(last=False)[1])

    def past(self, most: int, *, actions: bool = True) -> Clip:
        """Returns the last frames up to where the player stands, and the actions between them, as one row.

        No further back than `most` frames, the last start or edit, and, with `actions`, the last change of the way of
        speaking: so every step has an action, and all are of one kind.
        """
        moments = [self.moment()]
        while moments[0].kind == KEY and len(moments) < most:
            moments.insert(0, self.moment(self.at - len(moments)))
            if actions and moments[0].kind == KEY and moments[0].speech != moments[1].speech:
                break  # what led to this frame is told in another way
        frames = torch.stack([moment.frame for moment in moments])[None]
        taken = [moment.action for moment in moments[1:] if moment.action is not None]
        return Clip(frames=frames, actions=torch.stack(taken)[None] if actions and taken else None)

    def _append(self, moment: Moment, state: State) -> None:
        self.here.own.append(self.spool.add(moment))
        self.at = len(self.here) - 1
        self.keep(state)

    def _room(self, branch: bool) -> None:
        if len(self.spool) >= MOST_MOMENTS:
            raise UnusableInput(
                f"this session holds {MOST_MOMENTS:,} frames, its most: save it, and open another page beside this one"
            )
        if branch and len(self.branches) >= MOST_BRANCHES:
            raise UnusableInput(
                f"this session has {MOST_BRANCHES} branches, its most: save it, and open another page beside this one"
            )


def _size(state: State | None) -> int:
    return sum(part.numel() * part.element_size() for part in tree.flatten(state).values())
