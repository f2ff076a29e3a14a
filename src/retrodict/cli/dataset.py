"""retrodict data: looks at, checks, imports and exports datasets."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from retrodict.cli.settings import size
from retrodict.cli.verb import DONE, REFUSED, UNUSABLE, Telling, table

if TYPE_CHECKING:
    from retrodict.data.schema import Episodes


def counts(source: Episodes) -> dict[str, Any]:
    """Counts episodes, frames and steps, and the steps by what is known of their action."""
    from retrodict.clip import SOURCES

    steps: Counter[str] = Counter()
    for id in source.ids:
        known = source.read(id, frames=False).source
        if known is not None:
            steps.update(SOURCES[value] for value in known.flatten().tolist())
    frames = sum(source.lengths.values())
    return {"episodes": len(source.ids), "frames": frames, "steps": {name: steps[name] for name in SOURCES}}


@dataclass(frozen=True, kw_only=True)
class Info(Telling):
    """Tells what a dataset holds."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """The dataset: ours, or any LeRobot v3.0 or v2.1 folder."""

    def run(self, line: str) -> int:
        """Tells the schema and the counts."""
        from retrodict.data.foreign import open_dataset

        source = open_dataset(self.folder)
        schema = source.schema
        told = {
            "dataset": str(self.folder), **counts(source), "fps": schema.fps,
            "stored_as": "video" if schema.video else "images",
            "cameras": {name: list(shape) for name, shape in schema.cameras.items()},
            "actions": [{"name": s.name, "kind": s.kind, "values": list(s.values)} for s in schema.space.segments],
            "digest": source.digest,
        }  # fmt: skip
        lines = [f"{name:9}  {_plain(value)}" for name, value in told.items() if name != "digest"]
        self.tell(told, lines)
        return DONE


@dataclass(frozen=True, kw_only=True)
class Check(Telling):
    """Reads every byte of a dataset again and checks it; a damaged file is named, with exit code 2."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """The dataset."""

    def run(self, line: str) -> int:
        """Checks hashes, metadata and counts."""
        from retrodict.data.check import check

        told = check(self.folder)
        lines = [f"{name:13}  {_plain(value)}" for name, value in told.items() if name != "problems"]
        self.tell(told, [*lines, *(told["problems"] or ["whole: every byte is the one that was committed"])])
        return UNUSABLE if told["problems"] else DONE


@dataclass(frozen=True, kw_only=True)
class Import(Telling):
    """Imports a folder of videos (with a CSV of labels, if there is one) as a dataset; tells each file's fate."""

    videos: Annotated[Path, Positional, arg(metavar="VIDEOS")]
    """Folder with mp4, mkv, webm, avi or mov files, at any depth."""
    out: Path
    """Folder of the dataset."""
    labels: Path | None = None
    """CSV file with the columns file, frame (or time, in seconds), action."""
    fps: int | None = None
    """Resample to this many frames per second."""
    fit: str = ""
    """Resize to WIDTHxHEIGHT pixels."""

    def run(self, line: str) -> int:
        """Imports; exit code 4 when some files were refused."""
        from retrodict.data.importers import import_videos

        store, fates = import_videos(self.videos, self.out, labels=self.labels, fps=self.fps, fit=size(self.fit))
        told = {"dataset": str(self.out), **counts(store), "files": [asdict(fate) for fate in fates]}
        self.tell(told, [
            *table(told["files"], ("file", "what", "reason")),
            f"{self.out}: {told['episodes']} episodes, {told['frames']} frames",
        ])  # fmt: skip
        return REFUSED if any(fate.what == "refused" for fate in fates) else DONE


@dataclass(frozen=True, kw_only=True)
class Export(Telling):
    """Writes the trainable spans of a dataset as episodes of a new one, for tools that train on every row."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """The dataset."""
    out: Path
    """Folder of the new dataset."""
    purpose: Annotated[Literal["training"], arg(name="for")] = "training"
    """What it is for: training, by tools that train on every row."""
    keep_all: bool = False
    """Keep every row, also those without an action to train on."""
    format: Literal["lerobot", "gr00t", "hdf5", "npz"] = "lerobot"
    """LeRobot v3.0; v2.1 as GR00T reads it; robomimic's HDF5 (extra `h5`); npz, a file an episode."""

    def run(self, line: str) -> int:
        """Exports, and tells how many actions that leaves."""
        from retrodict.data.export import export
        from retrodict.data.foreign import open_dataset

        told = asdict(export(open_dataset(self.folder), self.out, keep_all=self.keep_all, format=self.format))
        self.tell({"dataset": str(self.out), **told}, [f"{self.out}: {_plain(told)}"])
        return DONE


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "; ".join(map(_plain, value))
    return str(value)
