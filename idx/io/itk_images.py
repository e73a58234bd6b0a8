"""NRRD and MetaImage (MHA, MHD) through SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

from idx._typing import Array
from idx.errors import FormatError, GeometryError
from idx.geometry.grids import Grid
from idx.io.axes import to_patient_axes

_HEADER_BYTES = 1 << 16
_PLACE_FIELDS = {"nrrd": (r"^space directions:", r"^space( dimension)?:"), "mha": (r"^(ElementSpacing|ElementSize)\s*=", r"^(Offset|Position|Origin)\s*=")}
"""What the text header must state: SimpleITK would silently put 1 mm and 0 mm in place of what is absent."""


def read_itk_image(path: Path) -> tuple[Array, Grid]:
    """Read a NRRD or MetaImage file of one scalar volume.

    Parameters
    ----------
    path : Path
        .nrrd, .nhdr, .mha or .mhd.

    Returns
    -------
    values : array (z, y, x)
        In the file's own type.
    grid : Grid
        LPS mm, axes nearest to the patient's (see :func:`idx.io.axes.to_patient_axes`).

    Raises
    ------
    FormatError
        If the file is damaged, not 3-D, or has several components.
    GeometryError
        If the header does not state spacing and place, or axes are sheared.
    """
    kind = "nrrd" if _text_header(path).startswith("NRRD") else "mha"
    _require_place(path, kind)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise FormatError(f"{kind.upper()} file must be complete and readable; got: {reason} ('{path}'). Copy it again from its source.") from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        got = f"{image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} components"
        raise FormatError(f"image must be one 3-D volume of scalars; got {got} ('{path}'). Save the wanted volume as a file of its own.")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return to_patient_axes(sitk.GetArrayFromImage(image), affine, where=str(path))


def _text_header(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES).decode("latin-1")


def _require_place(path: Path, kind: str) -> None:
    text = _text_header(path)
    missing = [pattern for pattern in _PLACE_FIELDS[kind] if not re.search(pattern, text, flags=re.MULTILINE)]
    if missing:
        needed = "'space' and 'space directions'" if kind == "nrrd" else "ElementSpacing and Offset"
        raise GeometryError(
            f"{kind.upper()} header must state {needed}; got a header without ('{path}'). Write the file again with its geometry, for example with SimpleITK."
        )
