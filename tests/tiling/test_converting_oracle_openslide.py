"""Converted slides against OpenSlide, which opens both containers."""

import numpy as np
import openslide
import pytest
from array_slides import array_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import picture

from idx.io.slides import open_slide
from idx.tiling import convert, read_region

OPENED_BY_BOTH = [
    ("a.tif", {"compression": "jpeg"}, "generic-tiff"),
    ("a.tif", {"compression": "deflate"}, "generic-tiff"),
    ("a.tif", {"compression": "none"}, "generic-tiff"),
    ("a", {"compression": "jpeg"}, "dicom"),
    ("a", {"compression": "jpeg2000", "quality": 100}, "dicom"),
    ("a", {"compression": "none"}, "dicom"),
]


def opened(path):
    return openslide.OpenSlide(path if path.is_file() else path / "level-0.dcm")


def as_shown(judge, level: int) -> np.ndarray:
    """A whole level as OpenSlide shows it."""
    return np.asarray(judge.read_region((0, 0), level, judge.level_dimensions[level]).convert("RGB"))


def as_read(slide, level: int) -> np.ndarray:
    stored = slide.levels[level]
    return slide.read_region(0, 0, width_px=stored.width_px, height_px=stored.height_px, level=level)


@pytest.mark.parametrize(("name", "options", "vendor"), OPENED_BY_BOTH)
def test_openslide_sees_the_same_levels_scale_and_pixels(tmp_path, name, options, vendor):
    slide = array_slide(picture(430, 300), mpp=(0.25, 0.3))
    convert(slide, tmp_path / name, tile_px=64, **options)
    with opened(tmp_path / name) as judge, open_slide(tmp_path / name) as copy:
        assert judge.properties["openslide.vendor"] == vendor
        assert judge.level_dimensions == tuple((level.width_px, level.height_px) for level in copy.levels) == ((430, 300), (215, 150), (108, 75), (54, 38))
        assert float(judge.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(judge.properties["openslide.mpp-y"]) == pytest.approx(0.3)
        for level in range(4):
            np.testing.assert_array_equal(as_shown(judge, level), as_read(copy, level))
        if options["compression"] != "jpeg":
            np.testing.assert_array_equal(as_shown(judge, 0), slide.pixels.arrays[0])


@given(width=st.integers(20, 300), height=st.integers(20, 300), mpp=st.sampled_from([0.5, 0.9, 2.0]), is_tiff=st.booleans())
@settings(max_examples=10)
def test_whatever_the_size_openslide_shows_the_region_that_is_read(tmp_path_factory, width, height, mpp, is_tiff):
    out = tmp_path_factory.mktemp("convert") / ("a.tif" if is_tiff else "a")
    slide = array_slide(picture(width, height), mpp=0.5)
    convert(slide, out, mpp=mpp, tile_px=64, compression="none")
    with opened(out) as judge:
        np.testing.assert_array_equal(as_shown(judge, 0), read_region(slide, mpp=mpp).pixels)


@pytest.mark.real
@pytest.mark.parametrize(("name", "options", "vendor"), OPENED_BY_BOTH)
def test_a_real_slide(real_data, tmp_path, name, options, vendor):
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        convert(slide, tmp_path / name, **options)
        with opened(tmp_path / name) as judge, open_slide(tmp_path / name) as copy:
            assert judge.properties["openslide.vendor"] == vendor
            assert copy.mpp == pytest.approx(slide.mpp, rel=1e-6)
            for level in range(judge.level_count):
                np.testing.assert_array_equal(as_shown(judge, level), as_read(copy, level))
            source, copied = as_read(slide, 0).astype(np.int16), as_read(copy, 0)
            difference = np.abs(source - copied)
            if options["compression"] == "jpeg":
                assert 10 * np.log10(255**2 / np.mean(difference.astype(float) ** 2)) > 40
            else:
                assert difference.max() == 0
