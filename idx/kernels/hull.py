"""What encloses a mask: its extreme points, their convex hull, the smallest box and the smallest ellipsoid around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from idx._typing import BoolArray, FloatArray, IntArray
from idx.kernels.compiled import compiled

ELLIPSOID_TOLERANCE = 1e-11
"""Points may stick out of the enclosing ellipsoid by this share of its axes."""
TIE_RTOL = 1e-9
"""Boxes whose volumes differ by less than this share are of one volume."""
ELLIPSOID_STEPS = 200
"""Steps between two looks at which points still matter."""
MAX_ELLIPSOID_ROUNDS = 500


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


@compiled()
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


@compiled()
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
    1985;14:183-99); IBSI (section 3.1.19) allows such approximations. Of boxes of one volume it is the one with the least area.
    """
    least = np.eye(3)[np.argmin(np.abs(hull.normals), axis=1)]
    first = np.cross(hull.normals, least)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    edges = _smallest_box(np.ascontiguousarray(hull.corners), hull.normals, first, np.cross(hull.normals, first))
    return np.asarray(np.sort(edges)[::-1])


@compiled()
def _smallest_box(corners: FloatArray, normals: FloatArray, firsts: FloatArray, seconds: FloatArray) -> FloatArray:
    best, least, edges = np.inf, np.inf, np.zeros(3)
    n = len(corners)
    u, v = np.empty(n), np.empty(n)
    for k in range(len(normals)):
        low, high = np.inf, -np.inf
        for i in range(n):
            x, y, z = corners[i, 0], corners[i, 1], corners[i, 2]
            u[i] = x * firsts[k, 0] + y * firsts[k, 1] + z * firsts[k, 2]
            v[i] = x * seconds[k, 0] + y * seconds[k, 1] + z * seconds[k, 2]
            height = x * normals[k, 0] + y * normals[k, 1] + z * normals[k, 2]
            low, high = min(low, height), max(high, height)
        ring = _ring(u, v)
        doubled = 0.0
        for j in range(len(ring)):
            a, b = ring[j], ring[(j + 1) % len(ring)]
            doubled += u[a] * v[b] - u[b] * v[a]
        if (high - low) * abs(doubled) / 2.0 > best * (1.0 + TIE_RTOL):  # no rectangle is smaller than the shadow
            continue
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
            a_edge, b_edge, c_edge = high - low, along_high - along_low, across_high - across_low
            volume, area = a_edge * b_edge * c_edge, a_edge * b_edge + b_edge * c_edge + c_edge * a_edge
            # Of boxes of one volume the one with the least area counts: rounding must not choose between them.
            if volume < best * (1.0 - TIE_RTOL) or (volume <= best * (1.0 + TIE_RTOL) and area < least):
                best, least = min(best, volume), area
                edges[0], edges[1], edges[2] = a_edge, b_edge, c_edge
    return edges


@compiled()
def _ring(u: FloatArray, v: FloatArray) -> IntArray:
    """Indices of the corners of the convex hull of points in a plane, in turn (Andrew's monotone chain)."""
    order = np.argsort(u)
    for i in range(1, len(order)):  # of equal u, the smaller v first
        j = i
        while j > 0 and u[order[j - 1]] == u[order[j]] and v[order[j - 1]] > v[order[j]]:
            order[j - 1], order[j] = order[j], order[j - 1]
            j -= 1
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
    Khachiyan's barycentric ascent with away steps (Todd & Yildirim, Discrete Appl Math 2007;155:1731-44), to ``ELLIPSOID_TOLERANCE``. Points that
    cannot bear the ellipsoid are left out as soon as that is known (Harman & Pronzato, Stat Probab Lett 2007;77:90-4).
    """
    centred = corners - corners.mean(axis=0)
    scale = np.abs(centred).max()
    lifted = np.column_stack([centred / scale, np.ones(len(centred))])
    weights = np.full(len(lifted), 1.0 / len(lifted))
    for _ in range(MAX_ELLIPSOID_ROUNDS):
        # The inverse is made anew each round, so that rounding does not pile up.
        inverse = np.linalg.inv((lifted.T * weights) @ lifted)
        reach = np.einsum("ij,jk,ik->i", lifted, inverse, lifted)
        excess = reach.max() / 4.0 - 1.0
        if excess <= ELLIPSOID_TOLERANCE:
            break
        bearing = reach >= 4.0 * (1.0 + excess / 2.0 - np.sqrt(excess * (4.0 + excess - 1.0)) / 2.0)
        lifted, weights, reach = lifted[bearing], weights[bearing] / weights[bearing].sum(), reach[bearing]
        inverse = np.linalg.inv((lifted.T * weights) @ lifted)
        reach = np.einsum("ij,jk,ik->i", lifted, inverse, lifted)
        _ascend(np.ascontiguousarray(lifted), weights, np.ascontiguousarray(inverse), reach, ELLIPSOID_TOLERANCE)
    points = lifted[:, :3]
    apart = points - weights @ points
    return np.asarray(np.sqrt(np.linalg.eigvalsh(3.0 * (apart.T * weights) @ apart))[::-1] * scale)


@compiled()
def _ascend(lifted: FloatArray, weights: FloatArray, inverse: FloatArray, reach: FloatArray, tolerance: float) -> None:
    """Move weight, in place, towards the farthest point or away from the least needed one; both leave a rank-one change of the inverse."""
    n = len(lifted)
    column = np.empty(4)
    for _ in range(ELLIPSOID_STEPS):
        far, near = 0, -1
        for i in range(n):
            if reach[i] > reach[far]:
                far = i
            if weights[i] > 0.0 and (near < 0 or reach[i] < reach[near]):
                near = i
        rise, fall = reach[far] / 4.0 - 1.0, 1.0 - reach[near] / 4.0
        if max(rise, fall) <= tolerance:
            return
        chosen = far if rise >= fall else near
        step = (reach[chosen] / 4.0 - 1.0) / (reach[chosen] - 1.0)
        if chosen == near and step <= -weights[chosen] / (1.0 - weights[chosen]):
            step = -weights[chosen] / (1.0 - weights[chosen])
        for i in range(n):
            weights[i] *= 1.0 - step
        weights[chosen] += step
        if weights[chosen] < 1e-15:
            weights[chosen] = 0.0
        for j in range(4):
            column[j] = 0.0
            for k in range(4):
                column[j] += inverse[j, k] * lifted[chosen, k]
        # Sherman-Morrison for (1 - step) M + step q q'.
        ratio = step / (1.0 - step)
        shrink = ratio / (1.0 + ratio * reach[chosen])
        for j in range(4):
            for k in range(4):
                inverse[j, k] = (inverse[j, k] - shrink * column[j] * column[k]) / (1.0 - step)
        for i in range(n):
            along = 0.0
            for k in range(4):
                along += lifted[i, k] * column[k]
            reach[i] = (reach[i] - shrink * along * along) / (1.0 - step)
