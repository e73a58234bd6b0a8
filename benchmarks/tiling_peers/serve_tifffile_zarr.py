"""Worker of tifffile's zarr store."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tifffile
import zarr
from delivering import Peer, serve
from lattice import Lattice


class TifffileZarr(Peer):
    """Level 0 as a zarr array, sliced."""

    includes = "slices of zarr.open(tifffile.imread(path, aszarr=True)); stored tiles are decoded again for each slice that touches them"

    def open(self, path: str, lattice: Lattice) -> Callable[[int, int], np.ndarray]:
        """Open level 0."""
        if lattice.step_px != lattice.size_px:
            raise ValueError("it does not resample")
        self.store = tifffile.imread(path, aszarr=True, level=0)
        array, side = zarr.open(self.store, mode="r"), lattice.size_px
        return lambda x, y: array[y : y + side, x : x + side]

    def close(self) -> None:
        """Close the file."""
        self.store.close()


if __name__ == "__main__":
    serve(TifffileZarr())
