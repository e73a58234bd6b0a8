"""Flat images (PNG, JPEG, TIFF in strips) as slides of one level; the caller states the mpp."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from idx._typing import Pair, RGBArray
from idx.errors import FormatError, PixelAccessError
from idx.io.color import on_white
from idx.io.jpeg import FRAME_HEADERS, check_ended
from idx.io.slides_tiff import READ_ERRORS, has_premultiplied_alpha, has_rgb, resolution_mpp
from idx.io.slides_tiles import WHITE, Identity, check_unchanged, checked_batch, identity
from idx.slide import Level, TileRect

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_STANDALONE_MARKERS = {0x01, *range(0xD0, 0xD8)}


@dataclass(frozen=True)
class FlatHeader:
    """What a flat image says of itself without being decoded."""

    kind: str
    width_px: int
    height_px: int
    mpp: Pair | None = None
    icc_profile: bytes | None = None
    is_premultiplied: bool = False
    identity: Identity | None = None


def read_header(path: Path) -> FlatHeader:
    """Read size and colour profile of a PNG, a JPEG or a TIFF in strips.

    Notes
    -----
    Not through Pillow, whose limit on the number of pixels is there for thumbnails of strangers, not for slides.

    Raises
    ------
    FormatError
        If it is none of these, damaged, or not 8-bit RGB.
    """
    opened_as = identity(os.stat(path))
    with path.open("rb") as stream:
        start = stream.read(8)
    try:
        if start == PNG_SIGNATURE:
            header = _png_header(path.read_bytes(), path)
        elif start[:3] == JPEG_SIGNATURE:
            header = _jpeg_header(path.read_bytes(), path)
        else:
            header = _tiff_header(path)
        if min(header.width_px, header.height_px) < 1:
            raise ValueError(f"{header.width_px} x {header.height_px} px")
    except (*READ_ERRORS, zlib.error) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"image must be a complete PNG, JPEG or TIFF; got: {error} ({path}). Copy the file again from its source.") from error
    return replace(header, identity=opened_as)


def _refuse(colours: str, path: Path) -> FormatError:
    return FormatError(f"slide pixels must be 8-bit RGB; got {colours} ({path}). Convert the image to 8-bit RGB.")


def _png_header(content: bytes, path: Path) -> FlatHeader:
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    depth, colour = content[24], content[25]
    if depth != 8 or colour not in (2, 6):
        names = {0: "grayscale", 2: "RGB", 3: "a palette", 4: "grayscale with alpha", 6: "RGBA"}
        raise _refuse(f"{depth}-bit {names.get(colour, colour)}", path)
    position, profile = 8, None
    while content[position + 4 : position + 8] not in (b"IDAT", b""):
        length = int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"iCCP":
            name_and_profile = content[position + 8 : position + 8 + length]
            profile = zlib.decompress(name_and_profile[name_and_profile.index(b"\0") + 2 :])
        position += 12 + length
    return FlatHeader("png", width, height, None, profile)


def _jpeg_header(content: bytes, path: Path) -> FlatHeader:
    position, profile = 2, b""
    while True:
        if content[position] != 0xFF:
            raise ValueError("a JPEG marker is missing")
        marker = content[position + 1]
        if marker == 0xFF or marker in _STANDALONE_MARKERS:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        segment = content[position + 4 : position + 2 + length]
        if marker == 0xE2 and segment[:12] == b"ICC_PROFILE\0":
            profile += segment[14:]
        if marker in FRAME_HEADERS:
            if segment[0] != 8 or segment[5] != 3:
                raise _refuse(f"{segment[5]} x {segment[0]}-bit components", path)
            return FlatHeader("jpeg", int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big"), None, profile or None)
        position += 2 + length


def _tiff_header(path: Path) -> FlatHeader:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if page.dtype != np.uint8 or page.samplesperpixel not in (3, 4) or not has_rgb(page):
            raise _refuse(f"{page.samplesperpixel} x {page.bitspersample}-bit {getattr(page.photometric, 'name', page.photometric)}", path)
        size, needed = path.stat().st_size, max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if needed > size:
            raise FormatError(
                f"TIFF must hold all its strips; got {size:,} of {needed:,} bytes: it is truncated ({path}). Copy the file again from its source."
            )
        icc = page.tags.get(34675)
        profile = bytes(icc.value) if icc else None
        return FlatHeader("tiff", page.imagewidth, page.imagelength, resolution_mpp(page), profile, has_premultiplied_alpha(page))


class FlatPixels:
    """Pixels of one flat image, decoded whole at the first read and kept; safe to use from several threads.

    One that does not decode is not tried again for each tile: that would take as long each time.
    """

    name = "flat"

    def __init__(self, path: Path, header: FlatHeader) -> None:
        self._path, self._header = path, header
        self._levels = (Level(header.width_px, header.height_px, 1.0),)
        self._image: RGBArray | None = None
        self._problem = ""
        self._lock = threading.Lock()

    @property
    def levels(self) -> tuple[Level, ...]:
        """The one level."""
        return self._levels

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8; see :class:`idx.slide.PixelSource`."""
        checked_batch(batch, tiles, self._levels, where=str(self._path))
        image = self._decoded()
        batch[...] = WHITE
        for target, tile in zip(batch, tiles, strict=True):
            left, top = max(tile.x_px, 0), max(tile.y_px, 0)
            right, bottom = min(tile.x_px + tile.width_px, image.shape[1]), min(tile.y_px + tile.height_px, image.shape[0])
            if left < right and top < bottom:
                target[top - tile.y_px : bottom - tile.y_px, left - tile.x_px : right - tile.x_px] = image[top:bottom, left:right]

    def _decoded(self) -> RGBArray:
        with self._lock:
            if self._problem:
                raise PixelAccessError(self._problem)
            if self._image is None:
                try:
                    self._image = self._decode()
                except PixelAccessError as error:
                    self._problem = str(error)
                    raise
            return self._image

    def _decode(self) -> RGBArray:
        if self._header.identity is not None:
            check_unchanged(self._path, self._header.identity)
        try:
            image = self._decoded_file()
        except (*READ_ERRORS, MemoryError) as error:
            raise PixelAccessError(f"image must decode; got: {error} (level 0, {self._path}). Copy the file again from its source.") from error
        return on_white(image, is_premultiplied=self._header.is_premultiplied) if image.shape[2] == 4 else image

    def _decoded_file(self) -> RGBArray:
        """Samples (y, x, 3 or 4)."""
        image: RGBArray
        if self._header.kind == "tiff":
            with tifffile.TiffFile(self._path) as tiff:
                page = tiff.pages.first.aspage()
                image = np.moveaxis(page.asarray(), 0, -1) if page.planarconfig == 2 else page.asarray()
        else:
            content = self._path.read_bytes()
            if self._header.kind == "jpeg":
                check_ended(content)
                image = imagecodecs.jpeg8_decode(content, outcolorspace=2)
            else:
                image = imagecodecs.png_decode(content)
        if image.shape[:2] != (self._header.height_px, self._header.width_px):
            raise ValueError(f"{image.shape[1]} x {image.shape[0]} px instead of {self._header.width_px} x {self._header.height_px}")
        return image

    def close(self) -> None:
        """Forget the decoded image; closing twice is harmless."""
        with self._lock:
            self._image = None
            self._problem = f"slide must be open to be read; got a closed one ({self._path}). Open it again with open_slide."
