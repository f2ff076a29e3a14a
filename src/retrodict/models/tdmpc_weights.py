"""Published weights of TD-MPC2 as a `LatentWorld`: single-task files in both layouts that there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from retrodict import rng
from retrodict.errors import UnusableInput
from retrodict.models.tdmpc import LatentWorld
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Segment

_CRITIC = ("weight", "bias", "ln.weight", "ln.bias")  # in the old layout, number 4 x layer + place
_NETS = {"_encoder.state": "encoder", "_dynamics": "dynamics", "_reward": "reward", "_pi": "prior",
         "_termination": "termination"}  # fmt: skip
_CRITICS = r"_(target_)?Qs(?:\.|_)params\.(.+)"
_UNUSED = r"_detach_Qs.*|.*__\w+|log_std_(min|dif)"  # copies, and what is no weight
_DEVIATION = {"log_std_min": -10.0, "log_std_dif": 12.0}


def from_published(weights: Any) -> LatentWorld:
    """Builds the world of a single-task checkpoint ("model", or the table itself), with the same answers.

    Its actions are axes in -1..1, and what it sees is numbers, or three frames of 64 pixels. Published frames are
    moved about by chance even when it acts; here they are not. Running scales are not part of such files.

    Raises:
        UnusableInput: it is for several tasks, or not TD-MPC2's; the message names what is missing or not known.
    """
    table = weights.get("model", weights) if isinstance(weights, Mapping) else None
    if not isinstance(table, Mapping) or not all(isinstance(name, str) for name in table):
        raise UnusableInput("a checkpoint of TD-MPC2 is a table of weights, or holds one as 'model'")
    if "_task_emb.weight" in table:
        raise UnusableInput("this checkpoint is for several tasks, told by an embedding; convert one of a single task")
    for name, wanted in _DEVIATION.items():
        if name in table and float(table[name]) != wanted:
            raise UnusableInput(f"this checkpoint has {name} {float(table[name]):g}; only {wanted:g} is known")
    found = {_renamed(name): value for name, value in table.items() if not re.fullmatch(_UNUSED, name)}
    bad = [name for name, value in found.items() if not isinstance(value, Tensor) or not value.is_floating_point()]
    if bad:
        raise UnusableInput(f"weights are tensors of floats; {', '.join(sorted(bad)[:5])} are not")
    lost = [name for name, value in found.items() if not bool(value.isfinite().all())]
    if lost:
        raise UnusableInput(f"weights are finite; {', '.join(sorted(lost)[:5])} hold others")
    world = _like(found)
    own = world.state_dict()
    wrong = [
        f"{name} is {_shape(found.get(name))} in place of {_shape(own.get(name))}"
        for name in sorted({*found, *own} - {"scale"}) if _shape(found.get(name)) != _shape(own.get(name))
    ]  # fmt: skip
    if wrong:
        raise UnusableInput(f"this is no checkpoint of TD-MPC2 with one task: {'; '.join(wrong[:5])}")
    world.load_state_dict({"scale": torch.ones(()), **{name: value.float() for name, value in found.items()}})
    return world.eval()


def _renamed(name: str) -> str:
    """Our name of a published weight; one that is not known stays as it is."""
    critic = re.fullmatch(_CRITICS, name)
    if critic:
        layer, _, kind = critic[2].partition(".")
        if not kind and layer.isdigit():
            layer, kind = str(int(layer) // 4), _CRITIC[int(layer) % 4]
        return f"{'targets' if critic[1] else 'critics'}.layers.{layer}.{kind}"
    convolution = re.fullmatch(r"_encoder\.rgb\.(\d+)\.(weight|bias)", name)
    if convolution:  # behind two modules without weights
        return f"encoder.{int(convolution[1]) - 2}.{convolution[2]}"
    for theirs, ours in _NETS.items():
        if name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return name


def _like(found: Mapping[str, Tensor]) -> LatentWorld:
    """A world of the sizes that these weights have."""
    needed = (
        "encoder.0.weight",
        "dynamics.0.weight",
        "dynamics.2.weight",
        "reward.2.weight",
        "critics.layers.0.weight",
    )
    missing = [name for name in needed if name not in found or found[name].ndim < 2]
    if missing:
        raise UnusableInput(f"this is no checkpoint of TD-MPC2: it lacks {', '.join(missing)}, under published names")
    first, told = found["encoder.0.weight"], found["dynamics.0.weight"].shape[1]
    latent, hidden = found["dynamics.2.weight"].shape[0], found["dynamics.0.weight"].shape[0]
    if told <= latent or latent % 8:
        raise UnusableInput(f"this is no checkpoint of TD-MPC2: latents of {latent} and actions, {told} in all")
    axes = tuple(str(i) for i in range(told - latent))  # as `envs.world.layout` has those of a Box in -1..1
    space = ActionSpace((Segment("action", "continuous", axes, center=(0.0,) * len(axes), scale=(1.0,) * len(axes)),))
    frames = first.ndim == 4
    view = View(first.shape[1] // 3, first.shape[1] // 3 - 1) if frames else View(proprio=first.shape[1])
    layers = len([name for name in found if re.fullmatch(r"encoder\.\d+\.weight", name)])
    with rng.isolated("published"):
        return LatentWorld(
            view, space, latent, hidden, first.shape[0], layers, found["critics.layers.0.weight"].shape[0],
            bins=found["reward.2.weight"].shape[0], episodic="termination.0.weight" in found,
        )  # fmt: skip


def _shape(value: Tensor | None) -> str:
    return "absent" if value is None else "x".join(map(str, value.shape)) or "one number"
