"""A writer that is killed by SIGKILL in the midst of its work."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def told_before_kill(work: Callable[[int], object], wait: float) -> list[str]:
    """Runs work(pipe) in a child, kills it `wait` seconds after its first line there, and returns every line it wrote.

    A child is forked, as importing torch anew for each kill would take most of the time.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(write)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        first = pipe.readline().split()
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return first + pipe.read().split()
