"""Slides written as DICOM whole-slide images: one VL Whole Slide Microscopy instance per level, tiled in full."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import JPEG2000, UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

import idx
from idx._typing import Array
from idx.errors import FormatError
from idx.io.color import srgb_profile
from idx.io.slides_dicom import WHOLE_SLIDE_CLASS
from idx.io.slides_writing import LOSSLESS, LossyCompression, SlideToWrite

_MOST_NATIVE_BYTES = 0xFFFFFFFE
_MOST_BASIC_BYTES = 1 << 31
"""A basic offset table counts in 32 bits; pixels of half as many bytes fit however badly they compress."""
_DEPTH_UM = 1.0
"""Depth of field of a 20x to 40x objective; DICOM wants a depth, and slides do not state theirs."""
_ITEM, _END, _PIXEL_DATA = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xe0\x7f\x10\x00OB\0\0"
_UNDEFINED_LENGTH = b"\xff\xff\xff\xff"
_LOSSY_METHODS = {"jpeg": "ISO_10918_1", "jpeg2000": "ISO_15444_1"}


def write_dicom(folder: Path, slide: SlideToWrite, tiles: Iterable[tuple[int, bytes]]) -> None:
    """Write a slide into an existing folder, a file per level.

    Parameters
    ----------
    folder : Path
    slide : SlideToWrite
    tiles : iterable of (level, bytes)
        Coded tiles, row by row within each level; the levels may be interleaved.

    Raises
    ------
    FormatError
        If DICOM has no such coding, or plain pixels of a level exceed 4 GiB.

    Notes
    -----
    Neither patient nor specimen is named: identifiers are new and say nothing, dates are those of writing. Where the slide lay on its glass is not
    known; it is placed so that positions are positive, and regions of one slide share one system of coordinates but for the frame's identifier.
    """
    check_dicom(slide)
    common = _common(slide)
    with ExitStack() as stack:
        instances = [
            stack.enter_context(_Instance(folder / f"level-{level}.dcm", _instance(slide, level, common), slide, level)) for level in range(len(slide.sizes_px))
        ]
        for level, block in tiles:
            instances[level].put(block)
        for instance in instances:
            instance.finish()


def check_dicom(slide: SlideToWrite) -> None:
    """Refuse what DICOM cannot hold; errors of :func:`write_dicom`."""
    if slide.compression == "deflate":
        raise FormatError(
            "compression of a DICOM slide must be jpeg, jpeg2000 or none; got 'deflate' (slide to write). "
            f"Without loss, pass 'jpeg2000' with quality={LOSSLESS}."
        )
    if slide.compression == "none" and (n_bytes := slide.n_tiles(0) * slide.tile_bytes) > _MOST_NATIVE_BYTES:
        raise FormatError(
            f"plain pixels of a DICOM level must take at most 4 GiB; got {n_bytes / 2**30:.3g} GiB (slide to write). "
            f"Without loss, pass compression='jpeg2000' with quality={LOSSLESS}."
        )


class _Instance:
    """A file that takes frames one by one; its header is written again at the end, when offsets and sizes are known."""

    def __init__(self, path: Path, header: Dataset, slide: SlideToWrite, level: int) -> None:
        self._path, self._header, self._slide = path, header, slide
        self._is_native = slide.compression == "none"
        self._n_frames = slide.n_tiles(level)
        self._has_basic_offsets = self._n_frames * slide.tile_bytes <= _MOST_BASIC_BYTES
        self._offsets, self._lengths = (np.zeros(self._n_frames, dtype=np.uint64) for _ in range(2))
        self._n_written = self._end = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._file.write(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def put(self, block: bytes) -> None:
        """Append a frame."""
        padded = block + b"\0" * (len(block) % 2)
        self._offsets[self._n_written], self._lengths[self._n_written] = self._end, len(padded)
        if not self._is_native:
            padded = _ITEM + len(padded).to_bytes(4, "little") + padded
        self._file.write(padded)
        self._end += len(padded)
        self._n_written += 1

    def finish(self) -> None:
        """Close the pixel data and complete the header."""
        if not self._is_native:
            self._file.write(_END)
        self._file.seek(0)
        self._file.write(self._start())

    def _start(self) -> bytes:
        """Everything before the first frame; of the same length at all times."""
        self._state_compression()
        if not self._is_native and not self._has_basic_offsets:
            self._header.ExtendedOffsetTable, self._header.ExtendedOffsetTableLengths = self._offsets.tobytes(), self._lengths.tobytes()
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, self._header, enforce_file_format=True)
        if self._is_native:
            length = self._n_frames * self._slide.tile_bytes
            return buffer.getvalue() + _PIXEL_DATA + length.to_bytes(4, "little")
        basic = self._offsets.astype("<u4").tobytes() if self._has_basic_offsets else b""
        return buffer.getvalue() + _PIXEL_DATA + _UNDEFINED_LENGTH + _ITEM + len(basic).to_bytes(4, "little") + basic

    def _state_compression(self) -> None:
        slide, header = self._slide, self._header
        history = [slide.before] if slide.before else []
        if slide.is_lossy:
            stored = max(int(self._lengths.sum()), 1)
            history.append(LossyCompression(_LOSSY_METHODS[slide.compression], self._n_frames * slide.tile_bytes / stored))
        header.LossyImageCompression = "01" if history else "00"
        if history:
            header.LossyImageCompressionMethod = [past.method for past in history]
            header.LossyImageCompressionRatio = [f"{min(past.ratio, 99999.99):08.2f}" for past in history]


def _common(slide: SlideToWrite) -> Dataset:
    """What all levels share."""
    now = datetime.now()
    common = Dataset()
    common.PatientName = common.PatientID = common.PatientBirthDate = common.PatientSex = ""
    common.StudyInstanceUID, common.SeriesInstanceUID, common.FrameOfReferenceUID, common.PyramidUID = (_new_uid() for _ in range(4))
    common.StudyDate = common.StudyTime = common.ReferringPhysicianName = common.StudyID = common.AccessionNumber = ""
    common.Modality, common.SeriesNumber, common.PositionReferenceIndicator = "SM", 1, "SLIDE_CORNER"
    common.Manufacturer, common.ManufacturerModelName, common.DeviceSerialNumber, common.SoftwareVersions = "idx", "idx slide convert", "0", idx.__version__
    common.ContentDate, common.ContentTime, common.AcquisitionDateTime = f"{now:%Y%m%d}", f"{now:%H%M%S}", f"{now:%Y%m%d%H%M%S}"
    common.AcquisitionContextSequence = []
    _describe_specimen(common)
    _describe_optics(common, slide)
    organization = Dataset()
    organization.DimensionOrganizationUID = _new_uid()
    common.DimensionOrganizationSequence, common.DimensionOrganizationType = [organization], "TILED_FULL"
    return common


def _describe_specimen(common: Dataset) -> None:
    identifier = _new_uid().rsplit(".", 1)[-1][-16:]
    common.ContainerIdentifier, common.IssuerOfTheContainerIdentifierSequence = identifier, []
    common.ContainerTypeCodeSequence = [_coded("433466003", "SCT", "Microscope slide")]
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = identifier, _new_uid()
    specimen.IssuerOfTheSpecimenIdentifierSequence = specimen.SpecimenPreparationSequence = []
    common.SpecimenDescriptionSequence = [specimen]


def _describe_optics(common: Dataset, slide: SlideToWrite) -> None:
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    path.IlluminationTypeCodeSequence = [_coded("111744", "DCM", "Brightfield illumination")]
    path.IlluminationColorCodeSequence = [_coded("414298005", "SCT", "Full Spectrum")]
    path.ICCProfile = slide.icc_profile or srgb_profile()
    if slide.icc_profile is None:
        path.ColorSpace = "SRGB"
    if slide.magnification:
        path.ObjectiveLensPower = slide.magnification
    common.OpticalPathSequence, common.NumberOfOpticalPaths = [path], 1


def _instance(slide: SlideToWrite, level: int, common: Dataset) -> Dataset:
    """Header of one level, but for what is known only after its frames."""
    header = Dataset()
    header.update(common)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = _transfer_syntax(slide)
    header.SOPClassUID, header.SOPInstanceUID, header.InstanceNumber = WHOLE_SLIDE_CLASS, _new_uid(), level + 1
    header.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if level or slide.is_resampled else "NONE"]
    header.DerivationDescription = slide.description
    _describe_pixels(header, slide, level)
    _describe_place(header, slide, level)
    header.VolumetricProperties, header.ExtendedDepthOfField, header.FocusMethod = "VOLUME", "NO", "AUTO"
    header.BurnedInAnnotation = header.SpecimenLabelInImage = "NO"
    return header


def _transfer_syntax(slide: SlideToWrite) -> UID:
    jpeg2000 = JPEG2000 if slide.is_lossy else JPEG2000Lossless
    return {"jpeg": JPEGBaseline8Bit, "jpeg2000": jpeg2000, "none": ExplicitVRLittleEndian}[slide.compression]


def _describe_pixels(header: Dataset, slide: SlideToWrite, level: int) -> None:
    # YBR_FULL_422 is what the class has for JPEG; the streams say themselves that chroma is not halved.
    photometric = {"jpeg": "YBR_FULL_422", "jpeg2000": "YBR_ICT" if slide.is_lossy else "YBR_RCT", "none": "RGB"}[slide.compression]
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, photometric, 0
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.Rows = header.Columns = slide.tile_px
    header.NumberOfFrames = slide.n_tiles(level)
    header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows = slide.sizes_px[level]
    header.TotalPixelMatrixFocalPlanes = 1


def _describe_place(header: Dataset, slide: SlideToWrite, level: int) -> None:
    """Where the pixels lie, in mm: rows of pixels run along -y of the glass and columns along -x, as seen through the cover slip."""
    spacing = np.asarray(slide.mpp) * 2**level / 1e3
    header.ImagedVolumeWidth, header.ImagedVolumeHeight = (float(n * mpp / 1e3) for n, mpp in zip(slide.sizes_px[0], slide.mpp, strict=True))
    header.ImagedVolumeDepth = _DEPTH_UM
    header.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    x, y = (_decimal(v) for v in (np.asarray(slide.source_size_um) - slide.offset_um) / 1e3 - spacing / 2.0)
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = y, x
    header.TotalPixelMatrixOriginSequence = [origin]
    measures, kind, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [_decimal(spacing[1]), _decimal(spacing[0])], _decimal(_DEPTH_UM / 1e3)
    kind.FrameType = header.ImageType
    shared.PixelMeasuresSequence, shared.WholeSlideMicroscopyImageFrameTypeSequence = [measures], [kind]
    header.SharedFunctionalGroupsSequence = [shared]


def _decimal(value: float | Array) -> str:
    """A decimal string, which may have 16 characters."""
    return f"{float(value):.10g}"


def _coded(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _new_uid() -> str:
    return str(generate_uid(prefix=None))
