"""Sums over a ball around every voxel, without an array of neighbourhoods."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn

from idx._typing import Array, BoolArray, FloatArray, Triple


def ball_footprint(radius_mm: float, spacing_mm: Triple) -> BoolArray:
    """Voxels whose centre is no farther than a radius from the middle voxel's.

    Parameters
    ----------
    radius_mm : float
    spacing_mm : tuple
        Voxel spacing (x, y, z) in mm.

    Returns
    -------
    array (z, y, x) of bool, each size odd
    """
    reach = [int(np.floor(radius_mm / mm + 1e-9)) for mm in spacing_mm[::-1]]
    z, y, x = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    sx, sy, sz = spacing_mm
    return np.asarray((z * sz) ** 2 + (y * sy) ** 2 + (x * sx) ** 2 <= radius_mm**2 * (1 + 1e-9))


class LocalSums:
    """Sums over a footprint around every voxel of arrays of one shape, by one product of spectra each.

    Parameters
    ----------
    shape : tuple of int
        Shape (z, y, x) of the arrays.
    footprint : array (z, y, x) of bool
        Symmetric about its middle voxel.
    """

    def __init__(self, shape: tuple[int, ...], footprint: BoolArray) -> None:
        self._shape = shape
        self._start = [n // 2 for n in footprint.shape]
        self._padded = [next_fast_len(n + f - 1, real=True) for n, f in zip(shape, footprint.shape, strict=True)]
        self._spectrum = rfftn(footprint.astype(np.float64), self._padded)

    def __call__(self, values: Array) -> FloatArray:
        """Return the sums, float64 (z, y, x); outside the array counts as 0."""
        full = irfftn(rfftn(np.asarray(values, dtype=np.float64), self._padded) * self._spectrum, self._padded)
        return full[tuple(slice(s, s + n) for s, n in zip(self._start, self._shape, strict=True))]
