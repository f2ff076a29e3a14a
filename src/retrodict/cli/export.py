"""retrodict export: a run's models as files that run without retrodict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Loading
from retrodict.errors import UnusableInput


@dataclass(frozen=True, kw_only=True)
class ExportRun(Loading):
    """Writes a run's policy and inverse model as ONNX, with a card; refuses when ONNX Runtime answers otherwise."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder of the run."""
    out: Path
    """Folder of the files."""
    to: Literal["onnx"] = "onnx"
    """Format (extra `onnx`)."""

    def run(self, line: str) -> int:
        """Exports, and tells by how much the answers differ from torch's."""
        from retrodict.run.checkpoint import load_system, system_hash
        from retrodict.run.onnx_file import TOLERANCE, export_onnx

        self.admit()
        system = load_system(self.folder).decoded()
        roles = {name: part for name in ("policy", "inverse") if (part := getattr(system, name)) is not None}
        if not roles:
            raise UnusableInput(f"{self.folder} has neither a policy nor an inverse model to export")
        card = export_onnx(roles, self.out, {"system": system_hash(self.folder)})
        told = {name: {"file": str(self.out / card[name]["file"]), **card[name]} for name in roles}
        lines = [
            f"{entry['file']}: largest difference to torch {entry['largest_difference']:.1e} (allowed {TOLERANCE:g})"
            for entry in told.values()
        ]
        self.tell({"out": str(self.out), **told}, [*lines, f"{self.out}/card.json says what goes in and comes out"])
        return DONE
