"""Tiles through nvImageCodec: streams made whole, colours as on the CPU, refusals. With a stand-in over imagecodecs, and with the library's CPU decoders."""

import importlib.util
import struct
import sys

import imagecodecs
import numpy as np
import nvimgcodec_stand_in as stand_in
import pydicom
import pytest
import slide_files as make
import torch
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from idx.errors import FormatError, GeometryError, MissingDependency, PixelAccessError
from idx.io.jpeg import RGB, YCBCR, JpegTiles, decode_jpeg
from idx.io.jpeg2000 import Jpeg2000Tiles
from idx.io.nvimagecodec import SAME_PICTURE_LEVELS, NvImageCodecPixels, has_subsampled_channels, whole_jpeg
from idx.io.references import SourceFinder, open_referenced_slide, slide_reference
from idx.io.slides import open_slide
from idx.io.slides_tiles import ReadOnlyFile, TileLayout
from idx.io.stored_tiles import StoredTiles, TileCache
from idx.slide import DevicePixelSource, PixelSource, TileRect

APP0, APP14, TABLES = 0xE0, 0xEE, (0xDB, 0xC4)
TILE, WIDTH, HEIGHT = 48, 110, 90
MISSING = 5


def jpeg(pixels, *, colours, subsampling="444"):
    return imagecodecs.jpeg8_encode(pixels, level=92, colorspace=RGB, outcolorspace=colours, subsampling=subsampling)


def segments(stream, *codes):
    """Header segments of a JPEG stream: those of these codes, and all else."""
    chosen, others, position = b"", stream[:2], 2
    while stream[position + 1] != 0xDA:
        stop = position + 2 + struct.unpack_from(">H", stream, position + 2)[0]
        if stream[position + 1] in codes:
            chosen += stream[position:stop]
        else:
            others += stream[position:stop]
        position = stop
    return chosen, others + stream[position:]


def apart(stream):
    """Abbreviated stream and its tables, as TIFF keeps them."""
    tables, rest = segments(stream, *TABLES)
    return rest, b"\xff\xd8" + tables + b"\xff\xd9"


def unmarked(stream):
    """A stream that says nowhere what its colours are: no APP0 or APP14, channels of RGB numbered 0, 1, 2, as Aperio writes."""
    bare = segments(stream, APP0, APP14)[1]
    return bare.replace(b"R\x11\0G\x11\0B\x11\0", b"\0\x11\0\1\x11\0\2\x11\0").replace(b"\3R\0G\0B\0", b"\3\0\0\1\0\2\0")


KINDS = {
    "YCbCr 4:2:0": (YCBCR, "420", ()),
    "YCbCr 4:2:0, unmarked, tables apart": (YCBCR, "420", (unmarked, apart)),
    "YCbCr 4:2:2": (YCBCR, "422", ()),
    "YCbCr 4:4:4, unmarked": (YCBCR, "444", (unmarked,)),
    "RGB": (RGB, "444", ()),
    "RGB, unmarked": (RGB, "444", (unmarked,)),
    "RGB, unmarked, tables apart": (RGB, "444", (unmarked, apart)),
}


def encoded(pixels, kind):
    """Block, colour space and tables of a tile."""
    colours, subsampling, changes = KINDS[kind]
    stream, tables = jpeg(pixels, colours=colours, subsampling=subsampling), None
    if unmarked in changes:
        stream = unmarked(stream)
    if apart in changes:
        stream, tables = apart(stream)
    return stream, colours, tables


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_made_whole_decodes_without_being_told_anything(kind):
    pixels = make.picture(64, 64)
    block, colours, tables = encoded(pixels, kind)
    whole = whole_jpeg(block, tables)
    # YCbCr is what every whole stream declares: RGB comes out of "YCbCr" that is left alone.
    found = imagecodecs.jpeg8_decode(whole, outcolorspace=RGB if colours == YCBCR else YCBCR)
    np.testing.assert_array_equal(found, decode_jpeg(block, colorspace=colours, tables=tables))
    assert np.abs(found.astype(int) - pixels).mean() < SAME_PICTURE_LEVELS


def test_unmarked_rgb_is_taken_for_ycbcr_without_a_word_from_the_container():
    pixels = make.picture(64, 64)
    assert np.abs(imagecodecs.jpeg8_decode(unmarked(jpeg(pixels, colours=RGB))).astype(int) - pixels).mean() > 40


def test_a_whole_stream_has_one_start_one_end_and_one_word_on_colours():
    block, _, tables = encoded(make.picture(64, 64), "RGB, unmarked, tables apart")
    marked = block[:2] + segments(jpeg(make.picture(64, 64), colours=RGB), APP14)[0] + block[2:]
    for stream in (block, marked):
        whole = whole_jpeg(stream, tables)
        adobe, _ = segments(whole, APP14)
        assert adobe == b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
        assert whole.count(b"\xff\xd8\xff") == 1
        assert whole.endswith(b"\xff\xd9")
        assert segments(whole, *TABLES)[0] == segments(tables[:-2] + b"\xff\xda", *TABLES)[0]


def test_fill_bytes_may_stand_before_a_marker():
    block = jpeg(make.picture(64, 64), colours=RGB)
    filled = block[:2] + b"\xff\xff\xff" + block[2:]
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(whole_jpeg(filled), outcolorspace=YCBCR), imagecodecs.jpeg8_decode(block))


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440"])
def test_subsampling_is_read_from_the_frame_header(subsampling):
    stream = jpeg(make.picture(64, 64), colours=YCBCR, subsampling=subsampling)
    assert has_subsampled_channels(stream) == (subsampling != "444")
    assert has_subsampled_channels(whole_jpeg(*apart(stream))) == (subsampling != "444"), "with all tables before the frame header"


@pytest.mark.parametrize("block", [b"", b"junk", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\x00\x11\x22\x33\x44"])
def test_damaged_headers_are_errors(block):
    with pytest.raises(ValueError, match="JPEG stream"):
        has_subsampled_channels(block)


# Tiles of one level in a file of their own


class Stored:
    """A source of stored tiles of a kind; number MISSING is not stored."""

    name = "tifffile"

    def __init__(self, folder, kind, *, broken=()):
        self.picture = make.picture(WIDTH, HEIGHT)
        columns, rows = -(-WIDTH // TILE), -(-HEIGHT // TILE)
        padded = np.pad(self.picture, ((0, rows * TILE - HEIGHT), (0, columns * TILE - WIDTH), (0, 0)), mode="edge")
        tiles = [padded[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] for y in range(rows) for x in range(columns)]
        if kind == "JPEG 2000":
            blocks, decoder = [imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k") for tile in tiles], Jpeg2000Tiles(is_ycbcr=False)
        else:
            coded = [encoded(tile, kind) for tile in tiles]
            blocks, decoder = [block for block, _, _ in coded], JpegTiles(coded[0][1], coded[0][2])
        for number, change in broken:
            blocks[number] = change(blocks[number])
        file = folder / "tiles"
        file.write_bytes(b"".join(blocks))
        counts = np.array([len(block) for block in blocks])
        layout = TileLayout(WIDTH, HEIGHT, TILE, TILE, np.cumsum([0, *counts[:-1]]), np.where(np.arange(len(blocks)) == MISSING, 0, counts))
        self.stored = StoredTiles([layout], [ReadOnlyFile(file)], [decoder], cache=TileCache())
        self.levels = self.stored.levels

    def read_tiles_into(self, batch, tiles):
        self.stored.fill(batch, tiles)

    def close(self):
        self.stored.close()


TILES = [TileRect(0, x, y, 40, 30) for x, y in [(0, 0), (30, 30), (48, 48), (-10, -10), (90, 75), (500, 500), (20, 60)]]
EVERY = [*KINDS, "JPEG 2000"]


def on_cpu(pixels, tiles):
    batch = np.empty((len(tiles), tiles[0].height_px, tiles[0].width_px, 3), dtype=np.uint8)
    pixels.read_tiles_into(batch, tiles)
    return batch


@pytest.fixture
def codec(monkeypatch):
    module = stand_in.module()
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", module)
    return module


@pytest.fixture
def library():
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.nvimgcodec") is None:
        pytest.skip("nvidia-nvimgcodec-cu12 is not installed")


@pytest.mark.parametrize("kind", EVERY)
def test_tiles_on_a_device_are_those_of_the_cpu(tmp_path, codec, kind):
    source = Stored(tmp_path, kind)
    pixels = NvImageCodecPixels(source)
    found = pixels.read_tiles_on_device(TILES, "cpu")
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), on_cpu(source, TILES))
    np.testing.assert_array_equal(on_cpu(pixels, TILES), on_cpu(source, TILES))
    assert (found[5] == 255).all()
    inside = found[1].numpy().astype(int)[:18, :18]
    assert np.abs(inside - source.picture[30:48, 30:48]).mean() < SAME_PICTURE_LEVELS


@pytest.mark.parametrize("kind", EVERY)
def test_the_library_itself_shows_them_so(tmp_path, library, kind):
    """On the CPU, where it decodes by libjpeg-turbo and OpenJPEG of its own."""
    source = Stored(tmp_path, kind)
    found = NvImageCodecPixels(source).read_tiles_on_device(TILES, "cpu").numpy()
    np.testing.assert_allclose(found.astype(int), on_cpu(source, TILES), atol=2)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", EVERY)
def test_a_gpu_shows_them_within_a_few_grey_levels(tmp_path, library, kind):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    source = Stored(tmp_path, kind)
    found = NvImageCodecPixels(source).read_tiles_on_device(TILES, "cuda")
    assert found.is_cuda
    difference = np.abs(found.cpu().numpy().astype(int) - on_cpu(source, TILES))
    assert difference.mean() < SAME_PICTURE_LEVELS / 2
    assert (found[5] == 255).all()


def test_each_stored_tile_is_decoded_once_in_one_call(tmp_path, codec):
    pixels = NvImageCodecPixels(Stored(tmp_path, "RGB, unmarked, tables apart"))
    pixels.read_tiles_on_device(TILES, "cpu")
    pixels.read_tiles_on_device(TILES, "cpu")
    (decoder,) = codec.made
    assert (decoder.device_id, decoder.backends) == (codec.NVIMGCODEC_DEVICE_CPU_ONLY, ["cpu"])
    assert [len(call) for call in decoder.calls] == [4, 4]
    assert all(len(set(call)) == len(call) for call in decoder.calls)


def test_it_is_a_source_for_devices(tmp_path, codec):
    source = Stored(tmp_path, "RGB")
    pixels = NvImageCodecPixels(source)
    assert isinstance(pixels, DevicePixelSource)
    assert isinstance(pixels, PixelSource)
    assert not isinstance(source, DevicePixelSource)
    assert (pixels.name, pixels.levels) == ("tifffile+nvimagecodec", source.levels)
    pixels.close()
    with pytest.raises(PixelAccessError, match="closed"):
        pixels.read_tiles_on_device(TILES, "cpu")


def _garbage(block):
    return b"\x00" * len(block)


def _cut(block):
    return block[:-200] + b"\x00" * 200


def _no_scan(block):
    return block.replace(b"\xff\xda", b"\xff\x00", 1)


@pytest.mark.parametrize("damage", [_garbage, _cut, _no_scan])
def test_a_damaged_tile_is_named_as_on_the_cpu(tmp_path, codec, damage):
    pixels = NvImageCodecPixels(Stored(tmp_path, "YCbCr 4:2:0", broken=[(3, damage)]))
    assert pixels.read_tiles_on_device(TILES[:1], "cpu").shape == (1, 30, 40, 3)
    with pytest.raises(PixelAccessError, match=r"level 0, tile 3, .*tiles\). Copy the file again"):
        pixels.read_tiles_on_device(TILES, "cpu")


class Nothing(stand_in.Decoder):
    def decode_one(self, block, colours):
        return None


class Smaller(stand_in.Decoder):
    def decode_one(self, block, colours):
        return super().decode_one(block, colours)[:20]


class AlwaysConverting(stand_in.Decoder):
    """Takes RGB for YCbCr whatever is asked."""

    def decode_one(self, block, colours):
        return super().decode_one(block, RGB)


@pytest.mark.parametrize(("decoder", "why"), [(Nothing, "nothing from nvImageCodec"), (Smaller, r"\(20, 48, 3\) from nvImageCodec")])
def test_a_tile_that_only_the_device_fails_on_says_so(tmp_path, monkeypatch, decoder, why):
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", stand_in.module(decoder))
    pixels = NvImageCodecPixels(Stored(tmp_path, "RGB"))
    with pytest.raises(FormatError, match=rf"must decode on 'cpu'; got: .*{why}.* imagecodecs decodes it \(level 0, tile 0, .*without decoder="):
        pixels.read_tiles_on_device(TILES, "cpu")


def test_wrong_colours_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", stand_in.module(AlwaysConverting))
    pixels = NvImageCodecPixels(Stored(tmp_path, "RGB, unmarked"))
    for _ in range(2):
        with pytest.raises(FormatError, match=r"look the same .* mean difference of \d+\.\d grey levels \(level 0, tile"):
            pixels.read_tiles_on_device(TILES, "cpu")


def test_absent_devices_and_packages_are_named(tmp_path, monkeypatch, codec):
    source = Stored(tmp_path, "RGB")
    pixels = NvImageCodecPixels(source)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDependency, match="device must be present on this machine; got 'cuda'"):
        pixels.read_tiles_on_device(TILES, "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(MissingDependency, match="must have a CUDA device, or the CPU; got 'mps'"):
        pixels.read_tiles_on_device(TILES, "mps")
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(MissingDependency, match=r"pip install 'idx\[nvimagecodec\]'"):
        NvImageCodecPixels(source)


def test_tiles_of_several_sizes_are_refused(tmp_path, codec):
    pixels = NvImageCodecPixels(Stored(tmp_path, "RGB"))
    with pytest.raises(GeometryError, match="Use one batch per size"):
        pixels.read_tiles_on_device([*TILES, TileRect(0, 0, 0, 9, 9)], "cpu")


def test_rgb_with_subsampled_channels_is_refused(tmp_path, codec):
    source = Stored(tmp_path, "YCbCr 4:2:0")
    source.stored.decoders = (JpegTiles(RGB),)
    with pytest.raises(FormatError, match=r"got RGB in JPEG with subsampled channels \(level 0, .*without decoder="):
        NvImageCodecPixels(source).read_tiles_on_device(TILES, "cpu")


# Slides


def _tiff_jpeg2000(folder):
    make.write_tiff(folder / "a.tif", compression="jpeg2000", compressionargs={"level": 0})
    return folder / "a.tif"


def _dicom(folder, *, photometric, syntax, encode):
    """One level whose frames are encoded anew."""
    level = make.dicom_level(make.picture(), mpp=0.25, series="1.2.3")
    frames = level.pixel_array
    level.file_meta.TransferSyntaxUID, level.PhotometricInterpretation = syntax, photometric
    level.PixelData = encapsulate([encode(frame) for frame in frames])
    level["PixelData"].VR = "OB"
    folder = folder / "dicom"
    folder.mkdir()
    pydicom.dcmwrite(folder / "1.dcm", level, enforce_file_format=True)
    return folder


SLIDES = {
    "TIFF, JPEG 2000": _tiff_jpeg2000,
    "DICOM, RGB": lambda f: _dicom(f, photometric="RGB", syntax=JPEGBaseline8Bit, encode=lambda p: jpeg(p, colours=RGB)),
    "DICOM, RGB without marker": lambda f: _dicom(f, photometric="RGB", syntax=JPEGBaseline8Bit, encode=lambda p: unmarked(jpeg(p, colours=RGB))),
    "DICOM, YBR": lambda f: _dicom(
        f, photometric="YBR_FULL_422", syntax=JPEGBaseline8Bit, encode=lambda p: segments(jpeg(p, colours=YCBCR, subsampling="422"), APP0)[1]
    ),
    "DICOM, YBR_RCT": lambda f: _dicom(
        f, photometric="YBR_RCT", syntax=JPEG2000Lossless, encode=lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="j2k")
    ),
}
RECTS = [TileRect(0, x, y, 100, 90) for x, y in [(0, 0), (64, 64), (250, 200), (-20, 30)]]


@pytest.mark.parametrize("kind", SLIDES)
def test_a_slide_asks_for_it_by_name(tmp_path, codec, kind):
    file = SLIDES[kind](tmp_path)
    with open_slide(file) as plain, open_slide(file, decoder="nvimagecodec") as slide:
        assert slide.source.ids["decoder"] == "nvimagecodec"
        assert slide.source.ids["backend"] == plain.source.ids["backend"]
        assert "+nvimagecodec" in dict(slide.facts())["pixels through"]
        expected = on_cpu(plain.pixels, RECTS)
        np.testing.assert_array_equal(slide.pixels.read_tiles_on_device(RECTS, "cpu").numpy(), expected)
        np.testing.assert_array_equal(on_cpu(slide.pixels, RECTS), expected)


def test_a_recorded_slide_opens_where_there_is_no_such_decoder(tmp_path, codec, monkeypatch):
    with open_slide(_tiff_jpeg2000(tmp_path), decoder="nvimagecodec") as slide:
        record = slide_reference(slide, tmp_path, what="slide")
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with open_referenced_slide(record, SourceFinder(tmp_path, None, True), what="slide") as slide:
        assert not isinstance(slide.pixels, DevicePixelSource)
        assert "decoder" not in slide.source.ids


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"decoder": "nvjpeg"}, "decoder must be one of nvimagecodec; got 'nvjpeg'"),
        ({"decoder": "nvimagecodec", "icc": True}, "got icc=True with decoder='nvimagecodec'"),
        ({"decoder": "nvimagecodec", "backend": "openslide"}, "got route 'openslide' with decoder='nvimagecodec'"),
        ({"decoder": "nvimagecodec"}, r"got another compression \(level 0, .*a\.tif\)"),
    ],
)
def test_what_it_cannot_serve_is_refused_on_opening(tmp_path, codec, options, error):
    make.write_tiff(tmp_path / "a.tif", compression="deflate")
    with pytest.raises(FormatError, match=error):
        open_slide(tmp_path / "a.tif", **options)


@pytest.mark.real
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "CMU-1-Small-Region_dicom"])
def test_aperio_s_unmarked_rgb_through_the_library(real_data, library, name):
    rects = [TileRect(0, x, y, 300, 300) for x, y in [(0, 0), (700, 900), (2000, 2800)]]
    with open_slide(real_data / "slides" / name, decoder="nvimagecodec") as slide:
        found = slide.pixels.read_tiles_on_device(rects, "cpu").numpy()
        np.testing.assert_allclose(found.astype(int), on_cpu(slide.pixels, rects), atol=2)


@pytest.mark.real
def test_aperio_s_ycbcr_in_jpeg2000_is_refused(real_data, codec):
    with pytest.raises(FormatError, match=r"got YCbCr in JPEG 2000 \(level 0"):
        open_slide(real_data / "slides" / "luna_1065626.svs", decoder="nvimagecodec")
