"""Counts of neighbouring grey levels: the grey level co-occurrence matrix (IBSI LFYI)."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, IntArray

DIRECTIONS_3D: IntArray = np.array(
    [(0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1), (1, -1, -1), (1, -1, 0), (1, -1, 1), (1, 0, -1), (1, 0, 0), (1, 0, 1), (1, 1, -1), (1, 1, 0), (1, 1, 1)],
    dtype=np.int64,
)
"""One of each pair of opposite steps (z, y, x) to the 26 neighbours at Chebyshev distance 1."""
DIRECTIONS_2D: IntArray = DIRECTIONS_3D[:4]
"""The steps that stay in a slice."""


def count_cooccurrences(levels: Array, n_levels: int, *, directions: IntArray = DIRECTIONS_3D, per_slice: bool = False) -> IntArray:
    """Count pairs of levels one step apart, in both senses of each direction.

    Parameters
    ----------
    levels : array (z, y, x) of int
        Levels 1..n_levels; 0 outside the region.
    n_levels : int
        Size of the matrices.
    directions : array (d, 3)
        Steps (z, y, x).
    per_slice : bool
        Whether counts are kept apart for the slice in which a pair starts; meant for in-slice directions.

    Returns
    -------
    array (s, d, n_levels, n_levels) of int64
        Symmetric matrices; ``s`` is the number of slices, or 1.
    """
    # A border of zeros makes every step stay inside the array, so that a neighbour is one addition to a flat index.
    padded = np.pad(np.asarray(levels, dtype=np.int64), 1)
    _, ny, nx = padded.shape
    flat = padded.ravel()
    start = np.flatnonzero(flat)
    first = flat[start] - 1
    slice_index = start // (ny * nx) - 1 if per_slice else np.zeros_like(start)
    n_slices = padded.shape[0] - 2 if per_slice else 1
    row = (slice_index * n_levels + first) * n_levels
    counts = np.empty((n_slices, len(directions), n_levels, n_levels), dtype=np.int64)
    for d, (dz, dy, dx) in enumerate(directions):
        second = flat[start + (dz * ny + dy) * nx + dx]
        pairs = second > 0
        code = row[pairs] + second[pairs] - 1
        one_way = np.bincount(code, minlength=n_slices * n_levels**2).reshape(n_slices, n_levels, n_levels)
        counts[:, d] = one_way + one_way.transpose(0, 2, 1)
    return counts
