"""What the routes to slide pixels share: level factors, positioned file reads, and pasting stored tiles into requested ones."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idx._typing import IntArray, RGBArray
from idx.errors import GeometryError, PixelAccessError
from idx.slide import Level, TileRect

WHITE = 255


def level_of(width_px: int, height_px: int, *, base: tuple[int, int]) -> Level:
    """Level of a stored size, with the factor that puts its pixels where they were.

    Notes
    -----
    Writers halve 10249 px to 5124 or 5125 px, so the ratio of sizes is not the factor by which pixels were averaged. The factor is the integer
    whose division of both sides is within one pixel of what is stored; where there is none, the mean of both ratios.

    Examples
    --------
    >>> level_of(2988, 2562, base=(11952, 10249)).downsample
    4.0
    """
    ratio = (base[0] / width_px + base[1] / height_px) / 2.0
    # Small levels leave several integers possible: the coarser the level, the wider a pixel's rounding.
    reach = max(1, math.ceil(ratio / min(width_px, height_px)))
    candidates = [
        k for k in range(max(1, round(ratio) - reach), round(ratio) + reach + 1) if abs(base[0] / k - width_px) < 1 and abs(base[1] / k - height_px) < 1
    ]
    factor = _most_likely(candidates, ratio) if candidates else ratio
    return Level(width_px, height_px, float(factor))


def _most_likely(candidates: Sequence[int], ratio: float) -> int:
    """Powers of two first, then the integer nearest to the ratio of the sizes."""
    return min(candidates, key=lambda k: (k & (k - 1) != 0, abs(k - ratio)))


def same_aspect(width_px: int, height_px: int, *, base: tuple[int, int]) -> bool:
    """Whether a size is the base size divided by one factor, within a pixel of rounding on each side."""
    low = max(base[0] / (width_px + 1), base[1] / (height_px + 1))
    high = min(base[0] / max(width_px - 1, 0.5), base[1] / max(height_px - 1, 0.5))
    return low <= high


class ReadOnlyFile:
    """A file whose bytes are read by position, from any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly ``count`` bytes from ``offset``.

        Raises
        ------
        PixelAccessError
            If the file is closed or shorter.
        """
        if self._descriptor is None:
            raise PixelAccessError(f"slide must be open to be read; got a closed one ({self.path}). Open it again with open_slide.")
        if hasattr(os, "pread"):
            block = os.pread(self._descriptor, count, offset)
        else:  # Windows has no positioned read: seek and read must not be torn apart.
            with self._lock:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                block = os.read(self._descriptor, count)
        if len(block) != count:
            raise PixelAccessError(f"file must hold {count} bytes at offset {offset}; got {len(block)} ({self.path}). Copy the file again: it is cut off.")
        return block

    def close(self) -> None:
        """Release the descriptor; closing twice is harmless."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


@dataclass(frozen=True, eq=False)
class TileLayout:
    """How one level is cut into stored tiles.

    Parameters
    ----------
    width_px, height_px : int
        Size of the level.
    tile_width_px, tile_height_px : int
        Size of a stored tile; border tiles may be stored smaller or padded.
    offsets, counts : array (n_rows * n_columns,)
        Position and number of bytes in the file, in row order; a count of 0 is a tile that was not stored and reads white.
    """

    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int
    offsets: IntArray
    counts: IntArray

    @property
    def n_columns(self) -> int:
        """Stored tiles in a row."""
        return -(-self.width_px // self.tile_width_px)

    @property
    def n_rows(self) -> int:
        """Rows of stored tiles."""
        return -(-self.height_px // self.tile_height_px)


def checked_batch(batch: RGBArray, tiles: Sequence[TileRect], levels: Sequence[Level], *, where: str) -> None:
    """Refuse a batch that does not fit its tiles.

    Raises
    ------
    GeometryError
        If the batch is not uint8 (n, height, width, 3) of exactly the tiles' size.
    PixelAccessError
        If a level does not exist.
    """
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[0] != len(tiles) or batch.shape[3] != 3:
        raise GeometryError(f"batch must be uint8 ({len(tiles)}, height, width, 3); got {batch.dtype} {batch.shape} ({where}). Allocate it for these tiles.")
    for tile in tiles:
        if (tile.height_px, tile.width_px) != batch.shape[1:3]:
            raise GeometryError(
                f"tiles of one batch must be {batch.shape[2]} x {batch.shape[1]} px; got {tile.width_px} x {tile.height_px} ({where}). Use one batch per size."
            )
        if not 0 <= tile.level < len(levels):
            raise PixelAccessError(f"level must be in 0..{len(levels) - 1}; got {tile.level} ({where}). See slide.levels.")


def fill_from_stored(batch: RGBArray, tiles: Sequence[TileRect], layouts: Sequence[TileLayout], decode: Callable[[int, int], RGBArray | None]) -> None:
    """Fill a batch from stored tiles, decoding each of them once however many requested tiles touch it.

    Parameters
    ----------
    batch : uint8 array (n, height, width, 3)
    tiles : sequence of TileRect
    layouts : sequence of TileLayout
        One per level.
    decode : callable
        Maps (level, number of the stored tile) to its pixels, or None where nothing is stored. Called in the order of the file.
    """
    batch[...] = WHITE
    wanted: dict[tuple[int, int], list[int]] = {}
    for number, tile in enumerate(tiles):
        for stored in _stored_tiles(tile, layouts[tile.level]):
            wanted.setdefault((tile.level, stored), []).append(number)
    for level, stored in sorted(wanted, key=lambda key: (key[0], layouts[key[0]].offsets[key[1]])):
        pixels = decode(level, stored)
        if pixels is not None:
            for number in wanted[level, stored]:
                _paste(batch[number], tiles[number], pixels, stored, layouts[level])


def _stored_tiles(tile: TileRect, layout: TileLayout) -> list[int]:
    """Numbers of the stored tiles that a requested one touches inside the level."""
    left, top = max(tile.x_px, 0), max(tile.y_px, 0)
    right, bottom = min(tile.x_px + tile.width_px, layout.width_px), min(tile.y_px + tile.height_px, layout.height_px)
    if left >= right or top >= bottom:
        return []
    columns = range(left // layout.tile_width_px, (right - 1) // layout.tile_width_px + 1)
    rows = range(top // layout.tile_height_px, (bottom - 1) // layout.tile_height_px + 1)
    return [row * layout.n_columns + column for row in rows for column in columns]


def _paste(target: RGBArray, tile: TileRect, pixels: RGBArray, stored: int, layout: TileLayout) -> None:
    """Copy the overlap of one stored tile with one requested tile; what is stored beyond the level's border is padding and stays out."""
    row, column = divmod(stored, layout.n_columns)
    x, y = column * layout.tile_width_px, row * layout.tile_height_px
    left, top = max(tile.x_px, x), max(tile.y_px, y)
    right = min(tile.x_px + tile.width_px, x + pixels.shape[1], layout.width_px)
    bottom = min(tile.y_px + tile.height_px, y + pixels.shape[0], layout.height_px)
    if left < right and top < bottom:
        target[top - tile.y_px : bottom - tile.y_px, left - tile.x_px : right - tile.x_px] = pixels[top - y : bottom - y, left - x : right - x]
