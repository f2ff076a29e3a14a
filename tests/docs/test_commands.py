"""Every command in the documents is run, at a small size; the README's Python too.

A document's commands run in order in a folder of their own. Names in capitals stand for what a reader has: `VIDEOS`,
`RUN`, `D` and `labels.csv` lie there under these names, unless the document makes them itself; others are replaced.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from retrodict import check
from retrodict.cli import main
from retrodict.cli.grammar import parse
from retrodict.data.foreign import open_dataset
from retrodict.data.video import Writer
from retrodict.envs.catalog import make
from retrodict.errors import UnusableInput
from retrodict.figures import dream_figures, judge, trial
from retrodict.recipes import bc
from retrodict.run.loop import Fit

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STAND_FOR = {"E": "sprites", "ENV": "sprites", "RECIPE": "bc", "FIGURE": "success_64", "N": "1", "FILE": "recipe.py"}
ONLY_PARSED = ("--full", "--install")  # an hour of work, and a download
SMALLER = {"docs/my-robot.md": {"--frames": "400", "--episodes": "4", "--minutes": "0.2"}}  # what would take an hour
SIZES = {"demo": ["--micro"], "train": ["--size", "micro"], "label": ["--size", "micro"]}


def commands(page: Path) -> list[list[str]]:
    """The arguments of every command in a page's shell blocks, in order, each once."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    found = [tuple(STAND_FOR.get(word, word) for word in line[1:]) for line in words if line[:1] == ["retrodict"]]
    return [list(line) for line in dict.fromkeys(found)]


COMMANDS = {page.relative_to(ROOT).as_posix(): found for page in PAGES if (found := commands(page))}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with D (a recorded dataset), RUN (trained on it), VIDEOS and labels.csv."""
    folder = tmp_path_factory.mktemp("prepared")
    assert main(["record", "sprites", "--episodes", "30", "--random", "0.3", "--out", str(folder / "D")]) == 0
    train = ["train", "vpt", "--data", str(folder / "D"), "--labels", "64", "--out", str(folder / "RUN")]
    assert main([*train, "--size", "micro"]) == 0
    source, rows = open_dataset(folder / "D"), []
    (folder / "VIDEOS").mkdir()
    for number, id in enumerate(source.ids[:8]):
        clip = source.read(id)
        assert clip.frames is not None
        assert clip.actions is not None
        with Writer(folder / f"VIDEOS/{number}.mp4", *source.schema.size, source.schema.fps) as writer:
            writer.add(clip.frames[0].permute(0, 2, 3, 1).numpy())
        names = [source.schema.space.describe(action)["move"] for action in clip.actions[0]]
        rows += [(f"{number}.mp4", step, name) for step, name in enumerate(names)]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "frame", "move"), *rows])
    shutil.copyfile(bc.__file__, folder / "recipe.py")
    return folder


def made_by(name: str, lines: list[list[str]]) -> bool:
    """True when the first command that speaks of a folder is the one that makes it."""
    first = next((line for line in lines if name in line), [])
    return name in first and first[first.index(name) - 1] == "--out"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials and checks at the smallest size; their own tests are elsewhere."""
    for name, setting in trial.SETTINGS.items():
        tiny = replace(setting, frames=400, episodes=8, test_frames=120, copies=8)
        monkeypatch.setitem(trial.SETTINGS, name, tiny)
    for recipe in map(check.load_recipe, check.recipes()):
        for preset in {figure.preset for figure in recipe.FIGURES.values()}:
            monkeypatch.setattr(recipe, preset, recipe.micro)
    monkeypatch.setattr(check, "RULES", {})
    monkeypatch.setattr(dream_figures, "SEARCH", 8)
    monkeypatch.setattr(judge, "FRAMES", 400)
    monkeypatch.setattr(judge, "FIT", Fit(10, 16))


def _arm_or_skip() -> None:
    try:
        make("arm")
    except UnusableInput as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("page", COMMANDS)
def test_every_command_works(
    page: str, prepared: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(page).stem if page.startswith("docs/recipes/") else "bc"
    figures = [*check.load_recipe(own).FIGURES]  # a recipe's page speaks of its own figures
    name = STAND_FOR["FIGURE"] if STAND_FOR["FIGURE"] in figures else figures[0]
    lines = [[name if word == STAND_FOR["FIGURE"] else word for word in line] for line in COMMANDS[page]]
    monkeypatch.chdir(tmp_path)
    for given in sorted(prepared.iterdir()):
        if not made_by(given.name, lines):
            shutil.copytree(given, given.name) if given.is_dir() else shutil.copyfile(given, given.name)
    if "arm" in {word for line in lines for word in line}:
        _arm_or_skip()
    for line in lines:
        parse(line)
        if any(flag in line for flag in ONLY_PARSED):
            continue
        less = [part for flag, value in SMALLER.get(page, {}).items() if flag in line for part in (flag, value)]
        done = main([*line, *less, *SIZES.get(line[0], []), "--threads", "1"])
        assert done == 0, shlex.join(["retrodict", *line])


def test_documents_hold_the_commands_that_this_tests() -> None:
    verbs = {line[0] for lines in COMMANDS.values() for line in lines}
    assert verbs >= {"demo", "label", "record", "train", "act", "measure", "check", "data", "recipes", "doctor"}
    assert {"README.md", "docs/labels.md", "docs/my-robot.md", "docs/contributing.md"} <= set(COMMANDS)


@pytest.mark.parametrize("name", ["dreamer_v1", "dreamer_v2", "dreamer_v3", "tdmpc2"])
def test_what_plays_while_it_learns_is_trained_in_a_world(name: str) -> None:
    train = next(line for line in COMMANDS[f"docs/recipes/{name}.md"] if line[0] == "train")
    assert train[train.index("--env") + 1] == STAND_FOR["E"]


def test_the_python_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL))
    assert len(code.splitlines()) < 40
    for full, less in (("range(900)", "range(30)"), ("900_000_050", "900_000_004"), ("vpt.tiny()", "vpt.micro()")):
        assert code.count(full) == 1
        code = code.replace(full, less)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})  # our own page
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[0-4] of 50 solved", lines[-1])
    assert len(lines) > 1
    assert all(re.fullmatch(r"\{'move': '\w+'\} [01]\.\d\d true: \{'move': '\w+'\}", line) for line in lines[:-1])
