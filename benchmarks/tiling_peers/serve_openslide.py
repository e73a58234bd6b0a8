"""Worker of OpenSlide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openslide
from delivering import Peer, serve
from lattice import Lattice
from PIL import Image


class OpenSlide(Peer):
    """OpenSlide as its users call it."""

    includes = (
        "read_region of level 0, converted to RGB and to an array; where another mpp than the slide's is asked for, resized by Pillow's box filter "
        "from the level that OpenSlide names as the best"
    )

    def open(self, path: str, lattice: Lattice) -> Callable[[int, int], np.ndarray]:
        """Open a slide with a cache of its own."""
        slide = self.slide = openslide.OpenSlide(path)
        side = (lattice.size_px, lattice.size_px)
        if lattice.step_px == lattice.size_px:
            return lambda x, y: np.asarray(slide.read_region((x, y), 0, side).convert("RGB"))
        level = slide.get_best_level_for_downsample(lattice.step_px / lattice.size_px)
        read_px = round(lattice.step_px / slide.level_downsamples[level])
        return lambda x, y: np.asarray(slide.read_region((x, y), level, (read_px, read_px)).convert("RGB").resize(side, Image.Resampling.BOX))

    def close(self) -> None:
        """Close the slide."""
        self.slide.close()


if __name__ == "__main__":
    serve(OpenSlide())
