"""Idx's plan of a lattice."""

from __future__ import annotations

from lattice import Lattice

import idx


def planned(slide: idx.Slide, lattice: Lattice) -> idx.tiling.TileGrid:
    """Plan exactly the tiles of the lattice.

    Raises
    ------
    ValueError
        If the plan has other tiles.
    """
    own = slide.mpp[0]
    # The edge of pixel i lies half a pixel before its centre.
    left, top = ((first - 0.5) * own for first in (lattice.x_px, lattice.y_px))
    bounds = left, top, left + lattice.columns * lattice.step_px * own, top + lattice.rows * lattice.step_px * own
    where = {"level": 0} if lattice.mpp is None else {"mpp": lattice.mpp}
    grid = idx.tiling.plan(slide, size_px=lattice.size_px, bounds_um=bounds, **where)
    first = tuple(grid.read_rects_px[0, :2])
    if len(grid) != len(lattice) or first != (lattice.x_px, lattice.y_px):
        raise ValueError(f"the plan must be the {len(lattice)} tiles from {lattice.x_px}, {lattice.y_px}; got {len(grid)} from {first}")
    return grid
