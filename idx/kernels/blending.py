"""Maps put together from overlapping tiles, and averaged down, with what is known of each pixel: nothing is invented where no tile looked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from idx._typing import Array, FloatArray
from idx.kernels.compiled import compiled


def ramp(size: int, overlap: int) -> FloatArray:
    """Weights (size,) of a tile along one axis: rising over the first ``overlap`` pixels and falling over the last, so that those of neighbours sum to one.

    Examples
    --------
    >>> ramp(6, 2).tolist()
    [0.25, 0.75, 1.0, 1.0, 0.75, 0.25]
    """
    if overlap == 0:
        return np.ones(size)
    rising = np.minimum((np.arange(size) + 0.5) / overlap, 1.0)
    return np.minimum(rising, rising[::-1])


def plateau(size: int, overlap: int) -> FloatArray:
    """Weights (size,) of a tile along one axis that are one in its core and nothing around it."""
    weights = np.zeros(size)
    weights[overlap // 2 : size - overlap // 2] = 1.0
    return weights


def blend(values: Array, weights: tuple[FloatArray, FloatArray], *, onto: tuple[Array, Array], at: tuple[int, int]) -> None:
    """Add a tile to a weighted mean.

    Parameters
    ----------
    values : array (y, x, c) of float
        Pixels that are NaN in any channel are left out.
    weights : two arrays (y,) and (x,)
        A pixel weighs their product.
    onto : two arrays
        Mean (y, x, c) and sum of weights (y, x), which begins as 0; changed in place.
    at : tuple of int
        Row and column in them of the tile's first pixel.

    Notes
    -----
    Each value moves the mean by its share of their difference: where only one tile looked, or all agree, the mean is their value to the last bit.
    """
    _blend(np.ascontiguousarray(values), *weights, *onto, *at)


@compiled()
def _blend(values, along_y, along_x, mean, total, top, left):  # type: ignore[no-untyped-def]  # numba
    height, width, n_channels = values.shape
    for y in range(height):
        for x in range(width):
            weight = along_y[y] * along_x[x]
            is_known = weight > 0.0
            for c in range(n_channels):
                is_known &= not np.isnan(values[y, x, c])
            if not is_known:
                continue
            v, u = y + top, x + left
            before = total[v, u]
            total[v, u] = before + weight
            if before == 0.0:
                for c in range(n_channels):
                    mean[v, u, c] = values[y, x, c]
            else:
                share = weight / (before + weight)
                for c in range(n_channels):
                    mean[v, u, c] += share * (values[y, x, c] - mean[v, u, c])


def halved(values: Array, weight: Array) -> tuple[Array, Array]:
    """Average 2 x 2 pixels.

    Parameters
    ----------
    values : array (y, x, c) of float
    weight : array (y, x)
        Share of each pixel that is known.

    Returns
    -------
    values : array (ceil(y / 2), ceil(x / 2), c)
        Mean over what is known, to the last bit the value itself where all agree; 0 where nothing is known.
    weight : float32 array (ceil(y / 2), ceil(x / 2))
        Share that is known; what lies beyond the border is not.
    """
    shape = (-(-values.shape[0] // 2), -(-values.shape[1] // 2))
    out, share = np.zeros((*shape, values.shape[2]), values.dtype), np.zeros(shape, np.float32)
    _halve(np.ascontiguousarray(values), np.ascontiguousarray(weight), out, share)
    return out, share


@compiled()
def _halve(values, weight, out, share):  # type: ignore[no-untyped-def]  # numba
    height, width, n_channels = values.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            first_y, first_x, total = -1, -1, 0.0
            for v in range(2 * y, min(2 * y + 2, height)):
                for u in range(2 * x, min(2 * x + 2, width)):
                    if weight[v, u] > 0.0:
                        if first_y < 0:
                            first_y, first_x = v, u
                        total += weight[v, u]
            if first_y < 0:
                continue
            share[y, x] = total / 4.0
            for c in range(n_channels):
                first, difference = values[first_y, first_x, c], 0.0
                for v in range(2 * y, min(2 * y + 2, height)):
                    for u in range(2 * x, min(2 * x + 2, width)):
                        if weight[v, u] > 0.0:
                            difference += weight[v, u] * (values[v, u, c] - first)
                out[y, x, c] = first + difference / total


def halved_labels(labels: Array) -> Array:
    """Reduce a label image (y, x) by two: of each 2 x 2 pixels the most frequent label, of equally frequent ones the first that is not 0."""
    out = np.zeros((-(-labels.shape[0] // 2), -(-labels.shape[1] // 2)), labels.dtype)
    _halve_labels(np.ascontiguousarray(labels), out)
    return out


@compiled()
def _halve_labels(labels, out):  # type: ignore[no-untyped-def]  # numba
    height, width = labels.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            best, most = labels[2 * y, 2 * x], 0
            for v in range(2 * y, min(2 * y + 2, height)):
                for u in range(2 * x, min(2 * x + 2, width)):
                    label, count = labels[v, u], 0
                    for q in range(2 * y, min(2 * y + 2, height)):
                        for p in range(2 * x, min(2 * x + 2, width)):
                            count += labels[q, p] == label
                    if count > most or (count == most and best == 0):
                        best, most = label, count
            out[y, x] = best


def pyramid_bands(rows: Iterable[tuple[Array, Array]], *, n_levels: int, band: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield the levels of a pyramid in bands of rows while its finest level comes in.

    Parameters
    ----------
    rows : iterable of (values, weight)
        Rows of the finest level from top to bottom, some at a time: arrays (y, x, c) and (y, x) as in :func:`halved`.
    n_levels : int
        Each level is half of the one before, rounded up.
    band : int
        Rows of a band, even; only the last of a level has fewer.

    Yields
    ------
    level : int
    values, weight : arrays (y, x, c) and (y, x)
        The next rows of that level.
    """
    waiting: list[list[tuple[Array, Array]]] = [[] for _ in range(n_levels)]

    def push(level: int, values: Array, weight: Array) -> Iterator[tuple[int, Array, Array]]:
        waiting[level].append((values, weight))
        while sum(len(part) for _, part in waiting[level]) >= band:
            values, weight = _joined(waiting[level])
            # A view, even of no rows, would keep the whole band.
            waiting[level] = [(values[band:].copy(), weight[band:].copy())] if len(values) > band else []
            yield from emit(level, values[:band], weight[:band])

    def emit(level: int, values: Array, weight: Array) -> Iterator[tuple[int, Array, Array]]:
        yield level, values, weight
        if level + 1 < n_levels:
            yield from push(level + 1, *halved(values, weight))

    for values, weight in rows:
        yield from push(0, values, weight)
    for level in range(n_levels):
        if waiting[level]:
            values, weight = _joined(waiting[level])
            if len(values):
                yield from emit(level, values, weight)


def _joined(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([values for values, _ in parts]), np.concatenate([weight for _, weight in parts])
