"""Peaks of the mean intensity in a sphere of 1 cm3 (IBSI 9ST6)."""

from __future__ import annotations

import numpy as np

from idx.kernels.engine import Engine
from idx.radiomics.preparation import Region
from idx.table import Missing

PEAK_RADIUS_MM = (3.0 / (4.0 * np.pi)) ** (1.0 / 3.0) * 10.0
"""Radius of a sphere of 1 cm3, 6.2 mm."""


def local_intensity_features(region: Region, engine: Engine) -> dict[str, float | Missing]:
    """Measure the local and the global intensity peak (IBSI VJGA and 0F91).

    Parameters
    ----------
    region : Region
        With its surroundings up to ``PEAK_RADIUS_MM``: voxels outside the lesion count in the spheres, those outside the image do not.
    engine : Engine
    """
    placed = np.zeros(region.around.shape, dtype=bool)
    placed[region.inner] = region.intensity_mask
    means = engine.sphere_means(region.around, placed, region.spacing_mm, PEAK_RADIUS_MM)
    intensities = region.intensities
    return {"local_intensity_peak": float(means[intensities == intensities.max()].max()), "global_intensity_peak": float(means.max())}
