"""Real slides through every route: level 0 is one answer, with OpenSlide as the judge."""

import imagecodecs
import numpy as np
import openslide
import pytest

from idx.io.slides import open_slide

pytestmark = pytest.mark.real


def _judged(path, x, y, width, height):
    """Region by openslide-python itself, transparent parts white."""
    with openslide.OpenSlide(path) as slide:
        rgba = np.asarray(slide.read_region((x, y), 0, (width, height)))
    return np.where(rgba[..., 3:] == 0, 255, rgba[..., :3]).astype(np.uint8)


@pytest.fixture(scope="module")
def cmu(real_data):
    folder = real_data / "slides"
    return {
        "tifffile": open_slide(folder / "CMU-1-Small-Region.svs", backend="tifffile"),
        "openslide": open_slide(folder / "CMU-1-Small-Region.svs", backend="openslide"),
        "dicom": open_slide(folder / "CMU-1-Small-Region_dicom"),
    }


@pytest.mark.parametrize("route", ["tifffile", "openslide", "dicom"])
def test_whole_level0_of_cmu_1_is_what_openslide_reads(cmu, route, real_data):
    slide = cmu[route]
    assert slide.pixels.name == route
    assert slide.size_px == (2220, 2967)
    assert slide.mpp == pytest.approx((0.499, 0.499), rel=1e-9)
    expected = _judged(real_data / "slides" / "CMU-1-Small-Region.svs", -40, -50, 2300, 3070)
    np.testing.assert_array_equal(slide.read_region(-40, -50, width_px=2300, height_px=3070), expected)


def test_twin_has_the_pyramid_without_label_and_thumbnail(cmu):
    assert [level.downsample for level in cmu["dicom"].levels] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert [level.downsample for level in cmu["tifffile"].levels] == [1.0]


def test_random_regions_of_the_jpeg_2000_slide_are_what_openslide_reads(real_data):
    path = real_data / "slides" / "luna_1065626.svs"
    rng = np.random.default_rng(11)
    with open_slide(path) as slide:
        assert slide.pixels.name == "tifffile"
        assert [level.downsample for level in slide.levels] == [1.0, 4.0]
        assert slide.mpp == pytest.approx((0.5026, 0.5026))
        corners = [(-100, -90), (11_852, 10_149), *zip(rng.integers(-200, 11_900, 8), rng.integers(-200, 10_200, 8), strict=True)]
        for x, y in corners:
            expected = _judged(path, int(x), int(y), 300, 280)
            np.testing.assert_array_equal(slide.read_region(x, y, width_px=300, height_px=280), expected)


def test_level_1_lies_where_its_factor_says(real_data):
    """Level 0 averaged over 4 x 4 pixels resembles level 1 most where it is not shifted, and about equally less to either side."""
    with open_slide(real_data / "slides" / "luna_1065626.svs") as slide:
        coarse = slide.read_region(1152, 1536, width_px=128, height_px=128, level=1).mean(axis=2)
        fine = slide.read_region(4 * 1152 - 4, 4 * 1536 - 4, width_px=520, height_px=520).mean(axis=2)
    errors = {}
    for dy in range(9):
        for dx in range(9):
            shifted = fine[dy : dy + 512, dx : dx + 512].reshape(128, 4, 128, 4).mean(axis=(1, 3))
            errors[dx - 4, dy - 4] = np.abs(shifted - coarse).mean()
    assert min(errors, key=errors.get) == (0, 0)
    assert errors[1, 0] == pytest.approx(errors[-1, 0], rel=0.1)
    assert errors[0, 1] == pytest.approx(errors[0, -1], rel=0.1)


def test_icc_of_a_real_slide_is_what_lcms_makes_of_openslide(real_data):
    from PIL import ImageCms

    path = real_data / "slides" / "luna_1065626.svs"
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((5000, 5000), 0, (64, 64)).convert("RGB")
        profile = slide.color_profile
    expected = ImageCms.profileToProfile(region, profile, ImageCms.createProfile("sRGB"), renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
    with open_slide(path, icc=True) as managed:
        np.testing.assert_array_equal(managed.read_region(5000, 5000, width_px=64, height_px=64), np.asarray(expected))


def test_every_level_of_the_twin_is_what_openslide_reads(cmu, real_data):
    """Frame by frame, with the colours that the header states. OpenSlide refuses border frames that are stored smaller than the others: libjpeg judges."""
    folder = real_data / "slides" / "CMU-1-Small-Region_dicom"
    slide = cmu["dicom"]
    n_by = {"openslide": 0, "libjpeg": 0}
    for number, level in enumerate(slide.levels):
        layout = slide.pixels.stored.layouts[number]
        for stored in range(len(layout.offsets)):
            row, column = divmod(stored, layout.n_columns)
            x, y = column * layout.tile_width_px, row * layout.tile_height_px
            width, height = layout.size_within(stored)
            # From the corner of the level: elsewhere OpenSlide rounds its level-0 position between pixels.
            with openslide.OpenSlide(next(folder.glob("*.dcm"))) as judge:
                assert judge.level_dimensions[number] == (level.width_px, level.height_px)
                try:
                    expected = np.asarray(judge.read_region((0, 0), number, (x + width, y + height)))[y:, x:, :3]
                    n_by["openslide"] += 1
                except openslide.OpenSlideError:
                    stream = slide.pixels.stored.fetch(number, stored)
                    expected = imagecodecs.jpeg8_decode(stream, colorspace=2, outcolorspace=2)[:height, :width]
                    n_by["libjpeg"] += 1
            np.testing.assert_array_equal(slide.read_region(x, y, width_px=width, height_px=height, level=number), expected)
    assert n_by == {"openslide": 169, "libjpeg": 13}


def test_levels_whose_colours_contradict_the_header_are_not_used_unasked(cmu):
    """The twin's coarse levels are YCbCr under a header that says RGB. Two formats, one answer: coarse pictures come from level 0."""
    slide = cmu["dicom"]
    assert [bool(level.doubt) for level in slide.levels] == [False, True, True, True, True]
    assert slide.level_for(8.0) == 0
    assert "the header says RGB, the JPEG frames say YCbCr" in dict(slide.facts())["level 1, 2, 3, 4"]
    np.testing.assert_array_equal(slide.thumbnail(300), cmu["tifffile"].thumbnail(300))


def test_colours_as_marked_make_every_level_of_the_twin_the_same_picture(cmu, real_data):
    with open_slide(real_data / "slides" / "CMU-1-Small-Region_dicom", jpeg_colours="marked") as slide:
        fine = slide.read_region(480, 960, width_px=960, height_px=960).astype(float)
        for number in range(1, 4):
            assert slide.levels[number].doubt == ""
            factor = 2**number
            coarse = slide.read_region(480 // factor, 960 // factor, width_px=960 // factor, height_px=960 // factor, level=number)
            assert np.abs(coarse.mean(axis=(0, 1)) - fine.mean(axis=(0, 1))).max() < 2.0


def test_every_level_of_the_jpeg_2000_slide_is_what_openslide_reads(real_data):
    """Half a grey level apart at most, which is to say equal; the whole of level 1, and a band across level 0."""
    path = real_data / "slides" / "luna_1065626.svs"
    with open_slide(path) as slide, openslide.OpenSlide(path) as judge:
        for number, height in ((0, 512), (1, slide.levels[1].height_px)):
            width, y = slide.levels[number].width_px, 5000 if number == 0 else 0
            expected = np.asarray(judge.read_region((0, y), number, (width, height)))
            found = slide.read_region(0, y, width_px=width, height_px=height, level=number)
            np.testing.assert_array_equal(found, np.where(expected[..., 3:] == 0, 255, expected[..., :3]))
