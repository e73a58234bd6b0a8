"""tiatoolbox's readers as pixel sources, against idx's own routes; run by `make test-tiatoolbox`, in its own environment."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import slide_files
import tifffile
import torch
from PIL import Image

import idx
from idx.errors import FormatError, PixelAccessError, UnitError
from idx.io import as_slide, open_slide
from idx.tiling import plan, read_tiles, run

pytest.importorskip("tiatoolbox", reason="tiatoolbox lives in an environment of its own: make test-tiatoolbox")

import glymur
from tiatoolbox.wsicore.wsimeta import WSIMeta
from tiatoolbox.wsicore.wsireader import DICOMWSIReader, JP2WSIReader, OpenSlideWSIReader, TIFFWSIReader, VirtualWSIReader, WSIReader

APERIO, JPEG2000_APERIO = "CMU-1-Small-Region.svs", "luna_1065626.svs"


def _phantom(folder, **options):
    return idx.testing.he_slide(folder / "phantom.tif", n_nuclei=50, size_px=(1008, 784), **options).path


def _bigtiff(folder):
    slide_files.write_tiff(folder / "big.tif", bigtiff=True, levels=(1, 2, 4), compression="deflate")
    return folder / "big.tif"


def _ome(folder):
    slide_files.write_ome(folder / "a.ome.tif")
    return folder / "a.ome.tif"


def _flat(folder):
    Image.fromarray(slide_files.picture()).save(folder / "flat.png")
    return folder / "flat.png"


CASES = {
    "phantom JPEG": (_phantom, OpenSlideWSIReader, {}),
    "phantom deflate": (lambda folder: _phantom(folder, compression="deflate"), OpenSlideWSIReader, {}),
    "BigTIFF": (_bigtiff, TIFFWSIReader, {}),
    "OME-TIFF": (_ome, TIFFWSIReader, {}),
    "PNG": (_flat, VirtualWSIReader, {"mpp": (0.25, 0.25)}),
}


@pytest.fixture
def opened():
    """Opens readers and closes their files, which tiatoolbox leaves to the garbage collector."""
    with contextlib.ExitStack() as stack:

        def opened(kind, source, **options):
            reader = kind(source, **options)
            for name in ("tiff", "_zarr_store", "openslide_wsi", "wsi"):
                if hasattr(reader, name):
                    stack.callback(getattr(reader, name).close)
            return reader

        yield opened


@pytest.fixture(params=CASES)
def pair(request, tmp_path, opened):
    """A reader and idx's own slide of the same file."""
    write, kind, options = CASES[request.param]
    path = write(tmp_path)
    with open_slide(path, **options) as slide:
        yield opened(kind, path, **options), slide


def assert_same_levels(ours, theirs, *, tolerance=0):
    """Every pixel of every level, and white beyond its border."""
    assert [(a.width_px, a.height_px, a.downsample) for a in theirs.levels] == [(a.width_px, a.height_px, a.downsample) for a in ours.levels]
    for level, stored in enumerate(ours.levels):
        region = {"width_px": stored.width_px + 12, "height_px": stored.height_px + 9, "level": level}
        a, b = (slide.read_region(-5, -4, **region) for slide in (ours, theirs))
        np.testing.assert_array_equal(a[:4], 255)
        assert np.abs(a.astype(np.int16) - b).max() <= tolerance


def test_every_level(pair):
    reader, slide = pair
    through = as_slide(reader)
    assert through.pixels.name == "tiatoolbox"
    assert_same_levels(slide, through)
    np.testing.assert_allclose(through.mpp, slide.mpp, rtol=1e-6)
    assert through.source.path == slide.source.path


def test_level_0_as_the_reader_gives_it(pair):
    reader, slide = pair
    theirs = reader.read_rect((100, 60), (200, 150), resolution=0, units="level")
    np.testing.assert_array_equal(slide.read_region(100, 60, width_px=200, height_px=150), theirs[..., :3])


def test_lower_levels_at_any_place(pair):
    (reader, slide), rng = pair, np.random.default_rng(0)
    through = as_slide(reader)
    for level, stored in enumerate(slide.levels):
        for _ in range(10):
            x, y = (int(rng.integers(0, size - 20)) for size in (stored.width_px, stored.height_px))
            region = {"width_px": 20, "height_px": 20, "level": level}
            np.testing.assert_array_equal(through.read_region(x, y, **region), slide.read_region(x, y, **region))


@pytest.mark.parametrize("options", [{"level": 0}, {"mpp": 0.8}, {"mpp": 0.7, "overlap_px": 16}], ids=["stored", "averaged", "overlapping"])
def test_plan_and_run_over_a_reader(pair, options):
    reader, slide = pair
    ours, theirs = (plan(source, size_px=64, **options) for source in (slide, reader))
    # Where idx knows how the file is stored, its plan follows that; a reader says nothing of it, so its plan goes row by row.
    ours = ours.select(np.lexsort((ours.column, ours.row)))
    np.testing.assert_allclose(theirs.scale, ours.scale, rtol=1e-6)
    np.testing.assert_array_equal(theirs.read_rects_px, ours.read_rects_px)
    np.testing.assert_array_equal(read_tiles(theirs, range(len(theirs))), read_tiles(ours, range(len(ours))))
    np.testing.assert_array_equal(_colours(reader, theirs), _colours(slide, ours))


def _colours(source, grid):
    return run(lambda batch: batch.to(torch.int64).sum(dim=(1, 2)), source, grid, device="cpu", batch_size=8, workers=2, progress=False).values


def test_whole_plan_is_that_of_the_slide(tmp_path, opened):
    path = _phantom(tmp_path)
    tissue = idx.histology.find_tissue(open_slide(path))
    ours, theirs = (plan(source, size_px=128, mpp=1.0, within=tissue) for source in (open_slide(path), opened(OpenSlideWSIReader, path)))
    assert theirs.fingerprint == ours.fingerprint
    assert 0 < len(ours) == len(theirs)


def test_plan_of_the_slide_runs_on_the_reader(tmp_path, opened):
    path = _phantom(tmp_path)
    grid = plan(open_slide(path), size_px=128, level=0)
    result = run(lambda batch: batch, opened(OpenSlideWSIReader, path), grid, device="cpu", progress=False)
    np.testing.assert_array_equal(result.values, read_tiles(grid, range(len(grid))))


@pytest.mark.parametrize("kind", [OpenSlideWSIReader, TIFFWSIReader])
def test_from_several_threads(tmp_path, kind, opened):
    path, rng = _bigtiff(tmp_path), np.random.default_rng(0)
    slide = as_slide(opened(kind, path))
    places = [(int(level), *map(int, rng.integers(0, 60, 2))) for level in rng.integers(0, 3, 200)]
    one = [slide.read_region(x, y, width_px=40, height_px=40, level=level) for level, x, y in places]
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda place: slide.read_region(*place[1:], width_px=40, height_px=40, level=place[0]), places))
    np.testing.assert_array_equal(many, one)


def test_jpeg2000_levels(tmp_path, opened):
    pixels = slide_files.picture(512, 384)
    glymur.Jp2k(tmp_path / "a.jp2", data=pixels, numres=3)
    reader = opened(JP2WSIReader, tmp_path / "a.jp2", mpp=(0.25, 0.25))
    slide = as_slide(reader)
    assert [level.downsample for level in slide.levels] == [2.0**level for level in range(reader.info.level_count)]
    np.testing.assert_array_equal(slide.read_region(-3, 7, width_px=400, height_px=300)[:, 3:], pixels[7:307, :397])
    half = slide.read_region(21, 11, width_px=100, height_px=90, level=1)
    np.testing.assert_array_equal(half, glymur.Jp2k(tmp_path / "a.jp2")[::2, ::2][11:101, 21:121])


@pytest.mark.real
@pytest.mark.parametrize("kind", [OpenSlideWSIReader, TIFFWSIReader])
def test_aperio_sample(real_data, kind, opened):
    path = real_data / "slides" / APERIO
    assert_same_levels(open_slide(path), as_slide(opened(kind, path)))


@pytest.mark.real
def test_aperio_jpeg2000_through_openslide(real_data, opened):
    path = real_data / "slides" / JPEG2000_APERIO
    slide, through = open_slide(path), as_slide(opened(WSIReader.open, path))
    assert through.levels == slide.levels
    assert (through.mpp, through.magnification) == (slide.mpp, slide.magnification)
    for level, width, height in ((0, 1500, 1200), (1, 2988, 2562)):
        a, b = (s.read_region(0, 0, width_px=width, height_px=height, level=level).astype(np.int16) for s in (slide, through))
        assert np.abs(a - b).max() <= 1


@pytest.mark.real
def test_plan_and_run_over_the_aperio_sample(real_data, opened):
    path = real_data / "slides" / APERIO
    reader, slide = opened(WSIReader.open, path), open_slide(path)
    ours, theirs = (plan(source, size_px=256, mpp=0.5, overlap_px=32) for source in (slide, reader))
    assert theirs.fingerprint == ours.fingerprint
    np.testing.assert_array_equal(_colours(reader, theirs), _colours(slide, ours))


@pytest.mark.real
def test_dicom_twin(real_data, opened):
    folder = real_data / "slides" / "CMU-1-Small-Region_dicom"
    slide, reader = open_slide(folder), opened(DICOMWSIReader, folder)
    with pytest.raises(FormatError, match=r"must describe its slide.*Manufacturer"):
        as_slide(reader)
    sizes = [(level.size.width, level.size.height) for level in reader.wsi.levels]
    factors = [sizes[0][0] / width for width, _ in sizes]
    reader.info = WSIMeta(sizes[0], axes="YXS", level_dimensions=sizes, level_downsamples=factors, mpp=slide.mpp)
    through = as_slide(reader)
    assert_same_levels(slide, through)
    assert set(through.source.files) > set(slide.source.files)


@pytest.mark.parametrize(("kind", "guess"), [(TIFFWSIReader, 0.5), (OpenSlideWSIReader, 0.25)])
def test_a_guessed_mpp_is_refused(tmp_path, kind, guess, opened):
    # TIFFWSIReader makes 0.5 um of the objective, OpenSlideWSIReader 0.25 um of a resolution that Aperio does not mean.
    description = slide_files.APERIO.format(codec="").replace("|MPP = 0.5030", "")
    slide_files.write_tiff(tmp_path / "a.svs", levels=(1,), description=description, compression="deflate", mpp=0.25)
    assert opened(kind, tmp_path / "a.svs").info.mpp == pytest.approx([guess, guess])
    with pytest.raises(UnitError, match=rf"got {guess} um, which tiatoolbox derived.*WSIReader\.open\(path, mpp="):
        as_slide(opened(kind, tmp_path / "a.svs"))
    assert as_slide(opened(kind, tmp_path / "a.svs", mpp=(0.5, 0.5))).mpp == (0.5, 0.5)


@pytest.mark.parametrize("kind", [OpenSlideWSIReader, TIFFWSIReader])
def test_colour_profile_and_power(tmp_path, kind, opened):
    profile = slide_files.srgb_profile()
    tag = (34675, 7, len(profile), profile, True)
    slide_files.write_tiff(tmp_path / "a.svs", levels=(1,), description=slide_files.APERIO.format(codec=""), compression="deflate", extratags=[tag])
    reader, slide = opened(kind, tmp_path / "a.svs"), open_slide(tmp_path / "a.svs")
    assert as_slide(reader).icc_profile == slide.icc_profile == profile
    assert as_slide(reader).magnification == slide.magnification == 20.0
    reader.post_proc = lambda pixels: 255 - pixels
    assert as_slide(reader).icc_profile is None


def test_sizes_in_other_units_are_refused(tmp_path, opened):
    slide_files.write_ome(tmp_path / "a.ome.tif", unit="nm", size=250.0)
    assert open_slide(tmp_path / "a.ome.tif").mpp == (0.25, 0.25)
    with pytest.raises(UnitError, match=r"within 0\.05 to 10 um to be believed; got 250 x 250"):
        as_slide(opened(TIFFWSIReader, tmp_path / "a.ome.tif"))


def test_unknown_mpp_is_refused_by_plan_and_run(opened):
    reader = opened(WSIReader.open, slide_files.picture())
    with pytest.raises(UnitError, match=r"mpp must be known.*VirtualWSIReader"):
        plan(reader, size_px=64)
    grid = plan(opened(WSIReader.open, slide_files.picture(), mpp=(0.5, 0.5)), size_px=64, mpp=0.5)
    with pytest.raises(UnitError, match="mpp must be known"):
        run(lambda batch: batch, reader, grid, device="cpu")


def test_a_mask_is_no_slide(opened):
    reader = opened(VirtualWSIReader, slide_files.picture()[..., 0] > 99, mode="bool", mpp=(0.5, 0.5))
    grid = plan(reader, size_px=64, mpp=0.5)
    with pytest.raises(PixelAccessError, match=r"tile 0 at level-0 px.*8-bit RGB as stored; got bool"):
        run(lambda batch: batch, reader, grid, device="cpu", progress=False)


@pytest.mark.parametrize("kind", [OpenSlideWSIReader, TIFFWSIReader])
def test_a_damaged_tile_is_named(tmp_path, kind, opened):
    path = tmp_path / "a.svs"
    slide_files.write_tiff(path, levels=(1,), description=slide_files.APERIO.format(codec=""), compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages.first.dataoffsets[8], tiff.pages.first.databytecounts[8]
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\0" * count
    path.write_bytes(content)
    reader = opened(kind, path)
    grid = plan(reader, size_px=64, level=0)
    with pytest.raises(PixelAccessError, match=r"tile 8 at level-0 px x=128, y=64 .*through tiatoolbox"):
        run(lambda batch: batch, reader, grid, device="cpu", progress=False)
    kept = run(lambda batch: batch, opened(kind, path), grid, device="cpu", progress=False, on_error="record")
    assert list(kept.errors["tile"]) == [8]
