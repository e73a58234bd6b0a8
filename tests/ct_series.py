"""A small CT with random HU, and a box in it, that several tests write as DICOM."""

import numpy as np

from idx.geometry.grids import Grid
from idx.volume import CTVolume, Mask

SHAPE, SPACING_MM, ORIGIN_MM = (6, 34, 36), (0.7, 0.8, 2.5), (-12.5, 8.25, -100.0)


def ct_of(seed=0, *, grid=None):
    grid = grid or Grid.from_spacing(SHAPE, SPACING_MM, ORIGIN_MM)
    return CTVolume(np.random.default_rng(seed).integers(-1024, 3000, grid.shape).astype(np.int16), grid)


def box_mask():
    values = np.zeros(SHAPE, dtype=bool)
    values[2:4, 10:20, 12:22] = True
    return Mask(values, ct_of().grid, label="GTV")
