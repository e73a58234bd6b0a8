"""Slides in TIFF containers (SVS, tiled TIFF, OME-TIFF, BigTIFF): tifffile reads the index once, imagecodecs decodes tiles."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from defusedxml import ElementTree

from idx._typing import Pair, RGBArray
from idx.errors import FormatError
from idx.io.color import on_white
from idx.io.jpeg import RGB, YCBCR, JpegTiles
from idx.io.jpeg2000 import Jpeg2000Tiles
from idx.io.slides_tiles import ReadOnlyFile, TileLayout, same_aspect
from idx.io.stored_tiles import Decoder, StoredTiles
from idx.slide import Level, TileRect

TRUSTED_RESOLUTION_UM = (0.05, 10.0)
"""The resolution that other programs write is believed between these um per pixel only: 72, 96, 300 and 600 dpi are habits, not measurements."""

SOFTWARE = "idx "
"""How the name of the software begins in files that idx wrote: what they state of themselves is believed."""

_JPEG, _JPEG2000_YCBCR, _JPEG2000_RGB = 7, 33003, 33005
_JPEG2000 = (_JPEG2000_YCBCR, _JPEG2000_RGB, 34712)
_YCBCR = 6
_IN_RGB_WHEN_DECODED = (6, _JPEG, 34892, *_JPEG2000)
"""Compressions whose codec turns YCbCr into RGB."""
READ_ERRORS = (
    *(tifffile.TiffFileError, struct.error, ElementTree.ParseError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, OSError),
)
"""What reading a damaged TIFF may raise: tifffile takes what the file says for numbers, texts and places that make sense."""
_UM_PER_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


@dataclass(frozen=True, eq=False)
class TiffIndex:
    """Everything that reading a TIFF slide needs, read once; no pixel is decoded for it.

    Parameters
    ----------
    path : Path
    kind : str
        "svs", "ome-tiff" or "tiff".
    layouts : tuple of TileLayout
        Stored tiles of each level, finest first.
    decoders : tuple of callable
        Decoder of each level.
    mpp : tuple of float or None
        um per level-0 pixel (x, y) as the file states it.
    magnification : float or None
    icc_profile : bytes or None
    """

    path: Path
    kind: str
    layouts: tuple[TileLayout, ...]
    decoders: tuple[Decoder, ...]
    mpp: Pair | None
    magnification: float | None
    icc_profile: bytes | None


def read_index(path: Path) -> TiffIndex:
    """Read where the tiles of a TIFF slide lie and how they are coded.

    Raises
    ------
    FormatError
        If it is no TIFF, is cut off, or holds something other than 8-bit RGB in one plane.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = _pyramid_pages(tiff, path)
            for page in pages:
                _check_page(page, path)
            kind = "svs" if tiff.is_svs else "ome-tiff" if tiff.is_ome else "tiff"
            mpp, magnification = _stated_scale(tiff, pages[0])
            icc = pages[0].tags.get(34675)
            return TiffIndex(
                path,
                kind,
                tuple(_layout(page, path) for page in pages),
                tuple(_decoder(page) for page in pages),
                mpp,
                magnification,
                bytes(icc.value) if icc else None,
            )
    except READ_ERRORS as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"TIFF must be complete and readable; got: {error} ({path}). Copy the file again from its source or re-export it.") from error


def is_tiled(path: Path) -> bool:
    """Whether the first image of a TIFF is stored in tiles."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return bool(tiff.pages.first.is_tiled)
    except READ_ERRORS as error:
        raise FormatError(f"TIFF must be complete and readable; got: {error} ({path}). Copy the file again from its source or re-export it.") from error


def _pyramid_pages(tiff: tifffile.TiffFile, path: Path) -> list[tifffile.TiffPage]:
    """Pages of the pyramid, finest first; thumbnails, labels and macros are not stored in tiles or not flagged as reduced."""
    if tiff.is_ome:
        series = tiff.series[0]
        pages = [level.keyframe for level in series.levels]
        if series.keyframe.shape != series.shape:
            raise FormatError(f"OME-TIFF must hold one RGB plane; got axes {series.axes} of {series.shape} ({path}). Export one plane as RGB.")
    else:
        first = tiff.pages.first
        every = [page.aspage() for page in tiff.pages]
        same = sum(page.shape == first.shape for page in every)
        if same > 1:
            raise FormatError(f"TIFF slide must hold one image; got {same} pages of {first.imagewidth} x {first.imagelength} px ({path}). Export one of them.")
        reduced = [page for page in every[1:] if page.is_tiled and (tiff.is_svs or page.is_reduced)]
        pages = [first, *reduced, *(page.aspage() for page in first.pages or ())]
    base = (pages[0].imagewidth, pages[0].imagelength)
    levels = {page.imagewidth: page for page in reversed(pages) if same_aspect(page.imagewidth, page.imagelength, base=base)}
    return [levels[width] for width in sorted(levels, reverse=True)]


def _check_page(page: tifffile.TiffPage, path: Path) -> None:
    """Refuse pixels that are not 8-bit RGB, interleaved."""
    if page.dtype != np.uint8 or page.samplesperpixel not in (3, 4) or not has_rgb(page):
        raise FormatError(
            f"slide pixels must be 8-bit RGB; got {page.samplesperpixel} x {page.bitspersample}-bit "
            f"{getattr(page.photometric, 'name', page.photometric)} ({path}). "
            "Convert the slide to RGB, or try open_slide(..., backend='openslide')."
        )
    if page.planarconfig != 1:
        raise FormatError(f"RGB planes must be interleaved; got separate planes ({path}). Re-save with planar configuration 'contig'.")
    if page.compression not in (*_JPEG2000, _JPEG) and page.compression not in tifffile.TIFF.DECOMPRESSORS and page.compression != 1:
        raise FormatError(f"TIFF compression must be one that imagecodecs reads; got {page.compression!r} ({path}). Try open_slide(..., backend='openslide').")


def _layout(page: tifffile.TiffPage, path: Path) -> TileLayout:
    """Stored tiles of a page, checked to lie within the file; strips are tiles of full width."""
    tile = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, min(page.rowsperstrip, page.imagelength))
    if min(page.imagewidth, page.imagelength, *tile) < 1:
        raise FormatError(
            f"levels and tiles must be at least 1 x 1 px; got {page.imagewidth} x {page.imagelength} px in tiles of {tile[0]} x {tile[1]} ({path}). "
            "Copy the file again from its source."
        )
    offsets, counts = np.array(page.dataoffsets, dtype=np.int64), np.array(page.databytecounts, dtype=np.int64)
    layout = TileLayout(page.imagewidth, page.imagelength, *tile, offsets, counts)
    if not len(offsets) == len(counts) == layout.n_columns * layout.n_rows:
        raise FormatError(
            f"TIFF must list {layout.n_columns * layout.n_rows} tiles for {page.imagewidth} x {page.imagelength} px; got {len(offsets)} offsets "
            f"and {len(counts)} sizes "
            f"({path}). Copy the file again or re-export it."
        )
    size, needed = os.path.getsize(path), int((offsets + counts).max())
    if needed > size:
        raise FormatError(
            f"TIFF must hold all its tiles; got a file of {size:,} bytes whose tiles reach to byte {needed:,}: it is truncated ({path}). "
            "Copy the file again from its source."
        )
    return layout


def _decoder(page: tifffile.TiffPage) -> Decoder:
    """Decode function of a page: the direct codec for JPEG, JPEG 2000 and plain pixels, tifffile's closure (codec and predictor) for the others."""
    tables = page.jpegtables
    if page.compression == _JPEG and page.samplesperpixel == 3:
        # The photometric tag decides, as in libtiff: Aperio stores RGB in JPEG streams that carry no marker to say so.
        return JpegTiles(RGB if page.photometric == 2 else YCBCR, tables)
    if page.compression in _JPEG2000:
        return Jpeg2000Tiles(is_ycbcr=page.compression == _JPEG2000_YCBCR)
    decode, is_premultiplied = page.decode, has_premultiplied_alpha(page)

    def through_tifffile(block: bytes, number: int, _: RGBArray | None) -> RGBArray:
        pixels = decode(block, number, jpegtables=tables) if page.compression == _JPEG else decode(block, number)
        tile = np.asarray(pixels[0])[0]
        return on_white(tile, is_premultiplied=is_premultiplied) if tile.shape[2] == 4 else tile

    return through_tifffile


def has_rgb(page: tifffile.TiffPage) -> bool:
    """Whether the samples are RGB once they are decoded."""
    return page.photometric == 2 or (page.photometric == _YCBCR and page.compression in _IN_RGB_WHEN_DECODED)


def has_premultiplied_alpha(page: tifffile.TiffPage) -> bool:
    """Whether the fourth sample is associated alpha; as libtiff does, one that says nothing of itself is taken for it."""
    return bool(page.samplesperpixel == 4 and (not page.extrasamples or page.extrasamples[0] != 2))


def _stated_scale(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[Pair | None, float | None]:
    """Um per pixel (x, y) and objective power as the file states them."""
    if tiff.is_svs:
        stated = dict(re.findall(r"\|\s*([^=|]+?)\s*=\s*([^|]*)", page.description))
        mpp, power = _positive(stated.get("MPP")), _positive(stated.get("AppMag"))
        return ((mpp, mpp) if mpp else None), power
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_scale(tiff.ome_metadata)
    objective = re.search(r"; objective ([\d.]+)x", page.description) if _is_own(page) else None
    return resolution_mpp(page), _positive(objective[1]) if objective else None


def _ome_scale(xml: str) -> tuple[Pair | None, float | None]:
    """Scale of the first image of OME metadata; the unit is um unless stated."""
    root = ElementTree.fromstring(xml)
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
    objective = next((node for node in root.iter() if node.tag.endswith("}Objective")), None)
    power = _positive(objective.get("NominalMagnification")) if objective is not None else None
    if pixels is None:
        return None, power
    sizes = [(_positive(pixels.get(f"PhysicalSize{axis}")), _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))) for axis in "XY"]
    (x, x_unit), (y, y_unit) = sizes
    return ((x * x_unit, y * y_unit) if x and y and x_unit and y_unit else None), power


def resolution_mpp(page: tifffile.TiffPage) -> Pair | None:
    """Um per pixel (x, y) from the resolution tags, or None where they cannot be believed (see TRUSTED_RESOLUTION_UM)."""
    um_per_unit = {2: 25_400.0, 3: 10_000.0}.get(page.tags.valueof(296, 2))
    ratios = [page.tags.valueof(code) for code in (282, 283)]
    if um_per_unit is None or any(not ratio or not ratio[0] or not ratio[1] for ratio in ratios):
        return None
    x, y = (um_per_unit * ratio[1] / ratio[0] for ratio in ratios)
    low, high = TRUSTED_RESOLUTION_UM
    return (x, y) if _is_own(page) or (low <= x <= high and low <= y <= high) else None


def _is_own(page: tifffile.TiffPage) -> bool:
    return str(page.tags.valueof(305, "")).startswith(SOFTWARE)


def _positive(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


class TiffPixels:
    """Pixels of a TIFF slide through a :class:`TiffIndex`; safe to use from several threads."""

    name = "tifffile"

    def __init__(self, index: TiffIndex) -> None:
        self.index = index
        file = ReadOnlyFile(index.path)
        self.stored = StoredTiles(index.layouts, [file] * len(index.layouts), index.decoders)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        return self.stored.levels

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8; see :class:`idx.slide.PixelSource`."""
        self.stored.fill(batch, tiles)

    def close(self) -> None:
        """Release the file."""
        self.stored.close()
