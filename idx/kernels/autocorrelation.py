"""Spatial autocorrelation of voxel intensities: Moran's I and Geary's C."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, next_fast_len, rfftn

from idx._typing import BoolArray, FloatArray, Triple


def _even_fast_len(n: int) -> int:
    """Smallest even length of at least n that transforms fast."""
    return 2 * int(next_fast_len((n + 1) // 2, real=True))


def _weight_spectrum(shape: list[int], spacing_mm: Triple) -> FloatArray:
    """Spectrum of the weights 1 / distance in mm (0 for lag 0) of a periodic array, laid out as :func:`scipy.fft.rfftn` does.

    The weights are even along every axis, so that an octant of them and a cosine transform hold everything.
    """
    squared = np.zeros([n // 2 + 1 for n in shape])
    for axis, (n, mm) in enumerate(zip(squared.shape, spacing_mm[::-1], strict=True)):
        squared += ((np.arange(n) * mm) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
    squared[0, 0, 0] = np.inf
    octant = dctn(1.0 / np.sqrt(squared), type=1)
    z, y = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape[:2])
    return np.asarray(octant[z][:, y])


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
    shape = [_even_fast_len(2 * size - 1) for size in mask.shape]
    # A real transform stores half of the spectrum: every column but the first and the last stands for two.
    twice = np.full(shape[-1] // 2 + 1, 2.0)
    twice[[0, -1]] = 1.0
    weight = _weight_spectrum(shape, spacing_mm) * (twice / np.prod(shape))
    region, linear, square = (rfftn(part, shape) for part in (mask.astype(np.float64), deviation, deviation**2))

    def paired(a: FloatArray, b: FloatArray) -> float:
        return float(np.sum(weight * (a.real * b.real + a.imag * b.imag)))

    total = paired(region, region)
    variation = float(np.sum(deviation**2))
    products = paired(linear, linear)
    squared_differences = 2.0 * (paired(square, region) - products)
    return n / total * products / variation, (n - 1) / (2.0 * total) * squared_differences / variation
