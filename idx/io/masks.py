"""Reading a mask of any format on an image's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from idx._typing import Array, PathLike
from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.io.labels import Structure, choose_structure
from idx.io.resampling import index_offset, nearest_mask
from idx.io.volumes import image_kind, read_scalar_image
from idx.provenance import Source
from idx.volume import Mask, Volume

MAX_LISTED = 20
"""Label values that an error lists."""


def read_mask(path: PathLike, *, like: Volume, label: str | int | None = None, resample: bool = False) -> Mask:
    """Read a region of interest as a mask on an image's grid.

    Parameters
    ----------
    path : path
        DICOM RTSTRUCT or SEG (a file, or a folder that holds one), or a label image in NIfTI, NRRD or MHA/MHD.
    like : Volume
        Image whose grid the mask gets.
    label : str, int or None
        Structure: ROI Name, Segment Label, their number, or the voxel value of a label image. May be None where there is only one.
    resample : bool
        Whether a mask on another grid may be brought to this one (nearest neighbour). By default that is an error: a mask that does not fit
        often belongs to another image.

    Returns
    -------
    Mask
        bool (z, y, x) on ``like.grid``, with at least one voxel.

    Raises
    ------
    GeometryError
        If the mask is empty, lies on another grid (without ``resample``), or belongs to another patient or scan.
    FormatError
        If the format is none of these, or the label does not name one structure; the message lists those that are there.

    Examples
    --------
    >>> lesion = idx.read_mask("rtstruct.dcm", like=ct, label="GTV-1")  # doctest: +SKIP
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise FormatError(f"mask must be an existing file or folder; got nothing at '{file}'. Check the path.")
    if file.is_file():
        kind = image_kind(file)
        if kind not in (None, "dicom"):
            values, grid = read_scalar_image(file)
            return _from_label_image(values, grid, Source(str(file), str(kind)), like=like, label=label, resample=resample)
    return _from_dicom(file, like=like, label=label, resample=resample)


def _from_dicom(path: Path, *, like: Volume, label: str | int | None, resample: bool) -> Mask:
    import pydicom
    from pydicom.errors import InvalidDicomError

    from idx.io.rtstruct import read_rtstruct
    from idx.io.seg import read_seg

    readers = {"RTSTRUCT": read_rtstruct, "SEG": read_seg}
    file = path if path.is_file() else _only_mask_file(path, tuple(readers))
    try:
        dataset = pydicom.dcmread(file)
    except (InvalidDicomError, EOFError) as error:
        raise FormatError(
            f"mask must be a DICOM RTSTRUCT or SEG, or a label image in NIfTI, NRRD or MHA/MHD; got a file of another kind or a damaged one ('{file}'). "
            "Convert it to one of these."
        ) from error
    modality = str(dataset.get("Modality", ""))
    if modality not in readers:
        raise FormatError(f"a DICOM mask must be of modality RTSTRUCT or SEG; got '{modality}' ('{file}'). Pass the file with the contours or segments.")
    return readers[modality](dataset, file, like=like, label=label, resample=resample)


def _only_mask_file(folder: Path, modalities: tuple[str, ...]) -> Path:
    import pydicom
    from pydicom.errors import InvalidDicomError

    found = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(file, specific_tags=["Modality"], stop_before_pixels=True)
        except (InvalidDicomError, EOFError):
            continue
        if header.get("Modality") in modalities:
            found.append(file)
    if len(found) != 1:
        names = ", ".join(f"'{f.relative_to(folder)}'" for f in found[:MAX_LISTED]) or "none"
        raise FormatError(f"a mask folder must hold one RTSTRUCT or SEG; got {names} ('{folder}'). Pass the path of the file.")
    return found[0]


def _from_label_image(values: Array, grid: Grid, source: Source, *, like: Volume, label: str | int | None, resample: bool) -> Mask:
    path = source.path
    present = np.unique(values)
    if not np.array_equal(present, np.floor(present)):
        raise FormatError(
            f"a label image must hold whole numbers; got {present[:5].tolist()} ... ('{path}'). Pass a label image, or threshold the probability map first."
        )
    structures = [Structure(int(v), str(int(v))) for v in present if v != 0]
    if not structures:
        raise GeometryError(f"mask must contain at least one voxel; got zeros only ('{path}'). Check that this is the mask of the lesion.")
    if len(structures) > MAX_LISTED and label is None:
        raise FormatError(
            f"a label image must hold a few structures; got {len(structures)} values ('{path}'). Pass label=, or check that this is no intensity image."
        )
    chosen = choose_structure(structures, label, path=path)
    inside = values == chosen.number
    if index_offset(grid, like.grid) == (0, 0, 0) and grid.shape == like.grid.shape:
        on_grid = inside
    elif resample:
        on_grid = nearest_mask(inside, grid, like.grid)
    else:
        raise GeometryError(
            f"mask must lie on the image's grid {like.grid!r} at {like.grid.origin_mm}; got {grid!r} at {grid.origin_mm} ('{path}'). "
            "Check that it is not a mask of another patient; if it is of this one, pass resample=True."
        )
    name = chosen.name if len(structures) > 1 or label is not None else "lesion"
    return Mask(on_grid, like.grid, name, replace(source, ids={"label": chosen.name})).require_voxels()
