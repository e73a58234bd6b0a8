"""Requested tiles out of stored ones: each stored tile is fetched and decoded once, straight into its place where it can be."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from idx._typing import RGBArray
from idx.errors import PixelAccessError
from idx.io.slides_tiles import WHITE, ReadOnlyFile, TileLayout, checked_batch, levels_of
from idx.io.tile_cache import SHARED, Kept, Key, TileCache
from idx.kernels.pasting import paste_parts
from idx.slide import TileRect

if TYPE_CHECKING:
    import torch

_LEAST_BYTES = 32 << 20
"""Decoded tiles that a slide may keep however small it is."""
_DECODE_ERRORS = (ValueError, RuntimeError, TypeError, NotImplementedError)  # tifffile's and struct's errors are ValueErrors
_NUMBERS = count()


Pixels: TypeAlias = "RGBArray | torch.Tensor"
Decoder = Callable[[bytes, int, RGBArray | None], RGBArray]
"""Maps (bytes, number of the stored tile, out) to uint8 (y, x, 3); it fills ``out`` and returns it where the tile has its size, and touches no file."""


class StoredTiles:
    """The stored tiles of one slide, delivered as requested ones; safe to use from several threads.

    Parameters
    ----------
    layouts : sequence of TileLayout
        How each level is cut, finest first.
    files : sequence of ReadOnlyFile
        File of each level.
    decoders : sequence of callable
        Decoder of each level; ValueError, RuntimeError, TypeError and NotImplementedError say that a tile is damaged.
    cache : TileCache or None
        Where tiles are kept that are not delivered whole; None is the one that all slides share.
    """

    def __init__(self, layouts: Sequence[TileLayout], files: Sequence[ReadOnlyFile], decoders: Sequence[Decoder], *, cache: TileCache | None = None) -> None:
        self.layouts = tuple(layouts)
        self.levels = levels_of(self.layouts)
        self.files = tuple(files)
        self.decoders = tuple(decoders)
        self._cache = SHARED if cache is None else cache
        self._number = next(_NUMBERS)
        weakref.finalize(self, self._cache.leave, self._number)

    def close(self) -> None:
        """Release the files and the decoded tiles that are kept."""
        self._cache.forget(self._number)
        for file in self.files:
            file.close()

    def fetch(self, level: int, stored: int) -> bytes | None:
        """Bytes of a stored tile, or None where nothing is stored."""
        layout = self.layouts[level]
        n_bytes = int(layout.counts[stored])
        return self.files[level].read(int(layout.offsets[stored]), n_bytes) if n_bytes else None

    def wanted(self, tiles: Sequence[TileRect]) -> dict[tuple[int, int], list[int]]:
        """Stored tiles (level, number) that requested ones touch, in the order of the file, each with the positions of those requests.

        Raises
        ------
        PixelAccessError
            If a file is another than the one that was opened.
        """
        for file in {tile.level: self.files[tile.level] for tile in tiles}.values():
            file.check_unchanged()
        wanted: dict[tuple[int, int], list[int]] = {}
        for number, tile in enumerate(tiles):
            for stored in self.layouts[tile.level].touched_by(tile):
                wanted.setdefault((tile.level, stored), []).append(number)
        if len(wanted) == 1:
            return wanted
        return {key: wanted[key] for key in sorted(wanted, key=lambda key: (key[0], self.layouts[key[0]].offsets[key[1]]))}

    def fill(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) with requested tiles; beyond the border and where nothing is stored it is white.

        Raises
        ------
        PixelAccessError
            If a stored tile cannot be read or decoded, is smaller than the file says, or the file is another than the one that was opened.
        GeometryError
            If the batch is not uint8 of exactly the tiles' size.
        """
        checked_batch(batch, tiles, self.levels, where=str(self.files[0].path))
        wanted = self.wanted(tiles)
        for number, tile in enumerate(tiles):
            if not self.layouts[tile.level].holds(tile):
                batch[number] = WHITE
        # Those that another thread is decoding come last.
        late = [key for key, requests in wanted.items() if not self._deliver(key, requests, batch, tiles, may_wait=False)]
        for key in late:
            self._deliver(key, wanted[key], batch, tiles, may_wait=True)

    def _deliver(self, key: Key, requests: list[int], batch: RGBArray, tiles: Sequence[TileRect], *, may_wait: bool) -> bool:
        """Put one stored tile into the requests that touch it; False where it is being decoded elsewhere and the caller may not wait."""
        level, stored = key
        layout = self.layouts[level]
        if len(requests) == 1 and layout.is_stored(tiles[requests[0]], stored) and not self._cache.holds(self._number, key):
            target = batch[requests[0]]
            pixels = self._decoded(level, stored, target)
            if pixels is not target:
                paste(target, tiles[requests[0]], pixels, stored, layout)
            return True
        kept, is_mine = self._cache.claim(self._number, key, may_wait=may_wait)
        if kept is None:
            return False
        try:
            if is_mine:
                self._decode_kept(kept, key)
            if kept.error is not None:
                raise kept.error
            self._paste(batch, tiles, requests, kept, stored, layout)
        finally:
            self._cache.release(self._number, kept, quota_bytes=_quota_bytes(layout, tiles[requests[0]].height_px))
        return True

    @staticmethod
    def _paste(batch: RGBArray, tiles: Sequence[TileRect], requests: Sequence[int], kept: Kept, stored: int, layout: TileLayout) -> None:
        """Copy a kept tile into the requests that touch it."""
        if kept.memory is None or not batch.flags.c_contiguous:
            for number in requests:
                paste(batch[number], tiles[number], kept.pixels, stored, layout)
            return
        parts = [(number, *overlap(tiles[number], stored, layout)) for number in requests]
        paste_parts(batch, kept.memory, np.array(parts, dtype=np.int64))

    def _decode_kept(self, kept: Kept, key: Key) -> None:
        layout = self.layouts[key[0]]
        try:
            kept.memory = self._cache.memory.take((layout.tile_height_px, layout.tile_width_px, 3))
            kept.pixels = self._decoded(*key, kept.memory)
        except BaseException as error:  # whoever waits for this tile must hear of it, whatever it was
            kept.error = error
        if kept.memory is not None and kept.pixels is not kept.memory:
            self._cache.memory.give_back(kept.memory)
            kept.memory = None
        self._cache.publish(self._number, key, kept)

    def decode(self, level: int, stored: int, block: bytes, out: RGBArray | None = None) -> RGBArray:
        """Pixels (y, x, 3) of a stored tile's bytes, in ``out`` where they have its size.

        Raises
        ------
        PixelAccessError
            If they do not decode, or to fewer pixels than lie within the level.
        """
        width, height = self.layouts[level].size_within(stored)
        try:
            pixels = self.decoders[level](block, stored, out)
            if pixels.shape[0] < height or pixels.shape[1] < width:
                raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} px instead of {width} x {height}")
        except _DECODE_ERRORS as error:
            raise PixelAccessError(
                f"stored tile must decode; got: {error} (level {level}, tile {stored}, {self.files[level].path}). "
                "Copy the file again, or leave this region out."
            ) from error
        return pixels

    def _decoded(self, level: int, stored: int, out: RGBArray) -> RGBArray | None:
        """Pixels of a stored tile, in ``out`` where they have its size; None where nothing is stored."""
        block = self.fetch(level, stored)
        return None if block is None else self.decode(level, stored, block, out)


def _quota_bytes(layout: TileLayout, height_px: int) -> int:
    """What a slide may keep for requests that go through it row by row: the stored tiles that a row of them touches, and a row more."""
    n_rows = -(-height_px // layout.tile_height_px) + 2
    return max(_LEAST_BYTES, n_rows * layout.n_columns * layout.tile_width_px * layout.tile_height_px * 3)


def paste(target: Pixels, tile: TileRect, pixels: Pixels | None, stored: int, layout: TileLayout) -> None:
    """Copy the overlap of a stored tile with a requested one (arrays, or tensors of one device); what is stored beyond the border is padding and stays out."""
    to_y, to_x, y, x, height, width = overlap(tile, stored, layout)
    part: Any = target[to_y : to_y + height, to_x : to_x + width]
    part[...] = WHITE if pixels is None else pixels[y : y + height, x : x + width]


def overlap(tile: TileRect, stored: int, layout: TileLayout) -> tuple[int, int, int, int, int, int]:
    """Where a stored tile and a requested one overlap within the level: top and left in the requested, top and left in the stored, height, width."""
    row, column = divmod(stored, layout.n_columns)
    x, y = column * layout.tile_width_px, row * layout.tile_height_px
    left, top = max(tile.x_px, x), max(tile.y_px, y)
    right = min(tile.x_px + tile.width_px, x + layout.tile_width_px, layout.width_px)
    bottom = min(tile.y_px + tile.height_px, y + layout.tile_height_px, layout.height_px)
    return top - tile.y_px, left - tile.x_px, top - y, left - x, bottom - top, right - left
