"""Check: the public contract test of a recipe, and how recipes are found and read."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from retrodict.contract import RULES, Bench, Broken
from retrodict.errors import RetrodictError, UnknownName, UnusableInput
from retrodict.nn.part import FROM_FILE
from retrodict.run.run import config_digest

PRESETS = ("micro", "tiny", "paper")
HEADER = ("claim", "tiny", "paper", "run")
_HOME = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one rule."""

    name: str
    ok: bool
    detail: str


def recipes() -> tuple[str, ...]:
    """Returns the names of all recipes, in order."""
    return tuple(sorted(path.stem for path in (_HOME / "recipes").glob("*.py") if not path.stem.startswith("_")))


def load_recipe(name: str | Path) -> ModuleType:
    """Loads a recipe by its name, or from a file anywhere, whose code is run.

    Raises:
        UnknownName: no recipe has this name. UnusableInput: there is no such file.
    """
    if str(name) in recipes():
        return importlib.import_module(f"retrodict.recipes.{name}")
    path = Path(name)
    if path.suffix != ".py":
        raise UnknownName("recipe", str(name), recipes())
    if not path.is_file():
        raise UnusableInput(f"there is no recipe file {path}; name a file, or one of {', '.join(recipes())}")
    if path.resolve().parent == _HOME / "recipes":
        return importlib.import_module(f"retrodict.recipes.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"{FROM_FILE}{path.stem}", path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def preset(module: ModuleType, name: str) -> Any:
    """Returns the settings of one of a recipe's presets.

    Raises:
        UnknownName: the recipe has no such preset.
    """
    functions = {n: made for n, made in vars(module).items() if inspect.isfunction(made)}
    known = {
        n for n, made in functions.items() if inspect.signature(made).return_annotation in ("Config", module.Config)
    }
    if name not in known | ({*PRESETS} & {*functions}):
        raise UnknownName(f"preset of {module.__name__.rpartition('.')[2]}", name, known)
    return functions[name]()


def header(module: ModuleType) -> dict[str, str]:
    """Reads a recipe's docstring: `system`, `summary` (its first line) and `claim`, `tiny`, `paper`, `run`.

    Raises:
        UnusableInput: a line is missing.
    """
    first, *lines = (inspect.getdoc(module) or "").splitlines() or [""]
    system, _, summary = first.partition(": ")
    found: dict[str, str] = {"system": system, "summary": summary}
    name = ""
    for line in lines:
        match = re.match(r"(Claim|Tiny|Paper|Run)\s+(\S.*)", line)
        if match:
            name = match[1].lower()
            found[name] = match[2].strip()
        elif name and line.startswith(" ") and line.strip():
            found[name] += " " + line.strip()
        else:
            name = ""
    missing = [name for name in ("summary", *HEADER) if not found.get(name)]
    if missing:
        raise UnusableInput(
            f"the header of recipe {module.__name__.rpartition('.')[2]} lacks {', '.join(missing)}. It begins with "
            "'NAME: what it does.' and has lines that begin with Claim, Tiny, Paper and Run"
        )
    return found


def check(recipe: str | Path, only: Sequence[str] = ()) -> list[Finding]:
    """Holds a recipe to the contract of all recipes, on a small recorded world: one finding per rule.

    `only` names the rules to hold it to (all by default).

    Raises:
        UnknownName: no recipe or no rule has this name.
    """
    for name in only:
        if name not in (*_STATIC, *RULES):
            raise UnknownName("rule", name, (*_STATIC, *RULES))
    module = load_recipe(recipe)
    findings = []
    with tempfile.TemporaryDirectory(prefix="retrodict-check-") as folder:
        bench = Bench(module, Path(folder).resolve())
        rules: dict[str, Callable[[], str]] = {name: partial(rule, module) for name, rule in _STATIC.items()}
        rules |= {name: partial(rule, bench) for name, rule in RULES.items()}
        for name, rule in rules.items():
            if only and name not in only:
                continue
            try:
                findings.append(Finding(name, True, rule()))
            except RetrodictError as error:
                findings.append(Finding(name, False, str(error)))
            except Exception as error:  # the recipe is foreign code: whatever it raises is its finding
                findings.append(Finding(name, False, f"{type(error).__name__}: {error}"))
    return findings


def _header_rule(module: ModuleType) -> str:
    return header(module)["claim"]


def _config_rule(module: ModuleType) -> str:
    """Config is a frozen dataclass, and says of every field what it means."""
    config = getattr(module, "Config", None)
    if not (isinstance(config, type) and is_dataclass(config)):
        raise Broken("a recipe needs a dataclass Config")
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Broken("Config must be frozen: @dataclass(frozen=True)")
    source = inspect.getsource(module)
    lines = source.splitlines()
    body = next(n.body for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Config")
    silent = []
    for node in body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "Fit":  # Fit explains itself
            above, own = lines[node.lineno - 2], lines[node.lineno - 1 : node.end_lineno]
            if not above.strip().startswith("#") and not any("#" in line for line in own):
                silent.append(ast.unparse(node.target))
    if silent:
        raise Broken(f"give these fields of Config a comment with meaning, unit and source: {', '.join(silent)}")
    return f"{len(fields(config))} fields, each explained"


def _presets_rule(module: ModuleType) -> str:
    for name in PRESETS:
        preset = getattr(module, name, None)
        if preset is None or not isinstance(preset(), module.Config):
            raise Broken(f"a recipe needs a function {name}() that returns a Config")
        json.dumps(config_digest(preset()))
    return ", ".join(PRESETS)


def _results_rule(module: ModuleType) -> str:
    """Committed results belong to the settings that the recipe has now."""
    name = module.__name__.rpartition(".")[2]
    homes = (_HOME / "results", _HOME.parents[1] / "results")  # in the wheel, in a checkout
    files = sorted(file for home in homes for file in (home / name).glob("*.json"))
    for file in files:
        found = json.loads(file.read_text())
        wanted = config_digest(getattr(module, found.get("preset", "tiny"))())
        if found.get("config") != wanted:
            raise Broken(
                f"{file.name} was measured with config {found.get('config')}; now it is {wanted}. Measure again"
            )
    return f"{len(files)} committed results" if files else "no committed result yet"


_STATIC: dict[str, Callable[[ModuleType], str]] = {
    "header": _header_rule, "config": _config_rule, "presets": _presets_rule, "results": _results_rule,
}  # fmt: skip
