"""Measurements of nuclei, made in the pass that finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import Array, FloatArray, IntArray, Pair
from idx.kernels import nucleus_shape
from idx.kernels.labels import outlines


@dataclass(frozen=True, eq=False)
class MeasuredTile:
    """Nuclei of one tile: positions in the tile's pixels, everything else in um.

    Parameters
    ----------
    centroid_px : array (n, 2)
        (x, y).
    columns : dict of array (n,)
        Features of :data:`idx.histology.catalog.NUCLEUS_FEATURES` but for the centroid in um.
    vertices_px, ring_offsets, polygon_offsets : arrays
        Outlines, laid out as in :class:`idx.slide.Contours`.
    """

    centroid_px: FloatArray
    columns: dict[str, FloatArray]
    vertices_px: FloatArray
    ring_offsets: IntArray
    polygon_offsets: IntArray


def centroids(labels: IntArray) -> FloatArray:
    """Centroids (n, 2) (x, y) in pixels of labels 1..n, each of which must have a pixel."""
    moments = nucleus_shape.pixel_moments(labels, int(labels.max(initial=0)), spacing=(1.0, 1.0))
    return np.stack([moments["x_px"], moments["y_px"]], axis=-1)


def measure(labels: IntArray, haematoxylin_od: Array, *, mpp: Pair) -> MeasuredTile:
    """Measure and outline the nuclei of one label image.

    Parameters
    ----------
    labels : array (y, x) of int
        1..n, each one 4-connected part.
    haematoxylin_od : array (y, x)
    mpp : tuple of float
        um per pixel (x, y).
    """
    n = int(labels.max(initial=0))
    moments = nucleus_shape.pixel_moments(labels, n, spacing=mpp)
    axes = nucleus_shape.ellipse(moments["xx"], moments["yy"], moments["xy"])
    perimeter = nucleus_shape.crofton_perimeter(labels, n, spacing=mpp)
    stain = nucleus_shape.intensity(labels, haematoxylin_od, n)
    vertices, ring_offsets, ring_labels = outlines(labels)
    polygon_offsets = np.searchsorted(ring_labels, np.arange(1, n + 2))
    area = moments["area"]
    columns = {
        "area_um2": area,
        "perimeter_um": perimeter,
        "circularity": 4.0 * np.pi * area / perimeter**2,
        "equivalent_diameter_um": 2.0 * np.sqrt(area / np.pi),
        "major_axis_um": axes["major"],
        "minor_axis_um": axes["minor"],
        "eccentricity": axes["eccentricity"],
        "orientation_deg": axes["orientation_deg"],
        "solidity": nucleus_shape.solidity(labels, n),
        **{f"haematoxylin_od_{name}": values for name, values in stain.items()},
    }
    return MeasuredTile(np.stack([moments["x_px"], moments["y_px"]], axis=-1), columns, vertices, ring_offsets, polygon_offsets)
