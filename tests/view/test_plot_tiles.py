"""Figures of tiles: that values stand where their cores lie, in um, and that what is missing is seen."""

import numpy as np
import pytest
from array_slides import array_slide
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from idx.errors import GeometryError
from idx.slide import Slide
from idx.tiling import plan, read_tiles, run
from idx.view import plot


def _texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def _frames(figure: Figure) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of what is framed in um."""
    found = [patch for ax in figure.axes for patch in ax.patches if isinstance(patch, Rectangle)]
    return [(p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()) for p in found]


def _colour_at(figure: Figure, x_um: float, y_um: float) -> np.ndarray:
    """Pixel of the drawn map at a place of the slide."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    x, y = figure.axes[1].transData.transform((x_um, y_um))
    pixels = np.asarray(canvas.buffer_rgba())
    return pixels[len(pixels) - 1 - round(y), round(x), :3]


@pytest.fixture
def slide() -> Slide:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    return array_slide(pixels, mpp=0.5)


def test_values_stand_on_the_cores_of_their_tiles(slide: Slide) -> None:
    grid = plan(slide, size_px=64, overlap_px=16, mpp=0.5).select(np.array([7, 3, 30]))
    figure = plot.tile_map(grid, np.array([0.0, 1.0, 2.0]), label="amount (OD)")
    (mesh,) = (drawn for drawn in figure.axes[1].collections if isinstance(drawn, QuadMesh))
    drawn = mesh.get_array()
    assert drawn.count() == 3
    assert drawn[grid.row[1], grid.column[1]] == 1.0
    x_lines, y_lines = mesh.get_coordinates()[0, :, 0], mesh.get_coordinates()[:, 0, 1]
    # The corner of level 0 lies half a pixel before the first pixel's centre; cores are 48 px of 0.5 um.
    assert (x_lines[0], y_lines[0]) == (-0.25, -0.25)
    assert x_lines[1] == y_lines[1] == 23.75
    assert x_lines[-1] == 249.75
    assert {"amount (OD)", "3 tiles", "0.25 × 0.15 mm"} <= set(_texts(figure))


def test_both_pictures_lie_in_um_and_have_scale_bars(slide: Slide) -> None:
    figure = plot.tile_map(plan(slide, size_px=64, mpp=0.5), np.arange(40))
    for ax in figure.axes[:2]:
        assert ax.get_xlim() == (-0.25, 249.75)
        assert ax.get_ylim() == (149.75, -0.25)
    assert _texts(figure).count("50 µm") == 2


def test_a_region_is_shown_alone(slide: Slide) -> None:
    grid = plan(slide, size_px=32, mpp=0.5, bounds_um=(50.0, 25.0, 150.0, 100.0))
    figure = plot.tile_map(grid, np.zeros(len(grid)))
    assert figure.axes[0].get_xlim() == pytest.approx((grid.bounds_um[0], grid.bounds_um[2]))
    assert figure.axes[0].get_ylim() == pytest.approx((grid.bounds_um[3], grid.bounds_um[1]))


def test_tiles_without_a_value_are_framed_and_counted(slide: Slide) -> None:
    grid = plan(slide, size_px=64, mpp=0.5)
    values = np.ones(len(grid))
    values[[5, 11]] = np.nan
    figure = plot.tile_map(grid, values)
    assert _frames(figure) == [pytest.approx(tuple(grid.core_bounds_um[tile])) for tile in (5, 11)]
    assert f"{len(grid)} tiles, 2 without a value" in _texts(figure)


def test_colours_of_tiles_are_drawn_as_they_are(slide: Slide) -> None:
    grid = plan(slide, size_px=100, mpp=0.5)
    colours = np.tile([0.2, 0.4, 0.6], (len(grid), 1))
    colours[4] = (1.0, 0.0, 0.0)
    colours[9] = np.nan
    figure = plot.tile_map(grid, colours, label="three components")
    centre = grid.core_bounds_um.reshape(-1, 2, 2).mean(axis=1)
    assert _colour_at(figure, *centre[4]).tolist() == [255, 0, 0]
    assert _colour_at(figure, *centre[0]).tolist() == [51, 102, 153]
    assert len(_frames(figure)) == 1
    assert "three components" in _texts(figure)


def test_the_colour_scale_can_be_set(slide: Slide) -> None:
    grid = plan(slide, size_px=100, mpp=0.5)
    figure = plot.tile_map(grid, np.arange(len(grid)), limits=(0.0, 100.0))
    (mesh,) = (drawn for drawn in figure.axes[1].collections if isinstance(drawn, QuadMesh))
    assert mesh.get_clim() == (0.0, 100.0)


@pytest.mark.parametrize("shape", [(3,), (40, 2), (40, 4)])
def test_values_that_are_not_one_per_tile_are_refused(slide: Slide, shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="one number, or red, green and blue, per tile"):
        plot.tile_map(plan(slide, size_px=64, mpp=0.5), np.zeros(shape))


def test_a_whole_result_is_refused_with_the_remedy(slide: Slide) -> None:
    grid = plan(slide, size_px=64, mpp=0.5)
    result = run(lambda tiles: tiles.float().mean(dim=(1, 2, 3)), slide, grid, device="cpu")
    with pytest.raises(GeometryError, match=r"got TileResult\(.*Pass one column of result\.values"):
        plot.tile_map(grid, result)


def test_a_gallery_shows_tiles_as_they_are_read_with_their_cores(slide: Slide) -> None:
    grid = plan(slide, size_px=64, overlap_px=16, mpp=0.5)
    figure = plot.tile_gallery(grid, [0, 9, 20, 21, 22, 23, 24])
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 7
    for ax, tile in zip(shown, (0, 9, 20, 21, 22, 23, 24), strict=True):
        assert np.array_equal(ax.images[0].get_array(), read_tiles(grid, [tile])[0])
        assert ax.get_title(loc="right") == f"tile {tile}"
    # The halo is 8 px of 0.5 um.
    assert _frames(figure) == [(4.0, 4.0, 28.0, 28.0)] * 7
    assert "5 µm" in _texts(figure)


def test_without_a_halo_no_core_is_framed(slide: Slide) -> None:
    assert _frames(plot.tile_gallery(plan(slide, size_px=64, mpp=0.5), range(2))) == []


@pytest.mark.parametrize("n", [0, 25])
def test_a_gallery_of_none_or_too_many_is_refused(slide: Slide, n: int) -> None:
    with pytest.raises(GeometryError, match="1 to 24 tiles"):
        plot.tile_gallery(plan(slide, size_px=64, mpp=0.5), range(n))


def test_a_damaged_slide_is_mapped_without_its_picture() -> None:
    slide = array_slide(np.zeros((300, 500, 3), dtype=np.uint8), mpp=0.5, broken=(250, 150))
    grid = plan(slide, size_px=100, mpp=0.5)
    figure = plot.tile_map(grid, np.arange(len(grid)))
    assert "0.25 × 0.15 mm, damaged: no picture" in _texts(figure)
    assert np.unique(np.asarray(figure.axes[0].images[0].get_array())).tolist() == [225]


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((0, 3))])
def test_a_plan_without_tiles_is_drawn_as_the_bare_slide(slide: Slide, values: np.ndarray) -> None:
    figure = plot.tile_map(plan(slide, size_px=64, mpp=0.5).select([]), values)
    FigureCanvasAgg(figure).draw()
    assert "0 tiles" in _texts(figure)


def test_a_map_of_nothing_but_missing_values_is_drawn(slide: Slide) -> None:
    grid = plan(slide, size_px=100, mpp=0.5)
    figure = plot.tile_map(grid, np.full(len(grid), np.nan))
    FigureCanvasAgg(figure).draw()
    assert len(_frames(figure)) == len(grid)
