"""retrodict data: looks at, checks, imports and exports datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from retrodict.cli.settings import size
from retrodict.cli.verb import DONE, NOT_USABLE, REFUSED, UNUSABLE, Telling, table
from retrodict.errors import UnusableInput

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


def _whole(hashed: bool) -> str:
    if hashed:
        return "whole: every byte is the one that was written"
    return "readable: every episode is what its metadata says; there are no hashes that would tell a changed byte"


@dataclass(frozen=True, kw_only=True)
class Check(Telling):
    """Reads every byte of a dataset again, and tells how healthy it is; a damaged file is named, with exit code 2.

    Health is whether its actions belong to its frames, and what is wrong with its clock, frames and labels. Of a
    folder of videos, it tells hours, sizes, cuts, refused files, and what importing and labelling will cost.
    """

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """The dataset, or a folder of videos."""
    with_run: Annotated[Path | None, arg(name="with")] = None
    """Folder of a run to examine beside the dataset: its confidence, or what its codes look like."""
    html: Path | None = None
    """Write the report of a dataset as one HTML file as well."""
    precision: float = 0.8
    """Share of a dataset's actions that should be readable from its frames, to be called usable."""
    strict: bool = False
    """Exit with code 3 unless the verdict is that a dataset's actions are usable."""

    def run(self, line: str) -> int:
        """Checks and examines a dataset; of a folder of videos, tells what labelling it will cost."""
        from retrodict.data.foreign import open_dataset
        from retrodict.data.importers import DATASET
        from retrodict.data.store import SCHEMA_FILE
        from retrodict.label.health import examine, words
        from retrodict.label.verdict import HELD_OUT
        from retrodict.report import health_page
        from retrodict.run.checkpoint import load_system
        from retrodict.run.log import Log

        if not 0 < self.precision < 1:
            raise UnusableInput(f"--precision must lie between 0 and 1; got {self.precision}")
        if self.folder.is_dir() and not any((self.folder / name).is_file() for name in (DATASET, SCHEMA_FILE)):
            return self._survey()
        source, log = open_dataset(self.folder), Log(quiet=self.json)
        system = None if self.with_run is None else load_system(self.with_run)
        about: Mapping[str, Any] = {} if system is None else system.about
        own = dict(about.get("data", {})).get("source") == source.digest  # its evidence is about this very dataset
        evidence = about.get(HELD_OUT) if own else None
        health = examine(source, self.folder, system, evidence, self.precision, say=log.say)
        told = health.to_json()
        if self.html is not None:
            health_page.write(self.html, told)
        lines = [f"{name:13}  {_plain(value)}" for name, value in health.checked.items() if name != "problems"]
        self.tell(told, [*lines, *words(told), *(told["problems"] or [_whole(told["hashed"])])])
        if told["problems"]:
            return UNUSABLE
        return NOT_USABLE if self.strict and not health.verdict.usable else DONE

    def _survey(self) -> int:
        from retrodict.label import survey

        if self.html or self.strict or self.with_run:
            raise UnusableInput(
                f"--with, --html and --strict are of a dataset; {self.folder} is a folder of videos: import it"
            )
        report = survey.survey(self.folder)
        self.tell(report, survey.told(report))
        return REFUSED if report["refused"] else DONE


@dataclass(frozen=True, kw_only=True)
class Importing(Telling):
    """A verb that imports."""

    videos: Annotated[Path, Positional, arg(metavar="VIDEOS")]
    """Folder of videos at any depth, of VPT's recordings, npz chunks or HDF5 files, or of a LeRobot dataset."""
    out: Path
    """Folder of the dataset."""
    labels: Path | None = None
    """CSV, JSONL or Parquet file with the columns file, frame (or time, in seconds), action."""
    schema: Path | None = None
    """Action schema (JSON); without one, what actions are is inferred, told, and written to OUT.actions.json."""
    label_clock: Literal["video", "own"] = "video"
    """Whose clock the times of labels are on; a clock of their own is matched to the video's, within 10 s."""
    camera: UseAppendAction[tuple[str, ...]] = ()
    """NAME=FOLDER, where the videos of one camera lie inside VIDEOS, or the name of a dataset's camera; repeatable."""
    join: bool = False
    """Take files NAME_01, NAME_02 for chapters of one recording, as GoPro's are in any case."""
    format: str = ""
    """What to take where several lie together: videos, vpt, lerobot, npz or hdf5."""
    fps: int | None = None
    """Resample to this many frames per second; npz and HDF5 need it, as they do not say."""
    fit: str = ""
    """Resize to WIDTHxHEIGHT pixels while importing."""


@dataclass(frozen=True, kw_only=True)
class Import(Importing):
    """Imports videos (with a file of labels, if there is one) or another dataset; tells each file's fate."""

    def run(self, line: str) -> int:
        """Imports; exit code 4 when some files were refused."""
        from retrodict.data.action_schema import keep_schema, read_schema, schema_json
        from retrodict.data.importers import KINDS, Intake, import_data

        given = None if self.schema is None else read_schema(self.schema)
        done = import_data(self.videos, self.out, Intake(
            labels=self.labels, clock=self.label_clock, space=given, fps=self.fps, fit=size(self.fit),
            cameras=self.camera, join=self.join, kind=self.format,
        ))  # fmt: skip
        space = done.store.schema.space
        told = {
            "dataset": str(self.out), "format": done.kind, **counts(done.store), "actions": schema_json(space),
            "files": [asdict(fate) for fate in done.fates],
        }  # fmt: skip
        self.tell(told, [
            f"{self.videos}: {KINDS[done.kind]}",
            *table(told["files"], ("file", "what", "reason")),
            *(keep_schema(space, self.out) if done.inferred else ()),
            f"{self.out}: {told['episodes']} episodes, {told['frames']} frames",
        ])  # fmt: skip
        return REFUSED if any(fate.what == "refused" for fate in done.fates) else DONE


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
