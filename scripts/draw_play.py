"""Draws the pictures of docs/play.md: a session in a headless Chromium, wide and light, narrow and dark.

Usage: python scripts/draw_play.py RUN [OUT]
       python scripts/draw_play.py RUN OUT --every

RUN is a run with a world of sprites, codes and an adapter, such as `retrodict train lapo` makes. OUT is docs/figures.
With --every the same sessions are drawn 360, 1,280 and 3,840 pixels wide, light and dark, to be looked at.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "serve"))
import chromium  # noqa: E402 - lies beside the tests, which use it most
import torch  # noqa: E402
import toy  # noqa: E402

from retrodict.clip import Clip  # noqa: E402
from retrodict.run.checkpoint import load_system  # noqa: E402
from retrodict.spaces import Distribution  # noqa: E402

READY = "document.querySelector('#line')?.classList.contains('on') && document.querySelector('.share')?.textContent"
LEFT, DOWN, UP = "ArrowLeft", "ArrowDown", "ArrowUp"


@contextmanager
def served(run: Path) -> Iterator[str]:
    """Serves the run and gives its address."""
    command = [sys.executable, "-m", "retrodict", "play", str(run), "--no-browser", "--json", "--threads", "1"]
    with tempfile.TemporaryDirectory() as out:
        process = subprocess.Popen([*command, "--out", out], stdout=subprocess.PIPE, text=True)
        told = toy.told_by(process)
        try:
            yield told["url"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def opened(tab: Callable[[], chromium.Page], url: str, width: int, height: int, dark: bool) -> chromium.Page:
    """Opens the page and waits until its keys are measured."""
    page = tab()
    page.size(width, height, dark=dark, touch=dark)
    page.open(url)
    page.wait(READY)
    return page


def press(page: chromium.Page, *keys: str) -> None:
    """Presses keys, each after the other's frame."""
    for key in keys:
        page.key(key)
        time.sleep(0.15)


def wide(page: chromium.Page, path: Path) -> None:
    """A session with two branches, compared, beside the real world."""
    press(page, LEFT, LEFT, DOWN, LEFT, DOWN, LEFT, "[", "[", "[", UP, LEFT, UP)
    page.run("document.querySelectorAll('#branches .acts button')[0].click()")
    page.run("document.querySelector('#measure').click(); document.activeElement.blur()")
    time.sleep(0.4)
    page.picture(path)


def narrow(page: chromium.Page, path: Path, names: dict[str, str]) -> None:
    """Codes under a thumb, some of them named."""
    page.run("document.querySelectorAll('[name=speech]')[1].click()")
    page.wait("document.querySelectorAll('#names input').length && document.querySelector('.name').textContent")
    time.sleep(0.4)
    for code, name in names.items():
        page.run(f"""(() => {{
            const input = document.querySelectorAll('#names input')[{code}];
            input.value = {json.dumps(name)};
            input.dispatchEvent(new Event('change'));
        }})()""")
        time.sleep(0.2)
    press(page, LEFT, DOWN, LEFT)
    page.run("document.querySelector('#measure').click(); document.activeElement.blur()")
    time.sleep(0.4)
    page.picture(path)


def named(run: Path) -> dict[str, str]:
    """What the run's adapter takes its codes for; of codes that it takes for the same, the surest."""
    system = load_system(run)
    assert system.adapter is not None, "a run of codes that labels named"
    codes = torch.eye(system.adapter.inner.width)[None]
    belief = system.adapter.decode(Distribution.point(system.adapter.inner, codes), Clip(actions=codes))
    sure, action = belief.probabilities()[0].max(-1)
    order = sure.argsort().tolist()  # the surest last, so that it stays
    best = {int(action[code]): code for code in order}
    return {str(code): system.adapter.space.segments[0].values[value] for value, code in best.items()}


def main() -> None:
    """Draws both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "docs" / "figures")
    parser.add_argument("--every", action="store_true", help="all widths, light and dark")
    given = parser.parse_args()
    run, out = given.run, given.out
    out.mkdir(parents=True, exist_ok=True)
    if given.every:
        for width, height in ((360, 780), (1280, 800), (3840, 2160)):
            for dark in (False, True):
                path = out / f"play-{width}-{'dark' if dark else 'light'}.png"
                with served(run) as url, chromium.browser() as tab:
                    page = opened(tab, url, width, height, dark)
                    (narrow(page, path, named(run)) if width < 720 else wide(page, path))
        return
    with served(run) as url, chromium.browser() as tab:
        wide(opened(tab, url, 1280, 800, dark=False), out / "play-wide.png")
    with served(run) as url, chromium.browser() as tab:
        narrow(opened(tab, url, 360, 780, dark=True), out / "play-narrow.png", named(run))


if __name__ == "__main__":
    main()
