"""Conversion of colours, against the JFIF formula as libjpeg computes it."""

import numpy as np
import pytest

from idx.kernels import ycbcr


def libjpeg(luma, blue, red):
    """16-bit fixed point, each product rounded as in jdcolor.c."""
    blue, red = blue.astype(np.int64) - 128, red.astype(np.int64) - 128
    scaled = [int(factor * 65536 + 0.5) for factor in (1.402, 0.34414, 0.71414, 1.772)]
    half = 1 << 15
    offsets = ((scaled[0] * red + half) >> 16, (-scaled[1] * blue - scaled[2] * red + half) >> 16, (scaled[3] * blue + half) >> 16)
    return np.clip(np.stack([luma + offset for offset in offsets], axis=-1), 0, 255).astype(np.uint8)


def every_chroma(luma):
    """(65536 / 64, 64, 3) components: each (Cb, Cr) once, with one Y."""
    blue, red = np.meshgrid(np.arange(256), np.arange(256))
    return np.stack([np.full_like(blue, luma), blue, red], axis=-1).astype(np.uint8).reshape(-1, 64, 3)


@pytest.mark.parametrize("luma", [0, 1, 77, 128, 254, 255])
def test_every_chroma_is_converted_to_the_last_grey_level(luma):
    components = every_chroma(luma)
    rgb = np.empty_like(components)
    ycbcr.ycbcr_to_rgb(components, rgb)
    np.testing.assert_array_equal(rgb, libjpeg(*np.moveaxis(components, -1, 0)))


def test_components_may_be_converted_in_place():
    components = every_chroma(90)
    rgb = np.empty_like(components)
    ycbcr.ycbcr_to_rgb(components, rgb)
    ycbcr.ycbcr_to_rgb(components, components)
    np.testing.assert_array_equal(components, rgb)


def truncated(luma, blue, red):
    """9-bit RGB around 256, as OpenJPEG converts."""
    blue, red = blue - 128, red - 128
    rgb = [luma + np.trunc(1.402 * red), luma - np.trunc(0.344 * blue + 0.714 * red), luma + np.trunc(1.772 * blue)]
    return np.stack(rgb, axis=-1) + 128


@pytest.mark.parametrize(("step", "width"), [(1, 33), (2, 33), (2, 34), (3, 34), (4, 33)])
def test_a_truncating_conversion_is_undone_whatever_number_of_pixels_shares_its_chroma(step, width):
    rng = np.random.default_rng(step)
    luma = rng.integers(-20, 276, (300, width))
    blue, red = (np.repeat(rng.integers(70, 186, (300, -(-width // step))), step, axis=1)[:, :width] for _ in range(2))
    wide = truncated(luma, blue, red)
    assert wide.min() >= 0
    assert wide.max() <= 511
    rgb = np.empty((300, width, 3), dtype=np.uint8)
    assert ycbcr.from_truncated_rgb(wide.astype(np.uint16), step, rgb)
    np.testing.assert_array_equal(rgb, libjpeg(np.clip(luma, 0, 255), blue, red))


@pytest.mark.parametrize("colour", [(257, 256, 257), (512, 300, 300), (65535, 0, 0)])
def test_colours_of_no_chroma_are_told(colour):
    wide = np.full((3, 4, 3), 256, dtype=np.uint16)
    assert ycbcr.from_truncated_rgb(wide, 2, np.empty((3, 4, 3), dtype=np.uint8))
    wide[1, 2] = colour
    assert not ycbcr.from_truncated_rgb(wide, 2, np.empty((3, 4, 3), dtype=np.uint8))
