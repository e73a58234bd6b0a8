"""Grey levels from intensities (IBSI 1, section 2.7). Levels start at 1."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, IntArray

CONSTANT_RTOL = 1e-12
"""Intensities that differ by less than this share of their size differ by rounding: an interpolated constant is a constant."""
EDGE_SLACK = 1e-9
"""Share of a bin below its edge that counts as the edge: (0.3 - 0) / 0.1 is 2.9999999999999996."""


def is_constant(low: float, high: float) -> bool:
    """Whether the smallest and the largest intensity are one, up to rounding."""
    return high - low <= CONSTANT_RTOL * max(abs(low), abs(high))


def fixed_bin_size(values: Array, *, width: float, origin: float) -> IntArray:
    """Assign levels by bins of a fixed width (IBSI Q3RU).

    Parameters
    ----------
    values : array
        Intensities.
    width : float
        Width of a bin, in the unit of the values.
    origin : float
        Lower edge of level 1, in the unit of the values. Values below it belong to level 1.

    Returns
    -------
    array of int64, the shape of ``values``

    Examples
    --------
    >>> fixed_bin_size(np.array([-1000.0, -975.0, 0.0]), width=25.0, origin=-1000.0).tolist()
    [1, 2, 41]
    """
    levels = np.floor((np.asarray(values, dtype=np.float64) - origin) / width + EDGE_SLACK).astype(np.int64) + 1
    return np.maximum(levels, 1)


def fixed_bin_number(values: Array, *, n_bins: int) -> IntArray:
    """Assign levels by a fixed number of bins between the smallest and the largest value (IBSI K15C).

    Parameters
    ----------
    values : array
        Intensities of the region only.
    n_bins : int
        Number of levels.

    Returns
    -------
    array of int64, the shape of ``values``
        All 1 where the values are all equal.

    Examples
    --------
    >>> fixed_bin_number(np.array([0.0, 4.9, 10.0]), n_bins=2).tolist()
    [1, 1, 2]
    """
    exact = np.asarray(values, dtype=np.float64)
    low, high = exact.min(), exact.max()
    if is_constant(low, high):
        return np.ones(exact.shape, dtype=np.int64)
    return np.minimum(np.floor(n_bins * (exact - low) / (high - low) + EDGE_SLACK).astype(np.int64) + 1, n_bins)
