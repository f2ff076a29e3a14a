"""The wheel: all that the package reads is in it, and its own world is played where there is nothing else of us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import toy
from websockets.sync.client import connect

from retrodict.serve.guard import PROTOCOL
from retrodict.serve.messages import unpack
from retrodict.serve.server import pages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel, and nothing else, is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").iterdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True)
    return folder / "site"


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_every_file_of_the_package_and_every_result_is_in_it(site: Path) -> None:
    found = contents(site / "retrodict")
    results = {f"results/{name}": value for name, value in contents(ROOT / "results").items()}
    expected = contents(ROOT / "src" / "retrodict")
    assert {"py.typed", "serve/pages/play.js", "worlds/sprites/README.md"} <= set(expected)
    assert set(expected) <= set(found)
    assert set(found) - set(expected) <= set(results)  # what git ignores there, such as a log, stays out
    assert {name for name in results if name.endswith(".json") and name != "results/rerun.json"} <= set(found)
    assert all(found[name] == value for name, value in {**results, **expected}.items() if name in found)
    assert sum(len(v) for name, v in found.items() if name.startswith("worlds/")) <= 2_000_000


def test_its_own_world_is_played_from_it_alone(site: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import retrodict; print(retrodict.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(site))
    command = [sys.executable, "-m", "retrodict", "play", "--no-browser", "--json", "--threads", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        host, _, token = toy.told_by(process)["url"].removeprefix("http://").partition("/#")
        for route in pages():
            with urlopen(f"http://{host}{route}", timeout=60) as answer:
                assert answer.status == 200
                assert answer.read()
        own = {"origin": f"http://{host}", "subprotocols": [PROTOCOL, token], "compression": None}
        frames = 0
        with connect(f"ws://{host}/socket", **own) as line:  # type: ignore[arg-type]
            line.send('{"do": "sit", "seat": ""}')
            line.send('{"do": "hold", "keys": ["0:2"], "press": 1}')
            while frames < 2:
                message = line.recv(timeout=60)
                told = json.loads(message) if isinstance(message, str) else unpack(message)[0]
                assert told["kind"] != "error", told
                frames += told["kind"] == "frame"
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
