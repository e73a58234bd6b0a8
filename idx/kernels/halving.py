"""Sums over squares of pixels and their means, in integers: the arithmetic of a pyramid's levels."""

from __future__ import annotations

from idx._typing import Array, IntArray, RGBArray
from idx.kernels.compiled import compiled


def sum_squares(fine: Array, coarse: Array) -> None:
    """Fill ``coarse`` (y, x, 3) with the sums of 2 x 2 of ``fine`` (2 y, 2 x, 3), both unsigned integers; ``coarse`` must be able to hold them."""
    _sum_squares(fine, coarse)


def means_of_sums(sums: Array, out: RGBArray, *, rows: IntArray, columns: IntArray) -> None:
    """Fill ``out`` (y, x, 3) uint8 with sums divided by how many pixels were summed, rounded half up.

    Parameters
    ----------
    sums : uint16 or uint32 array (y, x, 3)
    out : uint8 array (y, x, 3)
    rows, columns : int64 arrays (y,), (x,)
        How many rows and columns of pixels were summed; the result is 0 where there were none.
    """
    _means(sums, out, rows, columns)


@compiled()
def _sum_squares(fine, coarse):  # type: ignore[no-untyped-def]  # numba
    height, width, _ = coarse.shape
    for y in range(height):
        above, below, out = fine[2 * y], fine[2 * y + 1], coarse[y]
        for x in range(width):
            for c in range(3):
                out[x, c] = above[2 * x, c] + above[2 * x + 1, c] + below[2 * x, c] + below[2 * x + 1, c]


@compiled()
def _means(sums, out, rows, columns):  # type: ignore[no-untyped-def]  # numba
    height, width, _ = sums.shape
    for y in range(height):
        x = 0
        while x < width:
            # Stretches of one count: dividing by what the compiler knows to stay the same is several times as fast.
            n = rows[y] * columns[x]
            end = x
            while end < width and rows[y] * columns[end] == n:
                end += 1
            _divide(sums[y, x:end], out[y, x:end], n)
            x = end


@compiled()
def _divide(sums, out, n):  # type: ignore[no-untyped-def]  # numba
    if n == 0:
        out[:] = 0
        return
    shift = 0
    while 1 << shift < n:
        shift += 1
    if 1 << shift == n:
        for x in range(len(sums)):
            for c in range(3):
                out[x, c] = (sums[x, c] + (n >> 1)) >> shift
        return
    for x in range(len(sums)):
        for c in range(3):
            out[x, c] = (sums[x, c] + n // 2) // n
