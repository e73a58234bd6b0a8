"""What a person sees of a plan; single pixels are probed, not whole pictures."""

import numpy as np
import pytest
from array_slides import ArrayPixels, NoPixels, array_slide

from idx.slide import Slide
from idx.tiling import plan, read_tiles
from idx.tiling.drawing import plan_picture, tile_picture, typical_tile

GREY = 200
AMBER, TEAL = np.array([246.0, 183.0, 60.0]), np.array([12.0, 110.0, 125.0])


class GreyPixels(NoPixels):
    """A source of any size without memory, which counts what is read."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.n_read = 0

    def read_tiles_into(self, batch, tiles) -> None:
        batch[...] = GREY
        self.n_read += batch[..., 0].size


def grey(width: int, height: int, downsamples=(1,)) -> Slide:
    return Slide(GreyPixels(width, height, downsamples), (0.5, 0.5), "grey")


def opacity(pixel: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return (pixel.astype(float) - GREY) / (colour - GREY)


def half_mask() -> np.ndarray:
    """Left half of a slide, of which one column of tiles is within by half."""
    mask = np.zeros((10, 20), dtype=bool)
    mask[:, :9] = True
    return mask


def test_cores_are_tinted_by_their_share_and_outlined():
    grid = plan(grey(2000, 1000), size_px=200, within=half_mask())
    picture, height = plan_picture(grid)
    assert picture.shape == (520, 1040, 3)
    assert height == 260
    assert grid.tissue_fraction[:5].tolist() == [1, 1, 1, 1, 0.5]
    whole, part, none = picture[156, 52], picture[156, 468], picture[156, 800]  # centres of columns 0 and 4 of row 1, and no tile
    np.testing.assert_allclose(opacity(whole, TEAL), 0.35, atol=0.02)
    np.testing.assert_allclose(opacity(part, (AMBER + TEAL) / 2), 0.35, atol=0.04)
    assert none.tolist() == [GREY] * 3
    np.testing.assert_allclose(opacity(picture[156, 104], TEAL), 0.85, atol=0.02)  # where columns 0 and 1 meet


def test_without_contours_the_slide_stays_in_sight():
    picture, _ = plan_picture(plan(grey(2000, 1000), size_px=200))
    np.testing.assert_allclose(opacity(picture[156, 52], TEAL), 0.15, atol=0.02)


def test_many_small_cores_are_one_area_with_its_outline():
    mask = np.zeros((100, 120), dtype=bool)
    mask[10:90, 10:60] = True
    grid = plan(grey(120_000, 100_000, (1, 8, 64)), within=mask)
    picture, _ = plan_picture(grid)
    inside = picture[60:460, 70:300]
    np.testing.assert_allclose(opacity(inside, TEAL), 0.35, atol=0.02)
    edge = int(10_000 / 120_000 * picture.shape[1])
    assert opacity(picture[250, edge - 4 : edge + 4], AMBER).max() > 0.5
    assert (picture[250, 400:600] == GREY).all()
    assert grid.slide.pixels.n_read < 4e6


def test_a_few_small_cores_are_dots_that_can_be_seen():
    grid = plan(grey(120_000, 100_000, (1, 8, 64)), size_px=64).select([1_000_000, 2_000_000])
    picture, _ = plan_picture(grid)
    marked = (np.abs(picture.astype(int) - GREY) > 20).any(axis=-1)
    marked[-60:] = False  # the scale bar
    assert marked.sum() == 2 * 25


def test_a_slide_without_coarse_levels_is_not_decoded_to_be_looked_at():
    grid = plan(grey(120_000, 100_000))
    assert "data:image/png" in grid._repr_html_()
    assert grid.slide.pixels.n_read < 4e6


def test_a_region_is_framed():
    grid = plan(grey(2000, 1000), size_px=50, bounds_um=(499.75, 99.75, 899.75, 399.75))
    picture, _ = plan_picture(grid)
    assert picture[104:416:40, 520].tolist() == [[0, 0, 0]] * 8  # left edge: 500 um of 1000
    assert picture[104, 540:900:60].tolist() == [[0, 0, 0]] * 6
    assert picture[250, 500].tolist() == [GREY] * 3
    # Half a pixel is a hundredth of this slide: edges are those of pixels, not their centres.
    picture, _ = plan_picture(plan(grey(40, 20), size_px=5, bounds_um=(4.75, 1.75, 14.75, 7.75)))
    assert picture[200:300:20, 260].tolist() == [[0, 0, 0]] * 5


@pytest.mark.parametrize(("width", "text_um"), [(2000, 200), (120_000, 10_000), (40, 5)])
def test_the_scale_bar_has_its_length(width, text_um):
    picture, _ = plan_picture(plan(grey(width, width // 2, (1, max(1, width // 1000))), size_px=min(256, width)).select([]))
    bar = (picture[picture.shape[0] - 16] == 0).all(axis=-1).sum()
    assert bar == pytest.approx(text_um * 1040 / (width * 0.5), abs=2)


def test_a_tile_is_shown_as_it_is_delivered():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    grid = plan(array_slide(pixels), size_px=300, overlap_px=60)
    picture = tile_picture(grid, 4)
    expected = read_tiles(grid, [4])[0]
    np.testing.assert_array_equal(picture[30:240, 30:270], expected[30:240, 30:270])
    np.testing.assert_allclose(picture[:29].astype(float), (expected[:29].astype(float) + 255) / 2, atol=1)


def test_a_coarse_tile_is_shown_from_a_coarse_level():
    slide = grey(120_000, 100_000, (1, 4, 16))
    picture = tile_picture(plan(slide, size_px=4096), 7)
    assert picture.shape == (520, 520, 3)
    assert slide.pixels.n_read < 4 * 520**2
    assert (picture[:400] == GREY).all()


def test_the_tile_that_is_shown_holds_tissue():
    pixels = np.full((1000, 1000, 3), 245, dtype=np.uint8)
    pixels[400:700, 600:900] = (180, 100, 160)
    grid = plan(array_slide(pixels), size_px=100)
    shown = grid[typical_tile(grid)]
    assert 400 <= shown["level0_y_px"] < 700
    assert 600 <= shown["level0_x_px"] < 900


def test_the_card_tells_and_shows():
    html = plan(grey(400, 300), size_px=100)._repr_html_()
    assert html.count("data:image/png") == 2
    assert "12 of 12 (3 rows x 4 columns)" in html
    assert "5 of 12 rows of to_frame()" in html
    assert "tissue_fraction" in html


def test_an_empty_plan_says_so():
    html = plan(grey(400, 300), size_px=100, within=np.zeros((3, 4), dtype=bool))._repr_html_()
    assert html.count("data:image/png") == 1
    assert "no tiles" in html
    assert "to_frame" not in html


def test_a_slide_that_cannot_be_read_is_told_not_shown():
    slide = Slide(ArrayPixels([np.zeros((300, 300, 3), dtype=np.uint8)], broken=(5, 5)), (0.5, 0.5), "<A12>")
    html = plan(slide, size_px=100)._repr_html_()
    assert "a tile&#x27;s bytes must decode" in html
    assert "&lt;A12&gt;" in html
    assert "data:image/png" not in html
