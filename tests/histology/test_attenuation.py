import numpy as np
import pytest
import shapely
from array_slides import array_slide

from idx.errors import GeometryError, UnitError
from idx.geometry import slide_frame
from idx.histology import expected_hu
from idx.slide import Contours


def half_covered() -> np.ndarray:
    """800 x 1000 px of 1 um; tissue in the left 450 columns."""
    picture = np.full((800, 1000, 3), 243, dtype=np.uint8)
    picture[:, :450] = (200, 120, 170)
    return picture


def test_attenuation_mixes_air_and_tissue_by_fraction():
    result = expected_hu(array_slide(half_covered(), mpp=1.0), mpp=100.0)
    assert result.values_hu.shape == (8, 10)
    # The edge cuts a pixel of 4 um in half, which counts as a whole one: 2 um of a cell of 100.
    np.testing.assert_allclose(result.tissue_fraction[0], [1, 1, 1, 1, 0.5, 0, 0, 0, 0, 0], atol=0.0201)
    np.testing.assert_allclose(result.values_hu, -1000 + 1050 * result.tissue_fraction)


def test_cells_that_are_no_multiple_of_pixels_keep_the_area():
    result = expected_hu(array_slide(half_covered(), mpp=1.0), mpp=130.0)
    width = np.minimum((np.arange(8) + 1) * 130, 1000) - np.arange(8) * 130
    np.testing.assert_allclose((result.tissue_fraction[0] * width).sum(), 450, atol=2.0)


def test_cell_centres_lie_where_they_say():
    result = expected_hu(array_slide(half_covered(), mpp=1.0), mpp=100.0)
    # The first cell covers pixels 0 to 99, whose mean centre is 49.5 um.
    np.testing.assert_allclose(result.to_um([[0, 0], [9, 7]]), [[49.5, 49.5], [949.5, 749.5]])
    np.testing.assert_allclose(result.to_px(result.to_um([[3.0, 4.5]])), [[3.0, 4.5]])


def test_contours_mark_cells_without_changing_them():
    slide = array_slide(half_covered(), mpp=1.0)
    region = Contours.from_polygons([shapely.box(0, 0, 300, 200)])
    whole, marked = expected_hu(slide, mpp=100.0), expected_hu(slide, mpp=100.0, within=region)
    np.testing.assert_array_equal(marked.values_hu, whole.values_hu)
    assert marked.inside.sum() == 6
    assert whole.inside.all()


def test_wrong_sizes_and_frames_are_refused():
    slide = array_slide(half_covered(), mpp=1.0)
    with pytest.raises(UnitError, match="at least 4"):
        expected_hu(slide, mpp=1.0)
    with pytest.raises(GeometryError, match="slide's frame"):
        expected_hu(slide, within=Contours.from_polygons([shapely.box(0, 0, 1, 1)], frame=slide_frame("other")))


def test_the_html_shows_the_map():
    assert "data:image/png" in expected_hu(array_slide(half_covered(), mpp=1.0))._repr_html_()
