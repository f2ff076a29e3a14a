"""retrodict data convert-checkpoint: weights that others published, as a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Telling
from retrodict.errors import UnusableInput

if TYPE_CHECKING:
    from retrodict.roles import System


def _tdmpc2(file: Path) -> System:
    from retrodict.data.foreign_weights import read_weights
    from retrodict.recipes import tdmpc2

    return tdmpc2.published(read_weights(file), file.name)


def _world_models(folder: Path) -> System:
    from retrodict.models.world_models_json import world_models_json

    return world_models_json(folder)


# how each is read
KINDS: dict[str, Callable[[Path], System]] = {"tdmpc2": _tdmpc2, "world_models": _world_models}


@dataclass(frozen=True, kw_only=True)
class Convert(Telling):
    """Turns weights that others published into a run that acts, plans and is measured; no code of theirs is run."""

    kind: Annotated[Literal["tdmpc2", "world_models"], Positional, arg(metavar="KIND")]
    """The system that they are of: tdmpc2 or world_models."""
    file: Annotated[Path, Positional, arg(metavar="FILE")]
    """The published file; of world_models the folder."""
    out: Path
    """Folder of the run."""

    def run(self, line: str) -> int:
        """Reads, converts and writes."""
        from retrodict.run.checkpoint import save_system

        if self.out.exists() and any(self.out.iterdir()):
            raise UnusableInput(f"{self.out} is not empty; name a new folder for the run")
        system = KINDS[self.kind](self.file)
        save_system(self.out / "system", system)
        parts = sorted(system.parts())
        told = {"run": str(self.out), "kind": self.kind, "from": str(self.file), "parts": parts}
        self.tell(told, [f"{self.out}: a run of {self.kind} with {', '.join(parts)}, of {self.file}"])
        return DONE
