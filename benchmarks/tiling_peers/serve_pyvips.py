"""Worker of pyvips."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pyvips
from delivering import Peer, serve
from lattice import Lattice


class Pyvips(Peer):
    """Libvips through its TIFF loader."""

    includes = "Region.fetch of Image.new_from_file, one region per thread, the bytes as an array; libvips' cache of opened files is off"

    def open(self, path: str, lattice: Lattice) -> Callable[[int, int], np.ndarray]:
        """Open level 0."""
        if lattice.step_px != lattice.size_px:
            raise ValueError("asked for single tiles it does not resample")
        image, side, own = pyvips.Image.new_from_file(path, access="random"), lattice.size_px, threading.local()
        if image.bands != 3:
            raise ValueError(f"it must have read RGB; got {image.bands} bands, {image.interpretation}")

        def read(x: int, y: int) -> np.ndarray:
            if not hasattr(own, "region"):
                own.region = pyvips.Region.new(image)
            return np.frombuffer(own.region.fetch(x, y, side, side), dtype=np.uint8).reshape(side, side, 3)

        return read


if __name__ == "__main__":
    # Otherwise a file that is opened again is the one opened before, with its decoded tiles.
    pyvips.cache_set_max(0)
    serve(Pyvips())
