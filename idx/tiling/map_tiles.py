"""Maps of tiles, blended to rows of a map of the slide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from idx._typing import Array, FloatArray
from idx.errors import GeometryError
from idx.kernels.blending import blend
from idx.tiling.grid import TileGrid
from idx.tiling.windows import Windows

Tile = tuple[int, Any, int]
"""Index into the plan, values of its batch, and its place among them."""
Rows = tuple[Array, Array]
"""Values (y, x, c) and, (y, x), whether or how far each pixel is known."""


@dataclass(frozen=True)
class MapTiles:
    """What the values of tiles are.

    Parameters
    ----------
    size : int
        Pixels a side of a tile's map.
    factor : int
        Delivered pixels per pixel.
    margin_px : int
        Delivered pixels that are missing on each side.
    n_axes : int
        Axes of a tile's values.
    n_channels : int
        Channels that are taken.
    channel : int or None
        The only one of several.
    dtype : dtype
        float32, or float64 where that is needed.
    is_exact : bool
        Whether values are uint8.
    """

    size: int
    factor: int
    margin_px: int
    n_axes: int
    n_channels: int
    channel: int | None
    dtype: np.dtype[Any]
    is_exact: bool

    @classmethod
    def of(cls, first: Tile, grid: TileGrid, *, channel: int | None, margin_px: int) -> MapTiles:
        """Layout that the first tile shows."""
        tile, values, place = first
        where = f"tile {tile} of slide '{grid.slide.name}'"
        if isinstance(values, tuple):
            raise GeometryError(f"values must be one array per batch; got a tuple of {len(values)} ({where}). Pass batches of one of them.")
        part = np.asarray(values[place])
        if part.dtype.kind not in "buif" or part.ndim > 3:
            raise GeometryError(f"values must be numbers or maps (y, x) or (y, x, c) per tile; got {part.dtype} {part.shape} ({where}). Return one of these.")
        n_channels = part.shape[-1] if part.ndim in (1, 3) else 1
        if channel is not None and (part.ndim not in (1, 3) or not 0 <= channel < n_channels):
            raise GeometryError(
                f"channel must be one of the {n_channels} that values have as their last axis; got {channel} for {part.shape} ({where}). Leave it out."
            )
        size, margin = (1, grid.halo_px) if part.ndim < 2 else (part.shape[0], margin_px)
        factor = grid.core_px if part.ndim < 2 else max(1, (grid.size_px - 2 * margin) // size)
        if part.ndim >= 2 and (part.shape[0] != part.shape[1] or factor * size != grid.size_px - 2 * margin):
            raise GeometryError(
                f"maps must be squares (y, x) or (y, x, c) of {grid.size_px - 2 * margin} px (tiles less the margin) or a whole fraction of it; "
                f"got {part.shape} ({where}). Move channels last, or pass margin_px=... for what the function cuts off."
            )
        wide = part.dtype == np.float64 or (part.dtype.kind in "ui" and part.dtype.itemsize > 2)
        return cls(
            size,
            factor,
            margin,
            part.ndim,
            1 if channel is not None else n_channels,
            channel,
            np.dtype(np.float64 if wide else np.float32),
            part.dtype == np.uint8,
        )

    def part(self, tile: Tile) -> Array:
        """Values (y, x, c) of a tile as float."""
        part = np.asarray(tile[1][tile[2]])
        shape = (self.size, self.size) if self.n_axes > 1 else (1, 1)
        n_channels = part.shape[-1] if self.n_axes in (1, 3) and part.ndim == self.n_axes else 1
        if part.ndim != self.n_axes or (self.n_axes > 1 and part.shape[:2] != shape) or (self.channel is None and n_channels != self.n_channels):
            raise GeometryError(f"all tiles must have values of one shape; got {part.shape} after others (tile {tile[0]}). Return the same for each.")
        part = part.reshape(*shape, n_channels)
        return (part if self.channel is None else part[..., self.channel : self.channel + 1]).astype(self.dtype)

    def squeezed(self, values: Array) -> Array:
        """Values without the channel axis where tiles had none."""
        return values if self.has_channels else values[..., 0]

    @property
    def has_channels(self) -> bool:
        """Whether the map has an axis of channels."""
        return self.n_axes in (1, 3) and self.channel is None


def blended(
    tiles: Iterable[Tile], grid: TileGrid, layout: MapTiles, *, weights: Callable[[int, int], FloatArray], size_px: tuple[int, int], band: int
) -> Iterator[Rows]:
    """Yield finished rows from top to bottom, ``band`` at a time.

    Parameters
    ----------
    tiles : iterable
        In the order of the plan.
    grid : TileGrid
    layout : MapTiles
    weights : callable
        Gives the weights of a tile along one axis from its size and overlap.
    size_px : tuple of int
        Width and height of what is yielded, at least those of the map.
    band : int
    """
    windows = Windows.of(grid, margin_px=layout.margin_px, factor=layout.factor)
    along = weights(windows.size, 2 * windows.halo)
    rows_to_come = windows.first_rows_to_come()
    canvas = _Canvas(size_px, n_channels=layout.n_channels, dtype=layout.dtype, band=band)
    # Enough for plans that go row by row: to grow later takes twice the memory for a moment.
    canvas.reach(min(windows.size + band, size_px[1]))
    for tile in tiles:
        column, row = int(windows.column[tile[0]]), int(windows.row[tile[0]])
        left, top, right, bottom = windows.box(column, row)
        x, y = column * windows.core - windows.halo, row * windows.core - windows.halo
        canvas.reach(bottom)
        part = layout.part(tile)[top - y : bottom - y, left - x : right - x]
        blend(part, (along[top - y : bottom - y], along[left - x : right - x]), onto=(canvas.mean, canvas.total), at=(top - canvas.top, left))
        yield from canvas.take(int(rows_to_come[tile[0]]))
    yield from canvas.take(size_px[1])


class _Canvas:
    """Rows that tiles to come may still change: ``mean`` (y, x, c) and the ``total`` (y, x) of weights, from row ``top`` on."""

    def __init__(self, size_px: tuple[int, int], *, n_channels: int, dtype: np.dtype[Any], band: int) -> None:
        self._width, self._height = size_px
        self._band = band
        self.top = 0
        self.mean, self.total = np.zeros((0, self._width, n_channels), dtype), np.zeros((0, self._width), dtype)

    def reach(self, bottom: int) -> None:
        """Make room down to a row."""
        missing = bottom - self.top - len(self.total)
        if missing > 0:
            self.mean = np.concatenate([self.mean, np.zeros((missing, *self.mean.shape[1:]), self.mean.dtype)])
            self.total = np.concatenate([self.total, np.zeros((missing, self._width), self.total.dtype)])

    def take(self, bottom: int) -> Iterator[Rows]:
        """Yield the bands that lie above ``bottom``, and forget them."""
        while self.top < bottom and (bottom == self._height or bottom - self.top >= self._band):
            n_rows = min(bottom - self.top, self._band)
            self.reach(self.top + n_rows)
            # As many bytes as it has: a bool would be compiled for anew.
            rows = self.mean[:n_rows].copy(), (self.total[:n_rows] > 0).view(np.uint8)
            for array in (self.mean, self.total):
                _move_up(array, n_rows)
            self.top += n_rows
            yield rows


def _move_up(array: Array, n_rows: int) -> None:
    """Drop the first rows of an array, in place and without a copy of the others; zeros follow."""
    for row in range(0, len(array) - n_rows, n_rows):
        part = array[row + n_rows : row + 2 * n_rows]
        array[row : row + len(part)] = part
    array[max(0, len(array) - n_rows) :] = 0
