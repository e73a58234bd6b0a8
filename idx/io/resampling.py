"""Bringing a mask from its own grid to an image's grid."""

from __future__ import annotations

import numpy as np

from idx._typing import BoolArray
from idx.geometry import Grid

SAME_VOXEL_TOLERANCE = 0.05
"""Voxels are the same when no corner of the grid differs by more than this fraction of a voxel: headers round positions to a few decimals."""
SPARSE_SLICES = 1.5
"""Contours or frames further apart than this, everywhere, were drawn on a coarser image: between them slices would stay empty."""


def index_offset(grid: Grid, onto: Grid) -> tuple[int, int, int] | None:
    """Index (z, y, x) in ``onto`` of the first voxel of ``grid``, or None where the voxels of both do not coincide.

    Parameters
    ----------
    grid : Grid
        May be smaller or larger than ``onto``, or reach over its border.
    onto : Grid
    """
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    index = onto.to_index(grid.to_physical(corners))
    first = np.round(index[0]).astype(np.int64)
    if np.abs(index - (first + corners)).max() > SAME_VOXEL_TOLERANCE:
        return None
    z, y, x = (int(i) for i in first)
    return z, y, x


def nearest_mask(values: BoolArray, grid: Grid, onto: Grid) -> BoolArray:
    """Mask (z, y, x) at the voxel centres of ``onto``, taken from the nearest voxel of ``grid``; outside ``grid`` it is False."""
    result = np.zeros(onto.shape, dtype=bool)
    rows, columns = np.meshgrid(*[np.arange(n) for n in onto.shape[1:]], indexing="ij")
    limits = np.asarray(values.shape)
    for z in range(onto.shape[0]):
        centres = onto.to_physical(np.stack([np.full(rows.shape, z), rows, columns], axis=-1))
        # floor(i + 0.5): a centre exactly between two voxels always goes to the higher one; np.round would alternate.
        index = np.floor(grid.to_index(centres) + 0.5).astype(np.int64)
        inside = np.all((index >= 0) & (index < limits), axis=-1)
        result[z][inside] = values[tuple(index[inside].T)]
    return result
