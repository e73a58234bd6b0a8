"""Contours on slides: GeoJSON (QuPath), ImageScope XML, ASAP XML and DICOM ANN in; GeoJSON out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from idx._typing import Pair, PathLike
from idx.errors import FormatError, UnitError
from idx.geometry.frames import SLIDE
from idx.io.contours_polygons import PixelPolygon, Skipped, to_contours
from idx.io.slides import mpp_pair
from idx.provenance import Source
from idx.slide import Contours, Slide


def read_contours(path: PathLike, *, slide: Slide | None = None, mpp: float | Pair | None = None) -> Contours:
    """Read outlines that were drawn on a slide.

    Parameters
    ----------
    path : path
        GeoJSON as of QuPath, XML of ImageScope or ASAP, or DICOM Microscopy Bulk Simple Annotations; recognised by content.
    slide : Slide, optional
        The slide they were drawn on: gives um per pixel and the frame.
    mpp : float or (x, y), optional
        um per level-0 pixel, where the slide itself is not at hand.

    Returns
    -------
    Contours
        Polygons in um, labelled with their classes ("" where none).

    Raises
    ------
    FormatError
        If the file is missing, malformed or of an unknown kind.
    UnitError
        If neither slide nor mpp is given, or both.

    Notes
    -----
    These programs count level-0 pixels from the *corner* of the first pixel, idx from its *centre*: ``um = (px - 0.5) * mpp``.
    Rings are opened; outlines and holes of fewer than three vertices, points and lines are left out, and a warning counts them.
    Self-crossing outlines are kept as they were drawn: their shoelace area is not the area they cover.

    Examples
    --------
    >>> outlines = idx.read_contours("A12.geojson", slide=slide)  # doctest: +SKIP
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise FormatError(f"contours must be in a file; got none ({file}). Check the path.")
    scale = _scale(slide, mpp, file)
    skipped = Skipped()
    kind, polygons = _read(file, skipped, slide)
    contours = to_contours(polygons, skipped, mpp=scale, frame=slide.frame if slide is not None else SLIDE, source=Source(str(file), kind))
    skipped.warn(file)
    return contours


def _scale(slide: Slide | None, mpp: float | Pair | None, file: Path) -> Pair:
    if slide is not None and mpp is None:
        return slide.mpp
    if slide is None and mpp is not None:
        return mpp_pair(mpp, where=str(file))
    given = "neither" if slide is None else "both"
    raise UnitError(f"contours must get their um per pixel from either slide= or mpp=; got {given} ({file}). Pass read_contours(..., slide=slide).")


def _read(file: Path, skipped: Skipped, slide: Slide | None) -> tuple[str, Iterable[PixelPolygon]]:
    """Kind and polygons of a file, by its first bytes."""
    with file.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM":
        from idx.io.contours_dicom import read_polygons as read_dicom

        return "dicom-ann", read_dicom(file, skipped, slide=slide)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"{", b"[")):
        from idx.io.contours_geojson import read_polygons as read_geojson

        return "geojson", read_geojson(file, skipped)
    if text.startswith(b"<"):
        from idx.io.contours_xml import read_polygons as read_xml

        return read_xml(file, skipped)
    raise FormatError(f"contours must be GeoJSON, ImageScope or ASAP XML or DICOM ANN; got another kind ({file}). Export them as GeoJSON from QuPath.")


def write_geojson(contours: Contours, path: PathLike, *, slide: Slide, object_type: Literal["annotation", "detection"] = "annotation") -> None:
    """Write contours as GeoJSON that QuPath imports onto the slide.

    Parameters
    ----------
    contours : Contours
        In um, in the slide's frame.
    path : path
        File to write; replaced whole.
    slide : Slide
        The slide they lie on: gives um per pixel.
    object_type : {"annotation", "detection"}
        How QuPath holds them; detections are light enough for a hundred thousand nuclei.

    Raises
    ------
    FormatError
        If the object type is unknown or the contours lie in another frame.

    Notes
    -----
    Level-0 pixels from the corner of the first pixel: ``px = um / mpp + 0.5``. Each class gets a colour that depends on its name only.
    """
    if object_type not in ("annotation", "detection"):
        raise FormatError(f"object_type must be 'annotation' or 'detection'; got {object_type!r} ({path}). Pass one of them.")
    if contours.frame != slide.frame:
        raise FormatError(f"contours must lie in the slide's frame {slide.frame}; got {contours.frame} ({path}). Pass the slide they were measured on.")
    from idx.io.contours_geojson import write

    write(contours, Path(path).expanduser(), slide=slide, object_type=object_type)
