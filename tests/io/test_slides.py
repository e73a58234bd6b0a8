"""Contract of every pixel source, and what opening a slide finds out."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pydicom
import pytest
import slide_files as make
import tifffile
from PIL import Image, ImageCms

from idx.errors import GeometryError, PixelAccessError
from idx.io.slides import open_slide
from idx.io.slides_tiles import level_of
from idx.slide import PixelSource, TileRect
from idx.tiling import plan

LOSSLESS = {
    "tiff-none": {"compression": None},
    "tiff-deflate": {"compression": "deflate"},
    "tiff-deflate-predictor": {"compression": "deflate", "predictor": True},
    "tiff-lzw": {"compression": "lzw"},
    "tiff-zstd": {"compression": "zstd"},
    "tiff-big": {"compression": "deflate", "bigtiff": True},
    "tiff-jpeg2000": {"compression": "jpeg2000", "compressionargs": {"level": 0}},
    "svs-deflate": {"compression": "deflate", "description": make.APERIO.format(codec="LZW")},
}


def _open(kind, folder):
    """A slide of a kind and the picture that it holds."""
    if kind in LOSSLESS:
        pixels = make.write_tiff(folder / "a.tif", **LOSSLESS[kind])
        return open_slide(folder / "a.tif", backend="tifffile"), pixels
    if kind == "ome":
        pixels = make.write_ome(folder / "a.ome.tif")
        return open_slide(folder / "a.ome.tif"), pixels
    if kind == "openslide":
        pixels = make.write_tiff(folder / "a.tif", compression="deflate")
        return open_slide(folder / "a.tif", backend="openslide"), pixels
    if kind.startswith("dicom"):
        pixels = make.write_dicom(folder / "dicom", **({"sparse_without": ()} if kind == "dicom-sparse" else {}))
        return open_slide(folder / "dicom"), pixels
    pixels = make.picture()
    file = folder / {"flat-png": "a.png", "flat-strips": "b.tif"}[kind]
    if kind == "flat-png":
        Image.fromarray(pixels).save(file)
    else:
        tifffile.imwrite(file, pixels, photometric="rgb", rowsperstrip=16, compression="deflate")
    return open_slide(file, mpp=0.25), pixels


KINDS = [*LOSSLESS, "ome", "openslide", "dicom-full", "dicom-sparse", "flat-png", "flat-strips"]


@pytest.fixture(params=KINDS)
def opened(request, tmp_path):
    slide, pixels = _open(request.param, tmp_path)
    with slide:
        yield slide, pixels


def _padded(pixels, x, y, width, height):
    """What a rectangle must read: the picture inside, white outside."""
    expected = np.full((height, width, 3), 255, dtype=np.uint8)
    for row in range(height):
        for column in range(width):
            if 0 <= y + row < pixels.shape[0] and 0 <= x + column < pixels.shape[1]:
                expected[row, column] = pixels[y + row, x + column]
    return expected


def test_level0_is_the_picture(opened):
    slide, pixels = opened
    assert isinstance(slide.pixels, PixelSource)
    read = slide.read_region(0, 0, width_px=make.WIDTH, height_px=make.HEIGHT)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("corner", [(-20, -30), (300, 250), (310, -10), (-7, 260), (63, 64), (1000, 1000), (-500, 0)])
def test_beyond_the_border_is_white(opened, corner):
    slide, pixels = opened
    read = slide.read_region(*corner, width_px=40, height_px=50)
    np.testing.assert_array_equal(read, _padded(pixels, *corner, 40, 50))


def test_levels_are_finest_first_and_their_factors_are_those_of_the_averaging(opened):
    slide, _ = opened
    factors = [level.downsample for level in slide.levels]
    assert factors[0] == 1.0
    assert factors == sorted(factors)
    assert set(factors) <= {1.0, 2.0, 4.0}
    assert (len(factors) == 1) == (slide.pixels.name == "flat")


def test_lower_levels_hold_the_averaged_picture(opened):
    slide, pixels = opened
    for number, level in enumerate(slide.levels):
        expected = make.halved(pixels, int(level.downsample))
        assert expected.shape[:2] == (level.height_px, level.width_px)
        if number and slide.pixels.name == "openslide":
            continue  # OpenSlide interpolates where the stored factor is not an integer
        np.testing.assert_array_equal(slide.read_region(0, 0, width_px=level.width_px, height_px=level.height_px, level=number), expected)


def test_half_open_tiles_cover_the_picture_once(opened):
    slide, pixels = opened
    size = 50
    corners = [(x, y) for y in range(0, make.HEIGHT, size) for x in range(0, make.WIDTH, size)]
    whole = np.zeros((6 * size, 7 * size, 3), dtype=np.uint8)
    batch = np.zeros((len(corners), size, size, 3), dtype=np.uint8)
    slide.pixels.read_tiles_into(batch, [TileRect(0, x, y, size, size) for x, y in corners])
    for tile, (x, y) in zip(batch, corners, strict=True):
        whole[y : y + size, x : x + size] = tile
    np.testing.assert_array_equal(whole[: make.HEIGHT, : make.WIDTH], pixels)


def _rectangles(slide, count=24, *, size=70):
    rng = np.random.default_rng(5)
    levels = rng.integers(0, len(slide.levels), count)
    return [TileRect(int(level), int(rng.integers(-60, 340)), int(rng.integers(-60, 280)), size, size) for level in levels]


def test_batched_equals_one_by_one(opened):
    slide, _ = opened
    tiles = _rectangles(slide)
    batch = np.zeros((len(tiles), 70, 70, 3), dtype=np.uint8)
    slide.pixels.read_tiles_into(batch, tiles)
    for pixels, tile in zip(batch, tiles, strict=True):
        alone = slide.read_region(tile.x_px, tile.y_px, width_px=70, height_px=70, level=tile.level)
        np.testing.assert_array_equal(pixels, alone)


def test_eight_threads_read_what_one_reads(opened):
    slide, _ = opened
    tiles = _rectangles(slide, 64, size=33)
    read = [slide.read_region(t.x_px, t.y_px, width_px=33, height_px=33, level=t.level) for t in tiles]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda t: slide.read_region(t.x_px, t.y_px, width_px=33, height_px=33, level=t.level), tiles))
    np.testing.assert_array_equal(np.stack(together), np.stack(read))


def test_a_batch_that_does_not_fit_its_tiles_is_refused(opened):
    slide, _ = opened
    tile = TileRect(0, 0, 0, 32, 32)
    for batch in (np.zeros((1, 32, 32, 3), dtype=np.float32), np.zeros((2, 32, 32, 3), dtype=np.uint8), np.zeros((1, 32, 31, 3), dtype=np.uint8)):
        with pytest.raises(GeometryError, match=r"batch must be|tiles of one batch"):
            slide.pixels.read_tiles_into(batch, [tile])
    with pytest.raises(PixelAccessError, match="level must be in"):
        slide.pixels.read_tiles_into(np.zeros((1, 32, 32, 3), dtype=np.uint8), [TileRect(9, 0, 0, 32, 32)])


@pytest.mark.parametrize("kind", ["tiff-deflate", "dicom-full", "openslide", "flat-png"])
def test_a_closed_slide_says_so(kind, tmp_path):
    slide, _ = _open(kind, tmp_path)
    slide.close()
    slide.close()
    with pytest.raises(PixelAccessError, match="slide must be open"):
        slide.read_region(0, 0, width_px=10, height_px=10)


@pytest.mark.parametrize("width", [3, 4, 40])
def test_planes_of_a_flat_image_are_told_by_its_header_not_by_its_shape(width, tmp_path):
    pixels = make.picture(width, 30)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(pixels, -1, 0), photometric="rgb", planarconfig="separate")
    read = open_slide(tmp_path / "a.tif", mpp=1.0).read_region(0, 0, width_px=width, height_px=30)
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg_tiles_agree_with_openslide_to_the_bit(photometric, tmp_path):
    """Colour space and abbreviated tables as libtiff understands them; 4:2:0 chroma in the YCbCr case."""
    file = tmp_path / "a.tif"
    options = {"compression": "jpeg", "compressionargs": {"level": 80, "outcolorspace": "rgb"}}
    if photometric == "ycbcr":
        options = {"compression": "jpeg", "compressionargs": {"level": 80}, "subsampling": (2, 2)}
    pixels = make.picture()
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(pixels, tile=(64, 64), photometric="rgb", metadata=None, resolution=(4e4, 4e4), resolutionunit="CENTIMETER", **options)
    with tifffile.TiffFile(file) as tiff:
        assert tiff.pages[0].photometric.name.lower() == photometric
    regions = [open_slide(file, backend=backend).read_region(-10, -10, width_px=360, height_px=300) for backend in ("tifffile", "openslide")]
    np.testing.assert_array_equal(regions[0], regions[1])
    assert np.abs(regions[0][10:280, 10:343].astype(int) - pixels).mean() < 6


def test_abbreviated_jpeg_streams_find_their_tables(tmp_path):
    """The tables stand once in the page, the tiles carry none: as Aperio writes."""
    pixels = make.picture(128, 64)
    streams = [imagecodecs.jpeg8_encode(pixels[:, x : x + 64], level=90) for x in (0, 64)]
    first_table, scan = streams[0].index(b"\xff\xdb"), [s.index(b"\xff\xda") for s in streams]
    frames = [s.index(b"\xff\xc0") for s in streams]
    lengths = [int.from_bytes(s[f + 2 : f + 4], "big") + 2 for s, f in zip(streams, frames, strict=True)]
    tables = b"\xff\xd8" + streams[0][first_table : frames[0]] + streams[0][frames[0] + lengths[0] : scan[0]] + b"\xff\xd9"
    bare = [b"\xff\xd8" + s[f : f + n] + s[at:] for s, f, n, at in zip(streams, frames, lengths, scan, strict=True)]
    file = tmp_path / "a.tif"
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(
            iter(bare),
            shape=pixels.shape,
            dtype=np.uint8,
            tile=(64, 64),
            photometric="ycbcr",
            subsampling=(2, 2),
            compression="jpeg",
            jpegtables=tables,
            metadata=None,
        )
    expected = np.concatenate([imagecodecs.jpeg8_decode(s) for s in streams], axis=1)
    np.testing.assert_array_equal(open_slide(file, mpp=1.0).read_region(0, 0, width_px=128, height_px=64), expected)


def test_tiles_that_were_not_stored_are_white(tmp_path):
    pixels = make.write_dicom(tmp_path / "dicom", sparse_without=(0, 7))
    with open_slide(tmp_path / "dicom") as slide:
        read = slide.read_region(0, 0, width_px=make.WIDTH, height_px=make.HEIGHT)
    pixels[:64, :64] = 255
    pixels[64:128, 64:128] = 255
    np.testing.assert_array_equal(read, pixels)


def test_dicom_jpeg_frames_decode_to_the_picture(tmp_path):
    pixels = make.write_dicom(tmp_path / "dicom", jpeg=True)
    with open_slide(tmp_path / "dicom" / "1.2.3.4_1.dcm") as slide:
        assert len(slide.levels) == 2
        assert np.abs(slide.read_region(0, 0, width_px=make.WIDTH, height_px=make.HEIGHT).astype(int) - pixels).max() < 24


def test_transparent_pixels_are_composited_on_white(tmp_path):
    rgba = np.dstack([make.picture(40, 30), np.full((30, 40), 255, dtype=np.uint8)])
    rgba[:10, :, 3] = 0
    rgba[10:20, :, 3] = 51
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = open_slide(tmp_path / "a.png", mpp=1.0).read_region(0, 0, width_px=40, height_px=30)
    assert (read[:10] == 255).all()
    np.testing.assert_allclose(read[10:20], 255 - 0.2 * (255 - rgba[10:20, :, :3].astype(float)), atol=0.51)
    np.testing.assert_array_equal(read[20:], rgba[20:, :, :3])


@pytest.mark.parametrize(
    ("size", "base", "factor"),
    [
        ((2988, 2562), (11952, 10249), 4.0),
        ((139, 186), (2220, 2967), 16.0),
        ((278, 371), (2220, 2967), 8.0),
        ((100, 50), (250, 125), 2.5),
        ((20, 15), (100, 77), 5.0),
    ],
)
def test_level_factor_is_the_integer_that_rounding_hides(size, base, factor):
    assert level_of(*size, base=base).downsample == factor


@pytest.mark.parametrize(
    ("name", "mpp", "magnification", "write"),
    [
        ("a.svs", 0.503, 20.0, lambda file: make.write_tiff(file, description=make.APERIO.format(codec="none"), mpp=None)),
        ("a.tif", 0.25, None, lambda file: make.write_tiff(file, mpp=0.25)),
        ("a.ome.tif", 0.25, None, lambda file: make.write_ome(file)),
        ("nm.ome.tif", 0.25, None, lambda file: make.write_ome(file, unit="nm", size=250.0)),
        ("mm.ome.tif", 0.25, None, lambda file: make.write_ome(file, unit="mm", size=0.00025)),
    ],
)
def test_mpp_is_what_the_file_states(name, mpp, magnification, write, tmp_path):
    write(tmp_path / name)
    with open_slide(tmp_path / name) as slide:
        assert slide.mpp == pytest.approx((mpp, mpp), rel=1e-6)
        assert slide.magnification == magnification


def test_dicom_mpp_comes_from_level_0(tmp_path):
    make.write_dicom(tmp_path / "dicom")
    with open_slide(tmp_path / "dicom") as slide:
        assert slide.mpp == pytest.approx((0.25, 0.25))
        assert [level.downsample for level in slide.levels] == [1.0, 4.0]


def test_a_given_mpp_wins_and_a_contradiction_is_said(tmp_path):
    make.write_tiff(tmp_path / "a.tif", mpp=0.25)
    with pytest.warns(UserWarning, match=r"mpp=0\.5 was passed and is used, but the file states 0\.25"):
        assert open_slide(tmp_path / "a.tif", mpp=0.5).mpp == (0.5, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_slide(tmp_path / "a.tif", mpp=(0.2505, 0.25)).mpp == (0.2505, 0.25)


@pytest.mark.parametrize("kind", ["tiff-deflate", "dicom-full", "flat-png"])
def test_source_is_enough_to_open_the_slide_again(kind, tmp_path):
    slide, _ = _open(kind, tmp_path)
    ids = slide.source.ids
    again = open_slide(slide.source.path, mpp=float(ids["mpp"]) if "mpp" in ids else None, backend=ids["backend"])
    assert again.mpp == slide.mpp
    assert again.levels == slide.levels
    assert again.source == slide.source
    assert len(slide.source.sha256()) == 64


def test_icc_profile_is_applied_on_request_only(tmp_path):
    """An sRGB profile changes nothing; swapping its red and green primaries must swap what is read."""
    pixels = make.picture()
    profile = make.srgb_profile()
    swapped = bytearray(profile)
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)}
    red, green = entries[b"rXYZ"] + 4, entries[b"gXYZ"] + 4
    swapped[red : red + 8], swapped[green : green + 8] = profile[green : green + 8], profile[red : red + 8]
    for name, embedded, order in (("a.png", profile, [0, 1, 2]), ("b.png", bytes(swapped), [1, 0, 2])):
        Image.fromarray(pixels).save(tmp_path / name, icc_profile=embedded)
        as_stored = open_slide(tmp_path / name, mpp=1.0).read_region(0, 0, width_px=make.WIDTH, height_px=make.HEIGHT)
        np.testing.assert_array_equal(as_stored, pixels)
        managed = open_slide(tmp_path / name, mpp=1.0, icc=True).read_region(-5, -5, width_px=make.WIDTH + 10, height_px=make.HEIGHT + 10)
        assert (managed[:5] == 255).all()
        np.testing.assert_allclose(managed[5:-5, 5:-5].astype(int), pixels[..., order], atol=2)


def test_icc_profile_of_a_tiff_is_found(tmp_path):
    make.write_tiff(tmp_path / "a.tif", iccprofile=make.srgb_profile())
    slide = open_slide(tmp_path / "a.tif", icc=True)
    assert slide.source.ids["icc"] == "true"
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(slide.icc_profile)))
    assert open_slide(tmp_path / "a.tif").icc_profile == make.srgb_profile()
    assert slide.pixels.name == "tifffile"


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
def test_transparent_parts_of_a_tiff_are_white_through_every_route(tmp_path, alpha, tiled):
    colour = np.full((128, 128, 3), (200, 120, 40), dtype=np.uint8)
    opacity = np.full((128, 128, 1), 255, dtype=np.uint8)
    opacity[:64], opacity[64:96] = 0, 51
    stored = colour if alpha == "unassalpha" else np.round(colour * (opacity / 255.0)).astype(np.uint8)
    layout = {"tile": (64, 64)} if tiled else {"rowsperstrip": 16}
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([stored, opacity]), photometric="rgb", extrasamples=[alpha], compression="deflate", **layout)
    with open_slide(tmp_path / "a.tif", mpp=1.0) as slide:
        assert slide.pixels.name == ("tifffile" if tiled else "flat")
        read = slide.read_region(0, 0, width_px=128, height_px=128)
    assert (read[:64] == 255).all()
    np.testing.assert_allclose(read[64:96], np.broadcast_to(255 - 0.2 * (255.0 - colour[64:96]), (32, 128, 3)), atol=0.51)
    np.testing.assert_array_equal(read[96:], colour[96:])


def test_frames_in_full_order_may_have_groups_without_positions(tmp_path):
    """DICOM PS3.3 C.7.6.17.3: TILED_FULL states the order itself, whatever else is said of each frame."""
    pixels = make.write_dicom(tmp_path / "dicom")
    file = tmp_path / "dicom" / "1.2.3.4_1.dcm"
    level = pydicom.dcmread(file)
    assert level.DimensionOrganizationType == "TILED_FULL"
    level.PerFrameFunctionalGroupsSequence = [pydicom.Dataset() for _ in range(int(level.NumberOfFrames))]
    level.save_as(file)
    with open_slide(tmp_path / "dicom") as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, width_px=make.WIDTH, height_px=make.HEIGHT), pixels)


def test_managed_colours_are_planned_in_the_same_order(tmp_path):
    make.write_tiff(tmp_path / "a.tif", iccprofile=make.srgb_profile())
    plain, managed = (open_slide(tmp_path / "a.tif", icc=icc) for icc in (False, True))
    assert plan(plain, size_px=16, mpp=0.25).fingerprint == plan(managed, size_px=16, mpp=0.25).fingerprint
