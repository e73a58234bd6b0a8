"""Outlines of objects along the edges of their pixels, so that an outline's area is the number of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import FloatArray, IntArray
from idx.kernels.compiled import compiled
from idx.kernels.spans import _parts


@dataclass(frozen=True, eq=False)
class Outlines:
    """Outlines of objects 0..n-1 and what they enclose.

    Parameters
    ----------
    corners : int32 array (n_corners, 2)
        (x, y) of the corners of all rings; corner (x, y) is the upper left one of pixel (x, y). Rings are open.
    ring_offsets : array (n_rings + 1,)
    object_offsets : array (n + 1,)
        Rings of each object: the outer one (positive shoelace area, y down), then holes (negative).
    area_px : array (n,) of int
        Pixels enclosed.
    centroid_px : array (n, 2)
        Their mean position (x, y); an integer is a pixel's centre.
    """

    corners: IntArray
    ring_offsets: IntArray
    object_offsets: IntArray
    area_px: IntArray
    centroid_px: FloatArray


def trace(spans: IntArray, offsets: IntArray) -> Outlines:
    """Outline objects along the edges of their pixels.

    Parameters
    ----------
    spans : int32 array (n_spans, 4)
        From :func:`idx.kernels.spans.sorted_by_object`.
    offsets : array (n + 1,)
        Spans of each object; each has at least one.

    Returns
    -------
    Outlines
        Of each object's largest 4-connected part (the upper of equal ones): parts that touch at a corner only count as apart.

    Notes
    -----
    Each span has two upright edges, walked so that the object lies on the right: up along its left side, down along its right side. Between two
    rows the ends of the spans above and below, sorted by column, say which upright edge follows which: where only one of the rows has the object,
    its border runs from one end to the next. Where the spans meet at a corner, the walk crosses over to the other span. Within one 4-connected part
    this parts holes from what is around them, so that no ring touches itself and polygons are valid.
    """
    n = len(offsets) - 1
    area, sums = np.zeros(n, np.int64), np.zeros((n, 2))
    corners, ring_offsets, object_offsets = _trace(spans, offsets, area, sums)
    return Outlines(corners, ring_offsets, object_offsets, area, sums / np.maximum(area, 1)[:, None])


@compiled()
def _largest_part(spans, area, sums, one):  # type: ignore[no-untyped-def]  # numba
    """Spans of the largest part of object ``one``, which is measured."""
    part, part_area = _parts(spans)
    largest = np.argmax(part_area)
    kept = np.empty((len(spans), 3), np.int32)
    n = 0
    for k in range(len(spans)):
        if part[k] == largest:
            row, start, end = spans[k, 1], spans[k, 2], spans[k, 3]
            kept[n, 0], kept[n, 1], kept[n, 2] = row, start, end
            sums[one, 0] += (end - start) * (start + end - 1) / 2.0
            sums[one, 1] += np.float64(end - start) * row
            n += 1
    area[one] = part_area[largest]
    return kept[:n]


@compiled()
def _follow(spans):  # type: ignore[no-untyped-def]  # numba
    """Upright edge that follows each of one part: edge 2k leads up the left side of span k, 2k + 1 down its right side."""
    n = len(spans)
    following = np.empty(2 * n, np.int64)
    above, above_end, k = 0, 0, 0
    while above < above_end or k < n:
        line = spans[above, 0] + 1 if above < above_end else spans[k, 0]
        below_end = k
        while below_end < n and spans[below_end, 0] == line:
            below_end += 1
        # Ends of the spans above (u) and below (v) this line between rows, from left to right; even ones are left sides.
        u, u_end, v, v_end = 2 * above, 2 * above_end, 2 * k, 2 * below_end
        tail = head = 0
        while u < u_end or v < v_end:
            x_u = spans[u >> 1, 1 + (u & 1)] if u < u_end else np.int32(2147483647)
            x_v = spans[v >> 1, 1 + (v & 1)] if v < v_end else np.int32(2147483647)
            is_left_u, is_left_v = (u & 1) == 0, (v & 1) == 0
            # Before this end: inside above where the next end above is a right side, and likewise below.
            inside_u, inside_v = u < u_end and not is_left_u, v < v_end and not is_left_v
            if x_u < x_v:
                if is_left_u:
                    if inside_v:
                        following[tail] = u
                    else:
                        head = u
                elif inside_v:
                    tail = u
                else:
                    following[u] = head
                u += 1
            elif x_v < x_u:
                if is_left_v:
                    if inside_u:
                        following[v] = head
                    else:
                        tail = v
                elif inside_u:
                    head = v
                else:
                    following[tail] = v
                v += 1
            else:
                if is_left_u and is_left_v:
                    following[v] = u
                elif not is_left_u and not is_left_v:
                    following[u] = v
                elif is_left_v:
                    following[v] = head
                    tail = u
                else:
                    following[tail] = u
                    head = v
                u += 1
                v += 1
        above, above_end, k = k, below_end, below_end
    return following


@compiled()
def _trace(all_spans, offsets, area, sums):  # type: ignore[no-untyped-def]  # numba
    n = len(offsets) - 1
    corners = np.empty((4 * len(all_spans), 2), np.int32)
    ring_offsets = np.zeros(2 * len(all_spans) + 1, np.int64)
    object_offsets = np.zeros(n + 1, np.int64)
    n_corners = n_rings = 0
    for one in range(n):
        spans = _largest_part(all_spans[offsets[one] : offsets[one + 1]], area, sums, one)
        following = _follow(spans)
        seen = np.zeros(len(following), np.bool_)
        # The first span's left side lies on the outer ring; in every later ring the first one met lies on a hole.
        for first in range(len(following)):
            if seen[first]:
                continue
            edge = first
            while not seen[edge]:
                seen[edge] = True
                then = following[edge]
                x, x_then = spans[edge >> 1, 1 + (edge & 1)], spans[then >> 1, 1 + (then & 1)]
                if x != x_then:
                    y = spans[edge >> 1, 0] + (edge & 1)
                    corners[n_corners, 0], corners[n_corners, 1] = x, y
                    corners[n_corners + 1, 0], corners[n_corners + 1, 1] = x_then, y
                    n_corners += 2
                edge = then
            n_rings += 1
            ring_offsets[n_rings] = n_corners
        object_offsets[one + 1] = n_rings
    return corners[:n_corners].copy(), ring_offsets[: n_rings + 1].copy(), object_offsets
