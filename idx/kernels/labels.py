"""Label images (y, x): growing them from peaks, cleaning them, and outlining all objects at once."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, BoolArray, FloatArray, IntArray


def climb(elevation: Array, foreground: BoolArray, *, radius_px: int, min_depth: float = 0.0) -> IntArray:
    """Divide a foreground among the peaks of an elevation: each pixel goes to the peak that steepest ascent leads to.

    Parameters
    ----------
    elevation : array (y, x) of float
    foreground : array (y, x) of bool
        Only these pixels are labelled, and paths stay within them.
    radius_px : int
        A peak within this distance (Chebyshev) of a higher one belongs to that one's object when the saddle between them is shallow.
    min_depth : float
        Elevation that a peak must stand above the higher pixel's connecting line to stay apart.

    Returns
    -------
    array (y, x) int32
        0 background, otherwise 1..n.

    Notes
    -----
    This is watershed without a flooding order. A pixel's label depends only on the elevation within ``radius_px`` of its own path, so a tile
    that holds the path gives the same answer as the whole slide.
    """
    height, width = elevation.shape
    flat = np.flatnonzero(foreground)
    labels = np.zeros(height * width, dtype=np.int32)
    if len(flat) == 0:
        return labels.reshape(height, width)
    lifted = np.full((height + 2, width + 2), -np.inf, dtype=np.float64)
    lifted[1:-1, 1:-1][foreground] = elevation[foreground]
    stride = width + 2
    place = (flat // width + 1) * stride + flat % width + 1
    levels = lifted.ravel()
    target, best = place.copy(), levels[place].copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy == dx == 0:
                continue
            neighbour = place + dy * stride + dx
            # A rise counts per unit of length, or diagonals would always win.
            rise = levels[neighbour] - levels[place]
            gain = levels[place] + (rise / np.sqrt(2.0) if dy and dx else rise)
            higher = gain > best
            best[higher], target[higher] = gain[higher], neighbour[higher]
    compact = np.zeros(levels.size, dtype=np.int64)
    compact[place] = np.arange(len(place))
    parent = compact[target]
    peaks = np.flatnonzero(parent == np.arange(len(parent)))
    parent[peaks] = _higher_peak(levels, place, peaks, stride, radius_px, min_depth)
    while True:
        further = parent[parent]
        if np.array_equal(further, parent):
            break
        parent = further
    _, number = np.unique(parent, return_inverse=True)
    labels[flat] = number + 1
    return labels.reshape(height, width)


def _higher_peak(levels: FloatArray, place: IntArray, peaks: IntArray, stride: int, radius_px: int, min_depth: float) -> IntArray:
    """For each peak the nearest clearly connected higher peak, or itself."""
    parent = peaks.copy()
    if len(peaks) < 2 or radius_px < 1:
        return parent
    from scipy.spatial import cKDTree

    at = place[peaks]
    points = np.stack([at // stride, at % stride], axis=1).astype(np.float64)
    pairs = cKDTree(points).query_pairs(radius_px, p=np.inf, output_type="ndarray")
    if len(pairs) == 0:
        return parent
    height = levels[at]
    swap = (height[pairs[:, 0]] > height[pairs[:, 1]]) | ((height[pairs[:, 0]] == height[pairs[:, 1]]) & (pairs[:, 0] < pairs[:, 1]))
    lower, upper = np.where(swap, pairs[:, 1], pairs[:, 0]), np.where(swap, pairs[:, 0], pairs[:, 1])
    # The saddle is read off the straight line: a local stand-in for the pass, exact for convex objects.
    steps = np.linspace(0.0, 1.0, 2 * radius_px + 1)
    line = points[lower][:, None] + steps[None, :, None] * (points[upper] - points[lower])[:, None]
    cells = np.rint(line).astype(np.int64)
    saddle = levels[cells[..., 0] * stride + cells[..., 1]].min(axis=1)
    joined = height[lower] - saddle <= min_depth
    lower, upper = lower[joined], upper[joined]
    distance = np.linalg.norm(points[lower] - points[upper], axis=1)
    order = np.lexsort((-height[upper], distance, lower))
    first = np.unique(lower[order], return_index=True)[1]
    parent[lower[order][first]] = peaks[upper[order][first]]
    return parent


def largest_parts(labels: IntArray) -> IntArray:
    """Keep of every label its largest 4-connected part, numbered 1..n in the order of the labels' values; int32 (y, x)."""
    from skimage.measure import label

    parts = label(labels, connectivity=1, background=0)
    sizes = np.bincount(parts.ravel())
    if len(sizes) < 2:
        return np.zeros(labels.shape, dtype=np.int32)
    owner = np.zeros(len(sizes), dtype=np.int64)
    owner[parts.ravel()] = labels.ravel()
    candidates = np.arange(1, len(sizes))
    order = candidates[np.lexsort((candidates, -sizes[1:], owner[1:]))]
    _, first = np.unique(owner[order], return_index=True)
    new = np.zeros(len(sizes), dtype=np.int32)
    new[order[first]] = np.arange(1, len(first) + 1)
    return np.asarray(new[parts])


def select(labels: IntArray, keep: BoolArray) -> IntArray:
    """Keep the labels i whose ``keep[i - 1]`` is true and number them 1..n in the same order; int32 (y, x)."""
    new = np.zeros(len(keep) + 1, dtype=np.int32)
    new[1:][keep] = np.arange(1, int(keep.sum()) + 1)
    return np.asarray(new[labels])


def outlines(labels: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    """Outline all objects of a label image at once.

    Parameters
    ----------
    labels : array (y, x) of int
        0 is background. Parts of one label that touch only at a corner count as apart.

    Returns
    -------
    vertices_px : array (n_vertices, 2)
        (x, y) halfway between a pixel inside and its neighbour outside, as marching squares places them on a mask; rings are open.
    ring_offsets : array (n_rings + 1,)
    ring_labels : array (n_rings,)
        Rings are sorted by label; of one label, outer rings (positive shoelace area, y down) come before holes, larger ones first.

    Notes
    -----
    Every side between an object's pixel and another value is a directed edge with the object on its right. The edge that follows is known from
    two more pixels, so rings are the cycles of one permutation; their order comes from pointer doubling instead of a walk.
    """
    padded = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), dtype=labels.dtype)
    padded[1:-1, 1:-1] = labels
    stride = padded.shape[1]
    flat = padded.ravel()
    # Sides 0 top, 1 right, 2 bottom, 3 left, walked clockwise on a picture whose y points down.
    outward = np.array([-stride, 1, stride, -1])
    forward = np.array([1, stride, -1, -stride])
    inside = np.flatnonzero(flat)
    codes = [inside[flat[inside] != flat[inside + outward[side]]] * 4 + side for side in range(4)]
    edges = np.sort(np.concatenate(codes))
    if len(edges) == 0:
        return np.zeros((0, 2)), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    pixel, side = edges // 4, edges % 4
    ahead = pixel + forward[side]
    across = ahead + outward[side]
    same_ahead = flat[ahead] == flat[pixel]
    same_across = same_ahead & (flat[across] == flat[pixel])
    following = np.where(same_across, across * 4 + (side - 1) % 4, np.where(same_ahead, ahead * 4 + side, pixel * 4 + (side + 1) % 4))
    ring, order_in_ring = _cycles(np.searchsorted(edges, following))
    half = np.array([[0.0, -0.5], [0.5, 0.0], [0.0, 0.5], [-0.5, 0.0]])
    vertices = np.stack([pixel % stride - 1.0, pixel // stride - 1.0], axis=1) + half[side]
    order = np.lexsort((order_in_ring, ring))
    return _sorted_rings(vertices[order], ring[order], flat[pixel[order]].astype(np.int64))


def _cycles(following: IntArray) -> tuple[IntArray, IntArray]:
    """Cycle of every element of a permutation (named by its least element) and its place in it, counted from that element."""
    first = np.minimum(np.arange(len(following)), following)
    jump = following
    while True:
        jump = jump[jump]
        least = np.minimum(first, first[jump])
        if np.array_equal(least, first):
            break
        first = least
    # Steps that are left until the cycle's least element, by doubling over paths that end there.
    is_end = following == first
    onward = np.where(is_end, np.arange(len(following)), following)
    left = (~is_end).astype(np.int64)
    while True:
        added = left + left[onward]
        if np.array_equal(added, left):
            break
        left, onward = added, onward[onward]
    return first, left.max(initial=0) - left


def _sorted_rings(vertices: FloatArray, ring: IntArray, label: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    starts = np.flatnonzero(np.r_[True, ring[1:] != ring[:-1]])
    sizes = np.diff(np.r_[starts, len(ring)])
    following = np.arange(1, len(vertices) + 1)
    following[starts + sizes - 1] = starts
    local = vertices - np.repeat(vertices[starts], sizes, axis=0)
    area = np.add.reduceat(local[:, 0] * local[following, 1] - local[following, 0] * local[:, 1], starts)
    order = np.lexsort((-area, label[starts]))
    sizes = sizes[order]
    offsets = np.r_[0, np.cumsum(sizes)]
    within = np.arange(len(vertices)) - np.repeat(offsets[:-1], sizes)
    return vertices[np.repeat(starts[order], sizes) + within], offsets, label[starts[order]]
