"""House rules: floors, sizes, documents, nothing that runs foreign code, an import that touches nothing."""

from __future__ import annotations

import ast
import itertools
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / "src" / "retrodict"
FILES = sorted(HOME.rglob("*.py"))
NAMES = [str(file.relative_to(HOME)) for file in FILES]

# An arrow only points down. Modules of one floor see each other, but for those of the third.
FLOORS = (
    {"errors"},
    {"clip", "rng", "tree", "constants"},
    {"segments", "spaces", "roles", "nn"},
    {"data", "envs", "models"},
    {"plan", "planners", "search"},
    {"measure"},
    {"run", "label", "check", "contract", "dream", "figures"},
    {"recipes"},
    {"report", "serve", "cli", "doctor"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
STRANGERS = {"data", "envs", "models"}
MAY_SEE_ALL = {"__init__", "__main__"}  # the public names, imported when first asked for; the front door

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def unit(file: Path) -> str:
    return file.relative_to(HOME).parts[0].removesuffix(".py")


def own_imports(file: Path) -> Iterator[tuple[str, int]]:
    """Every unit of the package that a file imports, wherever in the file."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: import by full name"
            parts = (node.module or "").split(".")
            if parts[0] == "retrodict":
                yield from ((name, node.lineno) for name in (parts[1:2] or [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "retrodict":
                    yield [*alias.name.split("."), "__init__"][1], node.lineno


def functions(file: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(file)) if isinstance(node, Function))


def lines_of(node: Function) -> int:
    """Lines of the body, without the docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("name", NAMES)
def test_imports_point_down(name: str) -> None:
    file = HOME / name
    mine = unit(file)
    assert mine in FLOOR or mine in MAY_SEE_ALL, f"{mine} has no floor; give it one in this test and in the documents"
    for other, line in own_imports(file):
        if mine in MAY_SEE_ALL or other in (mine, "__init__"):
            continue
        assert other in FLOOR, f"{name}:{line} imports {other}, which has no floor"
        assert FLOOR[other] <= FLOOR[mine], f"{name}:{line}: {mine} imports {other}, which lies above it"
        assert not {mine, other} <= STRANGERS or (mine == other), f"{name}:{line}: {mine} must not see {other}"


def test_recipes_do_not_import_each_other() -> None:
    for file in (HOME / "recipes").glob("*.py"):
        assert "recipes" not in {other for other, _ in own_imports(file)}, file.name


def test_imports_have_no_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for file in FILES:
        arrows.setdefault(unit(file), set()).update(other for other, _ in own_imports(file) if other != unit(file))
    for door in MAY_SEE_ALL:
        arrows.pop(door, None)
    while arrows:
        free = {name for name, others in arrows.items() if not others & set(arrows)}
        assert free, f"these import each other in a circle: {sorted(arrows)}"
        arrows = {name: others for name, others in arrows.items() if name not in free}


@pytest.mark.parametrize("name", NAMES)
def test_files_and_functions_are_short(name: str) -> None:
    file = HOME / name
    limit = 300 if unit(file) == "recipes" else 400
    assert len(file.read_text().splitlines()) <= limit
    long = {node.name: lines_of(node) for node in functions(file) if lines_of(node) > 60}
    assert not long


def test_the_median_function_has_twelve_lines_at_most() -> None:
    assert statistics.median(lines_of(node) for file in FILES for node in functions(file)) <= 12


@pytest.mark.xfail(strict=True, reason="about 25,000 lines of code, without documents, comments and blank lines")
def test_the_package_has_sixteen_thousand_lines_of_code() -> None:
    assert sum(map(lines_of_code, FILES)) <= 16_000


def lines_of_code(file: Path) -> int:
    module = tree(file)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documents = [n.body[0] for n in ast.walk(module) if isinstance(n, kinds) and ast.get_docstring(n)]
    silent = {line for node in documents for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = enumerate(file.read_text().splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in silent for number, line in lines)


def public(body: list[ast.stmt], inside: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_public_is_documented_and_annotated(name: str) -> None:
    module = tree(HOME / name)
    if module.body:
        assert ast.get_docstring(module), "the module says in one sentence what it is for"
    for path, node in public(module.body):
        assert ast.get_docstring(node), f"{path} at line {node.lineno} needs a docstring"
        if isinstance(node, Function):
            slots = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            bare = [a.arg for a in slots if a is not None and a.annotation is None and a.arg not in ("self", "cls")]
            assert not bare, f"{path} at line {node.lineno}: annotate {bare}"
            assert node.returns is not None, f"{path} at line {node.lineno}: annotate what it returns"


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
FORBIDDEN_CALLS = {
    "eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "np.random.seed", "random.seed",
    "torch.save", "os.system", "torch.hub.load", "pandas.read_pickle",
}  # fmt: skip
MAY_SEED = {"rng.py"}  # the one place that touches global generators, to restore them


def dotted(node: ast.expr) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs_foreign_code_or_hides_errors(name: str) -> None:
    for node in ast.walk(tree(HOME / name)):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {a.name for a in node.names} if isinstance(node, ast.Import) else {node.module or ""}
            assert not {m.split(".")[0] for m in modules} & FORBIDDEN_MODULES, f"{where} imports {modules}"
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            seeding = called in ("np.random.seed", "random.seed") and name in MAY_SEED
            assert called not in FORBIDDEN_CALLS or seeding, f"{where} calls {called}"
            for word in node.keywords:
                value = word.value.value if isinstance(word.value, ast.Constant) else None
                assert word.arg != "allow_pickle" or value is False, f"{where} allows pickle"
                assert word.arg != "shell" or value is False, f"{where} starts a shell"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where}: name the error that is expected"


@pytest.mark.parametrize("name", NAMES)
def test_heavy_packages_are_imported_where_they_are_used(name: str) -> None:
    """av in the decoder alone, web in serve alone; simulators and trackers inside functions or their own file."""
    homes = {
        "av": ("data/video",), "starlette": ("serve/",), "uvicorn": ("serve/",), "websockets": ("serve/",),
        "minigrid": ("envs/babyai.py",), "mujoco": (), "procgen": ("envs/procgen",), "gym3": ("envs/procgen",),
        "gymnasium": ("envs/", "dream.py"), "tyro": ("cli/",), "transformers": (), "ray": (),
        "cv2": (), "torchvision": (), "PIL": ("data/", "report/"),
    }  # fmt: skip
    module = tree(HOME / name)
    inside = {id(n) for node in ast.walk(module) if isinstance(node, Function) for n in ast.walk(node)}
    for node in ast.walk(module):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in inside:
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for top in {other.split(".")[0] for other in modules} & set(homes):
                assert name.startswith(homes[top]), f"{name}:{node.lineno} imports {top}"


FORM = ("@dataclass", "class Config", "def micro", "def tiny", "def paper", "def train", "return Config()")


def own_lines(file: Path) -> list[str]:
    """What a recipe does itself: no imports, documents, brackets, nor the form that the contract asks for."""
    module = ast.parse(file.read_text())
    module.body = [node for node in module.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    for node in ast.walk(module):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    code = [line.strip() for line in ast.unparse(module).splitlines()]
    return [line for line in code if len(line) > 12 and not line.startswith(FORM)]


def test_two_recipes_share_less_than_a_fifth_of_their_lines() -> None:
    recipes = {file.stem: own_lines(file) for file in (HOME / "recipes").glob("*.py") if file.stem != "__init__"}
    for (one, first), (two, second) in itertools.combinations(recipes.items(), 2):
        shared = len([line for line in first if line in second]) + len([line for line in second if line in first])
        assert shared < 0.2 * (len(first) + len(second)), f"{one} and {two} share {shared // 2} lines"


def test_sources_that_recipes_cite_are_listed() -> None:
    sources = ROOT / "docs" / "sources.md"
    if not sources.exists():
        pytest.skip("docs/sources.md is not written yet")
    listed = re.sub(r"\W+", " ", sources.read_text()).lower()
    for file in (HOME / "recipes").glob("*.py"):
        cited = re.search(r"^Paper\s+(.+)$", ast.get_docstring(tree(file)) or "", re.MULTILINE)
        if cited:
            author = re.sub(r"\W+", " ", cited[1]).lower().split()[0]
            year = re.search(r"(19|20)\d\d|\d{4}\.\d{5}", cited[1])
            assert author in listed, f"{file.name} cites {cited[1]}"
            assert year is not None, f"{file.name} cites without a year: {cited[1]}"


SILENT = """
import sys
seen = []
def note(event, args):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.mkdir", "os.rename"):
        seen.append((event, str(args)))
    if event == "open" and isinstance(args[2], int) and args[2] & 3 and "__pycache__" not in str(args[0]):
        seen.append((event, str(args)))
sys.addaudithook(note)
import retrodict
heavy = {"torch", "numpy", "av", "gymnasium", "pyarrow", "tyro", "PIL"} & set(sys.modules)
assert not heavy, heavy
assert not seen, seen
"""


def test_importing_the_package_loads_no_torch_and_touches_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BARE = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("av", "gymnasium", "tyro"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import retrodict.recipes
for module in pkgutil.iter_modules(retrodict.recipes.__path__):
    importlib.import_module(f"retrodict.recipes.{module.name}")
"""


def test_recipes_need_no_simulator_no_video_and_no_command_line() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
