"""Which voxels lie around a voxel: footprints, and the flat indices by which kernels walk them without an array of neighbourhoods."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

from idx._typing import Array, BoolArray, IntArray, Triple

MIN_VOXELS_PER_TASK = 512
"""Below this a thread costs more than it saves."""
TASKS_PER_WORKER = 4
"""Voxels at a lesion's border have fewer neighbours: smaller shares even out the threads' work."""


def ball_footprint(radius_mm: float, spacing_mm: Triple, *, within: tuple[int, ...] | None = None) -> BoolArray:
    """Voxels whose centre is no farther than a radius from the middle voxel's.

    Parameters
    ----------
    radius_mm : float
    spacing_mm : tuple
        Voxel spacing (x, y, z) in mm.
    within : tuple of int or None
        Shape (z, y, x) of the array in which neighbours are looked up: what reaches from one end beyond the other is left out.

    Returns
    -------
    array (z, y, x) of bool, each size odd

    Examples
    --------
    >>> ball_footprint(2.0, (1.0, 1.0, 5.0)).shape
    (1, 5, 5)
    """
    reach = _limited([int(np.floor(radius_mm / mm + 1e-9)) for mm in spacing_mm[::-1]], within)
    z, y, x = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    sx, sy, sz = spacing_mm
    return np.asarray((z * sz) ** 2 + (y * sy) ** 2 + (x * sx) ** 2 <= radius_mm**2 * (1 + 1e-9))


def cube_footprint(radius_voxels: int, *, within: tuple[int, ...] | None = None) -> BoolArray:
    """Voxels at a Chebyshev distance of at most a radius from the middle voxel.

    Parameters
    ----------
    radius_voxels : int
    within : tuple of int or None
        As for :func:`ball_footprint`.

    Returns
    -------
    array (z, y, x) of bool, each size odd
    """
    return np.ones([2 * r + 1 for r in _limited([radius_voxels] * 3, within)], dtype=bool)


def _limited(reach: list[int], within: tuple[int, ...] | None) -> list[int]:
    return reach if within is None else [min(r, n - 1) for r, n in zip(reach, within, strict=True)]


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The neighbourhoods of a region's voxels, as flat indices into an array with a border as wide as the footprint reaches.

    Parameters
    ----------
    members : array (k, 3)
        Steps (z, y, x) from a voxel to its neighbours, itself included.
    padded_shape : tuple of int
        Shape of the array with its border.
    positions : array (n,)
        Flat index of each voxel of the region, in array order.
    steps : array (k,)
        ``members`` as steps of the flat index.
    """

    members: IntArray
    padded_shape: tuple[int, ...]
    positions: IntArray
    steps: IntArray

    @classmethod
    def of(cls, region: BoolArray, footprint: BoolArray) -> Self:
        """Neighbourhoods of a footprint around the voxels of a region, both (z, y, x)."""
        reach = np.array(footprint.shape) // 2
        members = np.argwhere(footprint) - reach
        padded = tuple(int(n) for n in np.array(region.shape) + 2 * reach)
        strides = np.array([padded[1] * padded[2], padded[2], 1])
        return cls(members, padded, (np.argwhere(region) + reach) @ strides, members @ strides)

    def place(self, values: Array, outside: float, dtype: type[np.generic]) -> Array:
        """Flat padded array with values (n,) at the region's voxels and ``outside`` elsewhere."""
        flat = np.full(int(np.prod(self.padded_shape)), outside, dtype=dtype)
        flat[self.positions] = values
        return flat

    def pairs(self, directions: IntArray) -> tuple[IntArray, IntArray]:
        """Members that are one step apart.

        Parameters
        ----------
        directions : array (d, 3)
            Steps (z, y, x).

        Returns
        -------
        pairs : array (p, 2)
            Indices of ``members``, those of the first direction first.
        starts : array (d + 1,)
            Where each direction's pairs start, and the end of the last.
        """
        reach = np.abs(self.members).max(axis=0) + 1
        index = np.full(2 * reach + 1, -1)
        index[tuple((self.members + reach).T)] = np.arange(len(self.members))
        found = []
        for direction in directions:
            other = index[tuple((self.members + direction + reach).T)]
            found.append(np.stack([np.flatnonzero(other >= 0), other[other >= 0]], axis=1))
        return np.concatenate(found), np.cumsum([0, *(len(pairs) for pairs in found)])


def in_threads(measure: Callable[[int, int], None], n_voxels: int, workers: int) -> None:
    """Call ``measure(start, stop)`` for ranges that cover the voxels once; it must let go of the interpreter's lock to gain from threads."""
    n_tasks = min(workers * TASKS_PER_WORKER, n_voxels // MIN_VOXELS_PER_TASK) if workers > 1 else 1
    if n_tasks < 2:
        measure(0, n_voxels)
        return
    bounds = np.linspace(0, n_voxels, n_tasks + 1).astype(np.int64)
    with ThreadPoolExecutor(workers) as pool:
        # The list calls for every result, so that an error in a thread is raised here.
        list(pool.map(measure, bounds[:-1].tolist(), bounds[1:].tolist()))
