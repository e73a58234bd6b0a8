"""The features of nuclei, tiles and slides as data: name, unit, definition and source."""

from __future__ import annotations

from typing import Literal

from idx.table import FeatureSpec

NUCLEUS_FEATURES: tuple[FeatureSpec, ...] = (
    FeatureSpec("centroid_x_um", "um", "Mean x of the nucleus's pixel centres in the slide's frame."),
    FeatureSpec("centroid_y_um", "um", "Mean y of the nucleus's pixel centres in the slide's frame."),
    FeatureSpec("area_um2", "um2", "Number of pixels times the area of a pixel."),
    FeatureSpec("perimeter_um", "um", "Cauchy-Crofton perimeter from line crossings in four directions (Lehmann & Legland, Insight Journal 2012)."),
    FeatureSpec("circularity", "1", "4 pi area / perimeter^2; 1 for a disc (Cox, J Paleontol 1927;1:179-83)."),
    FeatureSpec("equivalent_diameter_um", "um", "Diameter of the disc of the same area, 2 sqrt(area / pi)."),
    FeatureSpec("major_axis_um", "um", "Full major axis of the ellipse with the same second central moments."),
    FeatureSpec("minor_axis_um", "um", "Full minor axis of the ellipse with the same second central moments."),
    FeatureSpec("eccentricity", "1", "Eccentricity of that ellipse, sqrt(1 - (minor / major)^2)."),
    FeatureSpec("orientation_deg", "deg", "Angle from the x axis to that ellipse's major axis, clockwise as seen on the slide, in [0, 180)."),
    FeatureSpec("solidity", "1", "Pixels of the nucleus over the pixels whose centres lie within the convex hull of theirs; 1 for a convex nucleus."),
    FeatureSpec("haematoxylin_od_mean", "1", "Mean haematoxylin optical density over the nucleus (Ruifrok & Johnston 2001)."),
    FeatureSpec("haematoxylin_od_sd", "1", "Standard deviation (n in the denominator) of haematoxylin optical density over the nucleus."),
    FeatureSpec("haematoxylin_od_min", "1", "Least haematoxylin optical density in the nucleus."),
    FeatureSpec("haematoxylin_od_max", "1", "Greatest haematoxylin optical density in the nucleus."),
)
"""Measured on each nucleus in the pass that finds it."""

SUMMARISED: tuple[str, ...] = tuple(s.name for s in NUCLEUS_FEATURES if s.name not in {"centroid_x_um", "centroid_y_um", "orientation_deg"})
"""Features whose distribution is summarised; positions and axial angles have no meaningful mean of this kind."""

STATISTICS: tuple[tuple[str, str], ...] = (
    ("mean", "Mean"),
    ("sd", "Standard deviation (n - 1 in the denominator)"),
    ("p10", "10th percentile (linear interpolation)"),
    ("median", "Median"),
    ("p90", "90th percentile (linear interpolation)"),
)
"""Statistics over nuclei: suffix and words."""

NEIGHBOUR_FEATURES: tuple[FeatureSpec, ...] = (FeatureSpec("nearest_neighbour_um", "um", "Distance of the centroid to the nearest other centroid."),)
"""Added to each nucleus from the positions of the others."""

_COUNTS: tuple[FeatureSpec, ...] = (
    FeatureSpec("n_nuclei", "1", "Number of nuclei whose centroid lies in the region."),
    FeatureSpec("tissue_area_mm2", "mm2", "Area of tissue in the region."),
    FeatureSpec("nuclear_density_per_mm2", "1/mm2", "Nuclei per mm2 of tissue."),
    FeatureSpec("nuclear_area_fraction", "1", "Summed area of nuclei over the area of tissue."),
)

_ARCHITECTURE: tuple[FeatureSpec, ...] = (
    FeatureSpec("nearest_neighbour_mean_um", "um", "Mean distance of centroids to their nearest neighbour."),
    FeatureSpec("nearest_neighbour_sd_um", "um", "Standard deviation (n - 1) of the nearest-neighbour distance."),
    FeatureSpec("clark_evans", "1", "Mean nearest-neighbour distance over 1 / (2 sqrt(density)); 1 for random places (Clark & Evans, Ecology 1954;35:445-53)."),
    FeatureSpec("delaunay_edge_mean_um", "um", "Mean length of Delaunay edges between centroids, edges of more than 100 um left out."),
    FeatureSpec("delaunay_edge_sd_um", "um", "Standard deviation (n - 1) of the length of these edges."),
)


def _summaries() -> tuple[FeatureSpec, ...]:
    specs = {spec.name: spec for spec in NUCLEUS_FEATURES}
    return tuple(
        FeatureSpec(f"{name}_{suffix}", specs[name].unit, f"{words} over nuclei of: {specs[name].definition}")
        for name in SUMMARISED
        for suffix, words in STATISTICS
    )


SLIDE_FEATURES: tuple[FeatureSpec, ...] = _COUNTS + _ARCHITECTURE + _summaries()
"""Of a whole slide (or the part within contours); also of each tile."""


def feature_specs(level: Literal["slide", "nucleus", "tile"] = "slide") -> tuple[FeatureSpec, ...]:
    """Features that :func:`idx.histology.extract` measures at a level, with unit and definition.

    Examples
    --------
    >>> feature_specs("nucleus")[-1].name
    'nearest_neighbour_um'
    """
    return NUCLEUS_FEATURES + NEIGHBOUR_FEATURES if level == "nucleus" else SLIDE_FEATURES
