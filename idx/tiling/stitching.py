"""Objects found in overlapping tiles, kept once each."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, BoolArray, FloatArray
from idx.errors import GeometryError
from idx.tiling.planning import TileGrid


def in_core(grid: TileGrid, position_px: Array) -> BoolArray:
    """Whether positions (n, 2) (x, y) within any tile lie in its core.

    The core is the half-open box from ``halo - 0.5`` to ``halo + core - 0.5`` (integers are pixel centres): the cores of a plan hold each
    position of the slide exactly once.
    """
    position = np.asarray(position_px, dtype=np.float64).reshape(-1, 2)
    low = grid.halo_px - 0.5
    return np.asarray(((position >= low) & (position < low + grid.core_px)).all(axis=1))


def stitch(grid: TileGrid, tile: Array, centroid_px: Array) -> tuple[BoolArray, FloatArray]:
    """Keep each object once: in the tile whose core holds its centroid.

    Parameters
    ----------
    grid : TileGrid
        The halo (half of ``overlap_px``) must be at least as wide as the largest object, so that the owner sees the whole of it.
    tile : array (n,) of int
        Tile in which each object was found.
    centroid_px : array (n, 2)
        Its centroid (x, y) in that tile's pixels, halo included.

    Returns
    -------
    keep : array (n,) of bool
        Objects that their tile owns.
    centroid_um : array (n, 2)
        Centroids of all n objects in the slide's frame.

    Raises
    ------
    GeometryError
        If lengths differ or a tile is not in the plan.

    Notes
    -----
    An object whose tile is not in the plan (its core lies outside ``within``) is kept by none.
    """
    tiles = np.asarray(tile, dtype=np.int64).ravel()
    centroids = np.asarray(centroid_px, dtype=np.float64).reshape(-1, 2)
    if len(tiles) != len(centroids) or (len(tiles) and not (tiles.min() >= 0 and tiles.max() < len(grid))):
        raise GeometryError(
            f"tile and centroid_px must have one entry per object and point into the plan of {len(grid)} tiles; got {len(tiles)} tiles, "
            f"{len(centroids)} centroids (slide '{grid.slide.name}'). Pass the column 'tile' of the run's result."
        )
    return in_core(grid, centroids), grid.to_um(tiles, centroids)
