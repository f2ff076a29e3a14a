"""Checkpoints and saved systems: safetensors plus a manifest with hashes, committed by one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from retrodict import rng
from retrodict.data.durable import sync, sync_write
from retrodict.errors import Damaged, UnknownName, UnusableInput
from retrodict.nn.device import device_of
from retrodict.nn.part import Part, build
from retrodict.roles import System

STATE, MANIFEST = "state.safetensors", "manifest.json"
SELF = "manifest_sha256"  # of the manifest without this entry


def save_folder(folder: Path, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    """Writes state and manifest beside `folder`, then gives them its name: the folder is whole or absent."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state = save_bytes({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    sync_write(temporary / STATE, state)
    whole = {**manifest, "files": {STATE: {"bytes": len(state), "sha256": hashlib.sha256(state).hexdigest()}}}
    sync_write(temporary / MANIFEST, _json({**whole, SELF: hashlib.sha256(_json(whole)).hexdigest()}))
    sync(temporary)
    if folder.exists():  # a whole one of the same name: replaced, and for a moment both are there
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        os.rename(folder, old)
        os.rename(temporary, folder)
        shutil.rmtree(old)
    else:
        os.rename(temporary, folder)
    sync(folder.parent)


def load_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads and verifies what `save_folder` wrote.

    Raises:
        Damaged: a byte differs from what was committed.
    """
    manifest = load_manifest(folder)
    data = (folder / STATE).read_bytes() if (folder / STATE).exists() else b""
    files = manifest.get("files")
    entry = files.get(STATE) if isinstance(files, dict) else None
    entry = entry if isinstance(entry, dict) else {}
    found = hashlib.sha256(data).hexdigest()
    if len(data) != entry.get("bytes") or found != entry.get("sha256"):
        raise Damaged(
            folder / STATE, f"{entry.get('bytes')} bytes, sha256 {entry.get('sha256')}", f"{len(data)}, {found}"
        )
    try:
        return load_bytes(data), manifest
    except SafetensorError as error:
        raise Damaged(folder / STATE, "safetensors", str(error)) from error


def load_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a checkpoint or saved system.

    Raises:
        UnusableInput: there is none. Damaged: it is not the one that was written.
    """
    path = folder / MANIFEST
    if not path.exists():
        if (folder / "stages").is_dir():
            raise UnusableInput(f"{folder} is a run that is not finished; the command that began it goes on with it")
        what = f"holds no {MANIFEST}" if folder.is_dir() else "is no folder"
        raise UnusableInput(f"{folder} {what}; name the folder of a finished run or checkpoint")
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise Damaged(path, "JSON", str(error)) from error
    if not isinstance(value, dict):
        raise Damaged(path, "a JSON object", type(value).__name__)
    said, found = value.pop(SELF, None), hashlib.sha256(_json(value)).hexdigest()
    if said != found:
        raise Damaged(path, f"its own sha256 {said}", found)
    return value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def newest(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any], str] | None:
    """Loads the newest whole `step-N`; a damaged one is passed over. Returns (step, tensors, manifest, remark).

    Raises:
        Damaged: there are checkpoints, and not one is whole.
    """
    remark = ""
    steps = sorted((int(p.name[5:]) for p in folder.glob("step-*") if p.name[5:].isdigit()), reverse=True)
    for step in steps:
        try:
            tensors, manifest = load_folder(folder / f"step-{step}")
            return step, tensors, manifest, remark
        except (Damaged, UnusableInput) as error:
            remark = f"{error} Going on from the checkpoint before it."
    if steps:
        names = ", ".join(f"step-{step}" for step in steps)
        raise Damaged(folder, "one whole checkpoint at least", f"damage in each of {names}")
    return None


def prune(folder: Path, keep: int = 2) -> None:
    """Removes all but the newest checkpoints."""
    steps = sorted(int(p.name[5:]) for p in folder.glob("step-*") if p.name[5:].isdigit())
    for step in steps[:-keep]:
        shutil.rmtree(folder / f"step-{step}")


def sweep(folder: Path) -> None:
    """Removes what a killed process left behind; what it had moved away, and not replaced yet, goes back."""
    for old in folder.glob(".*.old"):
        home = folder / old.name[1:].rsplit(".", 2)[0]
        if old.is_dir() and not home.exists():
            os.rename(old, home)
    for leftover in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def save_system(folder: Path, system: System) -> None:
    """Writes a system's parts as safetensors and JSON."""
    tensors: dict[str, Tensor] = {}
    parts: dict[str, Any] = {}
    for name, part in system.parts().items():
        if not isinstance(part, Part):
            raise UnusableInput(f"the system's {name} is a {type(part).__name__}; only parts can be saved")
        parts[name] = part.describe()
        tensors |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_folder(folder, tensors, {"system": parts, "about": dict(system.about)})


def system_hash(folder: Path) -> str:
    """Returns the SHA-256 of the weights of a run's system, to which labels are bound."""
    inner = folder / "system"
    return str(load_manifest(inner if inner.is_dir() else folder)["files"][STATE]["sha256"])


def load_system(folder: Path | str, device: torch.device | str = "cpu") -> System:
    """Reads a saved system: a run folder (its `system`) or the folder itself.

    Raises:
        UnusableInput: there is no finished system, or no such device. Damaged: its bytes were changed.
    """
    device_of(str(device))
    folder = Path(folder)
    folder = folder / "system" if (folder / "system" / MANIFEST).exists() else folder
    tensors, manifest = load_folder(folder)
    if "system" not in manifest:
        raise UnusableInput(f"{folder} is a checkpoint of a stage, not a system; name the run folder")
    roles = {entry.name for entry in fields(System)} - {"about"}
    parts: dict[str, Part] = {}
    with rng.isolated("load"):  # building draws weights, which the saved ones replace
        for name, description in manifest["system"].items():
            if name not in roles:
                raise UnknownName("role of a system", name, roles)
            part = build(description)
            own = {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
            try:
                part.load_state_dict(own)
            except RuntimeError as error:
                raise Damaged(folder / MANIFEST, "a description of the saved tensors", str(error)) from error
            # the layout that it was trained in: convolutions round differently in another
            parts[name] = part.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return System(**parts, about=manifest.get("about", {}))  # type: ignore[arg-type]
