"""The stains of a slide, fitted once for the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from idx._typing import Array, FloatArray, RGBArray
from idx.errors import FormatError, GeometryError
from idx.histology.tissue import glass_colour
from idx.kernels.stain import HE_RUIFROK, MIN_OD, macenko_vectors, optical_density, stain_od
from idx.slide import Contours, Slide
from idx.tiling.overview import read_overview
from idx.tiling.planning import plan
from idx.tiling.running import run

_SAMPLE_TILES = 24
"""Tiles of 256 px that a slide's stains and thresholds are estimated from: 1.5 million pixels, evenly spread over the tissue."""
_GLASS_MPP, _GLASS_PX = 8.0, 512


@dataclass(frozen=True, eq=False)
class StainBasis:
    """Colours of haematoxylin and eosin on one slide.

    Parameters
    ----------
    vectors : array (2, 3)
        Share of optical density in red, green, blue; haematoxylin first.
    white : array (3,)
        Colour of the bare glass, the I0 of optical density.
    method : str
        "ruifrok" or "macenko".
    """

    vectors: FloatArray
    white: FloatArray
    method: str = "ruifrok"

    def __post_init__(self) -> None:
        for name, shape in (("vectors", (2, 3)), ("white", (3,))):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise GeometryError(f"{name} must be finite numbers of shape {shape}; got shape {value.shape} (stain basis). Fit it with fit_stain.")
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def haematoxylin_od(self, rgb: RGBArray) -> Array:
        """Optical density of haematoxylin, float32 (...), of uint8 pixels (..., 3)."""
        return stain_od(rgb, stain=0, vectors=self.vectors, white=self.white)

    def eosin_od(self, rgb: RGBArray) -> Array:
        """Optical density of eosin, float32 (...), of uint8 pixels (..., 3)."""
        return stain_od(rgb, stain=1, vectors=self.vectors, white=self.white)


def fit_stain(slide: Slide, *, within: Contours | None = None, method: Literal["ruifrok", "macenko"] = "ruifrok") -> StainBasis:
    """Colours of the stains of a slide.

    Parameters
    ----------
    slide : Slide
    within : Contours or None
        Tissue to sample; None samples the whole slide.
    method : {"ruifrok", "macenko"}
        Fixed vectors, or vectors estimated from the slide. The glass is measured either way.

    Raises
    ------
    FormatError
        If the method is unknown, or the slide shows too little stain to estimate from.
    """
    white = slide_glass(slide)
    if method == "ruifrok":
        return StainBasis(HE_RUIFROK, white, method)
    if method != "macenko":
        raise FormatError(f"method must be 'ruifrok' or 'macenko'; got '{method}' (slide '{slide.name}'). Pass one of them.")
    density = sample_pixels(slide, within=within, mpp=max(2.0, *slide.mpp), of=lambda rgb: optical_density(rgb, white=white)).reshape(-1, 3)
    stained = density[(density >= MIN_OD).all(axis=1)]
    if len(stained) < 1000:
        raise FormatError(
            f"a slide must show at least 1,000 stained pixels to estimate its stains; got {len(stained)} (slide '{slide.name}'). Pass method='ruifrok'."
        )
    return StainBasis(macenko_vectors(stained), white, method)


def slide_glass(slide: Slide) -> FloatArray:
    """Colour (3,) of the bare glass of a slide, from a picture of it in which alveoli and clefts are still open."""
    # A small field looked at as coarsely as a whole slide would have no pixel of pure glass.
    mpp = min(_GLASS_MPP, max(slide.size_um) / _GLASS_PX)
    return glass_colour(read_overview(slide, mpp=max(mpp, *slide.mpp), progress=False).pixels)


def sample_pixels(slide: Slide, *, within: Contours | None, mpp: float, of: Callable[[RGBArray], Array]) -> Array:
    """Apply ``of`` to at most 24 tiles (y, x, 3) spread evenly over the slide or the contours and return the pixels on the slide, (n, ...).

    The tiles are always the same ones; the white beyond the border is left out.
    """
    grid = plan(slide, size_px=256, mpp=mpp, within=within)
    if len(grid) > _SAMPLE_TILES:
        # Tiles that are mostly tissue tell more; among equals the spread along the plan decides.
        full = np.flatnonzero(grid.tissue_fraction >= 0.5)
        pool = full if len(full) >= _SAMPLE_TILES else np.arange(len(grid))
        chosen = pool[np.linspace(0, len(pool) - 1, _SAMPLE_TILES).round().astype(int)]
        grid = replace(grid, column=grid.column[chosen], row=grid.row[chosen], tissue_fraction=grid.tissue_fraction[chosen])
    tiles = run(lambda batch: list(batch.numpy()), slide, grid, device="cpu", progress=False).values
    stored = slide.levels[grid.level]
    last = np.array([stored.width_px, stored.height_px]) / np.asarray(grid.scale)
    results = []
    for tile, (x, y) in zip(tiles, grid.origin_px, strict=True):
        width, height = np.minimum(last - (x, y), grid.size_px).astype(int)
        if width > 0 and height > 0:
            # Cut before the function sees it: a filter would draw the white in.
            values = of(tile[:height, :width])
            results.append(values.reshape(-1, *values.shape[2:]))
    return np.concatenate(results) if results else np.zeros(0)
