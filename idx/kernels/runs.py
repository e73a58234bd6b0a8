"""Runs of equal grey levels along lines of voxels (IBSI TP0I)."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, IntArray
from idx.kernels.compiled import compiled
from idx.kernels.engine import DIRECTIONS_2D, DIRECTIONS_3D
from idx.kernels.neighbours import padded_levels


def count_runs(levels: Array, n_levels: int, *, in_slice: bool) -> IntArray:
    """Count runs by level and length; see :class:`idx.kernels.engine.Engine`."""
    padded = padded_levels(levels)
    steps = np.array(DIRECTIONS_2D if in_slice else DIRECTIONS_3D, dtype=np.int64)
    longest = max(levels.shape[1:] if in_slice else levels.shape)
    # Column 0 takes what the first voxel of a run would take from a shorter one.
    runs = np.zeros((levels.shape[0] if in_slice else 1, len(steps), n_levels, longest + 1), dtype=np.int64)
    _grow(padded, steps[:, 0], steps[:, 1] * padded.shape[2] + steps[:, 2], runs)
    return runs[..., 1:]


@compiled()
def _grow(padded: Array, planes: IntArray, offsets: IntArray, runs: IntArray) -> None:
    """Grow runs voxel by voxel: each makes a run of one more out of its predecessor's, or a run of one.

    No branch depends on the levels, which a processor could not foresee; the lengths so far are kept for two planes only.
    """
    depth, height, width = padded.shape
    area = height * width
    flat = padded.ravel()
    lengths = np.zeros((len(planes), 2, area), dtype=np.int32)
    per_slice = len(runs) > 1
    for z in range(1, depth - 1):
        s = z - 1 if per_slice else 0
        now = z % 2
        for y in range(1, height - 1):
            for within in range(y * width + 1, (y + 1) * width - 1):
                level = flat[z * area + within]
                if level == 0:
                    continue
                for d in range(len(planes)):
                    before = within - offsets[d]
                    goes_on = np.int32(flat[(z - planes[d]) * area + before] == level)
                    length = lengths[d, (now + planes[d]) % 2, before] * goes_on + np.int32(1)
                    lengths[d, now, within] = length
                    runs[s, d, level - 1, length] += 1
                    runs[s, d, level - 1, length - 1] -= goes_on
