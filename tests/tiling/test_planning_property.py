import numpy as np
from array_slides import NoPixels, planned_slide
from hypothesis import given
from hypothesis import strategies as st

from idx.slide import Level, Slide
from idx.tiling import in_core, plan

mpps = st.sampled_from([0.5, 0.505, 0.7, 1.0, 1.3, 2.0, 3.1])
# Where a region begins and ends along an axis; not in the last pixel, which a level whose size was rounded may lack.
shares = st.tuples(st.floats(0, 0.6), st.floats(0.01, 1)).map(lambda drawn: (drawn[0], min(1.0, drawn[0] + drawn[1])))


@st.composite
def slides(draw) -> Slide:
    """Levels that are whole fractions, or not quite, of one another; pixels that are square, or not quite."""
    width, height = draw(st.integers(8, 90)), draw(st.integers(8, 90))
    mpp_x = draw(st.sampled_from([0.5, 0.499, 0.4]))
    pixels = NoPixels(width, height)
    factor = draw(st.sampled_from([2.0, 2.0003, 2.7, 4.0]))
    pixels.levels = (Level(width, height, 1.0), Level(max(1, int(width / factor)), max(1, round(height / factor)), factor))
    return Slide(pixels, (mpp_x, mpp_x * draw(st.sampled_from([1.0, 1.001, 0.8]))), "planned")


@st.composite
def grids(draw):
    slide = draw(slides())
    size, halo = draw(st.integers(3, 40)), draw(st.integers(0, 8))
    bounds = None
    if draw(st.booleans()):
        (left, right), (top, bottom) = draw(shares), draw(shares)
        (width, height), (half_x, half_y) = slide.size_um, (m / 2 for m in slide.mpp)
        bounds = (left * width - half_x, top * height - half_y, right * width - half_x, bottom * height - half_y)
    level = draw(st.sampled_from([None, 0, 1]))
    return plan(slide, size_px=size + 2 * halo, overlap_px=2 * halo, mpp=draw(mpps), level=level, bounds_um=bounds), bounds


@given(grids())
def test_cores_cover_each_planned_pixel_exactly_once(planned):
    grid, _ = planned
    (width, height), core = grid.extent_px, grid.core_px
    covered = np.zeros((height + core, width + core), dtype=int)
    local = np.stack(np.meshgrid(np.arange(grid.size_px), np.arange(grid.size_px)), axis=-1).reshape(-1, 2)
    core_px = local[in_core(grid, local)]
    for origin in grid.origin_px:
        x, y = (origin + core_px).T
        np.add.at(covered, (y, x), 1)
    assert (covered[:height, :width] == 1).all()
    # No tile lies wholly beyond what is planned.
    assert (grid.origin_px + grid.halo_px < grid.extent_px).all()


@given(grids())
def test_the_lattice_covers_the_region_and_hardly_more(planned):
    grid, bounds = planned
    slide, stored = grid.slide, grid.slide.levels[grid.level]
    half = np.tile(np.asarray(slide.mpp) / 2, 2)
    asked = np.array(bounds or (*-half[:2], *(np.asarray(slide.size_um) - half[:2])))
    stored_um = np.asarray(slide.mpp) * stored.downsample
    # A level whose size was rounded may end a pixel before the slide does; what is not stored cannot be read.
    asked[2:] = np.minimum(asked[2:], np.array([stored.width_px, stored.height_px]) * stored_um - half[:2])
    left_top, right_bottom = np.array(grid.bounds_um[:2]), np.array(grid.bounds_um[2:])
    slack = 1e-3 * np.asarray(grid.mpp) + 1e-9
    assert (left_top <= asked[:2] + slack).all()
    assert (left_top > asked[:2] - stored_um - slack).all()
    assert (right_bottom >= asked[2:] - slack).all()
    assert (right_bottom < asked[2:] + np.asarray(grid.mpp) + slack).all()
    assert grid.bounds_um[0] <= grid.core_bounds_um[:, 0].min() + 1e-9
    np.testing.assert_allclose(grid.core_bounds_um[:, 2:].max(axis=0), right_bottom)


@given(grids())
def test_what_is_read_holds_the_tile_and_hardly_more(planned):
    grid, _ = planned
    exact = grid.origin_px * np.asarray(grid.scale) + grid.offset_px
    low, size = grid.read_rects_px[:, :2], grid.read_rects_px[:, 2:]
    over, over_end = exact - low, low + size - (exact + grid.size_px * np.asarray(grid.scale))
    for beyond in (over, over_end):
        assert (beyond > -1e-5).all()
        assert (beyond < 1).all()
    assert (size <= grid.read_size_px).all()
    assert (np.asarray(grid.read_size_px) <= np.ceil(grid.size_px * np.asarray(grid.scale)) + 1).all()
    if not grid.is_resampled:
        assert grid.read_size_px == (grid.size_px, grid.size_px)
    assert min(grid.scale) >= 1.0


@given(grids(), st.lists(st.tuples(st.floats(-50, 150), st.floats(-50, 150)), min_size=1, max_size=10))
def test_positions_come_back_from_um(planned, points):
    grid, _ = planned
    np.testing.assert_allclose(grid.um_to_lattice(grid.lattice_to_um(np.array(points))), points, atol=1e-9)


@given(grids())
def test_centres_of_cores_belong_to_their_tile(planned):
    grid, _ = planned
    np.testing.assert_array_equal(grid.tile_at(grid.lattice_to_um(grid.origin_px + grid.halo_px)), np.arange(len(grid)))


@given(grids().filter(lambda planned: planned[1] is not None))
def test_a_region_planned_again_is_the_same_plan(planned):
    grid, _ = planned
    level = None if grid.requested.mpp else grid.level
    again = plan(grid.slide, size_px=grid.size_px, overlap_px=grid.overlap_px, mpp=grid.requested.mpp or 0.5, level=level, bounds_um=grid.bounds_um)
    assert again.fingerprint == grid.fingerprint


@given(
    size=st.integers(4, 64),
    halo=st.integers(0, 10),
    points=st.lists(st.tuples(st.floats(0, 149), st.floats(0, 99)), min_size=1, max_size=30),
)
def test_every_position_has_one_owner(size, halo, points):
    grid = plan(planned_slide(150, 100), size_px=size + 2 * halo, overlap_px=2 * halo)
    owners = np.array([in_core(grid, np.array(points) - origin) for origin in grid.origin_px])
    assert (owners.sum(axis=0) == 1).all()
    np.testing.assert_array_equal(grid.tile_at(np.array(points) * 0.5), owners.argmax(axis=0))
