"""Resampling of voxel arrays onto a coarser or finer regular grid, one axis at a time."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from idx._typing import Array, FloatArray

SPLINE_MARGIN = 24
"""Voxels around the wanted positions that a cubic spline is fitted to: the influence of a voxel falls by 0.27 with each step, to 1e-14."""
COUNT_DIGITS = 4
"""Decimals kept of a voxel count before it is rounded up: 60 voxels of 3 mm make 90 of 2 mm, whatever float32 header the 3 mm came from."""


def centred_positions(n: int, spacing_mm: float, new_spacing_mm: float) -> FloatArray:
    """Positions of the samples of a new axis on an old one, both axes having one middle.

    Parameters
    ----------
    n : int
        Number of old samples.
    spacing_mm, new_spacing_mm : float
        Old and new spacing in mm.

    Returns
    -------
    array (n_new,)
        Fractional old indices, ``n_new = ceil(n * spacing / new_spacing)``. The first and last may lie outside [0, n - 1].

    Notes
    -----
    IBSI 1, "interpolation grid ... aligned by grid centre" (reference manual, section 2.4).

    Examples
    --------
    >>> centred_positions(4, 1.0, 2.0).tolist()
    [0.5, 2.5]
    """
    ratio = new_spacing_mm / spacing_mm
    n_new = int(np.ceil(round(n / ratio, COUNT_DIGITS)))
    return np.asarray(((n - 1) - (n_new - 1) * ratio) / 2.0 + np.arange(n_new) * ratio, dtype=np.float64)


def interpolate_linear(values: Array, positions: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """Sample an array trilinearly at the product of three axes of positions.

    Parameters
    ----------
    values : array (z, y, x)
    positions : three arrays
        Fractional indices along z, y and x. Positions outside take the value at the border.

    Returns
    -------
    array (len z, len y, len x), float64
    """
    start = [min(max(0, int(np.floor(p.min()))), n - 1) for p, n in zip(positions, values.shape, strict=True)]
    near = tuple(slice(first, max(int(np.ceil(p.max())), first) + 2) for first, p in zip(start, positions, strict=True))
    # Only what is touched becomes float64: a mask is mostly far from its lesion.
    result = np.asarray(values[near], dtype=np.float64)
    positions = tuple(p - first for p, first in zip(positions, start, strict=True))
    for axis, position in enumerate(positions):
        last = result.shape[axis] - 1
        inside = np.clip(position, 0.0, last)
        low = np.minimum(np.floor(inside).astype(np.int64), max(last - 1, 0))
        weight = (inside - low).reshape([-1 if a == axis else 1 for a in range(3)])
        result = result.take(low, axis) * (1.0 - weight) + result.take(np.minimum(low + 1, last), axis) * weight
    return result


def interpolate_nearest(values: Array, positions: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """Take the nearest sample (of two, the later one) at the product of three axes of positions; outside, the one at the border.

    Parameters
    ----------
    values : array (z, y, x)
    positions : three arrays
        Fractional indices along z, y and x.

    Returns
    -------
    array (len z, len y, len x), float64
    """
    result = np.asarray(values)
    for axis, position in enumerate(positions):
        result = result.take(np.clip(np.floor(position + 0.5).astype(np.int64), 0, result.shape[axis] - 1), axis)
    return np.asarray(result, dtype=np.float64)


def interpolate_cubic(values: Array, positions: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """Sample an array by tricubic splines at the product of three axes of ascending positions.

    Parameters
    ----------
    values : array (z, y, x)
    positions : three arrays
        Fractional indices along z, y and x. Beyond the border the outermost values go on.

    Returns
    -------
    array (len z, len y, len x), float64
        The spline passes through the values; between them it may exceed their range.
    """
    start = [max(0, int(np.floor(p[0])) - SPLINE_MARGIN) for p in positions]
    near = tuple(slice(first, int(np.ceil(p[-1])) + SPLINE_MARGIN + 1) for first, p in zip(start, positions, strict=True))
    axes = np.meshgrid(*(p - first for p, first in zip(positions, start, strict=True)), indexing="ij")
    return np.asarray(map_coordinates(np.asarray(values[near], dtype=np.float64), axes, order=3, mode="nearest"))
