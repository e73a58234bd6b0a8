"""Spatial autocorrelation of voxel intensities: Moran's I and Geary's C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import dctn, fft, next_fast_len, rfft

from idx._typing import Array, BoolArray, FloatArray, IntArray, Triple
from idx.kernels.compiled import compiled

CHUNK_BYTES = 1 << 26
"""Size of the piece of a spectrum that is transformed along the first axis at a time."""
DIRECT_LENGTH = 96
"""Up to this many planes, pairs of planes are summed one by one: that costs less than to transform along their axis."""


PAIRS_PER_CELL = 4
"""Pairs of voxels that cost as much as a frequency of the box."""


def _even_fast_len(n: int) -> int:
    """Smallest even length of at least n that transforms fast."""
    return 2 * int(next_fast_len((n + 1) // 2, real=True))


def _weights(sizes: Sequence[int], spacing_mm: Sequence[float]) -> FloatArray:
    """Weights 1 / distance in mm (0 for lag 0) of lags 0, 1, ... along each axis, in array order."""
    squared = np.zeros(tuple(sizes))
    for axis, (n, mm) in enumerate(zip(sizes, spacing_mm, strict=True)):
        squared += ((np.arange(n) * mm) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
    squared[0, 0, 0] = np.inf
    return np.asarray(1.0 / np.sqrt(squared))


def _slice_spectra(values: FloatArray, shape: Sequence[int]) -> Array:
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
    Both are sums over all pairs of voxels. The weight depends on the lag only, so that each sum is a product of spectra (Parseval): O(n log n)
    instead of O(n^2), and equal to the double loop to rounding. The weights are even along every axis: cosine transforms of non-negative lags
    hold all of their spectrum.
    """
    n = np.count_nonzero(mask)
    # The shortest axis comes first: its planes are few.
    order = np.argsort(mask.shape, kind="stable")
    spacing = [spacing_mm[::-1][axis] for axis in order]
    inside = np.ascontiguousarray(mask.transpose(order))
    deviation = np.where(inside, values.transpose(order) - values[mask].mean(), 0.0)
    square = deviation**2
    variation = float(square.sum())
    shape = [_even_fast_len(2 * size - 1) for size in inside.shape]
    if n * n <= PAIRS_PER_CELL * np.prod(shape):
        # A few voxels scattered over a large box: their pairs are fewer than the box has frequencies.
        sums = _over_pairs(np.argwhere(inside) * np.asarray(spacing), deviation[inside])
        return n / sums[0] * sums[1] / variation, (n - 1) / sums[0] * (sums[2] - sums[1]) / variation
    spectra = [_slice_spectra(part, shape) for part in (inside.astype(np.float64), deviation, square)]
    pairs, products, crossed = _by_planes(spectra, shape, spacing) if len(inside) <= DIRECT_LENGTH else _by_spectrum(spectra, shape, spacing)
    return n / pairs * products / variation, (n - 1) / pairs * (crossed - products) / variation


def _folded(n: int) -> IntArray:
    """Frequency of non-negative lags that equals each frequency of a periodic axis."""
    return np.minimum(np.arange(n), n - np.arange(n))


def _half(n: int) -> FloatArray:
    """How many columns of a spectrum each column of a real transform stands for: two, but for the first and the last."""
    twice = np.full(n // 2 + 1, 2.0)
    twice[[0, -1]] = 1.0
    return twice


def _by_planes(spectra: list[Array], shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, float, float]:
    """Sums over pairs of planes, each a product of spectra within the planes."""
    n_planes = len(spectra[0])
    weight = dctn(_weights([n_planes, *(size // 2 + 1 for size in shape[1:])], spacing), type=1, axes=(1, 2))
    weight *= _half(shape[2]) / (shape[1] * shape[2])
    parts = [np.ascontiguousarray(part) for spectrum in spectra for part in (spectrum.real, spectrum.imag)]
    pairs, products, crossed = (float(total) for total in _summed_over_planes(weight, _folded(shape[1]), *parts))
    return pairs, products, crossed


def _by_spectrum(spectra: list[Array], shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, float, float]:
    """Sums over the spectrum along all three axes, a few columns at a time."""
    weight = dctn(_weights([size // 2 + 1 for size in shape], spacing), type=1)
    weight *= _half(shape[2]) / np.prod(shape)
    z, y = _folded(shape[0]), _folded(shape[1])
    sums = np.zeros(3)
    step = max(1, CHUNK_BYTES // (16 * shape[0] * weight.shape[2]))
    for start in range(0, shape[1], step):
        columns = slice(start, start + step)
        sums += _weighted(weight, z, y[columns], *(fft(part[:, columns], shape[0], axis=0) for part in spectra))
    pairs, products, crossed = (float(total) for total in sums)
    return pairs, products, crossed


@compiled()
def _over_pairs(points: FloatArray, deviation: FloatArray) -> FloatArray:
    """Sums over all pairs, both orders, of the weight, of weight times both deviations, and of weight times the square of one."""
    sums = np.zeros(3)
    for i in range(len(points)):
        weights, products, squares = 0.0, 0.0, 0.0
        for j in range(i):
            x, y, z = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1], points[i, 2] - points[j, 2]
            weight = 1.0 / np.sqrt(x * x + y * y + z * z)
            weights += weight
            products += weight * deviation[j]
            squares += weight * deviation[j] ** 2
        sums[0] += 2.0 * weights
        sums[1] += 2.0 * products * deviation[i]
        sums[2] += squares + weights * deviation[i] ** 2
    return sums


@compiled(reorder_sums=True)
def _weighted(weight: FloatArray, z: IntArray, y: IntArray, region: Array, linear: Array, squared: Array) -> FloatArray:
    """Weighted sums over frequencies of the squares of region and linear, and of region times squared."""
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


@compiled(reorder_sums=True)
def _summed_over_planes(
    weight: FloatArray, y: IntArray, r: FloatArray, ri: FloatArray, a: FloatArray, ai: FloatArray, s: FloatArray, si: FloatArray
) -> FloatArray:
    """As :func:`_weighted`, from real and imaginary parts of planes (z, y, x) and weights (lag of planes, y, x)."""
    n_planes, _, width = r.shape
    sums = np.zeros(3)
    pairs, products, crossed = np.empty(width), np.empty(width), np.empty(width)
    for j in range(len(y)):
        for apart in range(n_planes):
            pairs[:], products[:], crossed[:] = 0.0, 0.0, 0.0
            for z in range(n_planes - apart):
                r0, r1, ri0, ri1 = r[z, j], r[z + apart, j], ri[z, j], ri[z + apart, j]
                a0, a1, ai0, ai1 = a[z, j], a[z + apart, j], ai[z, j], ai[z + apart, j]
                s0, s1, si0, si1 = s[z, j], s[z + apart, j], si[z, j], si[z + apart, j]
                for k in range(width):
                    pairs[k] += r0[k] * r1[k] + ri0[k] * ri1[k]
                    products[k] += a0[k] * a1[k] + ai0[k] * ai1[k]
                    crossed[k] += r0[k] * s1[k] + ri0[k] * si1[k] + r1[k] * s0[k] + ri1[k] * si0[k]
            lag = weight[apart, y[j]]
            # A pair of planes counts in both orders; the crossed sum has both already.
            both = 1.0 if apart == 0 else 2.0
            for k in range(width):
                sums[0] += both * lag[k] * pairs[k]
                sums[1] += both * lag[k] * products[k]
                sums[2] += both / 2.0 * lag[k] * crossed[k]
    return sums
