"""Sections of a volume, displacement fields, and how transforms compose.

Every transform maps source points to target points. Compose once (:func:`compose`), interpolate once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from idx._typing import FloatArray
from idx.errors import GeometryError
from idx.geometry.affine import (
    AffineTransform,
    apply_homogeneous,
    checked_points,
    inverse_matrix,
    is_singular,
    join_distance,
    readonly,
    split_distance,
)
from idx.geometry.frames import Frame
from idx.geometry.grids import array_order

INVERSE_TOLERANCE = 1e-9
"""A numerical inverse stops when its residual is below this many units of the frame (mm or um)."""
INVERSE_ITERATIONS = 200


@runtime_checkable
class Transform(Protocol):
    """What every transform offers."""

    @property
    def source(self) -> Frame:
        """Frame of the points that go in."""
        ...

    @property
    def target(self) -> Frame:
        """Frame of the points that come out."""
        ...

    @property
    def is_numerical(self) -> bool:
        """Whether applying it iterates to a tolerance instead of evaluating a formula."""
        ...

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points (..., n) of the source frame."""
        ...

    def inverse(self) -> Transform:
        """Return the transform from target to source."""
        ...


@dataclass(frozen=True, eq=False)
class SectionTransform:
    """Places a plane (a slide) in a volume (a CT).

    ``p = origin_mm + (u, v) @ axes.T + distance_mm * normal``.

    Parameters
    ----------
    axes : array (3, 2)
        Columns: change of the target point (x, y, z) in mm for one unit of u and of v. They carry scale, shear and mirror.
    origin_mm : array (3,)
        Target point of the source origin.
    source, target : Frame
        A 2-D frame and a 3-D frame in mm.

    Raises
    ------
    GeometryError
        If the axes are parallel, not finite, or do not fit the frames.

    Examples
    --------
    >>> from idx.geometry.frames import PATIENT, SLIDE
    >>> section = SectionTransform(np.array([[1e-3, 0], [0, 1e-3], [0, 0]]), np.array([0.0, 0, 40]), SLIDE, PATIENT)
    >>> section.apply([2000.0, 1000.0]).tolist()
    [2.0, 1.0, 40.0]
    >>> section.inverse().apply([2.0, 1.0, 43.0]).round(6).tolist()
    [2000.0, 1000.0, 3.0]
    """

    axes: FloatArray
    origin_mm: FloatArray
    source: Frame
    target: Frame

    def __post_init__(self) -> None:
        axes, origin = readonly(self.axes), readonly(self.origin_mm)
        where = f"{self.source} -> {self.target}"
        if self.source.ndim != 2 or self.target.ndim != 3 or self.target.unit != "mm":
            raise GeometryError(f"a section must map a 2-D frame to a 3-D frame in mm; got {where}. Use AffineTransform between frames of one dimension.")
        if axes.shape != (3, 2) or origin.shape != (3,) or not (np.isfinite(axes).all() and np.isfinite(origin).all()):
            raise GeometryError(f"section axes must be finite (3, 2) and origin (3,); got {axes.tolist()}, {origin.tolist()} ({where}). Check its source.")
        if is_singular(axes):
            raise GeometryError(f"section axes must span a plane; got {axes.tolist()} ({where}). Check the landmarks that it was fitted to.")
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "origin_mm", origin)

    @property
    def is_numerical(self) -> bool:
        """Whether applying it iterates; never for a section."""
        return False

    @property
    def normal(self) -> FloatArray:
        """Unit normal (3,), right-handed with the axes: a mirrored section has the opposite normal."""
        cross = np.cross(self.axes[:, 0], self.axes[:, 1])
        result: FloatArray = cross / np.linalg.norm(cross)
        return result

    @property
    def matrix(self) -> FloatArray:
        """Homogeneous (4, 4) matrix from (u, v, distance in mm) to the target point."""
        matrix = np.eye(4)
        matrix[:3, :2], matrix[:3, 2], matrix[:3, 3] = self.axes, self.normal, self.origin_mm
        return matrix

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map (..., 2) in-plane points, or (..., 3) with a signed distance from the plane in mm, to (..., 3)."""
        plane, distance = split_distance(points, 2, f"{self.source} -> {self.target}")
        if distance is None:
            distance = np.zeros((*plane.shape[:-1], 1))
        return apply_homogeneous(self.matrix, np.concatenate([plane, distance], axis=-1))

    def inverse(self) -> SectionInverse:
        """Return the map from the volume to (u, v, signed distance in mm)."""
        return SectionInverse(self)


@dataclass(frozen=True, eq=False)
class SectionInverse:
    """Maps points of a volume to a section: (u, v) of the foot of the perpendicular and the signed distance in mm."""

    section: SectionTransform

    @property
    def source(self) -> Frame:
        """The volume's frame."""
        return self.section.target

    @property
    def target(self) -> Frame:
        """The section's frame."""
        return self.section.source

    @property
    def is_numerical(self) -> bool:
        """Whether applying it iterates; never for a plane."""
        return False

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points (..., 3) in mm to (..., 3): u, v in the section's unit and the signed distance in mm."""
        array = checked_points(points, 3, f"{self.source} -> {self.target}")
        return apply_homogeneous(inverse_matrix(self.section.matrix), array)

    def inverse(self) -> SectionTransform:
        """Return the section itself."""
        return self.section


@dataclass(frozen=True, eq=False)
class DisplacementTransform:
    """Adds a displacement that is interpolated linearly from a regular grid and held constant beyond its border.

    Parameters
    ----------
    displacement : array (y, x, 2) or (z, y, x, 3)
        Displacement (x, y[, z]) in the source frame's unit at each grid node.
    index_to_source : array (n+1, n+1)
        Maps node index (x, y[, z]) to the source point.
    source, target : Frame
        Frames of n axes and one unit.
    """

    displacement: FloatArray
    index_to_source: FloatArray
    source: Frame
    target: Frame

    def __post_init__(self) -> None:
        displacement, matrix = readonly(self.displacement), readonly(self.index_to_source)
        n, where = self.source.ndim, f"{self.source} -> {self.target}"
        if self.target.ndim != n or self.target.unit != self.source.unit:
            raise GeometryError(f"a displacement must join frames of one dimension and unit; got {where}. Put an AffineTransform between them.")
        if displacement.ndim != n + 1 or displacement.shape[-1] != n or min(displacement.shape[:-1]) < 2 or not np.isfinite(displacement).all():
            raise GeometryError(
                f"displacement must be a finite array of {n} axes with at least two nodes each, and {n} components last; "
                f"got shape {displacement.shape} ({where}). Check the field."
            )
        fits = matrix.shape == (n + 1, n + 1) and bool(np.isfinite(matrix).all()) and np.array_equal(matrix[-1], np.eye(n + 1)[-1])
        if not fits or is_singular(matrix[:-1, :-1]):
            raise GeometryError(
                f"index_to_source must be a finite, invertible {(n + 1, n + 1)} matrix with last row 0..0 1; "
                f"got {matrix.tolist()} ({where}). Check spacing and origin."
            )
        object.__setattr__(self, "displacement", displacement)
        object.__setattr__(self, "index_to_source", matrix)

    @property
    def is_numerical(self) -> bool:
        """Whether applying it iterates; the forward direction does not."""
        return False

    def displacement_at(self, points: npt.ArrayLike) -> FloatArray:
        """Displacement (..., n) at points (..., n)."""
        array = checked_points(points, self.source.ndim, f"{self.source} -> {self.target}")
        index = np.asarray(array_order(apply_homogeneous(inverse_matrix(self.index_to_source), array)), dtype=np.float64)
        # A single point has no axis of points: map_coordinates wants one.
        coordinates = index.reshape(-1, self.source.ndim).T
        components = [ndimage.map_coordinates(self.displacement[..., k], coordinates, order=1, mode="nearest") for k in range(self.source.ndim)]
        return np.stack(components, axis=-1).reshape(array.shape)

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points (..., n); for n = 2 a third component (distance from the section, mm) is handed through."""
        plane, distance = split_distance(points, self.source.ndim, f"{self.source} -> {self.target}")
        return join_distance(plane + self.displacement_at(plane), distance)

    def jacobian_determinant(self) -> FloatArray:
        """Local change of area or volume at each node, by central differences; zero or less means folding."""
        n = self.source.ndim
        step = np.linalg.inv(self.index_to_source[:n, :n])
        # gradients[..., i, j]: derivative of displacement component i with respect to index axis j in (x, y[, z]) order.
        gradients = np.stack([np.gradient(self.displacement, axis=axis) for axis in reversed(range(n))], axis=-1)
        result: FloatArray = np.linalg.det(np.eye(n) + gradients @ step)
        return result

    def inverse(self) -> NumericalInverse:
        """Return the inverse, which iterates (``is_numerical``)."""
        return NumericalInverse(self)


@dataclass(frozen=True, eq=False)
class NumericalInverse:
    """Inverse of a displacement by fixed-point iteration, exact to ``INVERSE_TOLERANCE``."""

    forward: DisplacementTransform

    @property
    def source(self) -> Frame:
        """Target frame of the forward transform."""
        return self.forward.target

    @property
    def target(self) -> Frame:
        """Source frame of the forward transform."""
        return self.forward.source

    @property
    def is_numerical(self) -> bool:
        """Always: each point is found by iteration."""
        return True

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points (..., n).

        Raises
        ------
        GeometryError
            If a point does not converge, as happens where the field folds.
        """
        wanted, distance = split_distance(points, self.source.ndim, f"{self.source} -> {self.target}")
        found = wanted - self.forward.displacement_at(wanted)
        for _ in range(INVERSE_ITERATIONS):
            residual = wanted - found - self.forward.displacement_at(found)
            if residual.size == 0 or float(np.abs(residual).max()) <= INVERSE_TOLERANCE:
                return join_distance(found, distance)
            found = found + residual
        raise GeometryError(
            f"a displacement must be invertible at every point; the residual stayed at {float(np.abs(residual).max()):.3g} {self.source.unit} "
            f"({self.source} -> {self.target}). Check jacobian_determinant() for folds or large gradients and smooth the field."
        )

    def inverse(self) -> DisplacementTransform:
        """Return the forward transform."""
        return self.forward


@dataclass(frozen=True, eq=False)
class SequenceTransform:
    """Transforms applied one after the other, first to last. Build it with :func:`compose`."""

    steps: tuple[Transform, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise GeometryError("a sequence must have at least one transform; got none. Use AffineTransform with an identity matrix.")
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            if before.target != after.source:
                raise GeometryError(f"transforms must join end to end; got {before.target} then {after.source}. Put a transform between the two frames.")

    @property
    def source(self) -> Frame:
        """Source of the first step."""
        return self.steps[0].source

    @property
    def target(self) -> Frame:
        """Target of the last step."""
        return self.steps[-1].target

    @property
    def is_numerical(self) -> bool:
        """Whether any step iterates."""
        return any(step.is_numerical for step in self.steps)

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points through every step."""
        result = np.asarray(points, dtype=np.float64)
        for step in self.steps:
            result = step.apply(result)
        return result

    def inverse(self) -> SequenceTransform:
        """Return the inverse steps in reverse order."""
        return SequenceTransform(tuple(step.inverse() for step in reversed(self.steps)))


def _fold(first: Transform, second: Transform) -> Transform | None:
    """Return one transform equal to ``first`` then ``second`` where a closed form exists."""
    if isinstance(first, AffineTransform) and isinstance(second, AffineTransform):
        return AffineTransform(second.matrix @ first.matrix, first.source, second.target)
    if isinstance(first, SectionTransform) and isinstance(second, AffineTransform) and second.target.unit == "mm" and _keeps_lengths(second):
        linear = second.matrix[:3, :3]
        return SectionTransform(linear @ first.axes, second.apply(first.origin_mm), first.source, second.target)
    if isinstance(first, AffineTransform) and isinstance(second, SectionTransform) and np.linalg.det(first.matrix[:2, :2]) > 0:
        return SectionTransform(second.axes @ first.matrix[:2, :2], second.apply(first.matrix[:2, 2]), first.source, second.target)
    return None


def _keeps_lengths(affine: AffineTransform) -> bool:
    """Whether a 3-D affine is a proper rigid motion, so that distances from a plane and the normal's side survive it."""
    linear = affine.matrix[:3, :3]
    return bool(np.allclose(linear @ linear.T, np.eye(3), atol=1e-12) and np.linalg.det(linear) > 0)


def compose(*transforms: Transform) -> Transform:
    """Join transforms end to end into one, first to last, folding neighbours that have a closed form.

    Raises
    ------
    GeometryError
        If the frames do not join.
    """
    steps: list[Transform] = []
    for step in SequenceTransform(transforms).steps:
        for part in step.steps if isinstance(step, SequenceTransform) else (step,):
            folded = _fold(steps[-1], part) if steps else None
            if folded is None:
                steps.append(part)
            else:
                steps[-1] = folded
    return steps[0] if len(steps) == 1 else SequenceTransform(tuple(steps))
