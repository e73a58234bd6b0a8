"""What a CT would show of a section: its tissue fraction as attenuation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._repr import card, windowed
from idx._typing import Array, BoolArray, FloatArray
from idx.errors import GeometryError, UnitError
from idx.geometry.frames import Frame
from idx.histology.tissue import tissue_density, tissue_threshold
from idx.slide import Contours, Slide
from idx.tiling.overview import read_overview

AIR_HU = -1000.0
"""Air, by definition of the Hounsfield scale."""
TISSUE_HU = 50.0
"""Unenhanced soft tissue: muscle and solid tumour lie between 30 and 60 HU."""
_FINE_UM = 4.0
"""Glass and tissue are told apart at this resolution, far below the 200 um of an alveolus."""


@dataclass(frozen=True, eq=False)
class ExpectedHU:
    """Expected attenuation of a section on a regular grid of the slide's frame.

    Parameters
    ----------
    values_hu : array (y, x)
    tissue_fraction : array (y, x)
        Share of the cell, where it lies on the slide, that is not glass.
    inside : array (y, x) of bool
        Cells whose centre lies within the contours that were given; all without contours.
    spacing_um : float
        Distance of cell centres along x and y.
    origin_um : tuple of float
        Centre (x, y) of the first cell.
    frame : Frame
    """

    values_hu: FloatArray
    tissue_fraction: FloatArray
    inside: BoolArray
    spacing_um: float
    origin_um: tuple[float, float]
    frame: Frame

    def __post_init__(self) -> None:
        for name, dtype in (("values_hu", np.float64), ("tissue_fraction", np.float64), ("inside", np.bool_)):
            value = np.array(getattr(self, name), dtype=dtype)
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def to_um(self, index_px: Array) -> FloatArray:
        """Map cell indices (..., 2) (x, y) to um; an integer is a cell's centre."""
        return np.asarray(index_px, dtype=np.float64) * self.spacing_um + np.asarray(self.origin_um)

    def to_px(self, points_um: Array) -> FloatArray:
        """Map points (..., 2) in um to fractional cell indices (x, y)."""
        return np.asarray((np.asarray(points_um, dtype=np.float64) - np.asarray(self.origin_um)) / self.spacing_um)

    def __repr__(self) -> str:
        height, width = self.values_hu.shape
        return f"ExpectedHU({width} x {height} cells of {self.spacing_um:g} um, {self.values_hu.min():.0f} to {self.values_hu.max():.0f} HU)"

    def _repr_html_(self) -> str:
        rows = [
            ("cells", f"{self.values_hu.shape[1]} x {self.values_hu.shape[0]} of {self.spacing_um:g} um"),
            ("HU", f"{self.values_hu.min():.0f} to {self.values_hu.max():.0f}"),
        ]
        return card("Expected HU", rows, [("-1000 to 100 HU", windowed(self.values_hu, -1000.0, 100.0))])


def expected_hu(slide: Slide, *, mpp: float = 150.0, within: Contours | None = None) -> ExpectedHU:
    """Attenuation that a CT would show of the tissue on a slide.

    Parameters
    ----------
    slide : Slide
    mpp : float
        Side of a cell in um; 100 to 250 suits a CT.
    within : Contours or None
        Marks the cells that count (``inside``); values are given for all.

    Returns
    -------
    ExpectedHU

    Raises
    ------
    UnitError
        If ``mpp`` is not at least the resolution at which glass and tissue are told apart.
    GeometryError
        If the contours lie in another frame.

    Notes
    -----
    Attenuation is linear in what fills a voxel: of a cell whose fraction t is tissue and the rest air, HU = (1 - t)(-1000) + t * 50
    = -1000 + 1050 t. Lung collapses and shrinks when it is cut and fixed, and what was air may be fluid in the patient, so the map
    ranks places (air against tissue) better than it predicts their HU.
    """
    fine_um = max(_FINE_UM, *slide.mpp)
    if not (np.isfinite(mpp) and mpp >= fine_um):
        raise UnitError(f"mpp must be at least {fine_um:.4g} um per cell; got {mpp} (slide '{slide.name}'). Pass for example mpp=150.")
    if within is not None and within.frame != slide.frame:
        raise GeometryError(
            f"contours must lie in the slide's frame; got {within.frame} for {slide.frame} (slide '{slide.name}'). Map them to this slide first."
        )
    overview = read_overview(slide, mpp=fine_um)
    density = tissue_density(overview.pixels)
    is_tissue = density > tissue_threshold(density)
    # Cells begin at the slide's corner, half a level-0 pixel before the first centre.
    fraction = _cell_means(_cell_means(is_tissue.astype(np.float64), mpp / overview.mpp[1]).T, mpp / overview.mpp[0]).T
    origin = (mpp / 2.0 - slide.mpp[0] / 2.0, mpp / 2.0 - slide.mpp[1] / 2.0)
    inside = np.ones(fraction.shape, dtype=bool) if within is None else _centres_within(fraction.shape, origin, mpp, within)
    return ExpectedHU(AIR_HU + fraction * (TISSUE_HU - AIR_HU), fraction, inside, float(mpp), origin, slide.frame)


def _cell_means(values: FloatArray, scale: float) -> FloatArray:
    """Mean over cells of ``scale`` rows (any number of at least 1), exact for fractions of rows; the last cell holds what is left."""
    n = len(values)
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    edges = np.minimum(np.arange(int(np.ceil(n / scale - 1e-9)) + 1) * scale, n)
    whole = np.minimum(edges.astype(int), n - 1)
    at_edges = total[whole] + (edges - whole)[:, None] * values[whole]
    return np.asarray(np.diff(at_edges, axis=0) / np.diff(edges)[:, None])


def _centres_within(shape: tuple[int, ...], origin: tuple[float, float], step: float, within: Contours) -> BoolArray:
    import shapely

    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] * step
    union = shapely.union_all([shapely.make_valid(polygon) for polygon in within.polygons()])
    shapely.prepare(union)
    return np.asarray(shapely.contains_xy(union, x + origin[0], y + origin[1]))
