"""Every measurement of a nucleus against skimage's regionprops or a closed form; a feature without either fails here."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import Delaunay
from scipy.special import ellipe
from skimage.measure import label, regionprops

from idx.histology.catalog import NUCLEUS_FEATURES
from idx.histology.morphology import measure

MPP = 0.5
OD = np.random.default_rng(1).random((200, 230)).astype(np.float32)
# regionprops has the same definition, so agreement is to rounding; the two others are named below.
EXACT = {
    "area_um2": lambda p: p.area * MPP**2,
    "perimeter_um": lambda p: p.perimeter_crofton * MPP,
    "circularity": lambda p: 4 * np.pi * p.area / p.perimeter_crofton**2,
    "equivalent_diameter_um": lambda p: p.equivalent_diameter_area * MPP,
    "major_axis_um": lambda p: p.axis_major_length * MPP,
    "minor_axis_um": lambda p: p.axis_minor_length * MPP,
    "eccentricity": lambda p: p.eccentricity,
    "haematoxylin_od_mean": lambda p: p.intensity_mean,
    "haematoxylin_od_sd": lambda p: p.image_intensity[p.image].std(),
    "haematoxylin_od_min": lambda p: p.intensity_min,
    "haematoxylin_od_max": lambda p: p.intensity_max,
}
# Closed forms below: centroids and orientation of a drawn ellipse; solidity by a count.
CLOSED_FORM = {"centroid_x_um", "centroid_y_um", "orientation_deg", "solidity"}


def test_every_feature_has_an_oracle():
    assert {spec.name for spec in NUCLEUS_FEATURES} == set(EXACT) | CLOSED_FORM


@pytest.fixture(scope="module")
def objects():
    field = gaussian_filter(np.random.default_rng(0).random((200, 230)), 4)
    labels = np.asarray(label(field > np.percentile(field, 60), connectivity=1))
    return labels, regionprops(labels, OD), measure(labels, OD, mpp=(MPP, MPP))


@pytest.mark.parametrize("name", sorted(EXACT))
def test_agrees_with_regionprops(objects, name):
    _, props, measured = objects
    assert len(props) > 20
    np.testing.assert_allclose(measured.columns[name], [EXACT[name](p) for p in props], rtol=1e-5, atol=1e-6)


def test_centroids_agree_with_regionprops(objects):
    _, props, measured = objects
    np.testing.assert_allclose(measured.centroid_px, [p.centroid[::-1] for p in props])


def ellipse(a: float, b: float, degrees: float, *, centre: tuple[float, float] = (60.3, 58.8), size: int = 120) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u, v = (x - centre[0]) * c + (y - centre[1]) * s, -(x - centre[0]) * s + (y - centre[1]) * c
    return ((u / a) ** 2 + (v / b) ** 2 <= 1).astype(np.int32)


@pytest.mark.parametrize(("a", "b", "degrees"), [(40, 20, 30), (30, 25, 100), (45, 15, 0), (25, 25, 0), (40, 12, 165)])
def test_a_drawn_ellipse_has_its_closed_forms(a, b, degrees):
    measured = measure(ellipse(a, b, degrees), np.ones((120, 120), dtype=np.float32), mpp=(MPP, MPP))
    values = {name: column[0] for name, column in measured.columns.items()}
    assert values["area_um2"] == pytest.approx(np.pi * a * b * MPP**2, rel=0.005)
    assert values["perimeter_um"] == pytest.approx(4 * a * MPP * ellipe(1 - (b / a) ** 2), rel=0.02)
    assert values["major_axis_um"] == pytest.approx(2 * a * MPP, rel=0.005)
    assert values["minor_axis_um"] == pytest.approx(2 * b * MPP, rel=0.005)
    assert values["eccentricity"] == pytest.approx(np.sqrt(1 - (b / a) ** 2), abs=0.02 if a != b else 0.1)
    assert values["solidity"] == 1.0
    assert values["haematoxylin_od_sd"] == 0
    np.testing.assert_allclose(measured.centroid_px[0], (60.3, 58.8), atol=0.1)
    if a != b:
        assert abs((values["orientation_deg"] - degrees + 90) % 180 - 90) < 0.5


def test_solidity_counts_the_pixels_within_the_hull(objects):
    _labels, props, measured = objects
    for p, solidity in zip(props, measured.columns["solidity"], strict=True):
        if p.axis_minor_length < 1.0:
            continue
        rows, columns = np.nonzero(np.ones(p.image.shape, dtype=bool))
        hull = Delaunay(p.coords - p.bbox[:2])
        assert solidity == pytest.approx(p.area / (hull.find_simplex(np.stack([rows, columns], axis=1), tol=1e-9) >= 0).sum())


@pytest.mark.parametrize("pixels", [[(3, 3)], [(3, 3), (3, 4)], [(2, 2), (3, 2), (4, 2)]])
def test_a_line_of_pixels_is_convex(pixels):
    labels = np.zeros((8, 8), dtype=np.int32)
    labels[tuple(np.transpose(pixels))] = 1
    assert measure(labels, np.ones((8, 8)), mpp=(1.0, 1.0)).columns["solidity"].tolist() == [1.0]


def test_pixels_that_are_not_square_measure_in_um():
    squeezed = ellipse(30, 30, 0)[:, ::2]
    values = measure(squeezed, np.ones(squeezed.shape), mpp=(1.0, 0.5)).columns
    assert values["area_um2"][0] == pytest.approx(np.pi * 15**2, rel=0.01)
    assert values["eccentricity"][0] < 0.15
    assert values["perimeter_um"][0] == pytest.approx(2 * np.pi * 15, rel=0.03)


def test_no_nuclei_no_rows():
    measured = measure(np.zeros((5, 5), dtype=np.int32), np.zeros((5, 5)), mpp=(0.5, 0.5))
    assert all(len(column) == 0 for column in measured.columns.values())
