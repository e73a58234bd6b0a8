"""Where the tiles of a slide lie: a pure plan, made without reading a pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from idx._typing import BoolArray, FloatArray, IntArray, Pair
from idx.errors import FormatError, GeometryError, UnitError
from idx.io.slides_tiatoolbox import as_slide
from idx.io.slides_tiles import same_aspect
from idx.io.stored_tiles import StoredTiles
from idx.slide import SAME_SCALE_RTOL, Contours, Slide
from idx.tiling.coverage import share_in_contours, share_in_mask
from idx.tiling.grid import SLIVER_PX, Requested, TileGrid, lattice_size

__all__ = ["TileGrid", "plan"]

_DEFAULT_SIZE_PX = 256
_MAX_TILES = 50_000_000
"""Beyond this a plan alone would fill the memory; 64 px tiles of the largest slides are a fifth of it."""
_MAX_TILE_BYTES = 4 << 30
"""Stored pixels that one tile is made from; a larger one is a slip of units."""


def plan(
    slide: Slide | Any,
    *,
    size_px: int | None = None,
    size_um: float | None = None,
    mpp: float = 0.5,
    overlap_px: int = 0,
    overlap_um: float | None = None,
    within: Contours | BoolArray | None = None,
    min_tissue: float = 0.0,
    level: int | None = None,
    bounds_um: tuple[float, float, float, float] | None = None,
) -> TileGrid:
    """Divide a slide into tiles without reading it.

    Parameters
    ----------
    slide : Slide or tiatoolbox WSIReader
    size_px : int or None
        Side of a tile in delivered pixels, halo included; 256 where ``size_um`` is not given either.
    size_um : float or None
        The same in um, rounded to whole pixels (of the mean of both axes, where a chosen level's are not square). ``grid.facts()`` says what was
        asked for where it is not what is delivered.
    mpp : float
        um per delivered pixel. A stored level within 2 % of it is used as it is; otherwise the next finer level is area-averaged. Each axis for
        itself, where a slide's pixels are not square.
    overlap_px : int
        Pixels that neighbours share, even; half of it is the halo around each core.
    overlap_um : float or None
        The same in um, rounded up to an even number of pixels: a halo that must hold an object does.
    within : Contours, bool array (y, x) or None
        Keep only tiles whose core meets these contours, or the true pixels of this mask. A mask covers the whole slide from border to border, at
        any resolution.
    min_tissue : float
        Least share (0 to 1) of the core, where it lies on the slide (in the region), that must be within.
    level : int or None
        Read this stored level as it is; ``mpp`` is then the level's own and the argument is not used.
    bounds_um : tuple of float or None
        Left, top, right and bottom edge of a region in the slide's frame, cut at the slide's border. The lattice begins at the stored pixel that
        holds the region's corner and covers the region; None plans the whole slide.

    Returns
    -------
    TileGrid
        In storage order, see Notes. Border tiles are kept and padded with white. No tiles where nothing of the slide is within.

    Raises
    ------
    UnitError
        If ``mpp`` is finer than the slide by more than 2 % (pixels are not invented), or a length is not a length.
    GeometryError
        If sizes do not fit together or into memory, the level does not exist, the region misses the slide, or what it must lie within is of another
        frame, misses the slide, or is not a mask of this slide's proportions.
    FormatError
        If the slide has no levels or one of no pixels.

    Notes
    -----
    The order is row by row and from left to right: a stored tile that two rows of tiles need is needed again one row later, so that a reader which
    keeps one row of stored tiles decodes each once. Where a stored tile holds two or more rows of cores, that would need many rows of memory; there,
    tiles come stored tile by stored tile (these row by row), and row by row within each. ``grid.column`` and ``grid.row`` say where a tile lies,
    ``grid.as_map(values)`` puts values there.

    Examples
    --------
    >>> phantom = idx.testing.he_slide("slide.tif", mpp=0.5)  # doctest: +SKIP
    >>> grid = idx.tiling.plan(idx.open_slide("slide.tif"), size_px=512, overlap_px=64)  # doctest: +SKIP
    """
    slide = as_slide(slide)
    _check_levels(slide)
    if not 0.0 <= min_tissue <= 1.0:
        raise GeometryError(f"min_tissue must be a share between 0 and 1; got {min_tissue} (slide '{slide.name}'). Pass for example 0.5.")
    chosen, delivered_mpp, scale = _choose_level(slide, mpp, level)
    size, overlap = _sizes_px(slide, (size_px, overlap_px), (size_um, overlap_um), mpp=delivered_mpp, scale=scale)
    offset, extent = _region(slide, chosen, scale, bounds_um)
    asked = Requested(mpp=None if level is not None else float(mpp), size_um=size_um, overlap_um=overlap_um)
    none = np.zeros(0, dtype=np.int64)
    lattice = TileGrid(slide, chosen, size, overlap, delivered_mpp, scale, none, none, np.zeros(0), offset, extent, asked)
    n_tiles = lattice.shape[0] * lattice.shape[1]
    if n_tiles > _MAX_TILES:
        raise GeometryError(
            f"a lattice must have at most {_MAX_TILES:,} tiles; got {n_tiles:,} of {size} px (slide '{slide.name}'). Pass a larger size or a coarser mpp."
        )
    share = np.ones(lattice.shape) if within is None else _share_within(lattice, within)
    row, column = np.nonzero((share > 0) & (share >= min_tissue))
    order = _storage_order(lattice, column, row)
    return replace(lattice, column=column[order], row=row[order], tissue_fraction=share[row, column][order])


def _check_levels(slide: Slide) -> None:
    sizes = [(level.width_px, level.height_px) for level in slide.levels]
    if not sizes or min(map(min, sizes)) < 1:
        raise FormatError(f"levels of a slide must be at least 1 x 1 px; got {sizes or 'none'} (slide '{slide.name}'). Open an intact file.")


def _storage_order(lattice: TileGrid, column: IntArray, row: IntArray) -> IntArray | slice:
    """Order in which tiles, given row by row, are to be read; see the notes of :func:`plan`."""
    stored = getattr(lattice.slide.pixels, "stored", None)
    if not isinstance(stored, StoredTiles):
        return slice(None)
    layout = stored.layouts[lattice.level]
    step_x, step_y = (lattice.core_px * s for s in lattice.scale)
    if layout.tile_height_px < 2 * step_y:
        return slice(None)
    block_row = np.floor((row * step_y + lattice.offset_px[1]) / layout.tile_height_px)
    block_column = np.floor((column * step_x + lattice.offset_px[0]) / layout.tile_width_px)
    return np.lexsort((column, row, block_column, block_row))


def _sizes_px(slide: Slide, in_px: tuple[int | None, int], in_um: tuple[float | None, float | None], *, mpp: Pair, scale: Pair) -> tuple[int, int]:
    """Size and overlap in delivered pixels from what was given in pixels or um."""
    (size, overlap), (size_um, overlap_um), pixel_um = in_px, in_um, float(np.mean(mpp))
    if (size is not None and size_um is not None) or (overlap and overlap_um is not None):
        raise GeometryError(
            f"sizes must be given in px or in um; got size_px={size}, size_um={size_um}, overlap_px={overlap}, overlap_um={overlap_um} "
            f"(slide '{slide.name}'). Leave one of each pair out."
        )
    for name, value, least in (("size_um", size_um, pixel_um / 2.0), ("overlap_um", overlap_um, 0.0)):
        if value is not None and not (np.isfinite(value) and value >= least):
            raise UnitError(f"{name} must be a length of at least {least:.4g} um; got {value} (slide '{slide.name}'). Pass for example size_um=128.")
    if size_um is not None:
        size = round(size_um / pixel_um)
    if overlap_um is not None:
        overlap = 2 * int(np.ceil(overlap_um / pixel_um / 2.0 - SLIVER_PX))
    size = _DEFAULT_SIZE_PX if size is None else size
    if not all(isinstance(n, int | np.integer) for n in (size, overlap)) or size < 1 or overlap < 0 or overlap >= size or overlap % 2:
        raise GeometryError(
            f"size_px must be a positive whole number and overlap_px even and smaller than it; got size {size}, overlap {overlap} (slide '{slide.name}'). "
            "Pass for example size_px=512, overlap_px=64."
        )
    if (n_bytes := 3.0 * size * scale[0] * size * scale[1]) > _MAX_TILE_BYTES:
        raise GeometryError(
            f"a tile must be made from at most {_MAX_TILE_BYTES / 2**30:g} GiB of pixels; got {n_bytes / 2**30:.3g} GiB for {size} px (slide '{slide.name}'). "
            "Pass a smaller size or a coarser mpp."
        )
    return int(size), int(overlap)


def _region(slide: Slide, level: int, scale: Pair, bounds_um: tuple[float, float, float, float] | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """First pixel of the stored level and number of delivered pixels that cover a region, or the whole slide."""
    stored = slide.levels[level]
    if bounds_um is None:
        return (0, 0), lattice_size(stored.width_px, stored.height_px, offset_px=(0, 0), scale=scale)
    bounds = np.asarray(bounds_um, dtype=np.float64)
    if bounds.shape != (4,) or not (np.isfinite(bounds).all() and (bounds[:2] < bounds[2:]).all()):
        raise GeometryError(
            f"bounds_um must be finite, left < right and top < bottom; got {bounds_um} (slide '{slide.name}'). Pass (left, top, right, bottom) in um."
        )
    # Edges between pixels lie half a level-0 pixel before the centres that slide.to_px counts from.
    edges = (bounds.reshape(2, 2) / np.asarray(slide.mpp) + 0.5) / stored.downsample
    low, high = np.maximum(edges[0], 0.0), np.minimum(edges[1], [stored.width_px, stored.height_px])
    if (high - low < SLIVER_PX).any():
        raise GeometryError(
            f"bounds_um must meet the slide ({slide.size_um[0]:.6g} x {slide.size_um[1]:.6g} um); got {bounds_um} (slide '{slide.name}'). "
            "Pass (left, top, right, bottom) in um of this slide."
        )
    x, y = np.floor(low + SLIVER_PX).astype(int).tolist()
    return (x, y), lattice_size(float(high[0]), float(high[1]), offset_px=(x, y), scale=scale)


def _choose_level(slide: Slide, mpp: float, level: int | None) -> tuple[int, Pair, Pair]:
    """Stored level to read, um per delivered pixel, and level pixels per delivered pixel."""
    if level is not None:
        if not isinstance(level, int | np.integer) or not 0 <= level < len(slide.levels):
            raise GeometryError(f"level must be in 0..{len(slide.levels) - 1}; got {level} (slide '{slide.name}'). See slide.levels.")
        return int(level), _level_mpp(slide, level), (1.0, 1.0)
    if np.ndim(mpp) or not (np.isfinite(mpp) and mpp > 0):
        raise UnitError(f"mpp must be a positive um per pixel, one for both axes; got {mpp} (slide '{slide.name}'). Pass for example mpp=0.5.")
    if max(slide.mpp) > mpp * (1 + SAME_SCALE_RTOL):
        raise UnitError(
            f"mpp must not be finer than the slide's {max(slide.mpp):.4g} um/px; got {mpp:g} (slide '{slide.name}'). Pass mpp={max(slide.mpp):.4g} or level=0."
        )
    chosen = slide.level_for(mpp)
    (x, x_scale), (y, y_scale) = ((own, 1.0) if abs(own / mpp - 1.0) <= SAME_SCALE_RTOL else (float(mpp), mpp / own) for own in _level_mpp(slide, chosen))
    return chosen, (x, y), (x_scale, y_scale)


def _level_mpp(slide: Slide, level: int) -> Pair:
    downsample = slide.levels[level].downsample
    return slide.mpp[0] * downsample, slide.mpp[1] * downsample


def _share_within(lattice: TileGrid, within: Contours | BoolArray) -> FloatArray:
    """Share (rows, columns) of each core of the full lattice that lies within."""
    slide, (x_lines, y_lines) = lattice.slide, lattice.core_lines_um
    if not isinstance(within, Contours):
        mask = _checked_mask(slide, within)
        (width, height), (half_x, half_y) = slide.size_um, (m / 2.0 for m in slide.mpp)
        return share_in_mask(mask, x_lines=(x_lines + half_x) / width, y_lines=(y_lines + half_y) / height)
    if within.frame != slide.frame:
        raise GeometryError(
            f"contours must lie in the slide's frame; got {within.frame} for {slide.frame} (slide '{slide.name}'). Map them to this slide first."
        )
    if len(within) == 0:
        return np.zeros(lattice.shape)
    left, top, right, bottom = within.bounds_um
    if right <= 0 or bottom <= 0 or left >= slide.size_um[0] or top >= slide.size_um[1]:
        raise GeometryError(
            f"contours must meet the slide ({slide.size_um[0]:.6g} x {slide.size_um[1]:.6g} um); "
            f"got x {left:.6g} to {right:.6g}, y {top:.6g} to {bottom:.6g} um (slide '{slide.name}'). Check that they are in um and of this slide."
        )
    return share_in_contours(within, x_lines_um=x_lines, y_lines_um=y_lines)


def _checked_mask(slide: Slide, within: BoolArray) -> BoolArray:
    mask = np.asarray(within)
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise GeometryError(
            f"within must be Contours or a bool array (y, x); got {type(within).__name__} of {mask.dtype} {mask.shape} (slide '{slide.name}'). "
            "Pass for example labels > 0."
        )
    height, width = mask.shape
    # Masks have the slide's pixels, or square ones where the slide's are not.
    in_px, in_um = slide.size_px, (round(slide.size_um[0] / min(slide.mpp)), round(slide.size_um[1] / min(slide.mpp)))
    if not any(same_aspect(width, height, base=base) for base in (in_px, in_um)):
        raise GeometryError(
            f"a mask must cover the whole slide ({in_px[0]} x {in_px[1]} px); got {width} x {height} px, of other proportions (slide '{slide.name}'). "
            "Check that its axes are (y, x), or pad what was cut off."
        )
    return mask
