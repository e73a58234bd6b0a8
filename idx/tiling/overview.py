"""A whole slide, or a region of it, as one coarse picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import Array, FloatArray, Pair, RGBArray
from idx.slide import Slide
from idx.tiling.grid import TileGrid
from idx.tiling.planning import plan
from idx.tiling.running import stream

_READ_PX = 1024
"""About so many stored pixels a side are read at a time, so that a slide without coarse levels does not fill the memory."""


@dataclass(frozen=True, eq=False)
class Overview:
    """A slide or a region of it at one resolution.

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
        return self.grid.lattice_to_um(position_px)

    def to_px(self, points_um: Array) -> FloatArray:
        """Map points (n, 2) in um to fractional pixel positions (x, y) of the picture."""
        return self.grid.um_to_lattice(points_um)


def read_overview(slide: Slide, *, mpp: float, bounds_um: tuple[float, float, float, float] | None = None, progress: bool | None = None) -> Overview:
    """Read a slide at ``mpp`` um per pixel (the slide's own where that is coarser), area-averaged.

    Parameters
    ----------
    slide : Slide
    mpp : float
    bounds_um : tuple of float or None
        Left, top, right and bottom of a region, as for :func:`idx.tiling.plan`; None reads the whole slide.
    progress : bool or None
        Whether to show a bar; None means the setting.

    Raises
    ------
    PixelAccessError
        If a tile cannot be decoded.
    UnitError, GeometryError
        If ``mpp`` is not positive or the region misses the slide.
    """
    wanted = max(mpp, max(slide.mpp))
    scale = max(1.0, wanted / (slide.levels[slide.level_for(wanted)].downsample * max(slide.mpp)))
    grid = plan(slide, size_px=max(16, int(_READ_PX / scale)), mpp=wanted, bounds_um=bounds_um)
    width, height = grid.extent_px
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for batch in stream(lambda tiles: tiles, slide, grid, device="cpu", batch_size=8, progress=progress):
        for tile, (x, y) in zip(batch.values, grid.origin_px[batch.tiles].tolist(), strict=True):
            pixels[y : y + grid.size_px, x : x + grid.size_px] = tile[: height - y, : width - x]
    return Overview(pixels, grid)
