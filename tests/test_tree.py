"""Trees of tensors: structure is kept, rows move together, and saving loses nothing."""

from __future__ import annotations

import pytest
import torch

from retrodict.errors import UnusableInput
from retrodict.tree import Tree, child, concatenate, flatten, leaf, pick, repeat


def same(a: Tree, b: Tree) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, tuple | list) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return a is None and b is None


def test_paths_are_readable() -> None:
    one = torch.zeros(1)
    tree: Tree = {"h": (one, {"c": one}), "none": None}
    assert list(flatten(tree)) == ["h.0", "h.1.c"]
    assert list(flatten(one)) == ["tensor"]
    assert flatten(None) == {}


def test_repeat_and_pick_move_rows_of_every_tensor() -> None:
    tree: Tree = {"a": torch.tensor([[1.0], [2.0]]), "b": [torch.tensor([3, 4]), None]}
    assert same(
        repeat(tree, 2), {"a": torch.tensor([[1.0], [1.0], [2.0], [2.0]]), "b": [torch.tensor([3, 3, 4, 4]), None]}
    )
    assert same(
        pick(tree, torch.tensor([1, 1, 0])),
        {"a": torch.tensor([[2.0], [2.0], [1.0]]), "b": [torch.tensor([4, 4, 3]), None]},
    )
    assert same(pick(repeat(tree, 3), torch.tensor([0, 3])), tree)


def test_concatenate_puts_rows_one_after_the_other_and_pick_takes_them_apart_again() -> None:
    one: Tree = {"a": torch.tensor([[1.0]]), "b": (torch.tensor([3]), None, [torch.tensor([True])])}
    two: Tree = {"a": torch.tensor([[2.0], [5.0]]), "b": (torch.tensor([4, 6]), None, [torch.tensor([False, True])])}
    both = concatenate([one, two])
    joined = (torch.tensor([3, 4, 6]), None, [torch.tensor([True, False, True])])
    assert same(both, {"a": torch.tensor([[1.0], [2.0], [5.0]]), "b": joined})
    assert same(pick(both, torch.tensor([0])), one)
    assert same(pick(both, torch.tensor([1, 2])), two)


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(1, 2)},
        {"a": torch.zeros(1, 3)},
        {"a": torch.zeros(1, 2, dtype=torch.int64)},
        {"a": None},
        None,
    ],
)
def test_trees_of_another_structure_shape_or_kind_are_not_joined(other: Tree) -> None:
    with pytest.raises(UnusableInput, match="joined"):
        concatenate([{"a": torch.zeros(1, 2)}, other])
    with pytest.raises(UnusableInput, match="joined"):
        concatenate([(torch.zeros(1),), (torch.zeros(1), torch.zeros(1))])


@pytest.mark.parametrize("name", ["a.b", ""])
def test_names_that_would_make_paths_ambiguous_are_refused(name: str) -> None:
    with pytest.raises(UnusableInput, match="name"):
        flatten({name: torch.zeros(1), "a": {"b": torch.ones(1)}})


def test_what_is_not_there_is_named_beside_what_is() -> None:
    state = {"z": torch.zeros(1), "cache": {"at": torch.ones(1)}}
    assert leaf(state, "z") is state["z"]
    assert leaf(child(state, "cache"), "at") is state["cache"]["at"]
    with pytest.raises(UnusableInput, match=r"'h'; got \['cache', 'z'\]"):
        leaf(state, "h")
    with pytest.raises(UnusableInput, match="'h'; got NoneType"):
        child(None, "h")
    with pytest.raises(UnusableInput, match="a tensor as 'cache'; got dict"):
        leaf(state, "cache")
