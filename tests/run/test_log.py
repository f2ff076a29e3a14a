"""What a run says: TensorBoard beside the JSON lines, and a clear word when it is absent."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from retrodict.errors import MissingPackage
from retrodict.run.log import Log


class Events:
    """Stands in for TensorBoard's writer."""

    seen: list[tuple[Any, ...]]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.seen = [("open", Path(folder).name, purge_step)]
        made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.seen.append((name, value, step))

    def close(self) -> None:
        self.seen.append(("close",))


made: list[Events] = []


def test_tensorboard_gets_what_the_json_lines_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Events  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = Log(quiet=True, tensorboard=True)
    log.begin(tmp_path / "metrics.jsonl", 3, 5, "stage")
    log.step(3, {"all": 0.5})
    log.step(4, {"all": 0.25})
    log.end()
    assert made[-1].seen == [("open", "tensorboard", 3), ("all", 0.5, 3), ("all", 0.25, 4), ("close",)]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines == ['{"step": 3, "all": 0.5}', '{"step": 4, "all": 0.25}']


def test_absent_tensorboard_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackage, match=r"retrodict\[track\]"):
        Log(quiet=True, tensorboard=True)


def test_progress_tells_losses_and_the_use_of_codes(tmp_path: Path) -> None:
    log = Log(stream=io.StringIO(), every=0.0)
    log.begin(tmp_path / "metrics.jsonl", 0, 2, "tokens")
    log.step(0, {"all": 0.5, "rate": 0.1, "grad/all": 2.0, "codes/perplexity": 3.25, "codes/restarted": 4.0})
    log.end()
    line = log.stream.getvalue()  # type: ignore[attr-defined]
    assert "all 0.500  codes/perplexity 3.250  codes/restarted 4.000" in line
    assert "grad" not in line
    assert "rate" not in line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_said_while_a_bar_is_shown_takes_its_place(tmp_path: Path) -> None:
    log = Log(stream=Terminal())
    log.say("before")
    log.begin(tmp_path / "metrics.jsonl", 0, 5, "stage")
    log.step(0, {"all": 0.5})
    log.say("while")
    assert log.stream.getvalue().startswith("before\n\r\x1b[2K")
    assert log.stream.getvalue().endswith("all 0.500\r\x1b[2Kwhile\n")
    log.end()
