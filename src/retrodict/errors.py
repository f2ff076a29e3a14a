"""Everything that retrodict raises on purpose, as one tree.

    RetrodictError                 the root; the command line turns it into one message
    ├── UnusableInput              what the caller gave cannot be used (exit code 2, nothing written)
    │   ├── UnknownName            a name that does not exist; lists the nearest ones
    │   ├── Incompatible           two roles that cannot be joined, with the reason
    │   ├── Undecodable            a video that cannot be decoded, with the reason
    │   ├── MissingPackage         an optional package is absent, with the line that installs it
    │   └── StaleStage             a finished stage belongs to other settings, data or upstream stages
    ├── Damaged                    a file's bytes are not the ones that were committed
    ├── Locked                     another process writes to this store or run
    ├── NonFinite                  a NaN or an infinity, stopped before it reached the weights
    ├── NoFrames                   this world cannot decode its states to frames
    ├── NoLikelihood               this world cannot score a given next frame
    └── Interrupted                SIGTERM or SIGINT: state is committed and the run resumes

A message says what was expected, what was met (file, episode, step, value) and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class RetrodictError(Exception):
    """Root of all errors raised on purpose."""


class UnusableInput(RetrodictError):
    """What the caller gave cannot be used; nothing was written."""


class UnknownName(UnusableInput):
    """A name that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(known) or 'none'}."
        super().__init__(f"there is no {kind} named {name!r}. {hint}")


class Incompatible(UnusableInput):
    """Two roles that cannot be joined; the message is the reason."""


class Undecodable(UnusableInput):
    """A video that cannot be decoded."""

    def __init__(self, file: Path | str, why: str) -> None:
        self.file, self.why = Path(file), why
        super().__init__(f"{file} cannot be decoded: {why}")


class MissingPackage(UnusableInput):
    """An optional package is absent."""

    def __init__(self, package: str, purpose: str, install: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed. Install it with: {install}")


class StaleStage(UnusableInput):
    """A finished stage was made with other settings, data or upstream stages than are asked for now."""


class Damaged(RetrodictError):
    """A file's bytes are not the ones that were committed."""

    def __init__(self, file: Path | str, expected: str, found: str) -> None:
        self.file = Path(file)
        super().__init__(
            f"{file} is damaged: expected {expected}, found {found}. "
            "Restore the file from a copy, or remove the dataset or run it belongs to and make it again."
        )


class Locked(RetrodictError):
    """Another process writes to this store or run."""

    def __init__(self, path: Path | str, owner: str) -> None:
        super().__init__(
            f"{path} is being written by process {owner}. Wait for it to finish, or stop it, then try again."
        )


class NonFinite(RetrodictError):
    """A NaN or an infinity, stopped before it reached the weights."""

    def __init__(self, tensor: str, step: int, episodes: Iterable[str] = ()) -> None:
        self.tensor, self.step, self.episodes = tensor, step, tuple(episodes)
        where = f", episodes {', '.join(self.episodes)}" if self.episodes else ""
        super().__init__(
            f"{tensor} is not finite at step {step}{where}. The weights were left as they were before this step; "
            "look at those episodes, or lower the learning rate."
        )


class NoFrames(RetrodictError):
    """This world cannot decode its states to frames."""


class NoLikelihood(RetrodictError):
    """This world cannot score a given next frame."""


class Interrupted(RetrodictError):
    """SIGTERM or SIGINT arrived; the state is committed and the run resumes from it."""

    def __init__(self, signal_name: str, what: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"{signal_name}: {what}")
