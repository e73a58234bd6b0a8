"""Features of a slide against sums written out the long way; a feature without a line here fails."""

import itertools

import numpy as np
import pytest
import shapely
from array_slides import array_slide

from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry import slide_frame
from idx.histology import Nuclei, extract
from idx.histology.catalog import NEIGHBOUR_FEATURES, NUCLEUS_FEATURES, SLIDE_FEATURES, STATISTICS, SUMMARISED
from idx.slide import Contours
from idx.table import FeatureTable

REGION = Contours.from_polygons([shapely.box(0, 0, 900, 700), shapely.box(800, 600, 1000, 800)])
REGION_UM2 = 900 * 700 + 200 * 200 - 100 * 100


@pytest.fixture(scope="module")
def slide():
    return array_slide(np.full((2000, 2400, 3), 200, dtype=np.uint8))


def made(points: np.ndarray) -> Nuclei:
    """Nuclei with random measurements at given centres."""
    rng = np.random.default_rng(5)
    columns = {spec.name: rng.uniform(1, 40, len(points)) for spec in NUCLEUS_FEATURES}
    columns["centroid_x_um"], columns["centroid_y_um"] = points.T
    table = FeatureTable.from_columns(columns, NUCLEUS_FEATURES, index=range(len(points)), index_name="nucleus")
    return Nuclei(Contours.from_polygons([shapely.box(x - 2, y - 2, x + 2, y + 2) for x, y in points]), table)


POINTS = np.random.default_rng(0).uniform(10, 690, (80, 2))


def nearest() -> np.ndarray:
    return np.array([min(np.hypot(*(a - b)) for b in np.delete(POINTS, i, axis=0)) for i, a in enumerate(POINTS)])


def empty_circumcircle_edges() -> np.ndarray:
    """Delaunay by its definition: edges of triangles whose circumcircle holds no other point, at most 100 um long."""
    edges = set()
    for i, j, k in itertools.combinations(range(len(POINTS)), 3):
        (ax, ay), (bx, by), (cx, cy) = POINTS[[i, j, k]]
        d = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))
        ux = ((ax**2 + ay**2) * (by - cy) + (bx**2 + by**2) * (cy - ay) + (cx**2 + cy**2) * (ay - by)) / d
        uy = ((ax**2 + ay**2) * (cx - bx) + (bx**2 + by**2) * (ax - cx) + (cx**2 + cy**2) * (bx - ax)) / d
        if (np.hypot(POINTS[:, 0] - ux, POINTS[:, 1] - uy) < np.hypot(ax - ux, ay - uy) * (1 - 1e-9)).sum() == 0:
            edges |= {(i, j), (i, k), (j, k)}
    lengths = np.array([np.hypot(*(POINTS[a] - POINTS[b])) for a, b in edges])
    return lengths[lengths <= 100]


def expected() -> dict[str, float]:
    values = made(POINTS).measurements.values
    distances, edges = nearest(), empty_circumcircle_edges()
    row = {
        "n_nuclei": 80,
        "tissue_area_mm2": REGION_UM2 / 1e6,
        "nuclear_density_per_mm2": 80 / (REGION_UM2 / 1e6),
        "nuclear_area_fraction": sum(values["area_um2"]) / REGION_UM2,
        "nearest_neighbour_mean_um": distances.mean(),
        "nearest_neighbour_sd_um": distances.std(ddof=1),
        "clark_evans": distances.mean() / (0.5 / np.sqrt(80 / REGION_UM2)),
        "delaunay_edge_mean_um": edges.mean(),
        "delaunay_edge_sd_um": edges.std(ddof=1),
    }
    statistics = {"mean": "mean", "sd": "std", "median": "median", "p10": lambda s: s.quantile(0.1), "p90": lambda s: s.quantile(0.9)}
    for name in SUMMARISED:
        row |= {f"{name}_{suffix}": values[name].agg(statistics[suffix]) for suffix, _ in STATISTICS}
    return row


@pytest.fixture(scope="module")
def oracle():
    return expected()


def test_every_slide_feature_has_an_oracle(oracle):
    assert set(oracle) == {spec.name for spec in SLIDE_FEATURES}


def test_the_slide_agrees_with_the_oracle(slide, oracle):
    row = extract(slide, made(POINTS), within=REGION).values.loc["array"]
    for name, value in oracle.items():
        assert row[name] == pytest.approx(value, rel=1e-9), name


def test_each_nucleus_keeps_its_measurements_and_gains_its_neighbour(slide):
    nuclei = made(POINTS)
    table = extract(slide, nuclei, level="nucleus")
    np.testing.assert_allclose(table[NEIGHBOUR_FEATURES[0].name], nearest())
    np.testing.assert_array_equal(table.values[nuclei.measurements.values.columns], nuclei.measurements.values)
    half = extract(slide, nuclei, level="nucleus", within=Contours.from_polygons([shapely.box(0, 0, 350, 700)]))
    assert half.values.index.tolist() == np.flatnonzero(POINTS[:, 0] < 350).tolist()


def test_tiles_divide_nuclei_and_tissue(slide, oracle):
    table = extract(slide, made(POINTS), level="tile", within=REGION, tile_um=300.0)
    assert table.values.index.name == "tile"
    assert table["n_nuclei"].sum() == 80
    assert table["tissue_area_mm2"].sum() == pytest.approx(oracle["tissue_area_mm2"])
    # Lattice lines lie half a pixel (0.25 um) before multiples of 300 um.
    expected_count = ((POINTS >= (299.75, -0.25)) & (POINTS < (599.75, 299.75))).all(axis=1).sum()
    assert table["n_nuclei"]["1,0"] == expected_count


def test_regular_places_have_the_closed_form_of_a_lattice(slide):
    lattice = np.stack(np.meshgrid(np.arange(20) * 30.0, np.arange(20) * 30.0), axis=-1).reshape(-1, 2)
    square = Contours.from_polygons([shapely.box(-15, -15, 585, 585)])
    row = extract(slide, made(lattice), within=square).values.iloc[0]
    assert row["nearest_neighbour_mean_um"] == pytest.approx(30.0)
    assert row["nearest_neighbour_sd_um"] == pytest.approx(0.0, abs=1e-12)
    assert row["clark_evans"] == pytest.approx(2.0)


@pytest.mark.parametrize(("n", "undefined"), [(0, {"area_um2_mean", "clark_evans"}), (1, {"area_um2_sd", "clark_evans"}), (2, {"delaunay_edge_mean_um"})])
def test_too_few_nuclei_leave_cells_with_a_reason(slide, n, undefined):
    table = extract(slide, made(POINTS[:n]), within=REGION)
    assert undefined <= set(table.status["feature"])
    assert set(table.status["reason"]) == {"too_few_objects"}
    assert table["n_nuclei"].iloc[0] == n


def test_no_tissue_has_no_density(slide):
    table = extract(slide, made(POINTS), within=REGION.select(np.zeros(2, dtype=bool)))
    assert table.status.set_index("feature")["reason"]["nuclear_density_per_mm2"] == "zero_denominator"


def test_wrong_arguments_are_refused(slide):
    with pytest.raises(FormatError, match="level must be"):
        extract(slide, made(POINTS), level="patient", within=REGION)
    with pytest.raises(UnitError, match="tile_um"):
        extract(slide, made(POINTS), level="tile", within=REGION, tile_um=0.0)
    with pytest.raises(GeometryError, match="within must lie"):
        extract(slide, made(POINTS), within=Contours.from_polygons([shapely.box(0, 0, 1, 1)], frame=slide_frame("other")))
