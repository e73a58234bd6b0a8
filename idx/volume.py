"""Volumes and masks: values on a grid in the patient frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from idx._repr import card, square_pixels, windowed
from idx._typing import Array, BoolArray, FrozenMapping, Triple
from idx.errors import GeometryError, UnitError
from idx.geometry.grids import Grid
from idx.provenance import Source

CT_WINDOW_HU = (-1000.0, 400.0)
"""Window of thumbnails: lung to bone in one picture."""


def _frozen_array(values: Array) -> Array:
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


def _check_shape(values: Array, grid: Grid, what: str) -> None:
    if values.shape != grid.shape:
        raise GeometryError(f"{what} must have the grid's shape {grid.shape} (z, y, x); got {values.shape}. Check the axis order of the array.")


@dataclass(frozen=True, eq=False)
class Volume:
    """Scalar values on a 3-D grid.

    Parameters
    ----------
    values : array (z, y, x)
        Integer or floating values; kept without a copy, read-only.
    grid : Grid
        Where the voxels are, mm.
    quantity : str
        What the values are, with the unit where it has one: "suv", "adc_mm2_per_s", "t1w" ...
    source : Source or None
        Files it was read from; None for values made in memory.
    header : mapping
        Acquisition facts a reader may want (manufacturer, kernel, kVp ...): plain strings.
    """

    values: Array
    grid: Grid
    quantity: str = "arbitrary"
    source: Source | None = None
    header: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = _frozen_array(self.values)
        _check_shape(values, self.grid, "volume values")
        if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
            raise GeometryError(f"volume values must be integer or floating; got {values.dtype}. Use Mask for bool values.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "header", FrozenMapping(dict(self.header)))

    @property
    def spacing_mm(self) -> Triple:
        """Voxel spacing (x, y, z) in mm."""
        return self.grid.spacing_mm

    def with_values(self, values: Array, grid: Grid | None = None) -> Self:
        """Return a volume of other values on this or another grid, without a source: it is no longer what the files say."""
        return replace(self, values=values, grid=grid or self.grid, source=None)

    def _display_window(self) -> tuple[float, float]:
        sample = self.values[:: max(1, self.values.shape[0] // 32)]
        sample = sample[np.isfinite(sample)]
        if sample.size == 0:
            return 0.0, 1.0
        low, high = (float(v) for v in np.percentile(sample, (1, 99)))
        return (low, high) if high > low else (low, low + 1.0)

    def thumbnails(self) -> list[tuple[str, Array]]:
        """Middle slices as captioned uint8 pictures with square mm, seen from the front and from the feet."""
        low, high = self._display_window()
        z, y, x = (n // 2 for n in self.values.shape)
        sx, sy, sz = self.spacing_mm
        cuts = [("axial", self.values[z], sy / sx), ("coronal", self.values[::-1, y], sz / sx), ("sagittal", self.values[::-1, :, x], sz / sy)]
        return [(name, square_pixels(windowed(cut, low, high), aspect)) for name, cut, aspect in cuts]

    def _range(self) -> str:
        finite = self.values[np.isfinite(self.values)] if np.issubdtype(self.values.dtype, np.floating) else self.values
        undefined = self.values.size - finite.size
        limits = f"{finite.min():.6g} to {finite.max():.6g}" if finite.size else "none defined"
        return limits + (f", {undefined:,} undefined" if undefined else "")

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        z, y, x = self.values.shape
        rows: list[tuple[str, object]] = [
            ("voxels (x, y, z)", f"{x} x {y} x {z}"),
            ("spacing (x, y, z)", " x ".join(f"{s:.4g}" for s in self.spacing_mm) + " mm"),
            ("values", f"{self.quantity}, {self.values.dtype}, {self._range()}"),
            ("frame", str(self.grid.frame)),
        ]
        rows += [(name, text) for name, text in self.header.items()]
        return rows + ([("source", self.source.name)] if self.source else [])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.quantity}, {self.grid!r})"

    def _repr_html_(self) -> str:
        return card(type(self).__name__, self.facts(), self.thumbnails())


@dataclass(frozen=True, eq=False, repr=False)
class CTVolume(Volume):
    """CT attenuation in Hounsfield units, int16 (z, y, x)."""

    quantity: str = "hu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantity != "hu":
            raise UnitError(f"CT values must be in HU; got quantity '{self.quantity}'. Use Volume for other quantities.")
        if self.values.dtype.newbyteorder("=") == np.int16:
            object.__setattr__(self, "values", _frozen_array(self.values.astype(np.int16, copy=False)))
        if self.values.dtype != np.int16:
            raise UnitError(f"CT values must be stored as int16 HU; got {self.values.dtype}. Round and convert them, or use Volume for a derived image.")

    def _display_window(self) -> tuple[float, float]:
        return CT_WINDOW_HU


@dataclass(frozen=True, eq=False)
class Mask:
    """A region as bool voxels on a grid.

    Parameters
    ----------
    values : array (z, y, x)
        bool; kept without a copy, read-only.
    grid : Grid
        Where the voxels are, mm.
    label : str
        Name of the structure, such as "GTV-1".
    source : Source or None
        Files it was read from.
    """

    values: BoolArray
    grid: Grid
    label: str = "lesion"
    source: Source | None = None

    def __post_init__(self) -> None:
        values = _frozen_array(self.values)
        _check_shape(values, self.grid, "mask values")
        if values.dtype != np.bool_:
            raise GeometryError(f"mask values must be bool; got {values.dtype} ('{self.label}'). Compare with the wanted label first, for example labels == 1.")
        object.__setattr__(self, "values", values)

    @property
    def n_voxels(self) -> int:
        """Number of voxels inside."""
        return int(np.count_nonzero(self.values))

    @property
    def volume_mm3(self) -> float:
        """Volume by voxel counting in mm3 (IBSI YEKZ)."""
        return self.n_voxels * self.grid.voxel_volume_mm3

    def require_voxels(self) -> Self:
        """Return this mask, or raise where it is empty.

        Raises
        ------
        GeometryError
        """
        if not self.values.any():
            raise GeometryError(
                f"mask must contain at least one voxel; got none (label '{self.label}'{f', {self.source.path}' if self.source else ''}). "
                "Check that the label names the lesion and that the mask belongs to this image."
            )
        return self

    def bounding_box(self, *, pad: int = 0) -> tuple[slice, slice, slice]:
        """Slices (z, y, x) that hold all voxels and ``pad`` more on each side, cut at the grid's border."""
        self.require_voxels()
        slices: list[slice] = []
        for axis in range(3):
            # Beyond the span of the axes before, nothing is left to be found.
            left = self.values[tuple(slices)]
            inside = np.flatnonzero(left.any(axis=tuple(a for a in range(3) if a != axis)))
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
        z, y, x = (slice(max(0, s.start - pad), min(size, s.stop + pad)) for s, size in zip(slices, self.values.shape, strict=True))
        return z, y, x

    @property
    def centroid_mm(self) -> Triple:
        """Mean position of the voxels (x, y, z) in mm."""
        box = self.bounding_box()
        index = np.argwhere(self.values[box]).mean(axis=0) + [s.start for s in box]
        x, y, z = (float(c) for c in self.grid.to_physical(index))
        return x, y, z

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        rows: list[tuple[str, object]] = [("label", self.label), ("voxels", f"{self.n_voxels:,}"), ("volume", f"{self.volume_mm3:,.1f} mm3")]
        if self.n_voxels:
            box = self.bounding_box()
            extent = [(s.stop - s.start) * mm for s, mm in zip(box[::-1], self.grid.spacing_mm, strict=True)]
            rows.append(("extent (x, y, z)", " x ".join(f"{e:.1f}" for e in extent) + " mm"))
            rows.append(("centroid (x, y, z)", ", ".join(f"{c:.1f}" for c in self.centroid_mm) + " mm"))
        return rows + ([("source", self.source.name)] if self.source else [])

    def __repr__(self) -> str:
        return f"Mask('{self.label}', {self.n_voxels} voxels, {self.volume_mm3:.1f} mm3, {self.grid!r})"

    def _repr_html_(self) -> str:
        if not self.n_voxels:
            return card("Mask (empty)", self.facts())
        box = self.bounding_box(pad=4)
        crop = self.values[box]
        z = int(np.argmax(crop.sum(axis=(1, 2))))
        aspect = self.grid.spacing_mm[1] / self.grid.spacing_mm[0]
        return card("Mask", self.facts(), [("largest axial slice", square_pixels(crop[z].astype(np.uint8) * 255, aspect))])


def require_same_grid(image: Volume, mask: Mask) -> None:
    """Raise where a mask does not lie on an image's grid.

    Raises
    ------
    GeometryError
        If shapes, frames or corner positions differ.
    """
    if not image.grid.is_close(mask.grid):
        raise GeometryError(
            f"mask '{mask.label}' must lie on the image's grid; got {mask.grid!r} at {mask.grid.origin_mm} "
            f"for an image on {image.grid!r} at {image.grid.origin_mm}. "
            "Read it with read_mask(path, like=image, resample=True), or check that both belong to one patient."
        )
