"""What encloses a mask: its extreme points, their convex hull, the smallest box and the smallest ellipsoid around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from idx._typing import BoolArray, FloatArray, IntArray, Triple

ELLIPSOID_TOLERANCE = 1e-7
"""Points may stick out of the enclosing ellipsoid by this share of its axes."""
MAX_ELLIPSOID_STEPS = 100_000


def extreme_points(mask: BoolArray) -> tuple[FloatArray, IntArray, IntArray]:
    """Points of a mask's surface mesh that can be corners of its convex hull, and the moments of its voxels.

    Parameters
    ----------
    mask : array (z, y, x)
        At least one voxel.

    Returns
    -------
    points : array (n, 3)
        Vertices (x, y, z) in voxels, the first voxel's centre being the origin. Mesh vertices lie half a voxel beyond a voxel along one axis;
        only the first and last of a row can be corners, and of these only corners of the hull of their plane.
    sums : array (4,) of int64
        Number of voxels and the sums of their indices x, y, z.
    products : array (3, 3) of int64
        Sums of the products of their indices.
    """
    inside = np.ascontiguousarray(mask)
    depth, height, width = inside.shape
    along_x, along_y, along_z = np.empty((2, depth, height)), np.empty((2, depth, width)), np.empty((2, height, width))
    for spans in (along_x, along_y, along_z):
        spans[0], spans[1] = np.inf, -np.inf
    sums, products = np.zeros(4, dtype=np.int64), np.zeros((3, 3), dtype=np.int64)
    _scan(np.array(inside), along_x, along_y, along_z, sums, products)
    # Of each table: the plane's axis, the axis along the plane's rows, the axis of the values.
    kept = [_corners(spans, *axes) for spans, axes in ((along_x, (2, 1, 0)), (along_y, (2, 0, 1)), (along_z, (1, 0, 2)))]
    return np.concatenate(kept), sums, products


@njit(cache=True, nogil=True)
def _scan(mask: BoolArray, along_x: FloatArray, along_y: FloatArray, along_z: FloatArray, sums: IntArray, products: IntArray) -> None:
    depth, height, width = mask.shape
    for z in range(depth):
        for y in range(height):
            n, sx, sxx = 0, 0, 0
            for x in range(width):
                if mask[z, y, x]:
                    n += 1
                    sx += x
                    sxx += x * x
                    along_x[0, z, y], along_x[1, z, y] = min(along_x[0, z, y], x - 0.5), x + 0.5
                    along_y[0, z, x], along_y[1, z, x] = min(along_y[0, z, x], y - 0.5), y + 0.5
                    along_z[0, y, x], along_z[1, y, x] = min(along_z[0, y, x], z - 0.5), z + 0.5
            sums += np.array([n, sx, n * y, n * z])
            products += np.array([[sxx, sx * y, sx * z], [sx * y, n * y * y, n * y * z], [sx * z, n * y * z, n * z * z]])


@njit(cache=True, nogil=True)
def _corners(spans: FloatArray, plane_axis: int, row_axis: int, value_axis: int) -> FloatArray:
    """Corners of the convex hulls of the lower and upper ends in each plane (Andrew's monotone chain; rows come sorted)."""
    _, n_planes, n_rows = spans.shape
    points = np.empty((2 * n_planes * n_rows, 3))
    n = 0
    chain = np.empty(n_rows, dtype=np.int64)
    for side in range(2):
        sign = 1.0 - 2.0 * side
        for plane in range(n_planes):
            ends = spans[side, plane]
            length = 0
            for row in range(n_rows):
                if not np.isfinite(ends[row]):
                    continue
                while length > 1:
                    a, b = chain[length - 2], chain[length - 1]
                    if sign * ((b - a) * (ends[row] - ends[a]) - (ends[b] - ends[a]) * (row - a)) > 0:
                        break
                    length -= 1
                chain[length] = row
                length += 1
            for row in chain[:length]:
                points[n, plane_axis], points[n, row_axis], points[n, value_axis] = plane, row, ends[row]
                n += 1
    return points[:n].copy()


@dataclass(frozen=True, eq=False)
class Hull:
    """Convex hull of a lesion's mesh.

    Parameters
    ----------
    corners : array (n, 3)
        Points (x, y, z) in mm.
    normals : array (m, 3)
        Unit normals of its sides, each direction once.
    volume, area : float
        mm3 and mm2.
    """

    corners: FloatArray
    normals: FloatArray
    volume: float
    area: float

    @property
    def diameter(self) -> float:
        """Largest distance between two corners in mm."""
        return float(pdist(self.corners).max())


def convex_hull(points: FloatArray) -> Hull:
    """Return the convex hull of points (n, 3) in mm, not all in one plane."""
    hull = ConvexHull(points)
    normals = hull.equations[:, :3]
    # Opposite sides give the same box, and a side of many triangles counts once.
    leading = np.take_along_axis(normals, np.argmax(np.abs(normals) > 1e-9, axis=1)[:, None], axis=1)
    return Hull(points[hull.vertices], np.unique(np.round(normals * np.sign(leading), 9), axis=0), float(hull.volume), float(hull.area))


def smallest_box(hull: Hull) -> FloatArray:
    """Edge lengths (3,) in mm of the smallest box of any orientation with a side along one of the hull's sides, longest first.

    Notes
    -----
    For each side of the hull the smallest rectangle around its shadow is found exactly (one edge of it lies along an edge of the shadow; Freeman
    & Shapira, Commun ACM 1975;18:409-13). The smallest box of all can touch the hull by edges alone (O'Rourke, Int J Parallel Program
    1985;14:183-99); IBSI (section 3.1.19) allows such approximations.
    """
    edges = _smallest_box(np.ascontiguousarray(hull.corners), np.ascontiguousarray(hull.normals))
    return np.asarray(np.sort(edges)[::-1])


@njit(cache=True, nogil=True)
def _smallest_box(corners: FloatArray, normals: FloatArray) -> FloatArray:
    best, edges = np.inf, np.zeros(3)
    n = len(corners)
    u, v = np.empty(n), np.empty(n)
    for k in range(len(normals)):
        normal = normals[k]
        axis = np.zeros(3)
        axis[np.argmin(np.abs(normal))] = 1.0
        first = np.cross(normal, axis)
        first /= np.sqrt(first @ first)
        second = np.cross(normal, first)
        low, high = np.inf, -np.inf
        for i in range(n):
            u[i], v[i] = corners[i] @ first, corners[i] @ second
            height = corners[i] @ normal
            low, high = min(low, height), max(high, height)
        ring = _ring(u, v)
        for j in range(len(ring)):
            a, b = ring[j], ring[(j + 1) % len(ring)]
            du, dv = u[b] - u[a], v[b] - v[a]
            length = np.hypot(du, dv)
            if length == 0.0:
                continue
            du, dv = du / length, dv / length
            along_low, along_high, across_low, across_high = np.inf, -np.inf, np.inf, -np.inf
            for i in ring:
                along, across = u[i] * du + v[i] * dv, v[i] * du - u[i] * dv
                along_low, along_high = min(along_low, along), max(along_high, along)
                across_low, across_high = min(across_low, across), max(across_high, across)
            volume = (high - low) * (along_high - along_low) * (across_high - across_low)
            if volume < best:
                best = volume
                edges[0], edges[1], edges[2] = high - low, along_high - along_low, across_high - across_low
    return edges


@njit(cache=True, nogil=True)
def _ring(u: FloatArray, v: FloatArray) -> IntArray:
    """Indices of the corners of the convex hull of points in a plane, in turn (Andrew's monotone chain)."""
    # Sorting by u, then v: a stable sort by v first.
    order = np.argsort(v, kind="mergesort")
    order = order[np.argsort(u[order], kind="mergesort")]
    ring = np.empty(2 * len(order) + 1, dtype=np.int64)
    length = 0
    for turn in range(2):
        start = length
        for i in order if turn == 0 else order[::-1]:
            while length - start > 1:
                a, b = ring[length - 2], ring[length - 1]
                if (u[b] - u[a]) * (v[i] - v[a]) - (v[b] - v[a]) * (u[i] - u[a]) > 0:
                    break
                length -= 1
            ring[length] = i
            length += 1
        length -= 1
    return ring[:length].copy()


def smallest_ellipsoid(corners: FloatArray) -> FloatArray:
    """Semi-axes (3,) in mm of the ellipsoid of least volume that holds some points, longest first.

    Parameters
    ----------
    corners : array (n, 3)
        Points in mm, not all in one plane.

    Notes
    -----
    Khachiyan's barycentric ascent with away steps (Todd & Yildirim, Discrete Appl Math 2007;155:1731-44), to ``ELLIPSOID_TOLERANCE``.
    """
    centred = corners - corners.mean(axis=0)
    scale = np.abs(centred).max()
    shape = _ellipsoid(centred / scale, ELLIPSOID_TOLERANCE, MAX_ELLIPSOID_STEPS)
    return np.asarray(np.sqrt(np.linalg.eigvalsh(shape))[::-1] * scale)


@njit(cache=True, nogil=True)
def _ellipsoid(points: FloatArray, tolerance: float, max_steps: int) -> FloatArray:
    """Matrix whose eigenvalues are the squared semi-axes: 3 times the weighted covariance of the points that bear the ellipsoid."""
    n = len(points)
    lifted = np.ones((n, 4))
    lifted[:, :3] = points
    weights = np.full(n, 1.0 / n)
    inverse = np.ascontiguousarray(np.linalg.inv((lifted.T * weights) @ lifted))
    reach = np.empty(n)
    for i in range(n):
        reach[i] = lifted[i] @ inverse @ lifted[i]
    for _ in range(max_steps):
        far = np.argmax(reach)
        near, least = -1, np.inf
        for i in range(n):
            if weights[i] > 0.0 and reach[i] < least:
                near, least = i, reach[i]
        rise, fall = reach[far] / 4.0 - 1.0, 1.0 - least / 4.0
        if max(rise, fall) <= tolerance:
            break
        chosen = far if rise >= fall else near
        step = (reach[chosen] / 4.0 - 1.0) * 4.0 / (4.0 * (reach[chosen] - 1.0))
        if chosen == near and rise < fall:
            step = max(step, -weights[chosen] / (1.0 - weights[chosen]))
        weights *= 1.0 - step
        weights[chosen] = max(weights[chosen] + step, 0.0)
        if step < 0.0 and weights[chosen] < 1e-15:
            weights[chosen] = 0.0
        # Sherman-Morrison for (1 - step) M + step q q'.
        column = inverse @ lifted[chosen]
        scale = step / (1.0 - step)
        shrink = scale / (1.0 + scale * reach[chosen])
        inverse = (inverse - shrink * np.outer(column, column)) / (1.0 - step)
        for i in range(n):
            projected = lifted[i] @ column
            reach[i] = (reach[i] - shrink * projected * projected) / (1.0 - step)
    centre = weights @ points
    spread = np.zeros((3, 3))
    for i in range(n):
        spread += weights[i] * np.outer(points[i] - centre, points[i] - centre)
    return 3.0 * spread
