"""Statistics of dataset columns that merge exactly, so that an append needs only its own rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Count of rows, and per element minimum, maximum, mean and sum of squared deviations from the mean."""

    count: int
    low: Array
    high: Array
    mean: Array
    square: Array

    @staticmethod
    def of_rows(values: npt.NDArray[Any]) -> Moments:
        """Takes values of shape (rows, *feature)."""
        values = values.astype(np.float64)
        mean = values.mean(0)
        return Moments(len(values), values.min(0), values.max(0), mean, ((values - mean) ** 2).sum(0))

    @staticmethod
    def of_frames(frames: npt.NDArray[np.uint8]) -> Moments:
        """Takes frames of shape (t, c, h, w); per channel, of values scaled to 0..1, in the shape (c, 1, 1).

        The squares are summed as integers: exact, where a sum in uint8 would overflow.
        """
        t, c, h, w = frames.shape
        counts = np.stack([np.bincount(frames[:, i].ravel(), minlength=256) for i in range(c)])
        level = np.arange(256) / 255.0
        mean = (counts @ level) / (t * h * w)
        # of each pixel, scaled so that dividing by the count of frames gives the variance of pixels
        square = (counts * (level - mean[:, None]) ** 2).sum(1) / (h * w)
        low = level[(counts > 0).argmax(1)]
        high = level[255 - (counts[:, ::-1] > 0).argmax(1)]
        shape = (c, 1, 1)
        return Moments(t, low.reshape(shape), high.reshape(shape), mean.reshape(shape), square.reshape(shape))

    def merge(self, other: Moments) -> Moments:
        """Returns the moments of both sets of rows together."""
        count = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + delta * (other.count / count),
            self.square + other.square + delta**2 * (self.count * other.count / count),
        )

    def published(self) -> dict[str, Any]:
        """Returns min, max, mean, std and count as LeRobot names and shapes them."""
        std = np.sqrt(self.square / self.count)
        values = {"min": self.low, "max": self.high, "mean": self.mean, "std": std}
        return {name: value.tolist() for name, value in values.items()} | {"count": [self.count]}

    @staticmethod
    def of_published(told: Mapping[str, Any]) -> Moments:
        """Reads min, max, mean, std and count (1 where it is not told) as LeRobot names them.

        Raises:
            KeyError, TypeError, ValueError: they are not finite numbers, one for each element.
        """
        low, high, mean, std = (np.array(told[name], np.float64) for name in ("min", "max", "mean", "std"))
        if not all(part.shape == low.shape and np.isfinite(part).all() for part in (low, high, mean, std)):
            raise ValueError("its statistics are not finite numbers, one for each element")
        count = int(told.get("count", [1])[0])
        if count < 1:
            raise ValueError(f"its statistics are of {count} rows")
        return Moments(count, low, high, mean, std**2 * count)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values from which `from_json` makes equal moments."""
        fields = {"low": self.low, "high": self.high, "mean": self.mean, "square": self.square}
        return {"count": self.count} | {name: value.tolist() for name, value in fields.items()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Moments:
        """Reads what `to_json` wrote."""
        low, high, mean, square = (np.asarray(value[name], np.float64) for name in ("low", "high", "mean", "square"))
        return Moments(int(value["count"]), low, high, mean, square)


Stats = dict[str, Moments]  # by feature


def merge_stats(first: Mapping[str, Moments], second: Mapping[str, Moments]) -> Stats:
    """Merges feature by feature; a feature may be absent from either."""
    result = dict(first)
    for name, moments in second.items():
        result[name] = result[name].merge(moments) if name in result else moments
    return result
