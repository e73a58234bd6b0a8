"""Frames, transforms and grids: where things are. numpy float64 only; no file format, no GUI."""

from idx.geometry.affine import AffineTransform
from idx.geometry.frames import PATIENT, SLIDE, Frame, slide_frame
from idx.geometry.graph import Edge, TransformGraph
from idx.geometry.grids import Grid, array_order, level0_position, point_order
from idx.geometry.transforms import (
    DisplacementTransform,
    NumericalInverse,
    SectionInverse,
    SectionTransform,
    SequenceTransform,
    Transform,
    compose,
)

__all__ = [
    "PATIENT",
    "SLIDE",
    "AffineTransform",
    "DisplacementTransform",
    "Edge",
    "Frame",
    "Grid",
    "NumericalInverse",
    "SectionInverse",
    "SectionTransform",
    "SequenceTransform",
    "Transform",
    "TransformGraph",
    "array_order",
    "compose",
    "level0_position",
    "point_order",
    "slide_frame",
]
