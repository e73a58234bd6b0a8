"""Colour of JPEG 2000 tiles; real subsampled tiles are judged by OpenSlide in test_slides_oracle_openslide."""

import imagecodecs
import numpy as np
import pytest

from idx.io import jpeg2000


def _jfif(luma, blue, red):
    """The JFIF formula in floating point."""
    blue, red = blue - 128.0, red - 128.0
    rgb = np.stack([luma + 1.402 * red, luma - 0.34414 * blue - 0.71414 * red, luma + 1.772 * blue], axis=-1)
    return np.clip(rgb, 0, 255)


def test_rgb_streams_are_as_they_were_encoded():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(jpeg2000.decode_jpeg2000(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"), is_ycbcr=False), pixels)


def test_full_resolution_ycbcr_is_converted_by_the_jfif_formula():
    components = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    stream = imagecodecs.jpeg2k_encode(components, level=0, codecformat="j2k", mct=False)
    rgb = jpeg2000.decode_jpeg2000(stream, is_ycbcr=True)
    np.testing.assert_allclose(rgb, _jfif(*np.moveaxis(components.astype(float), -1, 0)), atol=0.51)


@pytest.mark.parametrize("is_ycbcr", [False, True])
def test_pixels_go_where_they_are_wanted(is_ycbcr):
    stream = imagecodecs.jpeg2k_encode(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8), level=0, codecformat="j2k", mct=False)
    batch = np.empty((2, 40, 50, 3), dtype=np.uint8)
    rgb = jpeg2000.decode_jpeg2000(stream, is_ycbcr=is_ycbcr, out=batch[1])
    assert np.shares_memory(rgb, batch[1])
    np.testing.assert_array_equal(batch[1], jpeg2000.decode_jpeg2000(stream, is_ycbcr=is_ycbcr))


@pytest.mark.parametrize("is_ycbcr", [False, True])
def test_a_stream_of_another_size_leaves_out_alone(is_ycbcr):
    """Border tiles may be stored smaller."""
    stream = imagecodecs.jpeg2k_encode(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8), level=0, codecformat="j2k", mct=False)
    out = np.full((64, 64, 3), 7, dtype=np.uint8)
    assert jpeg2000.decode_jpeg2000(stream, is_ycbcr=is_ycbcr, out=out).shape == (40, 50, 3)
    assert (out == 7).all()


@pytest.mark.parametrize("width", [64, 63])
def test_openjpegs_truncating_conversion_is_undone(width):
    """Every chroma pair, with luma and chroma that a wavelet let overshoot their 8 bits, as OpenJPEG would convert it with headroom."""
    rng = np.random.default_rng(4)
    luma = rng.integers(-20, 275, (2048, width))
    blue, red = (np.repeat(rng.integers(-10, 266, (2048, 32)), 2, axis=1)[:, :width] for _ in range(2))
    wide = np.stack(
        [
            luma + np.trunc(1.402 * (red - 128)),
            luma - np.trunc(0.344 * (blue - 128) + 0.714 * (red - 128)),
            luma + np.trunc(1.772 * (blue - 128)),
        ],
        axis=-1,
    )
    wide = wide + 128
    assert wide.min() < 0 or wide.max() > 511, "some colours are beyond even the headroom"
    inside = (wide >= 0).all(axis=-1) & (wide <= 511).all(axis=-1)
    pairs = np.repeat(inside[:, ::2] & np.pad(inside[:, 1::2], ((0, 0), (0, width % 2)), constant_values=True), 2, axis=1)[:, :width]
    neutral = np.where(pairs[..., None], wide, 256).astype(np.uint16)
    rgb = jpeg2000._undo_truncating_conversion(neutral, 2)
    clipped = (np.clip(part, 0, 255) for part in (luma, blue, red))
    np.testing.assert_allclose(rgb[pairs], _jfif(*clipped)[pairs], atol=0.51)
    assert pairs.mean() > 0.5


def test_colours_of_another_conversion_are_noticed():
    """Were OpenJPEG to round one day, the table would not hold the pairs; a silent shift of colours would be worse."""
    with pytest.raises(ValueError, match="do not come from the conversion"):
        jpeg2000._undo_truncating_conversion(np.full((4, 4, 3), 256, dtype=np.uint16) + np.array([1, 0, 1], dtype=np.uint16), 2)


@pytest.mark.parametrize("block", [b"", b"\xff\x4f\xff\x51" + bytes(60), b"not a stream" * 10])
def test_damaged_streams_are_errors(block):
    with pytest.raises((ValueError, RuntimeError)):
        jpeg2000.decode_jpeg2000(block, is_ycbcr=True)
