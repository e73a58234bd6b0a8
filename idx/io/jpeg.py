"""JPEG tiles as whole-slide files store them: abbreviated streams, tables apart, colours that only the container knows."""

from __future__ import annotations

from dataclasses import dataclass

import imagecodecs

from idx._typing import RGBArray

RGB, YCBCR = 2, 3
"""Colour spaces as libjpeg numbers them."""
_END_OF_IMAGE = b"\xff\xd9"
_APP0, _APP14, _START_OF_SCAN = 0xE0, 0xEE, 0xDA


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
        If the stream is cut off. libjpeg itself only warns, and paints the rest grey.
    RuntimeError
        If it is damaged in a way that libjpeg sees.
    """
    check_ended(block)
    try:
        return imagecodecs.jpeg8_decode(block, tables=tables, colorspace=colorspace, outcolorspace=RGB, out=out)
    except ValueError:
        if out is None:
            raise
        # The last strip or frame of a level may be stored smaller than the others.
        return decode_jpeg(block, colorspace=colorspace, tables=tables)


def marked_colorspace(block: bytes) -> int | None:
    """Colour space that a stream's own markers state (Adobe's transform, or JFIF, which knows YCbCr only); None where it carries neither."""
    position, is_jfif = 2, False
    while position + 4 <= len(block) and block[position] == 0xFF and block[position + 1] != _START_OF_SCAN:
        marker, content = block[position + 1], position + 4
        if marker == _APP14 and block[content : content + 5] == b"Adobe" and content + 11 < len(block):
            return RGB if block[content + 11] == 0 else YCBCR
        is_jfif = is_jfif or (marker == _APP0 and block[content : content + 5] == b"JFIF\0")
        position += 2 + int.from_bytes(block[position + 2 : position + 4], "big")
    return YCBCR if is_jfif else None


def check_ended(block: bytes) -> None:
    """Refuse a stream that is cut off.

    Raises
    ------
    ValueError
        If no end of image is in it.
    """
    if block.rfind(_END_OF_IMAGE) < 0:
        raise ValueError("JPEG stream without its end: cut off or overwritten")
