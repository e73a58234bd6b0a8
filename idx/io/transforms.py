"""Transforms in files: ITK (.tfm, .h5) through SimpleITK, and the NIfTI affine of a grid.

A file holds the point map itself: ``TransformPoint`` of the transform in the file maps a source point to its target point, as ``transform.apply`` does.
ITK resamples an image through the map from the points of the *output* to those of the *input*; to resample a moving image onto a fixed one,
write the transform whose source is the fixed image's frame.

ITK knows one dimension per transform. What maps a slide into a volume is therefore written in three: a section as the affine map of
(u, v, distance from the section in mm), and the 2-D steps before it as 3-D steps that leave the distance alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from idx._typing import FloatArray, PathLike
from idx.errors import FormatError, GeometryError
from idx.geometry import (
    PATIENT,
    AffineTransform,
    DisplacementTransform,
    Frame,
    Grid,
    NumericalInverse,
    SectionInverse,
    SectionTransform,
    SequenceTransform,
    Transform,
)
from idx.geometry.affine import inverse_matrix

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

SUFFIXES = (".tfm", ".txt", ".h5")
"""Formats in which SimpleITK keeps every digit of a float64."""
FIELD_HALF_DEPTH_MM = 1000.0
"""A 2-D displacement written in 3-D is the same at every distance up to this from the section."""
ORTHOGONAL_ATOL = 1e-9
"""ITK keeps a field's axes as unit vectors and spacing; axes may deviate from right angles by rounding only."""
UNIT_NORMAL_ATOL = 1e-6
"""A 3-D affine is a section when its third column is the section's unit normal to this tolerance."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_itk(transform: Transform, path: PathLike) -> None:
    """Write a transform as an ITK file that maps source points to target points.

    Parameters
    ----------
    transform : Transform
        Affine, section, displacement, or a sequence of them; points keep their units (um on a slide, mm in a volume).
    path : path
        ``.tfm`` or ``.txt`` (text) or ``.h5`` (HDF5).

    Raises
    ------
    FormatError
        If the suffix is another.
    GeometryError
        If a step cannot be written: the numerical inverse of a displacement (write the forward transform), or a field on a sheared grid.

    Notes
    -----
    A displacement is constant beyond its grid in idx and zero there in ITK: both agree inside the grid only.
    A sequence becomes a composite, which ITK applies last-added first: the steps stand in the file in reverse order.
    """
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

    file = Path(path).expanduser()
    if file.suffix.lower() not in SUFFIXES:
        raise FormatError(f"an ITK transform file must end in {', '.join(SUFFIXES)}; got '{file}'. Choose one of these.")
    steps = transform.steps if isinstance(transform, SequenceTransform) else (transform,)
    ndim = max(max(step.source.ndim, step.target.ndim) for step in steps)
    written = [_to_itk(step, ndim, file) for step in steps]
    if len(written) == 1:
        sitk.WriteTransform(written[0], str(file))
        return
    composite = sitk.CompositeTransform(ndim)
    for step in reversed(written):
        composite.AddTransform(step)
    sitk.WriteTransform(composite, str(file))


def _to_itk(step: Transform, ndim: int, path: Path) -> sitk.Transform:
    match step:
        case AffineTransform():
            return _affine_to_itk(_lift_matrix(step.matrix, ndim))
        case SectionTransform():
            return _affine_to_itk(step.matrix)
        case SectionInverse():
            return _affine_to_itk(inverse_matrix(step.section.matrix))
        case DisplacementTransform():
            return _field_to_itk(step, ndim, path)
        case NumericalInverse():
            raise GeometryError(
                f"an ITK file must hold a formula; got the numerical inverse of a displacement ({step.source} -> {step.target}, '{path}'). "
                "Write transform.inverse() and let ITK invert it."
            )
    raise GeometryError(f"transform must be affine, section, displacement or a sequence; got {type(step).__name__} ('{path}'). Write its parts.")


def _lift_matrix(matrix: FloatArray, ndim: int) -> FloatArray:
    """Matrix in ``ndim`` dimensions that leaves the added axes alone."""
    n = len(matrix) - 1
    lifted: FloatArray = np.eye(ndim + 1)
    lifted[:n, :n], lifted[:n, -1] = matrix[:n, :n], matrix[:n, -1]
    return lifted


def _affine_to_itk(matrix: FloatArray) -> sitk.Transform:
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

    n = len(matrix) - 1
    affine = sitk.AffineTransform(n)
    affine.SetMatrix(matrix[:n, :n].ravel().tolist())
    affine.SetTranslation(matrix[:n, n].tolist())
    return affine


def _field_to_itk(step: DisplacementTransform, ndim: int, path: Path) -> sitk.Transform:
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

    n = step.source.ndim
    values = np.array(step.displacement)
    affine = np.array(step.index_to_source)
    if n < ndim:
        values = np.concatenate([np.stack([values, values]), np.zeros((2, *values.shape[:-1], 1))], axis=-1)
        affine = _lift_matrix(affine, ndim)
        affine[2, 2], affine[2, 3] = 2.0 * FIELD_HALF_DEPTH_MM, -FIELD_HALF_DEPTH_MM
    spacing = np.linalg.norm(affine[:ndim, :ndim], axis=0)
    direction = affine[:ndim, :ndim] / spacing
    if not np.allclose(direction.T @ direction, np.eye(ndim), atol=ORTHOGONAL_ATOL):
        raise GeometryError(f"a field's grid must have axes at right angles for ITK; got directions {direction.tolist()} ('{path}'). Resample the field.")
    image = sitk.GetImageFromArray(values, isVector=True)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:ndim, ndim].tolist())
    image.SetDirection(direction.ravel().tolist())
    return sitk.DisplacementFieldTransform(image)


def read_itk(path: PathLike, *, source: Frame, target: Frame) -> Transform:
    """Read an ITK transform file as a map of source points to target points.

    Parameters
    ----------
    path : path
        File of affine (and rigid, similarity, scale, translation), displacement or composite transforms.
    source, target : Frame
        Frames that the file joins; it does not name them. A 3-D file between a 2-D and a 3-D frame is a section with 2-D steps before it.

    Raises
    ------
    FormatError
        If the file is absent, damaged or holds another kind (a B-spline, say).
    GeometryError
        If the file does not fit the frames.
    """
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

    file = Path(path).expanduser()
    try:
        stored = sitk.ReadTransform(str(file))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise FormatError(f"transform must be a readable ITK file; got: {reason} ('{file}'). Check the path and the format.") from error
    ndim = stored.GetDimension()
    if ndim != max(source.ndim, target.ndim):
        raise GeometryError(f"transform must have the frames' dimension; got {ndim}-D between {source} and {target} ('{file}'). Pass the frames that it joins.")
    steps = [_step_from_itk(step, file) for step in _flatten(stored)]
    if source.ndim == target.ndim:
        return _join(steps, source, target)
    return _join_section(steps, source, target, path=file)


def _flatten(stored: sitk.Transform) -> list[sitk.Transform]:
    """Steps in the order in which they are applied."""
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

    specific = stored.Downcast()
    if not isinstance(specific, sitk.CompositeTransform):
        return [specific]
    nested = [_flatten(specific.GetNthTransform(i)) for i in range(specific.GetNumberOfTransforms())]
    return [step for steps in reversed(nested) for step in steps]


@dataclass(frozen=True, eq=False)
class _Step:
    """A transform of a file, which knows no frames: an affine matrix, or a field with the matrix of its grid."""

    matrix: FloatArray
    field: FloatArray | None = None

    def between(self, source: Frame, target: Frame) -> Transform:
        if self.field is None:
            return AffineTransform(self.matrix, source, target)
        return DisplacementTransform(self.field, self.matrix, source, target)

    def in_plane(self) -> _Step | None:
        """The 2-D step that was written in three dimensions, or None where this one moves points out of the plane."""
        matrix = np.delete(np.delete(self.matrix, 2, axis=0), 2, axis=1)
        lifted = _lift_matrix(matrix, 3)
        if self.field is None:
            return _Step(matrix) if np.array_equal(lifted, self.matrix) else None
        lifted[2, 2:] = self.matrix[2, 2:]
        flat = np.array_equal(lifted, self.matrix) and len(self.field) == 2 and np.array_equal(self.field[0], self.field[1])
        return _Step(matrix, self.field[0, ..., :2]) if flat and not self.field[..., 2].any() else None


def _step_from_itk(stored: sitk.Transform, path: Path) -> _Step:
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

    n = stored.GetDimension()
    if isinstance(stored, sitk.DisplacementFieldTransform):
        image = stored.GetDisplacementField()
        matrix = np.eye(n + 1)
        matrix[:n, :n] = np.reshape(image.GetDirection(), (n, n)) * np.asarray(image.GetSpacing())
        matrix[:n, n] = image.GetOrigin()
        return _Step(matrix, sitk.GetArrayFromImage(image))
    if not stored.IsLinear():
        raise FormatError(
            f"transform must be affine, a displacement field or a composite of these; got {stored.GetName()} ('{path}'). "
            "Convert it to a displacement field first (SimpleITK.TransformToDisplacementField)."
        )
    origin = np.array(stored.TransformPoint([0.0] * n))
    matrix = np.eye(n + 1)
    if hasattr(stored, "GetMatrix"):
        # Exact; probing with points would cost the digits of a large translation.
        matrix[:n, :n] = np.reshape(stored.GetMatrix(), (n, n))
    elif isinstance(stored, sitk.ScaleTransform):
        matrix[:n, :n] = np.diag(stored.GetScale())
    matrix[:n, n] = origin
    return _Step(matrix)


def _join(steps: list[_Step], source: Frame, target: Frame) -> Transform:
    """Give steps of one dimension their frames; those between are named after the source, and the first affine step changes the unit."""
    joined: list[Transform] = []
    here = source
    for number, step in enumerate(steps, start=1):
        unit = target.unit if step.field is None else here.unit
        there = target if number == len(steps) else Frame(f"{source.name}:step{number}", unit, source.axes)
        joined.append(step.between(here, there))
        here = there
    return joined[0] if len(joined) == 1 else SequenceTransform(tuple(joined))


def _join_section(steps: list[_Step], source: Frame, target: Frame, *, path: Path) -> Transform:
    """Give frames to steps between a slide and a volume, one of which is the section itself."""
    to_volume = source.ndim == 2
    flat = [step.in_plane() for step in (steps if to_volume else reversed(steps))]
    affine = [i for i, step in enumerate(flat) if step is None or step.field is None]
    leaving = [i for i, step in enumerate(flat) if step is None]
    if not affine:
        raise GeometryError(
            f"one step must place the section in the volume; got displacements only between {source} and {target} ('{path}'). "
            "Add the section's transform to the composite, or read the file between two frames of one dimension."
        )
    # Counted from the slide: the first step that leaves the plane, or the last affine one where the section is axial at 0 mm.
    place = leaving[0] if leaving else affine[-1]
    split = place if to_volume else len(steps) - 1 - place
    plane, volume = (source, target) if to_volume else (target, source)
    beside_slide = Frame(f"{plane.name}:section", plane.unit, plane.axes) if place else plane
    beyond = Frame(f"{volume.name}:section", "mm", volume.axes) if place < len(steps) - 1 else volume
    section = _section(steps[split] if to_volume else _Step(inverse_matrix(steps[split].matrix)), beside_slide, beyond, path)
    in_plane = [step for step in flat[:place] if step is not None]
    if to_volume:
        before = [_join(in_plane, source, beside_slide)] if in_plane else []
        after = [_join(steps[split + 1 :], beyond, target)] if split + 1 < len(steps) else []
        parts: list[Transform] = [*before, section, *after]
    else:
        before = [_join(steps[:split], source, beyond)] if split else []
        after = [_join(in_plane[::-1], beside_slide, target)] if in_plane else []
        parts = [*before, section.inverse(), *after]
    flattened = [step for part in parts for step in (part.steps if isinstance(part, SequenceTransform) else (part,))]
    return flattened[0] if len(flattened) == 1 else SequenceTransform(tuple(flattened))


def _section(step: _Step, plane: Frame, volume: Frame, path: Path) -> SectionTransform:
    section = None if step.field is not None else SectionTransform(step.matrix[:3, :2], step.matrix[:3, 3], plane, volume)
    if section is None or not np.allclose(section.normal, step.matrix[:3, 2], atol=UNIT_NORMAL_ATOL):
        raise GeometryError(
            f"a section's third axis must be its unit normal (distance in mm); got {step.matrix.tolist()} between {plane} and {volume} ('{path}'). "
            "Read it between two 3-D frames instead."
        )
    return section


def nifti_affine(grid: Grid) -> FloatArray:
    """Affine (4, 4) from index (i, j, k) = (x, y, z) to RAS mm, as NIfTI stores it, for an array transposed to (x, y, z).

    Examples
    --------
    >>> nifti_affine(Grid.from_spacing((2, 3, 4), (1.0, 1.0, 2.5), (10.0, 20.0, 30.0)))[:3, 3].tolist()
    [-10.0, -20.0, 30.0]
    """
    result: FloatArray = LPS_TO_RAS @ grid.affine
    return result


def grid_from_nifti_affine(affine: FloatArray, shape: tuple[int, int, int], *, frame: Frame = PATIENT) -> Grid:
    """Grid of a NIfTI affine (4, 4) in RAS mm.

    Parameters
    ----------
    affine : array (4, 4)
    shape : tuple of int
        (z, y, x): the reverse of the NIfTI array's shape.
    frame : Frame
        Frame in LPS mm.
    """
    return Grid(shape, LPS_TO_RAS @ np.asarray(affine, dtype=np.float64), frame)
