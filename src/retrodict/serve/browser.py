"""Opens a page in the person's browser, where there is one to see."""

from __future__ import annotations

import os
import sys
import threading
import time
import webbrowser

import uvicorn


def has_display() -> bool:
    """True where a browser has somewhere to open."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_when_ready(page: uvicorn.Server, url: str) -> None:
    """Opens the browser as soon as the server answers."""

    def wait() -> None:
        while not page.started:
            time.sleep(0.05)
        webbrowser.open(url)

    threading.Thread(target=wait, daemon=True).start()
