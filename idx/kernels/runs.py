"""Runs of equal grey levels along lines of voxels (IBSI TP0I)."""

from __future__ import annotations

import numpy as np
from numba import njit

from idx._typing import Array, IntArray
from idx.kernels.neighbours import direction_offsets, padded_levels


def count_runs(levels: Array, n_levels: int, *, in_slice: bool) -> IntArray:
    """Count runs by level and length; see :class:`idx.kernels.engine.Engine`."""
    padded = padded_levels(levels)
    steps = direction_offsets(padded.shape, in_slice=in_slice)
    longest = max(levels.shape[1:] if in_slice else levels.shape)
    runs = np.zeros((levels.shape[0] if in_slice else 1, len(steps), n_levels, longest), dtype=np.int64)
    _walk(padded, steps, runs)
    return runs


@njit(cache=True, nogil=True)
def _walk(padded: Array, steps: IntArray, runs: IntArray) -> None:
    """Walk every run once, from the voxel whose predecessor has another level: the border of zeros ends every walk."""
    flat = padded.ravel()
    depth, height, width = padded.shape
    per_slice = len(runs) > 1
    for z in range(1, depth - 1):
        s = z - 1 if per_slice else 0
        for y in range(1, height - 1):
            row = (z * height + y) * width
            for at in range(row + 1, row + width - 1):
                level = flat[at]
                if level == 0:
                    continue
                for d in range(len(steps)):
                    step = steps[d]
                    if flat[at - step] == level:
                        continue
                    length = 0
                    ahead = at + step
                    while flat[ahead] == level:
                        length += 1
                        ahead += step
                    runs[s, d, level - 1, length] += 1
