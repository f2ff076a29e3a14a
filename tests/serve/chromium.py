"""Drives headless Chromium through its DevTools protocol: pages, keys, screenshots, what screen readers are told."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
NUMBERS = {
    "Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
CODES = {" ": ("Space", 32), ".": ("Period", 190), "[": ("BracketLeft", 219), "]": ("BracketRight", 221)}


def found() -> str | None:
    """Returns the browser's path, where there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, line: ClientConnection) -> None:
        self.line, self.calls = line, 0
        self.logs: list[str] = []  # what the page complained about
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Asks the browser for something and returns its answer."""
        self.calls += 1
        self.line.send(json.dumps({"id": self.calls, "method": method, "params": given}))
        while True:
            message = json.loads(self.line.recv(timeout=20))
            if message.get("method") == "Log.entryAdded":
                self.logs.append(message["params"]["entry"]["text"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.logs.append(json.dumps(message["params"]["exceptionDetails"])[:500])
            if message.get("id") == self.calls:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result

    def size(self, width: int, height: int, dark: bool = False, touch: bool = False) -> None:
        """Gives the window a size, a theme and perhaps a finger."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])

    def open(self, url: str) -> None:
        """Goes to an address."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Returns what an expression gives in the page."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, script: str, seconds: float = 20.0) -> Any:
        """Waits until an expression is true in the page."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.02)
        said = self.run("document.body?.innerText ?? ''")[:600]
        raise AssertionError(f"never true: {script}; the page says {said!r}, {self.logs}")

    def key(self, key: str, code: str = "", ups: bool = True, modifiers: int = 0) -> None:
        """Presses a key, by the name that browsers give it."""
        code, number = CODES.get(key, (code or key, 0))
        number = NUMBERS.get(key, number or (ord(key.upper()) if len(key) == 1 else 0))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        named: dict[str, Any] = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        if ups:
            self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def tree(self) -> list[tuple[str, str]]:
        """Returns role and name of everything that a screen reader is told."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]

    def picture(self, path: Path, whole: bool = False) -> None:
        """Saves a picture of the window, or of the whole page."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser() -> Iterator[Callable[[], Page]]:
    """Starts a browser without a window; the value opens a new tab."""
    program = found()
    assert program is not None, "there is no Chromium; ask found() first"
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home:
        command = [program, *FLAGS, f"--user-data-dir={home}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines: list[ClientConnection] = []
        try:
            port = _port(Path(home) / "DevToolsActivePort", process)

            def tab() -> Page:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
                with urllib.request.urlopen(request, timeout=20) as answer:
                    address = json.loads(answer.read())["webSocketDebuggerUrl"]
                manager = connect(address, max_size=None, compression=None)
                lines.append(manager.__enter__())
                return Page(lines[-1])

            yield tab
        finally:
            for line in lines:
                line.close()
            process.terminate()
            process.wait(20)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    for _ in range(600):
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        assert process.poll() is None, "the browser ended by itself"
        time.sleep(0.05)
    raise AssertionError("the browser did not open its port")
