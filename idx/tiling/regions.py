"""A region of a slide, or the whole of it, as one picture that knows where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from idx._repr import card
from idx._typing import Array, FloatArray, Pair, RGBArray
from idx.errors import GeometryError
from idx.io.slides_tiatoolbox import as_slide
from idx.slide import Slide
from idx.tiling.drawing import picture_with_scale_bar
from idx.tiling.grid import TileGrid
from idx.tiling.planning import plan
from idx.tiling.running import stream

Bounds = tuple[float, float, float, float]
"""Left, top, right and bottom edge."""
MOST_BYTES = 2 << 30
"""Pixels of a region that are read into memory at most."""
_READ_PX = 1024
"""About so many stored pixels a side are read at a time, so that a slide without coarse levels does not fill the memory."""
_LEAST_SIDE_PX = 16


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a slide as one picture. Make it with :func:`read_region`.

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

    @property
    def bounds_um(self) -> Bounds:
        """Left, top, right and bottom edge in um, cut at the slide's border."""
        return self.grid.bounds_um

    def to_um(self, position_px: Array) -> FloatArray:
        """Map pixel positions (..., 2) (x, y) of the picture to um in the slide's frame; an integer is a pixel centre."""
        return self.grid.lattice_to_um(position_px)

    def to_px(self, points_um: Array) -> FloatArray:
        """Map points (..., 2) in um to fractional pixel positions (x, y) of the picture."""
        return self.grid.um_to_lattice(points_um)

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"Region({width} x {height} px at {self.mpp[0]:.4g} um/px of '{self.grid.slide.name}')"

    def _repr_html_(self) -> str:
        height, width = self.pixels.shape[:2]
        size = f"{width:,} x {height:,} px, {width * self.mpp[0]:,.5g} x {height * self.mpp[1]:,.5g} um"
        facts = [fact for fact in self.grid.facts() if fact[0] in ("mpp (x, y)", "pixels", "region")]
        picture, height_px = picture_with_scale_bar(self.pixels, self.mpp)
        return card("Region", [("slide", self.grid.slide.name), ("size", size), *facts], [("", picture)], height_px=height_px)


def read_region(
    slide: Slide | Any,
    bounds_um: Bounds | None = None,
    *,
    mpp: float | None = None,
    level: int | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Region:
    """Read a region of a slide, or the whole of it, at any resolution.

    Parameters
    ----------
    slide : Slide or tiatoolbox WSIReader
    bounds_um : tuple of float or None
        Left, top, right and bottom edge in the slide's frame, cut at the slide's border; None is the whole slide. The picture begins at the stored
        pixel that holds the corner.
    mpp : float or None
        um per pixel. A stored level within 2 % of it is read as it is, otherwise the next finer one is area-averaged. None is the slide's own.
    level : int or None
        Read this stored level as it is, instead of ``mpp``.
    workers : int or None
        Decoding threads; None means the setting.
    progress : bool or None
        Whether to show a bar; None means the setting.

    Returns
    -------
    Region
        uint8 RGB (y, x, 3) with its place.

    Raises
    ------
    UnitError
        If ``mpp`` is finer than the slide by more than 2 %.
    GeometryError
        If the region misses the slide, the level does not exist, or the picture would take more than 2 GiB.
    PixelAccessError
        If a tile cannot be decoded.

    Examples
    --------
    >>> region = idx.tiling.read_region(slide, (2000, 1000, 2500, 1400), mpp=0.5)  # doctest: +SKIP
    >>> region.pixels.shape, region.to_um([0, 0])  # doctest: +SKIP
    ((800, 1000, 3), array([2000., 1000.]))
    """
    grid = region_plan(slide, bounds_um, mpp=mpp, level=level)
    width, height = grid.extent_px
    if (n_bytes := 3 * width * height) > MOST_BYTES:
        coarser = max(grid.mpp) * (n_bytes / MOST_BYTES) ** 0.5 * 1.01
        raise GeometryError(
            f"a region must take at most {MOST_BYTES / 2**30:g} GiB; got {width:,} x {height:,} px, {n_bytes / 2**30:.3g} GiB, at {max(grid.mpp):.4g} um/px "
            f"(slide '{grid.slide.name}'). Pass mpp={coarser:.3g} or smaller bounds, or go through the tiles with idx.tiling.stream."
        )
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for batch in stream(lambda tiles: tiles, grid.slide, grid, device="cpu", batch_size=8, workers=workers, progress=progress):
        for tile, (x, y) in zip(batch.values, grid.origin_px[batch.tiles].tolist(), strict=True):
            pixels[y : y + grid.size_px, x : x + grid.size_px] = tile[: height - y, : width - x]
    return Region(pixels, grid)


def region_plan(
    slide: Slide | Any,
    bounds_um: Bounds | None = None,
    *,
    mpp: float | None = None,
    level: int | None = None,
    most_px: int = _READ_PX,
) -> TileGrid:
    """Plan the tiles of a region, in the slide's own resolution unless ``mpp`` or ``level`` says otherwise.

    Tiles are of ``most_px`` or of a half, a quarter ... of it, where they would be made from many more stored pixels. Other arguments and errors are
    those of :func:`read_region`.
    """
    if mpp is not None and level is not None:
        raise GeometryError(f"resolution must be given as mpp or as level; got mpp={mpp} and level={level} (region). Leave one of them out.")
    if mpp is None:
        return plan(slide, size_px=most_px, level=level or 0, bounds_um=bounds_um)
    slide = as_slide(slide)
    scale, side = mpp / (slide.levels[slide.level_for(mpp)].downsample * min(slide.mpp)), most_px
    while side * scale > _READ_PX and side % 2 == 0 and side > _LEAST_SIDE_PX:
        side //= 2
    return plan(slide, size_px=side, mpp=mpp, bounds_um=bounds_um)
