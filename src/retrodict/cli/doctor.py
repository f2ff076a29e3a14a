"""retrodict doctor: what is there, what works, what is missing and the line that installs it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from retrodict.cli.verb import DONE, UNUSABLE, Telling
from retrodict.errors import RetrodictError

NEEDED = (
    "torch", "numpy", "pyarrow", "av", "safetensors", "gymnasium", "einops", "tyro", "jaxtyping", "pillow",
)  # fmt: skip
OPTIONAL = {  # distribution: (what it is for, how to install it)
    "minigrid": ("BabyAI worlds", "pip install 'retrodict[envs]'"),
    "mujoco": ("the arm", "pip install 'retrodict[arm]'"),
    "box2d": ("CarRacing", "pip install 'retrodict[box2d]'"),
    "procgen-mirror": ("Procgen worlds", "retrodict doctor --install procgen"),
    "tensorboard": ("metrics in TensorBoard", "pip install 'retrodict[track]'"),
    "starlette": ("pages in the browser", "pip install 'retrodict[web]'"),
    "uvicorn": ("pages in the browser", "pip install 'retrodict[web]'"),
    "websockets": ("pages in the browser", "pip install 'retrodict[web]'"),
    "h5py": ("HDF5", "pip install 'retrodict[h5]'"),
    "onnxscript": ("writing ONNX", "pip install 'retrodict[onnx]'"),
    "onnxruntime": ("labelling by ONNX Runtime", "pip install 'retrodict[onnx]'"),
}
_SIDE, _FRAMES, _RATE = 32, 10, 10


@dataclass(frozen=True, kw_only=True)
class Doctor(Telling):
    """Tells versions, tries the codecs, and names what is missing with the line that installs it."""

    install: Literal["nothing", "procgen"] = "nothing"
    """Install Procgen, whose metadata would otherwise pull in an old numpy."""

    def run(self, line: str) -> int:
        """Looks, and installs where asked; exit code 2 when something that is needed does not work."""
        if self.install == "procgen" and not _install_procgen():
            return UNUSABLE
        packages = {name: _version(name) for name in NEEDED}
        optional = {name: _version(name) for name in OPTIONAL}
        tried = {"h264": _tried(encode_and_decode), "png": _tried(png_round_trip)}
        told = {
            "python": platform.python_version(), "system": platform.platform(), **_machine(),
            "packages": packages, "optional": optional, "tried": tried,
        }  # fmt: skip
        broken = [name for name, found in packages.items() if found is None]
        broken += [name for name, result in tried.items() if result != "works"]
        self.tell(told | {"works": not broken}, _lines(told, broken))
        return UNUSABLE if broken else DONE


def encode_and_decode() -> None:
    """Writes ten frames as h264 and decodes them in the guarded child; raises when they come back otherwise."""
    import numpy as np

    from retrodict.data.guarded import decoder
    from retrodict.data.video import Writer

    ramp = np.linspace(0, 200, _SIDE, dtype=np.uint8)
    frames = np.stack([np.broadcast_to((ramp + 5 * i)[:, None, None], (_SIDE, _SIDE, 3)) for i in range(_FRAMES)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ten.mp4"
        with Writer(path, _SIDE, _SIDE, _RATE) as writer:
            writer.add(frames)
        pieces = list(decoder.frames(path))
    back = np.concatenate([piece for piece, _ in pieces])
    times = np.concatenate([moments for _, moments in pieces])
    if back.shape != frames.shape or not np.allclose(times, np.arange(_FRAMES) / _RATE, atol=1e-4):
        raise RetrodictError(f"wrote {len(frames)} frames and decoded {len(back)}, at {times.tolist()} s")
    worst = int(np.abs(back.astype(int) - frames.astype(int)).max())
    if worst > 24:
        raise RetrodictError(f"decoded frames differ by up to {worst} of 255 from what was encoded")


def png_round_trip() -> None:
    """Writes ten frames as PNG bytes and reads them back; raises when a pixel differs."""
    import io

    import numpy as np
    from PIL import Image

    frames = np.arange(_FRAMES * _SIDE * _SIDE * 3, dtype=np.uint32).astype(np.uint8).reshape(-1, _SIDE, _SIDE, 3)
    for frame in frames:
        stored = io.BytesIO()
        Image.fromarray(frame).save(stored, "png")
        if not np.array_equal(np.asarray(Image.open(io.BytesIO(stored.getvalue()))), frame):
            raise RetrodictError("a PNG image came back with other pixels")


def _tried(work: Callable[[], None]) -> str:
    """Runs a trial: "works", or the error; whatever a broken installation raises is what the doctor is asked about."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "works"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    found: dict[str, Any] = {"cores": os.cpu_count(), "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1)}
    if importlib.util.find_spec("torch") is not None:
        import torch

        found |= {"threads": torch.get_num_threads(), "cuda": torch.cuda.is_available()}
    return found


def _lines(told: dict[str, Any], broken: list[str]) -> list[str]:
    lines = [f"{name:14}  {value}" for name, value in told.items() if not isinstance(value, dict)]
    for name, found in told["packages"].items():
        lines.append(f"{name:14}  {found or f'missing: {sys.executable} -m pip install {name}'}")
    for name, found in told["optional"].items():
        purpose, install = OPTIONAL[name]
        lines.append(f"{name:14}  {found or f'not there ({purpose}): {install}'}")
    lines += [f"{name:14}  ten frames: {result}" for name, result in told["tried"].items()]
    return [*lines, f"broken: {', '.join(broken)}" if broken else "all that is needed works"]


def _install_procgen() -> bool:
    from retrodict.envs.procgen import install_procgen

    for command in install_procgen():
        print(" ".join(command), file=sys.stderr, flush=True)
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            print("retrodict: this command failed; nothing else was changed", file=sys.stderr)
            return False
    return True
