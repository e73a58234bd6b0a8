"""Slices in order along their normal, and the checks that their spacing must pass. Nothing is guessed: a gap is an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from idx._typing import FloatArray
from idx.errors import GeometryError
from idx.io.dicom_headers import SliceHeader

POSITION_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place on a regular grid. Headers that round positions to 0.1 mm put a slice up to this far off the line
through the first and the last; a table positions to about 0.25 mm."""
POSITION_TOLERANCE_STEPS = 0.25
"""The same in slice steps, for very thin slices: a missing slice moves some slice by at least half a step."""
SAME_POSITION_MM = 0.01
"""Slices closer than this along the normal are one position."""
ORIENTATION_TOLERANCE = 1e-4
"""Largest difference between direction cosines of slices of one volume: 0.05 mm over 500 mm."""
SPACING_TOLERANCE_MM = 1e-5
"""Largest difference between pixel spacings of slices of one volume: 0.005 mm over 512 pixels."""


def stack(slices: Sequence[SliceHeader], *, where: str) -> tuple[list[SliceHeader], FloatArray]:
    """Sort slices along their normal and find the affine of the volume.

    Parameters
    ----------
    slices : sequence of SliceHeader
        In any order; file names and instance numbers play no part.
    where : str
        Folder or file, for errors.

    Returns
    -------
    slices : list of SliceHeader
        Growing position along the cross product of row and column direction.
    affine : array (4, 4)
        Index (x, y, z) to LPS mm.

    Raises
    ------
    GeometryError
        If slices differ in size, spacing, orientation or frame of reference, share a position, overlap, leave a gap,
        or are shifted against each other as by a tilted gantry.
    """
    _require_alike(slices, where)
    normal = slices[0].normal
    slices = sorted(slices, key=lambda one: float(normal @ one.position_mm))
    positions = np.stack([one.position_mm for one in slices])
    along = positions @ normal
    _require_distinct(slices, along, where)
    _require_straight(slices, positions, along, where)
    _require_even(slices, along, where)
    rows_mm, columns_mm = slices[0].pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = slices[0].orientation[0] * columns_mm
    affine[:3, 1] = slices[0].orientation[1] * rows_mm
    affine[:3, 2] = normal * _slice_spacing_mm(slices, along, where)
    affine[:3, 3] = positions[0]
    return slices, affine


def _slice_spacing_mm(slices: Sequence[SliceHeader], along: FloatArray, where: str) -> float:
    if len(slices) > 1:
        return float((along[-1] - along[0]) / (len(slices) - 1))
    if not slices[0].thickness_mm or slices[0].thickness_mm <= 0:
        raise GeometryError(
            f"a single slice must state its thickness; got {slices[0].thickness_mm} ('{slices[0].file}'). Put the other slices of the series beside it."
        )
    return slices[0].thickness_mm


def _require_alike(slices: Sequence[SliceHeader], where: str) -> None:
    first = slices[0]
    for one in slices[1:]:
        difference = _difference(first, one)
        if difference:
            raise GeometryError(
                f"slices of one volume must have the same {difference} ('{first.name}' and '{one.name}' in '{where}'). "
                "They belong to different volumes: move one kind of slices to a folder of its own."
            )


def _difference(a: SliceHeader, b: SliceHeader) -> str:
    if a.shape != b.shape:
        return f"rows and columns; got {a.shape[0]} x {a.shape[1]} and {b.shape[0]} x {b.shape[1]}"
    if np.abs(np.subtract(a.pixel_spacing_mm, b.pixel_spacing_mm)).max() > SPACING_TOLERANCE_MM:
        return f"pixel spacing; got {a.pixel_spacing_mm} and {b.pixel_spacing_mm} mm"
    if np.abs(a.orientation - b.orientation).max() > ORIENTATION_TOLERANCE:
        return f"orientation; got {a.orientation.ravel().round(4).tolist()} and {b.orientation.ravel().round(4).tolist()}"
    if a.frame_of_reference_uid != b.frame_of_reference_uid:
        return f"FrameOfReferenceUID; got '{a.frame_of_reference_uid}' and '{b.frame_of_reference_uid}'"
    return ""


def _require_distinct(slices: Sequence[SliceHeader], along: FloatArray, where: str) -> None:
    same = np.flatnonzero(np.diff(along) < SAME_POSITION_MM)
    if same.size:
        i = int(same[0])
        raise GeometryError(
            f"slices must have positions of their own; got {same.size} duplicate(s), the first "
            f"'{slices[i].name}' and '{slices[i + 1].name}' at {along[i]:.2f} mm ('{where}'). "
            "Remove the copies, or move the second reconstruction to a folder of its own."
        )


def _require_straight(slices: Sequence[SliceHeader], positions: FloatArray, along: FloatArray, where: str) -> None:
    normal = slices[0].normal
    shift = positions - positions[0] - (along - along[0])[:, None] * normal
    distance = np.linalg.norm(shift, axis=1)
    if distance.max() <= POSITION_TOLERANCE_MM:
        return
    step = positions[-1] - positions[0]
    tilt = np.degrees(np.arctan2(np.linalg.norm(shift[-1]), along[-1] - along[0]))
    line = positions[0] + (along - along[0])[:, None] * (step / (along[-1] - along[0]))
    worst = int(np.argmax(np.linalg.norm(positions - line, axis=1)))
    if np.linalg.norm(positions[worst] - line[worst]) > POSITION_TOLERANCE_MM:
        raise GeometryError(
            f"slices must lie on one straight line; got '{slices[worst].name}' {np.linalg.norm(positions[worst] - line[worst]):.2f} mm beside it ('{where}'). "
            "Slices of several acquisitions are mixed: move each to a folder of its own."
        )
    raise GeometryError(
        f"slices must be stacked along their normal; got a gantry tilt of {tilt:.2f} degrees ('{where}'). "
        "Correct the tilt first, for example with dcm2niix, and read the NIfTI file that it writes: idx does not shear images silently."
    )


def _require_even(slices: Sequence[SliceHeader], along: FloatArray, where: str) -> None:
    if len(slices) < 3:
        return
    steps = np.diff(along)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    # A nanometre of slack, so that rounding to exactly the tolerance passes.
    tolerance_mm = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_STEPS * usual) + 1e-6
    regular = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - regular).max() <= tolerance_mm:
        return
    whole = np.round(steps / usual)
    gaps = np.flatnonzero((whole >= 2) & (np.abs(steps - whole * usual) <= 2 * tolerance_mm))
    close = np.flatnonzero(steps < usual - 2 * tolerance_mm)
    if gaps.size and not close.size:
        raise GeometryError(_gap_message(slices, along, gaps, usual=usual, where=where))
    i = int(close[0]) if close.size else int(np.argmax(np.abs(steps - usual)))
    what = "overlapping slices" if close.size else "irregular spacing"
    raise GeometryError(
        f"slices must be evenly spaced; got {what}: '{slices[i].name}' at {along[i]:.2f} mm and '{slices[i + 1].name}' "
        f"at {along[i + 1]:.2f} mm lie {steps[i]:.3f} mm apart "
        f"where {usual:.3f} mm is usual ('{where}'). "
        "Move slices of another reconstruction to a folder of their own, or resample the series to even spacing first."
    )


def _gap_message(slices: Sequence[SliceHeader], along: FloatArray, gaps: np.ndarray, *, usual: float, where: str) -> str:
    i = int(gaps[0])
    missing = sum(round(float(along[g + 1] - along[g]) / usual) - 1 for g in gaps)
    return (
        f"slices must be evenly spaced; got a gap: {missing} slice(s) missing, the first at {along[i] + usual:.2f} mm between "
        f"'{slices[i].name}' at {along[i]:.2f} mm "
        f"and '{slices[i + 1].name}' at {along[i + 1]:.2f} mm, where {usual:.3f} mm is usual ('{where}'). "
        "Copy the missing file(s) into the folder: idx does not fill gaps."
    )
