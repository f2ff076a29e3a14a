"""retrodict measure: how good a run's labels are, on recorded actions of another dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Loading
from retrodict.errors import Incompatible, UnusableInput


@dataclass(frozen=True, kw_only=True)
class Measure(Loading):
    """Measures a run's labels against recorded actions, beside always saying the commonest action."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder of the run."""
    data: Path
    """Dataset with recorded actions that the run has not seen."""
    episodes: int = 0
    """Only the first so many episodes (0: all)."""

    def run(self, line: str) -> int:
        """Infers every step, compares where an action was recorded."""
        from retrodict.data.foreign import open_dataset
        from retrodict.label.infer import recorded_answers
        from retrodict.label.scores import SEEN, scores
        from retrodict.run.checkpoint import load_system

        if self.episodes < 0:
            raise UnusableInput(f"--episodes must be 1 or more, or 0 for all; got {self.episodes}")
        self.admit()
        system = load_system(self.folder)
        inverse = system.decoded().inverse
        if inverse is None:
            raise UnusableInput(f"{self.folder} has no inverse model; score its policy with retrodict act")
        source = open_dataset(self.data)
        if source.schema.space != inverse.space:
            raise Incompatible(f"the run speaks {inverse.space.columns}; the dataset {source.schema.space.columns}")
        belief, truth = recorded_answers(inverse, source, source.ids[: self.episodes or None])
        seen = dict(system.about.get("data", {})).get("source") == source.digest
        told = {"run": str(self.folder), "data": str(self.data), "seen_in_training": seen, **scores(belief, truth)}
        lines = [f"{name:28}  {_plain(value)}" for name, value in told.items() if not isinstance(value, list | dict)]
        lines += [f"recall of {name:18}  {_plain(value)}" for name, value in told.get("recall", {}).items()]
        if hidden := told.get("hardly_seen"):
            lines.append(f"The frames hardly show {', '.join(hidden)}: R² below {SEEN}. Another camera may.")
        if seen:
            lines.append("This run was trained on this dataset: the figures say nothing about other video.")
        self.tell(told, lines)
        return DONE


def _plain(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
