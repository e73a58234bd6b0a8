"""DICOM headers: which files of a folder are slices of which series, without touching pixels."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from idx._typing import FloatArray
from idx.errors import FormatError, GeometryError

DAMAGED = (InvalidDicomError, EOFError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, struct.error)
"""What pydicom raises on files that are cut off or broken."""
SLICE_CLASSES = frozenset(
    {
        uid.CTImageStorage, uid.EnhancedCTImageStorage, uid.LegacyConvertedEnhancedCTImageStorage,
        uid.MRImageStorage, uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage,
        uid.PositronEmissionTomographyImageStorage, uid.EnhancedPETImageStorage, uid.LegacyConvertedEnhancedPETImageStorage,
    }
)  # fmt: skip
"""Classes whose instances must have a place in the patient: one without it is damaged, not another kind of object."""
COSINE_TOLERANCE = 1e-3
"""How far direction cosines may be from unit length and right angles: headers round them to three decimals at worst."""
NOT_VOLUMES = frozenset({"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "SR", "REG", "PR", "KO", "SM", "ANN"})
_FACTS = {
    "Modality": "modality", "Manufacturer": "manufacturer", "ManufacturerModelName": "model", "ConvolutionKernel": "kernel",
    "KVP": "kVp", "SliceThickness": "slice thickness (mm)",
}  # fmt: skip
"""Acquisition facts that are kept. Names, dates, free text and institutions are not."""
_TAGS = [
    *_FACTS, "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "SeriesDescription", "ImageType", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """Where one slice lies and how its stored values become physical ones.

    Parameters
    ----------
    file : Path
        File that holds it.
    frame : int or None
        Index of the frame in a multi-frame file; None in a classic one.
    sop_uid, frame_of_reference_uid : str
        Identifiers; empty where the header has none.
    shape : tuple of int
        Rows and columns.
    position_mm : array (3,)
        Centre of the first pixel, LPS mm.
    orientation : array (2, 3)
        Unit vectors along a row (growing column index) and along a column.
    pixel_spacing_mm : tuple of float
        Distance between rows (y), between columns (x).
    thickness_mm : float or None
        Distance to the next slice as the header states it, or the thickness.
    slope, intercept : float or None
        Rescale; None where the header has none.
    rescale_type : str
        Unit after rescale; empty where the header has none.
    """

    file: Path
    frame: int | None
    sop_uid: str
    frame_of_reference_uid: str
    shape: tuple[int, int]
    position_mm: FloatArray
    orientation: FloatArray
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str

    @property
    def name(self) -> str:
        """File name, with the frame number (from 1) of a multi-frame file."""
        return self.file.name if self.frame is None else f"{self.file.name} frame {self.frame + 1}"

    @property
    def normal(self) -> FloatArray:
        """Unit vector across the slice; with row and column direction it forms a right-handed system."""
        normal = np.cross(self.orientation[0], self.orientation[1])
        result: FloatArray = normal / np.linalg.norm(normal)
        return result


@dataclass(frozen=True, eq=False)
class Series:
    """Slices that one SeriesInstanceUID holds together.

    Parameters
    ----------
    series_uid, study_uid, description, modality : str
        From the header.
    slices : tuple of SliceHeader
        In the order of the files; localizers are not among them.
    facts : dict
        Acquisition facts without identity.
    n_localizers : int
        Scout images that were left out.
    """

    series_uid: str
    study_uid: str
    description: str
    modality: str
    slices: tuple[SliceHeader, ...]
    facts: dict[str, str] = field(default_factory=dict)
    n_localizers: int = 0

    def __str__(self) -> str:
        return f"{self.series_uid}  {self.modality}  '{self.description}'  {len(self.slices)} slices"


def find_series(files: Iterable[Path]) -> tuple[list[Series], list[str]]:
    """Group the image slices among files by series.

    Parameters
    ----------
    files : iterable of Path
        Any files; those that are not DICOM are ignored.

    Returns
    -------
    series : list of Series
        Sorted by UID; series without any slice (reports, structure sets, scouts alone) are left out.
    others : list of str
        Modalities of the DICOM objects that are no slices, for messages.

    Raises
    ------
    FormatError
        If a DICOM image is cut off within its header or lacks its place in the patient.
    """
    groups: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    others: list[str] = []
    for file in sorted(files):
        ds = read_header(file)
        if ds is None:
            continue
        if is_slice(ds, file):
            groups[str(ds.get("SeriesInstanceUID", ""))].append((file, ds))
        else:
            others.append(str(ds.get("Modality") or "unknown"))
    series = [_series(series_uid, members) for series_uid, members in sorted(groups.items())]
    others += ["localizer" for one in series if not one.slices]
    return [one for one in series if one.slices], others


def is_dicom(file: Path) -> bool:
    """Whether a file is DICOM by its content: the DICM mark, or a file without preamble that starts with an identifying group."""
    with file.open("rb") as stream:
        head = stream.read(132)
    if head[128:132] == b"DICM":
        return True
    group, element = struct.unpack("<HH", head[:4]) if len(head) == 132 else (0, 0)
    return group == 0x0008 and element in (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018)


def read_header(file: Path) -> Dataset | None:
    """Header of a DICOM file up to its pixels, or None where the file is not DICOM.

    Raises
    ------
    FormatError
        If the file is named .dcm and is not DICOM, or its header is broken.
    """
    if not is_dicom(file):
        if file.suffix.lower() == ".dcm":
            raise FormatError(
                f"file named .dcm must be DICOM; got {file.stat().st_size} bytes without a DICOM header ('{file}'). "
                "Copy the file again from its source, or remove it."
            )
        return None
    try:
        return pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
    except DAMAGED as error:
        raise FormatError(f"DICOM header must be readable; got {type(error).__name__}: {error} ('{file}'). Copy the file again from its source.") from error


def is_slice(ds: Dataset, file: Path) -> bool:
    """Whether a header describes pixels with a place in the patient.

    Raises
    ------
    FormatError
        If it is of a class that must have one and lacks it, as in a file that is cut off.
    """
    if ds.get("Modality") in NOT_VOLUMES:
        return False
    in_frames = "PerFrameFunctionalGroupsSequence" in ds
    missing = [name for name in ("SeriesInstanceUID", "Rows", "Columns") if not ds.get(name)]
    missing += [] if in_frames else [name for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if not ds.get(name)]
    sop_class = ds.get("SOPClassUID") or getattr(ds, "file_meta", Dataset()).get("MediaStorageSOPClassUID", "")
    # A header that ends before it says what it is can only come from a file that is cut off.
    if missing and (sop_class in SLICE_CLASSES or not sop_class):
        raise FormatError(
            f"DICOM image must state {', '.join(missing)}; got a header without ('{file}'): it is cut off or incomplete. "
            "Copy the file again from its source, or remove it."
        )
    if not missing and not in_frames and int(ds.get("NumberOfFrames") or 1) > 1:
        raise FormatError(
            f"multi-frame DICOM must have functional groups that place each frame; got {ds.NumberOfFrames} frames without ('{file}'). "
            "Export the series as single slices or as enhanced CT."
        )
    return not missing


def _series(series_uid: str, members: Sequence[tuple[Path, Dataset]]) -> Series:
    from idx.io.dicom_enhanced import frame_headers

    slices: list[SliceHeader] = []
    n_localizers = 0
    for file, ds in members:
        if "LOCALIZER" in [str(part).upper() for part in ds.get("ImageType") or ()]:
            n_localizers += 1
        elif "PerFrameFunctionalGroupsSequence" in ds:
            slices.extend(frame_headers(ds, file))
        else:
            slices.append(slice_header(ds, file, (ds,)))
    first = members[0][1] if not slices else next(ds for file, ds in members if file == slices[0].file)
    return Series(
        series_uid=series_uid,
        study_uid=str(first.get("StudyInstanceUID", "")),
        description=str(first.get("SeriesDescription") or ""),
        modality=str(first.get("Modality") or ""),
        slices=tuple(slices),
        facts={name: _text(first.get(tag)) for tag, name in _FACTS.items() if first.get(tag) not in (None, "")},
        n_localizers=n_localizers,
    )


def _text(value: object) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, list | pydicom.multival.MultiValue) else str(value)


def slice_header(ds: Dataset, file: Path, sources: Sequence[Dataset], *, frame: int | None = None) -> SliceHeader:
    """Collect what one slice or frame needs from the datasets that may hold it, the first that has an element winning.

    Parameters
    ----------
    ds : Dataset
        The file's header.
    file : Path
        The file.
    sources : sequence of Dataset
        Where to look for position, orientation, spacing and rescale, most specific first.
    frame : int, optional
        Index of the frame.
    """
    cosines = np.reshape(_numbers(sources, "ImageOrientationPatient", 6, file), (2, 3))
    lengths = np.linalg.norm(cosines, axis=1)
    if np.any(np.abs(lengths - 1.0) > COSINE_TOLERANCE) or abs(float(cosines[0] @ cosines[1])) > COSINE_TOLERANCE:
        raise GeometryError(
            f"ImageOrientationPatient must be two perpendicular unit vectors; got {cosines.ravel().tolist()} ('{file}'). "
            "Export the series again from its source."
        )
    # Rounded cosines are not quite perpendicular: keep the row direction and turn the column direction by that rounding.
    row = cosines[0] / lengths[0]
    column = cosines[1] - (cosines[1] @ row) * row
    rows_mm, columns_mm = _numbers(sources, "PixelSpacing", 2, file)
    if not (rows_mm > 0 and columns_mm > 0):
        raise GeometryError(f"PixelSpacing must be two positive mm; got {rows_mm:g} and {columns_mm:g} ('{file}'). Export the series again from its source.")
    return SliceHeader(
        file=file,
        frame=frame,
        sop_uid=str(ds.get("SOPInstanceUID", "")),
        frame_of_reference_uid=str(ds.get("FrameOfReferenceUID") or ""),
        shape=(int(ds.Rows), int(ds.Columns)),
        position_mm=np.asarray(_numbers(sources, "ImagePositionPatient", 3, file)),
        orientation=np.stack([row, column / np.linalg.norm(column)]),
        pixel_spacing_mm=(rows_mm, columns_mm),
        thickness_mm=_optional(sources, "SpacingBetweenSlices", file) or _optional(sources, "SliceThickness", file),
        slope=_optional(sources, "RescaleSlope", file),
        intercept=_optional(sources, "RescaleIntercept", file),
        rescale_type=str(_first(sources, "RescaleType") or "").strip(),
    )


def _first(sources: Sequence[Dataset], keyword: str) -> object:
    return next((ds.get(keyword) for ds in sources if ds.get(keyword) not in (None, "")), None)


def _numbers(sources: Sequence[Dataset], keyword: str, count: int, file: Path) -> list[float]:
    value = _first(sources, keyword)
    try:
        numbers = [float(part) for part in value]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise FormatError(f"{keyword} must be {count} numbers; got {value!r} ('{file}'). Export the series again from its source.")
    return numbers


def _optional(sources: Sequence[Dataset], keyword: str, file: Path) -> float | None:
    value = _first(sources, keyword)
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise FormatError(f"{keyword} must be a number; got {value!r} ('{file}'). Export the series again from its source.") from error
