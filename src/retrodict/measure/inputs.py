"""What every measure asks of its arrays: not empty, finite, of one length. Anything else is refused, never repaired."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from retrodict.errors import UnusableInput

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


def floats(name: str, values: npt.ArrayLike, axes: int | None = 1) -> Floats:
    """Returns float64 values with this many axes (any number if None); refuses empty and non-finite ones."""
    array = np.asarray(values, dtype=np.float64)
    _shaped(name, array, axes)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise UnusableInput(f"{name} holds {array[where]} at {where}; a measure takes finite numbers only")
    return array


def numbers(name: str, values: npt.ArrayLike, below: int | None = None) -> Ints:
    """Returns class or code numbers 0..below-1 (any from 0 if None); refuses empty ones and floats."""
    array = np.asarray(values)
    _shaped(name, array, 1)
    if not np.issubdtype(array.dtype, np.integer):
        raise UnusableInput(f"{name} has dtype {array.dtype}; expected whole class numbers")
    low, high = int(array.min()), int(array.max())
    if low < 0 or (below is not None and high >= below):
        bound = "" if below is None else f"..{below - 1}"
        raise UnusableInput(f"{name} holds {low if low < 0 else high}; expected numbers 0{bound}")
    return array.astype(np.int64)


def flags(name: str, values: npt.ArrayLike) -> Flags:
    """Returns booleans; refuses empty ones and numbers other than 0 and 1."""
    array = np.asarray(values)
    _shaped(name, array, 1)
    if not np.isin(array, (0, 1)).all():
        raise UnusableInput(f"{name} holds values other than 0 and 1; expected one flag per step")
    return array.astype(np.bool_)


def shares(name: str, values: npt.ArrayLike, axes: int = 1) -> Floats:
    """Returns probabilities; refuses what lies outside 0..1."""
    array = floats(name, values, axes)
    if array.min() < 0 or array.max() > 1:
        raise UnusableInput(f"{name} lies in {array.min()}..{array.max()}; expected probabilities in 0..1")
    return array


def same_length(**arrays: npt.NDArray[Any]) -> int:
    """Returns the common length of the first axis; refuses arrays that disagree."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise UnusableInput(f"lengths disagree: {', '.join(f'{name} has {n}' for name, n in lengths.items())}")
    return next(iter(lengths.values()))


def same_shape(**arrays: npt.NDArray[Any]) -> None:
    """Refuses arrays whose shapes disagree."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1:
        raise UnusableInput(f"shapes disagree: {', '.join(f'{name} has {shape}' for name, shape in shapes.items())}")


def _shaped(name: str, array: npt.NDArray[Any], axes: int | None) -> None:
    if axes is not None and array.ndim != axes:
        raise UnusableInput(f"{name} has shape {array.shape}; expected {axes} axes")
    if array.size == 0:
        raise UnusableInput(f"{name} is empty; a measure needs at least one value")
