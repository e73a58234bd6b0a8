"""The coarser levels of a picture that arrives tile by tile: each of their pixels is the rounded mean of the finest pixels under it.

Every level has half the resolution of the one before. Sums of finest pixels are kept, not means, so that rounding does not add up from level to level:
pixel i of the level with factor s is the mean over ``[s * i, s * (i + 1))`` as far as the picture reaches, and its centre is at s * i + (s - 1) / 2.
What is kept is one row of tiles per level, however high the picture is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from idx._typing import Array, IntArray, RGBArray
from idx.kernels.halving import means_of_sums, sum_squares

_MOST_IN_UINT16 = 4
"""Level up to which sums of 8-bit pixels fit in 16 bits: 4^4 * 255 < 2^16."""


def halved_sizes(width_px: int, height_px: int, *, until_px: int) -> list[tuple[int, int]]:
    """Width and height of a picture and of each coarser level, up to the first that fits in a square of ``until_px``."""
    sizes = [(width_px, height_px)]
    while max(sizes[-1]) > until_px:
        factor = 1 << len(sizes)
        sizes.append((-(-width_px // factor), -(-height_px // factor)))
    return sizes


def with_coarser_levels(tiles: Iterable[RGBArray], sizes: list[tuple[int, int]], *, tile_px: int) -> Iterator[tuple[int, RGBArray]]:
    """Yield each tile of the finest level and, as soon as it is complete, each tile of the coarser ones.

    Parameters
    ----------
    tiles : iterable of array (tile_px, tile_px, 3) uint8
        Of the finest level, row by row and from left to right.
    sizes : list of (int, int)
        Width and height of each level, see :func:`halved_sizes`.
    tile_px : int
        Even.

    Yields
    ------
    level : int
    array (tile_px, tile_px, 3) uint8
        Row by row within each level. Beyond the picture's border the last pixel within is repeated: a codec spreads what it finds there.
    """
    levels = [_Level(number, size, sizes[0], tile_px) for number, size in enumerate(sizes)]
    for number, tile in enumerate(tiles):
        row, column = divmod(number, levels[0].n_columns)
        yield 0, levels[0].padded(tile, row, column)
        if len(levels) > 1:
            yield from _passed_up(levels, 1, row, column, levels[0].inside(tile, row, column))


def _passed_up(levels: list[_Level], number: int, row: int, column: int, sums: Array) -> Iterator[tuple[int, RGBArray]]:
    """Add a tile of the level below to a level, and where that completes a tile, yield it and pass it up in turn."""
    level = levels[number]
    complete = level.add(row, column, sums)
    if complete is None:
        return
    row, column = row // 2, column // 2
    yield number, level.padded(level.means(complete, row, column), row, column)
    if number + 1 < len(levels):
        yield from _passed_up(levels, number + 1, row, column, complete)


class _Level:
    """One level: its geometry, and the row of its tiles that is being summed up."""

    def __init__(self, number: int, size: tuple[int, int], finest: tuple[int, int], tile_px: int) -> None:
        self.number, self.tile_px = number, tile_px
        self.width, self.height = size
        self.n_columns, self.n_rows = -(-self.width // tile_px), -(-self.height // tile_px)
        self._finest = finest
        below = (-(-finest[0] // (tile_px << number - 1)), -(-finest[1] // (tile_px << number - 1))) if number else (0, 0)
        self._last_below = below[0] - 1, below[1] - 1
        self._dtype = np.uint16 if number <= _MOST_IN_UINT16 else np.uint32
        self._sums = [np.zeros((tile_px, tile_px, 3), self._dtype) for _ in range(self.n_columns)] if number else []

    def add(self, row: int, column: int, sums: Array) -> Array | None:
        """Add the sums of a tile of the level below, and return those of the tile of this level that it completes."""
        half, tile = self.tile_px // 2, self._sums[column // 2]
        y, x = row % 2 * half, column % 2 * half
        sum_squares(sums, tile[y : y + half, x : x + half])
        is_complete = (column % 2 == 1 or column == self._last_below[0]) and (row % 2 == 1 or row == self._last_below[1])
        if not is_complete:
            return None
        self._sums[column // 2] = np.zeros_like(tile)
        return tile

    def means(self, sums: Array, row: int, column: int) -> RGBArray:
        """Rounded means of a tile's sums."""
        n_columns, n_rows = (self._covered(n, place) for n, place in zip(self._finest, (column, row), strict=True))
        pixels = np.empty(sums.shape, dtype=np.uint8)
        means_of_sums(sums, pixels, rows=n_rows, columns=n_columns)
        return pixels

    def _covered(self, n_finest: int, place: int) -> IntArray:
        """How many finest rows or columns lie under each of this level's, within one of its tiles."""
        first = (place * self.tile_px + np.arange(self.tile_px)) << self.number
        return np.clip(n_finest - first, 0, 1 << self.number)

    def _within(self, row: int, column: int) -> tuple[int, int]:
        """Rows and columns of a tile that lie within the level."""
        return min(self.tile_px, self.height - row * self.tile_px), min(self.tile_px, self.width - column * self.tile_px)

    def inside(self, tile: RGBArray, row: int, column: int) -> RGBArray:
        """A tile with 0 beyond the border, so that it adds nothing to sums."""
        height, width = self._within(row, column)
        if (height, width) == tile.shape[:2]:
            return tile
        cut = np.zeros_like(tile)
        cut[:height, :width] = tile[:height, :width]
        return cut

    def padded(self, tile: RGBArray, row: int, column: int) -> RGBArray:
        """A tile whose last pixels within the border are repeated beyond it."""
        height, width = self._within(row, column)
        if (height, width) == tile.shape[:2]:
            return tile
        return np.pad(tile[:height, :width], ((0, self.tile_px - height), (0, self.tile_px - width), (0, 0)), mode="edge")
