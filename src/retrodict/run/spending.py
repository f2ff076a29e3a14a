"""What a stage of a run costs, over all processes that worked on it."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from retrodict.data.durable import sync_write
from retrodict.errors import Damaged


class Spending:
    """What the work inside costs, with what it cost before it was interrupted (a kill forgets its part)."""

    def __init__(self, path: Path) -> None:
        self.path, self.before = path, {"seconds": 0.0, "cpu_seconds": 0.0}
        if path.exists():
            try:
                told = json.loads(path.read_bytes())
                self.before = {name: float(told[name]) for name in self.before}
            except (ValueError, TypeError, KeyError) as error:
                raise Damaged(path, "JSON with seconds and cpu_seconds", repr(error)) from error

    def __enter__(self) -> Self:
        self.began, self.worked = time.monotonic(), time.process_time()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:  # for who resumes
            sync_write(self.path, json.dumps(self.so_far()).encode())

    def so_far(self) -> dict[str, float]:
        """Seconds, of them those of the CPU, and the most memory in MB."""
        return {
            "seconds": round(self.before["seconds"] + time.monotonic() - self.began, 2),
            "cpu_seconds": round(self.before["cpu_seconds"] + time.process_time() - self.worked, 2),
            "memory_mb": int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024),
        }


def worked(stages: Iterable[Mapping[str, Any]]) -> float:
    """CPU seconds of stages; seconds where an older run noted those alone."""
    return sum(float(stage.get("cpu_seconds", stage["seconds"])) for stage in stages)
