"""Figures of tiles: what a plan delivers, and one value per tile over the slide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from idx._typing import Array, FloatArray, Pair, RGBArray
from idx.errors import GeometryError, PixelAccessError
from idx.tiling import TileGrid, TileResult, read_region, read_tiles
from idx.view.plot_style import INK, MUTED, VERMILION, bare, new_figure, scale_bar

_LONGER_SIDE_PX = 900
"""Pixels of the slide's picture."""
_PALE = 0.55
"""How far the slide under a map is brought towards white, so that it does not look like values."""
_NO_PICTURE = 225
"""Grey in place of a slide that cannot be shown."""
_GALLERY_MOST = 24
_GALLERY_COLUMNS = 6


def tile_gallery(grid: TileGrid, tiles: Sequence[int] | Array) -> Figure:
    """Some tiles of a plan side by side, as a function gets them; their cores are framed where there is a halo.

    Parameters
    ----------
    grid : TileGrid
    tiles : sequence of int
        Indices into the plan, at most 24.

    Raises
    ------
    GeometryError
        If there is no tile or there are too many.
    PixelAccessError
        If a tile cannot be decoded.
    """
    chosen = np.asarray(tiles, dtype=np.int64).ravel()
    if not 1 <= len(chosen) <= _GALLERY_MOST:
        raise GeometryError(f"a gallery must have 1 to {_GALLERY_MOST} tiles; got {len(chosen)} (slide '{grid.slide.name}'). Pass for example range(6).")
    columns = min(_GALLERY_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    side_in = 10.0 / _GALLERY_COLUMNS
    figure, axes = new_figure((columns * side_in, rows * (side_in + 0.25)), (1.0,) * columns, rows=rows)
    width_um, height_um = (m * grid.size_px for m in grid.mpp)
    for ax, tile, pixels in zip(axes, chosen.tolist(), read_tiles(grid, chosen), strict=False):
        ax.imshow(pixels, extent=(0.0, width_um, height_um, 0.0), interpolation="antialiased")
        bare(ax, "", f"tile {tile}")
        if grid.halo_px:
            x, y = (m * grid.halo_px for m in grid.mpp)
            ax.add_patch(Rectangle((x, y), width_um - 2 * x, height_um - 2 * y, fill=False, edgecolor=INK, lw=0.8))
    scale_bar(axes[0], unit="um")
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    return figure


def tile_map(grid: TileGrid, values: Array, *, label: str = "", limits: Pair | None = None) -> Figure:
    """The slide, and beside it one value for each tile's core.

    Parameters
    ----------
    grid : TileGrid
        The whole slide is shown, or the region that was planned.
    values : array (n,) or (n, 3)
        Numbers, or colours (red, green, blue, each 0 to 1), in plan order. Tiles whose value is NaN are framed.
    label : str
        What the numbers are, with their unit; stands beside their scale.
    limits : tuple of float or None
        Numbers at the ends of the colour scale; None takes the smallest and the largest.

    Raises
    ------
    GeometryError
        If there is not one value per tile.
    """
    # The whole result of a run holds more than one could draw; numpy would only say that it is no number.
    given = None if isinstance(values, TileResult) else np.asarray(values, dtype=np.float64)
    if given is None or given.shape not in ((len(grid),), (len(grid), 3)):
        got = repr(values) if given is None else given.shape
        raise GeometryError(
            f"values must be one number, or red, green and blue, per tile ({len(grid)}); got {got} (slide '{grid.slide.name}'). "
            "Pass one column of result.values."
        )
    left, top, right, bottom = grid.bounds_um
    width_um, height_um = right - left, bottom - top
    figure, (plain, mapped) = new_figure((10.0, min(7.0, max(2.5, 4.7 * height_um / width_um + 0.3))), (1.0, 1.0))
    pixels, note = _pixels_below(grid)
    _picture(plain, pixels, grid)
    _picture(mapped, np.rint(255 - (255 - pixels) * (1 - _PALE)).astype(np.uint8), grid)
    blank = np.flatnonzero(~(np.isfinite(given) if given.ndim == 1 else np.isfinite(given).all(axis=1)))
    if given.ndim == 1:
        _numbers(figure, mapped, grid, given, label=label, limits=limits)
    else:
        _colours(mapped, grid, given)
    for x0, y0, x1, y1 in grid.core_bounds_um[blank]:
        mapped.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=VERMILION, lw=1.2))
    bare(plain, grid.slide.name, f"{width_um / 1000:.2f} × {height_um / 1000:.2f} mm{note}")
    without = f", {len(blank):,} without a value" if len(blank) else ""
    bare(mapped, label if given.ndim == 2 and label else "Tiles", f"{len(grid):,} tiles{without}")
    for ax in (plain, mapped):
        scale_bar(ax, unit="um")
    return figure


def _numbers(figure: Figure, ax: Axes, grid: TileGrid, values: FloatArray, *, label: str, limits: Pair | None) -> None:
    """Cores in the colours of a scale that stands beside the picture."""
    low, high = limits or (None, None)
    drawn = ax.pcolormesh(*grid.core_lines_um, np.ma.masked_invalid(grid.as_map(values)), cmap="viridis", vmin=low, vmax=high)
    # An inset keeps both pictures of one size.
    bar = figure.colorbar(drawn, cax=ax.inset_axes((1.02, 0.0, 0.035, 1.0)))
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, colors=MUTED)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _colours(ax: Axes, grid: TileGrid, values: FloatArray) -> None:
    """Cores in colours of their own, clear where there are none."""
    is_there = np.isfinite(values).all(axis=1, keepdims=True)
    opaque = np.concatenate([np.where(is_there, values, 0.0).clip(0.0, 1.0), is_there], axis=1)
    ax.pcolormesh(*grid.core_lines_um, grid.as_map(opaque, missing=0.0))


def _pixels_below(grid: TileGrid) -> tuple[RGBArray, str]:
    """The slide where it was planned and what there is to say about it: who maps the tiles of a damaged slide must not be stopped by its picture."""
    left, top, right, bottom = grid.bounds_um
    coarse = max(*grid.slide.mpp, max(right - left, bottom - top) / _LONGER_SIDE_PX)
    try:
        return read_region(grid.slide, grid.bounds_um, mpp=coarse, progress=False).pixels, ""
    except PixelAccessError:
        return np.full((2, 2, 3), _NO_PICTURE, dtype=np.uint8), ", damaged: no picture"


def _picture(ax: Axes, pixels: Array, grid: TileGrid) -> None:
    """A picture of what is planned, with data coordinates in um."""
    left, top, right, bottom = grid.bounds_um
    ax.imshow(pixels, extent=(left, right, bottom, top), interpolation="antialiased")
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
