"""Annotations of ImageScope and ASAP in XML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import defusedxml
from defusedxml import ElementTree

from idx._typing import FloatArray
from idx.errors import FormatError
from idx.io.contours_polygons import PixelPolygon, Skipped, ring

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_IMAGESCOPE_POLYGONS = {"0": "polygon", "1": "rectangle"}
_ASAP_POLYGONS = {"Polygon", "Rectangle", "Spline"}


def read_polygons(path: Path, skipped: Skipped) -> tuple[str, list[PixelPolygon]]:
    """Return the kind of file ("imagescope-xml" or "asap-xml") and its polygons.

    Notes
    -----
    ImageScope: the class is the name of the annotation layer; a region with ``NegativeROA`` is a hole of the region of its layer that contains it.
    ASAP: the class is the group; a spline is taken through its control points.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, ValueError) as error:
        raise FormatError(f"XML must be complete and free of entities; got: {error!r} ({path}). Export the annotations again.") from error
    try:
        if root.tag == "Annotations":
            return "imagescope-xml", list(_imagescope(root, path, skipped))
        if root.tag == "ASAP_Annotations":
            return "asap-xml", list(_asap(root, path, skipped))
    except (KeyError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"annotation vertices must have numeric X and Y; got: {error!r} ({path}). Export the annotations again.") from error
    raise FormatError(f"XML must be an export of ImageScope or ASAP; got <{root.tag}> ({path}). Export the annotations as GeoJSON from QuPath instead.")


def _imagescope(root: Element, path: Path, skipped: Skipped) -> Iterator[PixelPolygon]:
    for layer in root.iter("Annotation"):
        outlines: list[PixelPolygon] = []
        holes: list[FloatArray] = []
        for region in layer.iter("Region"):
            if region.get("Type", "0") not in _IMAGESCOPE_POLYGONS:
                skipped.add("ImageScope regions that are no polygon or rectangle")
                continue
            points = ring([(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")], path)
            if region.get("NegativeROA", "0") == "1":
                holes.append(points)
            else:
                outlines.append(PixelPolygon(layer.get("Name") or "", [points]))
        for hole in holes:
            _place_hole(hole, outlines, skipped)
        yield from outlines


def _place_hole(hole: FloatArray, outlines: list[PixelPolygon], skipped: Skipped) -> None:
    """Add a hole to the smallest outline that contains its inside."""
    import shapely

    if len(hole) < 3:
        skipped.add("holes of fewer than 3 vertices")
        return
    inside = shapely.Polygon(hole).representative_point()
    shapes = [(shapely.Polygon(outline.rings[0]), outline) for outline in outlines if len(outline.rings[0]) >= 3]
    # buffer(0) makes self-crossing outlines answerable; the outline itself stays as it was drawn.
    around = [(shape.area, outline) for shape, outline in shapes if shapely.buffer(shape, 0).contains(inside)]
    if around:
        min(around, key=lambda pair: pair[0])[1].rings.append(hole)
    else:
        skipped.add("holes outside every region")


def _asap(root: Element, path: Path, skipped: Skipped) -> Iterator[PixelPolygon]:
    for annotation in root.iter("Annotation"):
        if annotation.get("Type") not in _ASAP_POLYGONS:
            skipped.add(f"ASAP annotations of type {annotation.get('Type')}")
            continue
        vertices = sorted(annotation.iter("Coordinate"), key=lambda vertex: float(vertex.get("Order", 0)))
        group = annotation.get("PartOfGroup") or ""
        points = ring([(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in vertices], path)
        yield PixelPolygon("" if group == "None" else group, [points])
