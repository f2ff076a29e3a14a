"""Videos made to cost much: small files whose headers, tables or playlists ask for very much, or for no end."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from data_samples import encoded, moving

LENGTH = 6
WIDE = 16_384  # pixels; also the most that VP8's 14 bits hold, plus one
BILLION = 1_000_000_000


@cache
def sample(codec: str = "libx264", name: str = "a.mp4") -> bytes:
    """A small sound video of LENGTH frames."""
    with tempfile.TemporaryDirectory() as folder:
        return encoded(Path(folder) / name, moving(LENGTH, 64, 64), codec).read_bytes()


def _patched(data: bytes, name: bytes, offset: int, *values: int) -> bytes:
    """Sets 32-bit numbers `offset` bytes after a box's name."""
    changed, at = bytearray(data), data.index(name) + 4 + offset
    changed[at : at + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    return bytes(changed)


def _grown(data: bytes, path: tuple[bytes, ...], more: bytes) -> bytes:
    """Adds bytes to the end of the innermost of some boxes, which lie in each other, and makes them all larger."""
    changed = bytearray(data)
    at = 0
    for name in path:
        at = changed.index(name, at)
        (size,) = struct.unpack_from(">I", changed, at - 4)
        struct.pack_into(">I", changed, at - 4, size + len(more))
    end = at - 4 + size
    changed[end:end] = more
    return bytes(changed)


def _edits(entries: int, length: int, start: int) -> bytes:
    """An mp4 file whose edit list says so many times to show a part of it."""
    table = struct.pack(">IIH2x", length, start & 0xFFFFFFFF, 1) * entries
    box = b"edts" + _box(b"elst", struct.pack(">II", 0, entries) + table)
    box = struct.pack(">I", len(box) + 4) + box
    data = sample().replace(b"edts", b"free")  # the sample's own
    return _grown(data, (b"moov", b"trak"), box)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def _nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = _box(b"moov", content)
    return sample()[:32] + content


def _png(width: int, height: int) -> bytes:
    def part(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


def _packets(path: Path, codec: str, packets: list[bytes], times: list[int | None], container: str) -> None:
    """Writes packets as they are into a container."""
    with av.open(str(path), "w", format=container) as box:
        stream = box.add_stream(codec, rate=10)
        stream.height = stream.width = 64
        stream.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for data, time in zip(packets, times, strict=True):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = time
            packet.is_keyframe = True
            box.mux(packet)


def _images(codec: str, size: int) -> bytes:
    """One picture as a codec of still pictures writes it."""
    writer = av.CodecContext.create(codec, "w")
    writer.height = writer.width = size
    writer.pix_fmt, writer.time_base = {"png": "rgb24"}.get(codec, "yuvj420p"), Fraction(1, 10)
    frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), 90, np.uint8), format="rgb24")
    frame = frame.reformat(format=writer.pix_fmt)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*writer.encode(frame), *writer.encode(None)])


def _jpeg(width: int, height: int) -> bytes:
    data = bytearray(_images("mjpeg", 64))
    at = data.index(b"\xff\xc0")  # the start of a frame: length, bits, height, width
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _vp8(width: int, height: int) -> bytes:
    data = bytearray(sample("libvpx", "a.mkv"))
    at = data.index(b"\x9d\x01\x2a")  # the start of a key frame, then 14 bits of width and of height
    data[at + 3 : at + 7] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    return bytes(data)


def _yuv(width: int, height: int, frames: int) -> bytes:
    return b"YUV4MPEG2 W%d H%d F10:1 Ip C420\n" % (width, height) + b"FRAME\n" * frames


def _transport(path: Path) -> None:
    """A raw H.264 stream: frames without any time."""
    with av.open(io.BytesIO(sample())) as box, path.open("wb") as out:
        stream = box.streams.video[0]
        keep = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in box.demux(stream):
            for part in keep.filter(packet):
                out.write(bytes(part))


def _playlist(path: Path, text: str) -> None:
    path.with_name("other.mp4").write_bytes(sample())
    path.write_text(text)


BOMBS: dict[str, Callable[[Path], object]] = {
    "16k x 16k, said by mp4": lambda p: p.write_bytes(_patched(sample(), b"avc1", 24, WIDE << 16 | WIDE)),
    "16k x 16k, raw": lambda p: p.write_bytes(_yuv(WIDE, WIDE, 3)),
    "16k x 16k, VP8": lambda p: p.write_bytes(_vp8(WIDE - 1, WIDE - 1)),
    "16k x 16k, PNG": lambda p: _packets(p, "png", [_png(WIDE, WIDE)] * 2, [0, 1], "avi"),
    "65k x 65k, JPEG": lambda p: _packets(p, "mjpeg", [_jpeg(65_500, 65_500)] * 2, [0, 1], "avi"),
    "10^9 frames, by their times": lambda p: p.write_bytes(_patched(sample(), b"stts", 8, BILLION)),
    "10^9 frames, by their sizes": lambda p: p.write_bytes(_patched(sample(), b"stsz", 4, 1, BILLION)),
    "10^9 offsets of time": lambda p: p.write_bytes(_patched(sample(), b"ctts", 4, BILLION)),
    "10^9 chunks": lambda p: p.write_bytes(_patched(sample(), b"stco", 4, BILLION)),
    "one frame of 4 GB": lambda p: p.write_bytes(_patched(sample(), b"stsz", 12, (1 << 32) - 1)),
    "a box of 2^63 bytes": lambda p: p.write_bytes(
        sample()[:32] + struct.pack(">I4sQ", 1, b"moov", (1 << 63) - 1) + bytes(64)
    ),
    "20,000 boxes in each other": lambda p: p.write_bytes(_nested(20_000)),
    "10^5 edits": lambda p: p.write_bytes(_edits(100_000, 600, 0)),
    "edits back to the start": lambda p: p.write_bytes(_edits(50, 600, 0)),
    "an edit far outside": lambda p: p.write_bytes(_edits(1, 600, 1 << 31)),
    "a time scale of zero": lambda p: p.write_bytes(_patched(sample(), b"mdhd", 12, 0)),
    "changing sizes": lambda p: _packets(
        p, "mjpeg", [_images("mjpeg", 64), _images("mjpeg", 96), _images("mjpeg", 64)], [0, 1, 2], "matroska"
    ),
    "no times": _transport,
    "frames of one time": lambda p: _packets(p, "mjpeg", [_images("mjpeg", 64)] * 4, [0, 0, 0, 0], "matroska"),
    "a playlist of other files": lambda p: _playlist(p, "ffconcat version 1.0\nfile other.mp4\n"),
    "a playlist of itself": lambda p: _playlist(p, f"ffconcat version 1.0\nfile {p.name}\n" * 9),
    "a playlist of the network": lambda p: _playlist(
        p, "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    ),
    "a session of the network": lambda p: p.write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    ),
}
