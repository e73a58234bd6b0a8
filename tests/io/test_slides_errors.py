"""Every way in which opening or reading a slide fails: the exception and the words that name file and remedy."""

import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import slide_files as make
import tifffile
from PIL import Image

from idx.errors import FormatError, PixelAccessError, UnitError
from idx.io.slides import open_slide


def _truncated(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    return file


def _truncated_tiff(folder):
    make.write_tiff(folder / "cut.tif", compression="deflate", levels=(1,))
    return _truncated(folder / "cut.tif", 0.6)


def _tiff_cut_in_its_header(folder):
    make.write_tiff(folder / "cut.tif", compression="deflate", levels=(1,))
    return _truncated(folder / "cut.tif", 0.0001)


def _image(folder, name, pixels, **options):
    tifffile.imwrite(folder / name, pixels, **options)
    return folder / name


def _two_slides(folder):
    for series in ("1.2.3.4", "1.2.3.5"):
        make.write_dicom(folder / "dicom", series=series)
    return folder / "dicom"


def _only_a_label(folder):
    folder = folder / "dicom"
    folder.mkdir()
    make.save_dicom(make.dicom_level(make.picture(), mpp=1.0, series="1.2", flavour="LABEL"), folder / "label.dcm")
    return folder


def _dicom(folder, **changes):
    level = make.dicom_level(make.picture(), mpp=0.25, series="1.2")
    for name, value in changes.items():
        setattr(level, name, value)
    return make.save_dicom(level, folder / "a.dcm")


def _truncated_dicom(folder, *, jpeg):
    level = make.dicom_level(make.picture(), mpp=0.25, series="1.2", jpeg=jpeg)
    return _truncated(make.save_dicom(level, folder / "a.dcm"), 0.7)


def _file(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def _folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def _png(folder, mode):
    Image.new(mode, (20, 20)).save(folder / "a.png")
    return folder / "a.png"


def _jpeg(folder, mode):
    Image.new(mode, (20, 20)).save(folder / "a.jpg")
    return folder / "a.jpg"


def _tiff_without_mpp(folder):
    make.write_tiff(folder / "A12.tif", mpp=None)
    return folder / "A12.tif"


def _print_resolution(folder):
    make.write_tiff(folder / "A12.tif", mpp=25_400 / 300)
    return folder / "A12.tif"


def _tiff(folder, **options):
    make.write_tiff(folder / "a.tif", **options)
    return folder / "a.tif"


def _with_tag(file, name, value):
    """Overwrite a tag of the first page with a short number."""
    with tifffile.TiffFile(file) as tiff:
        tag = tiff.pages[0].tags[name]
        at, size = tag.valueoffset, 2 if tag.dtype == 3 else 4
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(value.to_bytes(size, "little"))
    return file


def _damaged_ome(folder):
    make.write_ome(folder / "a.ome.tif")
    content = (folder / "a.ome.tif").read_bytes()
    (folder / "a.ome.tif").write_bytes(content.replace(b"<Pixels", b"<Pix<ls", 1))
    return folder / "a.ome.tif"


GRAY, RGB = np.zeros((128, 128), dtype=np.uint8), np.zeros((128, 128, 3), dtype=np.uint8)
CASES = {
    "no such file": (lambda f: f / "gone.svs", {}, FormatError, "slide must exist", "Check the path"),
    "empty folder": (_folder, {}, FormatError, "got none", "Pass the slide's file or the folder"),
    "two slides": (_two_slides, {}, FormatError, r"got 2: 1\.2\.3\.4 \(1\.2\.3\.4_1\.dcm and 3 more\), 1\.2\.3\.5", "Pass one file"),
    "only a label": (_only_a_label, {}, FormatError, "only labels", "Fetch the missing instances"),
    "folder through tifffile": (_folder, {"backend": "tifffile"}, FormatError, "backend='tifffile'", "Pass a file"),
    "unknown kind": (lambda f: _file(f, "a.svs", b"not a slide" * 40), {}, FormatError, "unknown kind", "Convert it"),
    "empty file": (lambda f: _file(f, "a.svs", b""), {}, FormatError, "unknown kind", "Convert it"),
    "unknown backend": (lambda f: _tiff(f), {"backend": "vips"}, FormatError, "backend must be one of tifffile, openslide, dicom, flat", "Leave it out"),
    "openslide cannot": (lambda f: _png(f, "RGB"), {"backend": "openslide"}, FormatError, "OpenSlide reads", "convert it"),
    "truncated TIFF": (_truncated_tiff, {}, FormatError, "truncated", "Copy the file again"),
    "TIFF cut in its header": (_tiff_cut_in_its_header, {}, FormatError, "TIFF must be complete|unknown kind", "Copy the file again|Convert it"),
    "grayscale TIFF": (lambda f: _image(f, "a.tif", GRAY, tile=(64, 64)), {"mpp": 1}, FormatError, "8-bit RGB; got 1 x 8-bit MINISBLACK", "Convert"),
    "16-bit TIFF": (
        lambda f: _image(f, "a.tif", RGB.astype(np.uint16), tile=(64, 64), photometric="rgb"),
        {"mpp": 1},
        FormatError,
        "8-bit RGB; got 3 x 16-bit",
        "Convert",
    ),
    "16-bit TIFF in strips": (
        lambda f: _image(f, "a.tif", RGB.astype(np.uint16), photometric="rgb"),
        {"mpp": 1},
        FormatError,
        "8-bit RGB; got 3 x 16",
        "Convert",
    ),
    "separate planes": (
        lambda f: _image(f, "a.tif", np.moveaxis(RGB, -1, 0), tile=(64, 64), photometric="rgb", planarconfig="separate"),
        {"mpp": 1},
        FormatError,
        "interleaved; got separate planes",
        "Re-save",
    ),
    "YCbCr that no codec undoes": (
        lambda f: _image(f, "a.tif", RGB, tile=(64, 64), photometric="ycbcr", subsampling=(1, 1), compression="deflate"),
        {"mpp": 1},
        FormatError,
        "8-bit RGB; got 3 x 8-bit YCBCR",
        "backend='openslide'",
    ),
    "YCbCr in strips that no codec undoes": (
        lambda f: _image(f, "a.tif", RGB, photometric="ycbcr", subsampling=(1, 1)),
        {"mpp": 1},
        FormatError,
        "8-bit RGB; got 3 x 8-bit YCBCR",
        "Convert",
    ),
    "tiles of no pixels": (lambda f: _with_tag(_tiff(f), "TileLength", 0), {}, FormatError, "at least 1 x 1 px; got 333 x 270 px in tiles of 64 x 0", "Copy"),
    "level of no pixels": (lambda f: _with_tag(_tiff(f), "ImageLength", 0), {}, FormatError, "at least 1 x 1 px; got 333 x 0 px|TIFF must be", "Copy"),
    "strips of no pixels": (lambda f: _with_tag(_image(f, "a.tif", RGB, photometric="rgb"), "ImageWidth", 0), {}, FormatError, "got: 0 x 128 px", "Copy"),
    "damaged OME metadata": (_damaged_ome, {}, FormatError, "TIFF must be complete and readable; got: not well-formed", "Copy the file again"),
    "several images": (
        lambda f: _image(f, "a.tif", np.stack([RGB, RGB]), tile=(64, 64), photometric="rgb"),
        {"mpp": 1},
        FormatError,
        "one image; got 2 pages",
        "Export one",
    ),
    "OME stack": (
        lambda f: _image(f, "a.ome.tif", np.stack([RGB, RGB]), tile=(64, 64), photometric="rgb", metadata={"axes": "ZYXS"}),
        {"mpp": 1},
        FormatError,
        "one RGB plane; got axes ZYXS",
        "Export one plane",
    ),
    "gray PNG": (lambda f: _png(f, "L"), {"mpp": 1}, FormatError, "8-bit RGB; got 8-bit grayscale", "Convert"),
    "palette PNG": (lambda f: _png(f, "P"), {"mpp": 1}, FormatError, "a palette", "Convert"),
    "gray JPEG": (lambda f: _jpeg(f, "L"), {"mpp": 1}, FormatError, "8-bit RGB; got 1 x 8", "Convert"),
    "cut JPEG": (lambda f: _truncated(_jpeg(f, "RGB"), 0.1), {"mpp": 1}, FormatError, "complete PNG, JPEG or TIFF", "Copy the file again"),
    "no mpp": (
        _tiff_without_mpp,
        {},
        UnitError,
        r"^mpp must be known to measure in um; got None \(slide 'A12\.tif', .*A12\.tif\)\.",
        r"Pass open_slide\(\.\.\., mpp=0\.25\)\.$",
    ),
    "resolution of a print": (_print_resolution, {}, UnitError, "mpp must be known", r"Pass open_slide\(\.\.\., mpp=0\.25\)\.$"),
    "PNG without mpp": (lambda f: _png(f, "RGB"), {}, UnitError, r"got None \(slide 'a\.png'", "Pass open_slide"),
    "negative mpp": (_tiff_without_mpp, {"mpp": -1.0}, UnitError, r"positive um per pixel; got -1\.0", r"Pass mpp=0\.25"),
    "mpp not a number": (_tiff_without_mpp, {"mpp": float("nan")}, UnitError, "positive um per pixel; got nan", r"Pass mpp=0\.25"),
    "mpp of three axes": (_tiff_without_mpp, {"mpp": (1.0, 1.0, 1.0)}, UnitError, "positive um per pixel; got", r"Pass mpp=0\.25"),
    "no ICC profile": (_tiff_without_mpp, {"mpp": 1, "icc": True}, FormatError, "ICC profile for icc=True; got none", "icc=False"),
    "damaged ICC profile": (lambda f: _tiff(f, iccprofile=b"x" * 200), {"icc": True}, FormatError, "readable RGB profile", "icc=False"),
    "truncated DICOM": (lambda f: _truncated_dicom(f, jpeg=False), {}, FormatError, "truncated", "Copy the file again"),
    "truncated JPEG DICOM": (lambda f: _truncated_dicom(f, jpeg=True), {}, FormatError, "truncated", "Copy the file again"),
    "gray DICOM": (lambda f: _dicom(f, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2"), {}, FormatError, "8-bit RGB; got 1 x 8", "Export"),
    "DICOM concatenation": (lambda f: _dicom(f, ConcatenationUID="1.2", InConcatenationNumber=2), {}, FormatError, "concatenations; got part 2", "Re-join"),
    "focal planes": (lambda f: _dicom(f, TotalPixelMatrixFocalPlanes=3), {}, FormatError, "one focal plane", "Export one"),
    "missing frames": (
        lambda f: _dicom(f, TotalPixelMatrixColumns=999),
        {},
        FormatError,
        "must hold 80 frames for 999 x 270 px; got 30",
        "Fetch the instance again",
    ),
    "DICOM of another kind": (
        lambda f: _dicom(f, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"),
        {},
        FormatError,
        "must be a whole-slide image; got another kind",
        "idx.read_ct",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_opening_says_what_is_wrong_and_what_to_do(case, tmp_path):
    build, options, error, problem, remedy = CASES[case]
    path = build(tmp_path)
    with pytest.raises(error) as caught:
        open_slide(path, **options)
    message = str(caught.value)
    assert re.search(problem, message), message
    assert re.search(remedy, message), message
    assert str(path) in message or str(path.parent) in message, message


@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_a_damaged_tile_names_level_and_tile_and_costs_no_other(compression, tmp_path):
    file = tmp_path / "a.tif"
    make.write_tiff(file, compression=compression)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[7], page.databytecounts[7]
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\0" * count)
    with open_slide(file) as slide:
        slide.read_region(0, 0, width_px=64, height_px=64)
        with pytest.raises(PixelAccessError, match=r"level 0, tile 7, .*a\.tif.*Copy the file again"):
            slide.read_region(0, 0, width_px=128, height_px=128)


def test_a_damaged_dicom_frame_names_level_and_tile(tmp_path):
    level = make.dicom_level(make.picture(), mpp=0.25, series="1.2", jpeg=True)
    path = make.save_dicom(level, tmp_path / "a.dcm")
    content = path.read_bytes()
    first = content.index(b"\xff\xd8\xff")
    second = content.index(b"\xff\xd8\xff", first + 3)
    path.write_bytes(content[:second] + b"\0" * 64 + content[second + 64 :])
    with open_slide(path) as slide, pytest.raises(PixelAccessError, match=r"level 0, tile 1, .*a\.dcm"):
        slide.read_region(64, 0, width_px=10, height_px=10)


def test_a_file_that_changes_after_opening_is_noticed(tmp_path):
    file = tmp_path / "a.tif"
    make.write_tiff(file, compression="deflate")
    with open_slide(file) as slide:
        with file.open("r+b") as stream:
            stream.truncate(3000)
        with pytest.raises(PixelAccessError, match=r"must stay as it was while it is open.*a\.tif.*Open it again"):
            slide.read_region(0, 0, width_px=333, height_px=270)


def test_a_damaged_flat_image_is_noticed_when_it_is_read(tmp_path):
    png = imagecodecs.png_encode(make.picture())
    (tmp_path / "a.png").write_bytes(png[: len(png) // 2])
    with open_slide(tmp_path / "a.png", mpp=1.0) as slide, pytest.raises(PixelAccessError, match=r"image must decode.*a\.png"):
        slide.read_region(0, 0, width_px=10, height_px=10)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_flat_image_that_is_cut_off_is_decoded_once_not_once_a_tile(name, tmp_path, monkeypatch):
    """On a large image each attempt takes as long as the first; and libjpeg would paint what is missing grey."""
    Image.fromarray(make.picture()).save(tmp_path / name)
    _truncated(tmp_path / name, 0.5)
    attempts, read_bytes = [], Path.read_bytes
    with open_slide(tmp_path / name, mpp=1.0) as slide:
        monkeypatch.setattr(Path, "read_bytes", lambda path: attempts.append(path) or read_bytes(path))
        for _ in range(3):
            with pytest.raises(PixelAccessError, match=rf"image must decode.*{name}.*Copy the file again"):
                slide.read_region(0, 0, width_px=10, height_px=10)
    assert len(attempts) == 1


def test_a_flat_image_that_is_replaced_before_it_is_read_is_refused(tmp_path):
    Image.fromarray(make.picture()).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", mpp=1.0) as slide:
        Image.fromarray(make.picture(50, 40)).save(tmp_path / "a.png")
        with pytest.raises(PixelAccessError, match="must stay as it was while it is open"):
            slide.read_region(0, 0, width_px=10, height_px=10)


def _contradictory(folder, *, levels=(1, 4)):
    """A DICOM slide whose listed levels are YCbCr with a JFIF marker under a header that says RGB."""
    folder.mkdir()
    pixels = make.picture()
    for factor in (1, 4):
        level = make.dicom_level(make.halved(pixels, factor), mpp=0.25 * factor, series="1.2", jpeg=True, jfif=factor in levels)
        make.save_dicom(level, folder / f"{factor}.dcm")
    return folder, pixels


def test_a_header_that_contradicts_its_frames_at_level_0_is_told(tmp_path):
    folder, pixels = _contradictory(tmp_path / "s")
    with pytest.warns(UserWarning, match=r"header says RGB, the JPEG frames say YCbCr.*jpeg_colours='marked'"), open_slide(folder) as slide:
        stated = slide.read_region(0, 0, width_px=64, height_px=64)
    with open_slide(folder, jpeg_colours="marked") as slide:
        assert slide.source.ids["jpeg_colours"] == "marked"
        marked = slide.read_region(0, 0, width_px=64, height_px=64)
    expected = pixels[:64, :64].astype(int)
    assert np.abs(marked - expected).mean() < 4 < 20 < np.abs(stated - expected).mean()


def test_a_coarse_level_in_doubt_is_left_to_those_who_ask_for_it(tmp_path):
    folder, _ = _contradictory(tmp_path / "s", levels=(4,))
    with open_slide(folder) as slide:
        assert [bool(level.doubt) for level in slide.levels] == [False, True]
        assert slide.level_for(1.0) == 0
        assert slide.read_region(0, 0, width_px=8, height_px=8, level=1).shape == (8, 8, 3)
    with pytest.raises(FormatError, match="jpeg_colours must be"):
        open_slide(folder, jpeg_colours="guessed")


def test_a_damaged_tile_costs_no_other_through_openslide(tmp_path):
    """OpenSlide itself refuses every read after the first that failed."""
    file = tmp_path / "a.tif"
    make.write_tiff(file, compression="deflate")
    with open_slide(file, backend="openslide") as slide:
        expected = slide.read_region(0, 0, width_px=64, height_px=64)
    with tifffile.TiffFile(file) as tiff:
        offset, count = tiff.pages[0].dataoffsets[7], tiff.pages[0].databytecounts[7]
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\0" * count)
    with open_slide(file, backend="openslide") as slide:
        for _ in range(2):
            with pytest.raises(PixelAccessError, match=r"region must decode.*tile at 64, 64 px.*a\.tif"):
                slide.read_region(64, 64, width_px=64, height_px=64)
            np.testing.assert_array_equal(slide.read_region(0, 0, width_px=64, height_px=64), expected)
        file.unlink()
        with pytest.raises(PixelAccessError, match="must stay as it was"):
            slide.read_region(0, 0, width_px=64, height_px=64)


_CLOSED_WHILE_READ = """
import sys, threading
from idx.errors import PixelAccessError
from idx.io.slides import open_slide

def read(slide, ends):
    try:
        while True:
            slide.read_region(0, 0, width_px=300, height_px=250)
    except PixelAccessError as error:
        ends.append("slide must be open" in str(error))

for _ in range(25):
    slide, ends = open_slide(sys.argv[1], backend=sys.argv[2]), []
    threads = [threading.Thread(target=read, args=(slide, ends)) for _ in range(4)]
    for thread in threads:
        thread.start()
    slide.close()
    for thread in threads:
        thread.join()
    assert ends == [True] * 4, ends
"""


@pytest.mark.parametrize("backend", ["tifffile", "openslide"])
def test_a_slide_that_is_closed_while_threads_read_it_ends_their_reads_and_nothing_else(backend, tmp_path):
    """In a process of its own: OpenSlide crashes the process where its handle is closed under a read."""
    make.write_tiff(tmp_path / "a.tif", compression="deflate")
    done = subprocess.run([sys.executable, "-c", _CLOSED_WHILE_READ, str(tmp_path / "a.tif"), backend], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
