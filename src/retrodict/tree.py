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


def child(tree: Tree, name: str) -> Tree:
    """What a dict holds under a name.

    Raises:
        UnusableInput: the tree is no dict, or has no such name: it is the state or memory of something else.
    """
    if not isinstance(tree, dict) or name not in tree:
        held = sorted(tree) if isinstance(tree, dict) else type(tree).__name__
        raise UnusableInput(
            f"expected a state or memory with {name!r}; got {held}. Pass on what the same model returned"
        )
    return tree[name]


def leaf(tree: Tree, name: str) -> Tensor:
    """The tensor that a dict holds under a name; raises as `child`, also where it is no tensor."""
    found = child(tree, name)
    if not isinstance(found, Tensor):
        raise UnusableInput(f"expected a tensor as {name!r}; got {type(found).__name__}")
    return found


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


def row(tree: Tree, number: int) -> Tree:
    """Keeps one row."""
    return map_tensors(lambda tensor: tensor[number : number + 1], tree)


def concatenate(trees: Sequence[Tree]) -> Tree:
    """Puts the rows of trees of one structure one after the other: rows a and b become a b.

    Raises:
        UnusableInput: there is no tree, or they differ in structure, or in a tensor's other axes or kind of number.
    """
    if not trees or any(type(tree) is not type(trees[0]) for tree in trees):
        raise UnusableInput(f"rows of trees of one structure can be joined; got {[type(tree) for tree in trees]}")
    tensors = [tree for tree in trees if isinstance(tree, Tensor)]
    if tensors:
        kinds = {(tuple(tensor.shape[1:]), tensor.dtype) for tensor in tensors}
        if len(kinds) > 1:
            raise UnusableInput(f"rows of equal shape and kind can be joined; got {sorted(map(str, kinds))}")
        return torch.cat(tensors)
    dicts = [tree for tree in trees if isinstance(tree, dict)]
    if dicts:
        if any(tree.keys() != dicts[0].keys() for tree in dicts):
            raise UnusableInput(f"trees of one structure can be joined; got {[sorted(tree) for tree in dicts]}")
        return {name: concatenate([tree[name] for tree in dicts]) for name in dicts[0]}
    lists = [tree for tree in trees if isinstance(tree, tuple | list)]
    if not lists:
        return None
    if any(len(tree) != len(lists[0]) for tree in lists):
        raise UnusableInput(f"trees of one structure can be joined; got {[len(tree) for tree in lists]} branches")
    children = [concatenate(rows) for rows in zip(*lists, strict=True)]
    return tuple(children) if isinstance(lists[0], tuple) else children


def flatten(tree: Tree, prefix: str = "") -> dict[str, Tensor]:
    """Returns {path: tensor} in the order of `map_tensors`, the form in which trees are saved; a name must not be empty
    or contain a dot."""
    if tree is None:
        return {}
    if isinstance(tree, Tensor):
        return {prefix or "tensor": tree}
    children = tree.items() if isinstance(tree, dict) else ((str(i), child) for i, child in enumerate(tree))
    for name in tree if isinstance(tree, dict) else ():
        if not name or "." in name:
            raise UnusableInput(f"a name in a tree must not be empty or contain a dot; got {name!r} below {prefix!r}")
    return {path: t for name, child in children for path, t in flatten(child, f"{prefix}.{name}".strip(".")).items()}
