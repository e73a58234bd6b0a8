"""Features of a slide's nuclei: per nucleus, per tile or for the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from idx._typing import FloatArray, IntArray
from idx.errors import FormatError, GeometryError, UnitError
from idx.histology.catalog import NEIGHBOUR_FEATURES, NUCLEUS_FEATURES, SLIDE_FEATURES, STATISTICS, SUMMARISED
from idx.histology.nuclei import Nuclei, centres_within
from idx.histology.tissue import find_tissue
from idx.provenance import Provenance
from idx.slide import Contours, Slide
from idx.table import FeatureTable, Missing

MAX_EDGE_UM = 100.0
"""Delaunay edges longer than this span gaps in the tissue and say nothing about neighbours."""
Row = dict[str, float | Missing]


def extract(
    slide: Slide,
    nuclei: Nuclei,
    *,
    level: Literal["slide", "nucleus", "tile"] = "slide",
    within: Contours | None = None,
    tile_um: float = 500.0,
) -> FeatureTable:
    """Histomorphometric features.

    Parameters
    ----------
    slide : Slide
    nuclei : Nuclei
        From :func:`idx.histology.find_nuclei`; their measurements are reused.
    level : {"slide", "nucleus", "tile"}
        One row for the slide (index ``slide``), per nucleus (index ``nucleus``), or per square of ``tile_um`` that holds tissue (index ``tile``,
        named "column,row" of the lattice that begins at the slide's corner).
    within : Contours or None
        Region: its area is the tissue's, and only nuclei whose centroid lies within count. None finds the tissue and counts all nuclei.
    tile_um : float
        Side of a tile in um.

    Returns
    -------
    FeatureTable
        Columns as in ``idx.histology.catalog``. What too few nuclei leave undefined is missing with its reason.

    Raises
    ------
    FormatError
        If the level is unknown.
    GeometryError
        If nuclei or contours lie in another frame than the slide.
    UnitError
        If ``tile_um`` is not positive.

    Examples
    --------
    >>> table = idx.histology.extract(slide, nuclei, within=tissue)  # doctest: +SKIP
    >>> table["nuclear_density_per_mm2"]  # doctest: +SKIP
    """
    if level not in ("slide", "nucleus", "tile"):
        raise FormatError(f"level must be 'slide', 'nucleus' or 'tile'; got '{level}' (slide '{slide.name}'). Pass one of them.")
    for what, contours in (("nuclei", nuclei.contours), ("within", within)):
        if contours is not None and contours.frame != slide.frame:
            raise GeometryError(
                f"{what} must lie in the slide's frame; got {contours.frame} for {slide.frame} (slide '{slide.name}'). Map them to this slide first."
            )
    if not (np.isfinite(tile_um) and tile_um > 0):
        raise UnitError(f"tile_um must be a positive um; got {tile_um} (slide '{slide.name}'). Pass for example tile_um=500.")
    settings = {"level": level, "within": within is not None} | ({"tile_um": float(tile_um)} if level == "tile" else {})
    provenance = Provenance("idx.histology.extract", settings, (slide.source.path if slide.source else slide.name,))
    counted = _counted(nuclei, within)
    if level == "nucleus":
        return _per_nucleus(nuclei, counted, provenance)
    region = find_tissue(slide) if within is None else within
    nearest = nearest_neighbour_um(nuclei.centroids_um[counted])
    if level == "slide":
        row = _region_row(nuclei, counted, nearest, area_um2=_union_area_um2(region))
        return FeatureTable.from_rows({slide.name: row}, SLIDE_FEATURES, index_name="slide", provenance=provenance)
    rows = _tile_rows(slide, nuclei, counted, nearest, region=region, tile_um=tile_um)
    return FeatureTable.from_rows(rows, SLIDE_FEATURES, index_name="tile", provenance=provenance)


def nearest_neighbour_um(centroids_um: FloatArray) -> FloatArray:
    """Distance (n,) of each point to the nearest other one; NaN for a single point."""
    from scipy.spatial import cKDTree

    if len(centroids_um) < 2:
        return np.full(len(centroids_um), np.nan)
    return np.asarray(cKDTree(centroids_um).query(centroids_um, k=2)[0][:, 1])


def delaunay_edges_um(centroids_um: FloatArray) -> FloatArray:
    """Lengths of the edges of the Delaunay triangulation, each once, at most :data:`MAX_EDGE_UM`; none for fewer than three or collinear points."""
    from scipy.spatial import Delaunay, QhullError

    points = np.unique(centroids_um, axis=0)
    if len(points) < 3:
        return np.zeros(0)
    try:
        triangles = Delaunay(points).simplices
    except QhullError:
        # Qhull refuses points on one line, which have no triangulation.
        return np.zeros(0)
    edges = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    return np.asarray(lengths[lengths <= MAX_EDGE_UM])


def _union_area_um2(contours: Contours) -> float:
    import shapely

    return float(shapely.area(shapely.union_all([shapely.make_valid(polygon) for polygon in contours.polygons()])))


def _counted(nuclei: Nuclei, within: Contours | None) -> IntArray:
    return np.flatnonzero(centres_within(nuclei.centroids_um, within))


def _per_nucleus(nuclei: Nuclei, counted: IntArray, provenance: Provenance) -> FeatureTable:
    chosen = nuclei.measurements.values.iloc[counted]
    columns = {name: chosen[name].to_numpy() for name in chosen.columns}
    columns["nearest_neighbour_um"] = nearest_neighbour_um(nuclei.centroids_um[counted])
    specs = (*NUCLEUS_FEATURES, *NEIGHBOUR_FEATURES)
    return FeatureTable.from_columns(
        columns, specs, index=chosen.index, index_name="nucleus", missing={"nearest_neighbour_um": "too_few_objects"}, provenance=provenance
    )


def _tile_rows(slide: Slide, nuclei: Nuclei, counted: IntArray, nearest: FloatArray, *, region: Contours, tile_um: float) -> Mapping[str, Row]:
    """Rows of the squares that hold tissue. A nucleus belongs to the square that its centroid lies in; neighbours are those of the whole slide."""
    import shapely

    half = np.asarray(slide.mpp) / 2.0
    n_columns, n_rows = (int(np.ceil(length / tile_um)) for length in slide.size_um)
    row, column = (index.ravel() for index in np.mgrid[0:n_rows, 0:n_columns])
    low = np.stack([column, row], axis=-1) * tile_um - half
    boxes = shapely.box(low[:, 0], low[:, 1], low[:, 0] + tile_um, low[:, 1] + tile_um)
    parts = shapely.get_parts(shapely.union_all([shapely.make_valid(polygon) for polygon in region.polygons()]))
    box_index, part_index = shapely.STRtree(parts).query(boxes, predicate="intersects")
    area = np.bincount(box_index, shapely.area(shapely.intersection(boxes[box_index], parts[part_index])), len(boxes))
    place = np.floor((nuclei.centroids_um[counted] + half) / tile_um).astype(int)
    members: dict[int, list[int]] = {}
    for i, key in enumerate(place[:, 1] * n_columns + place[:, 0]):
        members.setdefault(int(key), []).append(i)
    rows = {}
    for tile in np.flatnonzero(area > 0):
        inside = np.array(members.get(int(tile), []), dtype=int)
        rows[f"{column[tile]},{row[tile]}"] = _region_row(nuclei, counted[inside], nearest[inside], area_um2=float(area[tile]))
    return rows


def _region_row(nuclei: Nuclei, counted: IntArray, nearest: FloatArray, *, area_um2: float) -> Row:
    values = nuclei.measurements.values.iloc[counted]
    n, area_mm2 = len(counted), area_um2 / 1e6
    no_area = Missing("zero_denominator")
    density = n / area_mm2 if area_mm2 else no_area
    known = nearest[np.isfinite(nearest)]
    mean_nearest = float(known.mean()) if len(known) else Missing("too_few_objects")
    edges = delaunay_edges_um(nuclei.centroids_um[counted])
    row: Row = {
        "n_nuclei": float(n),
        "tissue_area_mm2": area_mm2,
        "nuclear_density_per_mm2": density,
        "nuclear_area_fraction": float(values["area_um2"].sum()) / area_um2 if area_um2 else no_area,
        "nearest_neighbour_mean_um": mean_nearest,
        "nearest_neighbour_sd_um": _sd(known),
        "clark_evans": no_area if isinstance(density, Missing) else _clark_evans(mean_nearest, density),
        "delaunay_edge_mean_um": float(edges.mean()) if len(edges) else Missing("too_few_objects"),
        "delaunay_edge_sd_um": _sd(edges),
    }
    for name in SUMMARISED:
        row |= {f"{name}_{suffix}": value for suffix, value in _statistics(values[name].to_numpy()).items()}
    return row


def _clark_evans(mean_nearest_um: float | Missing, density_per_mm2: float) -> float | Missing:
    if isinstance(mean_nearest_um, Missing):
        return mean_nearest_um
    return mean_nearest_um * 2.0 * float(np.sqrt(density_per_mm2 / 1e6))


def _sd(values: FloatArray) -> float | Missing:
    return float(values.std(ddof=1)) if len(values) > 1 else Missing("too_few_objects")


def _statistics(values: FloatArray) -> Row:
    if len(values) == 0:
        return {suffix: Missing("too_few_objects") for suffix, _ in STATISTICS}
    p10, median, p90 = np.percentile(values, [10.0, 50.0, 90.0])
    return {"mean": float(values.mean()), "sd": _sd(values), "p10": float(p10), "median": float(median), "p90": float(p90)}
