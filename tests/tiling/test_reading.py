import numpy as np
import pytest
from array_slides import array_slide
from hypothesis import given, settings
from hypothesis import strategies as st

from idx.errors import PixelAccessError
from idx.tiling import plan, read_tiles
from idx.tiling.overview import read_overview


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assembled(grid) -> np.ndarray:
    """Picture put together from the cores."""
    tiles, halo, core = read_tiles(grid, range(len(grid))), grid.halo_px, grid.core_px
    picture = np.zeros(((grid.row.max() + 1) * core, (grid.column.max() + 1) * core, 3), dtype=np.uint8)
    for tile, row, column in zip(tiles, grid.row, grid.column, strict=True):
        picture[row * core : (row + 1) * core, column * core : (column + 1) * core] = tile[halo : halo + core, halo : halo + core]
    return picture


@given(size=st.integers(5, 80), halo=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_tiles_put_together_are_the_slide(size, halo):
    pixels = noise(97, 131)
    grid = plan(array_slide(pixels), size_px=size + 2 * halo, overlap_px=2 * halo)
    picture = assembled(grid)
    np.testing.assert_array_equal(picture[:97, :131], pixels)
    assert (picture[97:] == 255).all()
    assert (picture[:, 131:] == 255).all()


@pytest.mark.parametrize("mpp", [0.7, 1.0, 1.37])
def test_averaged_pixels_do_not_depend_on_the_tile(mpp):
    slide = array_slide(noise(150, 211))
    one, many = (assembled(plan(slide, size_px=size, mpp=mpp, overlap_px=overlap)) for size, overlap in ((400, 0), (37, 8)))
    n_y, n_x = int(np.ceil(150 * 0.5 / mpp)), int(np.ceil(211 * 0.5 / mpp))
    np.testing.assert_array_equal(one[:n_y, :n_x], many[:n_y, :n_x])


def test_averaging_by_a_whole_number_is_the_mean_of_blocks():
    pixels = noise(60, 80)
    tile = read_tiles(plan(array_slide(pixels), size_px=20, mpp=2.0), [0])[0]
    means = pixels.reshape(15, 4, 20, 4, 3).mean(axis=(1, 3))
    assert np.abs(tile[:15, :20] - means).max() <= 0.5 + 1e-4


def test_a_damaged_tile_is_named_by_its_place():
    grid = plan(array_slide(noise(300, 300), broken=(250, 130)), size_px=100)
    with pytest.raises(PixelAccessError, match=r"tile 5 at level-0 px x=200, y=100"):
        read_tiles(grid, range(len(grid)))


def test_an_overview_is_the_whole_slide_and_knows_where_it_is():
    pixels = noise(640, 960)
    overview = read_overview(array_slide(pixels), mpp=2.0)
    assert overview.pixels.shape == (160, 240, 3)
    means = pixels.reshape(160, 4, 240, 4, 3).mean(axis=(1, 3))
    assert np.abs(overview.pixels - means).max() <= 0.5 + 1e-4
    np.testing.assert_allclose(overview.to_um(np.array([[0, 0]])), [[0.75, 0.75]])
    np.testing.assert_allclose(overview.to_px(overview.to_um(np.array([[3.0, 9.5]]))), [[3.0, 9.5]])
