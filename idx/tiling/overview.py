"""A whole slide as one coarse picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import Array, FloatArray, Pair, RGBArray
from idx.slide import Slide
from idx.tiling.planning import TileGrid, plan
from idx.tiling.running import run

_READ_PX = 1024
"""About so many stored pixels a side are read at a time, so that a slide without coarse levels does not fill the memory."""


@dataclass(frozen=True, eq=False)
class Overview:
    """A whole slide at a coarse resolution.

    Parameters
    ----------
    pixels : array (y, x, 3) uint8
    grid : TileGrid
        The plan it was read by; its lattice is that of ``pixels``.
    """

    pixels: RGBArray
    grid: TileGrid

    @property
    def mpp(self) -> Pair:
        """Um per pixel (x, y)."""
        return self.grid.mpp

    def to_um(self, position_px: Array) -> FloatArray:
        """Map pixel positions (n, 2) (x, y) of the picture to um in the slide's frame; an integer is a pixel centre."""
        scale = np.asarray(self.grid.scale)
        return self.grid.slide.to_um(np.asarray(position_px, dtype=np.float64) * scale + (scale - 1.0) / 2.0, level=self.grid.level)

    def to_px(self, points_um: Array) -> FloatArray:
        """Map points (n, 2) in um to fractional pixel positions (x, y) of the picture."""
        scale = np.asarray(self.grid.scale)
        return (self.grid.slide.to_px(points_um, level=self.grid.level) - (scale - 1.0) / 2.0) / scale


def read_overview(slide: Slide, *, mpp: float, progress: bool | None = None) -> Overview:
    """Read a whole slide at ``mpp`` um per pixel (the slide's own where that is coarser), area-averaged.

    Raises
    ------
    PixelAccessError
        If a tile cannot be decoded.
    """
    wanted = max(mpp, max(slide.mpp))
    stored = slide.levels[slide.level_for(wanted)]
    scale = max(1.0, wanted / (stored.downsample * max(slide.mpp)))
    size_px = max(16, int(_READ_PX / scale))
    grid = plan(slide, size_px=size_px, mpp=wanted)
    width, height = (int(np.ceil(length / grid.scale[axis] - 1e-3)) for axis, length in enumerate((stored.width_px, stored.height_px)))
    pixels = np.empty(((int(grid.row.max()) + 1) * size_px, (int(grid.column.max()) + 1) * size_px, 3), dtype=np.uint8)
    tiles = run(lambda batch: list(batch.numpy()), slide, grid, device="cpu", batch_size=8, progress=progress).values
    for tile, row, column in zip(tiles, grid.row, grid.column, strict=True):
        pixels[row * size_px : (row + 1) * size_px, column * size_px : (column + 1) * size_px] = tile
    return Overview(pixels[:height, :width], grid)
