"""Decoding with a guard: a child process with limits decodes, and a bad file is refused by name.

A crash, a hang or an outsized claim costs one file. The child is kept and serves many files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrodict.errors import MissingPackage, Undecodable

GRID = 1e-4  # seconds; LeRobot's own tolerance between a frame's time and frame / fps
HEADER = struct.Struct("<4sIIIIQ")  # mark, kind, frames, height, width, bytes that follow
MARK = b"rdv1"
FRAMES, END, REFUSED, FACTS = range(4)  # FRAMES without a frame says that a long file is still being read
MOST_BYTES = 128 << 20  # of one message: a frame of the largest size fits
CHUNK_BYTES = 4 << 20  # of the frames that the child collects for one message

Frames = npt.NDArray[np.uint8]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a video file says of itself: sides in pixels as shown (rotation applied), and its frames' times."""

    height: int
    width: int
    times: tuple[float, ...]  # seconds, of every frame, as the packets say
    rate: float  # average frames per second
    jitter: float  # seconds by which a frame is at most off from start + k / rate
    rotation: int  # degrees counter-clockwise
    codec: str
    container: str

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.times)


class Decoder:
    """Decodes video files in child processes, one per request under way, kept for the next.

    `memory` is how many bytes a child may take beyond its start; `seconds` how long, in processor time and by the
    clock, it may work on one message (some 4 MB of frames).
    """

    def __init__(self, memory: int = 1536 << 20, seconds: float = 30.0) -> None:
        self.memory, self.seconds = memory, seconds
        self._idle: list[_Child] = []

    def facts(self, file: Path | str) -> Facts:
        """Returns size, rate and times of a video, from its headers and first frame.

        Raises:
            Undecodable: the file is no video, or broken, or beyond the limits.
        """
        for kind, _, payload in self._ask(Path(file), {"what": "facts"}):
            if kind == FACTS:
                value = json.loads(payload)
                return Facts(**value | {"times": tuple(value["times"])})
        raise Undecodable(file, "the decoder gave no answer")

    def frames(
        self, file: Path | str, start: float = 0.0, stop: float | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[Frames, Times]]:
        """Yields (frames of shape (n, h, w, 3), times in seconds) for start <= time < stop, in order.

        `size` (height, width) resizes. A consumer that stops early costs the child, which is started anew.

        Raises:
            Undecodable: as for `facts`; also when frames are corrupt, change size, or have no growing times.
        """
        request = {"what": "frames", "start": start, "stop": stop, "size": size}
        for kind, shape, payload in self._ask(Path(file), request):
            if kind == FRAMES and shape[0]:
                times = np.frombuffer(payload, np.float64, shape[0])
                yield np.frombuffer(payload, np.uint8, offset=times.nbytes).reshape(*shape, 3), times

    def remux(self, runs: Sequence[tuple[Path, float, float]], target: Path, fps: int) -> None:
        """Copies runs of frames (file, times of the first and the last in seconds) into one mp4 file without decoding.

        Raises:
            Undecodable: a run does not start with a key frame, they differ in encoding, or as for `facts`.
        """
        told = [(str(file.absolute()), start, stop) for file, start, stop in runs]
        request = {"what": "remux", "runs": told, "target": str(target.absolute()), "fps": fps}
        for _ in self._ask(runs[0][0], request):
            pass

    def close(self) -> None:
        """Ends the children."""
        while self._idle:
            self._idle.pop().kill()

    def _ask(self, file: Path, request: dict[str, Any]) -> Iterator[tuple[int, tuple[int, int, int], bytearray]]:
        if not file.is_file():
            raise Undecodable(file, "there is no such file, or it is a link to nowhere")
        child = self._child()
        finished = False
        try:
            child.send(request | {"file": str(file.absolute())})
            while not finished:
                kind, shape, payload = child.receive(self.seconds)
                finished = kind != FRAMES
                if kind == REFUSED:
                    raise Undecodable(file, payload.decode("utf-8", "replace"))
                yield kind, shape, payload
        except _Lost as lost:
            raise Undecodable(file, str(lost)) from None
        finally:
            if finished:
                self._idle.append(child)
            else:
                child.kill()

    def _child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.usable():
                return child
        return _Child(self.memory, self.seconds)


class _Lost(Exception):
    """The child died, hung, or sent what is no message."""


class _Child:
    def __init__(self, memory: int, seconds: float) -> None:
        if importlib.util.find_spec("av") is None:
            raise MissingPackage("PyAV", "decoding video", "pip install av")
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "retrodict.data.video_child", str(memory), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)

    def usable(self) -> bool:
        """True in the process that started it, while it lives; a forked copy must not share its pipes."""
        return self._owner == os.getpid() and self._process.poll() is None

    def send(self, request: dict[str, Any]) -> None:
        """Hands over a request; raises _Lost when the child is dead."""
        try:
            self._in.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise _Lost(self._death()) from None

    def receive(self, seconds: float) -> tuple[int, tuple[int, int, int], bytearray]:
        """Returns (kind, (frames, height, width), bytes) of the next message; raises _Lost without one in time."""
        deadline = time.monotonic() + seconds
        mark, kind, count, height, width, length = HEADER.unpack(self._exactly(HEADER.size, deadline))
        if mark != MARK or length > MOST_BYTES or (kind == FRAMES and length != count * (8 + height * width * 3)):
            raise _Lost(f"the decoder sent a message of kind {kind} and {length} bytes, which is none of its own")
        return kind, (count, height, width), self._exactly(length, deadline)

    def _exactly(self, length: int, deadline: float) -> bytearray:
        data = bytearray(length)
        view, have = memoryview(data), 0
        while have < length:
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _Lost("the decoder made no progress in the time it is given")
            got = os.readv(self._out.fileno(), [view[have:]])
            if got == 0:
                raise _Lost(self._death())
            have += got
        return data

    def _death(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"the decoder was ended by {signal.Signals(-code).name}"
        return f"the decoder ended with exit code {code}"

    def kill(self) -> None:
        """Ends the child, unless this is a forked copy of its owner."""
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._in.close()
        self._out.close()


decoder = Decoder()  # the process's own, with the usual limits
