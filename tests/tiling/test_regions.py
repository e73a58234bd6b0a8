"""Regions at any resolution: the right pixels, at the right place, and no more than fit in memory."""

import base64
import io
import re

import numpy as np
import pytest
from array_slides import ArrayPixels, array_slide, planned_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from idx.errors import GeometryError, PixelAccessError, UnitError
from idx.tiling import read_region
from idx.tiling.overview import read_overview


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mean_over(pixels: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Mean colour over a rectangle given by its edges in pixels, cut at the border."""
    weights = []
    for n, low, high in ((pixels.shape[0], top, bottom), (pixels.shape[1], left, right)):
        edges = np.clip(np.arange(n + 1.0), low, high)
        weights.append(np.diff(edges))
    total = np.einsum("y,x,yxc->c", *weights, pixels.astype(np.float64))
    return total / (weights[0].sum() * weights[1].sum())


@given(
    corner=st.tuples(st.floats(-40, 150), st.floats(-40, 120)),
    size=st.tuples(st.floats(3, 200), st.floats(3, 200)),
    mpp=st.sampled_from([0.5, 0.505, 0.8, 1.37, 3.0]),
)
@settings(max_examples=40)
def test_every_pixel_is_the_mean_of_the_slide_under_it(corner, size, mpp):
    """The picture says itself where its pixels lie; that much of the slide is averaged by other means."""
    stored = noise(240, 320)
    slide = array_slide(stored, mpp=0.5)
    left, top = corner
    right, bottom = left + size[0], top + size[1]
    if right <= 1 or bottom <= 1 or left >= 157 or top >= 117:
        return
    region = read_region(slide, (left, top, right, bottom), mpp=mpp)
    covered = region.bounds_um
    assert covered[0] <= max(left, -0.25) + 1e-2
    assert covered[1] <= max(top, -0.25) + 1e-2
    assert covered[2] >= min(right, 159.75) - 1e-2
    assert covered[3] >= min(bottom, 119.75) - 1e-2
    rng, (height, width) = np.random.default_rng(0), region.pixels.shape[:2]
    for x, y in [(0, 0), (width - 1, height - 1), *np.stack([rng.integers(0, width, 4), rng.integers(0, height, 4)], axis=-1).tolist()]:
        centre = region.to_um(np.array([x, y])) / 0.5 + 0.5  # in pixels of the slide, from its edge
        half = np.array(region.mpp) / 0.5 / 2
        expected = mean_over(stored, *(centre - half), *(centre + half))
        assert np.abs(region.pixels[y, x] - expected).max() <= 0.51


def test_without_a_resolution_it_is_the_slide_as_stored():
    stored = noise(97, 131)
    region = read_region(array_slide(stored))
    np.testing.assert_array_equal(region.pixels, stored)
    assert region.mpp == (0.5, 0.5)
    np.testing.assert_allclose(region.bounds_um, (-0.25, -0.25, 65.25, 48.25))


def test_a_level_is_read_as_stored():
    fine = noise(120, 160)
    coarse = noise(30, 40, seed=1)
    region = read_region(array_slide(fine, coarse), (16.0, 8.0, 48.0, 40.0), level=1)
    np.testing.assert_array_equal(region.pixels, coarse[4:21, 8:25])
    np.testing.assert_allclose(region.to_px(region.to_um(np.array([3.0, 5.0]))), [3.0, 5.0])


def test_pixels_do_not_depend_on_the_rectangle_they_were_read_in(monkeypatch):
    slide = array_slide(noise(300, 400))
    whole = read_region(slide, mpp=1.3)
    monkeypatch.setattr("idx.tiling.regions._READ_PX", 50)
    np.testing.assert_array_equal(read_region(slide, mpp=1.3).pixels, whole.pixels)


def test_a_region_larger_than_memory_is_refused_before_it_is_read():
    slide = planned_slide(120_000, 100_000)
    with pytest.raises(GeometryError, match=r"120,000 x 100,000 px, 33.5 GiB, at 0.5 um/px .*Pass mpp=2.07 or smaller bounds"):
        read_region(slide)
    with pytest.raises(AssertionError, match="read pixels"):
        read_region(slide, mpp=2.07)  # the remedy that was named is one


def test_a_slide_without_coarse_levels_is_read_in_small_pieces():
    class Watched(ArrayPixels):
        largest = 0

        def read_tiles_into(self, batch, tiles):
            self.largest = max(self.largest, batch.nbytes)
            super().read_tiles_into(batch, tiles)

    slide = array_slide(noise(2000, 3000))
    object.__setattr__(slide, "pixels", Watched([slide.pixels.arrays[0]]))
    assert read_region(slide, mpp=50.0).pixels.shape == (20, 30, 3)
    assert slide.pixels.largest <= 8 * 3 * (16 * 100) ** 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mpp": 0.2}, UnitError, "finer than the slide's 0.5 um/px"),
        ({"mpp": 1.0, "level": 0}, GeometryError, "mpp=1.0 and level=0"),
        ({"level": 2}, GeometryError, "level must be in 0..0"),
        ({"bounds_um": (900.0, 0.0, 950.0, 50.0)}, GeometryError, "must meet the slide"),
        ({"bounds_um": (50.0, 0.0, 20.0, 50.0)}, GeometryError, "left < right"),
        ({"bounds_um": (0.0, 0.0, float("nan"), 50.0)}, GeometryError, "finite"),
    ],
)
def test_bad_requests_say_what_is_wrong(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        read_region(array_slide(noise(100, 100)), **options)


def test_a_damaged_place_is_named():
    with pytest.raises(PixelAccessError, match=r"tile 0 at level-0 px x=100, y=20"):
        read_region(array_slide(noise(100, 300), broken=(150, 50)), (50.0, 10.0, 100.0, 40.0))


def test_an_overview_is_never_finer_than_the_slide():
    overview = read_overview(array_slide(noise(40, 60), mpp=(0.5, 0.6)), mpp=0.1)
    assert overview.mpp == (0.6, 0.6)
    assert overview.pixels.shape == (40, 50, 3)


def test_it_shows_itself_with_a_scale_bar():
    region = read_region(array_slide(np.full((200, 300, 3), 200, dtype=np.uint8)), (10.0, 10.0, 110.0, 60.0))
    html = region._repr_html_()
    assert "201 x 101 px, 100.5 x 50.5 um" in html
    assert "x 9.75 to 110.25 um" in html
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]))))
    black = (picture == 0).all(axis=-1)
    assert black[:, : picture.shape[1] // 2].any()
    assert not black[: picture.shape[0] // 2].any()
    # 20 um is the longest round length within a quarter of the picture.
    assert black.sum(axis=1).max() == pytest.approx(20.0 / 100.5 * picture.shape[1], abs=3)
