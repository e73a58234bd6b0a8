"""How much of each cell of a lattice contours or a mask cover: exact areas, no sampling."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, BoolArray, FloatArray
from idx.slide import Contours

_CHUNK_PX = 1 << 22
"""Pixels of a mask that are added up at a time."""
_SHARE_DECIMALS = 9
"""Shares of cells are rounded to these: beyond lies the rounding of positions, which must neither add a tile nor take one away."""


def share_in_contours(within: Contours, *, x_lines_um: FloatArray, y_lines_um: FloatArray) -> FloatArray:
    """Share (0 to 1) of each cell of a lattice that the union of contours covers.

    Parameters
    ----------
    within : Contours
        Overlapping ones count once; those that cross themselves are mended first.
    x_lines_um, y_lines_um : array (n_columns + 1,), (n_rows + 1,)
        Edges of the cells, ascending.

    Returns
    -------
    array (n_rows, n_columns)

    Notes
    -----
    Green's theorem cell by cell, as font rasterisers do it: each edge of the outline is cut at the lines of the lattice, and each piece adds the
    area between itself and the right side of its cell there, and its height times the width to all cells further right in the row.
    The time grows with the outline, not with outline times cells.
    """
    start, end, sign = _outline_edges(within)
    start, end, sign = _cut_at_lines(start, end, sign, lines=(x_lines_um, y_lines_um))
    middle, rise = (start + end) / 2.0, (end[:, 1] - start[:, 1]) * sign
    inside = (middle[:, 1] > y_lines_um[0]) & (middle[:, 1] < y_lines_um[-1]) & (middle[:, 0] < x_lines_um[-1])
    # What lies left of the lattice covers whole rows of it: it counts as lying on the left border.
    x, y, rise = np.maximum(middle[inside, 0], x_lines_um[0]), middle[inside, 1], rise[inside]
    column, row = np.searchsorted(x_lines_um, x, side="right") - 1, np.searchsorted(y_lines_um, y, side="right") - 1
    shape = (len(y_lines_um) - 1, len(x_lines_um) - 1)
    cell, n_cells = row * shape[1] + column, shape[0] * shape[1]
    own = np.bincount(cell, weights=rise * (x_lines_um[column + 1] - x), minlength=n_cells).reshape(shape)
    passed_on = np.bincount(cell, weights=rise, minlength=n_cells).reshape(shape)
    widths, heights = np.diff(x_lines_um), np.diff(y_lines_um)
    before = np.cumsum(passed_on, axis=1) - passed_on
    return _shares((own + before * widths) / (widths * heights[:, None]))


def _outline_edges(within: Contours) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Start and end (n, 2) of the edges of the union, and +1 or -1 so that ``-x * rise * sign`` adds up to its area."""
    import shapely

    polygons = np.array(list(within.polygons()), dtype=object)
    broken = ~shapely.is_valid(polygons)
    polygons[broken] = shapely.make_valid(polygons[broken])
    parts = shapely.get_parts(shapely.union_all(polygons))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    rings, owner = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    is_edge = ring[1:] == ring[:-1]
    start, end, ring = points[:-1][is_edge], points[1:][is_edge], ring[1:][is_edge]
    # Outlines come first within their polygon; the others are holes. Orientation is not promised, so it is measured.
    is_outline = np.diff(owner, prepend=-1) != 0
    local, following = start - _first_points(points, rings)[ring], end - _first_points(points, rings)[ring]
    doubled = np.bincount(ring, weights=local[:, 0] * following[:, 1] - following[:, 0] * local[:, 1], minlength=len(rings))
    return start, end, (np.where(is_outline, -1.0, 1.0) * np.sign(doubled))[ring]


def _first_points(points: FloatArray, rings: Array) -> FloatArray:
    import shapely

    sizes = shapely.get_num_coordinates(rings)
    return points[np.cumsum(sizes) - sizes]


def _cut_at_lines(start: FloatArray, end: FloatArray, sign: FloatArray, *, lines: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Cut edges wherever they cross a line of the lattice; the pieces of an edge share their points to the last bit."""
    edges, shares = [np.arange(len(start))] * 2, [np.zeros(len(start)), np.ones(len(start))]
    for axis, at in enumerate(lines):
        first, last = (
            np.searchsorted(at, np.minimum(start[:, axis], end[:, axis]), "right"),
            np.searchsorted(at, np.maximum(start[:, axis], end[:, axis]), "left"),
        )
        n_crossed = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(start)), n_crossed)
        line = at[np.repeat(first - np.cumsum(n_crossed) + n_crossed, n_crossed) + np.arange(len(edge))]
        edges.append(edge)
        shares.append((line - start[edge, axis]) / (end[edge, axis] - start[edge, axis]))
    edge, share = np.concatenate(edges), np.concatenate(shares)
    order = np.lexsort((share, edge))
    edge, share = edge[order], share[order]
    point = start[edge] + share[:, None] * (end[edge] - start[edge])
    is_piece = edge[1:] == edge[:-1]
    return point[:-1][is_piece], point[1:][is_piece], sign[edge[1:][is_piece]]


def share_in_mask(mask: BoolArray, *, x_lines: FloatArray, y_lines: FloatArray) -> FloatArray:
    """Share (0 to 1) of each cell of a lattice that the true pixels of a mask cover.

    Parameters
    ----------
    mask : bool array (y, x)
    x_lines, y_lines : array (n_columns + 1,), (n_rows + 1,)
        Edges of the cells as shares (0 to 1) of the mask's width and height, ascending.

    Returns
    -------
    array (n_rows, n_columns)

    Notes
    -----
    Pixels are squares: one that a line cuts counts on either side by its area there. Rows are added up a few at a time.
    """
    height, width = mask.shape
    x_px, y_px = x_lines * width, y_lines * height
    covered = np.zeros((len(y_lines) - 1, len(x_lines) - 1))
    step = max(1, _CHUNK_PX // width)
    for first in range(0, height, step):
        rows = mask[first : first + step]
        in_columns = np.diff(_sums_to(x_px, rows.T), axis=0).T
        # Cells that this chunk reaches; lines beyond it are moved to its border, where nothing is added.
        reached = slice(max(0, int(np.searchsorted(y_px, first, "right")) - 1), int(np.searchsorted(y_px, first + len(rows), "left")) + 1)
        at = np.clip(y_px[reached] - first, 0.0, len(rows))
        covered[reached.start : reached.start + len(at) - 1] += np.diff(_sums_to(at, in_columns), axis=0)
    return _shares(covered / (np.diff(x_px) * np.diff(y_px)[:, None]))


def _sums_to(at: FloatArray, values: Array) -> FloatArray:
    """Sum of values (n, ...) over the first axis from 0 to each position (m,) between 0 and n; a value that a position cuts adds its part."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]), dtype=np.int64 if values.dtype == np.bool_ else np.float64)
    np.cumsum(values, axis=0, out=sums[1:])
    whole = np.minimum(at.astype(np.int64), len(values) - 1)
    below: Array = sums[whole]
    part = (at - whole).reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(below + part * (sums[whole + 1] - below))


def _shares(covered: FloatArray) -> FloatArray:
    return np.asarray(np.round(np.clip(covered, 0.0, 1.0), _SHARE_DECIMALS))
