"""Sampling grids: how array indices (z, y, x) become points (x, y, z) in mm.

The reversal between array order and point order lives in this module's :func:`point_order` and :func:`array_order` only.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idx._typing import FloatArray, Triple
from idx.errors import GeometryError
from idx.geometry.affine import apply_homogeneous, checked_points, inverse_matrix, is_singular, readonly
from idx.geometry.frames import PATIENT, Frame

SAME_GRID_TOLERANCE_MM = 1e-3
"""Two grids are one when no corner differs by more than this: a thousandth of a mm is below any scanner's table feed."""

UNIT_VECTOR_TOLERANCE = 1e-3
"""Direction cosines in headers are rounded decimals; a larger deviation from length 1 is a mistake, not rounding."""


def point_order(zyx: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Reverse the last axis from array order ([z,] y, x) to point order (x, y[, z]).

    Examples
    --------
    >>> point_order([3, 2, 1]).tolist()
    [1, 2, 3]
    """
    return np.asarray(zyx)[..., ::-1]


def array_order(xyz: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Reverse the last axis from point order (x, y[, z]) to array order ([z,] y, x)."""
    return np.asarray(xyz)[..., ::-1]


def level0_position(index: npt.ArrayLike, downsample: float) -> FloatArray:
    """Level-0 pixel position of the pixel centre ``index`` of a level that is ``downsample`` times coarser.

    Notes
    -----
    An integer index is a pixel centre, so ``x0 = s*i + (s-1)/2``: ``i*s`` would be biased by half a pixel of the coarser level.

    Examples
    --------
    >>> level0_position(0, 4.0).item()
    1.5
    """
    result: FloatArray = np.asarray(index, dtype=np.float64) * downsample + (downsample - 1.0) / 2.0
    return result


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular 3-D sampling grid in a frame.

    Parameters
    ----------
    shape : tuple of int
        Number of samples (z, y, x).
    affine : array (4, 4)
        Maps index (x, y, z) to a point of ``frame`` in mm; an integer index is a voxel centre.
    frame : Frame
        Frame of the points.

    Examples
    --------
    >>> grid = Grid.from_spacing((4, 5, 6), (1.0, 1.0, 2.5))
    >>> grid.to_physical([1, 0, 0]).tolist()
    [0.0, 0.0, 2.5]
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    frame: Frame = PATIENT

    def __post_init__(self) -> None:
        # operator.index refuses 3.7 slices, which int() would cut to 3.
        shape = tuple(operator.index(n) for n in self.shape)
        affine = readonly(self.affine)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"grid shape must be three positive counts (z, y, x); got {self.shape}. Check the array.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], (0.0, 0.0, 0.0, 1.0)):
            raise GeometryError(f"grid affine must be a finite 4x4 matrix with last row 0 0 0 1; got {affine.tolist()}. Check its source.")
        if is_singular(affine[:3, :3]):
            raise GeometryError(f"grid affine must be invertible; got {affine.tolist()}. Check spacing and direction.")
        if self.frame.ndim != 3 or self.frame.unit != "mm":
            raise GeometryError(f"grid frame must have three axes in mm; got {self.frame}. Use PATIENT or a Frame in mm.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(
        cls,
        shape: tuple[int, int, int],
        spacing_mm: Triple,
        origin_mm: Triple = (0.0, 0.0, 0.0),
        *,
        direction: npt.ArrayLike | None = None,
        frame: Frame = PATIENT,
    ) -> Grid:
        """Build a grid from its shape (z, y, x), spacing (x, y, z) in mm, origin (x, y, z) and direction cosines (3, 3), columns = axes.

        Raises
        ------
        GeometryError
            If the spacing is not positive or a direction is not a unit vector within ``UNIT_VECTOR_TOLERANCE``.
        """
        if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
            raise GeometryError(f"spacing must be three positive mm (x, y, z); got {spacing_mm}. Check the image header.")
        cosines = np.eye(3) if direction is None else np.asarray(direction, dtype=np.float64)
        lengths = np.linalg.norm(cosines, axis=0)
        if cosines.shape != (3, 3) or not np.all(np.abs(lengths - 1.0) <= UNIT_VECTOR_TOLERANCE):
            raise GeometryError(f"direction must be three unit vectors as columns; got {cosines.tolist()}. Check the image header.")
        affine = np.eye(4)
        # Headers print cosines to a few digits: renormalised, the spacing is the one that was given.
        affine[:3, :3] = cosines / lengths * np.asarray(spacing_mm, dtype=np.float64)
        affine[:3, 3] = origin_mm
        return cls(shape, affine, frame)

    @property
    def spacing_mm(self) -> Triple:
        """Distance between neighbouring voxel centres (x, y, z) in mm."""
        x, y, z = (float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z

    @property
    def origin_mm(self) -> Triple:
        """Centre of the first voxel (x, y, z) in mm."""
        x, y, z = (float(c) for c in self.affine[:3, 3])
        return x, y, z

    @property
    def direction(self) -> FloatArray:
        """Unit vectors of the index axes (x, y, z) as columns, (3, 3)."""
        result: FloatArray = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return result

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def centre_mm(self) -> Triple:
        """Middle of the grid (x, y, z) in mm."""
        x, y, z = (float(c) for c in self.to_physical((np.asarray(self.shape) - 1) / 2.0))
        return x, y, z

    def to_physical(self, index_zyx: npt.ArrayLike) -> FloatArray:
        """Map indices (..., 3) in array order (z, y, x) to points (..., 3) in mm (x, y, z)."""
        index = checked_points(index_zyx, 3, "index of a grid")
        return apply_homogeneous(self.affine, np.asarray(point_order(index), dtype=np.float64))

    def to_index(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (..., 3) in mm (x, y, z) to fractional indices (..., 3) in array order (z, y, x)."""
        points = checked_points(points_mm, 3, str(self.frame))
        return np.asarray(array_order(apply_homogeneous(inverse_matrix(self.affine), points)), dtype=np.float64)

    def crop(self, start_zyx: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """Return the grid of the sub-array that starts at an index (z, y, x) and has a shape (z, y, x)."""
        affine = np.array(self.affine)
        affine[:3, 3] = self.to_physical(start_zyx)
        return Grid(shape, affine, self.frame)

    def is_close(self, other: Grid, *, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
        """Whether both grids have one shape and frame and no corner differs by more than the tolerance in mm."""
        if self.shape != other.shape or self.frame != other.frame:
            return False
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), axis=-1).reshape(-1, 3)
        distance = np.linalg.norm(self.to_physical(corners) - other.to_physical(corners), axis=-1)
        return bool(distance.max() <= tolerance_mm)

    def __repr__(self) -> str:
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing_mm)
        z, y, x = self.shape
        return f"Grid({x} x {y} x {z} voxels of {spacing} mm (x, y, z), frame {self.frame.name})"
