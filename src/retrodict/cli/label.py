"""retrodict label: the front door. Videos and few labels in; a dataset, a verdict and the next commands out."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import UseAppendAction, arg

from retrodict.cli.dataset import Importing
from retrodict.cli.settings import size
from retrodict.cli.train import training
from retrodict.cli.verb import DONE, NOT_USABLE, REFUSED, Loading

if TYPE_CHECKING:
    from retrodict.label.job import LabelReport


@dataclass(frozen=True, kw_only=True)
class Label(Importing, Loading):
    """Labels videos from a few labels (or with a trained run), and writes a LeRobot dataset.

    Everything but the dataset is kept in OUT.run, so that the same command goes on where an earlier one stopped.
    """

    with_run: Annotated[Path | None, arg(name="with")] = None
    """Folder of a trained run to label with; labels given beside it measure it."""
    recipe: str = "auto"
    """Recipe to train when there is no run; auto compares several on the labels, and keeps the best."""
    size: str = "tiny"
    """Preset of the recipe."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """A setting of the recipe, such as --set fit.steps=200; may be repeated."""
    budget: str = ""
    """Longest training time, such as 60m (auto: 30m); each stage may take a third of what is left."""
    frame_size: str = ""
    """Let the model see frames of WIDTHxHEIGHT pixels (default: as stored, larger than 128 about 64 high)."""
    precision: float = 0.8
    """Share of labels that should be right; where it is not reached, unsure steps are left out."""
    keep_all: bool = False
    """Write every row, also those without an action to train on."""
    strict: bool = False
    """Write nothing, and exit with code 3, unless the verdict is that the labels are usable."""
    seed: int = 0
    """Seed of the weights and the batches."""
    cache_gb: float = 20.0
    """Most disk space for the cache of frames, in GB."""
    engine: Literal["torch", "onnx"] = "torch"
    """What runs the model while it labels; onnx (extra `onnx`) is the faster one on most processors."""

    def run(self, line: str) -> int:
        """Labels; exit code 4 when some files were refused, 3 when strict and not usable."""
        from retrodict.label.job import Job, label
        from retrodict.report import health_page
        from retrodict.run.log import Log

        seen = size(self.frame_size)
        self.admit()
        job = Job(
            videos=self.videos, out=self.out, labels=self.labels, schema=self.schema, run=self.with_run,
            clock=self.label_clock, cameras=self.camera, join=self.join, kind=self.format, fps=self.fps,
            fit=size(self.fit), seen=seen and (seen[1], seen[0]), precision=self.precision, keep_all=self.keep_all,
            strict=self.strict, seed=self.seed, cache_gb=self.cache_gb, engine=self.engine,
        )  # fmt: skip
        train = None if self.with_run else training(self.recipe, self.size, self.set, self.budget)[0]
        report = label(job, train, Log(quiet=self.json), resume=line)
        health_page.write(job.folder / "report.html", report.health)
        lines = told(self.out, job.folder, report, self.keep_all)
        self.tell({"dataset": str(self.out), "run": str(job.folder), **report.to_json()}, lines)
        if self.strict and not report.verdict.usable:
            return NOT_USABLE
        return REFUSED if report.refused else DONE


def told(out: Path, folder: Path, report: LabelReport, keep_all: bool = False) -> list[str]:
    """The result in words, and what to do next."""
    from retrodict.label.health import words

    lines = [f"refused: {fate.file}: {fate.reason}" for fate in report.refused]
    lines.append(f"{report.frames} frames in {len(report.files) - len(report.refused)} files")
    lines.append("steps: " + ", ".join(f"{count} {name}" for name, count in report.steps.items() if count))
    if report.foreign:
        lines.append(f"foreign: {report.foreign} steps look unlike the video that the model was trained on")
    shares = "  ".join(f"{i / 10:.1f}+: {count}" for i, count in enumerate(report.histogram) if count)
    lines.append(f"labels by confidence: {shares}")
    lines += words(report.health)[:-1] if report.health else []
    lines.append(f"verdict: {report.verdict.word}. {report.verdict.reason}")
    if report.written is None:
        return [*lines, f"nothing was written to {out}; the labels and their confidence are in {folder}/labels"]
    written = f"{out}: {report.written.episodes} episodes, {report.written.rows} rows"
    if report.verdict.word == "not actions":
        return [
            *lines,
            f"{written}, not to train on (see {folder}/report.html). More labels, or labels of something that can be "
            "seen, may help: name another --out then",
        ]
    place, name, trained = (shlex.quote(text) for text in (str(out), f"local/{out.name}", f"{out}.bc"))
    lines += [
        f"{written} to train on (see {folder}/report.html)",
        f"next: retrodict train bc --data {place} --out {trained}",
    ]
    if keep_all:  # LeRobot would learn from rows without an action as well
        place, name = shlex.quote(f"{out}.training"), shlex.quote(f"local/{out.name}.training")
        lines.append(f"      retrodict data export {shlex.quote(str(out))} --for training --out {place}")
    return [
        *lines,
        f"      lerobot-train --dataset.repo_id={name} --dataset.root={place} --policy.type=act "
        "--policy.push_to_hub=false",
    ]
