import numpy as np
import pytest
import shapely
from array_slides import array_slide, planned_slide

from idx.errors import GeometryError, UnitError
from idx.slide import Contours
from idx.tiling import plan


def test_a_plan_reads_no_pixels_and_keeps_border_tiles():
    grid = plan(planned_slide(1000, 700), size_px=256)
    assert len(grid) == 4 * 3
    frame = grid.to_frame()
    assert frame.index.name == "tile"
    assert frame["level0_x_px"].max() == 768
    assert frame["read_width_px"].eq(256).all()


def test_a_level_within_two_percent_is_used_as_it_is():
    grid = plan(planned_slide(1000, 1000, mpp=0.499), mpp=0.5)
    assert not grid.is_resampled
    assert grid.mpp == (0.499, 0.499)


def test_a_scale_further_off_is_averaged_from_the_next_finer_level():
    grid = plan(planned_slide(8000, 8000, mpp=0.25, downsamples=(1, 4, 16)), mpp=1.5, size_px=100)
    assert grid.level == 1
    assert grid.scale == pytest.approx((1.5, 1.5))
    assert grid.mpp == (1.5, 1.5)
    assert grid.to_frame()["read_width_px"].eq(150).all()
    assert grid.to_frame()["level0_width_px"].eq(600.0).all()


def test_pixels_are_not_invented():
    with pytest.raises(UnitError, match=r"Pass mpp=0\.5"):
        plan(planned_slide(100, 100), mpp=0.25)


def test_a_chosen_level_brings_its_own_mpp():
    grid = plan(planned_slide(8000, 8000, mpp=0.25, downsamples=(1, 4)), level=1)
    assert grid.mpp == (1.0, 1.0)
    with pytest.raises(GeometryError, match="level must be"):
        plan(planned_slide(100, 100), level=1)


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (64, 64), (64, 3), (64, -2)])
def test_sizes_that_do_not_fit_are_refused(size, overlap):
    with pytest.raises(GeometryError, match="size_px"):
        plan(planned_slide(100, 100), size_px=size, overlap_px=overlap)


def test_tissue_fraction_is_the_exact_area_within_the_core():
    # A square whose left edge cuts the second column of cores at a quarter; um of pixel p's left edge is (p - 0.5) * mpp.
    square = Contours.from_polygons([shapely.box(125 * 0.5 - 0.25, -0.25, 199.5 * 0.5 + 0.25, 99.75)])
    slide = planned_slide(200, 200)
    grid = plan(slide, size_px=100, within=square)
    assert dict(zip(zip(grid.column.tolist(), grid.row.tolist(), strict=True), grid.tissue_fraction.round(9).tolist(), strict=True)) == {
        (1, 0): 0.75,
        (1, 1): 0.75,
    }
    assert len(plan(slide, size_px=100, within=square, min_tissue=0.76)) == 0
    assert len(plan(slide, size_px=100, within=square, min_tissue=0.74)) == 2


def test_positions_in_tiles_map_to_the_slide():
    slide = planned_slide(4000, 4000, mpp=0.25, downsamples=(1, 4))
    grid = plan(slide, size_px=64, mpp=2.0, overlap_px=16)
    tile = int(np.flatnonzero((grid.column == 1) & (grid.row == 2))[0])
    # Delivered pixel (8, 8) is the core's first: lattice 48, 96; it covers level-0 pixels 384..391, whose centre is 387.5.
    np.testing.assert_allclose(grid.to_um(tile, [[8.0, 8.0]]), [[387.5 * 0.25, 771.5 * 0.25]])


def test_cores_drawn_as_contours_have_their_area():
    grid = plan(planned_slide(1000, 700), size_px=256, overlap_px=56)
    np.testing.assert_allclose(grid.core_contours().areas_um2.sum(), 1000 * 700 * 0.25)


def test_the_html_shows_the_tiles():
    slide = array_slide(np.full((300, 400, 3), 200, dtype=np.uint8))
    html = plan(slide, size_px=100)._repr_html_()
    assert "data:image/png" in html
    assert "12" in html
