"""Formats of an export beside LeRobot v3.0. Each is a folder, and says in `meta/retrodict/export.json` what it holds.

    gr00t  LeRobot v2.1 with meta/modality.json and quantiles, as NVIDIA's GR00T reads it: a file an episode, mp4 only
    hdf5   data.hdf5, robomimic's layout: data/demo_N with actions, dones, obs/CAMERA, obs/state; source, confidence
    npz    episode_N.npz: T frames (t h w c; several cameras are frames_NAME) and T - 1 actions, source, confidence

Sources: docs/sources.md, "Formats". In gr00t and lerobot a row is a frame with the action taken in it; hdf5 likewise.
"""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from retrodict.data import lerobot
from retrodict.data.durable import make_folder, sync
from retrodict.data.schema import Episodes
from retrodict.data.spans import Span, Writer, by_camera, cut, encode, store
from retrodict.data.store import READ_BYTES
from retrodict.errors import MissingPackage, UnusableInput

_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_TASK = "human.action.task_description"


def camera_names(source: Episodes) -> list[str]:
    """The short names of a dataset's cameras, in order: `observation.images.front` is `front`."""
    short = [name.removeprefix("observation.").removeprefix("images.") for name in source.schema.cameras]
    return short if len(set(short)) == len(short) else list(source.schema.cameras)


class Gr00t:
    """Writes LeRobot v2.1 as GR00T reads it; its frames become mp4, whatever they were."""

    holds = False

    def __init__(self, folder: Path, source: Episodes, keep_all: bool) -> None:
        self.folder, self.source, self.last_rows = folder, source, keep_all
        self.rows = self.steps = self.encoded = 0
        self._cameras = [f"observation.images.{name}" for name in camera_names(source)]
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._stats: list[dict[str, Any]] = []
        self._columns: dict[str, list[npt.NDArray[Any]]] = defaultdict(list)

    def add(self, id: str, spans: Sequence[Span]) -> None:
        """Writes a data file a span and a video file a span and camera."""
        files, rows = [], []
        for span in spans:
            number, length = len(self._episodes), span.stop - span.first + self.last_rows
            place = {"episode_chunk": number // lerobot.CHUNK, "episode_index": number}
            assert span.clip.text is not None  # conformed
            task = self._tasks.setdefault(span.clip.text[0], len(self._tasks))
            whole = lerobot.columns_of(span.clip, self.source.schema, number, self.rows, task)
            columns = {name: values[:length] for name, values in whole.items()}
            columns[f"annotation.{_TASK}"] = columns["task_index"]
            self._table(self.folder / _DATA.format(**place), columns)
            files.append({c: self.folder / _VIDEO.format(video_key=c, **place) for c in self._cameras})
            rows.append((span.first, span.first + length))
            self._episodes.append({"episode_index": number, "tasks": [span.clip.text[0]], "length": length})
            stats = {name: moments.published() for name, moments in lerobot.stats_of(columns).items()}
            self._stats.append({"episode_index": number, "stats": stats})
            for name in (n for n, v in columns.items() if v.dtype.kind == "f"):
                self._columns[name].append(columns[name].reshape(length, -1))
            self.rows, self.steps = self.rows + length, self.steps + length - 1
        encode(files, self.source, id, rows)
        self.encoded += len(files) if self._cameras else 0

    def _table(self, path: Path, columns: lerobot.Columns) -> None:
        """Vectors are lists, also of one number: GR00T cuts them by position."""
        make_folder(path.parent)
        arrays = {name: pa.array([*values] if values.ndim > 1 else values) for name, values in columns.items()}
        pq.write_table(pa.table(arrays), path, compression="snappy", write_page_checksum=True)
        sync(path)
        sync(path.parent)

    def finish(self) -> None:
        """Writes the metadata: info.json, episodes, tasks, modality.json and statistics with quantiles."""
        schema = self.source.schema
        features = {n: f for n, f in lerobot.features(schema).items() if n not in schema.cameras}
        for name, (height, width, _) in zip(self._cameras, schema.cameras.values(), strict=True):
            features[name] = lerobot.video_feature((height, width, 3), schema.fps)
        features[f"annotation.{_TASK}"] = features["task_index"]
        chunks = -(-len(self._episodes) // lerobot.CHUNK)
        info = lerobot.info(schema, len(self._episodes), self.rows, len(self._tasks)) | {
            "codebase_version": "v2.1", "total_videos": len(self._episodes) * len(self._cameras),
            "total_chunks": chunks, "data_path": _DATA, "video_path": _VIDEO if self._cameras else None,
            "features": features,
        }  # fmt: skip
        tasks = [{"task_index": number, "task": text} for text, number in self._tasks.items()]
        stats = {name: _quantiles(np.concatenate(parts)) for name, parts in self._columns.items()}
        lines = {"episodes": self._episodes, "tasks": tasks, "episodes_stats": self._stats}
        for name, value in (("info", info), ("modality", self._modality()), ("stats", stats)):
            store(self.folder / f"meta/{name}.json", json.dumps(value, indent=1, allow_nan=False).encode())
        for name, entries in lines.items():
            text = "".join(json.dumps(entry, allow_nan=False, ensure_ascii=False) + "\n" for entry in entries)
            store(self.folder / f"meta/{name}.jsonl", text.encode())

    def _modality(self) -> dict[str, Any]:
        schema = self.source.schema
        action = {
            segment.name: {"start": columns.start, "end": columns.stop, "absolute": not segment.relative}
            for segment, columns, _ in schema.space.slices()
        }
        state = {"state": {"start": 0, "end": len(schema.proprio)}} if schema.proprio else {}
        video = {name.removeprefix("observation.images."): {"original_key": name} for name in self._cameras}
        return {"state": state, "action": action, "video": video, "annotation": {_TASK: {}}}


def _quantiles(values: npt.NDArray[Any]) -> dict[str, list[float]]:
    values = values.astype(np.float64)
    low, high = np.quantile(values, (0.01, 0.99), axis=0)
    found = {"mean": values.mean(0), "std": values.std(0), "min": values.min(0), "max": values.max(0)}
    return {name: value.tolist() for name, value in (found | {"q01": low, "q99": high}).items()}


class Hdf5:
    """Writes one HDF5 file in robomimic's layout; a sample is a frame and the action taken in it."""

    holds = False

    def __init__(self, folder: Path, source: Episodes, keep_all: bool) -> None:
        if importlib.util.find_spec("h5py") is None:
            raise MissingPackage("h5py", "writing HDF5", "pip install 'retrodict[h5]'")
        import h5py

        self.source, self.path = source, folder / "data.hdf5"
        self.rows = self.steps = self.encoded = self._count = 0
        self._file = h5py.File(self.path, "w")
        self._data = self._file.create_group("data")

    def add(self, id: str, spans: Sequence[Span]) -> None:
        """Writes a group a span: its numbers, then its frames as they stream."""
        spans = [span for span in spans if span.stop > span.first]  # an episode of one frame has no action
        pictures = []
        for span in spans:
            group, n, clip = self._data.create_group(f"demo_{self._count}"), span.stop - span.first, span.clip
            self._count, self.rows, self.steps = self._count + 1, self.rows + n, self.steps + n
            group.attrs.update({"num_samples": n, "id": id, "first": span.first, "text": (clip.text or ("",))[0]})
            ends = np.zeros(n, np.uint8) if clip.ends is None else clip.ends[0].numpy().astype(np.uint8)
            for name in ("actions", "source", "confidence", "bounds", "rewards"):
                if (values := getattr(clip, name)) is not None:
                    group[name] = values[0].numpy()
            group["dones"] = ends
            if clip.proprio is not None:
                group["obs/state"] = clip.proprio[0, :n].numpy()
            obs = group.require_group("obs")
            pictures.append([
                obs.create_dataset(name, (n, *shape), "u1", chunks=(1, *shape), compression="gzip", compression_opts=1)
                for name, shape in zip(camera_names(self.source), self.source.schema.cameras.values(), strict=True)
            ])  # fmt: skip
        done = [0] * len(spans)
        for number, frames in cut(self.source, id, [(span.first, span.stop) for span in spans]):
            for target, pixels in zip(pictures[number], by_camera(frames, self.source.schema), strict=True):
                target[done[number] : done[number] + len(pixels)] = pixels
            done[number] += len(frames)

    def finish(self) -> None:
        """Writes what robomimic asks of the whole file."""
        world = {"env_name": "none", "type": 2, "env_kwargs": {}}  # 2: Gym; robomimic wants one, and here is none
        self._data.attrs.update({"total": self.rows, "env_args": json.dumps(world)})
        self._file.close()
        sync(self.path)


class Npz:
    """Writes an npz file an episode, of plain arrays; a step joins frame t to frame t + 1, as inside retrodict."""

    holds = False

    def __init__(self, folder: Path, source: Episodes, keep_all: bool) -> None:
        self.folder, self.source = folder, source
        self.rows = self.steps = self.encoded = self._count = 0
        names = camera_names(source)
        self._names = ["frames"] if len(names) == 1 else [f"frames_{name}" for name in names]

    def add(self, id: str, spans: Sequence[Span]) -> None:
        """Writes a file a span.

        Raises:
            UnusableInput: the frames of a span are too many to hold.
        """
        schema = self.source.schema
        for span in spans:
            if span.clip.length * schema.channels * schema.size[0] * schema.size[1] > READ_BYTES:
                raise UnusableInput(
                    f"frames {span.first}..{span.stop} of {id!r} take more than {READ_BYTES} bytes, which an npz file "
                    "must hold at once; export as hdf5 or lerobot, which stream"
                )
        shown = cut(self.source, id, [(span.first, span.stop + 1) for span in spans])
        runs = groupby(shown, itemgetter(0)) if schema.cameras else enumerate([()] * len(spans))
        for number, pieces in runs:
            clip = spans[number].clip
            names = ("actions", "source", "confidence", "bounds", "rewards", "ends", "times", "proprio")
            arrays = {name: value[0].numpy() for name in names if (value := getattr(clip, name)) is not None}
            if schema.cameras:
                pictures = by_camera(torch.cat([frames for _, frames in pieces]), schema)
                arrays |= dict(zip(self._names, pictures, strict=True))
            path = self.folder / f"episode_{self._count:06d}.npz"
            np.savez_compressed(path, **arrays, text=np.array((clip.text or ("",))[0]))
            sync(path)
            self._count, self.rows, self.steps = self._count + 1, self.rows + clip.length, self.steps + clip.steps

    def finish(self) -> None:
        """Forces the names to the disk."""
        sync(self.folder)


WRITERS: dict[str, Callable[[Path, Episodes, bool], Writer]] = {"gr00t": Gr00t, "hdf5": Hdf5, "npz": Npz}
