"""Means of an image in spheres around the voxels of a region (IBSI 9ST6)."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, BoolArray, FloatArray, IntArray, Triple
from idx.kernels.compiled import compiled
from idx.kernels.neighbourhood import ball_footprint

MAX_SPREAD = 1e5
"""Running sums are used where no value is farther from the region's mean than this many times the region's largest intensity."""


def sphere_means(values: Array, mask: BoolArray, spacing_mm: Triple, radius_mm: float) -> FloatArray:
    """Mean of the finite values within a radius of every voxel of a mask; see :class:`idx.kernels.engine.Engine`.

    Notes
    -----
    A ball is a bundle of rows along x, and the sum of a row is the difference of two running sums: the cost grows with the cross-section
    of the ball, not with its volume.
    """
    ball = ball_footprint(radius_mm, spacing_mm)
    reach = np.array([n // 2 for n in ball.shape])
    rows = np.argwhere(ball.any(axis=2))
    half = ball.sum(axis=2)[ball.any(axis=2)] // 2
    whole = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(whole)
    everywhere = bool(finite.all())
    # Running sums of values around the region's mean lose fewer digits.
    within = whole[mask & finite]
    middle = float(within.mean()) if within.size else 0.0
    centred = np.where(finite, whole - middle, 0.0)
    if np.abs(centred).max() > MAX_SPREAD * np.abs(within).max(initial=0.0):
        # Beside a padding of 1e20 the differences of running sums would hold nothing of the rest.
        sums = _added(np.pad(centred, [(r, r) for r in reach]), np.array(mask), np.argwhere(ball))
    else:
        sums = _sums(_running(centred, reach), np.array(mask), rows, half)
    if everywhere and _is_inside(mask, reach):
        return np.asarray(sums / np.count_nonzero(ball) + middle)
    counts = np.rint(_sums(_running(finite.astype(np.float64), reach), np.array(mask), rows, half))
    with np.errstate(invalid="ignore", divide="ignore"):  # no finite value: no mean
        return np.asarray(np.where(counts > 0, sums / counts, np.nan) + middle)


def _is_inside(mask: BoolArray, reach: IntArray) -> bool:
    """Whether the ball around every voxel of a mask lies within the array."""
    within = tuple(slice(r, size - r) for r, size in zip(reach, mask.shape, strict=True))
    return np.count_nonzero(mask[within]) == np.count_nonzero(mask)


def _running(values: FloatArray, reach: IntArray) -> FloatArray:
    """Sums of the first 0, 1, ... values of each row, with a margin of zeros of the ball's reach, so that no row of a ball is cut."""
    padded = np.pad(values, [(r, r) for r in reach])
    running = np.zeros((*padded.shape[:2], padded.shape[2] + 1))
    np.cumsum(padded, axis=2, out=running[..., 1:])
    return running


@compiled()
def _added(padded: FloatArray, mask: BoolArray, offsets: IntArray) -> FloatArray:
    """Sum over the ball around every voxel of the mask, voxel by voxel; ``offsets`` (n, 3) are the ball's voxels from its corner."""
    depth, height, width = mask.shape
    sums = np.empty(np.count_nonzero(mask))
    at = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if mask[z, y, x]:
                    total = 0.0
                    for k in range(len(offsets)):
                        total += padded[z + offsets[k, 0], y + offsets[k, 1], x + offsets[k, 2]]
                    sums[at] = total
                    at += 1
    return sums


@compiled()
def _sums(running: FloatArray, mask: BoolArray, rows: IntArray, half: IntArray) -> FloatArray:
    """Sum over the ball around every voxel of the mask; ``rows`` (n, 2) are the ball's rows from its corner, ``half`` their half lengths."""
    depth, height, width = mask.shape
    reach = (running.shape[2] - 1 - width) // 2
    sums, total = np.empty(np.count_nonzero(mask)), np.zeros(width)
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
            n = stop - start
            total[:n] = 0.0
            for r in range(len(rows)):
                line = running[z + rows[r, 0], y + rows[r, 1]]
                first = start + reach - half[r]
                low, high = line[first : first + n], line[first + 2 * half[r] + 1 : first + 2 * half[r] + 1 + n]
                for i in range(n):
                    total[i] += high[i] - low[i]
            for i in range(n):
                if mask[z, y, start + i]:
                    sums[at] = total[i]
                    at += 1
    return sums
