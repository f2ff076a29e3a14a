"""Video files through PyAV: the only module that imports it.

`Writer` runs where it is called. `look`, `frames_between` and `remux` read foreign files, so they run only in the child
process of `video_child.py`; other code reads through `guarded.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from retrodict.data.guarded import GRID, Facts

MOST_PIXELS = 1 << 25  # of one frame: 8K; larger claims are refused before anything is allocated
MOST_FRAMES = 10_000_000
KEY_FRAME_EVERY = 12
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf"  # what holds its own frames: a playlist would read other files
BEAT = 5000  # packets after which a reader of a long file says that it is alive

av.logging.set_level(av.logging.PANIC)  # what fails is raised, and named by the caller

Frames = npt.NDArray[np.uint8]
Times = npt.NDArray[np.float64]


class Writer:
    """Writes an mp4 file (H.264, frame k at k / fps exactly, no audio); a context manager.

    Frames of even sides become 4:2:0, which every player opens; odd ones 4:4:4, as 4:2:0 has no odd sides.
    One thread and a fixed encoder: the same frames give the same bytes.
    """

    def __init__(self, path: Path, height: int, width: int, fps: int) -> None:
        self._box = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream: Any = self._box.add_stream("libx264", rate=fps)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, fps)
        self._stream.codec_context.options = {
            "crf": "18", "preset": "veryfast", "g": str(KEY_FRAME_EVERY), "bf": "0", "threads": "1",
            "mbtree": "0",  # with it, one file in a hundred was written differently
        }  # fmt: skip
        self._stream.codec_context.thread_count = 1
        self._count = 0

    def add(self, frames: Frames) -> None:
        """Encodes frames of shape (n, h, w, 3)."""
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = self._count, self._stream.codec_context.time_base
            self._count += 1
            for packet in self._stream.encode(frame):
                self._box.mux(packet)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for packet in self._stream.encode():
                self._box.mux(packet)
        self._box.close()


def look(path: str, beat: Callable[[], None]) -> Facts:
    """Reads a file's headers, its packets' times and its first frame; decodes no other. Calls `beat` now and then.

    Raises:
        Exception: of many kinds, as the file is broken in many ways; the caller turns them into one.
    """
    with _open(path) as box:
        stream = _stream(box)
        times = np.array(sorted(_packet_times(box, stream, beat)))
        if len(times) == 0:
            raise ValueError("it has no frames with a presentation time")
        span = float(times[-1] - times[0])
        rate = (len(times) - 1) / span if span > 0 else float(stream.average_rate or 0)
        if not rate > 0:
            raise ValueError("its frames have no times apart, and it states no rate")
        whole = round(rate)  # a rate measured from rounded times is whole when every frame is on the whole grid
        rate = float(whole) if whole and _off_grid(times, whole) < GRID else rate
        box.seek(0)
        first = next(box.decode(stream), None)
        if first is None:
            raise ValueError("none of its frames can be decoded")
        turned = first.rotation % 180 == 90
        height, width = (first.width, first.height) if turned else (first.height, first.width)
        return Facts(
            height, width, tuple(times.tolist()), rate, _off_grid(times, rate), first.rotation % 360,
            getattr(stream.codec, "canonical_name", stream.codec.name), box.format.name,  # not libdav1d, but av1
        )  # fmt: skip


def _open(path: str) -> Any:
    return av.open(path, container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"})


def _stream(box: Any) -> Any:
    if not box.streams.video:
        raise ValueError("it has no video stream")
    stream = box.streams.video[0]
    if stream.width * stream.height > MOST_PIXELS:
        raise ValueError(f"frames of {stream.width}x{stream.height} are larger than {MOST_PIXELS} pixels")
    stream.codec_context.thread_count = 1
    stream.thread_type = "NONE"
    return stream


def _packet_times(box: Any, stream: Any, beat: Callable[[], None]) -> Iterator[float]:
    read = 0
    for count, packet in enumerate(box.demux(stream)):
        read += packet.size
        if count > MOST_FRAMES or read > 2 * box.size:  # a list of edits may show a part without end
            raise ValueError(f"it has more than {MOST_FRAMES} frames, or more than its {box.size} bytes can hold")
        if count % BEAT == BEAT - 1:
            beat()
        if packet.pts is not None and packet.size and not packet.is_discard:
            yield float(packet.pts * packet.time_base)


def _off_grid(times: Times, rate: float) -> float:
    return float(np.abs(times - times[0] - np.arange(len(times)) / rate).max())


def frames_between(
    path: str, start: float, stop: float, size: tuple[int, int] | None, most_bytes: int
) -> Iterator[tuple[Frames, Times]]:
    """Decodes the frames shown at start <= time < stop (seconds, within half a grid tolerance), some at a time.

    Frames have shape (n, h, w, 3), rotation applied, resized by area to `size` (height, width) if given; at most
    `most_bytes` at once, yet at least one.
    """
    with _open(path) as box:
        stream = _stream(box)
        if start > 0:
            box.seek(max(0, int(start / stream.time_base)), stream=stream, backward=True)
        pixels: list[Frames] = []
        times: list[float] = []
        last, shape = -np.inf, None
        for frame in box.decode(stream):
            time = _time(frame, last)
            last = time
            if time >= stop - GRID / 2:
                break
            shape = shape or (frame.height, frame.width)
            if (frame.height, frame.width) != shape:
                raise ValueError(f"frame at {time:.4f} s is {frame.width}x{frame.height}, others {shape[1]}x{shape[0]}")
            if time < start - GRID / 2:
                continue
            pixels.append(_pixels(frame, size))
            times.append(time)
            if len(pixels) * pixels[0].nbytes + pixels[0].nbytes > most_bytes:
                yield np.stack(pixels), np.array(times)
                pixels, times = [], []
        if pixels:
            yield np.stack(pixels), np.array(times)


def _time(frame: Any, last: float) -> float:
    if frame.pts is None:
        raise ValueError(f"the frame after {last:.4f} s has no presentation time")
    time = float(frame.pts * frame.time_base)
    if frame.is_corrupt:
        raise ValueError(f"the frame at {time:.4f} s is corrupt")
    if time <= last:
        raise ValueError(f"the frame at {time:.4f} s follows one at {last:.4f} s")
    return time


def _pixels(frame: Any, size: tuple[int, int] | None) -> Frames:
    turns = (frame.rotation // 90) % 4
    if size is not None:
        height, width = size[::-1] if turns % 2 else size
        if (height, width) != (frame.height, frame.width):
            frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    pixels: Frames = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def remux(runs: Sequence[tuple[str, float, float]], target: str, fps: int, beat: Callable[[], None]) -> None:
    """Copies runs of frames (file, times of the first and the last in seconds) into one mp4 file, frame k at k / fps.

    Nothing is decoded: every run starts with a key frame, and all come from one encoder with one setting. Times of
    decoding count packets too, early enough for every frame. Calls `beat` now and then.

    Raises: as `look`.
    """
    ranks = [_ranks(*run, beat) for run in runs]
    delay = max(int((np.arange(len(rank)) - rank).max()) for rank in ranks)
    base, known = 0, None
    with av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as out:
        for (path, start, stop), rank in zip(runs, ranks, strict=True):
            with _open(path) as box:
                stream = _stream(box)
                codec = stream.codec_context
                made = (codec.name, codec.extradata, codec.width, codec.height, codec.pix_fmt)
                if known is None:
                    known, copy = made, out.add_stream_from_template(stream, opaque=True)  # no encoder is needed
                    copy.time_base = Fraction(1, fps)
                elif made != known:
                    raise ValueError("it was encoded otherwise than the file before it")
                for number, packet in enumerate(_between(box, stream, start, stop, beat)):
                    packet.stream, packet.time_base, packet.duration = copy, Fraction(1, fps), 1
                    packet.pts, packet.dts = base + int(rank[number]), base + number - delay
                    out.mux(packet)
            base += len(rank)


def _between(box: Any, stream: Any, start: float, stop: float, beat: Callable[[], None]) -> Iterator[Any]:
    """Yields the packets whose frames are shown from `start` to `stop`, in the order of decoding."""
    if start > 1:  # a long file holds many runs
        box.seek(int(start / stream.time_base), stream=stream, backward=True)
    for count, packet in enumerate(box.demux(stream)):
        if count % BEAT == BEAT - 1:
            beat()
        if packet.size and (packet.pts is None or packet.is_discard):
            raise ValueError("it holds packets without a time, or not to be shown")
        if packet.dts is not None and packet.dts * packet.time_base > stop + GRID:
            return
        if packet.size and start - GRID / 2 <= float(packet.pts * packet.time_base) <= stop + GRID / 2:
            yield packet


def _ranks(path: str, start: float, stop: float, beat: Callable[[], None]) -> npt.NDArray[np.int64]:
    """Returns for each packet of a run, in the order of decoding, the number of its frame in the order of showing."""
    with _open(path) as box:
        found = [(p.pts, p.is_keyframe) for p in _between(box, _stream(box), start, stop, beat)]
    if not found or not found[0][1]:
        raise ValueError(f"its frame at {start:.4f} s is no key frame")
    return np.argsort(np.argsort([pts for pts, _ in found], kind="stable"), kind="stable")
