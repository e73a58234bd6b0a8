"""Neighbouring grey levels in one compiled sweep: co-occurrence (IBSI LFYI), dependence (REK0) and tone difference (IPET)."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, FloatArray, IntArray
from idx.kernels.compiled import compiled
from idx.kernels.engine import DIRECTIONS_2D, DIRECTIONS_3D, NeighbourCounts


def padded_levels(levels: Array) -> Array:
    """Levels with a border of one zero, contiguous int32: every neighbour of a voxel is one addition to its flat index."""
    padded = np.zeros([n + 2 for n in levels.shape], dtype=np.int32)
    padded[1:-1, 1:-1, 1:-1] = levels
    return padded


def direction_offsets(shape: tuple[int, ...], *, in_slice: bool) -> IntArray:
    """Flat steps in a padded array of a shape, in the order of ``DIRECTIONS_3D``."""
    directions = np.asarray(DIRECTIONS_2D if in_slice else DIRECTIONS_3D, dtype=np.int64)
    return np.asarray(directions @ np.array([shape[1] * shape[2], shape[2], 1], dtype=np.int64))


def count_neighbours(levels: Array, n_levels: int, *, in_slice: bool) -> NeighbourCounts:
    """Count neighbouring levels; see :class:`idx.kernels.engine.Engine`."""
    padded = padded_levels(levels)
    steps = direction_offsets(padded.shape, in_slice=in_slice)
    n_slices = levels.shape[0] if in_slice else 1
    pairs = np.zeros((n_slices, len(steps), n_levels, n_levels), dtype=np.int64)
    dependences = np.zeros((n_slices, n_levels, 2 * len(steps) + 1), dtype=np.int64)
    toned = np.zeros((n_slices, n_levels), dtype=np.int64)
    tone_difference = np.zeros((n_slices, n_levels))
    _sweep(padded, steps, pairs, dependences, toned, tone_difference)
    return NeighbourCounts(pairs + pairs.transpose(0, 1, 3, 2), dependences, toned, tone_difference)


@compiled()
def _sweep(padded: Array, steps: IntArray, pairs: IntArray, dependences: IntArray, toned: IntArray, tone_difference: FloatArray) -> None:
    flat = padded.ravel()
    depth, height, width = padded.shape
    per_slice = len(pairs) > 1
    for z in range(1, depth - 1):
        s = z - 1 if per_slice else 0
        for y in range(1, height - 1):
            row = (z * height + y) * width
            for at in range(row + 1, row + width - 1):
                level = flat[at]
                if level == 0:
                    continue
                n, total, equal = 0, 0, 0
                for d in range(len(steps)):
                    ahead = flat[at + steps[d]]
                    behind = flat[at - steps[d]]
                    if ahead > 0:
                        pairs[s, d, level - 1, ahead - 1] += 1
                        n += 1
                        total += ahead
                        equal += ahead == level
                    if behind > 0:
                        n += 1
                        total += behind
                        equal += behind == level
                dependences[s, level - 1, equal] += 1
                if n > 0:
                    toned[s, level - 1] += 1
                    tone_difference[s, level - 1] += abs(level - total / n)
