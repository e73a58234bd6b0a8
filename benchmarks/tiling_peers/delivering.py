"""The worker's side: deliver the tiles of a lattice as uint8 RGB arrays, timed or kept. Beside the standard library it needs numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import serving
from lattice import Lattice

TILES_PER_TURN = 32
"""Neighbours that one of several threads reads at a time."""

Keep = Callable[[int, Any], None]
"""Takes the number of a tile in the lattice and its pixels."""


def discard(number: int, pixels: object) -> None:
    """Let a delivered tile go."""


class Peer:
    """What a worker script provides: ``open`` and ``close``, or ``job`` where tiles are not read one by one."""

    includes: str
    """What is timed."""

    def open(self, path: str, lattice: Lattice) -> Callable[[int, int], Any]:
        """Open a slide anew, without what earlier calls have cached; return what reads the tile at a level-0 pixel (x, y). Not timed."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what ``open`` opened, after the call. Not timed."""

    def job(self, path: str, lattice: Lattice) -> Callable[[Keep], None]:
        """Prepare the timed call, which hands every tile to ``keep``; several threads read neighbouring tiles each."""
        read, corners = self.open(path, lattice), lattice.corners()

        def deliver(numbers: Sequence[int], keep: Keep) -> None:
            for number in numbers:
                keep(number, read(*corners[number]))

        return lambda keep: in_threads(lambda numbers: deliver(numbers, keep), range(len(corners)))


def memory_for_jpeg(shape: Sequence[int]) -> np.ndarray:
    """Memory that libjpeg-turbo fills fastest: into addresses that are multiples of 32 it stores past the cache, which costs it a third more."""
    n_bytes = int(np.prod(shape))
    memory = np.empty(n_bytes + 32, dtype=np.uint8)
    first = (16 - memory.ctypes.data) % 32
    return memory[first : first + n_bytes].reshape(shape)


def in_threads(do: Callable[[Sequence[int]], None], numbers: Sequence[int]) -> None:
    """Call ``do`` on all numbers in this thread, or on runs of them in as many threads as the worker may have."""
    if serving.THREADS == 1:
        do(numbers)
        return
    with ThreadPoolExecutor(serving.THREADS) as pool:
        for _ in pool.map(do, (numbers[k : k + TILES_PER_TURN] for k in range(0, len(numbers), TILES_PER_TURN))):
            pass


def serve(peer: Peer) -> None:
    """Answer requests until stdin ends."""
    serving.serve(lambda request: answer(peer, request), includes=peer.includes)


def answer(peer: Peer, request: Mapping[str, Any]) -> dict[str, object]:
    """Deliver a lattice: into a file of pixels if one is named, otherwise timed, as many times as are asked for and opened anew for each."""
    lattice = Lattice(**request["lattice"])
    if request["pixels"]:
        shape = (len(lattice), lattice.size_px, lattice.size_px, 3)
        kept = np.lib.format.open_memmap(request["pixels"], mode="w+", dtype=np.uint8, shape=shape)
        peer.job(str(request["slide"]), lattice)(lambda number, pixels: _keep(kept, number, pixels))
        peer.close()
        kept.flush()
        return {"shape": shape}
    wall_s, cpu_s, others_s = 0.0, 0.0, 0.0
    for _ in range(int(request["passes"])):
        call = peer.job(str(request["slide"]), lattice)
        done = serving.timed(partial(call, discard))
        peer.close()
        wall_s, cpu_s, others_s = wall_s + done.wall_s, cpu_s + done.cpu_s, others_s + (done.others_s or 0.0)
    return {"wall_s": wall_s, "cpu_s": cpu_s, "others_s": others_s, "peak_bytes": serving.peak_bytes()}


def _keep(kept: Any, number: int, pixels: Any) -> None:
    if pixels.dtype != np.uint8 or pixels.shape != kept.shape[1:]:
        raise ValueError(f"a tile must be uint8 {kept.shape[1:]}; got {pixels.dtype} {pixels.shape}")
    kept[number] = pixels
