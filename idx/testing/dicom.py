"""CT series and RT structure sets written with plain pydicom, for tests and the demo.

Nothing here goes through ``idx.io``, so that a reader is checked against the DICOM standard and not against its own writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from pydicom.valuerep import DSfloat
from skimage.measure import find_contours

from idx._typing import Array, BoolArray, FloatArray, PathLike
from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry.grids import Grid
from idx.volume import CTVolume, Mask

Edit = Callable[[int, Dataset], object]
"""Called with the slice index and its dataset just before it is written; what it changes is written."""
_DATE = "20240101"


def write_ct_series(
    ct: CTVolume,
    folder: PathLike,
    *,
    transfer_syntax: str | None = None,
    order: Sequence[int] | None = None,
    intercept_hu: float = -1024.0,
    series_description: str = "idx phantom",
    series_uid: str | None = None,
    study_uid: str | None = None,
    frame_of_reference_uid: str | None = None,
    prefix: str = "CT",
    edit: Edit | None = None,
) -> list[Path]:
    """Write a CT as a classic DICOM series, one file a slice.

    Parameters
    ----------
    ct : CTVolume
        HU, (z, y, x). A grid whose slice axis is not the normal of its slices is written as it is: a tilted series.
    folder : path
        Made where it does not exist; other files in it are left alone.
    transfer_syntax : str, optional
        Transfer syntax UID that pydicom can write: explicit (the default) or implicit little endian, RLE, JPEG-LS or JPEG 2000 lossless
        (the last from 32 x 32 pixels on).
    order : sequence of int, optional
        Slice index that the first, second ... file holds; file names and InstanceNumber count files. The default is the order of the slices.
    intercept_hu : float
        RescaleIntercept; RescaleSlope is 1.
    series_description, series_uid, study_uid, frame_of_reference_uid : str, optional
        Written to the header. UIDs are derived from the values and the grid where they are not given, so that the same CT gives the same files.
    prefix : str
        File names are ``{prefix}_0001.dcm`` ...
    edit : callable, optional
        ``edit(slice_index, dataset)`` may change a header before it is written, to plant a defect.

    Returns
    -------
    list of Path
        The files in the order of the slices.

    Raises
    ------
    GeometryError
        If ``order`` is no permutation of the slices.
    UnitError
        If the HU less the intercept do not fit in 16 bits.
    """
    stored, signed = _stored(ct.values, intercept_hu)
    file_order = _checked_order(order, ct.grid.shape[0])
    seed = _fingerprint(ct, series_description)
    header = Dataset()
    header.update(_study(seed, study_uid=study_uid, frame_of_reference_uid=frame_of_reference_uid))
    header.update(_ct_series_header(series_uid or _uid(seed, "series"), series_description))
    header.update(_pixel_header(ct.grid, signed=signed))
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = DSfloat(1.0), _ds(intercept_hu), "HU"
    header.PixelSpacing, header.ImageOrientationPatient = _pixel_spacing(ct.grid), _orientation(ct.grid)
    header.SliceThickness = _ds(_normal_spacing(ct.grid))
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    files: dict[int, Path] = {}
    for number, index in enumerate(file_order, start=1):
        ds = Dataset()
        ds.update(header)
        ds.SOPClassUID, ds.SOPInstanceUID, ds.InstanceNumber = CTImageStorage, _uid(header.SeriesInstanceUID, str(index)), number
        ds.ImagePositionPatient = _position(ct.grid, index)
        ds.PixelData = stored[index].tobytes()
        if edit is not None:
            edit(index, ds)
        files[index] = _save(ds, root / f"{prefix}_{number:04d}.dcm", transfer_syntax)
    return [files[index] for index in range(ct.grid.shape[0])]


def write_enhanced_ct(
    ct: CTVolume,
    path: PathLike,
    *,
    transfer_syntax: str | None = None,
    order: Sequence[int] | None = None,
    intercept_hu: float = -1024.0,
    per_frame: bool = False,
    edit: Callable[[Dataset], object] | None = None,
) -> Path:
    """Write a CT as one Enhanced CT multi-frame file.

    Parameters
    ----------
    ct : CTVolume
        HU, (z, y, x).
    path : path
        File to write.
    transfer_syntax, intercept_hu
        As in :func:`write_ct_series`.
    order : sequence of int, optional
        Slice index that each frame holds.
    per_frame : bool
        Whether orientation, pixel measures and rescale stand in each frame's functional groups instead of the shared ones.
    edit : callable, optional
        ``edit(dataset)`` may change the header before it is written.
    """
    stored, signed = _stored(ct.values, intercept_hu)
    file_order = _checked_order(order, ct.grid.shape[0])
    seed = _fingerprint(ct, "enhanced")
    ds = Dataset()
    ds.update(_study(seed))
    ds.update(_ct_series_header(_uid(seed, "series"), "idx phantom, enhanced"))
    ds.update(_pixel_header(ct.grid, signed=signed))
    ds.SOPClassUID, ds.SOPInstanceUID, ds.InstanceNumber = EnhancedCTImageStorage, _uid(seed, "instance"), 1
    ds.NumberOfFrames = len(file_order)
    common = _common_groups(ct.grid, intercept_hu)
    ds.SharedFunctionalGroupsSequence = [Dataset() if per_frame else common]
    ds.PerFrameFunctionalGroupsSequence = []
    for number, index in enumerate(file_order, start=1):
        frame = Dataset()
        if per_frame:
            frame.update(common)
        frame.FrameContentSequence = [_item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[1, number])]
        frame.PlanePositionSequence = [_item(ImagePositionPatient=_position(ct.grid, index))]
        ds.PerFrameFunctionalGroupsSequence.append(frame)
    ds.PixelData = stored[file_order].tobytes()
    if edit is not None:
        edit(ds)
    return _save(ds, Path(path), transfer_syntax)


def write_rtstruct(
    rois: Mask | Mapping[str, Mask | Sequence[FloatArray]],
    ct_folder: PathLike,
    path: PathLike,
    *,
    edit: Callable[[Dataset], object] | None = None,
) -> Path:
    """Write regions as an RT structure set that refers to a CT series.

    Parameters
    ----------
    rois : Mask, or mapping of name to Mask or contours
        A mask is named by its label and drawn slice by slice on lines half-way between voxel centres, so that the even-odd rule at
        voxel centres gives the mask back exactly; holes are contours of their own. Contours are arrays (n, 3) of points (x, y, z) in mm,
        one closed planar polygon each.
    ct_folder : path
        Folder of the CT series alone.
    path : path
        File to write.
    edit : callable, optional
        ``edit(dataset)`` may change the dataset before it is written.

    Raises
    ------
    FormatError
        If the folder does not hold exactly one DICOM series of images.
    """
    named = {rois.label: rois} if isinstance(rois, Mask) else dict(rois)
    slices = _image_headers(Path(ct_folder))
    first = slices[0]
    seed = f"{first.SeriesInstanceUID}/{'/'.join(named)}"
    ds = Dataset()
    ds.update(_study(seed, study_uid=first.StudyInstanceUID, frame_of_reference_uid=first.FrameOfReferenceUID))
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = RTStructureSetStorage, _uid(seed, "rtstruct"), "RTSTRUCT"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.Manufacturer = _uid(seed, "rtstruct series"), 2, "idx"
    ds.StructureSetLabel, ds.StructureSetDate, ds.StructureSetTime = "idx", _DATE, "000000"
    ds.ReferencedFrameOfReferenceSequence = [_referenced_frame(slices)]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for number, (name, region) in enumerate(named.items(), start=1):
        polygons = _outlines_mm(region) if isinstance(region, Mask) else [np.asarray(points, dtype=np.float64) for points in region]
        ds.StructureSetROISequence.append(
            _item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID, ROIGenerationAlgorithm="MANUAL")
        )
        ds.ROIContourSequence.append(
            _item(ReferencedROINumber=number, ROIDisplayColor=[255, 0, 0], ContourSequence=[_contour(points, slices) for points in polygons])
        )
        ds.RTROIObservationsSequence.append(_item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="GTV", ROIInterpreter=""))
    if edit is not None:
        edit(ds)
    return _save(ds, Path(path), None)


def _stored(values: Array, intercept_hu: float) -> tuple[Array, bool]:
    """Stored 16-bit values and whether they are signed."""
    stored = np.asarray(values, dtype=np.float64) - intercept_hu
    low, high = float(stored.min()), float(stored.max())
    fits = high <= 65535 if low >= 0 else low >= -32768 and high <= 32767
    if not fits or not np.array_equal(stored, np.round(stored)):
        raise UnitError(f"HU less the intercept must be integers of 16 bits; got {low} to {high}. Pass another intercept_hu, for example 0.")
    return (stored.astype("<u2"), False) if low >= 0 else (stored.astype("<i2"), True)


def _checked_order(order: Sequence[int] | None, n_slices: int) -> list[int]:
    checked = list(range(n_slices)) if order is None else [int(index) for index in order]
    if sorted(checked) != list(range(n_slices)):
        raise GeometryError(f"order must be a permutation of {n_slices} slice indices; got {checked}. Pass each slice once.")
    return checked


def _fingerprint(ct: CTVolume, text: str) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(ct.values).tobytes())
    digest.update(ct.grid.affine.tobytes())
    digest.update(text.encode())
    return digest.hexdigest()


def _uid(*parts: str) -> str:
    return generate_uid(entropy_srcs=list(parts))


def _ds(value: float) -> DSfloat:
    """Decimal string of at most 16 characters: about 1e-13 of relative error, far below a nanometre."""
    return DSfloat(float(value), auto_format=True)


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _study(seed: str, *, study_uid: str | None = None, frame_of_reference_uid: str | None = None) -> Dataset:
    return _item(
        PatientName="Phantom^Idx",
        PatientID="IDX-PHANTOM",
        PatientBirthDate="",
        PatientSex="O",
        StudyInstanceUID=study_uid or _uid(seed, "study"),
        StudyDate=_DATE,
        StudyTime="000000",
        StudyID="1",
        AccessionNumber="",
        ReferringPhysicianName="",
        FrameOfReferenceUID=frame_of_reference_uid or _uid(seed, "frame"),
        PositionReferenceIndicator="",
    )


def _ct_series_header(series_uid: str, description: str) -> Dataset:
    return _item(
        Modality="CT",
        SeriesInstanceUID=series_uid,
        SeriesNumber=1,
        SeriesDescription=description,
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        Manufacturer="idx",
        ManufacturerModelName="phantom",
        ConvolutionKernel="NONE",
        KVP=_ds(120.0),
        PatientPosition="HFS",
        AcquisitionNumber=1,
    )


def _pixel_header(grid: Grid, *, signed: bool) -> Dataset:
    return _item(
        Rows=grid.shape[1],
        Columns=grid.shape[2],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=int(signed),
    )


def _pixel_spacing(grid: Grid) -> list[DSfloat]:
    """DICOM's order: distance between rows (y), then between columns (x)."""
    return [_ds(grid.spacing_mm[1]), _ds(grid.spacing_mm[0])]


def _orientation(grid: Grid) -> list[DSfloat]:
    return [_ds(cosine) for cosine in grid.direction[:, :2].T.ravel()]


def _normal_spacing(grid: Grid) -> float:
    normal = np.cross(grid.direction[:, 0], grid.direction[:, 1])
    return float(abs(normal @ grid.affine[:3, 2]))


def _position(grid: Grid, index: int) -> list[DSfloat]:
    return [_ds(coordinate) for coordinate in grid.to_physical((index, 0, 0))]


def _common_groups(grid: Grid, intercept_hu: float) -> Dataset:
    return _item(
        PixelMeasuresSequence=[_item(PixelSpacing=_pixel_spacing(grid), SliceThickness=_ds(_normal_spacing(grid)))],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=_orientation(grid))],
        PixelValueTransformationSequence=[_item(RescaleSlope=_ds(1.0), RescaleIntercept=_ds(intercept_hu), RescaleType="HU")],
    )


def _save(ds: Dataset, path: Path, transfer_syntax: str | None) -> Path:
    syntax = pydicom.uid.UID(transfer_syntax or ExplicitVRLittleEndian)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_compressed else syntax
    if syntax.is_compressed:
        ds.compress(syntax, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def _image_headers(folder: Path) -> list[Dataset]:
    """Headers of a series' slices in the order of their positions."""
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in sorted(folder.glob("*.dcm"))]
    images = [ds for ds in headers if "ImagePositionPatient" in ds]
    n_series = len({ds.SeriesInstanceUID for ds in images})
    if n_series != 1:
        raise FormatError(f"CT folder must hold one DICOM series of images; got {n_series} ('{folder}'). Pass a folder of one series.")
    normal = _normal(images[0])
    return sorted(images, key=lambda ds: float(normal @ np.asarray(ds.ImagePositionPatient, dtype=np.float64)))


def _normal(ds: Dataset) -> FloatArray:
    cosines = np.asarray(ds.ImageOrientationPatient, dtype=np.float64)
    return np.cross(cosines[:3], cosines[3:])


def _referenced_frame(slices: Sequence[Dataset]) -> Dataset:
    images = [_item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID) for ds in slices]
    series = _item(SeriesInstanceUID=slices[0].SeriesInstanceUID, ContourImageSequence=images)
    # 1.2.840.10008.3.1.2.3.1 is the retired Detached Study Management class that the standard keeps for this reference.
    study = _item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=slices[0].StudyInstanceUID, RTReferencedSeriesSequence=[series])
    return _item(FrameOfReferenceUID=slices[0].FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _outlines_mm(mask: Mask) -> list[FloatArray]:
    rings = [(float(z), ring) for z in np.flatnonzero(mask.values.any(axis=(1, 2))) for ring in _rings(mask.values[z])]
    return [mask.grid.to_physical(np.column_stack([np.full(len(ring), z), ring])) for z, ring in rings]


def _rings(region: BoolArray) -> list[FloatArray]:
    """Closed rings (row, column) through the middles between inside and outside pixels; a border of zeros closes those at the edge."""
    padded = np.pad(region, 1).astype(np.float64)
    return [ring[:-1] - 1.0 for ring in find_contours(padded, 0.5)]


def _contour(points_mm: FloatArray, slices: Sequence[Dataset]) -> Dataset:
    normal = _normal(slices[0])
    offsets = [abs(float(normal @ (np.asarray(ds.ImagePositionPatient, dtype=np.float64) - points_mm[0]))) for ds in slices]
    nearest = slices[int(np.argmin(offsets))]
    return _item(
        ContourImageSequence=[_item(ReferencedSOPClassUID=nearest.SOPClassUID, ReferencedSOPInstanceUID=nearest.SOPInstanceUID)],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points_mm),
        ContourData=[_ds(coordinate) for coordinate in points_mm.ravel()],
    )
