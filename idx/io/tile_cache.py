"""Decoded tiles that are kept because other requests will need them too, and the memory that they lie in."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np

from idx._typing import RGBArray

CACHE_BYTES = 256 << 20
"""Decoded tiles that all open slides together may keep: two rows of stored tiles of a slide 170,000 px wide."""
SPARE_BYTES = 64 << 20
"""Memory of dropped tiles that waits to be used again."""
_SLAB_BYTES = 6 << 20
"""Memory is asked for in pieces that numpy has mapped by huge pages (from 4 MB on); clearing those costs half as much."""
Key = tuple[int, int]
"""Level, number of the stored tile."""


BESIDE_BYTES = 16
"""Bytes more than are needed, for :func:`beside_vectors`."""


def beside_vectors(memory: RGBArray) -> RGBArray:
    """The part of memory (n,) from its first address that is 8 more than a multiple of 16.

    libjpeg-turbo writes past the processor's cache where a row begins at a multiple of 16 or 32 bytes, which takes a third longer when the pixels
    are wanted at once. Memory that begins 8 bytes beside has no such rows, as long as rows are a multiple of 16 bytes.
    """
    return memory[(8 - memory.ctypes.data) % 16 :]


class TileMemory:
    """Memory for tiles that is used again and again; safe to use from several threads.

    The system clears fresh memory page by page when it is first written, which takes half as long as decoding a JPEG tile.
    """

    def __init__(self, spare_bytes: int = SPARE_BYTES) -> None:
        self.spare_bytes = spare_bytes
        self._spare: dict[tuple[int, ...], list[RGBArray]] = {}
        self._n_bytes = 0
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, int, int]) -> RGBArray:
        """Memory for one tile, whatever lies in it."""
        with self._lock:
            if not self._spare.get(shape):
                n_bytes = int(np.prod(shape))
                n_tiles = max(1, -(-_SLAB_BYTES // n_bytes)) if n_bytes < _SLAB_BYTES else 1
                slab = beside_vectors(np.empty(n_tiles * n_bytes + BESIDE_BYTES, dtype=np.uint8))[: n_tiles * n_bytes].reshape(n_tiles, *shape)
                self._spare[shape] = list(slab)
                self._n_bytes += slab.nbytes
            memory = self._spare[shape].pop()
            self._n_bytes -= memory.nbytes
            return memory

    def give_back(self, memory: RGBArray) -> None:
        """Say that memory is no longer in use."""
        with self._lock:
            if self._n_bytes + memory.nbytes > self.spare_bytes:
                # Room for the tiles of today: those of another shape belong to slides of yesterday.
                for shape in [shape for shape in self._spare if shape != memory.shape]:
                    self._n_bytes -= sum(old.nbytes for old in self._spare.pop(shape))
            if self._n_bytes + memory.nbytes <= self.spare_bytes:
                self._spare.setdefault(memory.shape, []).append(memory)
                self._n_bytes += memory.nbytes


@dataclass(eq=False, slots=True)
class Kept:
    """A decoded tile that several requests may need; ``pixels`` is None where nothing is stored."""

    memory: RGBArray | None = None
    pixels: RGBArray | None = None
    error: BaseException | None = None
    is_ready: bool = False
    n_users: int = 1

    @property
    def n_bytes(self) -> int:
        """Bytes of its pixels."""
        return 0 if self.pixels is None else self.pixels.nbytes


class TileCache:
    """Decoded tiles of several sources, the longest unused dropped first; safe to use from several threads.

    A tile that one thread is decoding is waited for by the others, not decoded again.

    Parameters
    ----------
    capacity_bytes : int
        Most bytes kept; tiles in use may exceed it while they are.
    memory : TileMemory or None
        Where tiles lie; None makes one.
    """

    def __init__(self, capacity_bytes: int = CACHE_BYTES, memory: TileMemory | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.memory = TileMemory() if memory is None else memory
        # The source used last comes last, and so does each source's tile.
        self._kept: OrderedDict[int, OrderedDict[Key, Kept]] = OrderedDict()
        self._n_bytes: dict[int, int] = {}
        self._n_bytes_of_all = 0
        self._gone: deque[int] = deque()
        self._lock = threading.Lock()
        self._is_published = threading.Condition(self._lock)

    @property
    def n_bytes(self) -> int:
        """Bytes of the decoded tiles that are kept."""
        return self._n_bytes_of_all

    def holds(self, source: int, key: Key) -> bool:
        """Whether a tile is kept or being decoded."""
        return key in self._kept.get(source, ())

    def claim(self, source: int, key: Key, *, may_wait: bool) -> tuple[Kept | None, bool]:
        """Return a tile and whether the caller must decode and publish it; no tile where another thread is at it and the caller may not wait."""
        with self._lock:
            self._sweep()
            tiles = self._kept.get(source)
            if tiles is None:
                tiles = self._kept[source] = OrderedDict()
            self._kept.move_to_end(source)
            kept = tiles.get(key)
            if kept is None:
                kept = tiles[key] = Kept()
                return kept, True
            if not kept.is_ready and not may_wait:
                return None, False
            tiles.move_to_end(key)
            kept.n_users += 1
            while not kept.is_ready:
                self._is_published.wait()
        return kept, False

    def publish(self, source: int, key: Key, kept: Kept) -> None:
        """Hand a claimed tile to all who wait for it; one that failed is told to them and forgotten."""
        with self._lock:
            tiles = self._kept[source]
            if kept.error is None:
                self._count(source, kept.n_bytes)
            else:
                del tiles[key]
            kept.is_ready = True
            self._is_published.notify_all()

    def release(self, source: int, kept: Kept, *, quota_bytes: int) -> None:
        """Say that a tile is no longer in use; beyond its source's quota, or the capacity, the longest unused are dropped."""
        with self._lock:
            kept.n_users -= 1
            while self._n_bytes.get(source, 0) > quota_bytes and self._drop_oldest(source):
                pass
            while self._n_bytes_of_all > self.capacity_bytes and any(self._drop_oldest(other) for other in list(self._kept)):
                pass

    def _drop_oldest(self, source: int) -> bool:
        tiles = self._kept[source]
        oldest = next((key for key, old in tiles.items() if old.n_users == 0), None)
        if oldest is not None:
            self._drop(source, tiles, oldest)
        return oldest is not None

    def _drop(self, source: int, tiles: OrderedDict[Key, Kept], key: Key) -> None:
        kept = tiles.pop(key)
        self._count(source, -kept.n_bytes)
        if kept.memory is not None:
            self.memory.give_back(kept.memory)

    def _count(self, source: int, n_bytes: int) -> None:
        self._n_bytes[source] = self._n_bytes.get(source, 0) + n_bytes
        self._n_bytes_of_all += n_bytes

    def leave(self, source: int) -> None:
        """Say that a source is gone. Takes no lock: the collector may call it in the middle of any line of this class."""
        self._gone.append(source)

    def forget(self, source: int) -> None:
        """Drop the tiles of a source."""
        self.leave(source)
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        """Drop the tiles of sources that are gone; what is in use stays until nobody uses it and room is needed."""
        for _ in range(len(self._gone)):
            source = self._gone.popleft()
            tiles = self._kept.get(source, OrderedDict())
            for key in [key for key, kept in tiles.items() if kept.n_users == 0]:
                self._drop(source, tiles, key)
            if not tiles:
                self._kept.pop(source, None)
                self._n_bytes.pop(source, None)


SHARED = TileCache()
"""The cache of all slides."""
