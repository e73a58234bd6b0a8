"""CT and other volumes from DICOM: a folder, one slice of a series, or an enhanced multi-frame file."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idx.errors import FormatError, GeometryError, UnitError
from idx.io.axes import to_patient_axes
from idx.io.dicom_geometry import stack
from idx.io.dicom_headers import Series, SliceHeader, find_series, is_slice, read_header
from idx.io.dicom_pixels import read_hu, read_values, stored_pixels
from idx.io.hounsfield import PADDING_HU
from idx.provenance import Source
from idx.volume import CTVolume, Volume


def read_dicom_ct(path: Path, *, series: str | None = None) -> CTVolume:
    """Read a CT from DICOM.

    Parameters
    ----------
    path : Path
        A folder, searched with its subfolders; one file of a series, which stands for that series in its folder; or an enhanced multi-frame file.
    series : str, optional
        SeriesInstanceUID, or a part of it or of SeriesDescription that only one series has.

    Returns
    -------
    CTVolume
        HU int16 (z, y, x); z grows towards the head, y to the posterior, x to the left. Rescaled values that are no integers are rounded half to even.
        Pixels at PixelPaddingValue become -1024 HU and are counted in ``header``.

    Raises
    ------
    FormatError
        If there is no CT series, several of them, or a damaged file.
    GeometryError
        If the slices are no regular stack.
    UnitError
        If values cannot be brought to HU.

    Notes
    -----
    Slices are ordered by ImagePositionPatient along the normal, never by name or InstanceNumber. Scouts (ImageType LOCALIZER) and
    objects that are no slices are ignored. A file that repeats SOPInstanceUID, place and pixels of another is dropped with a warning;
    any other two slices at one position are refused.
    """
    chosen = _choose(path, series, modality="CT")
    _require_hu(chosen.series)
    slices, affine = stack(_without_copies(chosen.series.slices, chosen.where), where=chosen.where)
    hu, padding = read_hu(slices)
    values, grid = to_patient_axes(hu, affine, where=chosen.where)
    header = chosen.header()
    for value, count in sorted(padding.items()):
        header["padding"] = f"{count} voxels of PixelPaddingValue {value} set to {PADDING_HU} HU"
    return CTVolume(np.ascontiguousarray(values), grid, source=chosen.source(slices), header=header)


def read_dicom_volume(path: Path, *, quantity: str, series: str | None = None) -> Volume:
    """Read a series of any modality, rescaled slice by slice to float32; arguments and errors as in :func:`read_dicom_ct`."""
    chosen = _choose(path, series, modality=None)
    slices, affine = stack(_without_copies(chosen.series.slices, chosen.where), where=chosen.where)
    values, grid = to_patient_axes(read_values(slices), affine, where=chosen.where)
    return Volume(np.ascontiguousarray(values), grid, quantity=quantity, source=chosen.source(slices), header=chosen.header())


@dataclass(frozen=True)
class _Chosen:
    """One series, and the folder or multi-frame file it was found in."""

    series: Series
    root: Path

    @property
    def where(self) -> str:
        return str(self.root)

    def header(self) -> dict[str, str]:
        n_scouts = self.series.n_localizers
        return {**self.series.facts, **({"left out": f"{n_scouts} localizer images"} if n_scouts else {})}

    def source(self, slices: Sequence[SliceHeader]) -> Source:
        files = {one.file for one in slices}
        ids = {"series_uid": self.series.series_uid, "study_uid": self.series.study_uid, "frame_of_reference_uid": slices[0].frame_of_reference_uid}
        names = () if self.root.is_file() else tuple(file.relative_to(self.root).as_posix() for file in files)
        return Source(path=str(self.root), kind="dicom", files=names, ids={name: value for name, value in ids.items() if value})


def _choose(path: Path, wanted: str | None, *, modality: str | None) -> _Chosen:
    root, found, others = _search(path)
    usable = [one for one in found if modality in (None, one.modality)]
    if not usable:
        raise FormatError(_nothing_message(path, found, others, modality))
    matching = usable if wanted is None else _matching(usable, wanted)
    if len(matching) != 1:
        listed = "".join(f"\n  {one}" for one in usable)
        got = f"{len(usable)} series" if wanted is None else f"{len(matching)} that match series='{wanted}'"
        raise FormatError(
            f"exactly one series must be chosen; got {got} ('{path}'):{listed}\n"
            f"Pass series= with the SeriesInstanceUID, or with a part of it or of the description that only one has, "
            f"for example series='{usable[0].series_uid}'."
        )
    return _Chosen(matching[0], root)


def _search(path: Path) -> tuple[Path, list[Series], list[str]]:
    """Folder or multi-frame file to read from, its series, and what else is there."""
    if path.is_dir():
        found, others = find_series(_files_below(path))
        return path, found, others
    ds = read_header(path)
    if ds is None or not is_slice(ds, path):
        return path, [], [] if ds is None else [str(ds.get("Modality") or "unknown")]
    if "PerFrameFunctionalGroupsSequence" in ds:
        return path, *find_series([path])
    found, others = find_series(file for file in path.parent.iterdir() if file.is_file())
    return path.parent, [one for one in found if one.series_uid == ds.SeriesInstanceUID], others


def _files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _matching(series: Sequence[Series], wanted: str) -> list[Series]:
    exact = [one for one in series if one.series_uid == wanted]
    part = wanted.casefold()
    return exact or [one for one in series if part in one.series_uid or part in one.description.casefold()]


def _nothing_message(path: Path, found: Sequence[Series], others: Sequence[str], modality: str | None) -> str:
    if found:
        modalities = ", ".join(sorted({one.modality or "none" for one in found}))
        return f"modality must be {modality}; got {modalities} ('{path}'). Use read_volume(path, quantity=...) for other modalities."
    if others:
        kinds = ", ".join(sorted(set(others)))
        return f"DICOM must hold image slices; got only {kinds} ('{path}'). Pass the folder of the image series; use read_mask for contours and segmentations."
    return f"folder must hold DICOM files; got none ('{path}'). Pass the folder of a DICOM series, or the path of a NIfTI, NRRD or MHA file itself."


def _require_hu(series: Series) -> None:
    for one in series.slices:
        if one.slope is None or one.intercept is None:
            raise UnitError(
                f"CT slices must have RescaleSlope and RescaleIntercept to be read as HU; got none ('{one.file}'). "
                "Export the series again with them, or read the stored values with read_volume(path)."
            )
        if one.slope == 0:
            raise UnitError(f"RescaleSlope must not be 0; got 0 ('{one.file}'). Export the series again, or read it with read_volume(path).")
        if one.rescale_type.upper() not in ("", "HU"):
            raise UnitError(
                f"RescaleType must be HU; got '{one.rescale_type}' ('{one.file}'). "
                "Read it with read_volume(path, quantity=...): its values are no Hounsfield units."
            )


def _without_copies(slices: Sequence[SliceHeader], where: str) -> list[SliceHeader]:
    """Drop files that say what another file says; refuse those that share its SOPInstanceUID and differ."""
    by_instance: dict[tuple[str, int | None], list[SliceHeader]] = defaultdict(list)
    for one in slices:
        by_instance[(one.sop_uid or str(one.file), one.frame)].append(one)
    for first, *copies in by_instance.values():
        for copy in copies:
            if not _is_copy(first, copy):
                raise GeometryError(
                    f"SOPInstanceUID must be unique; got a duplicate in '{first.name}' and '{copy.name}', which differ in place or pixels ('{where}'). "
                    "Remove the one that does not belong to the series."
                )
            warnings.warn(f"'{copy.name}' is a copy of '{first.name}' and was left out ('{where}').", UserWarning, stacklevel=4)
    return [members[0] for members in by_instance.values()]


def _is_copy(a: SliceHeader, b: SliceHeader) -> bool:
    alike = (a.shape, a.pixel_spacing_mm, a.slope, a.intercept) == (b.shape, b.pixel_spacing_mm, b.slope, b.intercept)
    placed = np.array_equal(a.position_mm, b.position_mm) and np.array_equal(a.orientation, b.orientation)
    return alike and placed and np.array_equal(stored_pixels(a), stored_pixels(b))
