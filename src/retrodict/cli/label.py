"""retrodict label: the front door. Videos and few labels in; a dataset, a verdict and the next commands out."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction, arg

from retrodict.cli.dataset import Importing
from retrodict.cli.settings import seconds, size, with_settings
from retrodict.cli.train import Shares, Size, load
from retrodict.cli.verb import DONE, NOT_USABLE, REFUSED

if TYPE_CHECKING:
    from retrodict.label.job import LabelReport
    from retrodict.roles import System
    from retrodict.run.run import Run


@dataclass(frozen=True, kw_only=True)
class Label(Importing):
    """Labels videos from a few labels (or with a trained run), and writes a LeRobot dataset.

    Everything but the dataset is kept in OUT.run, so that the same command goes on where an earlier one stopped.
    """

    with_run: Annotated[Path | None, arg(name="with")] = None
    """Folder of a trained run to label with; labels given beside it measure it."""
    recipe: str = "auto"
    """Recipe to train when there is no run."""
    size: Size = "tiny"
    """Preset of the recipe."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """A setting of the recipe, such as --set fit.steps=200; may be repeated."""
    budget: str = ""
    """Longest training time, such as 60m; each stage may take a third of what is left."""
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

    def run(self, line: str) -> int:
        """Labels; exit code 4 when some files were refused, 3 when strict and not usable."""
        from retrodict.label.job import Job, label
        from retrodict.run.log import Log

        seen = size(self.frame_size)
        job = Job(
            videos=self.videos, out=self.out, labels=self.labels, schema=self.schema, run=self.with_run,
            clock=self.label_clock, cameras=self.camera, join=self.join, kind=self.format, fps=self.fps,
            fit=size(self.fit), seen=seen and (seen[1], seen[0]), precision=self.precision, keep_all=self.keep_all,
            strict=self.strict, seed=self.seed, cache_gb=self.cache_gb,
        )  # fmt: skip
        train = None if self.with_run else self._training()
        report = label(job, train, Log(quiet=self.json), resume=line)
        self.tell(
            {"dataset": str(self.out), "run": str(job.folder), **report.to_json()}, told(self.out, job.folder, report)
        )
        if self.strict and not report.verdict.usable:
            return NOT_USABLE
        return REFUSED if report.refused else DONE

    def _training(self) -> Callable[[Run], System]:
        name, recipe = load(self.recipe)
        config = with_settings(getattr(recipe, self.size)(), self.set)
        budget = seconds(self.budget)

        def train(run: Run) -> System:
            from dataclasses import replace

            if budget:
                run.seconds = Shares(budget)
            system: System = recipe.train(config, run)
            return replace(system, about={**system.about, "recipe": name, "size": self.size, "set": list(self.set)})

        return train


def told(out: Path, folder: Path, report: LabelReport) -> list[str]:
    """The result in words, and what to do next."""
    lines = [f"refused: {fate.file}: {fate.reason}" for fate in report.refused]
    lines.append(f"{report.frames} frames in {len(report.files) - len(report.refused)} files")
    lines.append("steps: " + ", ".join(f"{count} {name}" for name, count in report.steps.items() if count))
    shares = "  ".join(f"{i / 10:.1f}+: {count}" for i, count in enumerate(report.histogram) if count)
    lines.append(f"labels by confidence: {shares}")
    lines.append(f"verdict: {report.verdict.word}. {report.verdict.reason}")
    if report.written is None:
        return [*lines, f"nothing was written to {out}; the labels and their confidence are in {folder}/labels"]
    written = f"{out}: {report.written.episodes} episodes, {report.written.rows} rows"
    if report.verdict.word == "not actions":
        return [
            *lines,
            f"{written}, not to train on (see {folder}/report.json). More labels, or labels of something that can be "
            "seen, may help: name another --out then",
        ]
    place, name = shlex.quote(str(out)), shlex.quote(f"local/{out.name}")
    return [
        *lines,
        f"{written} to train on (see {folder}/report.json)",
        f"next: retrodict train bc --data {place} --out runs/bc",
        f"      lerobot-train --dataset.repo_id={name} --dataset.root={place} --policy.type=act "
        "--policy.push_to_hub=false",
    ]
