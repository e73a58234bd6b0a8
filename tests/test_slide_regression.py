"""Mistakes that stood here once."""

import numpy as np
import pytest
from PIL import Image
from shapely import MultiPolygon, Polygon, box

from idx import slide as slide_module
from idx.errors import GeometryError
from idx.slide import Contours, Level, Slide


class _Pixels:
    """One level without coarser ones; remembers the largest region that was read."""

    name = "memory"

    def __init__(self, pixels):
        self.pixels = pixels
        self.levels = (Level(pixels.shape[1], pixels.shape[0], 1.0),)
        self.largest_px = 0

    def read_tiles_into(self, batch, tiles):
        for out, tile in zip(batch, tiles, strict=True):
            out[:] = self.pixels[tile.y_px : tile.y_px + tile.height_px, tile.x_px : tile.x_px + tile.width_px]
            self.largest_px = max(self.largest_px, tile.height_px * tile.width_px)

    def close(self):
        pass


@pytest.mark.parametrize("shape", [(701, 430, 3), (333, 1000, 3), (1000, 7, 3)])
def test_thumbnail_of_a_slide_without_levels_is_read_in_bands(monkeypatch, shape):
    """The whole of level 0 was read at once: 30 GB for a slide without a pyramid."""
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    whole = Slide(_Pixels(pixels), (0.5, 0.5), "whole").thumbnail(100)
    monkeypatch.setattr(slide_module, "THUMBNAIL_BAND_PX", pixels[..., 0].size // 9)
    source = _Pixels(pixels)
    banded = Slide(source, (0.5, 0.5), "banded").thumbnail(100)
    assert source.largest_px < pixels[..., 0].size / 3
    assert np.abs(banded.astype(int) - whole).max() <= 1
    expected = np.asarray(Image.fromarray(pixels).resize(whole.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(whole - expected).max() <= 1


def test_vertices_of_three_components_are_refused():
    """(4, 3) was reshaped to (6, 2): other points, no error."""
    with pytest.raises(GeometryError, match="vertices"):
        Contours(np.zeros((4, 3)), np.array([0, 6]), np.array([0, 1]))


@pytest.mark.parametrize("shape", [Polygon(), MultiPolygon([box(0, 0, 1, 1)])])
def test_only_polygons_with_an_area_become_contours(shape):
    """An empty polygon raised IndexError."""
    with pytest.raises(GeometryError, match="non-empty polygons"):
        Contours.from_polygons([shape])


def test_select_keeps_vertices_to_the_last_digit():
    """A ring whose last vertex repeats its first lost it on the way through shapely."""
    ring = np.array([[0.1, 0.2], [4.0, 0.0], [4.0, 3.0], [0.1, 0.2]])
    contours = Contours(np.vstack([ring, ring + 9]), np.array([0, 4, 8]), np.array([0, 1, 2]), ("a", "b"))
    chosen = contours.select(np.array([False, True]))
    np.testing.assert_array_equal(chosen.vertices_um, ring + 9)
    assert chosen.labels == ("b",)
    assert len(contours.select(np.zeros(2, bool))) == 0


def test_no_contours_have_no_centroids():
    assert Contours.from_polygons([]).centroids_um.shape == (0, 2)
