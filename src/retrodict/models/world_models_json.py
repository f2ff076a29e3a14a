"""The published weights of World Models (hardmaru/WorldModelsExperiments): lists of numbers in JSON, as our parts.

Every variable is a nested list, in the order in which TensorFlow made them, times 10,000 and rounded; names are not
kept, so shapes decide. V was shown frames in 0..1 (those of the race cut to 84 rows, at 64 x 64 pixels, and inverted).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from retrodict.errors import Damaged, UnusableInput
from retrodict.models.controller import Controller
from retrodict.models.filtered import Filtered
from retrodict.models.gaussian_vae import GaussianVAE
from retrodict.models.mdn_rnn import MDNRNN
from retrodict.roles import System, View
from retrodict.spaces import ActionSpace, continuous

SCALE = 10_000.0
SIZE, CHANNELS, KERNELS, MIXTURES = (64, 64), (32, 64, 128, 256), (5, 5, 6, 6), 5
RACE = ActionSpace((continuous("drive", ("steer", "gas", "brake")),))  # gas is (x + 1) / 2 of it, brake max(x, 0)
DOOM = ActionSpace((continuous("move", ("right",)),))  # beyond a third to either side it is a step

Arrays = list[Float32[np.ndarray, "..."]]


def world_models_json(folder: Path) -> System:
    """Reads `vae.json`, `rnn.json` and `*.best.json`, wherever below a folder: V as encoder, M as forward model, C as
    policy. M needs V, and C needs M; what is not there is left out.

    Raises:
        UnusableInput: there is no vae.json, a file occurs twice, or variables have other shapes than the published
        models. Damaged: a file is no JSON of numbers.
    """
    found = {name: _one(folder, name) for name in ("vae.json", "rnn.json", "*.best.json")}
    first, second, third = found.values()
    if first is None:
        raise UnusableInput(f"there is no vae.json in {folder}, and all else needs it; name the folder of a checkpoint")
    vae = _vae(first)
    world = None if second is None else _world(second, vae)
    policy = None if third is None or world is None else Filtered(world, _controller(third, world))
    return System(encoder=vae, forward=world, policy=policy)


def _one(folder: Path, name: str) -> Path | None:
    files = sorted(folder.rglob(name))
    if len(files) > 1:
        raise UnusableInput(f"{folder} holds several {name}: {', '.join(map(str, files))}. Leave one")
    return files[0] if files else None


def _json(path: Path) -> list[Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise Damaged(path, "JSON", str(error)) from error
    if not isinstance(value, list):
        raise Damaged(path, "a list", type(value).__name__)
    return value


def _numbers(path: Path, value: Any) -> Float32[np.ndarray, "..."]:
    try:
        return np.asarray(value, np.float64).astype(np.float32)
    except (ValueError, TypeError) as error:
        raise Damaged(path, "nested lists of numbers", str(error)) from error


def _variables(path: Path) -> Arrays:
    return [_numbers(path, one) / np.float32(SCALE) for one in _json(path)]


def _vae(path: Path) -> GaussianVAE:
    values = _variables(path)
    if len(values) != 22 or values[8].ndim != 2:
        raise UnusableInput(f"{path} holds {len(values)} variables; V has a kernel and a bias of 11 layers")
    vae = GaussianVAE(View(size=SIZE), values[8].shape[1], CHANNELS, KERNELS)
    convolutions = [m for m in vae.encoder if isinstance(m, nn.Conv2d)]
    deconvolutions = [m for m in vae.decoder if isinstance(m, nn.ConvTranspose2d)]
    layers: list[Any] = [*convolutions, vae.mean, vae.log_variance, vae.spread, *deconvolutions]
    for number, layer in enumerate(layers):
        kernel, bias = values[2 * number : 2 * number + 2]
        where = f"layer {number} of {path}"
        if kernel.ndim == 4:  # rows, columns, in, out (transposed ones: out, in)
            kernel = kernel.transpose(3, 2, 0, 1)
        elif layer is vae.spread:
            kernel = kernel.T
        else:  # a flattened grid, channels last
            kernel = kernel.reshape(2, 2, -1, vae.latent).transpose(3, 2, 0, 1).reshape(vae.latent, -1)
        _fill(layer.weight, kernel, where)
        _fill(layer.bias, bias, where)
    return vae.eval()


def _world(path: Path, vae: GaussianVAE) -> MDNRNN:
    values = _variables(path)
    kernels = sorted((value for value in values if value.ndim == 2), key=len)  # the LSTM's has the inputs' rows more
    biases = {value.shape[0]: value for value in values if value.ndim == 1}
    if len(values) != 4 or [kernel.shape[1] in biases for kernel in kernels] != [True, True]:
        raise UnusableInput(f"{path} must hold two kernels with biases; got {[value.shape for value in values]}")
    output, inside = kernels
    hidden, doom = len(output), output.shape[1] % vae.latent == 1  # which has an end before the mixtures
    if inside.shape[1] != 4 * hidden:
        raise UnusableInput(f"{path}: an LSTM of {hidden} has {4 * hidden} columns; got {inside.shape}")
    space = DOOM if doom else RACE
    world = MDNRNN(vae, space, hidden, MIXTURES, ends=doom, rewards=False, restarts=doom, cell=doom)
    bias = biases[4 * hidden].copy()
    bias[2 * hidden : 3 * hidden] += 1.0  # of the gate that forgets, which TensorFlow adds when it runs
    gates = np.concatenate([inside, bias[None]]).reshape(-1, 4, hidden)[:, [0, 2, 1, 3]]  # i j f o -> i f j o
    rows, width = gates.reshape(-1, 4 * hidden).T, len(inside) - hidden
    _fill(world.net.all_weights[0][0], np.concatenate([rows[:, :width], rows[:, -1:]], 1), f"the LSTM of {path}")
    _fill(world.net.all_weights[0][1], rows[:, width:-1], f"the LSTM of {path}")
    _fill(world.head.weight, output.T, f"the output of {path}")
    _fill(world.head.bias, biases[output.shape[1]], f"the output of {path}")
    return world.eval()


def _controller(path: Path, world: MDNRNN) -> Controller:
    value = _json(path)
    weights = _numbers(path, value[0] if value else [])
    controller = Controller(replace(world.view, features=world.features), world.space, bias=not world.cell)
    _fill(controller.weights, weights.reshape(1, -1), str(path))
    return controller


def _fill(parameter: Tensor, value: Float32[np.ndarray, "..."], where: str) -> None:
    if tuple(parameter.shape) != value.shape:
        raise UnusableInput(f"{where}: expected a shape of {tuple(parameter.shape)}; got {value.shape}")
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
