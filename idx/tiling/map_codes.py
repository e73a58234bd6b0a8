"""Values of maps as 8 bits, and what a reader must know to have them back."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from idx._typing import Array, Pair
from idx.errors import FormatError
from idx.tiling.stitched_map import coloured


@dataclass(frozen=True)
class Codes:
    """How values become pixels of 8 bits.

    Parameters
    ----------
    n_channels : int
        1, or 3 for RGB pixels that are kept as they are.
    is_exact : bool
        Whether values are whole numbers from 0 to 255 that are kept as they are.
    value_range : tuple of float or None
        Values of the darkest and brightest code; those beyond are clipped. None stands for 0 to 1 and refuses them.
    colours : str or None
        matplotlib colour map; None for grey, which is RGB of equal channels: what reads slides reads RGB.
    name : str
        Of the map, for messages.
    """

    n_channels: int
    is_exact: bool
    value_range: Pair | None
    colours: str | None
    name: str

    def __post_init__(self) -> None:
        if self.n_channels not in (1, 3) or (self.n_channels == 3 and not self.is_exact):
            raise FormatError(
                f"a map must have one channel, or be RGB in uint8, to be shown in 8 bits; got {self.n_channels} channels (map '{self.name}'). "
                "Pass channel=..., or write it to a .zarr."
            )
        if self.colours is not None:
            from matplotlib import colormaps

            if self.n_channels == 3 or self.colours not in colormaps:
                raise FormatError(
                    f"colours must be the name of a matplotlib colour map, for a map of one channel; got {self.colours!r} for {self.n_channels} channels "
                    f"(map '{self.name}'). Pass for example colours='viridis'."
                )

    @property
    def shown_range(self) -> Pair:
        """Values of the darkest and brightest code."""
        return self.value_range or ((0.0, 255.0) if self.is_exact else (0.0, 1.0))

    @property
    def _keeps(self) -> bool:
        return self.is_exact and self.value_range is None

    def encode(self, values: Array, weight: Array) -> Array:
        """Turn values (y, x, c) with the known share (y, x) of each pixel into uint8 (y, x, 3)."""
        is_known = weight > 0
        if self.n_channels == 3:
            return np.where(is_known[..., None], np.rint(values), 255).astype(np.uint8)
        low, high = self.shown_range
        first = values[..., 0].astype(np.float64)
        if self.value_range is None and not self.is_exact and is_known.any():
            least, greatest = first[is_known].min(), first[is_known].max()
            if least < low or greatest > high:
                raise FormatError(
                    f"values must lie in {low:g}..{high:g} to be shown in 8 bits; got {least:g}..{greatest:g} (map '{self.name}'). "
                    "Pass value_range=(low, high), or write it to a .zarr."
                )
        share = np.clip((first - low) / (high - low), 0.0, 1.0)
        if self.colours is not None:
            return coloured(np.rint(share * 255.0).astype(np.uint8), self.colours, is_known=is_known)
        codes = np.rint(first) if self._keeps else 1.0 + np.rint(share * 254.0)
        return np.repeat(np.where(is_known, codes, 0).astype(np.uint8)[..., None], 3, axis=-1)

    def description(self, **facts: object) -> str:
        """ASCII JSON of how values became pixels, for the file."""
        low, high = self.shown_range
        if self.n_channels == 3:
            meaning = "RGB; white where no tile looked"
        elif self.colours is not None:
            meaning = f"matplotlib colours '{self.colours}' from {low:g} to {high:g}; white where no tile looked"
        elif self._keeps:
            meaning = "value; 0 also where no tile looked"
        else:
            meaning = f"0: no tile looked; 1 to 255: {low:g} + (code - 1) / 254 * {high - low:g}, clipped"
        return json.dumps({"idx_map": {"name": self.name, "value_range": [low, high], "codes": meaning, **facts}})
