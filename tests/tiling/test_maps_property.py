"""A map put together from tiles is the map that was cut, wherever a tile looked."""

import numpy as np
from array_slides import planned_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from label_tiles import batches, cut

from idx.tiling import plan, stitch_map


def grid_of(width, height, *, core, halo, offset=(0, 0)):
    x, y = offset
    slide = planned_slide(width + x, height + y)
    bounds = None if offset == (0, 0) else (slide.to_um(np.array([x, y])) - 0.25).tolist() + (np.array(slide.size_um) - 0.25).tolist()
    return plan(slide, size_px=core + 2 * halo, overlap_px=2 * halo, bounds_um=bounds)


def seen_by(grid):
    window = np.zeros(grid.extent_px[::-1], dtype=bool)
    for x, y in grid.origin_px:
        window[max(y, 0) : y + grid.size_px, max(x, 0) : x + grid.size_px] = True
    return window


@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    core=st.integers(4, 50),
    halo=st.integers(0, 12),
    batch=st.integers(1, 9),
    channels=st.sampled_from([None, 1, 3]),
    offset=st.sampled_from([(0, 0), (3, 17)]),
    blending=st.sampled_from(["ramp", "core"]),
    data=st.data(),
)
@settings(max_examples=50)
def test_stitched_is_what_was_cut(seed, size, core, halo, batch, channels, offset, blending, data):
    width, height = size
    picture = np.random.default_rng(seed).normal(size=(height, width) if channels is None else (height, width, channels)).astype(np.float32)
    grid = grid_of(width, height, core=core, halo=halo, offset=offset)
    failed = data.draw(st.sets(st.integers(1, max(1, len(grid) - 1)), max_size=4)) if len(grid) > 1 else set()
    arrived = np.setdiff1d(np.arange(len(grid)), list(failed))
    values = stitch_map(batches(cut(picture, grid), size=batch, without=tuple(failed)), grid, blending=blending).values
    assert values.dtype == np.float32
    seen = seen_by(grid.select(arrived))
    if blending == "core":
        x, y = np.meshgrid(np.arange(width) // core, np.arange(height) // core)
        planned = np.zeros(grid.shape, dtype=bool)
        planned[grid.row[arrived], grid.column[arrived]] = True
        seen = planned[y, x]
    # The same value from several tiles is that value to the last bit.
    np.testing.assert_array_equal(values[seen], picture[seen])
    assert np.isnan(values[~seen]).all()


@given(core=st.integers(2, 20).map(lambda k: 2 * k), halo=st.integers(0, 6).map(lambda k: 2 * k), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_coarser_maps_lie_on_the_lattice_too(core, halo, seed):
    picture = np.random.default_rng(seed).random((40, 33))
    grid = grid_of(66, 80, core=core, halo=halo)
    found = stitch_map(batches(cut(picture, grid, factor=2)), grid)
    np.testing.assert_array_equal(found.values, picture)
    assert found.factor == 2
    assert found.mpp == (1.0, 1.0)
    np.testing.assert_allclose(found.to_um(np.array([3, 5])), [3.5 * 1.0 - 0.25, 5.5 * 1.0 - 0.25])


@given(core=st.integers(6, 40), halo=st.integers(1, 10), noise=st.integers(0, 99))
@settings(max_examples=25)
def test_between_two_tiles_that_differ_the_map_fades_linearly(core, halo, noise):
    grid = grid_of(2 * core, core, core=core, halo=min(halo, core // 2))
    low, high = np.random.default_rng(noise).normal(size=2)
    tiles = np.stack([np.full((grid.size_px,) * 2, value) for value in (low, high)])
    found = stitch_map(batches(tiles), grid).values
    overlap = grid.overlap_px
    steps = (np.arange(2 * core) - (core - overlap // 2) + 0.5) / overlap if overlap else np.arange(2 * core) - core + 0.5
    expected = low + (high - low) * np.clip(steps, 0, 1)
    np.testing.assert_allclose(found, np.tile(expected, (core, 1)), atol=1e-9)
