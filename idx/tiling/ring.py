"""Tiles decoded ahead of their use: threads fill a ring of a few batches, and its size holds them back."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from idx._typing import IntArray, RGBArray
from idx.errors import PixelAccessError
from idx.io.tile_cache import BESIDE_BYTES, beside_vectors
from idx.kernels.area import area_average_on_device
from idx.slide import DevicePixelSource, TileRect
from idx.tiling.planning import TileGrid
from idx.tiling.reading import averaging_taps, read_each
from idx.tiling.results import TileFailure

if TYPE_CHECKING:
    import torch

_TILES_PER_READ = 32
"""Most tiles that a thread reads at a time. Neighbours that are read together share more stored tiles, each of which is looked up once a read."""
BATCHES_AHEAD = 2
"""Batches decoded or waiting beyond the one that is computed."""
KEPT_BYTES = 64 << 20
"""Memory of batches that is kept from one run to the next."""


@dataclass(frozen=True, eq=False)
class DecodedBatch:
    """Pixels of some tiles of a plan, on the device.

    Parameters
    ----------
    grid : TileGrid
    tiles : int array (m,)
        The tiles that could be read.
    pixels : uint8 tensor (m, y, x, 3)
    failures : tuple of TileFailure
        Those that could not.
    """

    grid: TileGrid
    tiles: IntArray
    pixels: torch.Tensor
    failures: tuple[TileFailure, ...]


@dataclass(frozen=True, eq=False)
class _Begun:
    """A batch that threads are reading, in pieces that begin at a position each, or as a whole on the device."""

    grid: TileGrid
    tiles: IntArray
    place: _Place
    reads: dict[int, Future[dict[int, PixelAccessError]]]
    on_device: Future[torch.Tensor] | None = None

    def cancel(self) -> None:
        for read in self.reads.values():
            read.cancel()
        if self.on_device is not None:
            self.on_device.cancel()


@dataclass(frozen=True, eq=False)
class _Read:
    """A batch that was read; ``pixels`` are an array, or a tensor where they were decoded on the device."""

    grid: TileGrid
    tiles: IntArray
    pixels: RGBArray | torch.Tensor
    failures: tuple[TileFailure, ...] = ()


class _Memory:
    """Memory for batches that is used again and again, by one run after the other; safe to use from several threads.

    The system clears fresh memory page by page when it is first written, which takes half as long as decoding a JPEG tile into it. A function may
    keep the tensor it was given, and must find it unchanged: memory is used again only once nobody looks at it any more.
    """

    def __init__(self, *, is_pinned: bool) -> None:
        self._is_pinned = is_pinned
        self._pieces: list[RGBArray] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, int, int, int]) -> RGBArray:
        n_bytes = math.prod(shape)
        needed = n_bytes + BESIDE_BYTES
        with self._lock:
            # The piece that was taken last comes last, and what is still in the processor's cache is written fastest.
            found = next((k for k in reversed(self._unused()) if needed <= len(self._pieces[k]) <= 2 * needed), None)
            self._pieces.append(self._new(needed) if found is None else self._pieces.pop(found))
            return beside_vectors(self._pieces[-1])[:n_bytes].reshape(shape)

    def trim(self, n_bytes: int) -> None:
        """Let go of the longest unused pieces beyond so many bytes."""
        with self._lock:
            for k in self._unused():
                if sum(map(len, self._pieces)) <= n_bytes:
                    break
                self._pieces[k] = self._pieces[k][:0].copy()
            self._pieces = [piece for piece in self._pieces if len(piece)]

    def _unused(self) -> list[int]:
        # One reference is the list's, one the call's: a view of it, array or tensor, would hold another.
        return [k for k in range(len(self._pieces)) if sys.getrefcount(self._pieces[k]) == 2]

    def _new(self, n_bytes: int) -> RGBArray:
        if not self._is_pinned:
            return np.empty(n_bytes, dtype=np.uint8)
        import torch

        return torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True).numpy()


class _Place:
    """Memory of a batch, taken when the first of its tiles is read: while a batch only waits to be read it needs none."""

    def __init__(self, memory: _Memory, shape: tuple[int, int, int, int]) -> None:
        self._memory, self._shape = memory, shape
        self._pixels: RGBArray | None = None
        self._lock = threading.Lock()

    @property
    def pixels(self) -> RGBArray:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._memory.take(self._shape)
            return self._pixels


class _QuickSwitching:
    """While any run is on, threads hand the interpreter over within half a millisecond instead of five.

    A decoding thread holds it for some microseconds a tile. With the usual interval the threads that want it then queue for longer than that: two
    decoding threads came to 1.6 times one, with this to 1.8 times.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_runs = 0
        self._before_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._n_runs += 1
            if self._n_runs == 1:
                self._before_s = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before_s, _SWITCH_S))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_runs -= 1
            if self._n_runs == 0:
                sys.setswitchinterval(self._before_s)


_SWITCH_S = 0.0005
_SWITCHING = _QuickSwitching()
_MEMORY, _PINNED = _Memory(is_pinned=False), _Memory(is_pinned=True)


def decode_ahead(plan: Iterable[tuple[TileGrid, IntArray]], *, device: torch.device, workers: int) -> Generator[DecodedBatch]:
    """Yield batches in the order of ``plan``, decoded by ``workers`` threads while the one before is used.

    Parameters
    ----------
    plan : iterable of (TileGrid, int array)
        Which tiles of which plan make a batch.
    device : torch.device
        Where the pixels are wanted. On CUDA they are averaged there, where the plan averages, and copied on a stream of their own.
    workers : int
    """
    read = _read_ahead(iter(plan), device=device, workers=workers)
    return _copied(read, device) if device.type == "cuda" else _wrapped(read, device)


def _read_ahead(plan: Iterator[tuple[TileGrid, IntArray]], *, device: torch.device, workers: int) -> Generator[_Read]:
    memory = _PINNED if device.type == "cuda" else _MEMORY
    waiting: deque[_Begun] = deque()
    with _SWITCHING, ThreadPoolExecutor(workers, thread_name_prefix="idx-decode") as pool:
        try:
            while True:
                while len(waiting) <= BATCHES_AHEAD and (item := next(plan, None)) is not None:
                    waiting.append(_begun(*item, pool, memory, device=device, workers=workers))
                if not waiting:
                    return
                yield _ended(waiting.popleft(), device)
        finally:
            # After an error the reads that have not begun are dropped; those under way end before the pool closes.
            for batch in waiting:
                batch.cancel()
            memory.trim(KEPT_BYTES)


def _begun(grid: TileGrid, tiles: IntArray, pool: ThreadPoolExecutor, memory: _Memory, *, device: torch.device, workers: int) -> _Begun:
    as_stored = _is_averaged_on(device, grid)
    width, height = grid.read_size_px if as_stored else (grid.size_px, grid.size_px)
    place = _Place(memory, (len(tiles), height, width, 3))
    if device.type == "cuda" and isinstance(grid.slide.pixels, DevicePixelSource):
        return _Begun(grid, tiles, place, {}, pool.submit(_decoded_on, device, grid.slide.pixels, grid, tiles))
    step = max(1, min(_TILES_PER_READ, -(-len(tiles) // workers)))
    parts = {k: slice(k, k + step) for k in range(0, len(tiles), step)}
    return _Begun(grid, tiles, place, {k: pool.submit(_read_part, place, grid, tiles, part, as_stored=as_stored) for k, part in parts.items()})


def _read_part(place: _Place, grid: TileGrid, tiles: IntArray, part: slice, *, as_stored: bool) -> dict[int, PixelAccessError]:
    return read_each(place.pixels[part], grid, tiles[part], as_stored=as_stored)


def _is_averaged_on(device: torch.device, grid: TileGrid) -> bool:
    """Whether stored pixels are averaged on the device: on a CPU the decoding threads do it."""
    return device.type == "cuda" and grid.is_resampled


def _decoded_on(device: torch.device, source: DevicePixelSource, grid: TileGrid, tiles: IntArray) -> torch.Tensor:
    width, height = grid.read_size_px
    return source.read_tiles_on_device([TileRect(grid.level, x, y, width, height) for x, y in grid.read_rects_px[tiles, :2].tolist()], device)


def _ended(batch: _Begun, device: torch.device) -> _Read:
    """Wait for the reads of a batch and leave out the tiles that failed."""
    failed: dict[int, PixelAccessError] = {}
    if batch.on_device is not None:
        try:
            return _Read(batch.grid, batch.tiles, batch.on_device.result())
        except PixelAccessError:
            # One damaged tile costs no other: the CPU reads them one by one.
            failed = read_each(batch.place.pixels, batch.grid, batch.tiles, as_stored=_is_averaged_on(device, batch.grid))
    for first, read in batch.reads.items():
        failed.update({first + k: error for k, error in read.result().items()})
    if not failed:
        return _Read(batch.grid, batch.tiles, batch.place.pixels)
    good = np.setdiff1d(np.arange(len(batch.tiles)), list(failed))
    failures = tuple(TileFailure(int(batch.tiles[k]), "read", error) for k, error in sorted(failed.items()))
    return _Read(batch.grid, batch.tiles[good], batch.place.pixels[good], failures)


def _wrapped(batches: Generator[_Read], device: torch.device) -> Generator[DecodedBatch]:
    """Batches on a device that shares the host's memory or copies by itself."""
    import torch

    with closing(batches):
        for read in batches:
            yield DecodedBatch(read.grid, read.tiles, torch.as_tensor(read.pixels).to(device), read.failures)


def _copied(batches: Generator[_Read], device: torch.device) -> Generator[DecodedBatch]:
    """Batches copied to a CUDA device one ahead, on a stream of their own, so that the copy of one overlaps the computing of the one before."""
    import torch

    copying = torch.cuda.Stream(device)
    before: tuple[_Read, torch.Tensor, torch.cuda.Event] | None = None
    with closing(batches):
        for read in batches:
            with torch.cuda.stream(copying):
                pixels = torch.as_tensor(read.pixels).to(device, non_blocking=True)
                is_copied = torch.cuda.Event()
                is_copied.record(copying)
            if before is not None:
                yield _arrived(*before)
            before = (read, pixels, is_copied)
    if before is not None:
        yield _arrived(*before)


def _arrived(read: _Read, pixels: torch.Tensor, is_copied: torch.cuda.Event) -> DecodedBatch:
    """A copied batch, averaged on the device where its plan averages."""
    import torch

    computing = torch.cuda.current_stream(pixels.device)
    computing.wait_event(is_copied)
    pixels.record_stream(computing)
    is_copied.synchronize()  # until then the pinned memory must not be filled anew
    if read.grid.is_resampled and len(read.tiles):
        rows, columns = averaging_taps(read.grid, read.tiles)
        pixels = area_average_on_device(pixels, rows=rows, columns=columns)
    return DecodedBatch(read.grid, read.tiles, pixels, read.failures)
