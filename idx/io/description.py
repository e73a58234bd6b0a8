"""What a file or folder is, in words and units, without being told what to expect."""

from __future__ import annotations

from pathlib import Path

from idx._typing import PathLike
from idx.errors import FormatError, UnitError
from idx.io.contours import read_contours
from idx.io.slides import open_slide
from idx.io.tables import read_table
from idx.io.volumes import image_kind, read_ct, read_volume

Facts = list[tuple[str, object]]
CONTOUR_SUFFIXES = (".geojson", ".json", ".xml")


def describe_file(path: PathLike) -> Facts:
    """Say what an image, mask, slide, table or contour file (or a DICOM folder) holds.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of (name, value)
        The first is ("kind", ...).

    Raises
    ------
    FormatError
        If nothing is there, or idx does not read it.
    """
    place = Path(path)
    if not place.exists():
        raise FormatError(f"path must be an existing file or folder; got nothing at '{place}'. Check the path.")
    if place.is_dir():
        return _dicom(place, _first_dicom(place))
    if place.suffix.lower() == ".parquet":
        table = read_table(place)
        return [("kind", "feature table"), *table.facts(), ("features", ", ".join(spec.name for spec in table.specs))]
    if place.suffix.lower() in CONTOUR_SUFFIXES:
        return _contours(place)
    kind = image_kind(place)
    if kind == "dicom":
        return _dicom(place, place)
    if kind is not None:
        volume = read_volume(place)
        return [("kind", f"{kind} image (an image, or a mask as labels)"), *volume.facts()]
    return _slide(place)


def _first_dicom(folder: Path) -> Path:
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        if image_kind(file) == "dicom":
            return file
    raise FormatError(f"a folder must hold DICOM files or a saved case; got neither in '{folder}'. Pass the file itself.")


def _dicom(place: Path, first: Path) -> Facts:
    """Facts of a DICOM file or folder, by the class of its (first) object."""
    import pydicom

    from idx.io.contours_dicom import ANNOTATION_CLASS
    from idx.io.slides_dicom import WHOLE_SLIDE_CLASS

    # force: image_kind has told DICOM by its content, and files without preamble are read elsewhere too.
    header = pydicom.dcmread(first, stop_before_pixels=True, force=True)
    modality, sop_class = str(header.get("Modality", "unknown")), str(header.get("SOPClassUID", ""))
    if sop_class == WHOLE_SLIDE_CLASS:
        return _slide(place)
    if sop_class == ANNOTATION_CLASS:
        groups = [f"{g.AnnotationGroupLabel} ({int(g.NumberOfAnnotations):,})" for g in header.AnnotationGroupSequence]
        return [("kind", "DICOM annotations (ANN)"), ("groups", ", ".join(groups))]
    if modality == "RTSTRUCT":
        return [("kind", "DICOM RTSTRUCT"), ("structures", ", ".join(str(roi.ROIName) for roi in header.StructureSetROISequence))]
    if modality == "SEG":
        return [("kind", "DICOM SEG"), ("segments", ", ".join(str(s.SegmentLabel) for s in header.SegmentSequence))]
    if modality == "CT":
        return [("kind", "CT (DICOM)"), *read_ct(place).facts()]
    return [("kind", f"{modality} (DICOM)"), *read_volume(place).facts()]


def _slide(place: Path) -> Facts:
    try:
        with open_slide(place) as slide:
            return [("kind", f"slide ({slide.source.kind if slide.source else 'unknown'})"), *slide.facts()]
    except UnitError:
        # The scale is the caller's to give; what else the file says is still worth showing.
        with open_slide(place, mpp=1.0) as slide:
            facts = [(name, value) for name, value in slide.facts() if not name.startswith(("mpp", "size"))]
            width, height = slide.size_px
            return [("kind", "slide"), ("size", f"{width:,} x {height:,} px"), ("mpp (x, y)", "unknown: pass open_slide(..., mpp=) or --mpp"), *facts]


def _contours(place: Path) -> Facts:
    """Counts only: the size of a pixel is the slide's."""
    contours = read_contours(place, mpp=1.0)
    return [("kind", "contours"), *((name, value) for name, value in contours.facts() if name not in ("area", "frame"))]
