"""JPEG tiles as whole-slide files store them: abbreviated streams, tables apart, colours that only the container knows."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np

from idx._typing import RGBArray

RGB, YCBCR = 2, 3
"""Colour spaces as libjpeg numbers them."""
_END_OF_IMAGE = b"\xff\xd9"
START_OF_IMAGE = b"\xff\xd8"
APP14 = 0xEE
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP0, _START_OF_SCAN = 0xE0, 0xDA


@dataclass(frozen=True)
class JpegTiles:
    """Decoder of a level's JPEG tiles; what it needs to know is readable, for other decoders than libjpeg need it too.

    Parameters
    ----------
    colorspace : int
        What the container says of the components, RGB or YCBCR.
    tables : bytes or None
        Quantisation and Huffman tables that the tiles share.
    """

    colorspace: int
    tables: bytes | None = None

    def __call__(self, block: bytes, _: int, out: RGBArray | None) -> RGBArray:
        """Decode one tile; errors as in :func:`decode_jpeg`."""
        return decode_jpeg(block, colorspace=self.colorspace, tables=self.tables, out=out)


def decode_jpeg(block: bytes, *, colorspace: int, tables: bytes | None = None, out: RGBArray | None = None) -> RGBArray:
    """Decode a JPEG stream of three components to uint8 RGB (y, x, 3).

    Parameters
    ----------
    block : bytes
        The stream, whole or without its tables.
    colorspace : int
        What the container says of the components, RGB or YCBCR; the stream's own markers are not asked.
    tables : bytes or None
        Quantisation and Huffman tables (TIFF tag JPEGTables).
    out : array or None
        Filled and returned where the picture has its size.

    Raises
    ------
    ValueError
        If the stream is cut off (libjpeg itself only warns, and paints the rest grey), is larger than ``out``, or its samples have more than 8 bits.
    RuntimeError
        If it is damaged in a way that libjpeg sees.
    """
    check_ended(block)
    try:
        pixels: RGBArray = imagecodecs.jpeg8_decode(block, tables=tables, colorspace=colorspace, outcolorspace=RGB, out=out)
    except ValueError:
        if out is None:
            raise
        # The last strip or frame of a level may be stored smaller than the others; a larger one is damaged, and may fill the memory.
        width, height = frame_size(block)
        if height > out.shape[0] or width > out.shape[1]:
            raise ValueError(f"{width} x {height} px instead of {out.shape[1]} x {out.shape[0]}") from None
        return decode_jpeg(block, colorspace=colorspace, tables=tables)
    if pixels.dtype != np.uint8:
        raise ValueError("samples of more than 8 bits")
    return pixels


def frame_size(stream: bytes) -> tuple[int, int]:
    """Width and height that a stream states.

    Raises
    ------
    ValueError
        If its header is damaged or cut off.
    """
    for code, start, _ in segments(stream):
        if code in FRAME_HEADERS and start + 9 <= len(stream):
            height, width = struct.unpack_from(">HH", stream, start + 5)
            return width, height
    raise ValueError("JPEG stream without a frame header")


def marked_colorspace(header: bytes) -> int | None:
    """Colour space that a stream's own markers state (Adobe's transform, or JFIF, which knows YCbCr only); None where it carries neither.

    Parameters
    ----------
    header : bytes
        The stream, or as much of it as holds the markers.
    """
    is_jfif = False
    try:
        for code, start, stop in segments(header):
            content = header[start + 4 : stop]
            if code == APP14 and content.startswith(b"Adobe") and len(content) > 11:
                return RGB if content[11] == 0 else YCBCR
            is_jfif = is_jfif or (code == _APP0 and content.startswith(b"JFIF\0"))
    except ValueError:
        pass  # cut off after its markers, or damaged, which decoding will tell
    return YCBCR if is_jfif else None


def segments(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (code, start, stop) of the segments of a JPEG header; the last is all from the start of the scan.

    Raises
    ------
    ValueError
        If the header is damaged or cut off.
    """
    if not stream.startswith(START_OF_IMAGE):
        raise ValueError("JPEG stream without its start")
    position = 2
    while position < len(stream) and stream[position : position + 2] != _END_OF_IMAGE:
        if position + 4 > len(stream) or stream[position] != 0xFF:
            raise ValueError("JPEG stream with a damaged header")
        code, length = struct.unpack_from(">xBH", stream, position)
        if code == _START_OF_SCAN:
            yield code, position, len(stream)
            return
        if code != 0xFF:  # any number of these may stand before a marker
            yield code, position, position + 2 + length
            position += 2 + length
        else:
            position += 1


def check_ended(block: bytes) -> None:
    """Refuse a stream that is cut off.

    Raises
    ------
    ValueError
        If no end of image is in it.
    """
    if block.rfind(_END_OF_IMAGE) < 0:
        raise ValueError("JPEG stream without its end: cut off or overwritten")
