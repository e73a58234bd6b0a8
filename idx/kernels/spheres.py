"""Means of an image in spheres around the voxels of a region (IBSI 9ST6)."""

from __future__ import annotations

import numpy as np
from numba import njit

from idx._typing import Array, BoolArray, FloatArray, IntArray, Triple
from idx.kernels.neighbourhood import ball_footprint


def sphere_means(values: Array, mask: BoolArray, spacing_mm: Triple, radius_mm: float) -> FloatArray:
    """Mean of the finite values within a radius of every voxel of a mask; see :class:`idx.kernels.engine.Engine`.

    Notes
    -----
    A ball is a bundle of rows along x, and the sum of a row is the difference of two running sums: the cost grows with the cross-section
    of the ball, not with its volume.
    """
    ball = ball_footprint(radius_mm, spacing_mm)
    reach = np.array([n // 2 for n in ball.shape])
    rows = np.argwhere(ball.any(axis=2)) - reach[:2]
    half = ball.sum(axis=2)[ball.any(axis=2)] // 2
    whole = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(whole)
    # Running sums of values around their mean lose fewer digits.
    middle = float(whole[finite].mean()) if finite.any() else 0.0
    running = np.zeros((*whole.shape[:2], whole.shape[2] + 1))
    np.cumsum(np.where(finite, whole - middle, 0.0), axis=2, out=running[..., 1:])
    counts = np.zeros(running.shape, dtype=np.int32)
    np.cumsum(finite, axis=2, out=counts[..., 1:])
    return _means(running, counts, np.array(mask), rows.astype(np.int64), half.astype(np.int64)) + middle


@njit(cache=True, nogil=True)
def _means(running: FloatArray, counts: Array, mask: BoolArray, rows: IntArray, half: IntArray) -> FloatArray:
    depth, height, width = mask.shape
    means = np.empty(np.count_nonzero(mask))
    total, number = np.zeros(width), np.zeros(width, dtype=np.int64)
    at = 0
    for z in range(depth):
        for y in range(height):
            start, stop = 0, width
            while start < width and not mask[z, y, start]:
                start += 1
            while stop > start and not mask[z, y, stop - 1]:
                stop -= 1
            if start == stop:
                continue
            total[start:stop] = 0.0
            number[start:stop] = 0
            for r in range(len(rows)):
                other_z, other_y = z + rows[r, 0], y + rows[r, 1]
                if not (0 <= other_z < depth and 0 <= other_y < height):
                    continue
                sums, found = running[other_z, other_y], counts[other_z, other_y]
                for x in range(start, stop):
                    low, high = max(x - half[r], 0), min(x + half[r] + 1, width)
                    total[x] += sums[high] - sums[low]
                    number[x] += found[high] - found[low]
            for x in range(start, stop):
                if mask[z, y, x]:
                    means[at] = total[x] / number[x]
                    at += 1
    return means
