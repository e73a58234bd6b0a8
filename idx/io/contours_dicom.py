"""DICOM Microscopy Bulk Simple Annotations (ANN)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from idx._typing import FloatArray, IntArray
from idx.errors import FormatError
from idx.io.contours_polygons import PixelPolygon, Skipped, ring
from idx.slide import Slide

ANNOTATION_CLASS = "1.2.840.10008.5.1.4.1.1.91.1"
_RECTANGLE_VERTICES = 4


def read_polygons(path: Path, skipped: Skipped, *, slide: Slide | None) -> list[PixelPolygon]:
    """Return polygons and rectangles of all groups; the class is the group's label.

    Notes
    -----
    Two-dimensional coordinates are pixels of the image that the annotations refer to, (0, 0) the corner of its first pixel. When the slide is open
    through DICOM, it is checked that this image is its level 0; otherwise the caller answers for it.

    Raises
    ------
    FormatError
        If the file is damaged, no ANN, refers to another image or holds 3-D coordinates.
    """
    try:
        header = pydicom.dcmread(path)
    except (InvalidDicomError, EOFError, OSError, ValueError) as error:
        raise FormatError(f"DICOM annotations must be complete and readable; got: {error} ({path}). Export them again.") from error
    if header.get("SOPClassUID") != ANNOTATION_CLASS:
        raise FormatError(f"DICOM file must hold bulk simple annotations (ANN); got {header.get('SOPClassUID', 'no class')} ({path}). Pass the ANN file.")
    if header.get("AnnotationCoordinateType") != "2D":
        raise FormatError(
            f"annotation coordinates must be pixels of the image (2D); got {header.get('AnnotationCoordinateType')} in mm of the slide's frame ({path}). "
            "Export them as 2D: the position of the glass is not known to idx."
        )
    if header.get("PixelOriginInterpretation", "VOLUME") != "VOLUME":
        raise FormatError(f"annotation pixels must count from the whole image; got {header.PixelOriginInterpretation} ({path}). Export them as VOLUME.")
    _check_reference(header, path, slide)
    try:
        return [polygon for group in header.AnnotationGroupSequence for polygon in _group(group, path, skipped)]
    except AttributeError as error:
        raise FormatError(f"DICOM annotations must hold complete groups; got: {error} ({path}). Export them again.") from error


def _check_reference(header: pydicom.Dataset, path: Path, slide: Slide | None) -> None:
    """Refuse annotations of another image than the slide's level 0, where that can be known."""
    level0 = slide.source.ids.get("level0_sop_uid") if slide is not None and slide.source is not None else None
    referred = {str(item.ReferencedSOPInstanceUID) for item in header.get("ReferencedImageSequence", ())}
    for series in header.get("ReferencedSeriesSequence", ()):
        referred |= {str(item.ReferencedSOPInstanceUID) for item in series.get("ReferencedInstanceSequence", ())}
    if level0 and referred and level0 not in referred:
        raise FormatError(
            f"annotations must refer to level 0 of the slide ({level0}); got {', '.join(sorted(referred))} ({path}). Open the slide they were drawn on."
        )


def _group(group: pydicom.Dataset, path: Path, skipped: Skipped) -> Iterator[PixelPolygon]:
    if group.GraphicType not in ("POLYGON", "RECTANGLE"):
        for _ in range(int(group.NumberOfAnnotations)):
            skipped.add(f"DICOM annotations of type {group.GraphicType}")
        return
    for vertices in np.split(*_vertices_and_cuts(group, path)):
        yield PixelPolygon(str(group.get("AnnotationGroupLabel", "")), [ring(vertices, path)])


def _vertices_and_cuts(group: pydicom.Dataset, path: Path) -> tuple[FloatArray, IntArray]:
    """All vertices (n, 2) of a group and where its second, third ... annotation begins."""
    bulk, dtype = (group.DoublePointCoordinatesData, "<f8") if "DoublePointCoordinatesData" in group else (group.PointCoordinatesData, "<f4")
    vertices = np.frombuffer(bulk, dtype=dtype).astype(np.float64).reshape(-1, 2)
    if group.GraphicType == "RECTANGLE":
        starts = np.arange(0, len(vertices), _RECTANGLE_VERTICES, dtype=np.int64)
    else:
        # Indices count single values from 1.
        starts = (np.frombuffer(group.LongPrimitivePointIndexList, dtype="<u4").astype(np.int64) - 1) // 2
    if len(starts) != int(group.NumberOfAnnotations) or len(starts) == 0 or starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= len(vertices):
        raise FormatError(
            f"annotation group must list {group.NumberOfAnnotations} annotations; got indices {starts[:5].tolist()} for {len(vertices)} vertices ({path}). "
            "Export them again."
        )
    return vertices, starts[1:]
