"""What is asked for: tiles on a lattice. Workers read it too, so it imports the standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lattice:
    """Square tiles, row by row.

    Parameters
    ----------
    x_px, y_px : int
        First level-0 pixel of the first tile.
    columns, rows : int
    size_px : int
        Side of a tile as delivered.
    mpp : float or None
        um per delivered pixel; None is level 0 as it is stored.
    step_px : float
        Level-0 pixels from tile to tile, and that a tile covers.
    """

    x_px: int
    y_px: int
    columns: int
    rows: int
    size_px: int
    mpp: float | None
    step_px: float

    def __len__(self) -> int:
        return self.columns * self.rows

    def corners(self) -> list[tuple[int, int]]:
        """First level-0 pixel (x, y) of each tile, rounded."""
        return [(round(self.x_px + column * self.step_px), round(self.y_px + row * self.step_px)) for row in range(self.rows) for column in range(self.columns)]


def lattice_over(
    size_px: tuple[int, int], *, tile_px: int = 256, offset_px: int = 0, mpp: float | None = None, own_mpp: float, most_tiles: int | None = None
) -> Lattice:
    """Lattice of all tiles that lie on a slide in full, or of its first rows.

    Parameters
    ----------
    size_px : tuple of int
        Width and height at level 0.
    tile_px : int
        Side of a tile as delivered.
    offset_px : int
        Level-0 pixels from the slide's corner to the first tile, in x and y.
    mpp : float or None
        um per delivered pixel. Within 2 % of the slide's own, level 0 is meant.
    own_mpp : float
        um per level-0 pixel.
    most_tiles : int or None
        Whole rows are kept until there are so many.

    Raises
    ------
    ValueError
        If no tile fits.
    """
    scale = 1.0 if mpp is None or abs(mpp / own_mpp - 1.0) <= 0.02 else mpp / own_mpp
    step = tile_px * scale
    columns, rows = (int((length - offset_px) / step + 1e-9) for length in size_px)
    if columns < 1 or rows < 1:
        raise ValueError(f"slide must hold a tile of {step:g} level-0 px; got {size_px[0]} x {size_px[1]} px")
    if most_tiles is not None:
        rows = min(rows, max(1, most_tiles // columns))
    return Lattice(offset_px, offset_px, columns, rows, tile_px, mpp, step)
