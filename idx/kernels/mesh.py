"""Triangle meshes of masks and their volume, area and extent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes

from idx._typing import BoolArray, FloatArray, IntArray, Triple


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed triangle mesh.

    Parameters
    ----------
    vertices : array (n, 3)
        Points (x, y, z) in mm along the axes of the array, the first voxel's centre being the origin.
    faces : array (m, 3) of int
        Vertex indices, all turned the same way.
    """

    vertices: FloatArray
    faces: IntArray

    @property
    def volume(self) -> float:
        """Enclosed volume in mm3: the sum of signed tetrahedra (IBSI RNU0)."""
        # Tetrahedra that start near the mesh keep the sum free of cancellation.
        a, b, c = np.moveaxis((self.vertices - self.vertices.mean(axis=0))[self.faces], 1, 0)
        return float(abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6.0)

    @property
    def area(self) -> float:
        """Area of all triangles in mm2 (IBSI C0JK)."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2.0)

    @property
    def extent(self) -> FloatArray:
        """Edge lengths (x, y, z) of the axis-aligned bounding box in mm."""
        return np.ptp(self.vertices, axis=0)


def mesh_of_mask(mask: BoolArray, spacing_mm: Triple) -> Mesh:
    """Surface between voxels inside and outside, by marching cubes at iso-level 0.5.

    Parameters
    ----------
    mask : array (z, y, x)
        At least one voxel inside. The array's border counts as outside.
    spacing_mm : tuple
        Voxel spacing (x, y, z) in mm.
    """
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, allow_degenerate=False)
    # Vertices are multiples of half an index, exact in float32; only the product with the spacing needs float64.
    return Mesh((vertices[:, ::-1].astype(np.float64) - 1.0) * np.asarray(spacing_mm), faces.astype(np.int64))


@dataclass(frozen=True)
class Hull:
    """Convex hull: volume in mm3, area in mm2, largest distance between two of its vertices in mm."""

    volume: float
    area: float
    diameter: float


def convex_hull(points: FloatArray) -> Hull:
    """Return the convex hull of points (n, 3) in mm, not all in one plane."""
    hull = ConvexHull(points)
    return Hull(float(hull.volume), float(hull.area), float(pdist(points[hull.vertices]).max()))
