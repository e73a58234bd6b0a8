"""JPEG tiles that are not what the container says: refused, not cast, not painted, not allowed to fill the memory."""

import imagecodecs
import numpy as np
import pytest

from idx.io.jpeg import YCBCR, decode_jpeg, frame_size
from idx.io.jpeg2000 import decode_jpeg2000

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def place(height=40, width=56):
    return np.zeros((height, width, 3), dtype=np.uint8)


def claiming(stream, *, width, height):
    """The stream with another size in its header."""
    at = stream.index(b"\xff\xc0") + 5
    return stream[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + stream[at + 4 :]


@pytest.mark.parametrize("out", [None, place()], ids=["new memory", "a place"])
def test_samples_of_more_than_8_bits_are_refused(out):
    stream = imagecodecs.jpeg8_encode(PIXELS.astype(np.uint16) * 16, level=90, bitspersample=12)
    with pytest.raises(ValueError, match="more than 8 bits"):
        decode_jpeg(stream, colorspace=YCBCR, out=out)


def test_a_smaller_picture_is_read_and_a_larger_one_refused():
    stream = imagecodecs.jpeg8_encode(PIXELS, level=90)
    assert frame_size(stream) == (56, 40)
    assert decode_jpeg(stream, colorspace=YCBCR, out=place(64, 64)).shape == (40, 56, 3)
    for size in ((39, 56), (40, 55)):
        with pytest.raises(ValueError, match=f"56 x 40 px instead of {size[1]} x {size[0]}"):
            decode_jpeg(stream, colorspace=YCBCR, out=place(*size))


def test_a_damaged_size_does_not_fill_the_memory():
    """65,535 x 65,535 px would be 13 GB, painted grey."""
    stream = claiming(imagecodecs.jpeg8_encode(PIXELS, level=90), width=65535, height=65535)
    with pytest.raises(ValueError, match="65535 x 65535 px instead of 56 x 40"):
        decode_jpeg(stream, colorspace=YCBCR, out=place())


@pytest.mark.parametrize("codecformat", ["j2k", "jp2"])
def test_a_jpeg_2000_picture_that_is_larger_than_its_place_is_refused(codecformat):
    stream = imagecodecs.jpeg2k_encode(PIXELS, level=0, codecformat=codecformat)
    np.testing.assert_array_equal(decode_jpeg2000(stream, is_ycbcr=False, out=place()), PIXELS)
    for size in ((39, 56), (40, 55)):
        with pytest.raises(ValueError, match=f"56 x 40 px instead of {size[1]} x {size[0]}"):
            decode_jpeg2000(stream, is_ycbcr=False, out=place(*size))
