"""retrodict recipes and check: what there is, what was measured, and whether it keeps the contract."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from retrodict.cli.verb import DONE, UNUSABLE, Telling, load, table
from retrodict.errors import Damaged, UnusableInput

if TYPE_CHECKING:
    from retrodict.figures.claims import Figure

_PACKAGE = Path(__file__).parents[1]
RESULTS = (_PACKAGE / "results", _PACKAGE.parents[1] / "results")  # in a wheel, in a checkout


@dataclass(frozen=True, kw_only=True)
class Recipes(Telling):
    """Lists the recipes with their paper, their status and their measured figures."""

    def run(self, line: str) -> int:
        """Lists them."""
        from retrodict.check import recipes

        told = [described(name) for name in recipes()]
        lines = []
        for entry in told:
            lines.append(f"{entry['name']:8}  {entry['status']:8}  {entry['summary']}")
            lines += [f"{'':20}{_figure_line(figure)}" for figure in entry["figures"]]
        self.tell(told, lines)
        return DONE


@dataclass(frozen=True, kw_only=True)
class CheckRecipe(Telling):
    """Holds a recipe to the contract of all recipes, or measures one of its figures again."""

    recipe: Annotated[str, Positional, arg(metavar="RECIPE")]
    """Name of a recipe, or the path of a recipe file."""
    claim: UseAppendAction[tuple[str, ...]] = ()
    """Name of a figure: train and measure it again, and write results/RECIPE/FIGURE.json; may be repeated."""
    seeds: int | None = None
    """Number of seeds for --claim (default: as many as the figure is published with)."""
    out: Path = Path("runs/claims")
    """Folder of the runs for --claim."""

    def run(self, line: str) -> int:
        """Checks; exit code 2 when a rule is broken."""
        return self._claim() if self.claim else self._contract()

    def _contract(self) -> int:
        from retrodict.check import check

        load(self.recipe)
        findings = check(self.recipe)
        lines = [f"{'ok    ' if found.ok else 'BROKEN'}  {found.name:16}  {found.detail}" for found in findings]
        self.tell({"recipe": self.recipe, "findings": [asdict(found) for found in findings]}, lines)
        return DONE if all(found.ok for found in findings) else UNUSABLE

    def _claim(self) -> int:
        from retrodict.figures import claims
        from retrodict.run.log import Log

        if self.seeds is not None and self.seeds < 1:
            raise UnusableInput(f"--seeds must be 1 or more; got {self.seeds}")
        _, module = load(self.recipe)
        told = claims.claim(module, self.claim, self.seeds, self.out, Path("results"), Log(quiet=self.json))
        self.tell(told, [_figure_line(_shown(figure)) for figure in told])
        return DONE


def described(name: str) -> dict[str, Any]:
    """Describes a recipe: header, status and figures; a figure without a committed result has no value.

    Status: `works` when every figure reaches its target, `partial` when some do not or are not measured yet,
    `planned` when none is measured.
    """
    from retrodict.check import header, load_recipe

    module = load_recipe(name)
    head = header(module)
    declared: dict[str, Figure] = dict(getattr(module, "FIGURES", {}))
    figures = [_shown(_declared(key, figure) | _committed(name, key)) for key, figure in declared.items()]
    measured = [figure for figure in figures if figure["value"] is not None]
    reached = [figure for figure in measured if _reaches(figure)]
    status = "works" if figures and len(reached) == len(figures) else "partial" if measured else "planned"
    return {"name": name, "system": head["system"], "summary": head["summary"], "paper": head["paper"],
            "claim": head["claim"], "status": status, "figures": figures}  # fmt: skip


def _reaches(figure: dict[str, Any]) -> bool:
    value, target = figure["value"], figure["target"]
    return target is None or (value <= target if figure.get("at_most") else value >= target)


def _declared(name: str, figure: Figure) -> dict[str, Any]:
    from retrodict.figures.claims import beside

    home = next((home for home in RESULTS if home.is_dir()), RESULTS[-1])
    return {"name": name, "tier": figure.tier, "target": figure.target, "at_most": figure.at_most, "seeds": [],
            "baselines": beside(figure.measure, figure.setting, home, figure.steps, figure.labels)}  # fmt: skip


def _committed(recipe: str, figure: str) -> dict[str, Any]:
    for home in RESULTS:
        path = home / recipe / f"{figure}.json"
        if path.is_file():
            try:
                value = json.loads(path.read_bytes())
            except ValueError as error:
                raise Damaged(path, "JSON", str(error)) from error
            return {**value, "result": path.relative_to(home.parent).as_posix()}
    return {}


def _shown(figure: dict[str, Any]) -> dict[str, Any]:
    """Keeps what a listing tells of a figure; `seeds` becomes a count."""
    plain = {key: figure.get(key) for key in ("name", "tier", "value", "low", "high")}
    beside = (figure.get("parts") or {}) | (figure.get("baselines") or {})
    return {**plain, "seeds": len(figure.get("seeds") or ()), "target": figure.get("target"),
            **({"at_most": True} if figure.get("at_most") else {}), "baselines": beside,
            "command": figure.get("command"), "result": figure.get("result")}  # fmt: skip


def _figure_line(figure: dict[str, Any]) -> str:
    columns = ("name", "tier", "value", "low", "high", "seeds", "target")
    return "  ".join(f"{row.strip()}" for row in table([figure], columns)[1:])
