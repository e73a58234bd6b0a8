"""Worker of tiatoolbox."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from delivering import Peer, serve
from lattice import Lattice
from tiatoolbox.wsicore.wsireader import WSIReader


class Tiatoolbox(Peer):
    """Tiatoolbox's reader of the file, as it chooses it."""

    includes = "WSIReader.read_rect at level 0, or at the mpp that is asked for, which it reaches by interpolation"

    def open(self, path: str, lattice: Lattice) -> Callable[[int, int], np.ndarray]:
        """Open with the reader that tiatoolbox takes for the file."""
        reader, side = WSIReader.open(path), (lattice.size_px, lattice.size_px)
        resolution, units = (0, "level") if lattice.mpp is None else (lattice.mpp, "mpp")
        return lambda x, y: reader.read_rect((x, y), side, resolution=resolution, units=units)


if __name__ == "__main__":
    serve(Tiatoolbox())
