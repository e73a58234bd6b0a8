"""What a slide shows that a CT shows too: tissue, the lesion's outline and the attenuation to expect, at points a mm apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from idx._typing import Array, BoolArray, FloatArray, Pair
from idx.errors import GeometryError
from idx.geometry.affine import readonly
from idx.slide import Contours

SOLID_HU = -400.0
"""Between aerated lung (about -800) and soft tissue (about 40): denser than this is taken for lesion where no outline is given."""
RASTER_POINTS = 1600
"""Points of the fine raster; at 40 mm tissue about one per 1.2 mm."""
RASTER_MARGIN = 0.12
"""Margin around the tissue, as a fraction of its size: lesion that a pose puts beside the tissue must count against it."""
SUBSAMPLES = 3
"""Per axis; the lesion and tissue fractions of a raster point are means over this many points squared."""
SMOOTHING_FRACTION = 0.04
"""Slide and CT are smoothed before they are compared, with a Gaussian of this fraction of the tissue's root mean square radius, at least 0.4 raster steps."""
N_BLOCKS_ACROSS = 6
"""Blocks per axis that are resampled to judge scores: wide enough that neighbours err independently."""


@dataclass(frozen=True, eq=False)
class SectionMaps:
    """Maps of a slide, for registration.

    Parameters
    ----------
    tissue : Contours
        Outline of the section's tissue, um.
    lesion : Contours or None
        Outline of the lesion (tumour) on the slide; None lets it be derived from ``expected_hu``.
    expected_hu : array (y, x) or None
        Attenuation that the section would have in the CT, HU; NaN outside the tissue.
    origin_um : (x, y)
        Centre of the first pixel of ``expected_hu`` in the slide's frame.
    pixel_um : (x, y)
        Pixel size of ``expected_hu``.

    Raises
    ------
    GeometryError
        If the tissue is empty or the image is not two-dimensional.
    """

    tissue: Contours
    lesion: Contours | None = None
    expected_hu: FloatArray | None = None
    origin_um: Pair = (0.0, 0.0)
    pixel_um: Pair = (1000.0, 1000.0)

    def __post_init__(self) -> None:
        if len(self.tissue) == 0:
            raise GeometryError(f"section tissue must have at least one outline; got none ({self.tissue.frame}). Check find_tissue on this slide.")
        if self.lesion is not None and self.lesion.frame != self.tissue.frame:
            raise GeometryError(f"tissue and lesion must be outlined on one slide; got {self.tissue.frame} and {self.lesion.frame}. Read both with slide=.")
        if self.expected_hu is not None:
            values = readonly(self.expected_hu)
            if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).any():
                raise GeometryError(
                    f"expected_hu must be an image (y, x) with finite values in the tissue; got shape {values.shape}. Use idx.histology.expected_hu."
                )
            if min(self.pixel_um) <= 0:
                raise GeometryError(f"pixel_um must be two positive um (x, y); got {self.pixel_um} (expected_hu). Give the image's pixel size.")
            object.__setattr__(self, "expected_hu", values)

    def hu_at(self, points_um: FloatArray, smoothing_um: float) -> FloatArray:
        """Expected HU (n,) at points (n, 2), averaged with a Gaussian of standard deviation ``smoothing_um``; NaN where the image has no tissue."""
        if self.expected_hu is None:
            return np.full(len(points_um), np.nan)
        return self._smoothed(self.expected_hu, points_um, smoothing_um)

    def _smoothed(self, values: Array, points_um: FloatArray, smoothing_um: float) -> FloatArray:
        known = np.isfinite(values)
        sigma = [smoothing_um / p for p in reversed(self.pixel_um)]
        # Normalised convolution: pixels without tissue neither count nor spread.
        total = ndimage.gaussian_filter(np.where(known, values, 0.0), sigma)
        weight = ndimage.gaussian_filter(known.astype(np.float64), sigma)
        index = ((points_um - np.asarray(self.origin_um)) / np.asarray(self.pixel_um))[:, ::-1].T
        total, weight = (ndimage.map_coordinates(image, index, order=1, mode="constant") for image in (total, weight))
        return np.where(weight > 0.05, total / np.maximum(weight, 0.05), np.nan)


@dataclass(frozen=True, eq=False)
class SectionPoints:
    """A raster of slide points with what is known at each.

    Parameters
    ----------
    reference_um : array (2,)
        Centre of the lesion on the slide; the points are relative to it.
    points_mm : array (n, 2)
    lesion : array (n,)
        Fraction of the point's cell inside the lesion's outline.
    tissue : array (n,)
        Fraction inside the tissue where an expected HU is known, else 0.
    hu : array (n,)
        Expected HU; 0 where ``tissue`` is 0.
    spacing_mm : float
    smoothing_mm : float
        Standard deviation of the Gaussian that made ``hu`` smooth.
    block : array (n,)
        Number of the block each point belongs to.
    lesion_source : str
        Where the outline came from, in words.
    """

    reference_um: FloatArray
    points_mm: FloatArray
    lesion: FloatArray
    tissue: FloatArray
    hu: FloatArray
    spacing_mm: float
    smoothing_mm: float
    block: Array
    lesion_source: str

    @property
    def area_mm2(self) -> float:
        """Area of the lesion on the slide."""
        return float(self.lesion.sum()) * self.spacing_mm**2

    @property
    def has_hu(self) -> bool:
        """Whether expected HU is known anywhere."""
        return bool(self.tissue.any())

    @property
    def is_inside(self) -> BoolArray:
        """Whether each point (n,) belongs to the tissue or the lesion: where errors are measured."""
        return (self.tissue > 0.5) | (self.lesion > 0.5)

    @property
    def inside_mm(self) -> FloatArray:
        """Points of the tissue or the lesion (m, 2)."""
        return self.points_mm[self.is_inside]

    @property
    def radius_mm(self) -> float:
        """Root mean square distance of the tissue from the reference point."""
        return float(np.sqrt((self.inside_mm**2).sum(1).mean()))


def section_points(maps: SectionMaps, *, n_points: int = RASTER_POINTS, reference_um: FloatArray | None = None) -> SectionPoints:
    """Lay a raster of about ``n_points`` over the tissue and read the maps there; the reference is the lesion's centroid unless given."""
    left, top, right, bottom = maps.tissue.bounds_um
    margin = RASTER_MARGIN * max(right - left, bottom - top)
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    spacing = float(np.sqrt(width * height / n_points))
    x, y = (low - margin + spacing * (np.arange(max(1, round(size / spacing))) + 0.5) for low, size in ((left, width), (top, height)))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    tissue = _coverage(maps.tissue, points, spacing)
    centred = points[tissue > 0.5] - points[tissue > 0.5].mean(axis=0) if (tissue > 0.5).any() else points
    smoothing = max(SMOOTHING_FRACTION * float(np.sqrt((centred**2).sum(1).mean())), 0.4 * spacing)
    hu = maps.hu_at(points, smoothing)
    if maps.lesion is not None:
        lesion, source = _coverage(maps.lesion, points, spacing), "outline given"
    else:
        lesion, source = _dense_region(hu, tissue, (len(y), len(x))), f"derived: largest region of the slide with expected HU above {SOLID_HU:g}"
    known = np.isfinite(hu) & (tissue > 0.5)
    if reference_um is None:
        reference_um = (points * lesion[:, None]).sum(0) / lesion.sum() if lesion.any() else points.mean(0)
    span = max(width, height)
    columns, rows = (((points[:, k] - low + margin) / span * N_BLOCKS_ACROSS).astype(int) for k, low in ((0, left), (1, top)))
    return SectionPoints(
        reference_um,
        (points - reference_um) * 1e-3,
        lesion,
        np.where(known, tissue, 0.0),
        np.where(known, hu, 0.0),
        spacing * 1e-3,
        smoothing * 1e-3,
        np.unique(rows * N_BLOCKS_ACROSS + columns, return_inverse=True)[1],
        source,
    )


def _coverage(contours: Contours, points_um: FloatArray, spacing_um: float) -> FloatArray:
    """Fraction (n,) of a square cell around each point that lies inside contours."""
    import shapely

    area = shapely.union_all([shapely.make_valid(p) for p in contours.polygons()])
    shapely.prepare(area)
    steps = ((np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5) * spacing_um
    inside = [shapely.contains_xy(area, points_um[:, 0] + dx, points_um[:, 1] + dy) for dx in steps for dy in steps]
    return np.mean(inside, axis=0)


def _dense_region(hu: FloatArray, tissue: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Largest connected region (n,) of solid tissue as 0 or 1, its holes filled."""
    dense = (np.nan_to_num(hu, nan=-1000.0) > SOLID_HU) & (tissue > 0.5)
    labels, n_regions = ndimage.label(dense.reshape(shape))
    if n_regions == 0:
        return np.zeros(len(hu))
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return ndimage.binary_fill_holes(largest).ravel().astype(np.float64)
