"""Poses of a section in the CT, and what is known of the pose beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from idx._typing import BoolArray, FloatArray, IntArray, Triple
from idx.errors import GeometryError
from idx.geometry import Frame, SectionTransform
from idx.registration.landmarks import Landmarks, fit_landmarks

ANATOMICAL_NORMALS: dict[str, Triple] = {"axial": (0.0, 0.0, 1.0), "coronal": (0.0, 1.0, 0.0), "sagittal": (1.0, 0.0, 0.0)}
"""Normals of the anatomical planes in patient coordinates (LPS)."""
GROSSING_TOLERANCE_DEG = 20.0
"""A specimen that is cut by eye along an anatomical plane is rarely off by more."""
LANDMARK_TOLERANCE_MM = 3.0
"""Depth within which a plane is searched about one to three landmarks: reading error and section warp."""


@dataclass(frozen=True)
class PosePrior:
    """What is known of the plane of a section before the images are compared.

    Parameters
    ----------
    normal : (x, y, z)
        Direction across the section in the patient frame (LPS), of any length. The slide may face either way: see ``mirrored``
        of :func:`idx.registration.register_section`.
    tolerance_deg : float
        Largest angle between the section's normal and ``normal``, 0-90; 90 means that nothing is known.
    centre_mm : (x, y, z) or None
        A point that the plane passes, such as a click in the CT; None means the lesion's centroid.
    tolerance_mm : float or None
        Largest distance of the plane from ``centre_mm``; None means the whole lesion.

    Raises
    ------
    GeometryError
        If the normal has no direction or a tolerance is out of range.
    """

    normal: Triple
    tolerance_deg: float = GROSSING_TOLERANCE_DEG
    centre_mm: Triple | None = None
    tolerance_mm: float | None = None

    def __post_init__(self) -> None:
        normal = np.asarray(self.normal, dtype=np.float64)
        length = float(np.linalg.norm(normal)) if normal.shape == (3,) else 0.0
        if not (math.isfinite(length) and length > 0):
            raise GeometryError(
                f"prior normal must be a finite direction (x, y, z); got {self.normal} (PosePrior). Use PosePrior.from_grossing_note('axial') if in doubt."
            )
        if not 0 <= self.tolerance_deg <= 90:
            raise GeometryError(f"tolerance_deg must be in 0..90; got {self.tolerance_deg} (PosePrior). Pass 90 when the plane is unknown.")
        if self.tolerance_mm is not None and not (math.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise GeometryError(
                f"tolerance_mm must be a finite number of at least 0, or None; got {self.tolerance_mm} (PosePrior). Pass None to search the whole lesion."
            )
        object.__setattr__(self, "normal", tuple(float(c) for c in normal / length))
        if self.centre_mm is not None:
            centre = np.asarray(self.centre_mm, dtype=np.float64)
            if centre.shape != (3,) or not np.isfinite(centre).all():
                raise GeometryError(
                    f"prior centre_mm must be a finite point (x, y, z); got {self.centre_mm} (PosePrior). Give a point in patient coordinates (LPS)."
                )
            object.__setattr__(self, "centre_mm", tuple(float(c) for c in centre))

    @classmethod
    def from_grossing_note(
        cls, plane: str, *, tolerance_deg: float = GROSSING_TOLERANCE_DEG, centre_mm: Triple | None = None, tolerance_mm: float | None = None
    ) -> PosePrior:
        """Build the prior from the plane that the grossing note names: "axial", "coronal" or "sagittal".

        Examples
        --------
        >>> PosePrior.from_grossing_note("coronal").normal
        (0.0, 1.0, 0.0)
        """
        if plane not in ANATOMICAL_NORMALS:
            raise GeometryError(
                f"plane must be one of {', '.join(ANATOMICAL_NORMALS)}; got '{plane}' (PosePrior). Give PosePrior(normal=...) for an oblique cut."
            )
        return cls(ANATOMICAL_NORMALS[plane], tolerance_deg, centre_mm, tolerance_mm)

    @classmethod
    def from_landmarks(cls, landmarks: Landmarks, *, normal: Triple | None = None, tolerance_deg: float = GROSSING_TOLERANCE_DEG) -> PosePrior:
        """Build the prior from a few pairs: the plane passes their centre; three or more also give its normal.

        Raises
        ------
        GeometryError
            If there are fewer than three pairs and no normal.
        """
        if len(landmarks) == 0 or (normal is None and len(landmarks) < 3):
            raise GeometryError(
                f"a prior from {len(landmarks)} landmark pairs must have a normal; got None ({landmarks.where}). Pass normal=, or mark three pairs."
            )
        x, y, z = (float(c) for c in landmarks.ct_mm.mean(axis=0))
        if normal is None:
            nx, ny, nz = (float(c) for c in fit_landmarks(landmarks).transform.normal)
            normal = (nx, ny, nz)
        return cls(normal, tolerance_deg, (x, y, z), LANDMARK_TOLERANCE_MM)


@dataclass(frozen=True, eq=False)
class Poses:
    """A batch of sections: where the slide's reference point lies, how it is turned, and how much it is enlarged.

    Parameters
    ----------
    rotation : array (b, 3, 3)
        Columns: directions of slide x, slide y and the section's normal in the patient frame.
    centre_mm : array (b, 3)
        Where the slide's reference point lies.
    scale : array (b,)
        In vivo length over slide length, 1 / (1 - shrinkage).
    """

    rotation: FloatArray
    centre_mm: FloatArray
    scale: FloatArray

    def __len__(self) -> int:
        return len(self.scale)

    def take(self, index: IntArray | slice) -> Poses:
        """Return the poses at indices."""
        return Poses(self.rotation[index], self.centre_mm[index], self.scale[index])

    @staticmethod
    def join(*batches: Poses) -> Poses:
        """Return all poses of several batches."""
        return Poses(*(np.concatenate([getattr(b, name) for b in batches]) for name in ("rotation", "centre_mm", "scale")))

    @property
    def axes(self) -> FloatArray:
        """Change of the patient point (b, 3, 2) for one mm on the slide along x and y."""
        return self.rotation[:, :, :2] * self.scale[:, None, None]

    def apply(self, points_mm: FloatArray) -> FloatArray:
        """Map slide points (n, 2) in mm from the reference point to patient points (b, n, 3)."""
        return np.einsum("bij,nj->bni", self.axes, points_mm) + self.centre_mm[:, None]

    def moved(self, steps_mm: FloatArray, radius_mm: float) -> Poses:
        """Change each pose by a step (b, 7) in mm: three turns as arc length at ``radius_mm``, three shifts, one enlargement likewise."""
        turn = _rotations(steps_mm[:, :3] / radius_mm)
        return Poses(turn @ self.rotation, self.centre_mm + steps_mm[:, 3:6], self.scale * np.exp(steps_mm[:, 6] / radius_mm))

    def section(self, index: int, reference_um: FloatArray, *, source: Frame, target: Frame) -> SectionTransform:
        """Return one pose as a transform from the slide (um) to the patient (mm)."""
        axes = self.axes[index] * 1e-3
        return SectionTransform(axes, self.centre_mm[index] - axes @ reference_um, source, target)


def distances_mm(poses: Poses, other: Poses, points_mm: FloatArray) -> FloatArray:
    """Root mean square distance (b, c) over slide points (n, 2) in mm between every pose of two batches."""
    first, second = (p.apply(points_mm).reshape(len(p), -1) for p in (poses, other))
    squared = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squared, 0.0) / len(points_mm))


def _rotations(vectors: FloatArray) -> FloatArray:
    """Rotation matrices (b, 3, 3) of rotation vectors (b, 3) in radians."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vectors).as_matrix()


@dataclass(frozen=True, eq=False)
class PoseBounds:
    """The prior as limits that every searched pose keeps.

    Parameters
    ----------
    normal : array (3,)
    tolerance_rad : float
    centre_mm : array (3,)
    tolerance_mm : float
    scale : (low, high)
    facings : tuple of int
        1 where the section's normal may point along ``normal``, -1 against it (mirrored).
    """

    normal: FloatArray
    tolerance_rad: float
    centre_mm: FloatArray
    tolerance_mm: float
    scale: tuple[float, float]
    facings: tuple[int, ...]

    @classmethod
    def from_prior(
        cls, prior: PosePrior, *, lesion_centre_mm: Triple, lesion_radius_mm: float, shrinkage: tuple[float, float], mirrored: bool | None
    ) -> PoseBounds:
        """Turn a prior and a range of linear shrinkage into limits, filling what it leaves open from the lesion."""
        low, high = shrinkage
        if not 0 <= low <= high < 1:
            raise GeometryError(f"shrinkage must be a range within 0..1; got {shrinkage}. Pass fractions of length, for example (0.0, 0.25).")
        centre = prior.centre_mm if prior.centre_mm is not None else lesion_centre_mm
        tolerance = prior.tolerance_mm if prior.tolerance_mm is not None else lesion_radius_mm
        facings = {None: (1, -1), False: (1,), True: (-1,)}[mirrored]
        return cls(
            np.asarray(prior.normal),
            math.radians(prior.tolerance_deg),
            np.asarray(centre, dtype=np.float64),
            tolerance,
            (1 / (1 - low), 1 / (1 - high)),
            facings,
        )

    def clamp(self, poses: Poses) -> Poses:
        """Return the nearest poses within the limits."""
        section_normal = poses.rotation[:, :, 2]
        facing = self._facing(section_normal)
        wanted = facing[:, None] * self.normal
        angle = np.arccos(np.clip((section_normal * wanted).sum(1), -1.0, 1.0))
        axis = np.cross(section_normal, wanted)
        axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-12)
        turned = _rotations(axis * np.maximum(angle - self.tolerance_rad, 0.0)[:, None]) @ poses.rotation
        depth = self.depth_mm(replace(poses, rotation=turned))
        excess = depth - np.clip(depth, -self.tolerance_mm, self.tolerance_mm)
        return Poses(turned, poses.centre_mm - excess[:, None] * turned[:, :, 2], np.clip(poses.scale, *self.scale))

    def _facing(self, section_normal: FloatArray) -> FloatArray:
        if len(self.facings) == 1:
            return np.full(len(section_normal), float(self.facings[0]))
        return np.where(section_normal @ self.normal >= 0, 1.0, -1.0)

    def is_mirrored(self, poses: Poses) -> BoolArray:
        """Whether each section faces against the prior's normal."""
        return poses.rotation[:, :, 2] @ self.normal < 0

    def angle_deg(self, poses: Poses) -> FloatArray:
        """Angle (b,) between each section's normal, either way, and the prior's."""
        return np.degrees(np.arccos(np.clip(np.abs(poses.rotation[:, :, 2] @ self.normal), 0.0, 1.0)))

    def depth_mm(self, poses: Poses) -> FloatArray:
        """Signed distance (b,) of each plane from the prior's centre along its normal."""
        return ((poses.centre_mm - self.centre_mm) * poses.rotation[:, :, 2]).sum(1)
