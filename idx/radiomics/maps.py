"""Voxel-wise features: what a lesion looks like around each of its voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from idx._repr import card
from idx._typing import BoolArray, FloatArray, FrozenMapping
from idx.errors import FormatError, GeometryError
from idx.geometry.grids import Grid
from idx.kernels.local_cooccurrence import COOCCURRENCE, local_cooccurrence
from idx.kernels.local_statistics import SHARES, STATISTICS, local_shares, local_statistics
from idx.kernels.neighbourhood import Neighbourhoods, ball_footprint, cube_footprint
from idx.provenance import Setting
from idx.radiomics.catalog import CATALOG
from idx.radiomics.preparation import Region, grey_levels, prepare
from idx.radiomics.settings import RadiomicsSettings
from idx.settings import current_settings, resolve_device
from idx.table import REASONS, FeatureSpec
from idx.volume import Mask, Volume

if TYPE_CHECKING:
    import torch

SD = "intensity_sd"
MAP_FAMILIES: Mapping[str, tuple[str, ...]] = FrozenMapping({"intensity": (*STATISTICS, SD), "histogram": SHARES, "glcm": COOCCURRENCE})
"""Features that can be mapped, by family: catalogue keys, and the standard deviation."""
MAP_FEATURES = tuple(key for keys in MAP_FAMILIES.values() for key in keys)
"""Features that can be mapped."""
DEFAULT_FEATURES = ("mean_intensity", SD, "histogram_entropy")
MAP_AGGREGATIONS = ("3d_averaged", "3d_merged")
"""IBSI ITBB and IAZD."""
DEFAULT_RADIUS_MM = 5.0
_REASON_OF_NAN = FrozenMapping(
    {
        "intensity_skewness": "constant",
        "intensity_kurtosis": "constant",
        "intensity_robust_mean_absolute_deviation": "too_few_voxels",
        "intensity_coefficient_of_variation": "zero_mean",
        "intensity_quartile_coefficient_of_dispersion": "zero_denominator",
        "glcm_correlation": "constant",
        "glcm_information_correlation_1": "constant",
    }
)
"""Why a statistic has no value, or a co-occurrence feature has none although there are pairs."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """One feature at every voxel of a lesion.

    Parameters
    ----------
    values : array (z, y, x)
        float64, read-only; NaN outside the lesion and where the feature is undefined, and nowhere else.
    grid : Grid
        The box around the lesion, in the image's frame.
    spec : FeatureSpec
        What was mapped, with the neighbourhood in ``params``.
    undefined : mapping
        Voxels of the lesion whose neighbourhood leaves the feature undefined, bool (z, y, x), by the reason's code in
        ``idx.table.REASONS``; empty where every voxel has a value.
    """

    values: FloatArray
    grid: Grid
    spec: FeatureSpec
    undefined: Mapping[str, BoolArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64).view()
        values.flags.writeable = False
        for name, array in (("map values", values), *(("undefined voxels", voxels) for voxels in self.undefined.values())):
            if array.shape != self.grid.shape:
                raise GeometryError(f"{name} must have the grid's shape {self.grid.shape} (z, y, x); got {array.shape}. Check the axis order of the array.")
        for reason, voxels in self.undefined.items():
            if reason not in REASONS or not np.isnan(values[voxels]).all():
                raise FormatError(f"undefined must hold voxels without a value, by a code of idx.table.REASONS; got '{reason}'. Leave out voxels with values.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "undefined", FrozenMapping(dict(self.undefined)))

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        known = self.values[~np.isnan(self.values)]
        unknown = {reason: int(voxels.sum()) for reason, voxels in self.undefined.items()}
        between = f"{known.min():.4g} to {known.max():.4g} ({self.spec.unit})" if known.size else "none"
        facts: list[tuple[str, object]] = [("voxels inside", f"{known.size + sum(unknown.values()):,}"), ("values", between), ("grid", repr(self.grid))]
        return facts + [("undefined", f"{count:,} voxels: {REASONS[reason]}") for reason, count in unknown.items()]

    def __repr__(self) -> str:
        return f"FeatureMap({self.spec.name}, {self.grid!r})"

    def _repr_html_(self) -> str:
        known = ~np.isnan(self.values)
        # Where there is nothing to show the darkest value is shown.
        darkest = self.values[known].min() if known.any() else 0.0
        shown = Volume(np.where(known, self.values, darkest), self.grid, self.spec.unit)
        return card(f"FeatureMap {self.spec.name}", self.facts(), shown.thumbnails())


def feature_maps(
    ct: Volume,
    lesion: Mask,
    settings: RadiomicsSettings | None = None,
    *,
    radius_mm: float | None = None,
    radius_voxels: int | None = None,
    features: Sequence[str] | None = None,
    families: Sequence[str] | None = None,
    aggregation: str = "3d_averaged",
    device: str | torch.device | None = None,
) -> dict[str, FeatureMap]:
    """Measure features in the part of a lesion that lies around each of its voxels.

    Parameters
    ----------
    ct : Volume
        CT in HU, or another image.
    lesion : Mask
        On the image's grid.
    settings : RadiomicsSettings or None
        How the lesion is resampled, re-segmented and made into grey levels, as for :func:`idx.radiomics.extract`. Grey levels are those of the
        whole lesion. Its families, features and aggregations are not used here.
    radius_mm : float or None
        The neighbourhood of a voxel are the voxels that count and whose centres are at most this far in mm, itself included.
        5 mm if no radius is given.
    radius_voxels : int or None
        Instead, the voxels that count in the cube of this many voxels to each side (1: 3 x 3 x 3, as PyRadiomics' ``kernelRadius=1``).
    features : sequence of str or None
        Catalogue keys of the families below, and "intensity_sd" (population standard deviation). With neither features nor families the mean, the
        standard deviation and the entropy of the grey levels.
    families : sequence of str or None
        Some of "intensity" (18 statistics and the standard deviation), "histogram" (entropy, uniformity), "glcm" (25 features): all their
        features, beside ``features``.
    aggregation : str
        "3d_averaged" averages the features of the co-occurrence matrices of the 13 directions; "3d_merged" measures the sum of the matrices.
    device : str, torch.device or None
        Torch device; None means the setting. The CPU has compiled kernels and uses the setting's workers.

    Returns
    -------
    dict
        A :class:`FeatureMap` for each feature, by its name (such as "local_mean_intensity_hu"), on the box around the lesion.
        NaN outside the voxels that count, and where a neighbourhood leaves the feature undefined (the skewness of equal intensities); the reason
        stands in the map's ``undefined``.

    Raises
    ------
    GeometryError
        As for :func:`idx.radiomics.extract`, or if a radius is not positive, or both are given.
    FormatError
        If a feature, a family or the aggregation is unknown, or the settings hold filters.

    Notes
    -----
    The cost grows with the number of voxels times that of a neighbourhood. Neither neighbourhoods nor matrices are stored.

    Examples
    --------
    >>> ball = idx.testing.ball(radius_mm=6.0, spacing_mm=2.0)
    >>> maps = idx.radiomics.feature_maps(ball.ct, ball.mask, radius_voxels=1, features=["glcm_contrast"])
    >>> list(maps)
    ['local_glcm_contrast']
    """
    wanted = _wanted(features, families)
    if aggregation not in MAP_AGGREGATIONS:
        raise FormatError(f"aggregation must be one of {', '.join(MAP_AGGREGATIONS)}; got '{aggregation}'. Pass '3d_averaged'.")
    radius = _radius(radius_mm, radius_voxels)
    settings = RadiomicsSettings() if settings is None else settings
    if settings.filters != (None,):
        raise FormatError(f"filters must be left out for maps; got {settings.filters!r}. Apply the filter to the image and map its response.")
    region = prepare(ct, lesion, settings)
    shape = region.values.shape
    footprint = (
        ball_footprint(radius["radius_mm"], region.spacing_mm, within=shape)
        if "radius_mm" in radius
        else cube_footprint(int(radius["radius_voxels"]), within=shape)
    )
    columns = _measure(region, settings, Neighbourhoods.of(region.intensity_mask, footprint), wanted, aggregation == "3d_merged", device)
    maps = {}
    for key in wanted:
        spec = _spec(key, ct.quantity, settings, aggregation, radius)
        maps[spec.name] = _map(region, spec, columns[key], _undefined(key, columns))
    return maps


def _wanted(features: Sequence[str] | None, families: Sequence[str] | None) -> list[str]:
    if families is not None and (isinstance(families, str) or not families or any(family not in MAP_FAMILIES for family in families)):
        raise FormatError(f"families must be some of {', '.join(MAP_FAMILIES)}; got {families!r}. Pass for example families=('glcm',).")
    if features is not None and (isinstance(features, str) or not features or any(key not in MAP_FEATURES for key in features)):
        raise FormatError(f"features must be some of {', '.join(MAP_FEATURES)}; got {features!r}. Pass for example features=('mean_intensity',).")
    if features is None and families is None:
        return list(DEFAULT_FEATURES)
    return list(dict.fromkeys([*(features or ()), *(key for family in families or () for key in MAP_FAMILIES[family])]))


def _radius(radius_mm: float | None, radius_voxels: int | None) -> dict[str, float]:
    if radius_mm is not None and radius_voxels is not None:
        raise GeometryError(f"the neighbourhood must be set by radius_mm or radius_voxels; got both ({radius_mm}, {radius_voxels}). Pass one of them.")
    if radius_voxels is not None:
        if not isinstance(radius_voxels, int | np.integer) or radius_voxels < 1:
            raise GeometryError(f"radius_voxels must be a whole number of at least 1; got {radius_voxels}. Pass for example 1, or radius_mm.")
        return {"radius_voxels": int(radius_voxels)}
    radius_mm = DEFAULT_RADIUS_MM if radius_mm is None else radius_mm
    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise GeometryError(f"radius_mm must be positive; got {radius_mm}. Pass for example 5.0.")
    return {"radius_mm": float(radius_mm)}


def _kernels(device: str | torch.device | None) -> tuple[Callable[..., FloatArray], Callable[..., FloatArray], Callable[..., FloatArray]]:
    """What measures statistics, shares and co-occurrence: compiled for the CPU, or torch."""
    target = resolve_device(device)
    if target.type == "cpu":
        workers = current_settings().workers
        return partial(local_statistics, workers=workers), partial(local_shares, workers=workers), partial(local_cooccurrence, workers=workers)
    from idx.kernels.local_torch import torch_cooccurrence, torch_shares, torch_statistics

    return partial(torch_statistics, device=target), partial(torch_shares, device=target), partial(torch_cooccurrence, device=target)


def _measure(
    region: Region, settings: RadiomicsSettings, around: Neighbourhoods, wanted: Iterable[str], merged: bool, device: str | torch.device | None
) -> dict[str, FloatArray]:
    """Columns (n,) by key, of all features of the families that are wanted."""
    statistics, shares, cooccurrence = _kernels(device)
    needed = {family for family, keys in MAP_FAMILIES.items() if set(keys) & set(wanted)}
    columns: dict[str, FloatArray] = {}
    if "intensity" in needed:
        columns |= zip(STATISTICS, statistics(around, region.intensities).T, strict=True)
        columns[SD] = np.sqrt(columns["intensity_variance"])
    if needed & {"histogram", "glcm"}:
        levels, n_levels = grey_levels(region, settings)
        if "histogram" in needed:
            columns |= zip(SHARES, shares(around, levels).T, strict=True)
        if "glcm" in needed:
            columns |= zip(COOCCURRENCE, cooccurrence(around, levels, n_levels, merged=merged).T, strict=True)
    return columns


def _undefined(key: str, columns: Mapping[str, FloatArray]) -> dict[str, BoolArray]:
    """Voxels (n,) without a value, by reason."""
    unknown = np.isnan(columns[key])
    no_pairs = unknown & np.isnan(columns[COOCCURRENCE[0]]) if key in COOCCURRENCE else np.zeros_like(unknown)
    reasons = {"no_pairs": no_pairs}
    if key in _REASON_OF_NAN:
        reasons[_REASON_OF_NAN[key]] = unknown & ~no_pairs
    return {reason: voxels for reason, voxels in reasons.items() if voxels.any()}


def _map(region: Region, spec: FeatureSpec, column: FloatArray, undefined: Mapping[str, BoolArray]) -> FeatureMap:
    values = np.full(region.values.shape, np.nan)
    values[region.intensity_mask] = column
    placed = {}
    for reason, voxels in undefined.items():
        placed[reason] = np.zeros(region.values.shape, dtype=bool)
        placed[reason][region.intensity_mask] = voxels
    return FeatureMap(values, region.grid, spec, placed)


def _spec(key: str, quantity: str, settings: RadiomicsSettings, aggregation: str, radius: Mapping[str, float]) -> FeatureSpec:
    params: dict[str, Setting] = settings.step_params()
    if key in SHARES or key in COOCCURRENCE:
        params |= settings.bin_params(quantity)
    if key in COOCCURRENCE:
        params |= {"aggregation": aggregation, "distance_voxels": 1}
    params |= radius
    if key == SD:
        variance, mean = CATALOG["intensity_variance"], CATALOG["mean_intensity"]
        name = mean.column(quantity).replace("mean_intensity", SD)
        return FeatureSpec(f"local_{name}", quantity, f"Around each voxel: root of the {variance.ibsi_id} variance.", None, params)
    spec = CATALOG[key].spec(quantity, params)
    return FeatureSpec(f"local_{spec.name}", spec.unit, f"Around each voxel: {spec.definition}", spec.ibsi_id, params)
