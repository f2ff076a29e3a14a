"""Documents: generated ones are up to date, links lead somewhere, named files exist, sources are complete."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import recipe_pages
from gpu_table import gpu_tables

from retrodict.check import header, load_recipe, recipes
from retrodict.errors import UnusableInput
from retrodict.figures.claims import Figure
from retrodict.run.loop import Fit

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts/write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_documents_are_what_recipes_and_results_say() -> None:
    made = script().documents()
    stale = [str(path) for path, text in made.items() if (ROOT / path).read_text() != text]
    assert stale == [], "run: python scripts/write_docs.py"
    assert {path.name for path in (ROOT / "docs/recipes").iterdir()} == {f"{name}.md" for name in recipes()}


def anchors(page: Path) -> set[str]:
    """Names of a page's headings as a browser on the code host makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist_and_no_path_is_of_one_machine(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`((?:tests|src|scripts|docs|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
    assert re.findall(r"(?<![\w.~:/-])/(?:home|root|tmp|usr|work|Users|opt|mnt)/|[A-Z]:\\", text) == []


def test_the_readme_has_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line.partition("#")[0].strip() for line in lines if line.startswith("make ")] == ["make demo", "make test"]


@pytest.mark.parametrize("name", recipes())
def test_the_paper_of_every_recipe_is_in_the_sources(name: str) -> None:
    sources = (ROOT / "docs/sources.md").read_text().lower()
    paper = header(load_recipe(name))["paper"].lower()
    numbers = re.findall(r"\d{4}\.\d{5}", paper)
    title = re.sub(r" ?\(.*", "", paper).partition(", ")[2]
    assert all(number in sources for number in numbers)
    assert title or numbers, "the header names no paper"
    assert title.rstrip(".") in sources


@dataclass(frozen=True)
class Config:
    """Settings."""

    width: int = 4  # channels | of the encoder (own)
    fit: Fit = field(default_factory=lambda: Fit(1200, 64, 2e-3))


def tiny() -> Config:
    """The committed settings."""
    return Config()


def paper() -> Config:
    """The published settings."""
    return Config(width=64)


def micro() -> Config:
    """For contract tests."""
    return Config(width=1)


FIGURE = {
    "name": "success_64", "value": 0.913, "low": 0.87, "high": 0.956, "seeds": 5, "target": 0.85,
    "baselines": {"random": 0.2, "expert": 1.0},
}  # fmt: skip
ENTRY = {
    "name": "small", "system": "Small", "summary": "one thing.", "claim": "it learns", "tiny": "a second",
    "paper": "none", "run": "retrodict train small --data D --out RUN", "status": "works", "figures": [FIGURE],
}  # fmt: skip


def recipe() -> Any:
    module = ModuleType("small")
    for maker in (micro, tiny, paper):
        setattr(module, maker.__name__, maker)
    module.Config = Config  # type: ignore[attr-defined]
    module.FIGURES = {"success_64": Figure("sprites", "success", target=0.85, seeds=5)}  # type: ignore[attr-defined]
    return module


def test_a_page_shows_figures_and_settings_and_leaves_out_what_is_the_same() -> None:
    page = recipe_pages.recipe_page(recipe(), ENTRY)
    figure = "| `success_64` | sprites | success | 64 | `tiny` | ≥ 0.85 | **0.91** (0.87 to 0.96) | 5 | "
    assert figure + "random 0.20, expert 1.00 |" in page.splitlines()
    assert "| `width` | channels \\| of the encoder (own) | 4 | 64 |" in page.splitlines()
    assert "| `fit` | training: steps × batch at peak rate | 1,200 × 64 at 0.002 |  |" in page.splitlines()
    assert "micro" not in page
    assert page.startswith("# Small\n")
    assert "\nOne thing.\n" in page


def test_a_figure_says_what_is_not_measured_and_what_is_one_seed() -> None:
    assert recipe_pages.measured({**FIGURE, "value": None}) == "not measured yet"
    assert "not a comparison" in recipe_pages.measured({**FIGURE, "low": None, "high": None})
    empty = recipe_pages.recipe_table([{**ENTRY, "figures": [{**FIGURE, "value": None}]}], "docs/recipes")
    assert "none measured yet" in empty
    full = recipe_pages.recipe_table([ENTRY], "docs/recipes").splitlines()
    assert full[-1] == (
        "| [small](docs/recipes/small.md) | One thing. | works | `success_64` **0.91** (0.87 to 0.96), 5 seeds |"
    )
    nothing = {**FIGURE, "value": 0.0, "low": None, "high": None, "seeds": 1}
    zero = recipe_pages.recipe_table([{**ENTRY, "figures": [nothing]}], "docs/recipes")
    assert zero.endswith("| `success_64` 0.00 (one seed: not a comparison) |")


def test_one_training_behind_several_figures_counts_once() -> None:
    def figure(recipe: str, preset: str, *seconds: float) -> dict[str, Any]:
        seeds = [{"seconds": 2 * one, "cpu_seconds": one} for one in seconds]
        return {"recipe": recipe, "setting": "s", "labels": 0, "preset": preset, "seeds": seeds}

    told = [figure("b", "tiny", 1800, 900), figure("b", "tiny", 1800, 3600), figure("a", "half", 1800)]
    assert recipe_pages.hours(told) == "All training behind the figures of `a`, `b`: 2.0 hours of one core."


def test_a_cell_of_the_suite_that_was_not_measured_is_empty() -> None:
    row = {"cpu_seconds": 60.0, "weights": 1200, "values": {"sensitivity": 1.5}, "missing": {"horizon_skill": "none"}}
    lines = recipe_pages.suite_table(
        {"settings": {"sprites": {"one": row, "two": {"missing": {}}}}, "command": "c"}
    ).splitlines()
    assert lines[2:5] == [
        "| sprites | [one](recipes/one.md) |  | 1.50 |  |  | 1,200 | 60 |",
        "| sprites | [two](recipes/two.md) |  |  |  |  |  |  |",
        "",
    ]


def test_the_slope_of_a_loss_stands_below_the_sizes() -> None:
    sizes = [{"parameters": 1000, "nats": 1.0, "nats_blind": 1.25}, {"parameters": 4000, "nats": 0.5, "nats_blind": 1}]
    told = {"sizes": sizes, "steps": 1200, "fit": {"exponent": -0.5}, "command": "c"}
    lines = recipe_pages.scaling_table(told).splitlines()
    assert lines[2:4] == ["| 1,000 | 1.00 | 1.25 |", "| 4,000 | 0.50 | 1.00 |"]
    assert lines[-1].startswith("(1,200 updates each; the loss goes as the weights to the power of -0.50; ")


def test_what_stands_beside_a_figure_is_told_once_and_in_series() -> None:
    drift = {f"{k}{end}": k / 4 + more for k in range(1, 5) for end, more in (("", 0.5), (".low", 0.25), (".high", 1))}
    assert recipe_pages.beside(drift) == (
        "1 to 4: 0.75 (0.50 to 1.25) · 1.00 (0.75 to 1.50) · 1.25 (1.00 to 1.75) · 1.50 (1.25 to 2.00)"
    )
    recall = {f"k{k}": 1.0 for k in (1, 2, 3, 4, 24)} | {"no_memory": 0.5, "copy": 0.25}
    told = "k1 to k4: 1.00 · 1.00 · 1.00 · 1.00, k24 1.00, no_memory 0.50, copy 0.25"
    assert recipe_pages.beside(recall) == told
    assert recipe_pages.beside({"low": 0.25, "high": 0.5, "raw": 1.0}) == "over states 0.25 to 0.50, raw 1.00"


def test_what_steers_a_world_stands_beside_its_intervals() -> None:
    told = {f"{name}{end}": value for name in ("sensitivity", "judged_controllability", "drift.8")
            for end, value in (("", 0.5), (".low", 0.25), (".high", 0.75))}  # fmt: skip
    kinds = dict.fromkeys(("codes", "recorded", "shuffled"), told)
    worlds = {"next frame": {**kinds, "seeds": 2}, "recurrent": {**kinds, "seeds": 1}}
    lines = recipe_pages.steered_table({"settings": {"sprites": worlds}, "command": "c"}).splitlines()
    assert (
        lines[2]
        == "| sprites | next frame | codes | 0.50 (0.25 to 0.75) | 0.50 (0.25 to 0.75) |  | 0.50 (0.25 to 0.75) | 2 |"
    )
    assert [line.split(" | ")[2] for line in lines[2:5]] == ["codes", "recorded", "shuffled"]
    assert lines[5].startswith("| sprites | recurrent | codes |")


def test_what_a_frame_costs_is_shown_with_its_command() -> None:
    result = {
        "frames": 2000, "frames/s at first": 90.04, "frames/s at last": 88.2, "last/first": 0.98,
        "faster than anew": 3.456, "state bytes": [1234567, 1234567], "process grew by MB": 0.5,
        "command": "python benchmarks/imagine.py --frames 2000",
    }  # fmt: skip
    told = recipe_pages.imagine_table(result)
    assert "| 2,000 frames | measured |" in told
    assert "| frames a second, at the start and at the end | 90.0 and 88.2 |" in told
    assert "| faster than taking in all that is remembered for every frame | 3.46 times |" in told
    assert "1,234,567 and 1,234,567" in told
    assert told.endswith("(one thread; `python benchmarks/imagine.py --frames 2000`)")


def test_what_an_update_and_a_decision_cost_are_two_tables() -> None:
    one = {"updates_per_second": 8.26, "plain_updates_per_second": 4.0, "share_of_peak": 0.268,
           "exponents": {"frames": 0.9, "rows": 0.71, "width": 1.3}}  # fmt: skip
    planned = {"imagining_128_x_10": {"ratio": 3.0}, "cem": {"one_ms": 18.5, "together_ms": 101.7}}
    told = recipe_pages.worlds_table({"training": {"a": one}, "planning": {"a": planned}, "command": "python it.py"})
    assert "| a | 8.3 | 4.0 | 0.27 | 0.90 | 0.71 | 1.30 |" in told
    assert "| milliseconds | states | cem |" in told
    assert "| a | 1 | 18 |" in told
    assert "| a | 8 | 102 |" in told
    assert told.endswith("(one thread; `python it.py`)")


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = "before\n<!-- a -->\nold | \\1\n<!-- /a -->\nafter"
    once = recipe_pages.between(text, "a", "new \\1")
    assert once == "before\n<!-- a -->\n\nnew \\1\n\n<!-- /a -->\nafter"
    assert recipe_pages.between(once, "a", "new \\1") == once
    assert recipe_pages.between(once, "a", "") == "before\n<!-- a -->\n<!-- /a -->\nafter"


@pytest.mark.parametrize("text", ["", "<!-- a -->", "<!-- /a --><!-- a -->", "<!-- a --><!-- /a --><!-- a -->"])
def test_a_page_without_its_marks_is_refused(text: str) -> None:
    with pytest.raises(UnusableInput, match="once each"):
        recipe_pages.between(text, "a", "new")


def demo_result() -> dict[str, Any]:
    points = [{"x": x, "value": v, "low": v - 0.1, "high": v + 0.05} for x, v in ((16, 0.5), (64, 0.8), (256, 0.9))]
    flat = [{"x": x, "value": 0.4, "low": None, "high": None} for x in (16, 256)]
    series = [{"name": "inverse <model>", "points": points}, {"name": "majority", "points": flat}]
    return {"world": "babyai", "summary": "From 64.", "label_curve": {"unit": "labels", "series": series}}


def test_the_chart_is_one_file_with_its_own_style_and_words() -> None:
    chart = recipe_pages.label_chart(demo_result())
    root = ElementTree.fromstring(chart)
    space = {"s": "http://www.w3.org/2000/svg"}
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in (root.findtext("s:style", namespaces=space) or "")
    assert "babyai" in (root.findtext("s:title", namespaces=space) or "")
    assert "inverse <model>: 0.50 at 16, 0.80 at 64, 0.90 at 256" in (root.findtext("s:desc", namespaces=space) or "")
    assert len(root.findall(".//s:path[@class='curve s0']", space)) == 1
    assert "http" not in chart.replace("http://www.w3.org/2000/svg", "")


def test_a_committed_demo_result_becomes_the_readmes_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = script()
    (tmp_path / "docs").mkdir()
    for name in ("README.md", writing.ROBOT, writing.WORLDS, writing.PLAY):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setattr(writing, "ROOT", tmp_path)
    bare = recipe_pages.between((ROOT / "README.md").read_text(), "figure", "")
    assert writing.documents()[Path("README.md")] == bare
    (tmp_path / "results/demo").mkdir(parents=True)
    (tmp_path / writing.DEMO).write_text(json.dumps(demo_result()))
    (tmp_path / "docs/recipes").mkdir(parents=True)
    (tmp_path / "docs/recipes/gone.md").write_text("a recipe that is no more")
    assert writing.main() == 0
    assert f"![From 64.]({writing.FIGURE})" in (tmp_path / "README.md").read_text()
    assert (tmp_path / writing.FIGURE).is_file()
    assert not (tmp_path / "docs/recipes/gone.md").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert writing.main() == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_gpu_check_is_told_with_what_was_refused_left_out_and_steps_that_all_tasks_have() -> None:
    speeds = {"float32": 453108, "bfloat16": 1196486}
    found = {
        "device": "A card", "inverse frames per second": speeds, "relative error": {"float32": 6.6e-08},
        "training": {"steps": 2000, "batch": 256, "seconds": 19.5, "accuracy": 0.9086},
        "updates of tdmpc2, whole": {"updates per second": {"none": 29.9, "whole": 82.1}, "relative error": 8.2e-06},
        "updates of dreamer_v3, whole": {"refused": "it waits"},
        "decisions of 4 rows": {"ms": {"as it is": 43.25, "captured": 13.14}, "largest difference": 0.0},
    }  # fmt: skip
    tasks = [
        {"task": "walker-walk", "mean return of the last 20 episodes": {"5000": 1.0, "10000": 56.8, "15000": 76.3}},
        {"task": "ball_in_cup-catch", "mean return of the last 20 episodes": {"10000": 478.2, "15472": 400.0}},
    ]  # fmt: skip
    told = gpu_tables(found, tasks)
    assert "| updates of tdmpc2, whole (--compile), a second | 82.1 instead of 29.9, relative error 8e-06 |" in told
    assert "dreamer_v3" not in told
    assert "| decisions of 4 rows, captured, ms | 13.1 instead of 43.2 |" in told
    assert "| 453,108; 1,196,486 |" in told
    assert "| TD-MPC2, steps of the task | 10,000 | 15,000 | published, at 100,000 |" in told
    assert "| walker-walk | 57 | 76 | 962 |" in told
    assert "| ball_in_cup-catch | 478 |  | 981 |" in told


def test_what_was_reached_is_told_with_intervals() -> None:
    shares = {
        name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in ("planned", "names exchanged", "random", "recorded")
    }
    told = recipe_pages.reach_table(
        {"settings": {"sprites": {**shares, "starts": 100, "labels": 200}}, "command": "reach"}
    )
    cell = "0.50 (0.40 to 0.60)"
    assert told.splitlines()[2] == f"| sprites | {cell} | {cell} | {cell} | {cell} | 100 | 200 |"
