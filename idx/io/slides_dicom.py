"""DICOM whole-slide images: pydicom reads the headers, frames are found once and decoded when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.errors import InvalidDicomError
from pydicom.uid import JPEG2000, UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from idx._typing import IntArray, Pair, RGBArray
from idx.errors import FormatError
from idx.io.jpeg import RGB, YCBCR, JpegTiles, marked_colorspace
from idx.io.jpeg2000 import Jpeg2000Tiles
from idx.io.slides_tiles import ReadOnlyFile, TileLayout
from idx.io.stored_tiles import Decoder, StoredTiles
from idx.slide import Level, TileRect

WHOLE_SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_TRANSFER_SYNTAXES = (JPEGBaseline8Bit, JPEG2000, JPEG2000Lossless, *_NATIVE)
_NOT_IN_PYRAMID = {"LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER"}
_PEEK_TAGS = ("SOPClassUID", "SeriesInstanceUID", "SeriesDescription")
_LONG_LENGTH_VRS = (b"OB", b"OW")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_MARKER_BYTES = 1 << 12
"""Of a frame that are read to find its markers, which come before its tables."""


@dataclass(frozen=True, eq=False)
class DicomLevel:
    """One VOLUME instance: where its frames lie and how they are coded.

    Parameters
    ----------
    path : Path
    layout : TileLayout
        Offsets and counts are those of the bytes of each frame in tile order.
    decode : callable
        Decoder of its frames.
    mpp : tuple of float or None
        um per pixel of this level (x, y).
    """

    path: Path
    layout: TileLayout
    decode: Decoder
    mpp: Pair | None


@dataclass(frozen=True, eq=False)
class DicomIndex:
    """Everything that reading a DICOM slide needs.

    Parameters
    ----------
    levels : tuple of DicomLevel
        Finest first.
    series_uid, level0_sop_uid : str
    magnification : float or None
    icc_profile : bytes or None
    """

    levels: tuple[DicomLevel, ...]
    series_uid: str
    level0_sop_uid: str
    magnification: float | None
    icc_profile: bytes | None


def has_preamble(path: Path) -> bool:
    """Whether a file carries the DICOM preamble, as every whole-slide instance does (files without one are older than the class)."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def whole_slide_files(folder: Path) -> dict[str, list[Path]]:
    """Whole-slide instances of a folder by SeriesInstanceUID; other files are passed over."""
    series: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        if has_preamble(path):
            header = _read_header(path, tags=_PEEK_TAGS)
            if header.get("SOPClassUID") == WHOLE_SLIDE_CLASS:
                series.setdefault(str(header.SeriesInstanceUID), []).append(path)
    return series


def files_of(path: Path) -> list[Path]:
    """Instances of the one slide that a folder holds, or of the slide that a file belongs to.

    Raises
    ------
    FormatError
        If there is no whole-slide instance or the folder holds several slides.
    """
    folder = path if path.is_dir() else path.parent
    series = whole_slide_files(folder)
    if path.is_file():
        mine = [files for files in series.values() if path in files]
        if not mine:
            raise FormatError(f"DICOM file must be a whole-slide image; got another kind ({path}). Use idx.read_ct for CT, idx.read_contours for annotations.")
        return mine[0]
    if not series:
        raise FormatError(f"folder must hold a DICOM whole-slide image; got none ({path}). Pass the slide's file or the folder that holds its instances.")
    if len(series) > 1:
        listing = ", ".join(f"{uid} ({files[0].name} and {len(files) - 1} more)" for uid, files in sorted(series.items()))
        raise FormatError(f"folder must hold one slide; got {len(series)}: {listing} ({path}). Pass one file of the slide you want.")
    return next(iter(series.values()))


def read_index(files: Sequence[Path], *, jpeg_colours: str = "stated") -> DicomIndex:
    """Read headers and frame positions of the instances of one slide.

    Parameters
    ----------
    files : sequence of Path
    jpeg_colours : {"stated", "marked"}
        Whom to believe about the colour space of JPEG frames, the header or the markers in the frames.

    Raises
    ------
    FormatError
        If there is no VOLUME instance or one of them is damaged or of a kind that is not read.
    """
    found: list[tuple[int, DicomLevel, pydicom.Dataset]] = []
    for path in files:
        header = _read_header(path)
        if not _NOT_IN_PYRAMID & set(header.get("ImageType", ())) and "VOLUME" in header.get("ImageType", ()):
            level = _read_level(header, path, jpeg_colours=jpeg_colours)
            found.append((level.layout.width_px, level, header))
    if not found:
        raise FormatError(f"DICOM slide must hold a VOLUME image; got only labels or overviews ({files[0].parent}). Fetch the missing instances of the series.")
    found.sort(key=lambda item: -item[0])
    widths = [width for width, _, _ in found]
    if len(set(widths)) < len(widths):
        names = ", ".join(level.path.name for width, level, _ in found if widths.count(width) > 1)
        raise FormatError(
            f"DICOM slide must hold one image per level; got several of one size: {names} ({files[0].parent}). Keep one optical path and focal plane."
        )
    first = found[0][2]
    return DicomIndex(
        tuple(level for _, level, _ in found), str(first.SeriesInstanceUID), str(first.SOPInstanceUID), _magnification(first), _icc_profile(first)
    )


def _read_header(path: Path, *, tags: Sequence[str] | None = None) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags) if tags else None)
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError) as error:
        raise FormatError(f"DICOM file must be complete and readable; got: {error} ({path}). Copy the file again from its source.") from error


def _read_level(header: pydicom.Dataset, path: Path, *, jpeg_colours: str) -> DicomLevel:
    """Level of one VOLUME instance."""
    _check_kind(header, path)
    width, height = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
    tile_width, tile_height = int(header.Columns), int(header.Rows)
    n_frames = int(header.get("NumberOfFrames", 1))
    offsets, counts = _frame_positions(header, path, n_frames)
    shape = TileLayout(width, height, tile_width, tile_height, offsets, counts)
    n_tiles = shape.n_columns * shape.n_rows
    organization, groups = header.get("DimensionOrganizationType"), header.get("PerFrameFunctionalGroupsSequence", ())
    # TILED_FULL states the order itself: its frames may have functional groups without positions.
    is_in_order = organization == "TILED_FULL" and not any("PlanePositionSlideSequence" in group for group in groups)
    if organization == "TILED_SPARSE" or (groups and not is_in_order):
        at = _tile_numbers(header, shape, path)
        placed = TileLayout(width, height, tile_width, tile_height, np.zeros(n_tiles, dtype=np.int64), np.zeros(n_tiles, dtype=np.int64))
        placed.offsets[at], placed.counts[at] = offsets, counts
    elif n_frames == n_tiles:
        placed = shape
    else:
        raise FormatError(
            f"DICOM slide must hold {n_tiles} frames for {width} x {height} px; got {n_frames} ({path}). Fetch the instance again; focal planes are not read."
        )
    decode = _frame_decoder(header)
    marked = _marked_colours(placed, path) if isinstance(decode, JpegTiles) else None
    if isinstance(decode, JpegTiles) and marked is not None and marked != decode.colorspace:
        if jpeg_colours == "marked":
            decode = JpegTiles(marked)
        else:
            # Bio-Formats and some converters write YCbCr under a header that says RGB; OpenSlide reads such levels as stated, red and grey.
            doubt = f"the header says {header.PhotometricInterpretation}, the JPEG frames say {'RGB' if marked == RGB else 'YCbCr'}; read as stated"
            placed = replace(placed, doubt=doubt)
    return DicomLevel(path, placed, decode, _pixel_spacing_um(header))


def _marked_colours(layout: TileLayout, path: Path) -> int | None:
    """Colour space that the first stored frame of a level states by its markers."""
    stored = np.flatnonzero(layout.counts)
    if len(stored) == 0:
        return None
    with path.open("rb") as stream:
        stream.seek(int(layout.offsets[stored[0]]))
        return marked_colorspace(stream.read(min(int(layout.counts[stored[0]]), _MARKER_BYTES)))


def _check_kind(header: pydicom.Dataset, path: Path) -> None:
    """Refuse instances whose frames would be misread."""
    needed = ("TotalPixelMatrixColumns", "TotalPixelMatrixRows", "Columns", "Rows", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation")
    missing = [name for name in needed if name not in header]
    if missing:
        raise FormatError(f"DICOM slide must state {', '.join(missing)}; got a header without ({path}). Re-export the slide.")
    if header.SamplesPerPixel != 3 or header.BitsAllocated != 8:
        raise FormatError(
            f"slide pixels must be 8-bit RGB; got {header.SamplesPerPixel} x {header.BitsAllocated}-bit {header.PhotometricInterpretation} ({path}). "
            "Export the slide as RGB."
        )
    if "ConcatenationUID" in header:
        raise FormatError(
            f"DICOM slide must not be cut into concatenations; got part {header.get('InConcatenationNumber', '?')} ({path}). Re-join the instances."
        )
    if int(header.get("TotalPixelMatrixFocalPlanes", 1)) > 1 or int(header.get("NumberOfOpticalPaths", 1)) > 1:
        raise FormatError(f"DICOM slide must hold one focal plane and one optical path; got several ({path}). Export one of them.")
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in _TRANSFER_SYNTAXES:
        readable = ", ".join(uid.name for uid in _TRANSFER_SYNTAXES)
        raise FormatError(f"DICOM slide must be stored in one of: {readable}; got {UID(syntax).name} ({path}). Transcode it.")
    if syntax in _NATIVE and (header.PhotometricInterpretation != "RGB" or header.get("PlanarConfiguration", 0) != 0):
        raise FormatError(f"uncompressed slide pixels must be interleaved RGB; got {header.PhotometricInterpretation} ({path}). Export the slide as RGB.")


def _frame_positions(header: pydicom.Dataset, path: Path, n_frames: int) -> tuple[IntArray, IntArray]:
    """Offsets and numbers of bytes (n_frames,) of the frames in the file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        is_explicit = header.file_meta.TransferSyntaxUID != ImplicitVRLittleEndian
        element = stream.read(12 if is_explicit else 8)
        if element[:4] != b"\xe0\x7f\x10\x00" or (is_explicit and element[4:6] not in _LONG_LENGTH_VRS):
            raise FormatError(f"DICOM slide must hold pixel data; got none ({path}). Fetch the instance again: it is truncated or a header only.")
        if int.from_bytes(element[-4:], "little") != _UNDEFINED_LENGTH:
            count = int(header.Rows) * int(header.Columns) * 3
            offsets, counts = stream.tell() + count * np.arange(n_frames, dtype=np.int64), np.full(n_frames, count, dtype=np.int64)
        else:
            offsets, counts = _encapsulated_positions(stream, header, path, n_frames)
    if len(offsets) and int((offsets + counts).max()) > size:
        raise FormatError(
            f"DICOM slide must hold all its frames; got a file of {size:,} bytes whose frames reach to byte {int((offsets + counts).max()):,}: "
            f"it is truncated ({path}). "
            "Copy the file again from its source."
        )
    return offsets, counts


def _encapsulated_positions(stream, header: pydicom.Dataset, path: Path, n_frames: int) -> tuple[IntArray, IntArray]:  # type: ignore[no-untyped-def]
    """Positions of frames in fragments; a frame in several fragments cannot be read in one piece and is refused."""
    try:
        parse_basic_offsets(stream)
        n_fragments, starts = parse_fragments(stream)
    except (ValueError, EOFError, OSError, IndexError) as error:
        raise FormatError(
            f"DICOM slide must hold whole frames; got: {error}: it is truncated or damaged ({path}). Copy the file again from its source."
        ) from error
    if n_fragments != n_frames:
        raise FormatError(
            f"DICOM slide must hold one fragment per frame; got {n_fragments} fragments for {n_frames} frames: "
            f"it is truncated or was written in pieces ({path}). "
            "Copy the file again, or transcode it."
        )
    offsets = np.asarray(starts, dtype=np.int64) + 8  # past the item's tag and length
    counts = np.empty(n_frames, dtype=np.int64)
    for number, start in enumerate(starts):
        stream.seek(start + 4)
        counts[number] = int.from_bytes(stream.read(4), "little")
    return offsets, counts


def _tile_numbers(header: pydicom.Dataset, layout: TileLayout, path: Path) -> IntArray:
    """Number in row order (n_frames,) of the tile that each frame is; positions count from 1."""
    numbers = []
    for frame in header.get("PerFrameFunctionalGroupsSequence", ()):
        if "PlanePositionSlideSequence" not in frame:
            raise FormatError(f"frames of a sparse DICOM slide must state their position; got one without ({path}). Re-export the slide.")
        position = frame.PlanePositionSlideSequence[0]
        x, y = int(position.ColumnPositionInTotalImagePixelMatrix) - 1, int(position.RowPositionInTotalImagePixelMatrix) - 1
        if x % layout.tile_width_px or y % layout.tile_height_px or not (0 <= x < layout.width_px and 0 <= y < layout.height_px):
            raise FormatError(
                f"frames of a DICOM slide must lie on a grid of {layout.tile_width_px} x {layout.tile_height_px} px; got one at {x + 1}, {y + 1} ({path}). "
                "Re-export the slide."
            )
        numbers.append(y // layout.tile_height_px * layout.n_columns + x // layout.tile_width_px)
    if len(set(numbers)) < len(numbers) or len(numbers) != len(layout.offsets):
        raise FormatError(
            f"DICOM slide must hold each tile once; got {len(numbers)} positions, {len(set(numbers))} different ({path}). Export one focal plane."
        )
    return np.array(numbers, dtype=np.int64)


def _frame_decoder(header: pydicom.Dataset) -> Decoder:
    syntax, photometric = header.file_meta.TransferSyntaxUID, header.PhotometricInterpretation
    if syntax == JPEGBaseline8Bit:
        return JpegTiles(RGB if photometric == "RGB" else YCBCR)
    if syntax in (JPEG2000, JPEG2000Lossless):
        # YBR_ICT and YBR_RCT are undone by the codec itself; only plain YBR needs the conversion.
        return Jpeg2000Tiles(is_ycbcr=photometric in ("YBR_FULL", "YBR_FULL_422"))
    shape = (int(header.Rows), int(header.Columns), 3)
    return lambda block, _, __: np.frombuffer(block, dtype=np.uint8).reshape(shape)


def _pixel_spacing_um(header: pydicom.Dataset) -> Pair | None:
    """Um per pixel (x, y): PixelSpacing (row, column distance in mm) first, the imaged volume's size otherwise."""
    shared = header.get("SharedFunctionalGroupsSequence")
    measures = shared[0].get("PixelMeasuresSequence") if shared else None
    if measures and "PixelSpacing" in measures[0]:
        between_rows, between_columns = (float(value) for value in measures[0].PixelSpacing)
        mpp = (between_columns * 1e3, between_rows * 1e3)
    elif "ImagedVolumeWidth" in header and "ImagedVolumeHeight" in header:
        mpp = (float(header.ImagedVolumeWidth) * 1e3 / header.TotalPixelMatrixColumns, float(header.ImagedVolumeHeight) * 1e3 / header.TotalPixelMatrixRows)
    else:
        return None
    return mpp if min(mpp) > 0 else None


def _magnification(header: pydicom.Dataset) -> float | None:
    paths = header.get("OpticalPathSequence")
    power = paths[0].get("ObjectiveLensPower") if paths else None
    return float(power) if power else None


def _icc_profile(header: pydicom.Dataset) -> bytes | None:
    paths = header.get("OpticalPathSequence")
    profile = paths[0].get("ICCProfile") if paths else None
    return bytes(profile) if profile else None


class DicomPixels:
    """Pixels of a DICOM slide through a :class:`DicomIndex`; safe to use from several threads."""

    name = "dicom"

    def __init__(self, index: DicomIndex) -> None:
        files = [ReadOnlyFile(level.path) for level in index.levels]
        self.stored = StoredTiles([level.layout for level in index.levels], files, [level.decode for level in index.levels])

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        return self.stored.levels

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8; see :class:`idx.slide.PixelSource`."""
        self.stored.fill(batch, tiles)

    def close(self) -> None:
        """Release the files."""
        self.stored.close()
