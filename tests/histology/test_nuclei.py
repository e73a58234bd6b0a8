from functools import cache

import numpy as np
import pytest
import shapely
from array_slides import array_slide
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from skimage.measure import label

import idx
from idx.errors import GeometryError, MissingDependency, UnitError
from idx.histology import Nuclei, find_nuclei
from idx.slide import Contours


@cache
def drawn(seed: int = 0, *, size: int = 480, n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Pink tissue with purple ellipses of 5 to 7 px half axes; the picture and the centres (x, y). Many touch the seams of small tiles."""
    rng = np.random.default_rng(seed)
    share = np.zeros((size, size))
    centres: list[np.ndarray] = []
    while len(centres) < n:
        centre = rng.uniform(12, size - 12, 2)
        if all(np.linalg.norm(centre - other) > 17 for other in centres):
            centres.append(centre)
            a, b = rng.uniform(5, 7, 2)
            x, y = (int(c) - 9 for c in centre)
            rows, columns = np.mgrid[y : y + 19, x : x + 19]
            share[y : y + 19, x : x + 19] += ((columns - centre[0]) / a) ** 2 + ((rows - centre[1]) / b) ** 2 <= 1
    share = gaussian_filter(np.minimum(share, 1.0), 0.7)[..., None]
    picture = (1 - share) * np.array([225, 165, 200]) + share * np.array([95, 60, 140])
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8), np.array(centres)


def f1(found: np.ndarray, planted: np.ndarray, *, radius: float) -> float:
    """Centroids matched one to one within a radius."""
    distance = cdist(found, planted)
    pairs = linear_sum_assignment(np.where(distance <= radius, distance, 1e6))
    return 2 * int((distance[pairs] <= radius).sum()) / (len(found) + len(planted))


@pytest.fixture(scope="module")
def slide():
    return array_slide(drawn()[0])


@pytest.fixture(scope="module")
def nuclei(slide):
    return find_nuclei(slide)


def test_drawn_nuclei_are_found_where_they_are(nuclei):
    assert f1(nuclei.centroids_um, drawn()[1] * 0.5, radius=1.0) == 1.0
    assert nuclei.classes == ()
    assert set(nuclei.contours.labels) == {""}


@pytest.mark.parametrize("core_px", [97, 200])
def test_nuclei_do_not_depend_on_the_tiles(slide, nuclei, core_px):
    tiled = find_nuclei(slide, core_px=core_px)
    np.testing.assert_allclose(tiled.measurements.values, nuclei.measurements.values, atol=1e-9)
    np.testing.assert_allclose(tiled.contours.vertices_um, nuclei.contours.vertices_um, atol=1e-9)
    np.testing.assert_array_equal(tiled.contours.polygon_offsets, nuclei.contours.polygon_offsets)


def test_row_and_outline_are_the_same_nucleus(nuclei):
    # The outline cuts the corners of the pixels: half a pixel of area in all.
    np.testing.assert_allclose(nuclei.contours.areas_um2, nuclei.measurements["area_um2"] - 0.125, atol=1e-9)
    assert np.abs(nuclei.contours.centroids_um - nuclei.centroids_um).max() < 0.05


def test_only_nuclei_centred_within_the_contours_count(slide, nuclei):
    region = Contours.from_polygons([shapely.box(40, 40, 190, 150)])
    inside = find_nuclei(slide, within=region)
    x, y = nuclei.centroids_um.T
    expected = ((x > 40) & (x < 190) & (y > 40) & (y < 150)).sum()
    assert abs(len(inside) - expected) <= 1
    assert (inside.centroids_um.min(axis=0) > 40).all()


def test_a_finer_slide_is_averaged_to_half_a_um():
    picture, centres = drawn(3, size=300, n=40)
    fine = array_slide(picture.repeat(2, axis=0).repeat(2, axis=1), mpp=0.25)
    found = find_nuclei(fine)
    # Pixel i of 0.5 um is pixels 2i and 2i + 1 of 0.25 um, centred at (2i + 0.5) * 0.25 um.
    assert f1(found.centroids_um, (centres * 2 + 0.5) * 0.25, radius=1.0) == 1.0


def test_glass_has_no_nuclei():
    glass = np.clip(np.random.default_rng(0).normal(240, 3, (500, 500, 3)), 0, 255).astype(np.uint8)
    found = find_nuclei(array_slide(glass))
    assert len(found) == 0
    assert len(found.measurements) == 0
    assert "none given" in found._repr_html_()


def test_too_coarse_a_slide_is_refused():
    with pytest.raises(UnitError, match=r"at most 1 um per pixel.*got 2 .*Scan at 20x"):
        find_nuclei(array_slide(drawn(n=1)[0], mpp=2.0))


def test_the_network_that_is_not_there_yet_says_so(slide):
    with pytest.raises(MissingDependency, match="model='classical'"):
        find_nuclei(slide, model="default")
    with pytest.raises(MissingDependency, match="nucleus_model must be one that is installed"):
        find_nuclei(slide, model="unheard-of")


class DarkParts:
    """A nucleus model of one line."""

    mpp = 0.5

    def __call__(self, batch):
        return np.stack([label(tile[..., 0].numpy() < 150) for tile in batch])


def test_another_model_takes_the_same_way(slide):
    found = find_nuclei(slide, model=DarkParts())
    assert f1(found.centroids_um, drawn()[1] * 0.5, radius=1.0) == 1.0
    assert found.measurements.provenance.settings["model"] == "DarkParts"


def test_nuclei_hold_a_row_for_each_outline(nuclei):
    with pytest.raises(GeometryError, match="one row"):
        Nuclei(nuclei.contours.select(np.arange(3)), nuclei.measurements)


def test_the_html_shows_counts_and_outlines(nuclei):
    html = nuclei._repr_html_()
    assert "data:image/png" in html
    assert ">90<" in html


@pytest.mark.parametrize("seed", [0, 11])
def test_planted_nuclei_of_a_phantom_are_found(tmp_path, seed):
    phantom = idx.testing.he_slide(tmp_path / "slide.tif", seed=seed, size_px=(1024, 1024), n_nuclei=120)
    with idx.open_slide(phantom.path) as opened:
        found = find_nuclei(opened)
    assert f1(found.centroids_um, phantom.nuclei.centroids_um, radius=3.0) >= 0.9
    assert found.measurements["area_um2"].median() == pytest.approx(np.median(phantom.nuclei.areas_um2), rel=0.1)
