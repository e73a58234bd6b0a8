"""Where the tiles of a slide lie: a pure plan, made without reading a pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from idx._typing import FloatArray, Pair
from idx.errors import GeometryError, UnitError
from idx.slide import SAME_SCALE_RTOL, Contours, Slide
from idx.tiling.grid import SLIVER_PX, Requested, TileGrid, lattice_size

__all__ = ["TileGrid", "plan"]

_DEFAULT_SIZE_PX = 256


def plan(
    slide: Slide,
    *,
    size_px: int | None = None,
    size_um: float | None = None,
    mpp: float = 0.5,
    overlap_px: int = 0,
    overlap_um: float | None = None,
    within: Contours | None = None,
    min_tissue: float = 0.0,
    level: int | None = None,
    bounds_um: tuple[float, float, float, float] | None = None,
) -> TileGrid:
    """Divide a slide into tiles without reading it.

    Parameters
    ----------
    slide : Slide
    size_px : int or None
        Side of a tile in delivered pixels, halo included; 256 where ``size_um`` is not given either.
    size_um : float or None
        The same in um, rounded to whole pixels.
    mpp : float
        um per delivered pixel. A stored level within 2 % of it is used as it is; otherwise the next finer level is area-averaged.
    overlap_px : int
        Pixels that neighbours share, even; half of it is the halo around each core.
    overlap_um : float or None
        The same in um, rounded up to an even number of pixels: a halo that must hold an object does.
    within : Contours or None
        Keep only tiles whose core meets these contours.
    min_tissue : float
        Least share (0 to 1) of the core, where it lies on the slide, that must be within the contours.
    level : int or None
        Read this stored level as it is; ``mpp`` is then the level's own and the argument is not used.
    bounds_um : tuple of float or None
        Left, top, right and bottom edge of a region in the slide's frame, cut at the slide's border. The lattice begins at the stored pixel that
        holds the region's corner and covers the region; None plans the whole slide.

    Returns
    -------
    TileGrid
        Row by row. Border tiles are kept and padded with white.

    Raises
    ------
    UnitError
        If ``mpp`` is finer than the slide by more than 2 %: pixels are not invented.
    GeometryError
        If sizes do not fit together, the level does not exist or the contours lie in another frame.

    Examples
    --------
    >>> phantom = idx.testing.he_slide("slide.tif", mpp=0.5)  # doctest: +SKIP
    >>> grid = idx.tiling.plan(idx.open_slide("slide.tif"), size_px=512, overlap_px=64)  # doctest: +SKIP
    """
    if not 0.0 <= min_tissue <= 1.0:
        raise GeometryError(f"min_tissue must be a share between 0 and 1; got {min_tissue} (slide '{slide.name}'). Pass for example 0.5.")
    chosen, delivered_mpp, scale = _choose_level(slide, mpp, level)
    size, overlap = _sizes_px(slide, (size_px, overlap_px), (size_um, overlap_um), mpp=delivered_mpp)
    offset, extent = _region(slide, chosen, scale, bounds_um)
    asked = Requested(mpp=None if level is not None else float(mpp), size_um=size_um, overlap_um=overlap_um)
    n_columns, n_rows = (-(-length // (size - overlap)) for length in extent)
    row, column = (index.ravel() for index in np.mgrid[0:n_rows, 0:n_columns])
    grid = TileGrid(slide, chosen, size, overlap, delivered_mpp, scale, column, row, np.ones(len(row)), offset, extent, asked)
    if within is None:
        return grid
    if within.frame != slide.frame:
        raise GeometryError(
            f"contours must lie in the slide's frame; got {within.frame} for {slide.frame} (slide '{slide.name}'). Map them to this slide first."
        )
    fraction = _fraction_within(grid.core_bounds_um, within)
    keep = (fraction > 0) & (fraction >= min_tissue)
    return replace(grid, column=column[keep], row=row[keep], tissue_fraction=fraction[keep])


def _sizes_px(slide: Slide, in_px: tuple[int | None, int], in_um: tuple[float | None, float | None], *, mpp: Pair) -> tuple[int, int]:
    """Size and overlap in delivered pixels from what was given in pixels or um."""
    (size, overlap), (size_um, overlap_um), pixel_um = in_px, in_um, float(np.mean(mpp))
    if (size is not None and size_um is not None) or (overlap and overlap_um is not None):
        raise GeometryError(
            f"sizes must be given in px or in um; got size_px={size}, size_um={size_um}, overlap_px={overlap}, overlap_um={overlap_um} "
            f"(slide '{slide.name}'). Leave one of each pair out."
        )
    for name, value in (("size_um", size_um), ("overlap_um", overlap_um)):
        if value is not None and not (np.isfinite(value) and value >= 0):
            raise UnitError(f"{name} must be a positive length in um; got {value} (slide '{slide.name}'). Pass for example size_um=128.")
    if size_um is not None:
        size = round(size_um / pixel_um)
    if overlap_um is not None:
        overlap = 2 * int(np.ceil(overlap_um / pixel_um / 2.0 - SLIVER_PX))
    size = _DEFAULT_SIZE_PX if size is None else size
    if size < 1 or overlap < 0 or overlap >= size or overlap % 2:
        raise GeometryError(
            f"size_px must be positive and overlap_px even and smaller than it; got size {size}, overlap {overlap} (slide '{slide.name}'). "
            "Pass for example size_px=512, overlap_px=64."
        )
    return size, overlap


def _region(slide: Slide, level: int, scale: Pair, bounds_um: tuple[float, float, float, float] | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """First pixel of the stored level and number of delivered pixels that cover a region, or the whole slide."""
    stored = slide.levels[level]
    if bounds_um is None:
        return (0, 0), lattice_size(stored.width_px, stored.height_px, offset_px=(0, 0), scale=scale)
    left, top, right, bottom = (float(edge) for edge in bounds_um)
    if not (np.isfinite(bounds_um).all() and left < right and top < bottom):
        raise GeometryError(
            f"bounds_um must be finite, left < right and top < bottom; got {bounds_um} (slide '{slide.name}'). Pass (left, top, right, bottom) in um."
        )
    # Edges between pixels lie half a level-0 pixel before the centres that slide.to_px counts from.
    edges = (np.array([[left, top], [right, bottom]]) / np.asarray(slide.mpp) + 0.5) / stored.downsample
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
        if not 0 <= level < len(slide.levels):
            raise GeometryError(f"level must be in 0..{len(slide.levels) - 1}; got {level} (slide '{slide.name}'). See slide.levels.")
        return level, _level_mpp(slide, level), (1.0, 1.0)
    if not (np.isfinite(mpp) and mpp > 0):
        raise UnitError(f"mpp must be a positive um per pixel; got {mpp} (slide '{slide.name}'). Pass for example mpp=0.5.")
    if max(slide.mpp) > mpp * (1 + SAME_SCALE_RTOL):
        raise UnitError(
            f"mpp must not be finer than the slide's {max(slide.mpp):.4g} um/px; got {mpp:g} (slide '{slide.name}'). Pass mpp={max(slide.mpp):.4g} or level=0."
        )
    chosen = slide.level_for(mpp)
    own = _level_mpp(slide, chosen)
    if all(abs(m / mpp - 1.0) <= SAME_SCALE_RTOL for m in own):
        return chosen, own, (1.0, 1.0)
    return chosen, (float(mpp), float(mpp)), (mpp / own[0], mpp / own[1])


def _level_mpp(slide: Slide, level: int) -> Pair:
    downsample = slide.levels[level].downsample
    return slide.mpp[0] * downsample, slide.mpp[1] * downsample


def _fraction_within(bounds_um: FloatArray, within: Contours) -> FloatArray:
    """Share of each box that the union of the contours covers, by exact polygon areas."""
    import shapely

    fraction = np.zeros(len(bounds_um))
    if len(within) == 0 or len(bounds_um) == 0:
        return fraction
    union = shapely.union_all([shapely.make_valid(polygon) for polygon in within.polygons()])
    shapely.prepare(union)
    boxes = shapely.box(*bounds_um.T)
    fraction[shapely.contains(union, boxes)] = 1.0
    cut = np.flatnonzero((fraction == 0) & shapely.intersects(union, boxes))
    # Clipping a slide-sized polygon by every box is quadratic; clipping its parts row by row is not.
    parts = shapely.get_parts(union)
    tree = shapely.STRtree(parts)
    box_index, part_index = tree.query(boxes[cut], predicate="intersects")
    clipped = shapely.area(shapely.intersection(boxes[cut][box_index], parts[part_index]))
    covered = np.bincount(box_index, weights=clipped, minlength=len(cut))
    fraction[cut] = np.clip(covered / shapely.area(boxes[cut]), 0.0, 1.0)
    return fraction
