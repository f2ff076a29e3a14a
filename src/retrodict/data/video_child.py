"""The process that decodes: `python -m retrodict.data.video_child MEMORY SECONDS`, started by `guarded.py`.

It reads one request per line (JSON) from stdin and answers on stdout with messages of a fixed header and raw bytes.
Its memory and processor time are limited by the operating system, so a hostile file costs this process at most.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from retrodict.data import video
from retrodict.data.guarded import CHUNK_BYTES, END, FACTS, FRAMES, HEADER, MARK, REFUSED


def main(memory: int, seconds: float) -> None:
    """Answers requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries that print must not disturb the answers
    _limit_memory(memory)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            _answer(request, seconds, answers)
        except Exception as error:  # a broken file fails in many ways; each is a refusal with its reason
            _send(answers, REFUSED, 0, 0, 0, f"{type(error).__name__}: {error}".encode()[:2000])


def _answer(request: dict[str, Any], seconds: float, answers: BinaryIO) -> None:
    _limit_processor(seconds)

    def beat() -> None:
        _send(answers, FRAMES, 0, 0, 0, b"")
        _limit_processor(seconds)

    if request["what"] == "facts":
        _send(answers, FACTS, 0, 0, 0, json.dumps(asdict(video.look(request["file"], beat))).encode())
        return
    if request["what"] == "remux":
        video.remux([(run[0], run[1], run[2]) for run in request["runs"]], request["target"], request["fps"], beat)
        _send(answers, END, 0, 0, 0, b"")
        return
    size = (request["size"][0], request["size"][1]) if request["size"] else None
    stop = float("inf") if request["stop"] is None else request["stop"]
    for frames, times in video.frames_between(request["file"], request["start"], stop, size, CHUNK_BYTES):
        count, height, width, _ = frames.shape
        _send(answers, FRAMES, count, height, width, times.tobytes() + frames.tobytes())
        _limit_processor(seconds)  # anew for each message: a long video is no crime
    _send(answers, END, 0, 0, 0, b"")


def _send(answers: BinaryIO, kind: int, count: int, height: int, width: int, data: bytes) -> None:
    answers.write(HEADER.pack(MARK, kind, count, height, width, len(data)))
    answers.write(data)
    answers.flush()


def _limit_memory(more: int) -> None:
    pages = Path("/proc/self/statm")
    if pages.exists():  # Linux; elsewhere a limit on address space means nothing
        now = int(pages.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))


def _limit_processor(seconds: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime + seconds) + 1, hard))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
