"""Type aliases; shapes and axis order are stated in the name or beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

PathLike: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.float64]
"""float64; points are (..., 2) or (..., 3) in (x, y[, z]) order."""
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
"""Masks, (z, y, x) or (y, x)."""
RGBArray: TypeAlias = npt.NDArray[np.uint8]
"""(y, x, 3)."""
Triple: TypeAlias = tuple[float, float, float]
Pair: TypeAlias = tuple[float, float]

K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)


class FrozenMapping(Mapping[K, V_co]):
    """A mapping that cannot be changed, in insertion order.

    Unlike ``types.MappingProxyType`` it can be pickled and deep-copied, so a case travels to a worker process.

    Examples
    --------
    >>> FrozenMapping({"bin_hu": 25}) == {"bin_hu": 25}
    True
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V_co]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: K) -> V_co:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)
