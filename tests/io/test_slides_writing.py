"""What writers share: a target that is whole or not there, and tiles coded as they say."""

import os
import stat

import imagecodecs
import numpy as np
import pytest
import slide_files as make
from written_slides import to_write

from idx.errors import FormatError, GeometryError, IdxError, PixelAccessError
from idx.io.slides_writing import tile_encoder, whole_or_nothing


def coded(pixels, **options):
    return tile_encoder(to_write(**options))(pixels)


def psnr_db(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


def test_a_target_gets_its_name_when_it_is_complete(tmp_path):
    target = tmp_path / "new" / "a.tif"
    with whole_or_nothing(target, overwrite=False) as partial:
        partial.write_bytes(b"whole")
        assert partial.parent == target.parent  # so that renaming moves no bytes
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_failure_leaves_nothing_and_what_was_there_as_it_was(tmp_path, is_folder):
    target = tmp_path / "a"
    if is_folder:
        target.mkdir()
        (target / "old.dcm").write_bytes(b"old")
    else:
        target.write_bytes(b"old")

    def fail_halfway():
        with whole_or_nothing(target, overwrite=True, is_folder=is_folder) as partial:
            (partial / "new.dcm" if is_folder else partial).write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "old.dcm" if is_folder else target).read_bytes() == b"old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "a"
    target.mkdir()
    (target / "old.dcm").touch()
    with whole_or_nothing(target, overwrite=True, is_folder=True) as partial:
        (partial / "new.dcm").touch()
    assert [path.name for path in target.iterdir()] == ["new.dcm"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path):
    def write_too_late():
        with whole_or_nothing(tmp_path / "a.tif", overwrite=False) as partial:
            partial.write_bytes(b"mine")
            (tmp_path / "a.tif").write_bytes(b"theirs")

    with pytest.raises(FormatError, match="must not exist"):
        write_too_late()
    assert (tmp_path / "a.tif").read_bytes() == b"theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(FormatError, match=r"nothing but \.dcm files"), whole_or_nothing(tmp_path, overwrite=True, is_folder=True):
        pass
    with pytest.raises(FormatError, match="must be a file"), whole_or_nothing(tmp_path, overwrite=True):
        pass
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_what_the_system_refuses_is_said_with_the_target(tmp_path):
    with pytest.raises(IdxError, match=r"No space left on device \(.*a\.tif\)\. Make room"), whole_or_nothing(tmp_path / "a.tif", overwrite=False):
        raise OSError(28, os.strerror(28))
    (tmp_path / "file").touch()
    with pytest.raises(IdxError, match="slide must be writable"), whole_or_nothing(tmp_path / "file" / "a.tif", overwrite=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_of_reading_is_not_taken_for_one_of_writing(tmp_path):
    with pytest.raises(PixelAccessError, match="tile 3"), whole_or_nothing(tmp_path / "a.tif", overwrite=False):
        raise PixelAccessError("tile 3 must decode")


@pytest.mark.parametrize("is_folder", [False, True])
def test_others_may_read_it_as_any_new_file(tmp_path, is_folder):
    plain = tmp_path / "plain"
    if is_folder:
        plain.mkdir()
    else:
        plain.touch()
    with whole_or_nothing(tmp_path / "a", overwrite=False, is_folder=is_folder):
        pass
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_lossless_codings_lose_nothing():
    pixels = make.picture(64, 64)
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(coded(pixels, compression="jpeg2000", quality=100)), pixels)
    np.testing.assert_array_equal(np.frombuffer(coded(pixels, compression="none"), np.uint8).reshape(pixels.shape), pixels)
    differences = np.frombuffer(imagecodecs.zlib_decode(coded(pixels, compression="deflate")), np.uint8).reshape(pixels.shape)
    np.testing.assert_array_equal(np.cumsum(differences, axis=1, dtype=np.uint8), pixels)


@pytest.mark.parametrize("quality", [80, 90])
def test_jpeg2000_reaches_half_the_quality_in_db(quality):
    pixels = make.picture(256, 256)
    assert psnr_db(imagecodecs.jpeg2k_decode(coded(pixels, compression="jpeg2000", quality=quality)), pixels) == pytest.approx(quality / 2, abs=1.5)


def test_the_worst_jpeg2000_is_not_the_lossless_one():
    pixels = make.picture(64, 64)
    assert len(coded(pixels, compression="jpeg2000", quality=1)) < len(coded(pixels, compression="jpeg2000", quality=100)) / 4


def test_jpeg_keeps_chroma():
    """Red and blue stripes of one pixel would be purple if chroma were halved."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:, 0::2, 0] = pixels[:, 1::2, 2] = 200
    decoded = imagecodecs.jpeg8_decode(coded(pixels, quality=95))
    assert np.abs(decoded.astype(int) - pixels).max() < 30


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tile_px": 100}, GeometryError, "multiple of 16; got 100"),
        ({"tile_px": 0}, GeometryError, "got 0"),
        ({"quality": 0}, FormatError, "quality must be 1 to 100; got 0"),
        ({"quality": 101}, FormatError, "got 101"),
        ({"compression": "webp"}, FormatError, "got 'webp'"),
    ],
)
def test_what_cannot_be_written_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        to_write(**options)
