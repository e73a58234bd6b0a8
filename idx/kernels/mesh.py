"""The surface of a mask by marching cubes: its volume and area, without a list of triangles."""

from __future__ import annotations

from functools import cache

import numpy as np

from idx._typing import Array, BoolArray, FloatArray, IntArray, Triple
from idx.kernels.compiled import compiled


@cache
def _triangles() -> tuple[FloatArray, IntArray]:
    """Triangles of all 256 cells: corners (n, 3, 3) as (x, y, z) in units of the cell, and the cell of each.

    Scikit-image's triangulation (Lewiner et al., J Graph Tools 2003;8:1-15) of a cell depends on its eight corners only, so that meshing
    each of the 256 possible cells once says all that there is to know about the mesh of a mask.
    """
    from skimage.measure import marching_cubes

    corners, owners = [], []
    for cell in range(1, 255):
        inside = np.array([cell >> bit & 1 for bit in range(8)], dtype=np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(inside, 0.5, allow_degenerate=False)
        corners.append(vertices[:, ::-1].astype(np.float64)[faces])
        owners.append(np.full(len(faces), cell))
    return np.concatenate(corners), np.concatenate(owners)


def cube_counts(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Count the cells of a mask by their corners; see :class:`idx.kernels.engine.Engine`."""
    padded = np.zeros([n + 2 for n in mask.shape], dtype=np.uint8)
    padded[1:-1, 1:-1, 1:-1] = mask
    counts, positions = np.zeros(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
    _count_cells(padded, counts, positions)
    return counts, positions


@compiled()
def _count_cells(padded: Array, counts: IntArray, positions: IntArray) -> None:
    depth, height, width = padded.shape
    for z in range(depth - 1):
        for y in range(height - 1):
            r0, r1, r2, r3 = padded[z, y], padded[z, y + 1], padded[z + 1, y], padded[z + 1, y + 1]
            before = r0[0] | r1[0] << 2 | r2[0] << 4 | r3[0] << 6
            for x in range(width - 1):
                after = r0[x + 1] | r1[x + 1] << 2 | r2[x + 1] << 4 | r3[x + 1] << 6
                cell = before | after << 1
                if cell != 0 and cell != 255:
                    counts[cell] += 1
                    positions[cell] += x
                before = after


def surface(counts: IntArray, positions: IntArray, spacing_mm: Triple) -> tuple[float, float]:
    """Volume (mm3) and area (mm2) of the mesh of a mask.

    Parameters
    ----------
    counts, positions : array (256,)
        Number of cells of each kind and the sum of their x indices.
    spacing_mm : tuple
        Voxel spacing (x, y, z) in mm.

    Notes
    -----
    IBSI RNU0 and C0JK. The volume is the flux of (x, 0, 0) through the closed mesh: each triangle gives the x of its centre times the x
    of its area vector, and a cell's place adds its x index times the sum of those area vectors.
    """
    corners, owners = _triangles()
    a, b, c = np.moveaxis(corners * np.asarray(spacing_mm), 1, 0)
    normals = np.cross(b - a, c - a) / 2.0
    area = np.bincount(owners, np.linalg.norm(normals, axis=1), 256) @ counts
    within = np.bincount(owners, (a + b + c)[:, 0] / 3.0 * normals[:, 0], 256) @ counts
    across = np.bincount(owners, normals[:, 0], 256) @ positions * spacing_mm[0]
    return abs(float(within + across)), float(area)
