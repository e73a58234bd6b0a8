"""Objects of label images as spans: runs of one label in one row. They are measured, compared, joined, outlined and drawn without their pixels.

Spans are int32 (n, 4): object, row, first column, column after the last. A label image holds thirty times fewer spans than pixels.
"""

from __future__ import annotations

import numpy as np

from idx._typing import Array, FloatArray, IntArray
from idx.kernels.compiled import compiled

OBJECT, ROW, START, END = range(4)
_TABLE_LABELS = 1 << 16
"""Labels below this are looked up in a table."""


def find_spans(labels: Array, *, x: int = 0, y: int = 0) -> IntArray:
    """Spans of a label image.

    Parameters
    ----------
    labels : int32 array (y, x)
        0 is background.
    x, y : int
        Position of the first pixel, added to columns and rows.

    Returns
    -------
    int32 array (n, 4)
        Label, row, start and end, row by row and from left to right.
    """
    return np.asarray(_find(np.ascontiguousarray(labels, dtype=np.int32), x, y))


@compiled()
def _find(labels, x, y):  # type: ignore[no-untyped-def]  # numba
    height, width = labels.shape
    spans = np.empty((2 * width, 4), np.int32)
    n = 0
    for row in range(height):
        # Room for a whole row beforehand: a check within the loop over pixels costs more than the loop.
        if n + width > len(spans):
            grown = np.empty((2 * len(spans), 4), np.int32)
            grown[:n] = spans[:n]
            spans = grown
        line = labels[row]
        label, first = np.int32(0), 0
        for column in range(width):
            value = line[column]
            if value != label:
                if label != 0:
                    spans[n, 0], spans[n, 1], spans[n, 2], spans[n, 3] = label, row + y, first + x, column + x
                    n += 1
                label, first = value, column
        if label != 0:
            spans[n, 0], spans[n, 1], spans[n, 2], spans[n, 3] = label, row + y, first + x, width + x
            n += 1
    return spans[:n].copy()


def number_objects(spans: IntArray) -> IntArray:
    """Number the objects of spans 0..n-1 in the order of their labels, in place; return these labels (n,)."""
    greatest = int(spans[:, OBJECT].max(initial=0))
    # A table of all labels is quicker than sorting, as long as they are not far apart.
    if greatest < _TABLE_LABELS:
        return np.asarray(_number(spans, greatest))
    labels, spans[:, OBJECT] = np.unique(spans[:, OBJECT], return_inverse=True)
    return labels.astype(np.int64)


@compiled()
def _number(spans, greatest):  # type: ignore[no-untyped-def]  # numba
    number = np.full(greatest + 1, -1, np.int32)
    for k in range(len(spans)):
        number[spans[k, 0]] = 0
    labels = np.empty(greatest + 1, np.int64)
    n = 0
    for label in range(greatest + 1):
        if number[label] == 0:
            number[label], labels[n] = n, label
            n += 1
    for k in range(len(spans)):
        spans[k, 0] = number[spans[k, 0]]
    return labels[:n].copy()


def measure_spans(spans: IntArray, n: int) -> tuple[IntArray, FloatArray, IntArray]:
    """Pixels (n,), sums of their columns and rows (n, 2), and box (n, 4) (left, top, right, bottom; half-open) of objects 0..n-1."""
    area, sums = np.zeros(n, np.int64), np.zeros((n, 2))
    box = np.zeros((n, 4), np.int64)
    _measure(spans, area, sums, box)
    return area, sums, box


@compiled()
def _measure(spans, area, sums, box):  # type: ignore[no-untyped-def]  # numba
    for k in range(len(spans)):
        one, row, start, end = spans[k]
        length = end - start
        if area[one] == 0:
            box[one, 0], box[one, 1], box[one, 2], box[one, 3] = start, row, end, row + 1
        else:
            box[one, 0], box[one, 1] = min(box[one, 0], start), min(box[one, 1], row)
            box[one, 2], box[one, 3] = max(box[one, 2], end), max(box[one, 3], row + 1)
        area[one] += length
        sums[one, 0] += length * (start + end - 1) / 2.0
        sums[one, 1] += np.float64(length) * row


def sorted_by_object(spans: IntArray, n: int) -> tuple[IntArray, IntArray]:
    """Spans of objects 0..n-1, object by object, each row by row with spans that overlap or touch joined; and the offsets (n + 1,) of the objects."""
    grouped, offsets = _grouped(spans, n)
    return grouped, offsets


@compiled()
def _grouped(spans, n):  # type: ignore[no-untyped-def]  # numba
    begin = np.zeros(n + 1, np.int64)
    for k in range(len(spans)):
        begin[spans[k, 0] + 1] += 1
    for one in range(n):
        begin[one + 1] += begin[one]
    at = begin[:-1].copy()
    ordered = np.empty_like(spans)
    for k in range(len(spans)):
        one = spans[k, 0]
        ordered[at[one]] = spans[k]
        at[one] += 1
    offsets = np.zeros(n + 1, np.int64)
    kept = 0
    for one in range(n):
        low, high = begin[one], begin[one + 1]
        in_order = True
        for k in range(low + 1, high):
            if ordered[k, 1] < ordered[k - 1, 1] or (ordered[k, 1] == ordered[k - 1, 1] and ordered[k, 2] < ordered[k - 1, 2]):
                in_order = False
                break
        if not in_order:
            key = ordered[low:high, 1].astype(np.int64) * (1 << 31) + ordered[low:high, 2]
            ordered[low:high] = ordered[low:high][np.argsort(key)]
        first = kept
        for k in range(low, high):
            if kept > first and ordered[kept - 1, 1] == ordered[k, 1] and ordered[kept - 1, 3] >= ordered[k, 2]:
                ordered[kept - 1, 3] = max(ordered[kept - 1, 3], ordered[k, 3])
            else:
                ordered[kept] = ordered[k]
                kept += 1
        offsets[one + 1] = kept
    return ordered[:kept].copy(), offsets


def shared_parts(one: IntArray, other: IntArray, box: tuple[int, int, int, int], *, over: str = "union") -> tuple[IntArray, FloatArray]:
    """Compare the objects of two label images where both see: which share pixels, how many, and how alike their parts there are.

    Parameters
    ----------
    one, other : int32 arrays (n, 4)
        Spans row by row and from left to right, in one coordinate system.
    box : tuple of int
        Left, top, right and bottom (half-open) of what both see.
    over : str
        "union", or "smaller" of the two.

    Returns
    -------
    pairs : int64 array (m, 3)
        Object of ``one``, object of ``other``, and the pixels that they share within the box.
    likeness : array (m,)
        Greatest intersection over union (or over the smaller) of a 4-connected part of the one within the box and a part of the other.

    Notes
    -----
    Parts, not whole objects: an object that leaves the box and comes back is one object to the image that sees the detour and several to the other;
    of their parts within the box both have the same.
    """
    cut_one, cut_other = _clipped(one, *box), _clipped(other, *box)
    part_one, area_one = _parts(cut_one)
    part_other, area_other = _parts(cut_other)
    met = _met(cut_one, cut_other)
    return _compared(met, cut_one[:, OBJECT], cut_other[:, OBJECT], part_one, part_other, area_one, area_other, over == "smaller")  # type: ignore[no-any-return]


@compiled()
def _compared(met, object_one, object_other, part_one, part_other, area_one, area_other, over_smaller):  # type: ignore[no-untyped-def]  # numba
    """Pixels that pairs of objects share, and the greatest likeness of their parts, from the spans that overlap."""
    n = len(met)
    parts, objects = np.empty(n, np.int64), np.empty(n, np.int64)
    for k in range(n):
        i, j = met[k, 0], met[k, 1]
        parts[k] = part_one[i] * len(area_other) + part_other[j]
        objects[k] = np.int64(object_one[i]) * (1 << 32) + object_other[j]
    common = np.zeros(n, np.int64)
    order = np.argsort(parts)
    # Of each pair of parts the first overlap in this order speaks; the others have 0 in common.
    speaker = 0
    for k in range(n):
        if k == 0 or parts[order[k]] != parts[order[k - 1]]:
            speaker = order[k]
        common[speaker] += met[order[k], 2]
    pairs, likeness = np.empty((n, 3), np.int64), np.zeros(n)
    order = np.argsort(objects)
    n_pairs = 0
    for k in range(n):
        at = order[k]
        if k == 0 or objects[at] != objects[order[k - 1]]:
            pairs[n_pairs, 0], pairs[n_pairs, 1], pairs[n_pairs, 2] = objects[at] >> 32, objects[at] & ((1 << 32) - 1), 0
            n_pairs += 1
        if common[at] == 0:
            continue
        sizes = area_one[part_one[met[at, 0]]], area_other[part_other[met[at, 1]]]
        whole = min(sizes[0], sizes[1]) if over_smaller else sizes[0] + sizes[1] - common[at]
        pairs[n_pairs - 1, 2] += common[at]
        likeness[n_pairs - 1] = max(likeness[n_pairs - 1], common[at] / whole)
    return pairs[:n_pairs].copy(), likeness[:n_pairs].copy()


@compiled()
def _clipped(spans, left, top, right, bottom):  # type: ignore[no-untyped-def]  # numba
    first = np.searchsorted(spans[:, 1], top)
    last = np.searchsorted(spans[:, 1], bottom)
    kept = np.empty((last - first, 4), np.int32)
    n = 0
    for k in range(first, last):
        start, end = max(spans[k, 2], left), min(spans[k, 3], right)
        if start < end:
            kept[n, 0], kept[n, 1], kept[n, 2], kept[n, 3] = spans[k, 0], spans[k, 1], start, end
            n += 1
    return kept[:n].copy()


@compiled()
def _root(parent, k):  # type: ignore[no-untyped-def]  # numba
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled()
def _parts(spans):  # type: ignore[no-untyped-def]  # numba
    """4-connected parts of objects, from spans in order of rows: the part of each span, and the pixels of each part."""
    n = len(spans)
    parent = np.arange(n)
    above, above_end, k = 0, 0, 0
    while k < n:
        row, row_end = spans[k, 1], k
        while row_end < n and spans[row_end, 1] == row:
            row_end += 1
        if above_end > above and spans[above, 1] == row - 1:
            i, j = above, k
            while i < above_end and j < row_end:
                if spans[i, 0] == spans[j, 0] and spans[i, 2] < spans[j, 3] and spans[j, 2] < spans[i, 3]:
                    a, b = _root(parent, i), _root(parent, j)
                    parent[max(a, b)] = min(a, b)
                if spans[i, 3] < spans[j, 3]:
                    i += 1
                else:
                    j += 1
        above, above_end, k = k, row_end, row_end
    part = np.empty(n, np.int64)
    area = np.empty(n, np.int64)
    n_parts = 0
    for k in range(n):
        if parent[k] == k:
            part[k] = n_parts
            area[n_parts] = 0
            n_parts += 1
        else:
            part[k] = part[_root(parent, k)]
        area[part[k]] += spans[k, 3] - spans[k, 2]
    return part, area[:n_parts].copy()


@compiled()
def _met(one, other):  # type: ignore[no-untyped-def]  # numba
    """Pairs of spans that overlap: place in the one, place in the other, pixels."""
    met = np.empty((len(one) + len(other), 3), np.int64)
    n, i, j = 0, 0, 0
    while i < len(one) and j < len(other):
        if one[i, 1] != other[j, 1]:
            if one[i, 1] < other[j, 1]:
                i += 1
            else:
                j += 1
            continue
        common = min(one[i, 3], other[j, 3]) - max(one[i, 2], other[j, 2])
        if common > 0:
            met[n, 0], met[n, 1], met[n, 2] = i, j, common
            n += 1
        if one[i, 3] < other[j, 3]:
            i += 1
        else:
            j += 1
    return met[:n].copy()


def draw_spans(image: Array, spans: IntArray, values: Array) -> None:
    """Write ``values[object]`` into the pixels of an image (y, x) that are still 0; spans must lie within the image."""
    _draw(image, spans, values)


@compiled()
def _draw(image, spans, values):  # type: ignore[no-untyped-def]  # numba
    for k in range(len(spans)):
        one, row, start, end = spans[k]
        for column in range(start, end):
            if image[row, column] == 0:
                image[row, column] = values[one]


def count_values(spans: IntArray, image: Array, n_objects: int, n_values: int) -> IntArray:
    """How many pixels of each object have the value 1..n_values in an image (y, x) of int; (n_objects, n_values). Other values count for nothing."""
    counts = np.zeros((n_objects, n_values), np.int64)
    _count(spans, np.ascontiguousarray(image, dtype=np.int32), counts)
    return counts


@compiled()
def _count(spans, image, counts):  # type: ignore[no-untyped-def]  # numba
    n_values = counts.shape[1]
    for k in range(len(spans)):
        one, row, start, end = spans[k]
        for column in range(start, end):
            value = image[row, column]
            if 1 <= value <= n_values:
                counts[one, value - 1] += 1
