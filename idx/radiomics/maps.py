"""Voxel-wise features: what a lesion looks like around each of its voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from idx._repr import card
from idx._typing import FloatArray
from idx.errors import FormatError, GeometryError
from idx.geometry.grids import Grid
from idx.kernels.neighbourhood import LocalSums, ball_footprint
from idx.provenance import Setting
from idx.radiomics.preparation import Preparation, Region, as_spacing, grey_levels, prepare
from idx.table import FeatureSpec
from idx.volume import Mask, Volume

MAP_FEATURES = ("mean_intensity", "intensity_sd", "histogram_entropy")
"""Features that can be mapped."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """One feature at every voxel of a lesion.

    Parameters
    ----------
    values : array (z, y, x)
        float64, read-only; NaN outside the lesion, and nowhere else.
    grid : Grid
        The box around the lesion, in the image's frame.
    spec : FeatureSpec
        What was mapped, with the radius in ``params``.
    """

    values: FloatArray
    grid: Grid
    spec: FeatureSpec

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64).view()
        values.flags.writeable = False
        if values.shape != self.grid.shape:
            raise GeometryError(f"map values must have the grid's shape {self.grid.shape} (z, y, x); got {values.shape}. Check the axis order of the array.")
        object.__setattr__(self, "values", values)

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        inside = self.values[~np.isnan(self.values)]
        return [("voxels inside", f"{inside.size:,}"), ("values", f"{inside.min():.4g} to {inside.max():.4g} ({self.spec.unit})"), ("grid", repr(self.grid))]

    def __repr__(self) -> str:
        return f"FeatureMap({self.spec.name}, {self.grid!r})"

    def _repr_html_(self) -> str:
        # Outside the lesion there is nothing to show: it takes the darkest value.
        shown = Volume(np.where(np.isnan(self.values), np.nanmin(self.values), self.values), self.grid, self.spec.unit)
        return card(f"FeatureMap {self.spec.name}", self.facts(), shown.thumbnails())


def feature_maps(
    ct: Volume,
    lesion: Mask,
    *,
    radius_mm: float = 5.0,
    features: Sequence[str] = MAP_FEATURES,
    spacing_mm: float | tuple[float, float, float] | None = None,
    resegment_hu: tuple[float, float] | None = None,
    bin_size_hu: float | None = None,
    n_bins: int | None = None,
) -> dict[str, FeatureMap]:
    """Measure features in the part of a lesion that lies around each of its voxels.

    Parameters
    ----------
    ct : Volume
        CT in HU, or another image.
    lesion : Mask
        On the image's grid.
    radius_mm : float
        The neighbourhood of a voxel are the voxels that count and whose centres are at most this far in mm, itself included.
    features : sequence of str
        Some of "mean_intensity", "intensity_sd" (population standard deviation), "histogram_entropy" (of the grey levels, bits).
    spacing_mm, resegment_hu, bin_size_hu, n_bins
        As for :func:`idx.radiomics.extract`.

    Returns
    -------
    dict
        A :class:`FeatureMap` for each feature, by its name (such as "local_mean_intensity_hu"), on the box around the lesion.
        NaN outside the voxels that count.

    Raises
    ------
    GeometryError
        As for :func:`idx.radiomics.extract`, or if the radius is not positive.
    FormatError
        If a feature is unknown.

    Notes
    -----
    Sums over balls are products of spectra: the cost does not grow with the radius, and no neighbourhood is stored.
    """
    unknown = [name for name in features if name not in MAP_FEATURES]
    if unknown or not features or isinstance(features, str):
        raise FormatError(f"features must be some of {', '.join(MAP_FEATURES)}; got {features!r}. Pass for example features=('mean_intensity',).")
    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise GeometryError(f"radius_mm must be positive; got {radius_mm}. Pass for example 5.0.")
    settings = Preparation(as_spacing(spacing_mm), resegment_hu, None, bin_size_hu, n_bins)
    region = prepare(ct, lesion, settings)
    sums = LocalSums(region.values.shape, ball_footprint(radius_mm, region.spacing_mm))
    # Voxels are counted by a transform too: the count is a whole number up to rounding.
    count = np.where(region.intensity_mask, np.rint(sums(region.intensity_mask)), 1.0)
    maps = {}
    for name in features:
        values = _MAPPERS[name](region, settings, sums, count)
        spec = _spec(name, ct.quantity, settings.step_params() | _bin_params_of(name, settings, ct.quantity) | {"radius_mm": radius_mm})
        maps[spec.name] = FeatureMap(np.where(region.intensity_mask, values, np.nan), region.grid, spec)
    return maps


def _centred(region: Region) -> tuple[FloatArray, float]:
    """Intensities minus their mean, 0 outside: small numbers keep the transforms' rounding errors small."""
    mean = float(region.intensities.mean())
    return np.where(region.intensity_mask, region.values - mean, 0.0), mean


def _local_mean(region: Region, settings: Preparation, sums: LocalSums, count: FloatArray) -> FloatArray:
    centred, mean = _centred(region)
    return sums(centred) / count + mean


def _local_sd(region: Region, settings: Preparation, sums: LocalSums, count: FloatArray) -> FloatArray:
    centred, _ = _centred(region)
    variance = sums(centred**2) / count - (sums(centred) / count) ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def _local_entropy(region: Region, settings: Preparation, sums: LocalSums, count: FloatArray) -> FloatArray:
    levels, _ = grey_levels(region, settings)
    placed = np.zeros(region.values.shape, dtype=np.int64)
    placed[region.intensity_mask] = levels
    weighted = np.zeros(region.values.shape)
    for level in np.unique(levels):
        n = np.rint(sums(placed == level))
        weighted += n * np.log2(np.maximum(n, 1.0))
    return np.maximum(np.log2(count) - weighted / count, 0.0)


_MAPPERS: dict[str, Callable[[Region, Preparation, LocalSums, FloatArray], FloatArray]] = {
    "mean_intensity": _local_mean,
    "intensity_sd": _local_sd,
    "histogram_entropy": _local_entropy,
}
_SPECS = {
    "mean_intensity": ("Q4LE", "Mean of the intensities of the lesion within radius_mm."),
    "intensity_sd": (None, "Population standard deviation (root of IBSI ECT3) of the intensities of the lesion within radius_mm."),
    "histogram_entropy": ("TLU2", "Entropy in bits of the grey levels of the lesion within radius_mm."),
}


def _bin_params_of(name: str, settings: Preparation, quantity: str) -> dict[str, Setting]:
    return settings.bin_params(quantity) if name == "histogram_entropy" else {}


def _spec(name: str, quantity: str, params: dict[str, Setting]) -> FeatureSpec:
    ibsi_id, definition = _SPECS[name]
    is_intensity = name != "histogram_entropy"
    suffix = "_hu" if is_intensity and quantity == "hu" else ""
    return FeatureSpec(f"local_{name}{suffix}", quantity if is_intensity else "1", definition, ibsi_id, params)
