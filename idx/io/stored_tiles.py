"""Requested tiles out of stored ones: each stored tile is fetched and decoded once, straight into its place where it can be."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from idx._typing import RGBArray
from idx.errors import PixelAccessError
from idx.io.slides_tiles import WHITE, ReadOnlyFile, TileLayout, checked_batch, levels_of
from idx.slide import TileRect

if TYPE_CHECKING:
    import torch

CACHE_BYTES = 256 << 20
"""Decoded tiles that all open slides together may keep: two rows of stored tiles of a slide 170,000 px wide."""
_Key = tuple[int, int, int]
"""Number of the source, level, number of the stored tile."""


@dataclass(eq=False)
class _Kept:
    """A decoded tile that several requests may need; ``pixels`` is None where nothing is stored."""

    pixels: RGBArray | None = None
    error: BaseException | None = None
    is_ready: threading.Event = field(default_factory=threading.Event)
    n_users: int = 1


class TileCache:
    """Decoded tiles, the longest unused dropped first; safe to use from several threads.

    A tile that one thread is decoding is waited for by the others, not decoded again. The memory of dropped tiles is used again: fresh memory
    costs a quarter of the time of a JPEG tile, for the system clears each page of it.

    Parameters
    ----------
    capacity_bytes : int
        Most bytes kept; tiles in use may exceed it while they are.
    """

    def __init__(self, capacity_bytes: int = CACHE_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._spare: dict[tuple[int, ...], list[RGBArray]] = {}
        self._n_bytes = 0
        self._gone: deque[int] = deque()
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """Bytes of the decoded tiles that are kept."""
        return self._n_bytes

    def __contains__(self, key: _Key) -> bool:
        return key in self._kept

    def claim(self, key: _Key, *, may_wait: bool) -> tuple[_Kept | None, bool]:
        """Return a tile and whether the caller must decode and publish it; no tile where another thread is at it and the caller may not wait."""
        with self._lock:
            self._sweep()
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = _Kept()
                return kept, True
            if not may_wait and not kept.is_ready.is_set():
                return None, False
            self._kept.move_to_end(key)
            kept.n_users += 1
        kept.is_ready.wait()
        return kept, False

    def spare(self, shape: tuple[int, int, int]) -> RGBArray:
        """Memory for the pixels of a tile."""
        with self._lock:
            pool = self._spare.get(shape)
            if pool:
                return pool.pop()
        return np.empty(shape, dtype=np.uint8)

    def publish(self, key: _Key, kept: _Kept) -> None:
        """Hand a claimed tile to all who wait for it; one that failed is told to them and forgotten."""
        with self._lock:
            if kept.error is not None:
                del self._kept[key]
            elif kept.pixels is not None:
                self._n_bytes += kept.pixels.nbytes
        kept.is_ready.set()

    def release(self, kept: _Kept) -> None:
        """Say that a tile is no longer in use; beyond the capacity the longest unused are dropped."""
        with self._lock:
            kept.n_users -= 1
            while self._n_bytes > self.capacity_bytes:
                oldest = next((key for key, old in self._kept.items() if old.n_users == 0), None)
                if oldest is None:
                    return
                pixels = self._kept.pop(oldest).pixels
                if pixels is not None:
                    self._n_bytes -= pixels.nbytes
                    self._spare.setdefault(pixels.shape, []).append(pixels)

    def leave(self, source: int) -> None:
        """Say that a source is gone. Takes no lock: the collector may call it in the middle of any line of this class."""
        self._gone.append(source)

    def forget(self, source: int) -> None:
        """Drop the tiles of a source and the spare memory."""
        self.leave(source)
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        if not self._gone:
            return
        gone = set()
        while self._gone:
            gone.add(self._gone.popleft())
        self._spare.clear()
        for key in [key for key, kept in self._kept.items() if key[0] in gone and kept.n_users == 0]:
            pixels = self._kept.pop(key).pixels
            self._n_bytes -= 0 if pixels is None else pixels.nbytes


_DECODE_ERRORS = (ValueError, RuntimeError, TypeError, NotImplementedError)  # tifffile's and struct's errors are ValueErrors
_SHARED = TileCache()
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
        self._cache = _SHARED if cache is None else cache
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

    def _deliver(self, key: tuple[int, int], requests: list[int], batch: RGBArray, tiles: Sequence[TileRect], *, may_wait: bool) -> bool:
        """Put one stored tile into the requests that touch it; False where it is being decoded elsewhere and the caller may not wait."""
        level, stored = key
        layout, cached = self.layouts[level], (self._number, level, stored)
        if len(requests) == 1 and layout.is_stored(tiles[requests[0]], stored) and cached not in self._cache:
            target = batch[requests[0]]
            pixels = self._decoded(level, stored, target)
            if pixels is not target:
                paste(target, tiles[requests[0]], pixels, stored, layout)
            return True
        kept, is_mine = self._cache.claim(cached, may_wait=may_wait)
        if kept is None:
            return False
        try:
            if is_mine:
                self._decode_kept(kept, cached, layout)
            if kept.error is not None:
                raise kept.error
            for number in requests:
                paste(batch[number], tiles[number], kept.pixels, stored, layout)
        finally:
            self._cache.release(kept)
        return True

    def _decode_kept(self, kept: _Kept, cached: _Key, layout: TileLayout) -> None:
        try:
            kept.pixels = self._decoded(cached[1], cached[2], self._cache.spare((layout.tile_height_px, layout.tile_width_px, 3)))
        except BaseException as error:  # whoever waits for this tile must hear of it, whatever it was
            kept.error = error
        self._cache.publish(cached, kept)

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


def paste(target: Pixels, tile: TileRect, pixels: Pixels | None, stored: int, layout: TileLayout) -> None:
    """Copy the overlap of a stored tile with a requested one (arrays, or tensors of one device); what is stored beyond the border is padding and stays out."""
    row, column = divmod(stored, layout.n_columns)
    x, y = column * layout.tile_width_px, row * layout.tile_height_px
    left, top = max(tile.x_px, x), max(tile.y_px, y)
    right = min(tile.x_px + tile.width_px, x + layout.tile_width_px, layout.width_px)
    bottom = min(tile.y_px + tile.height_px, y + layout.tile_height_px, layout.height_px)
    part: Any = target[top - tile.y_px : bottom - tile.y_px, left - tile.x_px : right - tile.x_px]
    part[...] = WHITE if pixels is None else pixels[top - y : bottom - y, left - x : right - x]
