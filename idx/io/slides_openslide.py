"""Slides of vendors' own formats through OpenSlide."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import openslide
from PIL.Image import Image

from idx._typing import Pair, RGBArray
from idx.errors import FormatError, PixelAccessError
from idx.io.color import on_white
from idx.io.slides_tiles import check_unchanged, checked_batch, identity, level_of
from idx.io.tile_cache import CACHE_BYTES
from idx.slide import Level, TileRect

_READ_ERRORS = (openslide.OpenSlideError, ctypes.ArgumentError, ValueError)


@cache
def _shared_cache() -> openslide.OpenSlideCache:
    """Decoded tiles of all slides. OpenSlide's own 32 MB hold less than one row of a large slide, so each tile between two rows was decoded twice."""
    return openslide.OpenSlideCache(CACHE_BYTES)


class OpenSlidePixels:
    """Pixels through OpenSlide; transparent pixels and what lies beyond the border are white.

    Notes
    -----
    OpenSlide addresses every level in level-0 pixels. Where a level's factor is not an integer its corner falls between pixels and OpenSlide
    interpolates, so lower levels may differ by a fraction of a pixel from those that the other routes read; level 0 is exact.

    Raises
    ------
    FormatError
        If OpenSlide cannot read the file.
    """

    name = "openslide"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._opened_as = identity(os.stat(path))
            slide = self._opened()
        except (openslide.OpenSlideError, OSError) as error:
            raise FormatError(
                f"slide must be in a format that OpenSlide reads; got: {error} ({path}). Copy the file again, or convert it to tiled TIFF."
            ) from error
        self._slide: openslide.OpenSlide | None = slide
        self._factors = slide.level_downsamples
        self._levels = tuple(level_of(*size, base=slide.dimensions) for size in slide.level_dimensions)

    def _opened(self) -> openslide.OpenSlide:
        slide = openslide.OpenSlide(self._path)
        slide.set_cache(_shared_cache())
        return slide

    def _handle(self) -> openslide.OpenSlide:
        slide = self._slide
        if slide is None:
            raise PixelAccessError(f"slide must be open to be read; got a closed one ({self._path}). Open it again with open_slide.")
        return slide

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        return self._levels

    @property
    def vendor(self) -> str:
        """Format as OpenSlide calls it."""
        return self._handle().properties.get(openslide.PROPERTY_NAME_VENDOR, "openslide")

    @property
    def mpp(self) -> Pair | None:
        """Um per pixel (x, y) as OpenSlide found it."""
        x, y = (self._handle().properties.get(name) for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y))
        return (float(x), float(y)) if x and y else None

    @property
    def magnification(self) -> float | None:
        """Objective power as the file states it."""
        power = self._handle().properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
        return float(power) if power else None

    @property
    def icc_profile(self) -> bytes | None:
        """Embedded profile."""
        profile = self._handle().color_profile
        return profile.tobytes() if profile is not None else None

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8; see :class:`idx.slide.PixelSource`."""
        checked_batch(batch, tiles, self._levels, where=str(self._path))
        self._handle()
        check_unchanged(self._path, self._opened_as)
        for target, tile in zip(batch, tiles, strict=True):
            try:
                region = self._read(self._handle(), tile)
            except _READ_ERRORS:
                region = self._read_anew(tile)
            target[...] = on_white(np.asarray(region))

    def _read(self, slide: openslide.OpenSlide, tile: TileRect) -> Image:
        # OpenSlide's own factor, not ours: it divides by it to come back to this level's pixels.
        factor = self._factors[tile.level]
        return slide.read_region((round(tile.x_px * factor), round(tile.y_px * factor)), tile.level, (tile.width_px, tile.height_px))

    def _read_anew(self, tile: TileRect) -> Image:
        """Read through a handle of its own: after one damaged tile OpenSlide refuses all others, in every thread."""
        try:
            with self._lock, self._opened() as alone:
                if self._slide is not None:
                    self._slide = self._opened()
                return self._read(alone, tile)
        except _READ_ERRORS as error:
            raise PixelAccessError(
                f"region must decode; got: {error} (level {tile.level}, tile at {tile.x_px}, {tile.y_px} px, {self._path}). "
                "Copy the file again, or leave this region out."
            ) from error

    def close(self) -> None:
        """Release the file; closing twice is harmless."""
        # The handle itself is closed when the last thread lets go of it: to take it from under a read is a crash of the whole process.
        with self._lock:
            self._slide = None
