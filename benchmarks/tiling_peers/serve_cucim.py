"""Worker of cuCIM on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cucim import CuImage
from delivering import Peer, serve
from lattice import Lattice


class Cucim(Peer):
    """CuCIM into host memory."""

    includes = "CuImage.read_region of level 0 on the CPU, as an array; its cache is off, as it is by default"

    def open(self, path: str, lattice: Lattice) -> Callable[[int, int], np.ndarray]:
        """Open level 0."""
        if lattice.step_px != lattice.size_px:
            raise ValueError("it does not resample")
        image, side = CuImage(path), (lattice.size_px, lattice.size_px)
        return lambda x, y: np.asarray(image.read_region((x, y), side, level=0, device="cpu"))


if __name__ == "__main__":
    serve(Cucim())
