"""The command line: one verb, one dataclass, one message when something is wrong.

Exit codes: 0 done; 2 wrong use or unusable input, nothing written; 3 the verdict is "not usable" under --strict;
4 done, but some inputs were refused, each named; 130 and 143 interrupted, with the line that resumes.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from retrodict.errors import Interrupted, MissingPackage, RetrodictError, UnusableInput

# A package that is named here and absent becomes a message with the line that installs it.
_PACKAGES = {
    "torch": "torch", "numpy": "numpy", "pyarrow": "pyarrow", "av": "av", "safetensors": "safetensors",
    "gymnasium": "gymnasium", "einops": "einops", "tyro": "tyro", "jaxtyping": "jaxtyping",
    "PIL": "pillow", "h5py": "'retrodict[h5]'", "minigrid": "'retrodict[envs]'", "tensorboard": "'retrodict[track]'",
    "starlette": "'retrodict[web]'", "uvicorn": "'retrodict[web]'", "websockets": "'retrodict[web]'",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Parses and does one command; returns its exit code. RETRODICT_TRACE=1 shows where an error came from."""
    argv = list(sys.argv[1:] if argv is None else argv)
    line = shlex.join(["retrodict", *argv])
    return guarded(lambda: _do(argv, line), line)


def _do(argv: Sequence[str], line: str) -> int:
    from retrodict.cli.grammar import parse

    try:
        verb = parse(argv)
    except SystemExit as leaving:  # --help, or wrong use, already told
        return leaving.code if isinstance(leaving.code, int) else 2
    if verb.threads < 0:
        raise UnusableInput(f"--threads must be 1 or more, or 0 for as many as torch chooses; got {verb.threads}")
    if verb.threads:
        import torch

        torch.set_num_threads(verb.threads)
    with _terminable(line):
        return verb.run(line)


def guarded(work: Callable[[], int], line: str) -> int:
    """Turns what was raised on purpose, an interrupt or an absent package into one message and an exit code."""
    try:
        return work()
    except Interrupted as stopped:
        return _fail(stopped, stopped.exit_code)
    except KeyboardInterrupt as stopped:
        return _fail(stopped, 130, f"SIGINT: what was committed is kept. Resume with: {line}")
    except RetrodictError as error:
        return _fail(error, 2)
    except BrokenPipeError:  # who reads our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(error, 2, _of_the_system(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        install = f"{sys.executable} -m pip install {_PACKAGES[package]}"
        return _fail(error, 2, str(MissingPackage(package, "this command", install)))


def _of_the_system(error: OSError) -> str:
    """Says what the operating system refused, where, and what to look at."""
    place = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    what = error.strerror or str(error) or type(error).__name__
    return (
        f"{f'{place}: ' if place else ''}{what}. Check that this path exists, may be written by you, and has room on "
        "its disk; RETRODICT_TRACE=1 shows where it was needed"
    )


def _fail(error: BaseException, code: int, message: str = "") -> int:
    if os.environ.get("RETRODICT_TRACE") == "1":
        raise error
    print(f"retrodict: {message or error}", file=sys.stderr, flush=True)
    return code


@contextmanager
def _terminable(line: str) -> Iterator[None]:
    """Lets SIGTERM leave by way of an exception, so that what is open is closed and the line that resumes is told.

    Training has its own, gentler handler while it runs.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted("SIGTERM", f"what was committed is kept. Resume with: {line}", 143)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread, where signals go elsewhere
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
