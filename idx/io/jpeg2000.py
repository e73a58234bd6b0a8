"""JPEG 2000 tiles as Aperio stores them: RGB, or YCbCr with subsampled chroma, exactly as OpenSlide shows them.

The tricky part is YCbCr. OpenJPEG's own conversion, which imagecodecs applies when chroma is subsampled, truncates where the JFIF formula (libjpeg,
OpenSlide) rounds, so its RGB is off by one in a third of all samples, and it clips before one can undo it. Therefore:

1. the stream's header is rewritten to declare one more bit per sample, and the quantisation steps to be as fine as before (exponents + 1, guard bits - 1),
   so that the same coefficients decode to the same values around 256 instead of 128: nothing clips any more;
2. the truncating conversion, which maps every (Cb, Cr) to another pair of differences (R - G, B - G), is undone by a table;
3. Y, Cb and Cr are clipped to 8 bits, as a decoder of the original stream would have done, and converted by the JFIF formula.

Steps 2 and 3 are one compiled sweep (``idx.kernels.ycbcr``).
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass

import imagecodecs
import numpy as np
import numpy.typing as npt

from idx._typing import RGBArray

_SIZ, _COD, _QCD = 0xFF51, 0xFF52, 0xFF5C
_FIRST_COMPONENT = 42
"""Byte of a raw codestream where the first component's (depth, x step, y step) stands: after SOC and the fixed part of SIZ."""
_of_thread = threading.local()


@dataclass(frozen=True)
class Jpeg2000Tiles:
    """Decoder of a level's JPEG 2000 tiles.

    Parameters
    ----------
    is_ycbcr : bool
        Whether the container says that the components are YCbCr.
    """

    is_ycbcr: bool

    def __call__(self, block: bytes, _: int, out: RGBArray | None) -> RGBArray:
        """Decode one tile; errors as in :func:`decode_jpeg2000`."""
        return decode_jpeg2000(block, is_ycbcr=self.is_ycbcr, out=out)


def decode_jpeg2000(block: bytes, *, is_ycbcr: bool, out: RGBArray | None = None) -> RGBArray:
    """Decode a JPEG 2000 stream to uint8 RGB (y, x, 3).

    Parameters
    ----------
    block : bytes
        Raw codestream or JP2 file.
    is_ycbcr : bool
        Whether the container says that the components are YCbCr (TIFF compression 33003).
    out : array or None
        Filled and returned where the picture has its size; C-contiguous uint8.

    Raises
    ------
    ValueError
        If the stream does not hold three 8-bit components, or is larger than ``out``.
    RuntimeError
        If it is damaged.
    """
    if out is not None:
        _check_fits(block, out)
    step = _chroma_step(block) if is_ycbcr else (1, 1)
    if step != (1, 1):  # OpenJPEG converts subsampled streams only.
        return _undo_truncating_conversion(_wide_rgb(block), step[0], out)
    pixels = _components(block, out)
    if is_ycbcr:
        from idx.kernels.ycbcr import ycbcr_to_rgb

        ycbcr_to_rgb(pixels, pixels)
    return pixels


def _check_fits(block: bytes, out: RGBArray) -> None:
    """Refuse a picture that is larger than its place: it is damaged, and may fill the memory."""
    width = height = 0
    if block[:4] == b"\xff\x4f\xff\x51" and len(block) >= _FIRST_COMPONENT:
        right, bottom, left, top = struct.unpack_from(">4I", block, 8)
        width, height = right - left, bottom - top
    elif (at := block.find(b"ihdr", 0, 256)) >= 0 and at + 12 <= len(block):
        height, width = struct.unpack_from(">2I", block, at + 4)
    if height > out.shape[0] or width > out.shape[1]:
        raise ValueError(f"{width} x {height} px instead of {out.shape[1]} x {out.shape[0]}")


def _components(block: bytes, out: RGBArray | None) -> RGBArray:
    """Three components (y, x, 3) as they are stored."""
    try:
        pixels = imagecodecs.jpeg2k_decode(block, numthreads=1, out=out)
    except ValueError:  # it does not fit ``out``
        if out is None:
            raise
        return _components(block, None)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"JPEG 2000 stream holds {pixels.dtype} {pixels.shape} instead of three 8-bit components")
    return pixels  # type: ignore[no-any-return]


def _wide_rgb(block: bytes) -> npt.NDArray[np.uint16]:
    """9-bit RGB (y, x, 3) of the truncating conversion, in memory that the thread's next call writes over: fresh memory costs a tenth of the decoding."""
    stream = _with_headroom(block)
    try:
        wide = imagecodecs.jpeg2k_decode(stream, numthreads=1, out=getattr(_of_thread, "wide", None))
    except ValueError:  # the last one had another size
        wide = imagecodecs.jpeg2k_decode(stream, numthreads=1)
    _of_thread.wide = wide
    return wide  # type: ignore[no-any-return]


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


def _undo_truncating_conversion(wide: npt.NDArray[np.uint16], step_x: int, out: RGBArray | None = None) -> RGBArray:
    """From 9-bit RGB of the truncating conversion to 8-bit RGB of the rounding one; ``step_x`` pixels of a row share their chroma."""
    from idx.kernels.ycbcr import from_truncated_rgb

    rgb = out if out is not None and out.shape == wide.shape and out.flags.c_contiguous else np.empty(wide.shape, dtype=np.uint8)
    if not from_truncated_rgb(wide, step_x, rgb):
        raise ValueError("JPEG 2000 colours do not come from the conversion that this OpenJPEG was known to use")
    return rgb
