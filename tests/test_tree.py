"""Trees of tensors: structure is kept, rows move together, and saving loses nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrodict.errors import UnusableInput
from retrodict.tree import Tree, all_finite, fill, flatten, map_tensors, pick, repeat

leaves = st.one_of(st.none(), st.integers(0, 99).map(lambda n: torch.full((2, 3), float(n))))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["h", "c", "z", "0"]), inner, max_size=3),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=6,
)


def same(a: Tree, b: Tree) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, tuple | list) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return a is None and b is None


@given(trees)
@settings(max_examples=60)
def test_fill_is_the_inverse_of_flatten(tree: Tree) -> None:
    like = map_tensors(torch.zeros_like, tree)
    assert same(fill(like, flatten(tree)), tree)


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


@pytest.mark.parametrize("name", ["a.b", ""])
def test_names_that_would_make_paths_ambiguous_are_refused(name: str) -> None:
    with pytest.raises(UnusableInput, match="name"):
        flatten({name: torch.zeros(1), "a": {"b": torch.ones(1)}})


def test_a_saved_tree_of_another_shape_is_refused() -> None:
    with pytest.raises(UnusableInput, match=r"h\.1"):
        fill({"h": (torch.zeros(1), torch.zeros(1))}, {"h.0": torch.zeros(1)})


def test_one_nan_is_found_and_whole_numbers_are_finite() -> None:
    assert all_finite({"a": torch.tensor([1, 2]), "b": (torch.zeros(2), None)})
    assert not all_finite({"a": (torch.zeros(2), torch.tensor([0.0, float("nan")]))})
    assert not all_finite([torch.tensor([float("inf")])])
