"""Zones of connected voxels of one grey level, and how far they lie from the border (IBSI 9SAK and VMDZ)."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, BoolArray, IntArray
from idx.kernels.compiled import compiled
from idx.kernels.engine import Zones
from idx.kernels.neighbours import direction_offsets, padded_levels


def find_zones(levels: Array, distance: IntArray, *, in_slice: bool) -> Zones:
    """Find zones; see :class:`idx.kernels.engine.Engine`."""
    padded = padded_levels(levels)
    # All steps lead to voxels that come later, so their opposites lead to voxels that already have a label.
    steps = direction_offsets(padded.shape, in_slice=in_slice)
    return Zones(*_zones(padded, padded_levels(distance), steps, in_slice))


@compiled()
def _zones(padded: Array, distance: Array, steps: IntArray, in_slice: bool) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Union-find in raster order: a label's parent is never larger than itself, so that one last pass resolves all labels."""
    depth, height, width = padded.shape
    flat, apart = padded.ravel(), distance.ravel()
    label = np.zeros(flat.size, dtype=np.int32)
    parent = np.zeros(np.count_nonzero(flat) + 1, dtype=np.int32)
    first = np.zeros(parent.size, dtype=np.int64)
    n_labels = 0
    for z in range(1, depth - 1):
        for y in range(1, height - 1):
            row = (z * height + y) * width
            for at in range(row + 1, row + width - 1):
                level = flat[at]
                if level == 0:
                    continue
                own = 0
                for step in steps:
                    if flat[at - step] != level:
                        continue
                    other = label[at - step]
                    if other == own:
                        continue
                    while parent[other] != other:
                        parent[other] = parent[parent[other]]
                        other = parent[other]
                    if own == 0:
                        own = other
                    elif other < own:
                        parent[own] = other
                        own = other
                    elif other > own:
                        parent[other] = own
                if own == 0:
                    n_labels += 1
                    own = n_labels
                    parent[own] = own
                    first[own] = at
                label[at] = own
    number = np.zeros(n_labels + 1, dtype=np.int64)
    n_zones = 0
    for one in range(1, n_labels + 1):
        if parent[one] == one:
            number[one] = n_zones
            n_zones += 1
        else:
            number[one] = number[parent[one]]
    slices, levels = np.zeros(n_zones, dtype=np.int64), np.zeros(n_zones, dtype=np.int64)
    size, nearest = np.zeros(n_zones, dtype=np.int64), np.full(n_zones, np.iinfo(np.int64).max)
    for one in range(1, n_labels + 1):
        if parent[one] == one:
            levels[number[one]] = flat[first[one]]
            slices[number[one]] = first[one] // (height * width) - 1 if in_slice else 0
    for at in range(flat.size):
        if label[at] > 0:
            zone = number[label[at]]
            size[zone] += 1
            nearest[zone] = min(nearest[zone], apart[at])
    return slices, levels, size, nearest


def border_distance(mask: BoolArray, *, in_slice: bool) -> IntArray:
    """City-block distance to the border; see :class:`idx.kernels.engine.Engine`."""
    padded = np.zeros([n + 2 for n in mask.shape], dtype=np.int32)
    # Larger than any distance, so that the first sweep lowers it.
    padded[1:-1, 1:-1, 1:-1] = np.where(mask, np.int32(sum(mask.shape)), np.int32(0))
    _lower(padded, in_slice)
    return np.asarray(padded[1:-1, 1:-1, 1:-1])


@compiled()
def _lower(distance: Array, in_slice: bool) -> None:
    """Two sweeps, forward and backward, are exact for city-block distances (Rosenfeld & Pfaltz, J ACM 1966;13:471-94)."""
    depth, height, width = distance.shape
    for z in range(1, depth - 1):
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                if distance[z, y, x] > 0:
                    least = min(distance[z, y, x - 1], distance[z, y - 1, x])
                    if not in_slice:
                        least = min(least, distance[z - 1, y, x])
                    distance[z, y, x] = min(distance[z, y, x], least + 1)
    for z in range(depth - 2, 0, -1):
        for y in range(height - 2, 0, -1):
            for x in range(width - 2, 0, -1):
                if distance[z, y, x] > 0:
                    least = min(distance[z, y, x + 1], distance[z, y + 1, x])
                    if not in_slice:
                        least = min(least, distance[z + 1, y, x])
                    distance[z, y, x] = min(distance[z, y, x], least + 1)
