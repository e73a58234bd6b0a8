"""Where on a slide there is tissue, and which pieces belong to one section."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from idx._typing import BoolArray, FloatArray, RGBArray
from idx.errors import UnitError
from idx.kernels.stain import optical_density, otsu_threshold
from idx.slide import Contours, Slide
from idx.tiling.overview import read_overview
from idx.tiling.regions import Region

if TYPE_CHECKING:
    from shapely import Polygon

MIN_TISSUE_OD = 0.04
"""Nothing paler than this is tissue: it is five times the noise of JPEG and of a scanner's uneven light, so an empty slide stays empty."""
MAX_TISSUE_OD = 0.08
"""Everything darker than this is tissue: in a crop full of tissue Otsu would otherwise part dark tissue from pale."""
_BLACK = 25
"""Pixels below this in every channel are padding that scanners put around what they scanned, not tissue."""


def glass_colour(pixels: RGBArray) -> FloatArray:
    """Colour (3,) of the bare glass: the median of bright, colourless pixels; 255 where these are less than 0.5 % of the picture."""
    low, high = pixels.min(axis=-1).astype(int), pixels.max(axis=-1).astype(int)
    glass = pixels[(low > 200) & (high - low < 20)]
    if len(glass) < 0.005 * low.size:
        return np.full(3, 255.0)
    return np.asarray(np.median(glass, axis=0))


def tissue_density(pixels: RGBArray) -> FloatArray:
    """Greatest optical density over the channels (y, x), relative to the glass; stained tissue is never 0 in all three."""
    density = optical_density(pixels, white=glass_colour(pixels)).max(axis=-1)
    density[(pixels < _BLACK).all(axis=-1)] = 0.0
    return np.asarray(density)


def tissue_threshold(density: FloatArray) -> float:
    """Density that parts glass from tissue: Otsu's, held between :data:`MIN_TISSUE_OD` and :data:`MAX_TISSUE_OD`."""
    return float(np.clip(otsu_threshold(density, low=0.0, high=0.6), MIN_TISSUE_OD, MAX_TISSUE_OD))


def find_tissue(
    slide: Slide,
    *,
    mpp: float = 8.0,
    smooth_um: float = 6.0,
    close_um: float = 16.0,
    min_area_um2: float = 20_000.0,
    min_hole_um2: float = 5_000.0,
) -> Contours:
    """Outline the tissue on a stained slide.

    Parameters
    ----------
    slide : Slide
    mpp : float
        um per pixel at which the slide is looked at.
    smooth_um : float
        Standard deviation of the Gaussian that takes away noise and single cells.
    close_um : float
        Gaps narrower than twice this are closed.
    min_area_um2, min_hole_um2 : float
        Smaller fragments are dropped and smaller holes filled.

    Returns
    -------
    Contours
        Polygons with holes, in um, largest first; none for an empty slide.

    Raises
    ------
    UnitError
        If ``mpp`` is not positive.
    PixelAccessError
        If the slide cannot be read.

    Notes
    -----
    Optical density relative to the glass, Otsu's threshold held between sane limits, closing and opening, and the sub-pixel line on which the
    smoothed density equals the threshold. Pen marks and dust of more than ``min_area_um2`` are not told apart from tissue.

    Examples
    --------
    >>> tissue = idx.histology.find_tissue(slide)  # doctest: +SKIP
    >>> tissue.areas_um2.sum() / 1e6  # doctest: +SKIP
    """
    from scipy.ndimage import gaussian_filter

    if not (np.isfinite(mpp) and mpp > 0):
        raise UnitError(f"mpp must be a positive um per pixel; got {mpp} (slide '{slide.name}'). Pass for example mpp=8.")
    overview = read_overview(slide, mpp=mpp)
    density = tissue_density(overview.pixels)
    threshold = tissue_threshold(density)
    pixel_um = float(np.mean(overview.mpp))
    smooth = gaussian_filter(density, smooth_um / pixel_um, mode="nearest")
    mask = _cleaned(smooth > threshold, close_px=close_um / pixel_um, min_px=min_area_um2 / pixel_um**2, min_hole_px=min_hole_um2 / pixel_um**2)
    # Where cleaning changed a pixel the line must pass beside it; elsewhere it runs at sub-pixel precision through the density.
    step = threshold * 1e-3
    field = np.where(mask, np.maximum(smooth, threshold + step), np.minimum(smooth, threshold - step))
    return _iso_contours(field, threshold, overview, min_area_um2=min_area_um2, min_hole_um2=min_hole_um2)


def _cleaned(mask: BoolArray, *, close_px: float, min_px: float, min_hole_px: float) -> BoolArray:
    """Close gaps, then drop small fragments and fill small holes."""
    from scipy.ndimage import distance_transform_edt, label

    if not mask.any():
        return mask
    # Closing by distances: exact discs of any radius, in time that does not depend on it. The border counts as far from tissue.
    pad = int(np.ceil(close_px)) + 1
    wide = np.pad(mask, pad)
    dilated = distance_transform_edt(~wide) <= close_px
    closed = (distance_transform_edt(np.pad(dilated, 1))[1:-1, 1:-1] > close_px)[pad:-pad, pad:-pad] | mask
    parts, _ = label(closed)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = (sizes >= min_px)[parts]
    holes, _ = label(~kept, structure=np.ones((3, 3)))
    hole_sizes = np.bincount(holes.ravel())
    fill = hole_sizes < min_hole_px
    fill[0] = False
    return np.asarray(kept | fill[holes])


def _iso_contours(field: FloatArray, level: float, overview: Region, *, min_area_um2: float, min_hole_um2: float) -> Contours:
    """Polygons of the region above a level, holes assigned to the outline around them, cut at the slide's border."""
    import shapely
    from skimage.measure import find_contours

    # Padding repeats the border pixel beyond the slide and then falls off, so that a region at the border closes outside and is cut on it.
    padded = np.pad(np.pad(field, 1, mode="edge"), 1, constant_values=level - 1.0)
    rings = [overview.to_um(line[:, ::-1] - 2.0) for line in find_contours(padded, level) if len(line) >= 4]
    # Even-odd assembly: shapely nests rings by containment.
    area = shapely.build_area(shapely.GeometryCollection([shapely.linearrings(ring) for ring in rings])) if rings else shapely.Polygon()
    (width, height), (half_x, half_y) = overview.grid.slide.size_um, (m / 2.0 for m in overview.grid.slide.mpp)
    area = shapely.intersection(area, shapely.box(-half_x, -half_y, width - half_x, height - half_y))
    polygons = [_without_small_holes(p, min_hole_um2) for p in shapely.get_parts(area) if p.geom_type == "Polygon"]
    polygons = sorted((p for p in polygons if p.area >= min_area_um2), key=lambda p: -p.area)
    return Contours.from_polygons(polygons, frame=overview.grid.slide.frame, source=overview.grid.slide.source)


def _without_small_holes(polygon: Polygon, min_hole_um2: float) -> Polygon:
    import shapely

    return shapely.Polygon(polygon.exterior, [ring for ring in polygon.interiors if shapely.Polygon(ring).area >= min_hole_um2])


def find_sections(slide: Slide, tissue: Contours | None = None, *, gap_um: float = 1_000.0) -> list[Contours]:
    """Group the pieces of tissue on a slide into sections.

    Parameters
    ----------
    slide : Slide
    tissue : Contours or None
        From :func:`find_tissue`; None finds it.
    gap_um : float
        Pieces nearer to each other than this belong together.

    Returns
    -------
    list of Contours
        From left to right (by the left edge), then from top to bottom; the pieces of each keep their order.

    Raises
    ------
    UnitError
        If ``gap_um`` is negative.
    """
    import shapely
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not gap_um >= 0:
        raise UnitError(f"gap_um must be zero or a positive um; got {gap_um} (slide '{slide.name}'). Pass for example gap_um=1000.")
    pieces = find_tissue(slide) if tissue is None else tissue
    polygons = np.array(list(pieces.polygons()), dtype=object)
    if len(polygons) == 0:
        return []
    near = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=gap_um)
    _, group = connected_components(coo_array((np.ones(near.shape[1]), (near[0], near[1])), shape=(len(polygons),) * 2), directed=False)
    sections = [pieces.select(group == g) for g in range(group.max() + 1)]
    return sorted(sections, key=lambda section: section.bounds_um[:2])
