"""Slides through a tiatoolbox reader; a reader of arrays stands in for it here, the real ones are tested in tests/peer_tiatoolbox."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from array_slides import array_slide
from slide_files import halved, picture, write_tiff

import idx
from idx.errors import FormatError, GeometryError, PixelAccessError, UnitError
from idx.io import as_slide, open_slide, slides_tiatoolbox
from idx.slide import PixelSource, TileRect


class WSIReader:
    """What as_slide needs of tiatoolbox's reader: it addresses levels in level-0 pixels, divides and rounds, and pads with black."""

    def __init__(self, levels, *, factors=None, mpp=(0.5, 0.5), path=None, raw=None, power=None, manual_mpp=None):
        self.levels, self.input_path, self.post_proc, self._manual_mpp = levels, path, None, manual_mpp
        sizes = [(level.shape[1], level.shape[0]) for level in levels]
        factors = factors or [sizes[0][0] / width for width, _ in sizes]
        self.info = SimpleNamespace(
            level_dimensions=sizes, level_downsamples=factors, mpp=None if mpp is None else np.array(mpp), raw=raw, objective_power=power
        )

    def read_rect(self, location, size, *, resolution, units, interpolation):
        assert units == "level"
        assert interpolation == "none"
        x, y = (round(value / self.info.level_downsamples[resolution]) for value in location)
        return self.levels[resolution][y : y + size[1], x : x + size[0]]


WSIReader.__module__ = "tiatoolbox.wsicore.wsireader.base"


class DrawingReader(WSIReader):
    """A subclass, as all readers of tiatoolbox are."""


@pytest.fixture
def levels():
    pixels = picture()
    return [pixels, halved(pixels, 2), halved(pixels, 4)]


def test_a_slide_is_returned_as_it_is(levels):
    slide = array_slide(*levels)
    assert as_slide(slide) is slide


@pytest.mark.parametrize("kind", [WSIReader, DrawingReader])
def test_every_level_as_stored_and_white_beyond(levels, kind):
    slide, expected = as_slide(kind(levels)), array_slide(*levels)
    assert isinstance(slide.pixels, PixelSource)
    for level, stored in enumerate(slide.levels):
        region = {"width_px": stored.width_px + 17, "height_px": stored.height_px + 13, "level": level}
        np.testing.assert_array_equal(slide.read_region(-6, -5, **region), expected.read_region(-6, -5, **region))
    assert (slide.read_region(9000, 0, width_px=4, height_px=4) == 255).all()


def test_levels_have_the_factors_of_open_slide(tmp_path):
    pixels = write_tiff(tmp_path / "a.tif", levels=(1, 2, 4), mpp=0.25)
    slide = as_slide(WSIReader([halved(pixels, k) for k in (1, 2, 4)], mpp=(0.25, 0.25)))
    opened = open_slide(tmp_path / "a.tif")
    assert slide.levels == opened.levels
    assert slide.mpp == pytest.approx(opened.mpp)


@pytest.mark.parametrize("width", [500, 662])
def test_every_position_of_a_level_with_an_odd_factor(width):
    # 1003 px stored as 500 px: tiatoolbox's factor is 2.006, idx's is 2, and each corner must still come back to its own pixel.
    rng = np.random.default_rng(0)
    levels = [rng.integers(0, 256, (4, size, 3), dtype=np.uint8) for size in (1003, width)]
    tiles = [TileRect(1, x, 1, 1, 1) for x in range(width)]
    batch = np.empty((width, 1, 1, 3), dtype=np.uint8)
    as_slide(WSIReader(levels)).pixels.read_tiles_into(batch, tiles)
    np.testing.assert_array_equal(batch[:, 0, 0], levels[1][1])


def test_levels_that_cannot_be_addressed_stay_out(levels):
    # tiatoolbox lists every size of an NGFF but one factor; a JPEG 2000 may have a level without pixels.
    assert len(as_slide(WSIReader(levels, factors=[1.0])).levels) == 1
    assert len(as_slide(WSIReader([*levels, np.empty((0, 4, 3), np.uint8)])).levels) == 3


def test_reads_one_at_a_time(levels):
    inside, most, guard = 0, 0, threading.Lock()

    class Watched(WSIReader):
        def read_rect(self, *args, **kwargs):
            nonlocal inside, most
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            region = super().read_rect(*args, **kwargs)
            with guard:
                inside -= 1
            return region

    reader = Watched(levels)
    # Two slides of one reader, as plan and run make them.
    slides = [as_slide(reader), as_slide(reader)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: slides[k % 2].read_region(k, k, width_px=8, height_px=8), range(12)))
    assert most == 1


def test_the_lock_goes_with_the_reader(levels):
    gc.collect()
    before = len(slides_tiatoolbox._locks)
    slide = as_slide(WSIReader(levels))
    assert len(slides_tiatoolbox._locks) == before + 1
    del slide
    gc.collect()
    assert len(slides_tiatoolbox._locks) == before


def test_closing_leaves_the_reader_open(levels):
    reader = WSIReader(levels)
    with as_slide(reader) as slide:
        pass
    with pytest.raises(PixelAccessError, match=r"must be open.*as_slide"):
        slide.read_region(0, 0, width_px=4, height_px=4)
    slide.close()
    assert as_slide(reader).read_region(0, 0, width_px=4, height_px=4).shape == (4, 4, 3)


def _tiff_reader(folder, **options):
    reader = type("TIFFWSIReader", (WSIReader,), {})([write_tiff(folder / "a.tif", levels=(1,))], path=folder / "a.tif", **options)
    return reader, folder / "a.tif"


def test_source_is_the_file(tmp_path):
    reader, path = _tiff_reader(tmp_path, raw={"SVS Tags": {"MPP": 0.5, "AppMag": 20}}, power=20.0)
    slide = as_slide(reader)
    assert slide.name == "a.tif"
    assert slide.source.path == str(path)
    assert dict(slide.source.ids) == {"backend": "tiatoolbox", "reader": "TIFFWSIReader"}
    assert slide.magnification == 20.0
    assert len(slide.source.sha256()) == 64


def test_a_case_of_a_reader_is_saved_and_loaded(tmp_path):
    reader, _ = _tiff_reader(tmp_path, mpp=(0.25, 0.25), manual_mpp=(0.25, 0.25))
    slide = as_slide(reader)
    idx.Case("c1", slides={"he": slide}).save(tmp_path / "case")
    loaded = idx.load_case(tmp_path / "case").slides["he"]
    assert loaded.mpp == slide.mpp
    np.testing.assert_array_equal(loaded.read_region(5, 5, width_px=50, height_px=50), slide.read_region(5, 5, width_px=50, height_px=50))


def test_no_source_where_the_file_holds_other_pixels(tmp_path):
    reader, path = _tiff_reader(tmp_path)
    reader.post_proc = lambda pixels: 255 - pixels
    assert as_slide(reader).source is None
    assert as_slide(DrawingReader(reader.levels, path=path)).source is None
    assert as_slide(WSIReader(reader.levels)).source is None


def test_power_derived_from_the_mpp_is_not_stated(levels):
    assert as_slide(WSIReader(levels, power=20.0)).magnification is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mpp": None}, "mpp must be known.*got None"),
        ({"raw": {"SVS Tags": {"AppMag": 20}}}, "stated by the file; got 0.5 um, which tiatoolbox derived"),
        ({"raw": {"openslide.vendor": "aperio", "openslide.objective-power": "20"}}, "stated by the file; got 0.5 um, which tiatoolbox derived"),
        ({"mpp": (352.8, 352.8)}, r"within 0.05 to 10 um to be believed; got 352.8 x 352.8 um"),
        ({"mpp": (0.0, 0.5), "manual_mpp": (0.0, 0.5)}, "two positive um per pixel"),
    ],
)
def test_unknown_mpp_is_refused(levels, options, message):
    with pytest.raises(UnitError, match=f"{message}.*mpp="):
        as_slide(WSIReader(levels, **options))


def test_mpp_that_the_caller_gave_is_taken(levels):
    reader = WSIReader(levels, mpp=(16.0, 16.0), raw={"SVS Tags": {}}, manual_mpp=(16.0, 16.0))
    assert as_slide(reader).mpp == (16.0, 16.0)


@pytest.mark.parametrize("other", ["a.svs", None, np.zeros((4, 4, 3), np.uint8), SimpleNamespace(info=None)])
def test_other_things_are_refused(other):
    with pytest.raises(FormatError, match=r"Slide or a tiatoolbox WSIReader; got \w+.*idx\.open_slide"):
        as_slide(other)


def test_a_reader_that_cannot_describe_its_slide(levels):
    class Undescribed(WSIReader):
        @property
        def info(self):
            raise AttributeError("no Manufacturer")

        @info.setter
        def info(self, value):
            pass

    with pytest.raises(FormatError, match=r"must describe its slide; got AttributeError: no Manufacturer.*Undescribed"):
        as_slide(Undescribed(levels))


def test_a_reader_without_pixels_is_refused():
    with pytest.raises(FormatError, match=r"at least one pixel; got levels \[\(5, 0\)\]"):
        as_slide(WSIReader([np.empty((0, 5, 3), np.uint8)], factors=[1.0]))


def test_a_failing_read_says_where(levels):
    class Damaged(WSIReader):
        def read_rect(self, *args, **kwargs):
            raise RuntimeError("bad Huffman code")

    with pytest.raises(PixelAccessError, match=r"got RuntimeError: bad Huffman code .level 1, 8 x 7 px at 3, 2, slide 'Damaged'"):
        as_slide(Damaged(levels)).read_region(3, 2, width_px=8, height_px=7, level=1)


@pytest.mark.parametrize("pixels", [np.zeros((40, 50), bool), np.zeros((40, 50, 4), np.uint8), np.zeros((40, 50, 3), np.uint16)])
def test_other_than_8_bit_rgb_is_refused(pixels):
    with pytest.raises(PixelAccessError, match=rf"8-bit RGB as stored; got {pixels.dtype}"):
        as_slide(WSIReader([pixels])).read_region(0, 0, width_px=5, height_px=5)


def test_a_batch_of_other_shape_is_refused(levels):
    with pytest.raises(GeometryError, match="batch must be uint8"):
        as_slide(WSIReader(levels)).pixels.read_tiles_into(np.empty((2, 4, 4, 3), np.uint8), [TileRect(0, 0, 0, 4, 4)])
