"""A policy or an inverse model as an ONNX file, which runs without retrodict, beside a card that says how.

The file takes windows of frames as bytes and answers with distribution parameters, the likeliest action and its
confidence; normalisation and temperature are inside. What torch and ONNX Runtime answer is compared as it is written.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.durable import file_hash, new_folder, sync, to_json
from retrodict.errors import Damaged, Incompatible, MissingPackage, UnusableInput
from retrodict.models.ensemble import Ensemble
from retrodict.models.inverse import Inverse
from retrodict.models.windows import windows
from retrodict.roles import InverseModel, Policy, View
from retrodict.run.run import parts_of
from retrodict.spaces import ActionSpace, Distribution

TOLERANCE = 1e-4  # most by which an answer of ONNX Runtime may differ from torch's
OUTPUTS = ("params", "action", "confidence")
CARD = "card.json"
_TRIES = (1, 7, 64)  # windows at once at which the two are compared


class _Answer(nn.Module):
    """A role as a function of windows: the frames of its view and those between them, oldest first."""

    def __init__(self, role: Policy | InverseModel) -> None:
        super().__init__()
        self.role = copy.deepcopy(role)
        found = []
        parts = [part for outer in parts_of(self.role) for part in outer.modules()]
        for part in parts:  # the role's own before those of the parts inside
            if (temperature := part._buffers.pop("temperature", None)) is not None:
                found.append(temperature.tolist())  # numbers that a tracer may look at
                part.__dict__["temperature"] = found[-1]
        self.temperature = found[0] if found else [1.0]

    def forward(self, frames: UInt8[Tensor, "n t c h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what OUTPUTS names."""
        role = self.role
        if isinstance(role, Inverse | Ensemble):  # without the steps beside the one that is asked for
            belief = role.belief(frames[:, :: role.view.every]).scaled(self.temperature)
        elif isinstance(role, InverseModel):
            belief = role.infer(Clip(frames=frames))[:, -role.view.offsets()[0]]
        else:
            belief = role.act(Clip(frames=frames))[0]
        return belief.params, belief.mode(), belief.confidence()


def export_onnx(roles: Mapping[str, Policy | InverseModel], out: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Writes NAME.onnx for each role and card.json into a new folder, whole or not at all; returns the card.

    Raises:
        MissingPackage: onnx, onnxscript or onnxruntime is not there.
        UnusableInput: `out` exists; a role needs more than frames, or cannot be written as ONNX; or ONNX Runtime's
            answers differ from torch's by more than TOLERANCE.
    """
    need("writing ONNX", "onnx", "onnxscript", "onnxruntime")
    with new_folder(out) as partial:
        card = {"format": 1, **about} | {name: _written(name, role, partial) for name, role in roles.items()}
        (partial / CARD).write_bytes(to_json(card))
        for path in partial.iterdir():
            sync(path)
    return card


def need(purpose: str, *packages: str) -> None:
    """Raises MissingPackage, with the line that installs it, unless these packages of the extra `onnx` are there."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package, purpose, "pip install 'retrodict[onnx]'")


def _written(name: str, role: Policy | InverseModel, folder: Path) -> dict[str, Any]:
    view = role.view
    if view.proprio or view.features:
        raise UnusableInput(f"the {name} sees more than frames ({view}); only models of frames alone become ONNX")
    count = (view.frames - 1) * view.every + 1
    shape = [count, view.channels, *view.size]
    if isinstance(role, Policy) and _remembers(role, shape):
        raise UnusableInput(
            f"the {name} remembers more than its window of {count} frames, which an ONNX file does not; act with it "
            "from Python or by retrodict act"
        )
    answer = _Answer(role).eval()
    _convert(name, answer, shape, folder / f"{name}.onnx")
    parity = _parity(name, answer, shape, folder / f"{name}.onnx")
    return {
        "file": f"{name}.onnx",
        "sha256": file_hash(folder / f"{name}.onnx"),
        "view": asdict(view),
        "space": role.space.to_json(),
        "input": {
            "name": "frames",
            "dtype": "uint8",
            "axes": ["windows", "frames", "channels", "height", "width"],
            "shape": [None, *shape],
            "order": f"frames {-view.before * view.every} .. {(view.frames - 1 - view.before) * view.every} about the "
            "present one, oldest first; an episode's edge frame repeats",
            "normalisation": "inside: give bytes 0..255, RGB",
        },
        "outputs": {
            "params": "distribution parameters: n logits of a choice or keys; n means and n log standard deviations",
            "action": list(role.space.columns),
            "confidence": "probability that the action is right",
        },
        "temperature": answer.temperature,
        "largest_difference": parity,
    }


def _remembers(policy: Policy, shape: list[int]) -> bool:
    """Whether what a policy answers depends on frames before its window."""
    seen = torch.from_numpy(rng.numpy_rng("onnx", "before").integers(0, 256, (4, shape[0] + 4, *shape[1:]), np.uint8))
    with torch.inference_mode():
        whole, window = (policy.act(Clip(frames=frames))[0].params for frames in (seen, seen[:, 4:]))
    return not torch.allclose(whole, window, rtol=1e-5, atol=1e-6)


def _convert(name: str, answer: _Answer, shape: list[int], path: Path) -> None:
    example = torch.zeros(3, *shape, dtype=torch.uint8)
    chatter = logging.getLogger("torch.onnx")  # of packages that are not needed
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                answer, (example,), str(path), input_names=["frames"], output_names=list(OUTPUTS), dynamo=True,
                dynamic_shapes=({0: torch.export.Dim.AUTO},), external_data=False, verbose=False,
                custom_translation_table={torch.ops.aten._cdist_forward.default: _cdist},
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, NotImplementedError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise UnusableInput(f"torch cannot write the {name} as ONNX: {reason}") from error
    finally:
        chatter.setLevel(level)


def _cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: int | None = None) -> Any:
    """Euclidean distances "*b n d", "*b m d" -> "*b n m", which torch's exporter does not know how to write."""
    import onnxscript

    op: Any = onnxscript.opset18
    apart = op.Sub(op.Unsqueeze(x1, op.Constant(value_ints=[-2])), op.Unsqueeze(x2, op.Constant(value_ints=[-3])))
    return op.Sqrt(op.ReduceSumSquare(apart, op.Constant(value_ints=[-1]), keepdims=0))


def _parity(name: str, answer: _Answer, shape: list[int], path: Path) -> float:
    """The largest difference between torch and ONNX Runtime, over batches of several sizes."""
    session = _session(path)
    draws, worst = rng.numpy_rng("onnx", name), 0.0
    for count in _TRIES:
        frames = draws.integers(0, 256, (count, *shape), np.uint8)
        with torch.inference_mode():
            wanted = answer(torch.from_numpy(frames))
        for want, got in zip(wanted[::2], session.run(["params", "confidence"], {"frames": frames}), strict=True):
            worst = max(worst, float(np.abs(want.numpy() - got).max(initial=0.0)))
    if not worst <= TOLERANCE:
        raise UnusableInput(
            f"the {name} answers otherwise in ONNX Runtime: by up to {worst:.2g}, and {TOLERANCE:g} is allowed. "
            "Nothing was written"
        )
    return worst


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxInverse:
    """An inverse model that answers by ONNX Runtime, from the folder that `export_onnx` wrote.

    Raises:
        UnusableInput: the folder holds no inverse model. Damaged: its file is not the one that the card names.
    """

    def __init__(self, folder: Path) -> None:
        need("labelling with ONNX Runtime", "onnxruntime")
        try:
            card = json.loads((folder / CARD).read_bytes())
        except ValueError as error:
            raise Damaged(folder / CARD, "JSON", str(error)) from error
        if not isinstance(card, dict) or "inverse" not in card:
            raise Incompatible(f"{folder} holds no inverse model; export a run that has one")
        card = card["inverse"]
        if (found := file_hash(folder / card["file"])) != card["sha256"]:
            raise Damaged(folder / card["file"], f"SHA-256 {card['sha256'][:12]}…", f"{found[:12]}…")
        size, cameras = tuple(card["view"]["size"]), tuple(card["view"]["cameras"])
        self.view = View(**card["view"] | {"size": size, "cameras": cameras})
        self.space = ActionSpace.from_json(card["space"])
        count, before = card["input"]["shape"][1], self.view.before * self.view.every
        self._shown = replace(self.view, frames=count, before=before, every=1)  # also the frames between
        self._session = _session(folder / card["file"])

    def infer(self, clip: Clip) -> Distribution:
        """Answers every step of the clip: axes "b t-1"."""
        frames = windows(clip, self._shown).cpu().numpy()
        params: Float[Tensor, "n p"] = torch.zeros(0, self.space.parameters)
        if len(frames):
            params = torch.from_numpy(self._session.run(["params"], {"frames": frames})[0])
        return Distribution(self.space, params.view(clip.rows, clip.steps, self.space.parameters))
