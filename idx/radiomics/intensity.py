"""Intensity statistics (IBSI UHIW), intensity histogram (ZVCW) and intensity-volume histogram (P88C) of a region."""

from __future__ import annotations

import numpy as np

from idx._typing import FloatArray, IntArray
from idx.kernels.discretise import fixed_bin_number, fixed_bin_size, is_constant
from idx.kernels.moments import spread_about
from idx.table import Missing

Features = dict[str, float | Missing]
_ADJECTIVES = ("mean", "median", "minimum", "maximum")
PERCENTILES = (10, 25, 50, 75, 90)
ARBITRARY_BINS = 1000
"""Bins of the intensity-volume histogram of an image whose intensities have no unit, as IBSI recommends."""
_FRACTIONS = (0.1, 0.9)


def _ratio(numerator: float, denominator: float, reason: str) -> float | Missing:
    return Missing(reason) if denominator == 0 else float(numerator / denominator)


def _describe(x: FloatArray, share: FloatArray | None, percentiles: FloatArray) -> Features:
    """Measures that statistics and histogram have in common, of values (n,) and their shares (None: each one n-th)."""
    p10, p25, median, p75, p90 = (float(p) for p in percentiles)
    low, high = float(x.min()), float(x.max())
    constant = is_constant(low, high)
    mean = low if constant else float(x.mean() if share is None else x @ share)
    variance, third, fourth, deviation, from_median, robust = spread_about(x, np.zeros(0) if share is None else share, mean, median, p10, p90)
    # Where intensities are so small that their fourth powers vanish, ratios of moments cannot be told.
    constant = constant or variance**2 == 0.0
    return {
        "mean": mean,
        "variance": variance,
        "skewness": Missing("constant") if constant else third / variance**1.5,
        "kurtosis": Missing("constant") if constant else fourth / variance**2 - 3.0,
        "median": median,
        "minimum": low,
        "p10": p10,
        "p90": p90,
        "maximum": high,
        "interquartile_range": p75 - p25,
        "range": high - low,
        "mean_absolute_deviation": deviation,
        # A region of two voxels keeps none between its interpolated percentiles.
        "robust_mean_absolute_deviation": Missing("too_few_voxels") if np.isnan(robust) else robust,
        "median_absolute_deviation": from_median,
        "coefficient_of_variation": _ratio(variance**0.5, mean, "zero_mean"),
        "quartile_coefficient_of_dispersion": _ratio(p75 - p25, p75 + p25, "zero_denominator"),
    }


def intensity_statistics(intensities: FloatArray) -> Features:
    """Measure the 18 intensity statistics of IBSI (UHIW).

    Parameters
    ----------
    intensities : array (n,)
        Intensities of the region's voxels, at least one.

    Returns
    -------
    dict
        Value or :class:`~idx.table.Missing` for every key of the catalogue's family "intensity".
    """
    x = np.asarray(intensities, dtype=np.float64)
    energy = float(np.square(x).sum())
    features = _describe(x, None, np.percentile(x, PERCENTILES))
    features |= {"energy": energy, "root_mean_square": float((energy / x.size) ** 0.5)}
    return {f"{name}_intensity" if name in _ADJECTIVES else f"intensity_{name}": value for name, value in features.items()}


def intensity_histogram(levels: IntArray, n_levels: int) -> Features:
    """Measure the 23 intensity histogram features of IBSI (ZVCW).

    Parameters
    ----------
    levels : array (n,)
        Grey levels 1..n_levels of the region's voxels, at least one.
    n_levels : int
        Number of levels.

    Returns
    -------
    dict
        Value or :class:`~idx.table.Missing` for every key of the catalogue's family "histogram".
    """
    counts = np.bincount(levels, minlength=n_levels + 1)[1:].astype(np.float64)
    present = np.flatnonzero(counts)
    level, share = (present + 1).astype(np.float64), counts[present] / len(levels)
    features = _describe(level, share, _percentiles_of_counts(level, counts[present]))
    mean = float(level @ share)
    most = np.flatnonzero(counts == counts.max()) + 1
    features |= {
        # Of several equally frequent levels the one nearest to the mean counts (IBSI AMMC).
        "mode": float(most[np.argmin(np.abs(most - mean))]),
        "entropy": float(-np.sum(share * np.log2(share))) + 0.0,
        "uniformity": float(np.sum(share**2)),
    }
    features |= _histogram_gradient(counts)
    return {f"histogram_{name}": value for name, value in features.items()}


def _percentiles_of_counts(values: FloatArray, counts: FloatArray) -> FloatArray:
    """Percentiles as numpy interpolates them linearly, from ascending values and how often each occurs."""
    until = np.cumsum(counts)
    place = np.array(PERCENTILES) / 100.0 * (until[-1] - 1.0)
    below, above = (values[np.searchsorted(until, rank, side="right")] for rank in (np.floor(place), np.ceil(place)))
    return np.asarray(below + (above - below) * (place - np.floor(place)))


def _histogram_gradient(counts: FloatArray) -> Features:
    names = ("maximum_gradient", "maximum_gradient_level", "minimum_gradient", "minimum_gradient_level")
    if counts.size < 2:
        return dict.fromkeys(names, Missing("constant"))
    gradient = np.gradient(counts)
    steepest, lowest = int(np.argmax(gradient)), int(np.argmin(gradient))
    return dict(zip(names, (float(gradient[steepest]), steepest + 1.0, float(gradient[lowest]), lowest + 1.0), strict=True))


def intensity_volume_histogram(
    intensities: FloatArray, *, limits: tuple[float, float] | None = None, bin_size: float | None = None, n_bins: int | None = None
) -> Features:
    """Measure the 7 features of the intensity-volume histogram (IBSI P88C).

    Parameters
    ----------
    intensities : array (n,)
        Intensities of the region's voxels, at least one.
    limits : tuple of float or None
        Range of re-segmentation, which bins of fixed size fill; None, or an infinite end, takes that of the intensities. Without bins the steps always
        run from the smallest to the largest intensity, as IBSI's reference values do.
    bin_size : float or None
        Width of a bin; its centre stands for its intensities.
    n_bins : int or None
        Number of bins instead, whose numbers stand for the intensities. None for both takes the intensities as they are, in steps of one unit.

    Returns
    -------
    dict
        Value or :class:`~idx.table.Missing` for every key of the catalogue's family "ivh". Where more voxels share the largest intensity than the volume
        fraction asked for, the intensity that so few voxels reach is one step above it.
    """
    values, steps = _ivh_steps(np.asarray(intensities, dtype=np.float64), limits, bin_size, n_bins)
    ordered = np.sort(values)
    # A relative slack keeps bin centres that differ in their last digit together.
    volume = 1.0 - np.searchsorted(ordered, steps * (1.0 - np.sign(steps) * 1e-12), side="left") / len(ordered)
    names = [f"ivh_{what}_fraction_{percent}" for what in ("volume_at_intensity", "intensity_at_volume") for percent in (10, 90)]
    if len(steps) == 1:
        return dict.fromkeys([*names, "ivh_volume_fraction_difference", "ivh_intensity_difference", "ivh_area_under_curve"], Missing("constant"))
    fraction = (steps - steps[0]) / (steps[-1] - steps[0])
    v10, v90 = (float(volume[np.argmax(fraction >= x - 1e-12)]) for x in _FRACTIONS)
    i10, i90 = (float(steps[np.argmax(volume <= x)]) if (volume <= x).any() else float(2 * steps[-1] - steps[-2]) for x in _FRACTIONS)
    area = float(np.trapezoid(volume, fraction))
    features: Features = dict(zip(names, (v10, v90, i10, i90), strict=True))
    return features | {
        "ivh_volume_fraction_difference": v10 - v90,
        "ivh_intensity_difference": i10 - i90,
        "ivh_area_under_curve": area,
    }


def _ivh_steps(x: FloatArray, limits: tuple[float, float] | None, bin_size: float | None, n_bins: int | None) -> tuple[FloatArray, FloatArray]:
    """Discretised intensities and the steps of the histogram."""
    if n_bins is not None:
        return fixed_bin_number(x, n_bins=n_bins).astype(np.float64), np.arange(1, n_bins + 1).astype(np.float64)
    low, high = (float(x.min()), float(x.max())) if limits is None else limits
    # An open end of the range is where the intensities end.
    low, high = low if np.isfinite(low) else float(x.min()), high if np.isfinite(high) else float(x.max())
    if bin_size is not None:
        levels = fixed_bin_size(x, width=bin_size, origin=low)
        n_steps = max(int(np.ceil((high - low) / bin_size)), int(levels.max()))
        centres = low + (np.arange(1, n_steps + 1).astype(np.float64) - 0.5) * bin_size
        return centres[levels - 1], centres
    low, high = float(x.min()), float(x.max())
    return x, np.asarray(low + np.arange(int(np.floor(high - low)) + 1), dtype=np.float64)
