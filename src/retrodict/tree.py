"""Trees: nested dicts, tuples and lists of tensors with first axis b; the form of every state and memory.

Because they are never opaque, planners can batch them, players branch and rewind them, and runs save them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, Union

import torch
from torch import Tensor

from retrodict.errors import UnusableInput

Tree: TypeAlias = Union[Tensor, "dict[str, Tree]", "tuple[Tree, ...]", "list[Tree]", None]


def map_tensors(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Applies a function to every tensor and keeps the structure."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {name: map_tensors(function, child) for name, child in tree.items()}
    children = [map_tensors(function, child) for child in tree]
    return tuple(children) if isinstance(tree, tuple) else children


def repeat(tree: Tree, times: int) -> Tree:
    """Repeats every row `times` times in place: rows a b become a a b b."""
    return map_tensors(lambda tensor: tensor.repeat_interleave(times, dim=0), tree)


def pick(tree: Tree, index: Tensor) -> Tree:
    """Keeps the rows with these numbers, in this order."""
    return map_tensors(lambda tensor: tensor[index.to(tensor.device)], tree)


def flatten(tree: Tree, prefix: str = "") -> dict[str, Tensor]:
    """Returns {path: tensor}, the form in which trees are saved; a name must not be empty or contain a dot."""
    if tree is None:
        return {}
    if isinstance(tree, Tensor):
        return {prefix or "tensor": tree}
    children = tree.items() if isinstance(tree, dict) else ((str(i), child) for i, child in enumerate(tree))
    for name in tree if isinstance(tree, dict) else ():
        if not name or "." in name:
            raise UnusableInput(f"a name in a tree must not be empty or contain a dot; got {name!r} below {prefix!r}")
    return {path: t for name, child in children for path, t in flatten(child, f"{prefix}.{name}".strip(".")).items()}


def fill(like: Tree, flat: dict[str, Tensor], prefix: str = "") -> Tree:
    """Rebuilds a tree of the structure of `like` from what `flatten` returned.

    Raises:
        UnusableInput: a tensor of `like` is missing.
    """
    if like is None:
        return None
    if isinstance(like, Tensor):
        if (prefix or "tensor") not in flat:
            raise UnusableInput(f"expected a tensor at {prefix or 'tensor'}; found only {', '.join(flat) or 'none'}")
        return flat[prefix or "tensor"]
    if isinstance(like, dict):
        return {name: fill(child, flat, f"{prefix}.{name}".strip(".")) for name, child in like.items()}
    children = [fill(child, flat, f"{prefix}.{i}".strip(".")) for i, child in enumerate(like)]
    return tuple(children) if isinstance(like, tuple) else children


def all_finite(tree: Tree) -> bool:
    """True when every floating tensor in the tree is finite."""
    return all(bool(torch.isfinite(t).all()) for t in flatten(tree).values() if t.is_floating_point())
