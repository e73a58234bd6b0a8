"""Slides and contours as values: scales, positions, areas, and what they refuse."""

import numpy as np
import pytest
import shapely
from array_slides import array_slide, planned_slide
from hypothesis import given
from hypothesis import strategies as st

from idx.errors import GeometryError, PixelAccessError, UnitError
from idx.geometry.frames import slide_frame
from idx.slide import Contours, Slide

SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]
HOLE = [(2, 2), (5, 2), (5, 4), (2, 4)]


def _block_means(pixels, factor):
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    return pixels.reshape(height, factor, width, factor, 3).mean(axis=(1, 3)).round().astype(np.uint8)


@pytest.fixture
def pyramid():
    pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return array_slide(pixels, _block_means(pixels, 2), _block_means(pixels, 4), mpp=(0.25, 0.26)), pixels


def test_sizes_and_scales(pyramid):
    slide, _ = pyramid
    assert slide.size_px == (96, 64)
    assert slide.size_um == pytest.approx((24.0, 16.64))
    assert repr(slide) == "Slide('array', 96 x 64 px, 0.25 um/px, 3 levels, through array)"


@pytest.mark.parametrize(("mpp", "level"), [(0.1, 0), (0.25, 0), (0.509, 0), (0.51, 1), (0.52, 1), (1.03, 2), (9.0, 2)])
def test_level_for_is_the_coarsest_that_is_fine_enough(pyramid, mpp, level):
    """The coarser axis (0.26 um) decides, within 2 %."""
    assert pyramid[0].level_for(mpp) == level


def test_0_499_asked_at_0_5_snaps():
    assert planned_slide(1000, 1000, mpp=0.499, downsamples=(1, 2, 4)).level_for(0.998) == 1
    assert planned_slide(1000, 1000, mpp=0.5026, downsamples=(1, 2, 4)).level_for(0.5) == 0


def test_positions_of_levels_are_pixel_centres(pyramid):
    """The first pixel of a level that is four times coarser lies in the middle of 4 x 4 pixels."""
    slide, _ = pyramid
    np.testing.assert_allclose(slide.to_um([0, 0]), [0, 0])
    np.testing.assert_allclose(slide.to_um([[0, 0], [1, 2]], level=2), [[1.5 * 0.25, 1.5 * 0.26], [5.5 * 0.25, 9.5 * 0.26]])


@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=1, max_size=5), st.integers(0, 2))
def test_um_and_pixels_are_inverse(points, level):
    slide = planned_slide(1000, 800, mpp=0.2527, downsamples=(1, 4, 16))
    np.testing.assert_allclose(slide.to_px(slide.to_um(points, level=level), level=level), points, atol=1e-6)


def test_regions_and_thumbnails(pyramid):
    slide, pixels = pyramid
    np.testing.assert_array_equal(slide.read_region(10, 20, width_px=30, height_px=5), pixels[20:25, 10:40])
    np.testing.assert_array_equal(slide.thumbnail(24), _block_means(pixels, 4))
    assert slide.thumbnail(12).shape == (8, 12, 3)
    np.testing.assert_array_equal(slide.thumbnail(500), pixels)
    assert "0.25, 0.26 um/px" in slide._repr_html_()


def test_regions_that_cannot_be_read(pyramid):
    slide, _ = pyramid
    for level in (-1, 3):
        with pytest.raises(PixelAccessError, match=rf"level must be in 0\.\.2; got {level} \(slide 'array'\)"):
            slide.read_region(0, 0, width_px=1, height_px=1, level=level)
    with pytest.raises(GeometryError, match="at least 1 x 1 px; got 0 x 5"):
        slide.read_region(0, 0, width_px=0, height_px=5)


@pytest.mark.parametrize("mpp", [(0.0, 0.25), (0.25, -1.0), (float("nan"), 0.25), (0.25, float("inf"))])
def test_mpp_must_be_positive(mpp):
    with pytest.raises(UnitError, match=r"mpp must be two positive um per pixel.*slide 'a'.*mpp=0\.25"):
        Slide(planned_slide(10, 10).pixels, mpp, "a")


@pytest.fixture
def contours():
    return Contours(np.array([*SQUARE, *HOLE, *SQUARE[:3]], dtype=float), [0, 4, 8, 11], [0, 2, 3], ("Tumor", "Stroma"))


def test_contours_measure_without_their_holes(contours):
    np.testing.assert_allclose(contours.areas_um2, [100 - 6, 50])
    expected = (np.array([5, 5]) * 100 - np.array([3.5, 3]) * 6) / 94
    np.testing.assert_allclose(contours.centroids_um, [expected, [20 / 3, 10 / 3]])
    assert contours.bounds_um == (0, 0, 10, 10)
    assert repr(contours) == "Contours(2 polygons, 0.000144 mm2, Stroma, Tumor, frame slide)"


def test_areas_agree_with_shapely_far_from_the_origin():
    rng = np.random.default_rng(2)
    polygons = [shapely.Point(*rng.uniform(0, 1e5, 2)).buffer(rng.uniform(1, 9)) for _ in range(50)]
    contours = Contours.from_polygons(polygons)
    np.testing.assert_allclose(contours.areas_um2, [p.area for p in polygons], rtol=1e-9)
    assert [p.equals(q) for p, q in zip(contours.polygons(), polygons, strict=True)] == [True] * 50


def test_select_keeps_order_labels_and_frame(contours):
    picked = contours.select([1, 0])
    assert picked.labels == ("Stroma", "Tumor")
    np.testing.assert_allclose(picked.areas_um2, [50, 94])
    assert contours.select(np.array([False, True])).labels == ("Stroma",)
    assert contours.with_labels(["a", "b"]).labels == ("a", "b")
    other = Contours.from_polygons([shapely.box(0, 0, 1, 1)], frame=slide_frame("B"))
    assert other.select([0]).frame == slide_frame("B")


def test_no_contours_are_contours():
    empty = Contours.from_polygons([])
    assert len(empty) == 0
    assert empty.areas_um2.shape == (0,)
    assert empty.centroids_um.shape == (0, 2)
    assert isinstance(empty._repr_html_(), str)
    with pytest.raises(GeometryError, match="at least one polygon"):
        _ = empty.bounds_um


@pytest.mark.parametrize(
    "parts",
    [
        (SQUARE[:2], [0, 2], [0, 1], ()),
        (SQUARE, [0, 3], [0, 1], ()),
        (SQUARE, [0, 4], [0, 2], ()),
        (SQUARE, [0, 4], [0, 1], ("a", "b")),
        (SQUARE, [1, 4], [0, 1], ()),
        ([(0, 0), (1, 0), (np.nan, 1)], [0, 3], [0, 1], ()),
        (SQUARE, [0, 4], [0, 0, 1], ()),
    ],
)
def test_contours_that_do_not_fit_together_are_refused(parts):
    vertices, rings, polygons, labels = parts
    with pytest.raises(GeometryError, match=r"finite rings of at least three vertices.*Contours\.from_polygons"):
        Contours(np.array(vertices, dtype=float), rings, polygons, labels)


def test_contours_cannot_be_changed(contours):
    for array in (contours.vertices_um, contours.ring_offsets, contours.polygon_offsets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
