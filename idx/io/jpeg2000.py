"""JPEG 2000 tiles as Aperio stores them: RGB, or YCbCr with subsampled chroma, exactly as OpenSlide shows them.

The tricky part is YCbCr. OpenJPEG's own conversion, which imagecodecs applies when chroma is subsampled, truncates where the JFIF formula (libjpeg,
OpenSlide) rounds, so its RGB is off by one in a third of all samples, and it clips before one can undo it. Therefore:

1. the stream's header is rewritten to declare one more bit per sample, and the quantisation steps to be as fine as before (exponents + 1, guard bits - 1),
   so that the same coefficients decode to the same values around 256 instead of 128: nothing clips any more;
2. the truncating conversion, which maps every (Cb, Cr) to another pair of differences (R - G, B - G), is undone by a table;
3. Y, Cb and Cr are clipped to 8 bits, as a decoder of the original stream would have done, and converted by the JFIF formula.
"""

from __future__ import annotations

import struct
from functools import cache

import imagecodecs
import numpy as np
import numpy.typing as npt

from idx._typing import RGBArray

_SIZ, _COD, _QCD = 0xFF51, 0xFF52, 0xFF5C
_FIRST_COMPONENT = 42
"""Byte of a raw codestream where the first component's (depth, x step, y step) stands: after SOC and the fixed part of SIZ."""
_CENTRE = 128
_REACH = 256
"""Chroma of a wavelet may overshoot its 8 bits; the tables cover twice its range on each side."""


def decode_jpeg2000(block: bytes, *, is_ycbcr: bool) -> RGBArray:
    """Decode a JPEG 2000 stream to uint8 RGB (y, x, 3).

    Parameters
    ----------
    block : bytes
        Raw codestream or JP2 file.
    is_ycbcr : bool
        Whether the container says that the components are YCbCr (TIFF compression 33003).

    Raises
    ------
    ValueError
        If the stream does not hold three 8-bit components.
    """
    if not is_ycbcr:
        return _checked(imagecodecs.jpeg2k_decode(block, numthreads=1))
    step = _chroma_step(block)
    if step == (1, 1):  # OpenJPEG converts subsampled streams only.
        components = _checked(imagecodecs.jpeg2k_decode(block, numthreads=1))
        luma, blue, red = (components[..., k] for k in range(3))
        return _jfif_rgb(luma.astype(np.int16), blue.astype(np.int32) << 8 | red, 1)
    return _undo_truncating_conversion(imagecodecs.jpeg2k_decode(_with_headroom(block), numthreads=1), step[0])


def _checked(pixels: npt.NDArray[np.generic]) -> RGBArray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"JPEG 2000 stream holds {pixels.dtype} {pixels.shape} instead of three 8-bit components")
    return pixels  # type: ignore[return-value]


def _chroma_step(block: bytes) -> tuple[int, int]:
    """Pixels (x, y) per sample of the second component of a raw codestream."""
    if len(block) < _FIRST_COMPONENT + 9:
        raise ValueError("JPEG 2000 stream ends within its header")
    marker, n_components = struct.unpack_from(">H", block, 2)[0], struct.unpack_from(">H", block, 40)[0]
    depths = block[_FIRST_COMPONENT : _FIRST_COMPONENT + 9 : 3]
    if block[:2] != b"\xff\x4f" or marker != _SIZ or n_components != 3 or depths != b"\x07\x07\x07":
        raise ValueError("JPEG 2000 stream is not a raw codestream of three 8-bit components")
    return block[_FIRST_COMPONENT + 4], block[_FIRST_COMPONENT + 5]


def _segments(block: bytes) -> dict[int, int]:
    """Position of each marker of the main header, by code."""
    found: dict[int, int] = {}
    position = 2
    while position + 4 <= len(block):
        code, length = struct.unpack_from(">HH", block, position)
        if code == 0xFF90:  # start of the first tile: the header is over
            return found
        found[code] = position
        position += 2 + length
    raise ValueError("JPEG 2000 stream ends within its header")


def _with_headroom(block: bytes) -> bytes:
    """Rewrite the header so that samples decode unscaled to 9 bits around 256."""
    header = bytearray(block)
    for component in range(3):
        header[_FIRST_COMPONENT + 3 * component] = 8  # depth 9, stored less one
    segments = _segments(block)
    if _QCD not in segments or _COD not in segments or {0xFF53, 0xFF5D} & segments.keys():
        raise ValueError("JPEG 2000 stream has quantisation of its own per component")
    start = segments[_QCD]
    (length,) = struct.unpack_from(">H", block, start + 2)
    style, guard_bits = block[start + 4] & 31, block[start + 4] >> 5
    if style == 0:  # reversible: integers, whatever the declared depth
        return bytes(header)
    if guard_bits == 0:
        raise ValueError("JPEG 2000 stream has no guard bit to give up")
    header[start + 4] = (guard_bits - 1) << 5 | style
    for position in range(start + 5, start + 2 + length, 2):
        (quantisation,) = struct.unpack_from(">H", block, position)
        struct.pack_into(">H", header, position, quantisation + (1 << 11))
    return bytes(header)


@cache
def _chroma_tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int16], int, int]:
    """Tables by (R - G, B - G): packed clipped (Cb, Cr), -1 where no chroma gives the pair, and what the conversion took from G.

    Returns
    -------
    packed, taken : arrays, flat
    reach, stride : int
        A pair lies at ``(r_g + reach) * stride + b_g + reach``.
    """
    chroma = np.arange(-_REACH, _REACH, dtype=np.float64)
    blue, red = np.meshgrid(chroma, chroma, indexing="ij")
    taken = np.trunc(0.344 * blue + 0.714 * red).astype(np.int64)
    r_g, b_g = np.trunc(1.402 * red).astype(np.int64) + taken, np.trunc(1.772 * blue).astype(np.int64) + taken
    reach = 2 * _REACH * 2  # no difference of two 9-bit samples lies beyond
    stride = 2 * reach + 1
    at = (r_g + reach) * stride + b_g + reach
    packed_table, taken_table = np.full(stride * stride, -1, dtype=np.int32), np.zeros(stride * stride, dtype=np.int16)
    clipped = [np.clip(c + _CENTRE, 0, 255).astype(np.int32) for c in (blue, red)]
    packed_table[at], taken_table[at] = clipped[0] << 8 | clipped[1], taken
    return packed_table, taken_table, reach, stride


def _undo_truncating_conversion(wide: npt.NDArray[np.generic], step_x: int) -> RGBArray:
    """From 9-bit RGB of the truncating conversion to 8-bit RGB of the rounding one; ``step_x`` pixels of a row share their chroma."""
    packed_table, taken_table, reach, stride = _chroma_tables()
    shared = wide[:, ::step_x].astype(np.intp)
    at = (shared[..., 0] - shared[..., 1]) * stride + (shared[..., 2] - shared[..., 1]) + reach * (stride + 1)
    packed = packed_table.take(at)
    if packed.min() < 0:
        raise ValueError("JPEG 2000 colours do not come from the conversion that this OpenJPEG was known to use")
    green_taken = _spread(taken_table.take(at), step_x, wide.shape[1])
    luma = np.clip(wide[..., 1].astype(np.int16) + green_taken - _CENTRE, 0, 255)
    return _jfif_rgb(luma, packed, step_x)


def _spread(shared: npt.NDArray[np.int16], step_x: int, width: int) -> npt.NDArray[np.int16]:
    """Give each of ``step_x`` neighbours in a row the value they share."""
    return shared if step_x == 1 else np.repeat(shared, step_x, axis=1)[:, :width]


@cache
def _jfif_offsets() -> tuple[npt.NDArray[np.int16], ...]:
    """What R, G and B differ from Y by, (65536,) each, for packed (Cb, Cr); 16-bit fixed point as in libjpeg."""
    red, blue = np.meshgrid(np.arange(256) - _CENTRE, np.arange(256) - _CENTRE)
    half = 1 << 15
    scaled = {factor: int(factor * 65536 + 0.5) for factor in (1.402, 1.772, 0.34414, 0.71414)}
    offsets = (
        (scaled[1.402] * red + half) >> 16,
        (-scaled[0.34414] * blue - scaled[0.71414] * red + half) >> 16,
        (scaled[1.772] * blue + half) >> 16,
    )
    return tuple(channel.ravel().astype(np.int16) for channel in offsets)


def _jfif_rgb(luma: npt.NDArray[np.int16], packed_chroma: npt.NDArray[np.int32], step_x: int) -> RGBArray:
    """RGB (y, x, 3) of Y (y, x) and packed (Cb, Cr), one per ``step_x`` pixels of a row."""
    rgb = np.empty((*luma.shape, 3), dtype=np.uint8)
    for channel, offsets in enumerate(_jfif_offsets()):
        shifted = _spread(offsets.take(packed_chroma), step_x, luma.shape[1]) + luma
        rgb[..., channel] = np.clip(shifted, 0, 255, out=shifted)
    return rgb
