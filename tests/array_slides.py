"""Slides made of arrays, so that tiling is tested without a file."""

from collections.abc import Sequence

import numpy as np

from idx.errors import PixelAccessError
from idx.slide import Level, Slide, TileRect


class ArrayPixels:
    """A pixel source over arrays; ``broken`` is a level-0 pixel (x, y) that cannot be decoded."""

    name = "array"

    def __init__(self, levels: Sequence[np.ndarray], *, broken: tuple[int, int] | None = None) -> None:
        self.arrays = list(levels)
        self.levels = tuple(Level(a.shape[1], a.shape[0], levels[0].shape[1] / a.shape[1]) for a in levels)
        self.broken = broken

    def read_tiles_into(self, batch: np.ndarray, tiles: Sequence[TileRect]) -> None:
        for out, t in zip(batch, tiles, strict=True):
            if self.broken and t.x_px <= self.broken[0] < t.x_px + t.width_px and t.y_px <= self.broken[1] < t.y_px + t.height_px:
                raise PixelAccessError("a tile's bytes must decode; got garbage.")
            out[:] = 255
            array = self.arrays[t.level]
            x0, y0 = max(t.x_px, 0), max(t.y_px, 0)
            x1, y1 = min(t.x_px + t.width_px, array.shape[1]), min(t.y_px + t.height_px, array.shape[0])
            if x1 > x0 and y1 > y0:
                out[y0 - t.y_px : y1 - t.y_px, x0 - t.x_px : x1 - t.x_px] = array[y0:y1, x0:x1]

    def close(self) -> None:
        pass


def array_slide(*levels: np.ndarray, mpp: float | tuple[float, float] = 0.5, broken: tuple[int, int] | None = None) -> Slide:
    pair = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    return Slide(ArrayPixels(levels, broken=broken), pair, "array")


class NoPixels(ArrayPixels):
    """A source that only knows its levels: a plan must not read."""

    def __init__(self, width: int, height: int, downsamples: Sequence[int] = (1,)) -> None:
        self.levels = tuple(Level(-(-width // d), -(-height // d), float(d)) for d in downsamples)

    def read_tiles_into(self, batch: np.ndarray, tiles: Sequence[TileRect]) -> None:
        raise AssertionError("a plan read pixels")


def planned_slide(width: int, height: int, *, mpp: float = 0.5, downsamples: Sequence[int] = (1,)) -> Slide:
    return Slide(NoPixels(width, height, downsamples), (mpp, mpp), "planned")
