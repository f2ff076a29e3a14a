"""What every verb of the command line has in common: flags, a way to run, and how it shows a result."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

DONE, UNUSABLE, NOT_USABLE, REFUSED = 0, 2, 3, 4  # exit codes; an interrupt adds 130 (SIGINT) and 143 (SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Verb(ABC):
    """One verb: its fields are its flags, and `run` does it."""

    threads: int = 0
    """Threads of one operation (0: as torch chooses)."""

    @abstractmethod
    def run(self, line: str) -> int:
        """Does it and returns the exit code; `line` is the command as it was typed, to name in messages."""


@dataclass(frozen=True, kw_only=True)
class Telling(Verb):
    """A verb with a result."""

    json: bool = False
    """Print the result as one JSON value on stdout, for machines."""

    def tell(self, value: Any, lines: Sequence[str]) -> None:
        """Prints the result: the JSON value where it was asked for, else the lines."""
        print(json.dumps(value, indent=1, allow_nan=False) if self.json else "\n".join(lines), flush=True)


@dataclass(frozen=True, kw_only=True)
class Loading(Telling):
    """A verb that loads a run."""

    code: Path | None = None
    """Recipe file by which the run was trained, where the parts are the file's own; its code is run."""

    def admit(self) -> None:
        """Runs the code of `--code`, so that a run may ask for its parts."""
        if self.code is not None:
            load(str(self.code))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Lays rows out as aligned columns with a heading; an absent value is a dash."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    lines = [[column.replace("_", " ") for column in columns], *cells]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def load(recipe: str) -> tuple[str, ModuleType]:
    """Returns a recipe's name and module; a file's code is run."""
    from retrodict.check import load_recipe

    if Path(recipe).suffix == ".py":
        print(f"running the code in {recipe}", file=sys.stderr)
    return Path(recipe).stem, load_recipe(recipe)
