"""Spatial autocorrelation of voxel intensities: Moran's I and Geary's C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import dctn, fft, next_fast_len, rfft

from idx._typing import Array, BoolArray, FloatArray, IntArray, Triple
from idx.kernels.compiled import compiled

BLOCK_BYTES = 1 << 21
"""Size of the piece of a spectrum that is made at a time."""
MIN_COLUMNS = 8
"""Columns of such a piece at least: the processor transforms several side by side."""
DIRECT_LENGTH = 96
"""Up to this many planes, pairs of planes are summed one by one: that costs less than to transform along their axis."""
PAIRS_PER_CELL = 4
"""Pairs of voxels that cost as much as a frequency of the box."""


def _even_fast_len(n: int) -> int:
    """Smallest even length of at least n that transforms fast."""
    return 2 * int(next_fast_len((n + 1) // 2, real=True))


def _weight_spectrum(sizes: Sequence[int], spacing_mm: Sequence[float], axes: tuple[int, ...]) -> FloatArray:
    """Cosine transform along some axes of the weights 1 / distance in mm (0 for lag 0) of lags 0, 1, ... along each axis, in array order."""
    weight = np.zeros(tuple(sizes))
    for axis, (n, mm) in enumerate(zip(sizes, spacing_mm, strict=True)):
        weight += ((np.arange(n) * mm) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
    weight[0, 0, 0] = np.inf
    np.reciprocal(np.sqrt(weight, out=weight), out=weight)
    return np.asarray(dctn(weight, type=1, axes=axes, overwrite_x=True))


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
    shape = [_even_fast_len(2 * size - 1) for size in inside.shape]
    deviation = values[mask] - values[mask].mean()
    variation = float(np.square(deviation).sum())
    if n * n <= PAIRS_PER_CELL * np.prod(shape):
        # A few voxels scattered over a large box: their pairs are fewer than the box has frequencies.
        pairs, products, crossed = _over_pairs(np.argwhere(mask)[:, order] * np.asarray(spacing), deviation)
    else:
        pairs, products, crossed = _sums(_rows(values.transpose(order), inside, shape[2]), shape, spacing)
    return float(n / pairs * products / variation), float((n - 1) / pairs * (crossed - products) / variation)


def _rows(values: FloatArray, inside: BoolArray, length: int) -> list[Array]:
    """Transforms along x of region, deviation and squared deviation, padded with zeros to a length. One padded array serves all three."""
    padded = np.zeros((*inside.shape[:2], length))
    part = padded[..., : inside.shape[2]]
    part[...] = inside
    rows = [rfft(padded, axis=2)]
    np.subtract(values, values[inside].mean(), out=part)
    part[~inside] = 0.0
    rows.append(rfft(padded, axis=2))
    np.square(part, out=part)
    return [*rows, rfft(padded, axis=2)]


def _sums(rows: list[Array], shape: Sequence[int], spacing: Sequence[float]) -> FloatArray:
    """Weighted sums over all pairs of voxels of region with itself, deviation with itself, and region with squared deviation.

    The arrays come transformed along x; the rest is done a few columns at a time, so that the whole spectrum is never held.
    """
    n_planes, height, width = rows[0].shape
    direct = n_planes <= DIRECT_LENGTH
    planes, axes = (n_planes, (1, 2)) if direct else (shape[0], (0, 1, 2))
    weight = _weight_spectrum([n_planes if direct else planes // 2 + 1, shape[1] // 2 + 1, width], spacing, axes)
    # A real transform stores half of the spectrum: every column but the first and the last stands for two.
    weight[..., 1:-1] *= 2.0
    weight /= np.prod(shape[1:] if direct else shape)
    z, y = (np.minimum(np.arange(size), size - np.arange(size)) for size in shape[:2])
    step = min(max(MIN_COLUMNS, BLOCK_BYTES // (16 * planes * shape[1])), width)
    blocks = [np.empty((planes, shape[1], step), dtype=np.complex128) for _ in rows]
    sums = np.zeros(3)
    for start in range(0, width, step):
        columns = slice(start, min(start + step, width))
        spectra = [_block(row[..., columns], block, height, n_planes) for row, block in zip(rows, blocks, strict=True)]
        lag = np.ascontiguousarray(weight[..., columns])
        if direct:
            # Real and imaginary parts lie side by side and share their weight: products of spectra are then products of plain rows.
            sums += _summed_over_planes(np.repeat(lag, 2, axis=2), y, *(spectrum.view(np.float64) for spectrum in spectra))
        else:
            sums += _weighted(lag, z, y, *(fft(spectrum, axis=0, overwrite_x=True) for spectrum in spectra))
    return sums


def _block(row: Array, block: Array, height: int, n_planes: int) -> Array:
    """Transform along y of some columns, padded with zeros, in the memory of a block wherever it has the columns' width."""
    if row.shape[2] != block.shape[2]:
        block = np.empty((*block.shape[:2], row.shape[2]), dtype=block.dtype)
    block[:n_planes, :height] = row
    block[:n_planes, height:] = 0.0
    block[n_planes:] = 0.0
    block[:n_planes] = fft(block[:n_planes], axis=1, overwrite_x=True)
    return block


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
def _summed_over_planes(weight: FloatArray, y: IntArray, region: FloatArray, linear: FloatArray, squared: FloatArray) -> FloatArray:
    """As :func:`_weighted`, from planes (z, y, 2 x) of real and imaginary parts and weights (lag of planes, y, 2 x)."""
    n_planes, _, width = region.shape
    sums = np.zeros(3)
    pairs, products, crossed = np.empty(width), np.empty(width), np.empty(width)
    for j in range(len(y)):
        for apart in range(n_planes):
            for k in range(width):
                pairs[k], products[k], crossed[k] = 0.0, 0.0, 0.0
            for z in range(n_planes - apart):
                other = z + apart
                for k in range(width):
                    pairs[k] += region[z, j, k] * region[other, j, k]
                    products[k] += linear[z, j, k] * linear[other, j, k]
                    crossed[k] += region[z, j, k] * squared[other, j, k] + region[other, j, k] * squared[z, j, k]
            # A pair of planes counts in both orders; the crossed sum has both already.
            both = 1.0 if apart == 0 else 2.0
            for k in range(width):
                lag = weight[apart, y[j], k]
                sums[0] += both * lag * pairs[k]
                sums[1] += both * lag * products[k]
                sums[2] += both / 2.0 * lag * crossed[k]
    return sums
