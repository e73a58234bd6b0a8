"""What the routes to slide pixels share: level factors, positioned file reads, and how a level is cut into stored tiles."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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


def levels_of(layouts: Sequence[TileLayout]) -> tuple[Level, ...]:
    """Levels of a pyramid, finest first, with their factors."""
    base = (layouts[0].width_px, layouts[0].height_px)
    return tuple(replace(level_of(layout.width_px, layout.height_px, base=base), doubt=layout.doubt) for layout in layouts)


def same_aspect(width_px: int, height_px: int, *, base: tuple[int, int]) -> bool:
    """Whether a size is the base size divided by one factor, within a pixel of rounding on each side."""
    low = max(base[0] / (width_px + 1), base[1] / (height_px + 1))
    high = min(base[0] / max(width_px - 1, 0.5), base[1] / max(height_px - 1, 0.5))
    return low <= high


class ReadOnlyFile:
    """A file whose bytes are read by position, from any number of threads; closed with its last reference where nobody closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._release = weakref.finalize(self, os.close, self._descriptor)  # runs once, whoever calls it
        self._opened_as = identity(os.fstat(self._descriptor))
        self._lock = threading.Lock()
        self._n_readers = 0
        self._is_closed = False

    def check_unchanged(self) -> None:
        """Refuse a file that was closed, and one that was replaced or rewritten since it was opened: see :func:`check_unchanged`."""
        self._check_open()
        check_unchanged(self.path, self._opened_as)

    def _check_open(self) -> None:
        if self._is_closed:
            raise PixelAccessError(f"slide must be open to be read; got a closed one ({self.path}). Open it again with open_slide.")

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly ``count`` bytes from ``offset``.

        Raises
        ------
        PixelAccessError
            If the file is closed or shorter, or the system cannot read it.
        """
        with self._lock:
            self._check_open()
            self._n_readers += 1
        try:
            block = self._read(offset, count)
            while 0 < len(block) < count and (more := self._read(offset + len(block), count - len(block))):
                block += more  # network drives may give less than was asked for
        except OSError as error:
            raise PixelAccessError(
                f"file must be readable; got: {error} at offset {offset} ({self.path}). Check the drive, and copy the file again."
            ) from error
        finally:
            with self._lock:
                self._n_readers -= 1
                self._release_unread()
        if len(block) != count:
            raise PixelAccessError(f"file must hold {count} bytes at offset {offset}; got {len(block)} ({self.path}). Copy the file again: it is cut off.")
        return block

    def _read(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, count, offset)
        with self._lock:  # Windows has no positioned read: seek and read must not be torn apart.
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, count)

    def close(self) -> None:
        """Release the descriptor; closing twice is harmless."""
        with self._lock:
            self._is_closed = True
            self._release_unread()

    def _release_unread(self) -> None:
        # Not under a reader: the system may give the same descriptor to another file, whose bytes it would then read.
        if self._is_closed and self._n_readers == 0:
            self._release()


Identity = tuple[int, int, int, int]
"""What tells a file from another, or from itself rewritten."""


def identity(status: os.stat_result) -> Identity:
    """Device, inode, size and time of change of a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_unchanged(path: Path, opened_as: Identity) -> None:
    """Refuse a file that was replaced or rewritten since it was opened: its index no longer says where its tiles lie.

    Raises
    ------
    PixelAccessError
        If it is another file now, or is gone.
    """
    try:
        now = identity(os.stat(path))
    except OSError:  # gone, or its folder, or the drive
        now = None
    if now != opened_as:
        raise PixelAccessError(
            f"slide must stay as it was while it is open; got {'another file in its place' if now else 'no file'} ({path}). Open it again with open_slide."
        )


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
    doubt : str
        See :class:`idx.slide.Level`.
    """

    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int
    offsets: IntArray
    counts: IntArray
    doubt: str = ""

    @cached_property
    def n_columns(self) -> int:
        """Stored tiles in a row."""
        return -(-self.width_px // self.tile_width_px)

    @cached_property
    def n_rows(self) -> int:
        """Rows of stored tiles."""
        return -(-self.height_px // self.tile_height_px)

    def holds(self, tile: TileRect) -> bool:
        """Whether a requested tile lies within the level."""
        return tile.x_px >= 0 and tile.y_px >= 0 and tile.x_px + tile.width_px <= self.width_px and tile.y_px + tile.height_px <= self.height_px

    def touched_by(self, tile: TileRect) -> list[int]:
        """Numbers of the stored tiles that a requested one touches within the level."""
        left, top = max(tile.x_px, 0), max(tile.y_px, 0)
        right, bottom = min(tile.x_px + tile.width_px, self.width_px), min(tile.y_px + tile.height_px, self.height_px)
        if left >= right or top >= bottom:
            return []
        columns = range(left // self.tile_width_px, (right - 1) // self.tile_width_px + 1)
        rows = range(top // self.tile_height_px, (bottom - 1) // self.tile_height_px + 1)
        return [row * self.n_columns + column for row in rows for column in columns]

    def is_stored(self, tile: TileRect, stored: int) -> bool:
        """Whether a requested tile is a stored one, to the pixel and wholly within the level."""
        row, column = divmod(stored, self.n_columns)
        corner = (column * self.tile_width_px, row * self.tile_height_px)
        return (tile.x_px, tile.y_px) == corner and (tile.width_px, tile.height_px) == (self.tile_width_px, self.tile_height_px) and self.holds(tile)

    def size_within(self, stored: int) -> tuple[int, int]:
        """Width and height of the part of a stored tile that lies within the level."""
        row, column = divmod(stored, self.n_columns)
        width, height = self.width_px - column * self.tile_width_px, self.height_px - row * self.tile_height_px
        return min(self.tile_width_px, width), min(self.tile_height_px, height)


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
