"""A slide, or a region of it, as one coarse picture."""

from __future__ import annotations

from idx.slide import Slide
from idx.tiling.regions import Region, read_region


def read_overview(slide: Slide, *, mpp: float, bounds_um: tuple[float, float, float, float] | None = None, progress: bool | None = None) -> Region:
    """Read a slide at ``mpp`` um per pixel, or at its own where that is coarser; otherwise :func:`idx.tiling.read_region`."""
    return read_region(slide, bounds_um, mpp=max(mpp, max(slide.mpp)), progress=progress)
