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

_GAP_BYTES, _RUN_BYTES = 16 << 10, 1 << 20
"""Tiles no further apart than the one are read together, up to the other: each read waits by itself, for the disk, the network or the interpreter."""
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
        # The files first: a thread that reads would fill the cache again.
        for file in self.files:
            file.close()
        self._cache.forget(self._number)

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
        blocks = _Blocks(self, list(wanted))
        late = [key for key, requests in wanted.items() if not self._deliver(key, requests, batch, tiles, blocks, may_wait=False)]
        for key in late:
            self._deliver(key, wanted[key], batch, tiles, blocks, may_wait=True)

    def holds(self, key: Key) -> bool:
        """Whether a decoded tile is kept, or about to be."""
        return self._cache.holds(self._number, key)

    def _deliver(self, key: Key, requests: list[int], batch: RGBArray, tiles: Sequence[TileRect], blocks: _Blocks, *, may_wait: bool) -> bool:
        """Put one stored tile into the requests that touch it; False where it is being decoded elsewhere and the caller may not wait."""
        level, stored = key
        layout = self.layouts[level]
        if len(requests) == 1 and layout.is_stored(tiles[requests[0]], stored) and not self.holds(key):
            target = batch[requests[0]]
            pixels = self._decoded(key, blocks, target)
            if pixels is not target:
                paste(target, tiles[requests[0]], pixels, stored, layout)
            return True
        kept, is_mine = self._cache.claim(self._number, key, may_wait=may_wait)
        if kept is None:
            return False
        try:
            if is_mine:
                self._decode_kept(kept, key, blocks)
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

    def _decode_kept(self, kept: Kept, key: Key, blocks: _Blocks) -> None:
        layout = self.layouts[key[0]]
        try:
            kept.memory = self._cache.memory.take((layout.tile_height_px, layout.tile_width_px, 3))
            kept.pixels = self._decoded(key, blocks, kept.memory)
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

    def _decoded(self, key: Key, blocks: _Blocks, out: RGBArray) -> RGBArray | None:
        """Pixels of a stored tile, in ``out`` where they have its size; None where nothing is stored."""
        block = blocks.take(key)
        return None if block is None else self.decode(*key, block, out)


class _Blocks:
    """Bytes of the stored tiles of one call; those that lie together in the file are read together."""

    def __init__(self, stored: StoredTiles, keys: Sequence[Key]) -> None:
        self._stored = stored
        self._keys = keys
        self._read: dict[Key, bytes] = {}

    def take(self, key: Key) -> bytes | None:
        """Bytes of a tile, or None where nothing is stored."""
        if key not in self._read:
            run = self._run_from(key)
            if key not in run or len(run) < 2:
                return self._stored.fetch(*key)
            start, last = run[key][0], run[next(reversed(run))]
            together = self._stored.files[key[0]].read(start, sum(last) - start)
            self._read.update({other: together[offset - start : offset - start + n_bytes] for other, (offset, n_bytes) in run.items()})
        return self._read.pop(key)

    def _run_from(self, key: Key) -> dict[Key, tuple[int, int]]:
        """Offset and number of bytes of a tile and of those that follow it closely in the file and are wanted too."""
        level = key[0]
        layout = self._stored.layouts[level]
        run: dict[Key, tuple[int, int]] = {}
        start = end = int(layout.offsets[key[1]])
        for other in self._keys[self._keys.index(key) :]:
            offset, n_bytes = int(layout.offsets[other[1]]), int(layout.counts[other[1]])
            if other[0] != level or not 0 <= offset - end <= _GAP_BYTES or offset + n_bytes - start > _RUN_BYTES:
                break
            if n_bytes and (other == key or not self._stored.holds(other)):
                run[other] = offset, n_bytes
                end = offset + n_bytes
        return run


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
