"""retrodict measure: how good a run's labels and its world are, on another dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Loading, table
from retrodict.errors import Incompatible, NoFrames, UnusableInput

if TYPE_CHECKING:
    from retrodict.data.schema import Episodes
    from retrodict.roles import System

PAGE = "measure.html"


@dataclass(frozen=True, kw_only=True)
class Measure(Loading):
    """Measures a run's labels against recorded actions, beside always saying the commonest action, and its world.

    The world's figures are drawn as well, in FOLDER/measure.html.
    """

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder of the run."""
    data: Path
    """Dataset that the run has not seen; its labels are measured where it has recorded actions."""
    episodes: int = 0
    """Only the first so many episodes (0: all)."""

    def run(self, line: str) -> int:
        """Measures what the run has: an inverse model, a forward model, or both."""
        from retrodict.data.foreign import open_dataset
        from retrodict.run.checkpoint import load_system

        if self.episodes < 0:
            raise UnusableInput(f"--episodes must be 1 or more, or 0 for all; got {self.episodes}")
        self.admit()
        system = load_system(self.folder)
        if system.inverse is None and system.forward is None:
            raise UnusableInput(f"{self.folder} has no inverse model; score its policy with retrodict act")
        source = open_dataset(self.data)
        seen = dict(system.about.get("data", {})).get("source") == source.digest
        told: dict[str, Any] = {"run": str(self.folder), "data": str(self.data), "seen_in_training": seen}
        lines = self._labels(system, source, told)
        if system.forward is not None:
            lines += self._world(system, source, told)
        if seen:
            lines.append("This run was trained on this dataset: the figures say nothing about other video.")
        self.tell(told, lines)
        return DONE

    def _labels(self, system: System, source: Episodes, told: dict[str, Any]) -> list[str]:
        """Infers every step and compares where an action was recorded; nothing where only codes could be told."""
        from retrodict.label.infer import recorded_answers
        from retrodict.label.scores import SEEN, scores

        inverse = system.decoded().inverse
        if inverse is None or (system.forward is not None and inverse.space.latent):
            return [f"{name:28}  {value}" for name, value in told.items()]
        if source.schema.space != inverse.space:
            raise Incompatible(f"the run speaks {inverse.space.columns}; the dataset {source.schema.space.columns}")
        belief, truth = recorded_answers(inverse, source, source.ids[: self.episodes or None])
        told |= scores(belief, truth)
        lines = [f"{name:28}  {_plain(value)}" for name, value in told.items() if not isinstance(value, list | dict)]
        lines += [f"recall of {name:18}  {_plain(value)}" for name, value in told.get("recall", {}).items()]
        if hidden := told.get("hardly_seen"):
            lines.append(f"The frames hardly show {', '.join(hidden)}: R² below {SEEN}. Another camera may.")
        return lines

    def _world(self, system: System, source: Episodes, told: dict[str, Any]) -> list[str]:
        """Asks the world, and draws what it answers."""
        from retrodict.report import world_page
        from retrodict.world_figures import examined

        try:
            found, shown = examined(system, source, source.ids[: self.episodes or None])
        except NoFrames as reason:
            told["world"] = {"note": str(reason)}
            return [f"world                         not measured: {reason}"]
        told["world"] = found
        page = self.folder / PAGE
        world_page.write(page, str(self.folder), found, shown)
        return [*world_lines(found), f"drawn in                      {page}"]


def world_lines(found: Mapping[str, Any]) -> list[str]:
    """What was found of a world, as text: skill by step ahead, whether it obeys in words, and cycle consistency."""
    rows = [
        {"step ahead": a["x"], "skill": a["value"], "low": a["low"], "high": a["high"], "on what moves": b["value"],
         "PSNR": c["value"], "drift": d["value"]}
        for a, b, c, d in zip(*(found[key] for key in ("skill", "moving", "psnr", "drift")), strict=True)
    ]  # fmt: skip
    cycle = found["cycle"]
    told = cycle.get("note") or f"{_range(cycle)}, where {_plain(cycle['chance']['value'])} is chance"
    return [
        "",
        f"{found['windows']} windows of {found['episodes']} episodes; skill is 1 - error / error of the last frame",
        *table(rows, tuple(rows[0])),
        f"{'the world':28}  {found['word']}",
        f"{'error after other actions':28}  {_range(found['sensitivity'])} times that after the right ones",
        f"{'error after doing nothing':28}  {_range(found['still'])} times that after the right ones",
        f"{'delta PSNR, right - random':28}  {_range(found['delta_psnr'])} dB",
        f"{'cycle consistency':28}  {told}",
        *_outcome_lines(found),
    ]


def _outcome_lines(found: Mapping[str, Any]) -> list[str]:
    """How well rewards and ends are foretold, of a world that imagines them and a dataset that has them."""
    lines = []
    if rewards := found.get("rewards"):
        fit = "they are all equal" if rewards["r2"] is None else f"R² {_plain(rewards['r2'])}"
        lines.append(f"{'rewards foretold':28}  {fit}, bias {_plain(rewards['bias'])} (foretold - recorded)")
    if ends := found.get("ends"):
        fit = "every step or none ends" if ends["skill"] is None else f"skill {_plain(ends['skill'])}"
        rate = f"{_plain(ends['rate'])} of steps end an episode"
        lines.append(f"{'ends foretold':28}  {fit}, calibration error {_plain(ends['error'])}; {rate}")
    return lines


def _range(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return _plain(found["value"])
    return f"{_plain(found['value'])} [{_plain(found['low'])}, {_plain(found['high'])}]"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"  # a ratio has no upper end
    return str(value)
