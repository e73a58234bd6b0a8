"""One array orientation for every format: axes nearest to x (left), y (posterior), z (head)."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from idx._typing import Array, FloatArray
from idx.errors import GeometryError
from idx.geometry.grids import Grid

PERPENDICULAR_TOLERANCE = 1e-4
"""Largest cosine between two axes of one image: 0.006 degrees, 0.05 mm over 500 mm, far above the rounding of float32 headers."""


def to_patient_axes(values: Array, affine: FloatArray, *, where: str) -> tuple[Array, Grid]:
    """Permute and flip the axes of an array so that they run nearest to the patient's.

    Parameters
    ----------
    values : array (z, y, x)
        Any dtype, axes in reverse order of the affine's columns.
    affine : array (4, 4)
        Index (x, y, z) to LPS mm.
    where : str
        File, for the error.

    Returns
    -------
    values : array (z, y, x)
        A view of the input: no value is interpolated or changed.
    grid : Grid
        Frame patient; x runs most nearly to the left, y to the posterior and z to the head.

    Raises
    ------
    GeometryError
        If the axes are not perpendicular, as in a CT of a tilted gantry.

    Notes
    -----
    A file stored feet first or mirrored and its DICOM original thus give one array, and index z always grows towards the head.

    Examples
    --------
    >>> mirrored = np.diag([-2.0, 2.0, 2.0, 1.0])
    >>> values, grid = to_patient_axes(np.arange(3).reshape(1, 1, 3), mirrored, where="example")
    >>> values.ravel().tolist(), grid.origin_mm
    ([2, 1, 0], (-4.0, 0.0, 0.0))
    """
    affine = np.asarray(affine, dtype=np.float64)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise GeometryError(
            f"image axes must be finite and independent; got affine {affine.tolist()} ('{where}'). Repair the spacing and direction in the file."
        )
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    _require_perpendicular(cosines, where)
    # Entry p[k] is the image axis that runs nearest to patient axis k.
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[k, p[k]]) for k in range(3)))
    turned = np.array(affine)
    turned[:3, :3] = affine[:3, list(order)]
    values = values.transpose([2 - order[2 - axis] for axis in range(3)])
    for k in range(3):
        if turned[k, k] < 0:
            turned[:3, 3] += turned[:3, k] * (values.shape[2 - k] - 1)
            turned[:3, k] *= -1.0
            values = np.flip(values, axis=2 - k)
    return values, Grid(values.shape, turned)


def _require_perpendicular(cosines: FloatArray, where: str) -> None:
    gram = np.abs(cosines.T @ cosines - np.eye(3))
    if gram.max() > PERPENDICULAR_TOLERANCE:
        first, second = np.unravel_index(int(np.argmax(gram)), gram.shape)
        angle = np.degrees(np.arccos(np.clip(cosines[:, first] @ cosines[:, second], -1.0, 1.0)))
        raise GeometryError(
            f"image axes must be perpendicular; got {angle:.2f} degrees between axes {'xyz'[min(first, second)]} and {'xyz'[max(first, second)]} ('{where}'): "
            "a tilted gantry or a shear. Resample the image to perpendicular axes first (dcm2niix corrects a gantry tilt)."
        )
