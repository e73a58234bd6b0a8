"""What each tile of a plan sees of the lattice of delivered pixels, and the order in which results of tiles arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from idx._typing import Array, BoolArray, IntArray
from idx.errors import GeometryError
from idx.kernels.groups import counted
from idx.kernels.spans import OBJECT
from idx.tiling.grid import TileGrid
from idx.tiling.results import TileBatch, TileResult

UNPLANNED, MISSING = -2, -1
"""Cores that no tile of the plan has, and cores of tiles that have not arrived."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, half-open."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Squares of a lattice that the tiles of a plan see, cut at its border.

    Parameters
    ----------
    core, halo : int
        Side of the cores and what a tile sees around its own, in pixels of the lattice.
    width, height : int
        Size of the lattice.
    shape : tuple of int
        Rows and columns of the full lattice of cores.
    column, row : array (n,)
        Place of each tile's core.
    """

    core: int
    halo: int
    width: int
    height: int
    shape: tuple[int, int]
    column: IntArray
    row: IntArray

    @classmethod
    def of(cls, grid: TileGrid, *, margin_px: int = 0, factor: int = 1) -> Windows:
        """Windows of a plan whose results lack ``margin_px`` delivered pixels on each side and have one pixel per ``factor`` delivered ones.

        Raises
        ------
        GeometryError
            If cores are not covered or not whole numbers of pixels, or a tile is in the plan twice.
        """
        halo_px = grid.halo_px - margin_px
        if not (0 <= margin_px <= grid.halo_px) or grid.core_px % factor or halo_px % factor:
            raise GeometryError(
                f"results must cover the cores of {grid.core_px} px in whole pixels of {factor} px; got a margin of {margin_px} px in a halo of "
                f"{grid.halo_px} px (slide '{grid.slide.name}'). Plan with an overlap_px of at least twice what the function cuts off, and with sizes that are "
                "multiples of its output's stride."
            )
        place = grid.row * (int(grid.column.max(initial=0)) + 1) + grid.column
        if len(np.unique(place)) != len(place):
            raise GeometryError(
                f"tiles must be in the plan once to be stitched; got {len(place) - len(np.unique(place))} again (slide '{grid.slide.name}'). Select each once."
            )
        width, height = (-(-extent // factor) for extent in grid.extent_px)
        return cls(grid.core_px // factor, halo_px // factor, width, height, grid.shape, grid.column, grid.row)

    @property
    def size(self) -> int:
        """Side of a window that is not cut."""
        return self.core + 2 * self.halo

    @property
    def reach(self) -> int:
        """How many cores away a window can be that overlaps or touches another."""
        return max(1, (self.size - 1) // self.core)

    def box(self, column: int, row: int) -> Box:
        """What the tile at a place sees."""
        left, top, right, bottom = self.boxes(np.array([column]), np.array([row]))[0].tolist()
        return left, top, right, bottom

    def boxes(self, column: IntArray, row: IntArray) -> IntArray:
        """What the tiles at places (n,) see: left, top, right, bottom (n, 4)."""
        low = np.stack([column, row], axis=-1) * self.core - self.halo
        return np.concatenate([np.maximum(low, 0), np.minimum(low + self.size, (self.width, self.height))], axis=-1)

    def first_rows_to_come(self) -> IntArray:
        """First row of the lattice that any tile after tile i may see, (n,); the height after the last."""
        tops = np.append(np.maximum(self.row * self.core - self.halo, 0)[1:], self.height)
        return np.minimum.accumulate(tops[::-1])[::-1]


class Arrivals:
    """Which parts of a lattice tiles have been delivered for.

    Parameters
    ----------
    windows : Windows
    """

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self._tile_at = np.full(windows.shape, UNPLANNED, dtype=np.int64)
        self._tile_at[windows.row, windows.column] = MISSING

    def deliver(self, tile: int) -> None:
        """Note that a tile has arrived."""
        self._tile_at[self.windows.row[tile], self.windows.column[tile]] = tile

    def owner(self, x: Array, y: Array) -> IntArray:
        """Tile whose core holds positions (integers are pixel centres); ``MISSING`` where it has not arrived, ``UNPLANNED`` where there is none."""
        column, row = (np.floor((np.asarray(position) + 0.5) / self.windows.core).astype(np.int64) for position in (x, y))
        return self._tile_at[row, column]

    def split(self, spans: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Objects, owners (as in :meth:`owner`) and numbers of pixels of the pieces into which cores cut spans."""
        core = self.windows.core
        _, row, start, end = spans.T
        at, offset = counted((end - 1) // core - start // core + 1)
        column = start[at] // core + offset
        pixels = np.minimum(end[at], (column + 1) * core) - np.maximum(start[at], column * core)
        return spans[at, OBJECT], self._tile_at[row[at] // core, column], pixels

    def is_seen(self, x: IntArray, y: IntArray) -> BoolArray:
        """Whether any tile that has arrived sees pixels."""
        w = self.windows
        seen = np.zeros(len(x), dtype=bool)
        for dy in range(-w.reach, w.reach + 1):
            for dx in range(-w.reach, w.reach + 1):
                column, row = x // w.core + dx, y // w.core + dy
                left, top = column * w.core - w.halo, row * w.core - w.halo
                is_there = (left <= x) & (x < left + w.size) & (top <= y) & (y < top + w.size)
                is_there &= (column >= 0) & (column < w.shape[1]) & (row >= 0) & (row < w.shape[0])
                seen[is_there] |= self._tile_at[row[is_there], column[is_there]] >= 0
        return seen


def in_plan_order(batches: Iterable[TileBatch] | TileResult, grid: TileGrid) -> Iterator[tuple[int, Any, int]]:
    """Yield each tile that has arrived: its index, the values of its batch and its place among them.

    Raises
    ------
    GeometryError
        If tiles are not in the plan or not in its order, or a batch holds a table or another number of values.
    """
    previous = -1
    for batch in batches.batches() if isinstance(batches, TileResult) else batches:
        tiles = np.asarray(batch.tiles, dtype=np.int64).ravel().tolist()
        if hasattr(batch.values, "columns"):
            raise GeometryError(f"values must be arrays or lists, one per tile; got a table (slide '{grid.slide.name}'). Pass one column of it per tile.")
        parts = batch.values if isinstance(batch.values, tuple) else (batch.values,)
        if any(len(part) != len(tiles) for part in parts):
            raise GeometryError(
                f"a batch must have one value per tile ({len(tiles)}); got {[len(part) for part in parts]} (slide '{grid.slide.name}'). "
                "Pass what stream(...) or result.batches() yields."
            )
        for place, tile in enumerate(tiles):
            if not previous < tile < len(grid):
                raise GeometryError(
                    f"tiles must come in the order of the plan of {len(grid)} tiles; got {tile} after {previous} (slide '{grid.slide.name}'). "
                    "Pass what stream(...) or result.batches() yields."
                )
            previous = tile
            yield tile, batch.values, place
