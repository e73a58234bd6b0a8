"""GeoJSON as QuPath reads and writes it."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from idx._typing import FloatArray
from idx.errors import FormatError
from idx.io.contours_polygons import CORNER_PX, PixelPolygon, Skipped, ring
from idx.slide import Contours, Slide

_DECIMALS = 8
"""Of a pixel; a billionth of a micrometre needs no more."""


def read_polygons(path: Path, skipped: Skipped) -> Iterator[PixelPolygon]:
    """Yield the polygons of a FeatureCollection, a list of features, a feature or a bare geometry."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"GeoJSON must be complete; got: {error} ({path}). Export the annotations again (QuPath: File > Export objects as GeoJSON)."
        ) from error
    try:
        for feature in _features(content, path):
            yield from _polygons(feature, path, skipped)
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        raise FormatError(f"GeoJSON must hold features with a geometry; got a part without: {error!r} ({path}). Export the annotations again.") from error


def _features(content: Any, path: Path) -> list[dict[str, Any]]:
    if isinstance(content, list):
        return content
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "FeatureCollection":
        features: list[dict[str, Any]] = content["features"]
        return features
    if kind == "Feature":
        return [content]
    if kind in ("Polygon", "MultiPolygon"):
        return [{"geometry": content}]
    raise FormatError(f"GeoJSON must be a FeatureCollection, a Feature or a list of them; got {kind!r} ({path}). Export the annotations again.")


def _polygons(feature: dict[str, Any], path: Path, skipped: Skipped) -> Iterator[PixelPolygon]:
    geometry = feature["geometry"]
    if not geometry or geometry["type"] not in ("Polygon", "MultiPolygon"):
        skipped.add(f"{geometry['type'] if geometry else 'empty'} geometries")
        return
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    label = _class_name((feature.get("properties") or {}).get("classification"))
    for part in parts:
        if part:
            yield PixelPolygon(label, [ring(points, path) for points in part])
        else:
            skipped.add("empty geometries")


def _class_name(classification: Any) -> str:
    """Name of QuPath's class; derived classes ("Tumor: Positive") may come as a list of names."""
    if isinstance(classification, dict):
        names = classification.get("names")
        return str(classification.get("name") or (": ".join(map(str, names)) if names else ""))
    return str(classification or "")


def write(contours: Contours, path: Path, *, slide: Slide, object_type: str) -> None:
    """Write a FeatureCollection; the file appears whole or not at all."""
    colours = {label: _colour(label) for label in set(contours.labels)}
    features = [_feature(contours, index, slide, colours, object_type) for index in range(len(contours))]
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":")), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _feature(contours: Contours, index: int, slide: Slide, colours: dict[str, list[int]], object_type: str) -> dict[str, Any]:
    rings = [_closed(slide.to_px(part) + CORNER_PX) for part in contours.rings(index)]
    label = contours.labels[index]
    properties: dict[str, Any] = {"objectType": object_type}
    if label:
        properties["classification"] = {"name": label, "color": colours[label]}
    # The same contour gets the same id, so that two exports of one result are one file.
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, f"{index} {label} {rings[0]}")
    return {"type": "Feature", "id": str(identifier), "geometry": {"type": "Polygon", "coordinates": rings}, "properties": properties}


def _closed(vertices_px: FloatArray) -> list[list[float]]:
    points: list[list[float]] = vertices_px.round(_DECIMALS).tolist()
    return [*points, points[0]]


def _colour(label: str) -> list[int]:
    """A colour that depends on the name only, neither near black nor near white."""
    return [48 + byte % 160 for byte in hashlib.sha256(label.encode()).digest()[:3]]
