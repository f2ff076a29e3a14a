"""What a run says: metrics as JSON lines, and progress as one bar on a terminal or a plain line now and then."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from retrodict.errors import MissingPackage


class Log:
    """Writes a stage's metrics and shows its progress; `quiet` shows nothing, `tensorboard` also writes its events.

    Raises:
        MissingPackage: tensorboard is asked for and absent.
    """

    def __init__(
        self, quiet: bool = False, stream: TextIO | None = None, every: float = 10.0, tensorboard: bool = False
    ) -> None:
        self.quiet, self.stream, self.every = quiet, stream or sys.stderr, every
        self._file: TextIO | None = None
        self._events: Any = None
        self._writer = _tensorboard() if tensorboard else None
        self._shown = 0.0

    def say(self, line: str) -> None:
        """Shows one line."""
        if not self.quiet:
            bar = "\r\x1b[2K" if self._file is not None and self.stream.isatty() else ""  # to be taken away
            print(bar + line, file=self.stream, flush=True)

    def begin(self, path: Path, start: int, steps: int, name: str) -> None:
        """Opens a metrics file, dropping lines at or after `start` that a killed process wrote."""
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    break  # a line that was cut by a kill; it is written again
                if entry["step"] >= start:
                    break
                kept.append(line)
        self.end()
        whole = path.with_name(f".{path.name}.tmp")  # a kill must not lose the lines that are kept
        whole.write_text("".join(line + "\n" for line in kept))
        os.replace(whole, path)
        self._file = open(path, "a")  # noqa: SIM115 - closed by end()
        if self._writer is not None:
            self._events = self._writer(str(path.parent / "tensorboard"), purge_step=start)
        self._name, self._start, self._steps, self._began, self._shown = name, start, steps, time.monotonic(), 0.0

    def step(self, step: int, values: dict[str, float]) -> None:
        """Writes one line of metrics, and shows progress when it is time."""
        assert self._file is not None, "begin() comes first"
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        now = time.monotonic()
        terminal = self.stream.isatty()
        if not self.quiet and now - self._shown > (0.2 if terminal else self.every):
            self._shown = now
            self._show(step, values, terminal)

    def _show(self, step: int, values: dict[str, Any], terminal: bool) -> None:
        done = step + 1 - self._start
        rate = done / max(1e-9, time.monotonic() - self._began)
        left = (self._steps - step - 1) / max(rate, 1e-9)
        shown = {n: v for n, v in values.items() if n != "rate" and ("/" not in n or n.startswith("codes/"))}
        losses = "  ".join(f"{n} {v:.3f}" for n, v in shown.items())
        share = (step + 1) / self._steps
        line = f"{self._name}  {step + 1}/{self._steps}  {rate:.0f} steps/s  {left:.0f} s left  {losses}"
        if terminal:
            bar = "█" * int(share * 20) + "░" * (20 - int(share * 20))
            print(f"\r\x1b[2K{bar} {line}", end="", file=self.stream, flush=True)
        else:
            print(line, file=self.stream, flush=True)

    def flush(self) -> None:
        """Hands the metrics to the system."""
        if self._file is not None:
            self._file.flush()

    def end(self) -> None:
        """Closes the metrics file and the bar."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._events is not None:
            self._events.close()
            self._events = None
        if not self.quiet and self.stream.isatty():
            print("\r\x1b[2K", end="", file=self.stream, flush=True)


def _tensorboard() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        install = f"{sys.executable} -m pip install 'retrodict[track]'"
        raise MissingPackage("tensorboard", "writing TensorBoard events", install) from error
    return SummaryWriter
