"""Affine transforms between frames, and the small matrix functions they rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idx._typing import FloatArray
from idx.errors import GeometryError
from idx.geometry.frames import Frame

SINGULAR_RTOL = 1e-12
"""A matrix whose smallest singular value is below this fraction of its largest has no usable inverse."""


def readonly(values: npt.ArrayLike) -> FloatArray:
    """Return a float64 copy that cannot be written to."""
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def apply_homogeneous(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """Apply an (n+1, n+1) matrix to points (..., n).

    Examples
    --------
    >>> apply_homogeneous(np.array([[2.0, 0, 1], [0, 2, 0], [0, 0, 1]]), np.array([3.0, 4.0])).tolist()
    [7.0, 8.0]
    """
    result: FloatArray = points @ matrix[:-1, :-1].T + matrix[:-1, -1]
    return result


def inverse_matrix(matrix: FloatArray) -> FloatArray:
    """Inverse of a homogeneous matrix, whose last row is exactly 0..0 1.

    Examples
    --------
    >>> inverse_matrix(np.array([[2.0, 0, 1], [0, 4, 2], [0, 0, 1]])).tolist()
    [[0.5, 0.0, -0.5], [0.0, 0.25, -0.5], [0.0, 0.0, 1.0]]
    """
    n = len(matrix) - 1
    result: FloatArray = np.eye(n + 1)
    result[:n, :n] = np.linalg.inv(matrix[:n, :n])
    result[:n, n] = -result[:n, :n] @ matrix[:n, n]
    return result


def is_singular(matrix: FloatArray) -> bool:
    """Whether a matrix has no usable inverse (see ``SINGULAR_RTOL``)."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    return bool(singular[-1] <= SINGULAR_RTOL * singular[0])


def checked_points(points: npt.ArrayLike, ndim: int, what: str) -> FloatArray:
    """Return points as float64 (..., ndim), or raise where the last axis does not fit."""
    array = np.asarray(points, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != ndim:
        raise GeometryError(f"points must have shape (..., {ndim}); got {array.shape} ({what}). Pass one row per point in (x, y[, z]) order.")
    return array


def split_distance(points: npt.ArrayLike, ndim: int, what: str) -> tuple[FloatArray, FloatArray | None]:
    """Split section coordinates (u, v, signed distance) into in-plane points and the distance.

    A point of a volume that was mapped to a section carries its distance from the plane as a third component;
    2-D transforms move (u, v) and hand the distance through.
    """
    array = np.asarray(points, dtype=np.float64)
    if ndim == 2 and array.ndim > 0 and array.shape[-1] == 3:
        return array[..., :2], array[..., 2:]
    return checked_points(array, ndim, what), None


def join_distance(points: FloatArray, distance: FloatArray | None) -> FloatArray:
    """Put the distance that :func:`split_distance` took off back on."""
    return points if distance is None else np.concatenate([points, distance], axis=-1)


@dataclass(frozen=True, eq=False)
class AffineTransform:
    """Affine map of source points to target points.

    Parameters
    ----------
    matrix : array (n+1, n+1)
        Homogeneous matrix for n = 2 or 3, in (x, y[, z]) order.
    source, target : Frame
        Frames of n axes.

    Raises
    ------
    GeometryError
        If the matrix is singular, not finite, or does not fit the frames.
    """

    matrix: FloatArray
    source: Frame
    target: Frame

    def __post_init__(self) -> None:
        matrix = readonly(self.matrix)
        n = self.source.ndim
        if self.target.ndim != n or matrix.shape != (n + 1, n + 1):
            raise GeometryError(
                f"affine matrix must be {(n + 1, n + 1)} for {n}-D frames; got {matrix.shape} ({self.source} -> {self.target}). "
                "Use SectionTransform to place a 2-D section in 3-D."
            )
        if not np.isfinite(matrix).all() or not np.array_equal(matrix[-1], np.eye(n + 1)[-1]):
            raise GeometryError(f"affine matrix must be finite with last row 0..0 1; got {matrix.tolist()} ({self.source} -> {self.target}). Check its source.")
        if is_singular(matrix[:-1, :-1]):
            raise GeometryError(f"affine matrix must be invertible; got {matrix.tolist()} ({self.source} -> {self.target}). Check spacing and direction.")
        object.__setattr__(self, "matrix", matrix)

    @property
    def is_numerical(self) -> bool:
        """Whether applying it iterates; never for an affine map."""
        return False

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points (..., n); for n = 2 a third component (distance from the section, mm) is handed through."""
        plane, distance = split_distance(points, self.source.ndim, f"{self.source} -> {self.target}")
        return join_distance(apply_homogeneous(self.matrix, plane), distance)

    def inverse(self) -> AffineTransform:
        """Return the exact inverse."""
        return AffineTransform(inverse_matrix(self.matrix), self.target, self.source)
