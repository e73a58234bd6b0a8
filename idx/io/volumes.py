"""Reading a CT or another volume from any format, told apart by content."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from idx._typing import Array, PathLike
from idx.errors import FormatError
from idx.geometry.grids import Grid
from idx.io.hounsfield import to_hu
from idx.provenance import Source
from idx.volume import CTVolume, Volume

_NIFTI_MAGICS = (b"n+1\x00", b"ni1\x00")
_NIFTI2_MAGICS = (b"n+2\x00", b"ni2\x00")


def read_ct(path: PathLike, *, series: str | None = None) -> CTVolume:
    """Read a CT as HU.

    Parameters
    ----------
    path : path
        A DICOM folder (searched with its subfolders), one DICOM file (its series, or the volume where it is an enhanced multi-frame file),
        or a NIfTI, NRRD, MHA or MHD file. The format is told by content, not by name.
    series : str, optional
        For DICOM: SeriesInstanceUID, or a part of it or of SeriesDescription that only one series has.

    Returns
    -------
    CTVolume
        int16 HU (z, y, x) in frame patient (LPS, mm). Axes run nearest to left, posterior and head; nothing is interpolated.
        Values that are no integers are rounded half to even.

    Raises
    ------
    FormatError
        If nothing readable is there, several series are, a file is damaged, or the modality is not CT.
    GeometryError
        If slices are missing, duplicated, unevenly spaced, tilted or of several orientations.
    UnitError
        If values cannot be brought to HU.

    See Also
    --------
    read_volume : other modalities and quantities.

    Examples
    --------
    >>> import tempfile
    >>> ball = idx.testing.ball(radius_mm=5.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = idx.testing.write_ct_series(ball.ct, folder)
    ...     ct = idx.read_ct(folder)
    >>> bool((ct.values == ball.ct.values).all())
    True
    """
    place = _existing(path)
    kind = _kind(place)
    if kind == "dicom":
        from idx.io.dicom_series import read_dicom_ct

        return read_dicom_ct(place, series=series)
    _refuse_series(series, place)
    values, grid = _read_image(place, kind)
    return CTVolume(np.ascontiguousarray(to_hu(values, where=str(place))), grid, source=Source(path=str(place), kind=kind))


def read_volume(path: PathLike, *, quantity: str = "arbitrary", series: str | None = None) -> Volume:
    """Read a volume of any modality.

    Parameters
    ----------
    path, series
        As in :func:`read_ct`.
    quantity : str
        What the values are, with the unit where it has one ("suv", "adc_mm2_per_s", "t1w" ...).

    Returns
    -------
    Volume
        float32 (z, y, x) in frame patient (LPS, mm), rescaled as the file says; axes as in :func:`read_ct`.

    Raises
    ------
    FormatError, GeometryError
        As in :func:`read_ct`.

    Examples
    --------
    >>> import tempfile
    >>> ball = idx.testing.ball(radius_mm=5.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = idx.testing.write_ct_series(ball.ct, folder)
    ...     volume = idx.read_volume(folder, quantity="attenuation_hu")
    >>> volume.quantity, volume.values.dtype.name
    ('attenuation_hu', 'float32')
    """
    place = _existing(path)
    kind = _kind(place)
    if kind == "dicom":
        from idx.io.dicom_series import read_dicom_volume

        return read_dicom_volume(place, quantity=quantity, series=series)
    _refuse_series(series, place)
    values, grid = _read_image(place, kind)
    return Volume(np.ascontiguousarray(values, dtype=np.float32), grid, quantity=quantity, source=Source(path=str(place), kind=kind))


def image_kind(file: Path) -> str | None:
    """Format of a file by its content: "dicom", "nifti", "nrrd", "mha" or None.

    Parameters
    ----------
    file : Path
        An existing file.
    """
    from idx.io.dicom_headers import is_dicom

    head = _head(file)
    if head[344:348] in _NIFTI_MAGICS or head[4:8] in _NIFTI2_MAGICS:
        return "nifti"
    if head.startswith(b"NRRD"):
        return "nrrd"
    if b"NDims" in head and b"=" in head and head.lstrip()[:1].isalpha():
        return "mha"
    return "dicom" if is_dicom(file) else None


def read_scalar_image(file: Path) -> tuple[Array, Grid]:
    """Values (z, y, x) in the file's own type and grid of a NIfTI, NRRD, MHA or MHD file, for images and label maps alike.

    Raises
    ------
    FormatError
        If the file is none of these or is damaged.
    GeometryError
        If its place in the patient is not stated or its axes are sheared.
    """
    return _read_image(file, _kind(file))


def _head(file: Path) -> bytes:
    """First bytes, decompressed where the file is gzipped."""
    with file.open("rb") as stream:
        head = stream.read(560)
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        with gzip.open(file) as unzipped:
            return unzipped.read(560)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"gzip file must be complete; got {type(error).__name__}: {error} ('{file}'). Copy it again from its source.") from error


def _existing(path: PathLike) -> Path:
    place = Path(path).expanduser()
    if not place.exists():
        raise FormatError(f"path must exist; got nothing at '{place}'. Check the spelling and the working folder ('{Path.cwd()}').")
    return place


def _kind(place: Path) -> str:
    kind = "dicom" if place.is_dir() else image_kind(place)
    if kind is None and place.suffix.lower() == ".dcm":
        kind = "dicom"  # so that the DICOM reader says what is wrong with it
    if kind is None:
        raise FormatError(f"image must be DICOM, NIfTI, NRRD or MHA/MHD; got a file of another kind ('{place}'). Convert it, or pass the right path.")
    return kind


def _refuse_series(series: str | None, place: Path) -> None:
    if series is not None:
        raise FormatError(f"series= must be used with DICOM only; got series='{series}' for one image file ('{place}'). Leave it out.")


def _read_image(place: Path, kind: str) -> tuple[Array, Grid]:
    if kind == "nifti":
        from idx.io.nifti import read_nifti

        return read_nifti(place)
    if kind in ("nrrd", "mha"):
        from idx.io.itk_images import read_itk_image

        return read_itk_image(place)
    raise FormatError(f"image must be NIfTI, NRRD or MHA/MHD; got {kind} ('{place}'). Pass another file.")
