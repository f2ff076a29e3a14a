"""Writes what the documents say of recipes: their pages, the README's table and figure. A second run changes nothing.

python scripts/write_docs.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import recipe_pages
from gpu_table import gpu_tables

from retrodict.check import header, load_recipe, recipes
from retrodict.cli.recipes import described

ROOT = Path(__file__).resolve().parents[1]
ROBOT, INPUTS = "docs/my-robot.md", "results/comparisons/arm_inputs.json"
OBEYS, JUDGED = "docs/obedience.md", "results/comparisons/obedience.json"
PLAY, SPEED = "docs/play.md", "results/comparisons/play.json"
COST = "results/comparisons/imagine.json"
WORLDS, GPU = "docs/worlds.md", "results/gpu"
# marks in it, and results/comparisons/NAME.json
COMPARED = ("model_free", "suite", "worlds", "scaling", "steered", "reach")
DEMO, FIGURE = "results/demo/babyai.json", "docs/figures/label-curve.svg"

TOKENS = ("gaia1", "genie", "genie_play", "iris")
PRACTICE = ("dreamer_v1", "dreamer_v2", "dreamer_v3", "tdmpc2", "world_models")
NONE = "Not measured yet."
LEARNT = ("catch_", "pendulum", "dodge")  # settings in which a recipe plays, or is measured by playing


def results(names: Sequence[str]) -> list[dict[str, Any]]:
    """The committed figures of these recipes."""
    return [json.loads(path.read_text()) for name in names for path in sorted((ROOT / "results" / name).glob("*.json"))]


def documents() -> dict[Path, str]:
    """Returns every generated document by its path in the project."""
    modules = {name: load_recipe(name) for name in recipes()}
    entries = [{**header(module), **described(name)} for name, module in modules.items()]
    made = {
        Path("docs/recipes") / f"{entry['name']}.md": recipe_pages.recipe_page(modules[entry["name"]], entry)
        for entry in entries
    }
    robot = (ROOT / ROBOT).read_text()
    robot = recipe_pages.between(robot, "figures", recipe_pages.world_table(modules, entries, "arm"))
    shown = recipe_pages.inputs_table(json.loads((ROOT / INPUTS).read_text())) if (ROOT / INPUTS).is_file() else ""
    made[Path(ROBOT)] = recipe_pages.between(robot, "inputs", shown)
    if (ROOT / JUDGED).is_file():
        judged = recipe_pages.obedience_table(json.loads((ROOT / JUDGED).read_text()))
        made[Path(OBEYS)] = recipe_pages.between((ROOT / OBEYS).read_text(), "judged", judged)
    play = recipe_pages.between((ROOT / PLAY).read_text(), "hours", recipe_pages.hours(results(TOKENS)))
    if (ROOT / SPEED).is_file():
        play = recipe_pages.between(play, "speed", recipe_pages.speed_table(json.loads((ROOT / SPEED).read_text())))
    cost = recipe_pages.imagine_table(json.loads((ROOT / COST).read_text())) if (ROOT / COST).is_file() else NONE
    made[Path(PLAY)] = recipe_pages.between(play, "cost", cost)
    worlds = recipe_pages.between(
        (ROOT / WORLDS).read_text(), "learnt", recipe_pages.world_table(modules, entries, *LEARNT)
    )
    worlds = recipe_pages.between(worlds, "hours", recipe_pages.hours(results(PRACTICE)))
    for name in COMPARED:
        result, shown = ROOT / "results/comparisons" / f"{name}.json", getattr(recipe_pages, f"{name}_table")
        worlds = recipe_pages.between(worlds, name, shown(json.loads(result.read_text())) if result.is_file() else NONE)
    if (ROOT / GPU / "gpu.json").is_file():
        tasks = [json.loads(path.read_text()) for path in sorted((ROOT / GPU).glob("*-*.json"))]
        found = gpu_tables(json.loads((ROOT / GPU / "gpu.json").read_text()), tasks)
        worlds = recipe_pages.between(worlds, "gpu", found)
    made[Path(WORLDS)] = worlds
    readme = (ROOT / "README.md").read_text()
    readme = recipe_pages.between(readme, "recipes", recipe_pages.recipe_table(entries, "docs/recipes"))
    picture = ""
    if (ROOT / DEMO).is_file():
        result = json.loads((ROOT / DEMO).read_text())
        made[Path(FIGURE)] = recipe_pages.label_chart(result)
        picture = f"![{result['summary']}]({FIGURE})\n\n{result['summary']}\n(From [{DEMO}]({DEMO}).)"
    made[Path("README.md")] = recipe_pages.between(readme, "figure", picture)
    return made


def main() -> int:
    """Writes what differs, removes pages of recipes that are gone, and tells both."""
    made = documents()
    for path, text in made.items():
        target = ROOT / path
        if not target.is_file() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            print(f"wrote {path}")
    for page in sorted((ROOT / "docs/recipes").glob("*.md")):
        if page.relative_to(ROOT) not in made:
            page.unlink()
            print(f"removed {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
