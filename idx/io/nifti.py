"""NIfTI images. The flip from NIfTI's RAS to DICOM's LPS happens here and nowhere else."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from idx._typing import Array, FloatArray
from idx.errors import FormatError, GeometryError
from idx.geometry.grids import Grid
from idx.io.axes import to_patient_axes

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's x and y point to the right and the front, the patient frame's to the left and the back."""
AGREEMENT_MM = 0.1
"""How far corners may differ between sform and qform: both are float32, and the qform is a quaternion (0.05 mm over a body is common)."""
_MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 1e-3}


def read_nifti(path: Path) -> tuple[Array, Grid]:
    """Read a NIfTI-1 or NIfTI-2 image of one volume.

    Parameters
    ----------
    path : Path
        .nii, .nii.gz, or .hdr/.img.

    Returns
    -------
    values : array (z, y, x)
        Scaled by scl_slope and scl_inter to float64 where the header has them; the file's own type otherwise.
    grid : Grid
        LPS mm, axes nearest to the patient's (see :func:`idx.io.axes.to_patient_axes`).

    Raises
    ------
    FormatError
        If the file is damaged, has several volumes or colours.
    GeometryError
        If the file has neither sform nor qform, or they place a corner more than 0.1 mm apart, or axes are sheared.

    Notes
    -----
    The sform is used where there is one, as nibabel does. Readers disagree on which of the two wins, so files whose two differ are refused.
    Units: mm, metre and micron are converted; unknown is read as mm.
    """
    try:
        image: Any = nib.load(path)
        stored = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise FormatError(
            f"NIfTI file must be complete and readable; got {type(error).__name__}: {error} ('{path}'). Copy it again from its source."
        ) from error
    values = _one_volume(stored, path)
    affine = RAS_TO_LPS @ _affine(image, path)
    return to_patient_axes(values.transpose(2, 1, 0), affine, where=str(path))


def _one_volume(stored: Array, path: Path) -> Array:
    if stored.dtype.names or np.issubdtype(stored.dtype, np.complexfloating):
        raise FormatError(f"NIfTI must hold one real value a voxel; got {stored.dtype} ('{path}'). Convert it to a scalar image.")
    if stored.ndim < 3 or any(n != 1 for n in stored.shape[3:]):
        raise FormatError(f"NIfTI must hold one 3-D volume; got shape {stored.shape} ('{path}'). Save the wanted volume as a file of its own.")
    return stored.reshape(stored.shape[:3])


def _affine(image: Any, path: Path) -> FloatArray:
    """RAS affine in mm."""
    header = image.header
    sform, qform = (_coded(header.get_sform, path), _coded(header.get_qform, path))
    if sform is None and qform is None:
        raise GeometryError(
            f"NIfTI must state its orientation; got sform_code 0 and qform_code 0 ('{path}'). "
            "Set one of them, for example with nibabel: image.set_sform(affine, code=1)."
        )
    scale = np.diag([_mm_per_unit(header, path)] * 3 + [1.0])
    if sform is not None and qform is not None:
        distance = _largest_distance(scale @ sform, scale @ qform, image.shape[:3])
        if distance > AGREEMENT_MM:
            raise GeometryError(
                f"sform and qform must agree to {AGREEMENT_MM} mm; got corners {distance:.2f} mm apart ('{path}'). "
                "Decide which is right and set the other to it, for example with nibabel: image.set_qform(image.get_sform())."
            )
    affine: FloatArray = scale @ (qform if sform is None else sform)
    return affine


def _coded(get: Any, path: Path) -> FloatArray | None:
    try:
        matrix, code = get(coded=True)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise GeometryError(f"NIfTI orientation must be a rotation; got {error} ('{path}'). Set sform and qform anew with nibabel.") from error
    return None if not code else np.asarray(matrix, dtype=np.float64)


def _mm_per_unit(header: Any, path: Path) -> float:
    try:
        return _MM_PER_UNIT[header.get_xyzt_units()[0]]
    except KeyError as error:
        raise GeometryError(
            f"NIfTI spatial unit must be metre, mm or micron; got code {int(header['xyzt_units']) % 8} ('{path}'). Set it with nibabel."
        ) from error


def _largest_distance(a: FloatArray, b: FloatArray, shape: tuple[int, ...]) -> float:
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    difference = corners @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    return float(np.linalg.norm(difference, axis=1).max())
