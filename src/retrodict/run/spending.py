"""What a stage of a run costs, over all processes that worked on it."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

from retrodict.run.checkpoint import sync_write


class Spending:
    """What a stage has cost, with what it cost before it was interrupted (a kill forgets the part that it ends)."""

    def __init__(self, path: Path) -> None:
        self.path, self.began, self.worked = path, time.monotonic(), time.process_time()
        self.before = json.loads(path.read_bytes()) if path.exists() else {"seconds": 0.0, "cpu_seconds": 0.0}

    def so_far(self) -> dict[str, float]:
        """Seconds, of them those of the CPU, and the most memory in MB."""
        return {
            "seconds": round(self.before["seconds"] + time.monotonic() - self.began, 2),
            "cpu_seconds": round(self.before["cpu_seconds"] + time.process_time() - self.worked, 2),
            "memory_mb": int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024),
        }

    def keep(self) -> None:
        """Writes it down for who resumes."""
        sync_write(self.path, json.dumps(self.so_far()).encode())
