"""Tiled pyramidal TIFF that OpenSlide, QuPath, napari and idx open, written while its finest level comes in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from idx._typing import Array, Pair, PathLike
from idx.errors import FormatError

TILE_PX = 256
COMPRESSIONS = ("deflate", "jpeg")
_JPEG_QUALITY = 90
_CLASSIC_BYTES = 3 << 30
"""Pixels beyond this need not fit into a classic TIFF, whatever they compress to."""


def write_tiff_pyramid(
    path: PathLike,
    bands: Iterable[tuple[int, Array]],
    *,
    sizes: Sequence[tuple[int, int]],
    n_channels: int,
    mpp: Pair,
    compression: str = "deflate",
    background: int = 255,
    description: str = "",
) -> None:
    """Write a pyramid from bands of its levels; the file appears whole or not at all, and replaces one that is there.

    Parameters
    ----------
    path : path
    bands : iterable of (level, pixels)
        Rows of each level from top to bottom, uint8 (y, x) or (y, x, 3), in multiples of 256 but for the last of a level. Levels may come in any
        order: those below the finest wait compressed in a temporary file beside ``path``, not in memory.
    sizes : sequence of (width, height)
        Of the levels, finest first. Readers infer the scale of a level from its size: let each be exactly half of the one before.
    n_channels : int
        1 (grey) or 3 (RGB).
    mpp : tuple of float
        um per pixel (x, y) of the finest level; written as resolution.
    compression : str
        "deflate" (lossless) or "jpeg" (quality 90).
    background : int
        Fills the tiles that reach over the border.
    description : str
        ASCII text of the first level.

    Raises
    ------
    FormatError
        If the compression is unknown, or bands do not fill the levels.
    """
    import tifffile

    if compression not in COMPRESSIONS:
        raise FormatError(f"compression must be one of {', '.join(COMPRESSIONS)}; got {compression!r} ('{path}'). Choose one of these.")
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    n_bytes = sum(width * height * n_channels for width, height in sizes)
    shape = (TILE_PX, TILE_PX, 3) if n_channels == 3 else (TILE_PX, TILE_PX)
    try:
        with tempfile.TemporaryFile(dir=target.parent) as spool, tifffile.TiffWriter(partial, bigtiff=n_bytes > _CLASSIC_BYTES) as tiff:
            tiles = _Tiles(bands, sizes, shape, background, spool)
            for level, (width, height) in enumerate(sizes):
                tiff.write(
                    tiles.of_level(level),
                    shape=(height, width, *shape[2:]),
                    dtype=np.uint8,
                    tile=shape[:2],
                    photometric="rgb" if n_channels == 3 else "minisblack",
                    compression=compression,
                    compressionargs={"level": _JPEG_QUALITY} if compression == "jpeg" else None,
                    subfiletype=int(level > 0),
                    description=description if level == 0 else None,
                    metadata=None,
                    resolution=(1e4 / mpp[0] / 2**level, 1e4 / mpp[1] / 2**level),
                    resolutionunit="CENTIMETER",
                )
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


class _Tiles:
    """Tiles of one level after the other; those of later levels that come before their turn wait in a file."""

    def __init__(self, bands: Iterable[tuple[int, Array]], sizes: Sequence[tuple[int, int]], shape: tuple[int, ...], background: int, spool: IO[bytes]) -> None:
        self._bands, self._sizes, self._shape, self._background, self._spool = iter(bands), sizes, shape, background, spool
        self._stored: list[list[tuple[int, int]]] = [[] for _ in sizes]
        self._rows = [0] * len(sizes)

    def of_level(self, level: int) -> Iterator[Array]:
        """Yield the tiles of a level row by row; levels must be asked for finest first."""
        import imagecodecs

        for offset, size in self._stored[level]:
            self._spool.seek(offset)
            yield np.frombuffer(imagecodecs.zlib_decode(self._spool.read(size)), np.uint8).reshape(self._shape)
        for coming, band in self._bands:
            self._note(coming, band)
            for tile in self._cut(band):
                if coming == level:
                    yield tile
                    continue
                encoded = imagecodecs.zlib_encode(tile.tobytes(), level=1)
                self._stored[coming].append((self._spool.seek(0, os.SEEK_END), len(encoded)))
                self._spool.write(encoded)
        # Reached only where the writer asks for tiles that did not come.
        raise FormatError(f"bands must fill all levels; got {self._rows[level]} of {self._sizes[level][1]} rows of level {level}. Pass the whole map.")

    def _note(self, level: int, band: Array) -> None:
        width, height = self._sizes[level]
        begun = self._rows[level]
        self._rows[level] += len(band)
        if band.shape[1:] != (width, *self._shape[2:]) or band.dtype != np.uint8 or self._rows[level] > height or begun % TILE_PX:
            raise FormatError(
                f"bands of level {level} must be uint8 rows of {(width, *self._shape[2:])} that end at multiples of {TILE_PX} or at {height}; "
                f"got {band.dtype} {band.shape} from row {begun}. Pass them in order."
            )

    def _cut(self, band: Array) -> Iterator[Array]:
        """Tiles of a band, filled up where it ends within one."""
        for y in range(0, len(band), TILE_PX):
            for x in range(0, band.shape[1], TILE_PX):
                part = band[y : y + TILE_PX, x : x + TILE_PX]
                if part.shape[:2] == (TILE_PX, TILE_PX):
                    yield np.ascontiguousarray(part)
                    continue
                tile = np.full(self._shape, self._background, np.uint8)
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile
