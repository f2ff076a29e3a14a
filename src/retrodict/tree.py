"""Trees: nested dicts, tuples and lists of tensors with first axis b; the form of every state and memory.

Because they are never opaque, planners can batch them, players branch and rewind them, and runs save them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def join(trees: Sequence[Tree]) -> Tree:
    """Puts the rows of trees of one structure under one another.

    Raises:
        UnusableInput: their structures differ.
    """
    paths = [list(flatten(tree)) for tree in trees]
    if any(path != paths[0] for path in paths):
        raise UnusableInput(f"only trees of one structure can be joined; got {paths}")
    rest = [iter(flatten(tree).values()) for tree in trees[1:]]
    return map_tensors(lambda tensor: torch.cat([tensor, *map(next, rest)]), trees[0])


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
