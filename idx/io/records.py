"""Frames, grids, sources, provenance and transforms as plain JSON records; floats keep all their digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from idx._typing import Array
from idx.errors import FormatError
from idx.geometry import (
    AffineTransform,
    DisplacementTransform,
    Frame,
    Grid,
    NumericalInverse,
    SectionInverse,
    SectionTransform,
    SequenceTransform,
    Transform,
)
from idx.provenance import Provenance, Source

Record = dict[str, Any]


def frame_to_record(frame: Frame) -> Record:
    """Record of a frame."""
    return {"name": frame.name, "unit": frame.unit, "axes": list(frame.axes)}


def frame_from_record(record: Record) -> Frame:
    """Frame of a record."""
    return Frame(record["name"], record["unit"], tuple(record["axes"]))


def grid_to_record(grid: Grid) -> Record:
    """Record of a grid."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist(), "frame": frame_to_record(grid.frame)}


def grid_from_record(record: Record) -> Grid:
    """Grid of a record."""
    z, y, x = record["shape"]
    return Grid((z, y, x), np.array(record["affine"]), frame_from_record(record["frame"]))


def source_to_record(source: Source | None) -> Record | None:
    """Record of where something was read from."""
    if source is None:
        return None
    return {"path": source.path, "kind": source.kind, "files": list(source.files), "ids": dict(source.ids)}


def source_from_record(record: Record | None) -> Source | None:
    """Return the source of a record; its path may have moved since."""
    return None if record is None else Source(record["path"], record["kind"], files=tuple(record["files"]), ids=record["ids"])


def provenance_to_record(provenance: Provenance | None) -> Record | None:
    """Record of how a result was made."""
    if provenance is None:
        return None
    return {
        "function": provenance.function,
        "settings": dict(provenance.settings),
        "inputs": list(provenance.inputs),
        "device": provenance.device,
        "version": provenance.version,
    }


def provenance_from_record(record: Record | None) -> Provenance | None:
    """Return the provenance of a record."""
    return None if record is None else Provenance(**{**record, "inputs": tuple(record["inputs"])})


def transform_to_record(transform: Transform, store: Callable[[Array], str]) -> Record:
    """Record of a transform.

    Parameters
    ----------
    transform : Transform
    store : callable
        Keeps an array (a displacement field) and returns the name under which it can be found again.
    """
    frames = {"source": frame_to_record(transform.source), "target": frame_to_record(transform.target)}
    match transform:
        case AffineTransform():
            return {"type": "affine", **frames, "matrix": transform.matrix.tolist()}
        case SectionTransform():
            return {"type": "section", **frames, "axes": transform.axes.tolist(), "origin_mm": transform.origin_mm.tolist()}
        case DisplacementTransform():
            return {"type": "displacement", **frames, "index_to_source": transform.index_to_source.tolist(), "array": store(transform.displacement)}
        case SectionInverse() | NumericalInverse():
            return {"type": "inverse", "of": transform_to_record(transform.inverse(), store)}
        case SequenceTransform():
            return {"type": "sequence", "steps": [transform_to_record(step, store) for step in transform.steps]}
    raise FormatError(f"transform must be one of idx.geometry's to be saved; got {type(transform).__name__}. Save its parts.")


def transform_from_record(record: Record, fetch: Callable[[str], Array]) -> Transform:
    """Transform of a record; ``fetch`` returns a stored array by its name."""
    kind = record["type"]
    if kind == "inverse":
        return transform_from_record(record["of"], fetch).inverse()
    if kind == "sequence":
        return SequenceTransform(tuple(transform_from_record(step, fetch) for step in record["steps"]))
    source, target = frame_from_record(record["source"]), frame_from_record(record["target"])
    if kind == "affine":
        return AffineTransform(np.array(record["matrix"]), source, target)
    if kind == "section":
        return SectionTransform(np.array(record["axes"]), np.array(record["origin_mm"]), source, target)
    if kind == "displacement":
        return DisplacementTransform(fetch(record["array"]), np.array(record["index_to_source"]), source, target)
    raise FormatError(f"transform type must be affine, section, displacement, inverse or sequence; got '{kind}'. Update idx to read it.")
