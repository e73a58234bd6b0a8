"""A dense map of a slide as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from idx._repr import card, windowed
from idx._typing import Array, FloatArray, Pair, RGBArray
from idx.tiling.grid import TileGrid


@dataclass(frozen=True, eq=False)
class StitchedMap:
    """A dense map of a slide.

    Parameters
    ----------
    values : array, zarr.Array or None
        Finest level. In memory float (y, x) or (y, x, c), NaN where no tile looked; a label image int32 (y, x), 0 there. In a ``.zarr`` the same with
        channels first, (c, y, x), read as it is sliced. None for a ``.tif``, which is a picture for viewers.
    grid : TileGrid
        The plan whose lattice it lies on.
    factor : int
        Delivered pixels of the plan per pixel of the map, along each axis.
    name : str
    preview : array (y, x) or (y, x, c)
        A coarse level, in memory.
    value_range : tuple of float
        Values that are shown as darkest and brightest.
    colours : str or None
        matplotlib colour map of its pictures; None stands for "viridis", and for grey in a ``.tif``.
    levels : tuple of arrays
        All levels, finest first, as napari takes them with ``multiscale=True``; for a ``.tif`` empty.
    path : Path or None
        Where it was written.
    """

    values: Any
    grid: TileGrid
    factor: int
    name: str
    preview: Array
    value_range: Pair
    colours: str | None = None
    levels: tuple[Any, ...] = ()
    path: Path | None = None

    @property
    def mpp(self) -> Pair:
        """Um per pixel (x, y)."""
        return self.grid.mpp[0] * self.factor, self.grid.mpp[1] * self.factor

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        width, height = self.grid.extent_px
        return -(-width // self.factor), -(-height // self.factor)

    @property
    def origin_um(self) -> Pair:
        """Centre (x, y) of the first pixel in um."""
        x, y = self.to_um(np.zeros(2)).tolist()
        return x, y

    def to_um(self, position_px: Array) -> FloatArray:
        """Map pixel positions (..., 2) (x, y) of the map to um in the slide's frame; an integer is a pixel centre."""
        return self.grid.lattice_to_um(np.asarray(position_px, dtype=np.float64) * self.factor + (self.factor - 1) / 2.0)

    def to_px(self, points_um: Array) -> FloatArray:
        """Map points (..., 2) in um to fractional pixel positions (x, y) of the map."""
        return np.asarray((self.grid.um_to_lattice(points_um) - (self.factor - 1) / 2.0) / self.factor)

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        width, height = self.size_px
        rows: list[tuple[str, object]] = [
            ("size", f"{width:,} x {height:,} px, {width * self.mpp[0] / 1000:.2f} x {height * self.mpp[1] / 1000:.2f} mm"),
            ("mpp (x, y)", f"{self.mpp[0]:.4g}, {self.mpp[1]:.4g} um/px"),
            ("shown", f"{self.value_range[0]:.4g} to {self.value_range[1]:.4g}"),
            ("slide", self.grid.slide.name),
        ]
        return rows + ([("file", str(self.path))] if self.path else [])

    def __repr__(self) -> str:
        width, height = self.size_px
        where = f", '{self.path}'" if self.path else ""
        return f"StitchedMap('{self.name}', {width} x {height} px at {self.mpp[0]:.4g} um/px of '{self.grid.slide.name}'{where})"

    def _repr_html_(self) -> str:
        return card(f"StitchedMap {self.name}", self.facts(), [("preview", self._picture())])

    def _picture(self) -> RGBArray:
        """The preview in colours, white where nothing is known."""
        shown = np.asarray(self.preview, dtype=np.float64)
        if shown.ndim == 3 and shown.shape[2] == 3:
            return np.where(np.isnan(shown), 255, windowed(shown, *self.value_range)).astype(np.uint8)
        first = shown if shown.ndim == 2 else shown[..., 0]
        return coloured(windowed(first, *self.value_range), self.colours or "viridis", is_known=~np.isnan(first))


def coloured(shade: Array, colours: str, *, is_known: Array) -> RGBArray:
    """Shades 0..255 (y, x) in the colours of a matplotlib map, white where nothing is known; uint8 (y, x, 3)."""
    from matplotlib import colormaps

    table = np.round(colormaps[colours](np.linspace(0.0, 1.0, 256))[:, :3] * 255.0).astype(np.uint8)
    picture = table[shade]
    picture[~is_known] = 255
    return np.asarray(picture)
