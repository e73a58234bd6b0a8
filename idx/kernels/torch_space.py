"""Sums over space on a torch device: surface cells, means in spheres, and spatial autocorrelation."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch.nn.functional import pad

from idx._typing import Array, BoolArray, FloatArray, IntArray, Triple
from idx.kernels.neighbourhood import ball_footprint


def cube_counts(mask: BoolArray, *, device: torch.device) -> tuple[IntArray, IntArray]:
    """Count the 2x2x2 cells of a mask by their corners; see :class:`idx.kernels.engine.Engine`."""
    padded = pad(torch.from_numpy(np.array(mask, dtype=np.uint8)).to(device), (1,) * 6)
    depth, height, width = (n - 1 for n in padded.shape)
    codes = torch.zeros((depth, height, width), dtype=torch.uint8, device=device)
    for bit in range(8):
        z, y, x = bit >> 2, bit >> 1 & 1, bit & 1
        codes |= padded[z : z + depth, y : y + height, x : x + width] << bit
    by_column = torch.bincount((codes.long() * width + torch.arange(width, device=device)).flatten(), minlength=256 * width).view(256, width)
    # Cells all outside or all inside have no surface; nobody needs their number.
    by_column[[0, 255]] = 0
    counted = by_column.cpu().numpy()
    return counted.sum(axis=1), counted @ np.arange(width)


def sphere_means(values: Array, mask: BoolArray, spacing_mm: Triple, radius_mm: float, *, device: torch.device) -> FloatArray:
    """Mean of the finite values within a radius of every voxel of a mask; see :class:`idx.kernels.engine.Engine`.

    Notes
    -----
    A ball is a bundle of rows along x. The sums over rows of 1, 3, 5, ... voxels grow one out of the other for all voxels at once, and each
    voxel collects its ball's rows from them: the cost grows with the ball's cross-section, and nothing is subtracted, so no digits are lost.
    """
    ball = ball_footprint(radius_mm, spacing_mm, within=mask.shape)
    reach = [n // 2 for n in ball.shape]
    near = tuple(slice(max(low - r, 0), high + r) for (low, high), r in zip(_bounds(mask), reach, strict=True))
    margin = [r for r in reversed(reach) for _ in range(2)]
    part = torch.from_numpy(np.array(values[near], dtype=np.float64)).to(device)
    there = part.isfinite()
    # Sum and number side by side: one look-up finds both.
    base = torch.stack([pad(torch.where(there, part, 0.0), margin), pad(there.double(), margin)], dim=-1)
    plane, width = base.shape[1] * base.shape[2], base.shape[2]
    at = pad(torch.from_numpy(np.array(mask[near])).to(device), margin).flatten().nonzero()[:, 0]
    base = base.view(-1, 2)
    rows, sums = base.clone(), torch.zeros((len(at), 2), dtype=torch.float64, device=device)
    half = np.where(ball.any(axis=2), ball.sum(axis=2) // 2, -1)
    for length in range(reach[2] + 1):
        if length > 0:
            # Steps over the end of a line reach its margin only, where no ball has its rows' middles.
            rows[length:] += base[:-length]
            rows[:-length] += base[length:]
        for z, y in (np.argwhere(half == length) - reach[:2]).tolist():
            sums += rows[at + (z * plane + y * width)]
    return np.asarray((sums[:, 0] / sums[:, 1]).cpu().numpy())


def moran_geary(values: Array, mask: BoolArray, spacing_mm: Triple, *, device: torch.device) -> tuple[float, float]:
    """Moran's I and Geary's C; see :func:`idx.kernels.autocorrelation.moran_geary` for what is summed and why spectra do."""
    box = tuple(slice(*bounds) for bounds in _bounds(mask))
    region = torch.from_numpy(np.array(mask[box])).to(device)
    part = torch.from_numpy(np.array(values[box], dtype=np.float64)).to(device)
    n = int(region.sum())
    deviation = torch.where(region, part - part[region].mean(), 0.0)
    # Even, and long enough that no lag of the region is wrapped around onto another.
    shape = [2 * int(next_fast_len(size, real=True)) for size in region.shape]
    weight = _weight_spectrum(shape, spacing_mm, device)

    def paired(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((weight * (a.real * b.real + a.imag * b.imag)).sum())

    inside = torch.fft.rfftn(region.double(), shape)
    total = paired(inside, inside)
    # One spectrum beside the region's at a time: for a large lesion each is hundreds of megabytes.
    squares = paired(torch.fft.rfftn(deviation**2, shape), inside)
    del inside
    linear = torch.fft.rfftn(deviation, shape)
    products = paired(linear, linear)
    variation = float((deviation**2).sum())
    return n / total * products / variation, (n - 1) / total * (squares - products) / variation


def _weight_spectrum(shape: list[int], spacing_mm: Triple, device: torch.device) -> torch.Tensor:
    """Real spectrum of the weights 1 / distance in mm (0 for lag 0) of a periodic array, by what sums over half a spectrum need."""
    squared = torch.zeros(shape, dtype=torch.float64, device=device)
    for axis, (n, mm) in enumerate(zip(shape, spacing_mm[::-1], strict=True)):
        lag = torch.arange(n, dtype=torch.float64, device=device)
        squared += (torch.minimum(lag, n - lag) * mm).square().view([-1 if a == axis else 1 for a in range(3)])
    squared[0, 0, 0] = torch.inf
    spectrum = torch.fft.rfftn(squared.rsqrt_()).real / squared.numel()
    # A real transform stores half of the spectrum: every column but the first and the last stands for two.
    spectrum[..., 1:-1] *= 2.0
    return spectrum


def _bounds(mask: BoolArray) -> list[tuple[int, int]]:
    """First index inside and the one after the last, per axis."""
    inside = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return [(int(index[0]), int(index[-1]) + 1) for index in inside]
