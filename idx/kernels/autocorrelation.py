"""Spatial autocorrelation of voxel intensities: Moran's I and Geary's C."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.fft import dctn, fft, next_fast_len, rfft

from idx._typing import Array, BoolArray, FloatArray, IntArray, Triple

CHUNK_BYTES = 1 << 26
"""Size of the piece of a spectrum that is transformed along z at a time."""


def _even_fast_len(n: int) -> int:
    """Smallest even length of at least n that transforms fast."""
    return 2 * int(next_fast_len((n + 1) // 2, real=True))


def _weight_octant(shape: list[int], spacing_mm: Triple) -> FloatArray:
    """Spectrum of the weights 1 / distance in mm (0 for lag 0) of a periodic array, for frequencies up to the middle of each axis.

    The weights are even along every axis, so that an octant of them and a cosine transform hold everything.
    """
    squared = np.zeros([n // 2 + 1 for n in shape])
    for axis, (n, mm) in enumerate(zip(squared.shape, spacing_mm[::-1], strict=True)):
        squared += ((np.arange(n) * mm) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
    squared[0, 0, 0] = np.inf
    return np.asarray(dctn(1.0 / np.sqrt(squared), type=1))


def _slice_spectra(values: FloatArray, shape: list[int]) -> Array:
    """Transform along x and y of an array that is padded with zeros there: rows of zeros are never transformed."""
    return np.asarray(fft(rfft(values, shape[2], axis=2), shape[1], axis=1, overwrite_x=True))


def moran_geary(values: FloatArray, mask: BoolArray, spacing_mm: Triple) -> tuple[float, float]:
    """Moran's I (IBSI N365) and Geary's C (IBSI NPT7) with weights of one over distance in mm.

    Parameters
    ----------
    values : array (z, y, x)
        Intensities, not all equal inside.
    mask : array (z, y, x)
        The region, at least two voxels.
    spacing_mm : tuple
        Voxel spacing (x, y, z) in mm.

    Notes
    -----
    Both are sums over all pairs of voxels. The weight depends on the lag only, so that each sum is a product of spectra
    (Parseval): O(n log n) instead of O(n^2), and equal to the double loop to rounding.
    """
    n = np.count_nonzero(mask)
    deviation = np.where(mask, values - values[mask].mean(), 0.0)
    square = deviation**2
    variation = float(square.sum())
    shape = [_even_fast_len(2 * size - 1) for size in mask.shape]
    weight = _weight_octant(shape, spacing_mm)
    # A real transform stores half of the spectrum: every column but the first and the last stands for two.
    twice = np.full(shape[2] // 2 + 1, 2.0)
    twice[[0, -1]] = 1.0
    weight *= twice / np.prod(shape)
    z, y = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape[:2])
    spectra = [_slice_spectra(part, shape) for part in (mask.astype(np.float64), deviation, square)]
    sums = np.zeros(3)
    step = max(1, CHUNK_BYTES // (16 * shape[0] * len(twice)))
    for start in range(0, shape[1], step):
        columns = slice(start, start + step)
        region, linear, squared = (fft(part[:, columns], shape[0], axis=0) for part in spectra)
        sums += _weighted(weight, z, y[columns], region, linear, squared)
    pairs, products, crossed = (float(total) for total in sums)
    return n / pairs * products / variation, (n - 1) / pairs * (crossed - products) / variation


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _weighted(weight: FloatArray, z: IntArray, y: IntArray, region: Array, linear: Array, squared: Array) -> FloatArray:
    """Weighted sums over frequencies of |region|^2, |linear|^2 and of region times squared; summing in another order changes the last digits only."""
    sums = np.zeros(3)
    for i in range(len(z)):
        for j in range(len(y)):
            lag = weight[z[i], y[j]]
            pairs, products, crossed = 0.0, 0.0, 0.0
            for k in range(len(lag)):
                r, a, s = region[i, j, k], linear[i, j, k], squared[i, j, k]
                pairs += lag[k] * (r.real * r.real + r.imag * r.imag)
                products += lag[k] * (a.real * a.real + a.imag * a.imag)
                crossed += lag[k] * (r.real * s.real + r.imag * s.imag)
            sums += np.array([pairs, products, crossed])
    return sums
