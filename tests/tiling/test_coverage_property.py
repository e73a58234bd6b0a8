"""Shares of cells against rasters that are exact, and against polygon clipping."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from idx.slide import Contours
from idx.tiling.coverage import share_in_contours, share_in_mask


def lines(draw, length: float) -> np.ndarray:
    """Ascending edges of up to twelve cells, the last one narrower, as at a slide's border; they need not begin at 0."""
    # In steps of a thousandth: polygon clipping, the reference, fails at lines of 1e-308.
    first, step, last = (draw(st.integers(*ends)) / 1000 for ends in ((0, 333), (50, 500), (100, 1000)))
    first, step, n = first * length, step * length, draw(st.integers(1, 12))
    at = first + step * np.append(np.arange(n), n - 1 + last)
    return np.append(at[at < length - 0.05], length) if at[-1] > length else at


@st.composite
def lattices(draw, width: float = 30.0, height: float = 20.0):
    return lines(draw, width), lines(draw, height)


def clipped(union, x_lines: np.ndarray, y_lines: np.ndarray) -> np.ndarray:
    cells = shapely.box(*(a for pair in ((x_lines[:-1], y_lines[:-1, None]), (x_lines[1:], y_lines[1:, None])) for a in pair))
    return shapely.area(shapely.intersection(cells, union)) / shapely.area(cells)


def raster_shares(raster: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of a raster, those at the far border cut."""
    starts = [np.arange(0, n, step) for n in raster.shape]
    sums = np.add.reduceat(np.add.reduceat(raster.astype(float), starts[0], axis=0), starts[1], axis=1)
    return sums / (np.diff([*starts[0], raster.shape[0]])[:, None] * np.diff([*starts[1], raster.shape[1]]))


boxes = st.lists(st.tuples(st.integers(-3, 32), st.integers(-3, 22), st.integers(1, 15), st.integers(1, 15)), min_size=1, max_size=8)


@given(boxes, st.integers(1, 13))
def test_contours_along_pixels_are_counted_pixel_by_pixel(drawn, step):
    raster = np.zeros((20, 30), dtype=bool)
    for x, y, width, height in drawn:
        raster[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    contours = Contours.from_polygons([shapely.box(x, y, x + width, y + height) for x, y, width, height in drawn])
    x_lines, y_lines = (np.append(np.arange(0.0, n, step), n) for n in (30, 20))
    shares = share_in_contours(contours, x_lines_um=x_lines, y_lines_um=y_lines)
    np.testing.assert_allclose(shares, raster_shares(raster, step), atol=1e-9)
    of_mask = share_in_mask(raster, x_lines=x_lines / 30, y_lines=y_lines / 20)
    np.testing.assert_allclose(of_mask, raster_shares(raster, step), atol=1e-9)


@st.composite
def stars(draw) -> shapely.Polygon:
    """A jagged ring of 5 to 40 vertices around a jagged hole."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    centre = rng.uniform([0, 0], [30, 20])
    n = draw(st.integers(5, 40))
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    outline = centre + around * rng.uniform(6, 14, (n, 1))
    return shapely.Polygon(outline, [centre + around * rng.uniform(0.5, 3, (n, 1))] if draw(st.booleans()) else [])


@given(st.lists(stars(), min_size=1, max_size=3), lattices())
def test_contours_agree_with_clipping(polygons, lattice):
    shares = share_in_contours(Contours.from_polygons(polygons), x_lines_um=lattice[0], y_lines_um=lattice[1])
    union = shapely.union_all([shapely.make_valid(polygon) for polygon in polygons])
    np.testing.assert_allclose(shares, clipped(union, *lattice), atol=2e-9)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40), lattices(1.0, 1.0))
def test_masks_agree_with_areas_of_pixels(seed, height, width, lattice):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    x_px, y_px = lattice[0] * width, lattice[1] * height

    def overlaps(edges: np.ndarray, n: int) -> np.ndarray:
        pixel = np.arange(n)
        return np.clip(np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, None)

    expected = overlaps(y_px, height) @ mask @ overlaps(x_px, width).T / (np.diff(y_px)[:, None] * np.diff(x_px))
    np.testing.assert_allclose(share_in_mask(mask, x_lines=lattice[0], y_lines=lattice[1]), expected, atol=2e-9)


@pytest.mark.parametrize("chunk_px", [1, 100, 1000])
def test_shares_do_not_depend_on_how_many_rows_are_added_up_at_a_time(monkeypatch, chunk_px):
    mask = np.random.default_rng(0).random((61, 83)) < 0.4
    x_lines, y_lines = np.array([0.03, 0.2, 0.21, 0.9]), np.linspace(0.1, 1.0, 8)
    expected = share_in_mask(mask, x_lines=x_lines, y_lines=y_lines)
    monkeypatch.setattr("idx.tiling.coverage._CHUNK_PX", chunk_px)
    np.testing.assert_allclose(share_in_mask(mask, x_lines=x_lines, y_lines=y_lines), expected, atol=1e-9)


def test_contours_far_from_the_lattice_do_not_touch_it():
    cells = {"x_lines_um": np.array([0.0, 10.0, 20.0]), "y_lines_um": np.array([0.0, 10.0])}
    for box in ((-50, 2, -30, 8), (30, 2, 50, 8), (5, -20, 15, -10), (5, 20, 15, 30)):
        assert share_in_contours(Contours.from_polygons([shapely.box(*box)]), **cells).tolist() == [[0.0, 0.0]]
    around = Contours.from_polygons([shapely.box(-100, -100, 100, 100)])
    assert share_in_contours(around, **cells).tolist() == [[1.0, 1.0]]


def test_lines_that_run_along_the_lattice_are_exact():
    """Outlines drawn from tiles lie on the very lines of the lattice; no cell beyond them is touched."""
    contours = Contours.from_polygons([shapely.Polygon([(10, 0), (20, 0), (20, 20), (30, 20), (30, 30), (10, 30)])])
    shares = share_in_contours(contours, x_lines_um=np.arange(0.0, 41, 10), y_lines_um=np.arange(0.0, 41, 10))
    assert shares.tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_small_cells_in_large_coordinates_are_exact():
    """A slide's far corner lies 60,000 um from its origin."""
    circle = shapely.Point(59_000.0, 49_000.0).buffer(800.0, 150)
    contours = Contours.from_polygons([circle])
    x_lines, y_lines = np.arange(57_990.0, 60_000, 16), np.arange(47_990.0, 50_000, 16)
    shares = share_in_contours(contours, x_lines_um=x_lines, y_lines_um=y_lines)
    assert shares.sum() * 16**2 == pytest.approx(circle.area, rel=1e-9)
    np.testing.assert_allclose(shares, clipped(circle, x_lines, y_lines), atol=1e-8)
