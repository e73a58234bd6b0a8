"""YCbCr to RGB by the JFIF formula in 16-bit fixed point, to the last grey level as libjpeg has it; and back from a conversion that truncated.

Rows are converted channel by channel in small buffers and interleaved last, so that the processor works on several pixels at a time.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from idx._typing import Array, IntArray, RGBArray
from idx.kernels.compiled import compiled

_RED, _BLUE, _GREEN_BLUE, _GREEN_RED = (int(factor * 65536 + 0.5) for factor in (1.402, 1.772, 0.34414, 0.71414))
_HALF = 1 << 15
_SPAN = 511
"""Samples have 9 bits: no two differ by more."""
_STRIDE = 2 * _SPAN + 1
_TAKEN_BIAS = 1 << 10


def ycbcr_to_rgb(components: RGBArray, rgb: RGBArray) -> None:
    """Fill ``rgb`` (y, x, 3) uint8 from components Y, Cb, Cr (y, x, 3) uint8; both may be one array."""
    _convert(components, rgb)


def from_truncated_rgb(wide: npt.NDArray[np.uint16], step: int, rgb: RGBArray) -> bool:
    """Fill ``rgb`` from 9-bit RGB that a truncating conversion made of YCbCr around (256, 256, 256), each ``step`` pixels of a row with one chroma.

    Parameters
    ----------
    wide : array (y, x, 3), uint16
        R, G, B = Y + trunc(1.402 Cr), Y - trunc(0.344 Cb + 0.714 Cr), Y + trunc(1.772 Cb), plus 128, where nothing was clipped.
    step : int
        Pixels that share their chroma.
    rgb : array (y, x, 3), uint8
        Receives what the JFIF formula gives for Y, Cb and Cr clipped to 8 bits.

    Returns
    -------
    bool
        False where some colour cannot come from that conversion; ``rgb`` is then worthless.
    """
    return _restore(wide, step, _chroma_table(), rgb)


@cache
def _chroma_table() -> npt.NDArray[np.int32]:
    """By (R - G, B - G): what the conversion took from G, and Cb and Cr clipped to 8 bits, packed; -1 where no chroma gives the pair.

    The truncating conversion maps every (Cb, Cr) to another pair of differences, also those that a wavelet let overshoot their 8 bits.
    """
    chroma = np.arange(-256, 256, dtype=np.float64)
    blue, red = np.meshgrid(chroma, chroma, indexing="ij")
    taken = np.trunc(0.344 * blue + 0.714 * red).astype(np.int64)
    r_g, b_g = np.trunc(1.402 * red).astype(np.int64) + taken, np.trunc(1.772 * blue).astype(np.int64) + taken
    is_possible = (np.abs(r_g) <= _SPAN) & (np.abs(b_g) <= _SPAN)
    blue_8, red_8 = (np.clip(part + 128, 0, 255).astype(np.int64) for part in (blue, red))
    table = np.full(_STRIDE * _STRIDE, -1, dtype=np.int32)
    table[((r_g + _SPAN) * _STRIDE + b_g + _SPAN)[is_possible]] = ((taken + _TAKEN_BIAS) << 16 | blue_8 << 8 | red_8)[is_possible]
    return table


@compiled()
def _convert(components: RGBArray, rgb: RGBArray) -> None:
    height, width, _ = components.shape
    luma, chroma, channels = np.empty(width, np.int32), np.empty(width, np.int32), np.empty((3, width), np.uint8)
    for y in range(height):
        for x in range(width):
            luma[x] = components[y, x, 0]
            chroma[x] = np.int32(components[y, x, 1]) << np.int32(8) | np.int32(components[y, x, 2])
        _paint(luma, chroma, channels, rgb[y])


@compiled()
def _restore(wide: Array, step: int, table: IntArray, rgb: RGBArray) -> bool:
    height, width, _ = wide.shape
    n_shared = (width + step - 1) // step
    shared, chroma = np.empty(n_shared, np.int32), np.empty(n_shared * step, np.int32)
    luma, channels = np.empty(width, np.int32), np.empty((3, width), np.uint8)
    signs = np.int32(0)
    for y in range(height):
        for i in range(n_shared):
            red, green, blue = np.int32(wide[y, i * step, 0]), np.int32(wide[y, i * step, 1]), np.int32(wide[y, i * step, 2])
            beyond = (red | green | blue) >> np.int32(9)
            at = (red - green + np.int32(_SPAN)) * np.int32(_STRIDE) + blue - green + np.int32(_SPAN)
            packed = table[at if beyond == 0 else np.int32(0)]
            signs |= packed | -beyond
            shared[i] = packed
        if step == 2:  # by far the most frequent; a known number of copies is several times faster
            for i in range(n_shared):
                chroma[2 * i] = shared[i]
                chroma[2 * i + 1] = shared[i]
        else:
            for x in range(n_shared * step):
                chroma[x] = shared[x // step]
        for x in range(width):
            whole = np.int32(wide[y, x, 1]) + (chroma[x] >> np.int32(16)) - np.int32(_TAKEN_BIAS + 128)
            luma[x] = min(max(whole, np.int32(0)), np.int32(255))
        _paint(luma, chroma, channels, rgb[y])
    return bool(signs >= 0)


@compiled()
def _paint(luma: IntArray, chroma: IntArray, channels: RGBArray, row: RGBArray) -> None:
    """Fill one row of RGB from Y and from Cb and Cr in the lower two bytes of ``chroma``."""
    low, high, half, centre = np.int32(0), np.int32(255), np.int32(_HALF), np.int32(128)
    width = len(luma)
    for x in range(width):
        blue, red = (chroma[x] >> np.int32(8) & high) - centre, (chroma[x] & high) - centre
        channels[0, x] = np.uint8(min(max(luma[x] + ((np.int32(_RED) * red + half) >> np.int32(16)), low), high))
        green = (half - np.int32(_GREEN_BLUE) * blue - np.int32(_GREEN_RED) * red) >> np.int32(16)
        channels[1, x] = np.uint8(min(max(luma[x] + green, low), high))
        channels[2, x] = np.uint8(min(max(luma[x] + ((np.int32(_BLUE) * blue + half) >> np.int32(16)), low), high))
    for x in range(width):
        row[x, 0] = channels[0, x]
        row[x, 1] = channels[1, x]
        row[x, 2] = channels[2, x]
