"""LeRobotDataset v3.0 on disk: columns, tables and metadata, written with pyarrow alone.

T frames are T rows: row t holds frame t and the action of step t; the last row has no step, so its `source` is
missing and its action zeros. Frames are `image` columns (PNG) or one mp4 file per episode and camera.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.schema import Schema
from retrodict.data.stats import Moments, Stats
from retrodict.errors import Damaged

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
BOUNDS = ("retrodict.low", "retrodict.high")
CHUNK = 1000  # files per folder
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TYPES = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}

Columns = dict[str, npt.NDArray[Any]]


def numbered(pattern: str, number: int, **more: str) -> str:
    """Returns the path of file `number`, 1000 to a folder."""
    return pattern.format(chunk_index=number // CHUNK, file_index=number % CHUNK, **more)


def features(schema: Schema) -> dict[str, dict[str, Any]]:
    """Returns the `features` of info.json in the order of columns."""
    result: dict[str, dict[str, Any]] = {}
    for name, shape in schema.cameras.items():
        result[name] = {"dtype": "image", "shape": list(shape), "names": ["height", "width", "channels"]}
        if schema.video:
            result[name] = video_feature(shape, schema.fps)
    if schema.proprio:
        result["observation.state"] = _vector("float32", schema.proprio)
    result["action"] = _vector("float32", schema.space.columns)
    if schema.bounds:
        result |= {name: _vector("float32", schema.space.columns) for name in BOUNDS}
    if schema.rewards:
        result |= {"next.reward": _scalar("float32"), "next.done": _scalar("bool")}
    result |= {
        "retrodict.source": _scalar("int64"),
        "retrodict.confidence": _scalar("float32"),
        "retrodict.time": _scalar("float64"),
        "timestamp": _scalar("float32"),
    }
    return result | {name: _scalar("int64") for name in ("frame_index", "episode_index", "index", "task_index")}


def _scalar(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def _vector(dtype: str, names: Sequence[str]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(names)], "names": list(names)}


def video_feature(shape: tuple[int, int, int], fps: int) -> dict[str, Any]:
    """Returns the feature of a camera of this shape (height, width, channels) that is kept as video."""
    height, width, channels = shape
    facts = {
        "video.height": height,
        "video.width": width,
        "video.channels": channels,
        "video.fps": fps,
        "video.is_depth_map": False,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": list(shape), "names": ["height", "width", "channels"], "info": facts}


def arrow_schema(schema: Schema) -> pa.Schema:
    """Returns the columns of a data file; videos are files of their own."""
    fields = []
    for name, feature in features(schema).items():
        if feature["dtype"] == "video":
            continue
        kind = _IMAGE if feature["dtype"] == "image" else _TYPES[feature["dtype"]]
        width = feature["shape"][0]
        if feature["dtype"] != "image" and width > 1:  # LeRobot keeps a vector of one number as a plain column
            kind = pa.list_(kind, width)
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def columns_of(clip: Clip, schema: Schema, episode: int, first_row: int, task: int) -> Columns:
    """Returns the numeric columns of one conformed episode, T rows each."""
    t = clip.length
    result: Columns = {}
    if clip.proprio is not None:
        result["observation.state"] = clip.proprio[0].numpy()
    result["action"] = _padded(clip.actions)
    if schema.bounds:
        result |= dict(zip(BOUNDS, np.moveaxis(_padded(clip.bounds), 1, 0), strict=True))
    if schema.rewards:
        result["next.reward"] = _padded(clip.rewards)
        result["next.done"] = _padded(clip.ends).astype(bool)
    frame = np.arange(t, dtype=np.int64)
    assert clip.times is not None  # conformed
    return result | {
        "retrodict.source": _padded(clip.source).astype(np.int64),
        "retrodict.confidence": _padded(clip.confidence),
        "retrodict.time": clip.times[0].numpy(),
        "timestamp": (frame / schema.fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(t, episode, np.int64),
        "index": first_row + frame,
        "task_index": np.full(t, task, np.int64),
    }


def _padded(steps: Tensor | None) -> npt.NDArray[Any]:
    assert steps is not None  # conformed
    return np.concatenate([steps[0].numpy(), np.zeros((1, *steps.shape[2:]), steps.numpy().dtype)])


def table_of(columns: Columns, frames: Tensor | None, schema: Schema) -> pa.Table:
    """Returns the rows of one episode; frames, shape (1, rows, c, h, w), become images unless the schema has video."""
    kinds = arrow_schema(schema)
    arrays = []
    for field in kinds:
        if field.type == _IMAGE:
            arrays.append(pa.array(_images(frames, schema, field.name), _IMAGE))
        elif pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(columns[field.name]).ravel(), field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size))
        else:
            arrays.append(pa.array(columns[field.name].ravel(), field.type))
    return pa.Table.from_arrays(arrays, schema=kinds)


def camera_frames(frames: Tensor | None, schema: Schema, camera: str) -> npt.NDArray[np.uint8]:
    """Returns one camera's part, shape (t, c, h, w), of frames of shape (1, t, all c, h, w)."""
    assert frames is not None  # conformed
    start = 0
    for name, shape in schema.cameras.items():
        if name == camera:
            return frames[0, :, start : start + shape[2]].numpy()
        start += shape[2]
    raise KeyError(camera)


def _images(frames: Tensor | None, schema: Schema, camera: str) -> list[dict[str, Any]]:
    pixels = camera_frames(frames, schema, camera).transpose(0, 2, 3, 1)
    return [{"bytes": encode_png(frame), "path": f"frame-{i:06d}.png"} for i, frame in enumerate(pixels)]


def encode_png(frame: npt.NDArray[np.uint8]) -> bytes:
    """Returns a frame of shape (h, w, 3) or (h, w, 1) as PNG bytes.

    One filter (the row above) and the fastest compression: measured three times faster than Pillow, and not larger.
    """
    height, width, channels = frame.shape
    rows = frame.reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def decode_image(data: bytes, shape: tuple[int, int, int], where: str) -> npt.NDArray[np.uint8]:
    """Returns the frame of shape (h, w, c) that image bytes hold.

    Raises:
        Damaged: the bytes are no PNG or JPEG, or of another size than `shape`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if (image.height, image.width) != shape[:2]:  # read from the header, before any pixel is decoded
                raise Damaged(where, f"a frame of {shape[1]}x{shape[0]}", f"{image.width}x{image.height}")
            pixels = np.asarray(image.convert("RGB" if shape[2] == 3 else "L"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:  # Pillow's ways to say "broken"
        raise Damaged(where, "a PNG or JPEG frame", f"{type(error).__name__}: {error}") from error
    return pixels.reshape(shape)


def frames_of(table: pa.Table, schema: Schema, where: str) -> Tensor:
    """Returns the frames of an episode's rows, shape (1, t, c, h, w), from its image columns."""
    cameras = []
    for name, shape in schema.cameras.items():
        out = np.empty((table.num_rows, shape[2], *shape[:2]), np.uint8)
        for i, value in enumerate(table[name]):
            out[i] = decode_image(value["bytes"].as_py(), shape, f"{where}, frame {i}").transpose(2, 0, 1)
        cameras.append(out)
    return torch.from_numpy(cameras[0] if len(cameras) == 1 else np.concatenate(cameras, 1))[None]


def vector_column(table: pa.Table, name: str, width: int) -> npt.NDArray[Any]:
    """Returns a column of vectors, shape (rows, width); a plain column has width 1."""
    column = table[name].combine_chunks()
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(-1, width)
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)


def clip_of(table: pa.Table, schema: Schema, text: str) -> Clip:
    """Returns one episode, without frames, from the rows that `table_of` wrote."""

    def rows(name: str, width: int, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.array(vector_column(table, name, width)[:-1])).to(dtype)[None]

    def steps(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return rows(name, 1, dtype)[..., 0]

    width = schema.space.width
    state = vector_column(table, "observation.state", len(schema.proprio)) if schema.proprio else None
    return Clip(
        actions=rows("action", width, torch.float32),
        source=steps("retrodict.source", torch.uint8),
        confidence=steps("retrodict.confidence"),
        bounds=torch.stack([rows(name, width, torch.float32) for name in BOUNDS], 2) if schema.bounds else None,
        rewards=steps("next.reward") if schema.rewards else None,
        ends=steps("next.done") if schema.rewards else None,
        times=torch.from_numpy(np.array(vector_column(table, "retrodict.time", 1)[:, 0]))[None],
        text=(text,),
        proprio=None if state is None else torch.from_numpy(np.array(state))[None],
    )


def stats_of(columns: Columns) -> Stats:
    """Returns the statistics of one episode's numeric columns."""
    return {name: Moments.of_rows(values.reshape(len(values), -1)) for name, values in columns.items()}


def episodes_table(rows: Sequence[Mapping[str, Any]], stats: Sequence[Stats]) -> pa.Table:
    """Returns rows of meta/episodes with each episode's statistics in columns of their own."""
    flat = [
        dict(row) | {f"stats/{f}/{n}": v for f, moments in some.items() for n, v in moments.published().items()}
        for row, some in zip(rows, stats, strict=True)
    ]
    return pa.Table.from_pylist(flat)


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """Returns meta/tasks.parquet; LeRobot reads the texts only as a pandas index, which this metadata declares."""
    described = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [entry | {"metadata": None} for entry in described],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def info(schema: Schema, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """Returns meta/info.json."""
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": schema.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if schema.video else None,
        "features": features(schema),
    }


def write_parquet(path: Path, tables: Sequence[pa.Table]) -> None:
    """Writes one row group per table, with page checksums."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, tables[0].schema, compression="snappy", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def parquet_bytes(table: pa.Table) -> bytes:
    """Returns a table as the bytes of a parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="snappy", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())
