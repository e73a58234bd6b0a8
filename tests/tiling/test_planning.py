from dataclasses import replace

import numpy as np
import pytest
import shapely
import tifffile
from array_slides import NoPixels, planned_slide

from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry.frames import slide_frame
from idx.io import open_slide
from idx.slide import Contours, Level, Slide
from idx.tiling import plan


def slide_of(*levels: tuple[int, int, float], mpp: tuple[float, float] = (0.5, 0.5)) -> Slide:
    """A slide that is only its levels (width, height, downsample)."""
    pixels = NoPixels(1, 1)
    pixels.levels = tuple(Level(*level) for level in levels)
    return Slide(pixels, mpp, "planned")


def square(left: float, top: float, right: float, bottom: float, **options) -> Contours:
    return Contours.from_polygons([shapely.box(left, top, right, bottom)], **options)


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


def test_sizes_in_um_are_rounded_and_told_apart_from_what_was_asked_for():
    grid = plan(planned_slide(4000, 4000, mpp=0.499), size_um=128.0, overlap_um=20.0)
    assert grid.size_px == 257  # 256.5 px
    assert grid.overlap_px == 42  # 40.08 px: rounded up, for a halo must hold what it is made for
    facts = dict(grid.facts())
    assert facts["size"] == "257 px, 128.24 um (asked: 128 um)"
    assert facts["overlap"] == "42 px, 20.958 um (asked: 20 um)"
    assert facts["mpp (x, y)"] == "0.499, 0.499 um/px (asked: 0.5 um/px)"


def test_sizes_that_are_delivered_as_asked_say_so_once():
    facts = dict(plan(planned_slide(4000, 4000), size_um=128.0, overlap_um=16.0).facts())
    assert (facts["size"], facts["overlap"], facts["mpp (x, y)"]) == ("256 px, 128 um", "32 px, 16 um", "0.5, 0.5 um/px")


def test_rounding_of_um_adds_no_pixels():
    # 14 * 0.3 / 0.3 is 14.000000000000002.
    assert plan(planned_slide(4000, 4000, mpp=0.3), level=0, overlap_um=14 * 0.3).overlap_px == 14


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size_px": 256, "size_um": 128.0}, GeometryError, "in px or in um"),
        ({"overlap_px": 32, "overlap_um": 16.0}, GeometryError, "in px or in um"),
        ({"size_um": float("nan")}, UnitError, "size_um"),
        ({"size_um": 0.1}, UnitError, "size_um"),
        ({"size_um": float("inf")}, UnitError, "size_um"),
        ({"overlap_um": -1.0}, UnitError, "overlap_um"),
        ({"size_px": 32.5}, GeometryError, "whole number"),
        ({"size_px": 100_000}, GeometryError, "at most 4 GiB"),
        ({"size_px": 1}, GeometryError, "at most 50,000,000 tiles"),
        ({"mpp": float("nan")}, UnitError, "mpp must be a positive"),
        ({"mpp": -1.0}, UnitError, "mpp must be a positive"),
        ({"min_tissue": float("nan")}, GeometryError, "min_tissue"),
        ({"min_tissue": 50}, GeometryError, "min_tissue"),
        ({"level": 0.5}, GeometryError, "level must be"),
        ({"level": -1}, GeometryError, "level must be"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plan(planned_slide(20_000, 10_000), **arguments)


def test_a_tile_larger_than_the_slide_is_one_padded_tile():
    grid = plan(planned_slide(100, 60), size_px=512, overlap_px=64)
    assert grid.read_rects_px.tolist() == [[-32, -32, 512, 512]]


@pytest.mark.parametrize("levels", [(), ((0, 100, 1.0),), ((400, 400, 1.0), (100, 0, 4.0))])
def test_a_slide_without_pixels_is_refused(levels):
    with pytest.raises(FormatError, match="at least 1 x 1 px"):
        plan(slide_of(*levels))


def test_what_is_no_slide_is_refused():
    with pytest.raises(FormatError, match="idx Slide or a tiatoolbox WSIReader"):
        plan("slide.svs")


def test_each_axis_snaps_for_itself():
    # 0.505 um is within 2 % of the 0.5 asked for; 0.4 um is not, and is averaged. Averaging 0.505 um up to 0.5 would invent pixels.
    grid = plan(slide_of((1000, 1000, 1.0), mpp=(0.4, 0.505)), mpp=0.5, size_px=100)
    assert grid.mpp == (0.5, 0.505)
    assert grid.scale == (1.25, 1.0)
    assert grid.extent_px == (800, 1000)
    np.testing.assert_array_equal(grid.read_rects_px[:, 2:], np.tile([125, 100], (len(grid), 1)))


def test_levels_that_are_not_whole_multiples_keep_their_place():
    # 5124 px of 2.0002 level-0 px: the last column of level 0 is not stored in this level.
    grid = plan(slide_of((10249, 9000, 1.0), (5124, 4500, 2.0002), mpp=(0.25, 0.25)), mpp=0.5, size_px=512)
    assert (grid.level, grid.scale) == (1, (1.0, 1.0))
    assert grid.extent_px == (5124, 4500)
    assert grid.to_frame()["level0_x_px"].max() == pytest.approx(5120 * 2.0002)
    assert grid.bounds_um[2] == pytest.approx((10249 - 0.5) * 0.25)


def test_a_region_is_planned_from_its_corner():
    # Level-0 pixels 1001.. and 402..: their left edges lie half a pixel before their centres. At 1:4 they lie in stored pixels 250 and 100.
    slide = planned_slide(4000, 4000, mpp=0.25, downsamples=(1, 4))
    bounds = ((1001 - 0.5) * 0.25, (402 - 0.5) * 0.25, (2000 - 0.5) * 0.25, (1600 - 0.5) * 0.25)
    grid = plan(slide, size_px=64, mpp=2.0, bounds_um=bounds)
    assert (grid.level, grid.offset_px, grid.scale) == (1, (250, 100), (2.0, 2.0))
    assert grid.extent_px == (125, 150)  # 500 - 250 and 400 - 100 stored pixels, two by two
    assert grid.shape == (3, 2)
    assert grid.read_rects_px[0].tolist() == [250, 100, 128, 128]
    np.testing.assert_allclose(grid.bounds_um, np.array([1000 - 0.5, 400 - 0.5, 2000 - 0.5, 1600 - 0.5]) * 0.25)
    np.testing.assert_allclose(grid.to_um(0, np.array([[0.0, 0.0]])), [[(1000 + 3.5) * 0.25, (400 + 3.5) * 0.25]])
    assert grid.to_frame().loc[0, ["level0_x_px", "level0_y_px"]].tolist() == [1000.0, 400.0]


def test_a_region_is_cut_at_the_slides_border():
    slide = planned_slide(1000, 800)
    grid = plan(slide, size_px=100, bounds_um=(-50.0, 350.0, 120.0, 9000.0))
    assert grid.offset_px == (0, 700)
    assert grid.bounds_um == (-0.25, 349.75, 120.25, 399.75)
    whole = plan(slide, size_px=100, bounds_um=(-1e6, -1e6, 1e6, 1e6))
    assert whole.fingerprint == plan(slide, size_px=100).fingerprint
    assert whole.is_whole_slide
    assert not grid.is_whole_slide


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((0.0, 0.0, 0.0, 50.0), "left < right"),
        ((50.0, 0.0, 0.0, 50.0), "left < right"),
        ((0.0, 0.0, float("nan"), 50.0), "finite"),
        ((0.0, 0.0, float("inf"), 50.0), "finite"),
        ((0.0, 0.0, 50.0), "left < right"),
        ((500.0, 0.0, 600.0, 50.0), "must meet the slide"),
        ((0.0, -80.0, 50.0, -30.0), "must meet the slide"),
    ],
)
def test_regions_that_are_none_are_refused(bounds, message):
    with pytest.raises(GeometryError, match=message):
        plan(planned_slide(1000, 800), bounds_um=bounds)


def test_the_share_of_a_region_is_that_of_what_lies_in_the_region():
    slide = planned_slide(200, 200)
    within = square(-0.25, -0.25, 49.75, 99.75)  # the left half
    grid = plan(slide, size_px=80, within=within, bounds_um=(9.75, 9.75, 59.75, 59.75))
    # Columns of 40 um from 9.75 um: the second is cut at 59.75 and lies within for its whole first half.
    assert dict(zip(zip(grid.column.tolist(), grid.row.tolist(), strict=True), grid.tissue_fraction.tolist(), strict=True)) == {
        (0, 0): 1.0,
        (0, 1): 1.0,
    }
    wider = plan(slide, size_px=80, within=square(-0.25, -0.25, 54.75, 99.75), bounds_um=(9.75, 9.75, 59.75, 59.75))
    assert wider.tissue_fraction.tolist() == [1.0, 0.5, 1.0, 0.5]


def test_a_mask_counts_by_area_at_any_resolution():
    slide = planned_slide(1000, 600)
    mask = np.zeros((6, 10), dtype=bool)
    mask[1, 2] = True  # level-0 pixels 200..299 by 100..199
    grid = plan(slide, size_px=250, within=mask)
    frame = grid.to_frame().set_index(["column", "row"])["tissue_fraction"]
    assert frame.to_dict() == {(0, 0): 0.08, (1, 0): 0.08}
    fine = plan(slide, size_px=250, within=mask.repeat(100, axis=0).repeat(100, axis=1))
    np.testing.assert_allclose(fine.tissue_fraction, grid.tissue_fraction, atol=1e-9)
    assert len(plan(slide, within=np.zeros((6, 10), dtype=bool))) == 0


def test_a_mask_and_its_outline_keep_the_same_tiles():
    slide = planned_slide(1000, 600)
    mask = np.zeros((60, 100), dtype=bool)
    mask[13:41, 27:88] = True
    outline = square(270 * 0.5 - 0.25, 130 * 0.5 - 0.25, 880 * 0.5 - 0.25, 410 * 0.5 - 0.25)
    by_mask, by_outline = plan(slide, size_px=64, within=mask), plan(slide, size_px=64, within=outline)
    assert by_mask.fingerprint == by_outline.fingerprint
    np.testing.assert_allclose(by_mask.tissue_fraction, by_outline.tissue_fraction, atol=1e-8)


def test_a_full_mask_keeps_all_tiles_wholly():
    """Rounding must not make a border core 0.9999999999 within."""
    slide = slide_of((10249, 8999, 1.0), (5124, 4499, 2.0), mpp=(0.2525, 0.2525))
    for shape in ((4499, 5124), (90, 102), (281, 320)):
        grid = plan(slide, size_px=300, mpp=0.5, within=np.ones(shape, dtype=bool), min_tissue=1.0)
        assert len(grid) == grid.shape[0] * grid.shape[1]


def test_a_mask_of_square_pixels_fits_a_slide_whose_pixels_are_not():
    slide = slide_of((1000, 1000, 1.0), mpp=(0.5, 1.0))
    for shape in ((100, 100), (200, 100)):
        mask = np.zeros(shape, dtype=bool)
        mask[: shape[0] // 2] = True
        assert len(plan(slide, size_px=100, level=0, within=mask)) == 50


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((6, 10), dtype=np.uint8), "bool array"),
        (np.full((6, 10), np.nan), "bool array"),
        (np.ones((6, 10, 1), dtype=bool), "bool array"),
        (np.ones((0, 10), dtype=bool), "bool array"),
        ([shapely.box(0, 0, 1, 1)], "got list"),
        (np.ones((100, 60), dtype=bool), "whole slide"),
        (np.ones((60, 70), dtype=bool), "whole slide"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    with pytest.raises(GeometryError, match=message):
        plan(planned_slide(1000, 600), within=mask)


def test_contours_of_another_slide_are_refused():
    slide = planned_slide(1000, 600)
    with pytest.raises(GeometryError, match="slide's frame"):
        plan(slide, within=square(0, 0, 100, 100, frame=slide_frame("B7")))
    with pytest.raises(GeometryError, match=r"contours must meet the slide \(500 x 300 um\); got x 600 to 700"):
        plan(slide, within=square(600, 0, 700, 100))


@pytest.mark.timeout(60)
def test_a_whole_slide_is_planned_exactly():
    """183,000 tiles and outlines of 80,000 vertices with holes: what grows with tiles times vertices would take many minutes."""
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    jagged = 1 + 0.1 * np.sin(37 * angle) + 0.02 * np.sin(901 * angle)
    rings = [np.array([x, y]) + around * (r * jagged)[:, None] for x, y in ((16_000, 16_000), (42_000, 30_000)) for r in (12_000, 5_000)]
    tissue = Contours.from_polygons([shapely.Polygon(rings[0], [rings[1]]), shapely.Polygon(rings[2], [rings[3]])])
    grid = plan(planned_slide(120_000, 100_000), within=tissue)
    frame = grid.to_frame()
    assert grid.shape[0] * grid.shape[1] == 183_379
    assert frame["tissue_fraction"].sum() * 128.0**2 == pytest.approx(tissue.areas_um2.sum(), rel=1e-9)


def test_no_contours_are_no_tiles():
    assert len(plan(planned_slide(1000, 600), within=Contours.from_polygons([]))) == 0


def test_overlapping_contours_count_once_and_crossed_ones_are_mended():
    slide = planned_slide(200, 200)
    boxes = [shapely.box(-0.25, -0.25, 24.75, 24.75), shapely.box(9.75, -0.25, 49.75, 24.75)]
    assert plan(slide, size_px=100, within=Contours.from_polygons(boxes)).tissue_fraction.tolist() == [0.5]
    bow_tie = Contours.from_polygons([shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)])])
    assert plan(slide, size_px=100, within=bow_tie).tissue_fraction.tolist() == [0.5 * 40 * 40 / 50**2]


def test_tiles_stand_row_by_row():
    within = square(100, 60, 400, 250)
    for grid in (plan(planned_slide(1000, 600), size_px=64), plan(planned_slide(1000, 600), size_px=64, within=within)):
        order = np.lexsort((grid.column, grid.row))
        np.testing.assert_array_equal(order, np.arange(len(grid)))


def stored_tiles_in_order(grid, stored_px: int) -> list[tuple[int, int]]:
    """Stored tiles (row, column) as the plan comes to them, repetitions that follow each other left out."""
    places = [tuple(place) for place in (grid.read_rects_px[:, 1::-1] // stored_px).tolist()]
    return [place for k, place in enumerate(places) if k == 0 or place != places[k - 1]]


def test_a_large_stored_tile_is_come_to_once(tmp_path):
    """Eight rows of 64 px tiles lie in one row of 512 px stored ones: row by row, each stored tile would be needed eight times."""
    pixels = np.zeros((1024, 1536, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(512, 512), photometric="rgb", compression="deflate", resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    with open_slide(tmp_path / "a.tif") as slide:
        expected = [(row, column) for row in range(2) for column in range(3)]
        for options in ({}, {"within": np.ones((2, 3), dtype=bool)}):
            assert stored_tiles_in_order(plan(slide, size_px=64, **options), 512) == expected
        within_one = plan(slide, size_px=64)[:64]
        np.testing.assert_array_equal(np.lexsort((within_one.column, within_one.row)), np.arange(64))
        # A region whose lattice does not begin at a stored tile's corner.
        region = plan(slide, size_px=64, bounds_um=(99.75, 99.75, 599.75, 499.75))
        assert stored_tiles_in_order(region, 512) == [(row, column) for row in range(2) for column in range(3)]
        # One row of 512 px tiles does not hold two rows of cores: plain rows.
        wide = plan(slide, size_px=300)
        np.testing.assert_array_equal(np.lexsort((wide.column, wide.row)), np.arange(len(wide)))


def test_a_plan_can_be_moved_to_another_slide_of_its_size():
    slide, other = planned_slide(1000, 700), planned_slide(1000, 700)
    grid = replace(plan(slide, size_px=64, bounds_um=(10.0, 10.0, 200.0, 200.0)), slide=other)
    assert grid.slide is other
    assert grid.offset_px == (20, 20)
    assert len(grid) == 36


def test_one_resolution_is_asked_for_both_axes():
    with pytest.raises(UnitError, match=r"mpp must be a positive um per pixel, one for both axes; got \(0\.5, 0\.5\)"):
        plan(planned_slide(100, 100), mpp=(0.5, 0.5))
