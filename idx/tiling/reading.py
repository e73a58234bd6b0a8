"""Tiles as pixels: reading rectangles of a stored level and, where the plan says so, averaging them down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from idx._typing import FloatArray, RGBArray
from idx.errors import PixelAccessError
from idx.slide import TileRect
from idx.tiling.planning import TileGrid


def read_tiles(grid: TileGrid, tiles: Sequence[int]) -> RGBArray:
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
    batch = np.empty((len(tiles), grid.size_px, grid.size_px, 3), dtype=np.uint8)
    read_into(batch, grid, tiles)
    return batch


def read_into(batch: RGBArray, grid: TileGrid, tiles: Sequence[int]) -> None:
    """Fill ``batch`` (n, y, x, 3) uint8 with tiles of a plan; errors as in :func:`read_tiles`."""
    if len(tiles) == 0:
        return
    if not grid.is_resampled:
        _fill(batch, grid, tiles, [TileRect(grid.level, *grid.read_rect_px(i)) for i in tiles])
        return
    rects = [TileRect(grid.level, *grid.read_rect_px(i)) for i in tiles]
    # Where scales are not whole numbers neighbouring tiles read sizes that differ by a pixel; a source reads one size per call.
    for (width, height), group in groupby(range(len(tiles)), key=lambda k: (rects[k].width_px, rects[k].height_px)):
        chosen = list(group)
        stored = np.empty((len(chosen), height, width, 3), dtype=np.uint8)
        _fill(stored, grid, [tiles[k] for k in chosen], [rects[k] for k in chosen])
        for pixels, k in zip(stored, chosen, strict=True):
            x, y = grid.origin_px[tiles[k]]
            batch[k] = area_average(
                pixels,
                rows=area_weights(int(y), grid.size_px, scale=grid.scale[1], first=rects[k].y_px, n_stored=height),
                columns=area_weights(int(x), grid.size_px, scale=grid.scale[0], first=rects[k].x_px, n_stored=width),
            )


def _fill(batch: RGBArray, grid: TileGrid, tiles: Sequence[int], rects: Sequence[TileRect]) -> None:
    """Read; when that fails, find the tile that is to blame and name it."""
    source = grid.slide.pixels
    try:
        source.read_tiles_into(batch, rects)
    except PixelAccessError:
        for k, (tile, rect) in enumerate(zip(tiles, rects, strict=True)):
            try:
                source.read_tiles_into(batch[k : k + 1], [rect])
            except PixelAccessError as error:
                raise PixelAccessError(
                    f"{tile_place(grid, tile)} must be readable; got: {error} Leave this region out of `within`, or repair the file."
                ) from error
        raise


def tile_place(grid: TileGrid, tile: int) -> str:
    """Where a tile lies, for messages: its number and level-0 position."""
    per_pixel = np.asarray(grid.scale) * grid.slide.levels[grid.level].downsample
    x, y = grid.origin_px[tile] * per_pixel
    width, height = grid.size_px * per_pixel
    return f"tile {tile} at level-0 px x={x:.0f}, y={y:.0f} ({width:.0f} x {height:.0f}) of slide '{grid.slide.name}'"


def area_weights(start: int, size: int, *, scale: float, first: int, n_stored: int) -> FloatArray:
    """Weights of area averaging along one axis.

    Delivered pixel i covers ``[i*scale, (i+1)*scale)`` of the stored axis; a stored pixel weighs by the share it fills. Computed from global
    positions, so that a pixel's value does not depend on the tile it was read in.

    Parameters
    ----------
    start, size : int
        First delivered pixel and how many.
    scale : float
        Stored pixels per delivered pixel, at least 1.
    first, n_stored : int
        First stored pixel and how many.

    Returns
    -------
    array (size, n_stored)
        Rows sum to 1.
    """
    low = np.arange(start, start + size)[:, None] * scale
    high = np.arange(start + 1, start + size + 1)[:, None] * scale
    stored = np.arange(first, first + n_stored)[None, :]
    overlap = np.clip(np.minimum(high, stored + 1.0) - np.maximum(low, stored), 0.0, None)
    # Below a millionth of a pixel there is only rounding of the scale; the plan does not read that sliver.
    overlap[overlap < 1e-5] = 0.0
    return overlap / overlap.sum(axis=1, keepdims=True)


def area_average(pixels: RGBArray, *, rows: FloatArray, columns: FloatArray) -> RGBArray:
    """Average pixels (y, x, 3) uint8 down with the weights of both axes, rounded to uint8 (n_rows, n_columns, 3)."""
    from scipy import sparse

    # Sparse products add in index order whatever the tile's size, so the result is the same to the last bit.
    height, width, channels = pixels.shape
    by_row = (sparse.csr_array(rows.astype(np.float32)) @ pixels.reshape(height, width * channels).astype(np.float32)).reshape(-1, width, channels)
    turned = by_row.transpose(1, 0, 2).reshape(width, -1)
    by_both = (sparse.csr_array(columns.astype(np.float32)) @ turned).reshape(len(columns), len(rows), channels)
    return np.clip(np.rint(by_both.transpose(1, 0, 2)), 0, 255).astype(np.uint8)
