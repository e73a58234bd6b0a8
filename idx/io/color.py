"""Embedded ICC profiles, applied to sRGB on request."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from idx._typing import RGBArray
from idx.errors import FormatError
from idx.io.slides_tiles import WHITE
from idx.io.stored_tiles import StoredTiles
from idx.slide import Level, PixelSource, TileRect


class ColorManagedPixels:
    """Pixels of another source, converted from its ICC profile to sRGB (relative colorimetric intent).

    Parameters
    ----------
    pixels : PixelSource
        Source of device RGB.
    profile : bytes or None
        The embedded ICC profile.
    where : str
        Slide name and path for messages.

    Raises
    ------
    FormatError
        If the profile is missing or not one of RGB.
    """

    def __init__(self, pixels: PixelSource, profile: bytes | None, *, where: str) -> None:
        if not profile:
            raise FormatError(f"slide must carry an ICC profile for icc=True; got none ({where}). Open it with icc=False: its colours are then as stored.")
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            self._transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
        except (ImageCms.PyCMSError, OSError) as error:
            raise FormatError(f"ICC profile must be a readable RGB profile; got: {error} ({where}). Open it with icc=False.") from error
        self._pixels = pixels

    @property
    def name(self) -> str:
        """Route of the pixels underneath."""
        return self._pixels.name

    @property
    def stored(self) -> StoredTiles | None:
        """Stored tiles of the pixels underneath, where they are known: their order is that of plans."""
        return getattr(self._pixels, "stored", None)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        return self._pixels.levels

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8 with sRGB; beyond the border it stays white whatever the profile makes of white."""
        self._pixels.read_tiles_into(batch, tiles)
        for pixels, tile in zip(batch, tiles, strict=True):
            level = self.levels[tile.level]
            inside = (
                slice(max(0, -tile.y_px), max(0, min(tile.height_px, level.height_px - tile.y_px))),
                slice(max(0, -tile.x_px), max(0, min(tile.width_px, level.width_px - tile.x_px))),
            )
            part = pixels[inside]
            if part.size:
                part[...] = np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(part)), self._transform))

    def close(self) -> None:
        """Release the file."""
        self._pixels.close()


@cache
def srgb_profile() -> bytes:
    """ICC profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def on_white(rgba: RGBArray, *, is_premultiplied: bool = False) -> RGBArray:
    """Composite RGBA (..., 4) on white, rounded to the nearest; alpha is straight unless the colours were multiplied by it already."""
    alpha = rgba[..., 3]
    if (alpha == 255).all():
        return rgba[..., :3]
    if is_premultiplied:
        return np.minimum(rgba[..., :3] + (WHITE - alpha[..., None]).astype(np.uint16), WHITE).astype(np.uint8)
    weight = alpha[..., None].astype(np.uint16)
    mixed = rgba[..., :3].astype(np.uint16) * weight + WHITE * (255 - weight)
    return ((mixed + 127) // 255).astype(np.uint8)
