"""Coding of tiles in threads, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from idx._typing import RGBArray

_CODED_AHEAD = 8
"""Tiles per thread that are being coded or wait to be written."""


def coded_in_threads(tiles: Iterable[tuple[int, RGBArray]], encode: Callable[[RGBArray], bytes], *, workers: int) -> Iterator[tuple[int, bytes]]:
    """Code tiles in threads and yield them in their order."""
    waiting: deque[tuple[int, Future[bytes]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="idx-encode") as pool:
        try:
            for level, tile in tiles:
                waiting.append((level, pool.submit(encode, tile)))
                if len(waiting) > _CODED_AHEAD * workers:
                    level, block = waiting.popleft()
                    yield level, block.result()
            for level, block in waiting:
                yield level, block.result()
        finally:
            for _, block in waiting:
                block.cancel()
