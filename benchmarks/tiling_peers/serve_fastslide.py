"""Worker of fastslide."""

from __future__ import annotations

from collections.abc import Callable

import fastslide
import numpy as np
from delivering import Peer, serve
from lattice import Lattice


class Fastslide(Peer):
    """Fastslide with the cache that it has by default, emptied for each call."""

    includes = "FastSlide.read_region of level 0, as an array; its cache as it is by default, empty at the beginning"

    def open(self, path: str, lattice: Lattice) -> Callable[[int, int], np.ndarray]:
        """Open level 0."""
        if lattice.step_px != lattice.size_px:
            raise ValueError("it does not resample")
        slide, side = fastslide.FastSlide.from_file_path(path), (lattice.size_px, lattice.size_px)
        slide.clear_cache()
        return lambda x, y: slide.read_region((x, y), 0, side).numpy()


if __name__ == "__main__":
    serve(Fastslide())
