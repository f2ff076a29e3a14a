"""What holds for every command: exit codes, one clear message, nothing heavy loaded before it is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import retrodict
from retrodict import cli
from retrodict.cli import grammar
from retrodict.data.store import Store
from retrodict.errors import Damaged, Interrupted, Locked, UnusableInput

MAIN = "import sys; from retrodict.cli import main; sys.exit(main())"


def process(*arguments: str, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Makes every verb raise this error."""

    class Failing:
        threads = 0

        def run(self, line: str) -> int:
            raise error

    monkeypatch.setattr(grammar, "parse", lambda argv: Failing())


def test_importing_and_help_load_no_torch() -> None:
    heavy = "{'torch', 'numpy', 'pyarrow', 'av', 'gymnasium'} & set(sys.modules)"
    assert process(code=f"import retrodict, sys; sys.exit(len({heavy}))").returncode == 0
    shown = process(code=f"import sys; from retrodict.cli import main; main(['--help']); sys.exit(len({heavy}))")
    assert shown.returncode == 0, shown.stderr
    assert "label" in shown.stdout


def test_every_public_name_is_there_and_no_other() -> None:
    for name in retrodict.__all__:
        assert getattr(retrodict, name) is not None
    assert dir(retrodict) == sorted(retrodict.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        retrodict.nothing_of_the_kind  # noqa: B018 - looking it up is the test


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["recrod"], "Did you mean 'record'?"),
        (["data", "inof"], "Did you mean 'info'?"),
        (["data", "check", "/nowhere"], "is no dataset"),
        (["record", "spritse", "--episodes", "1", "--out", "D"], "Did you mean 'sprites'?"),
        (["record", "sprites", "--out", "D"], "either --episodes or --frames"),
        (["record", "sprites", "--episodes", "2", "--seed", "800", "--out", "D"], "must lie in 0..799"),
        (["record", "sprites", "--episodes", "2", "--policy", "random", "--random", "0.1", "--out", "D"], "--random"),
        (["record", "sprites", "--episodes", "2", "--set", "sise=36", "--out", "D"], "sise"),
        (["act", "expert", "--env", "sprites", "--episodes", "0"], "must be positive"),
        (["train", "vptt", "--data", "D", "--out", "R"], "Did you mean 'vpt'?"),
        (["train", "vpt", "--data", "D", "--out", "R", "--set", "fit.stesp=1"], "Did you mean 'steps'?"),
        (["measure", "/nowhere", "--data", "D"], "is no folder; name the folder of a finished run"),
        (["measure", "/nowhere", "--data", "D", "--episodes", "-1"], "--episodes must be 1 or more"),
        (["recipes", "--threads", "-3"], "--threads must be 1 or more"),
        (["label", "/nowhere", "--recipe", "vpt", "--out", "D"], "nothing says what the actions are"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2_and_writes_nothing(
    line: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(line) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_unknown_flag_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["record", "sprites"]) == 2
    assert "--out" in capsys.readouterr().err
    assert cli.main(["recipes", "--jsno"]) == 2
    assert cli.main([]) == 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UnusableInput("no"), 2, "retrodict: no\n"),
        (Damaged("a.parquet", "3 bytes", "2 bytes"), 2, "a.parquet is damaged"),
        (Locked("d", "41"), 2, "process 41"),
        (
            Interrupted("SIGTERM", "stage is committed. Resume with: retrodict train", 143),
            143,
            "Resume with: retrodict",
        ),
        (Interrupted("SIGINT", "stage is committed. Resume with: retrodict train", 130), 130, "Resume with: retrodict"),
        (KeyboardInterrupt(), 130, "Resume with: retrodict recipes --json"),
        (ModuleNotFoundError("no torch", name="torch"), 2, "-m pip install torch"),
        (ModuleNotFoundError("no PIL", name="PIL.Image"), 2, "-m pip install pillow"),
        (ModuleNotFoundError("no minigrid", name="minigrid.core"), 2, "-m pip install 'retrodict[envs]'"),
    ],
)
def test_each_kind_of_end_has_its_exit_code_and_message(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error)
    assert cli.main(["recipes", "--json"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a bug"), ModuleNotFoundError("a bug", name="retrodict.nothing")])
def test_what_was_not_raised_on_purpose_is_shown_whole(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, error)
    with pytest.raises(type(error), match="a bug"):
        cli.main(["recipes"])


def test_the_trace_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, UnusableInput("no"))
    monkeypatch.setenv("RETRODICT_TRACE", "1")
    with pytest.raises(UnusableInput):
        cli.main(["recipes"])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f'"{sys.executable}" -c "{MAIN}" recipes --json | head -c 1', shell=True, capture_output=True, check=False
    )
    assert done.stderr == b""


def test_sigterm_keeps_what_was_committed_and_names_the_line_that_resumes(tmp_path: Path) -> None:
    line = ["record", "sprites", "--episodes", "100000", "--out", str(tmp_path / "d")]
    child = subprocess.Popen([sys.executable, "-c", MAIN, *line], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert "committed 50 episodes" in child.stderr.readline()
    child.send_signal(signal.SIGTERM)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 143
    assert f"Resume with: retrodict {' '.join(line)}" in told
    with Store.open(tmp_path / "d", write=True) as store:
        assert len(store.ids) >= 50
        assert not store.damages()


def test_handlers_of_signals_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    failing(monkeypatch, UnusableInput("no"))
    cli.main(["recipes"])
    assert signal.getsignal(signal.SIGTERM) == before


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Still:
        threads = 3

        def run(self, line: str) -> int:
            return torch.get_num_threads()

    before = torch.get_num_threads()
    monkeypatch.setattr(grammar, "parse", lambda argv: Still())
    try:
        assert cli.main(["recipes"]) == 3
    finally:
        torch.set_num_threads(before)


def test_what_the_system_refuses_is_one_message_that_names_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").touch()
    out = tmp_path / "a file/data"
    assert cli.main(["record", "sprites", "--episodes", "1", "--out", str(out)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("retrodict: ")
    assert str(tmp_path / "a file") in shown
    assert "may be written by you" in shown
    assert "Traceback" not in shown
