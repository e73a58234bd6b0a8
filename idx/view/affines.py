"""Where layers lie in napari.

napari's world axes here are (z, y, x) of the patient frame in mm, that is the LPS point reversed: array order everywhere, as napari expects.
"""

from __future__ import annotations

import numpy as np

from idx._typing import FloatArray
from idx.geometry import SectionTransform
from idx.geometry.grids import Grid
from idx.slide import Slide

_REVERSE = np.eye(4)[[2, 1, 0, 3]]
"""Reverses the three axes of a homogeneous point: (x, y, z, 1) to (z, y, x, 1) and back."""


def napari_affine(grid: Grid) -> FloatArray:
    """Affine (4, 4) from array index (z, y, x) to napari's world (z, y, x) in mm.

    Examples
    --------
    >>> grid = Grid.from_spacing((4, 5, 6), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0))
    >>> (napari_affine(grid) @ [1, 0, 0, 1]).tolist()
    [33.0, 20.0, 10.0, 1.0]
    """
    result: FloatArray = _REVERSE @ grid.affine @ _REVERSE
    return result


def napari_section_affine(slide: Slide, section: SectionTransform, level: int = 0, *, thickness_mm: float = 1.0) -> FloatArray:
    """Affine (4, 4) of a slide level shown as an image (1, y, x) in napari's world (z, y, x) in mm.

    The first index runs along the section's normal, ``thickness_mm`` a step, so that the matrix can be inverted; the slide fills step 0.
    """
    s = slide.levels[level].downsample
    pixel_to_um = np.eye(4)
    pixel_to_um[:2, :2] = np.diag(np.asarray(slide.mpp) * s)
    pixel_to_um[2, 2] = thickness_mm
    pixel_to_um[:2, 3] = slide.to_um(np.zeros(2), level=level)
    result: FloatArray = _REVERSE @ section.matrix @ pixel_to_um @ _REVERSE
    return result


def napari_slide_affine(slide: Slide, level: int = 0) -> FloatArray:
    """Affine (3, 3) of a slide level shown alone: pixel (y, x) to mm on the slide (y, x)."""
    s = slide.levels[level].downsample
    result = np.eye(3)
    result[:2, :2] = np.diag(np.asarray(slide.mpp)[::-1] * s * 1e-3)
    result[:2, 2] = slide.to_um(np.zeros(2), level=level)[::-1] * 1e-3
    return result
