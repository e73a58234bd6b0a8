"""Converting: lossless copies equal their plan, levels are exact, and whatever goes wrong leaves no half slide."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import slide_files as make
import tifffile
from array_slides import ArrayPixels, array_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from idx.errors import FormatError, GeometryError, PixelAccessError, UnitError
from idx.io.slides import open_slide
from idx.tiling import convert, plan, read_region, read_tiles

LOSSLESS = {
    "plain TIFF": ("a.tif", {"compression": "none"}),
    "deflate": ("a.tiff", {"compression": "deflate"}),
    "JPEG 2000 in TIFF": ("a.tif", {"compression": "jpeg2000", "quality": 100}),
    "plain DICOM": ("a", {"compression": "none"}),
    "JPEG 2000 in DICOM": ("a", {"compression": "jpeg2000", "quality": 100}),
}


def smooth(height: int, width: int) -> np.ndarray:
    return make.picture(width, height)


def block_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Rounded means of blocks, of what there is of them."""
    y, x = np.arange(0, pixels.shape[0], factor), np.arange(0, pixels.shape[1], factor)
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.int64), y, axis=0), x, axis=1)
    n = (np.minimum(pixels.shape[0] - y, factor)[:, None] * np.minimum(pixels.shape[1] - x, factor))[..., None]
    return (sums + n // 2) // n


def level_pixels(slide, level: int) -> np.ndarray:
    stored = slide.levels[level]
    return slide.read_region(0, 0, width_px=stored.width_px, height_px=stored.height_px, level=level)


@pytest.mark.parametrize("how", LOSSLESS)
@pytest.mark.parametrize("mpp", [None, 1.3])
def test_a_lossless_copy_holds_exactly_what_its_plan_delivers(tmp_path, how, mpp):
    slide = array_slide(smooth(300, 430), mpp=0.5)
    name, options = LOSSLESS[how]
    assert convert(slide, tmp_path / name, mpp=mpp, tile_px=64, **options) == tmp_path / name
    region = read_region(slide, mpp=mpp)
    with open_slide(tmp_path / name) as copy:
        assert copy.mpp == pytest.approx(region.mpp, rel=1e-9)
        np.testing.assert_array_equal(level_pixels(copy, 0), region.pixels)
        for number, level in enumerate(copy.levels):
            assert level.downsample == 2**number
            np.testing.assert_array_equal(level_pixels(copy, number), block_means(region.pixels, 2**number))
        assert max(copy.levels[-1].width_px, copy.levels[-1].height_px) <= 64
        if mpp is None:
            one, other = (read_tiles(plan(s, size_px=50, overlap_px=6, level=0), range(70)) for s in (copy, slide))
            np.testing.assert_array_equal(one, other)


@given(
    corner=st.tuples(st.floats(-20, 140), st.floats(-20, 90)),
    size=st.tuples(st.floats(2, 250), st.floats(2, 200)),
    mpp=st.sampled_from([None, 0.5, 0.7, 3.0]),
    tile=st.sampled_from([64, 80]),
)
@settings(max_examples=15)
def test_a_converted_region_is_the_region_that_is_read(tmp_path_factory, corner, size, mpp, tile):
    slide = array_slide(smooth(200, 330), mpp=0.5)
    left, top = corner
    bounds = (left, top, left + size[0], top + size[1])
    if bounds[2] <= 1 or bounds[3] <= 1:
        return
    out = tmp_path_factory.mktemp("convert") / "a.tif"
    convert(slide, out, mpp=mpp, bounds_um=bounds, tile_px=tile, compression="none")
    region = read_region(slide, bounds, mpp=mpp)
    with open_slide(out) as copy:
        np.testing.assert_array_equal(level_pixels(copy, 0), region.pixels)
        # A place on the copy is the same place on the slide, moved by the corner of the region.
        shift = region.to_um([0, 0])
        np.testing.assert_allclose(copy.to_um(np.array([5.0, 7.0])) + shift, region.to_um([5.0, 7.0]), atol=1e-6)


def test_what_a_slide_without_coarse_levels_is_averaged_from_need_not_fit_in_memory(tmp_path):
    """At 50 um per pixel a stored tile shows 12.8 mm of slide: it is put together from small reads."""

    class Watched(ArrayPixels):
        largest = 0

        def read_tiles_into(self, batch, tiles):
            self.largest = max(self.largest, batch.nbytes)
            super().read_tiles_into(batch, tiles)

    slide = array_slide(smooth(1500, 2500), mpp=0.5)
    source = Watched(slide.pixels.arrays)
    object.__setattr__(slide, "pixels", source)
    convert(slide, tmp_path / "a.tif", mpp=20.0, compression="none")
    assert source.largest <= 8 * 3 * 1024**2 * 1.1
    with open_slide(tmp_path / "a.tif") as copy:
        np.testing.assert_array_equal(level_pixels(copy, 0), read_region(slide, mpp=20.0).pixels)


def test_the_number_of_levels_can_be_limited(tmp_path):
    convert(array_slide(smooth(300, 430)), tmp_path / "a", tile_px=64, levels=2)
    assert len(list((tmp_path / "a").iterdir())) == 2


@pytest.mark.parametrize("workers", [1, 5])
def test_the_result_does_not_depend_on_threads(tmp_path, workers):
    slide = array_slide(smooth(300, 430))
    convert(slide, tmp_path / "a.tif", tile_px=64, workers=workers)
    convert(slide, tmp_path / "b.tif", tile_px=64, workers=2)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_tiles_in_the_order_of_large_stored_ones_are_written_in_rows(tmp_path):
    """Plans read such slides stored tile by stored tile; a file is written row by row."""
    pixels = smooth(512, 1024)
    with tifffile.TiffWriter(tmp_path / "large.tif") as tiff:
        tiff.write(pixels, tile=(256, 512), photometric="rgb", metadata=None, resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    with open_slide(tmp_path / "large.tif") as slide:
        assert not (np.diff(plan(slide, size_px=64, level=0).row) >= 0).all()
        convert(slide, tmp_path / "a.tif", tile_px=64, compression="none")
    with open_slide(tmp_path / "a.tif") as copy:
        np.testing.assert_array_equal(level_pixels(copy, 0), pixels)


def test_colours_and_the_objective_come_along_but_no_names(tmp_path):
    folder = tmp_path / "Doe^Jane"
    folder.mkdir()
    make.write_tiff(folder / "Jane Doe 1970.svs", description=make.APERIO.format(codec="JPEG"), iccprofile=make.srgb_profile(), levels=(1,))
    with open_slide(folder / "Jane Doe 1970.svs") as slide:
        assert slide.magnification == 20.0
        for name in ("a.tif", "a"):
            convert(slide, tmp_path / name, tile_px=64, compression="none")
    for name in ("a.tif", "a"):
        with open_slide(tmp_path / name) as copy:
            assert copy.magnification == 20.0
            assert copy.icc_profile == make.srgb_profile()
    for file in (tmp_path / "a.tif", *(tmp_path / "a").iterdir()):
        content = file.read_bytes()
        assert b"slide convert" in content
        for secret in (b"Doe", b"Jane", b"1970", b"A12", b"Aperio"):
            assert secret not in content


@pytest.mark.parametrize(
    ("kind", "backend", "method"),
    [
        ("jpeg-tiff", None, "ISO_10918_1"),
        ("jpeg-tiff", "openslide", "ISO_10918_1"),
        ("deflate-tiff", None, None),
        ("png", None, None),
        ("jpg", None, "ISO_10918_1"),
    ],
)
def test_earlier_loss_is_not_forgotten_by_a_lossless_copy(tmp_path, kind, backend, method):
    path = tmp_path / f"in.{kind[-3:]}"
    if kind.endswith("tiff"):
        make.write_tiff(path, compression=kind.split("-")[0], levels=(1,))
    else:
        Image.fromarray(make.picture()).save(path)
    with open_slide(path, mpp=None if kind.endswith("tiff") else 0.25, backend=backend) as slide:
        convert(slide, tmp_path / "a", tile_px=64, compression="none")
    header = pydicom.dcmread(tmp_path / "a" / "level-0.dcm", stop_before_pixels=True)
    assert header.LossyImageCompression == ("00" if method is None else "01")
    assert header.get("LossyImageCompressionMethod") == method
    if method:
        # Of the pixels to the file, but for what is in it besides them.
        assert float(header.LossyImageCompressionRatio) == pytest.approx(make.WIDTH * make.HEIGHT * 3 / path.stat().st_size, rel=0.05)


@pytest.mark.parametrize("name", ["a.tif", "a"])
def test_a_damaged_tile_is_named_and_there_is_no_half_slide(tmp_path, name):
    slide = array_slide(smooth(300, 430), broken=(200, 250))
    with pytest.raises(PixelAccessError, match=r"tile 24 at level-0 px x=192, y=192"):
        convert(slide, tmp_path / name, tile_px=64)
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_fails_leaves_no_half_slide(tmp_path, monkeypatch):
    def encoder(_):
        def fail(tile):
            raise ValueError("codec")

        return fail

    monkeypatch.setattr("idx.tiling.converting.tile_encoder", encoder)
    with pytest.raises(ValueError, match="codec"):
        convert(array_slide(smooth(300, 430)), tmp_path / "a.tif", tile_px=64)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_leaves_no_half_slide(tmp_path):
    class Stopped(ArrayPixels):
        def read_tiles_into(self, batch, tiles):
            if tiles[0].y_px >= 192:
                raise KeyboardInterrupt
            super().read_tiles_into(batch, tiles)

    slide = array_slide(smooth(300, 430))
    object.__setattr__(slide, "pixels", Stopped(slide.pixels.arrays))
    with pytest.raises(KeyboardInterrupt):
        convert(slide, tmp_path / "a.tif", tile_px=64)
    assert list(tmp_path.iterdir()) == []


_FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import numpy as np
from array_slides import array_slide
from idx.errors import IdxError
from idx.tiling import convert
slide = array_slide(np.random.default_rng(0).integers(0, 256, (300, 430, 3), dtype=np.uint8))
try:
    convert(slide, sys.argv[1], tile_px=64, compression="none")
except IdxError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["a.tif", "a"])
@pytest.mark.skipif(sys.platform == "win32", reason="the size of files can be limited on POSIX only")
def test_a_disk_without_room_is_one_sentence_and_no_file(tmp_path, name):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    result = subprocess.run([sys.executable, "-c", _FULL_DISK, str(tmp_path / name)], capture_output=True, text=True, env=environment)
    assert result.stdout.startswith("slide must be writable; got: File too large"), result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_slide_itself_is_never_overwritten(tmp_path):
    pixels = make.write_tiff(tmp_path / "a.tif", levels=(1,))
    make.write_dicom(tmp_path / "b")
    (tmp_path / "link.tif").symlink_to(tmp_path / "a.tif")
    before = (tmp_path / "a.tif").read_bytes()
    with open_slide(tmp_path / "a.tif") as slide:
        for name in ("a.tif", "link.tif"):
            with pytest.raises(FormatError, match="must not be the slide itself"):
                convert(slide, tmp_path / name, overwrite=True)
        convert(slide, tmp_path / "c.tif", tile_px=64, compression="none", overwrite=True)
    with open_slide(tmp_path / "b") as slide, pytest.raises(FormatError, match="must not be the slide itself"):
        convert(slide, tmp_path / "b", overwrite=True)
    assert (tmp_path / "a.tif").read_bytes() == before
    with open_slide(tmp_path / "c.tif") as copy:
        np.testing.assert_array_equal(level_pixels(copy, 0), pixels)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("a.svs", {}, FormatError, r"must end in \.tif or \.tiff, or be a folder without a suffix for DICOM; got '\.svs'"),
        ("a.dcm", {}, FormatError, "got '.dcm'"),
        ("a.tif", {"container": "zarr"}, FormatError, "tiff or dicom; got 'zarr'"),
        ("a.tif", {"mpp": 0.2}, UnitError, "finer than the slide's 0.5 um/px"),
        ("a.tif", {"bounds_um": (500.0, 0.0, 600.0, 50.0)}, GeometryError, "must meet the slide"),
        ("a.tif", {"tile_px": 100}, GeometryError, "multiple of 16"),
        ("a.tif", {"compression": "png"}, FormatError, "got 'png'"),
        ("a.tif", {"quality": 0}, FormatError, "quality must be 1 to 100"),
        ("a.tif", {"levels": 0}, GeometryError, "levels must be at least 1"),
        ("a", {"compression": "deflate"}, FormatError, "jpeg, jpeg2000 or none; got 'deflate'"),
        ("here.tif", {}, FormatError, "must not exist"),
        ("here.tif", {"container": "dicom", "overwrite": True}, FormatError, "must be a folder to be overwritten"),
    ],
)
def test_bad_requests_are_refused_before_a_pixel_is_read(tmp_path, name, options, error, message):
    class Unread(ArrayPixels):
        def read_tiles_into(self, batch, tiles):
            raise AssertionError("a pixel was read")

    (tmp_path / "here.tif").write_text("precious")
    slide = array_slide(smooth(60, 80))
    object.__setattr__(slide, "pixels", Unread(slide.pixels.arrays))
    with pytest.raises(error, match=message):
        convert(slide, tmp_path / name, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["here.tif"]
    assert (tmp_path / "here.tif").read_text() == "precious"
