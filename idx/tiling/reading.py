"""Tiles as pixels: reading rectangles of a stored level and, where the plan says so, averaging them down."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from idx._typing import Array, IntArray, RGBArray
from idx.errors import PixelAccessError
from idx.kernels.area import area_average, area_taps
from idx.slide import TileRect
from idx.tiling.planning import TileGrid

_TILES_AT_ONCE = 8
"""Tiles that are read from one call to the next of the averaging, which bounds the memory of stored pixels."""


def read_tiles(grid: TileGrid, tiles: Sequence[int] | Array) -> RGBArray:
    """Read tiles of a plan.

    Parameters
    ----------
    grid : TileGrid
    tiles : sequence of int
        Indices into the plan.

    Returns
    -------
    array (n, y, x, 3) uint8
        Pixels beyond the border are white.

    Raises
    ------
    PixelAccessError
        If a tile cannot be decoded; the message says where it lies.
    """
    wanted = np.asarray(tiles, dtype=np.int64).ravel()
    batch = np.empty((len(wanted), grid.size_px, grid.size_px, 3), dtype=np.uint8)
    for error in read_each(batch, grid, wanted).values():
        raise error
    return batch


def read_each(batch: RGBArray, grid: TileGrid, tiles: IntArray, *, as_stored: bool = False) -> dict[int, PixelAccessError]:
    """Fill ``batch`` with tiles of a plan, each for itself: one that cannot be read costs no other.

    Parameters
    ----------
    batch : uint8 array (n, y, x, 3)
        Of the tiles' size, or of ``grid.read_size_px`` where ``as_stored``.
    grid : TileGrid
    tiles : int array (n,)
    as_stored : bool
        Leave the pixels as they are stored, to be averaged elsewhere.

    Returns
    -------
    dict
        Errors that name the tile and its place, by position in the batch; what ``batch`` holds there means nothing.
    """
    read = _read_stored if as_stored or not grid.is_resampled else _read_averaged
    try:
        read(batch, grid, tiles)
        return {}
    except PixelAccessError:
        failed: dict[int, PixelAccessError] = {}
        for k in range(len(tiles)):
            try:
                read(batch[k : k + 1], grid, tiles[k : k + 1])
            except PixelAccessError as error:
                failed[k] = _named(error, grid, int(tiles[k]))
        return failed


def _named(error: PixelAccessError, grid: TileGrid, tile: int) -> PixelAccessError:
    named = PixelAccessError(f"{tile_place(grid, tile)} must be readable; got: {error} Leave this region out of `within`, or repair the file.")
    named.__cause__ = error
    return named


def _read_stored(batch: RGBArray, grid: TileGrid, tiles: IntArray) -> None:
    """Read the stored pixels of tiles, all of the size that the largest needs."""
    width, height = grid.read_size_px
    corners = grid.read_rects_px[tiles, :2].tolist()
    grid.slide.pixels.read_tiles_into(batch, [TileRect(grid.level, x, y, width, height) for x, y in corners])


def _read_averaged(batch: RGBArray, grid: TileGrid, tiles: IntArray) -> None:
    width, height = grid.read_size_px
    for first in range(0, len(tiles), _TILES_AT_ONCE):
        part = tiles[first : first + _TILES_AT_ONCE]
        stored = _scratch(len(part), height, width)
        _read_stored(stored, grid, part)
        rows, columns = averaging_taps(grid, part)
        area_average(stored, batch[first : first + len(part)], rows=rows, columns=columns)


def averaging_taps(grid: TileGrid, tiles: IntArray) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
    """Taps of the rows and of the columns of tiles, for :mod:`idx.kernels.area`."""
    level = grid.slide.levels[grid.level]
    origin, read = grid.origin_px[tiles], grid.read_rects_px[tiles]
    columns, rows = (
        area_taps(
            origin[:, axis], grid.size_px, scale=grid.scale[axis], first=read[:, axis], n_stored=grid.read_size_px[axis], n_level=n, offset=grid.offset_px[axis]
        )
        for axis, n in enumerate((level.width_px, level.height_px))
    )
    return rows, columns


_of_thread = threading.local()


def _scratch(n_tiles: int, height: int, width: int) -> RGBArray:
    """Memory for stored pixels that a thread uses again and again: fresh memory of this size is cleared page by page each time."""
    n_bytes = n_tiles * height * width * 3
    memory: RGBArray | None = getattr(_of_thread, "memory", None)
    if memory is None or len(memory) < n_bytes:
        memory = _of_thread.memory = np.empty(n_bytes, dtype=np.uint8)
    return memory[:n_bytes].reshape(n_tiles, height, width, 3)


def tile_place(grid: TileGrid, tile: int) -> str:
    """Where a tile lies, for messages: its number and level-0 position."""
    x, y, width, height = level0_rect(grid, tile)
    return f"tile {tile} at level-0 px x={x:.0f}, y={y:.0f} ({width:.0f} x {height:.0f}) of slide '{grid.slide.name}'"


def level0_rect(grid: TileGrid, tile: int) -> tuple[float, float, float, float]:
    """X, y, width and height of a tile in level-0 pixels."""
    downsample = grid.slide.levels[grid.level].downsample
    x, y = (grid.origin_px[tile] * np.asarray(grid.scale) + grid.offset_px) * downsample
    width, height = grid.size_px * np.asarray(grid.scale) * downsample
    return float(x), float(y), float(width), float(height)
