"""Worker of idx, through one of its entries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from delivering import Keep, Peer, discard, serve
from lattice import Lattice
from planned import planned
from serving import THREADS

import idx

ENTRY = sys.argv[1]
BATCH_SIZE = 32
ENTRIES = {
    "run": "idx.tiling.run of a function that takes one sample per tile, device 'cpu'",
    "stream": "idx.tiling.stream of a function that takes one sample per tile, device 'cpu'",
    "read_tiles": "idx.tiling.read_tiles in this thread",
}


class Idx(Peer):
    """idx with as many decoding threads as the worker may have."""

    includes = f"{ENTRIES[ENTRY]}; batches of {BATCH_SIZE}"

    def job(self, path: str, lattice: Lattice) -> Callable[[Keep], None]:
        """Open the slide and plan the tiles."""
        slide = idx.open_slide(path)
        grid = planned(slide, lattice)
        # A plan is in the order of the file, which is row by row only where stored tiles are no larger than those that are asked for.
        number = grid.row * lattice.columns + grid.column

        def call(keep: Keep) -> None:
            with slide:
                for tiles, values in delivered(slide, grid, sampled if keep is discard else whole):
                    for tile, value in zip(tiles, values, strict=True) if keep is not discard else ():
                        keep(int(number[tile]), value)

        return call


def sampled(batch: torch.Tensor) -> torch.Tensor:
    """One sample of each tile."""
    return batch[:, 0, 0, 0]


def whole(batch: torch.Tensor) -> torch.Tensor:
    """The pixels themselves."""
    return batch


def delivered(slide: idx.Slide, grid: idx.tiling.TileGrid, fn: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """Go through the tiles by this worker's entry; yield tiles of the plan and what ``fn`` returned for them."""
    options = {"device": "cpu", "batch_size": BATCH_SIZE, "workers": THREADS, "progress": False}
    if ENTRY == "run":
        yield range(len(grid)), idx.tiling.run(fn, slide, grid, **options).values
    elif ENTRY == "stream":
        for batch in idx.tiling.stream(fn, slide, grid, **options):
            yield batch.tiles, batch.values
    else:
        for first in range(0, len(grid), BATCH_SIZE):
            tiles = range(first, min(first + BATCH_SIZE, len(grid)))
            yield tiles, fn(torch.from_numpy(idx.tiling.read_tiles(grid, tiles))).numpy()


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    serve(Idx())
