"""TIFF slides: tags, order of tiles and what their reader makes of them. Pixels are compared in tests/tiling/test_converting*.py."""

import numpy as np
import pytest
import slide_files as make
import tifffile
from written_slides import to_write

from idx.io import slides_writing_tiff
from idx.io.slides import open_slide
from idx.io.slides_writing import tile_encoder
from idx.io.slides_writing_tiff import write_tiff

SIZES = ((150, 100), (75, 50))


def blocks(slide, *, interleaved=True):
    """Coded tiles of two levels, each of one colour of its own; the coarse ones come between the fine ones."""
    encode = tile_encoder(slide)
    every = [(level, encode(np.full((64, 64, 3), 40 * number + 90 * level, dtype=np.uint8))) for level in (0, 1) for number in range(slide.n_tiles(level))]
    return [every[k] for k in ((0, 6, 1, 2, 3, 4, 5, 7) if interleaved else range(8))]


@pytest.mark.parametrize("interleaved", [True, False])
def test_tiles_lie_where_they_belong_however_levels_arrive(tmp_path, interleaved):
    slide = to_write(sizes_px=SIZES, compression="none")
    write_tiff(tmp_path / "a.tif", slide, blocks(slide, interleaved=interleaved))
    with open_slide(tmp_path / "a.tif") as read:
        assert [(level.width_px, level.height_px) for level in read.levels] == list(SIZES)
        fine = read.read_region(0, 0, width_px=150, height_px=100)[::64, ::64, 0]
        coarse = read.read_region(0, 0, width_px=75, height_px=50, level=1)[::64, ::64, 0]
    np.testing.assert_array_equal(fine, [[0, 40, 80], [120, 160, 200]])
    np.testing.assert_array_equal(coarse, [[90, 130]])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_tags_say_scale_place_in_the_pyramid_and_provenance(tmp_path):
    slide = to_write(sizes_px=SIZES, mpp=(0.25, 0.3), icc_profile=make.srgb_profile(), description="idx slide convert; objective 40x")
    write_tiff(tmp_path / "a.tif", slide, blocks(slide))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        fine, coarse = tiff.pages
        assert not fine.is_reduced
        assert coarse.is_reduced
        assert fine.description == "idx slide convert; objective 40x"
        assert coarse.description == ""
        assert fine.software.startswith("idx ")
        for page, factor in ((fine, 1), (coarse, 2)):
            x, y = page.tags["XResolution"].value, page.tags["YResolution"].value
            assert page.tags["ResolutionUnit"].value == 3
            assert (1e4 * x[1] / x[0], 1e4 * y[1] / y[0]) == pytest.approx((0.25 * factor, 0.3 * factor))
            assert page.photometric == tifffile.PHOTOMETRIC.YCBCR
            assert page.iccprofile == slide.icc_profile
    with open_slide(tmp_path / "a.tif") as read:
        assert read.mpp == pytest.approx((0.25, 0.3))
        assert read.magnification == 40.0
        assert read.icc_profile == slide.icc_profile


def test_a_scale_that_no_other_program_would_be_believed_is_read_back(tmp_path):
    slide = to_write(sizes_px=SIZES, mpp=(64.0, 64.0))
    write_tiff(tmp_path / "a.tif", slide, blocks(slide))
    with open_slide(tmp_path / "a.tif") as read:
        assert read.mpp == pytest.approx((64.0, 64.0))


def test_the_same_slide_gives_the_same_bytes(tmp_path):
    slide = to_write(sizes_px=SIZES)
    for name in ("a.tif", "b.tif"):
        write_tiff(tmp_path / name, slide, blocks(slide))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_offsets_have_64_bits_where_32_might_not_be_enough(tmp_path, monkeypatch):
    slide = to_write(sizes_px=SIZES)
    write_tiff(tmp_path / "small.tif", slide, blocks(slide))
    monkeypatch.setattr(slides_writing_tiff, "_MOST_CLASSIC_BYTES", 8 * slide.tile_bytes)
    write_tiff(tmp_path / "large.tif", slide, blocks(slide))
    for name, is_big in (("small.tif", False), ("large.tif", True)):
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert tiff.is_bigtiff == is_big
