"""Intensity statistics (IBSI UHIW) and intensity histogram (IBSI ZVCW) of a region."""

from __future__ import annotations

import numpy as np

from idx._typing import FloatArray, IntArray
from idx.table import Missing

Features = dict[str, float | Missing]
_ADJECTIVES = ("mean", "median", "minimum", "maximum")


def _ratio(numerator: float, denominator: float, reason: str) -> float | Missing:
    return Missing(reason) if denominator == 0 else float(numerator / denominator)


def _moments(x: FloatArray) -> tuple[float, float, float | Missing, float | Missing]:
    """Mean, population variance, skewness and excess kurtosis."""
    mean = float(x.mean())
    if x.min() == x.max():
        return mean, 0.0, Missing("constant"), Missing("constant")
    deviation = x - mean
    square = deviation**2
    variance = float(square.mean())
    skewness = float((square * deviation).mean()) / variance**1.5
    return mean, variance, skewness, float((square * square).mean()) / variance**2 - 3.0


def _dispersion(x: FloatArray, mean: float, variance: float) -> dict[str, float | Missing]:
    """Return the measures of position and spread that statistics and histogram share."""
    p10, p25, median, p75, p90 = (float(p) for p in np.percentile(x, (10, 25, 50, 75, 90)))
    robust = x[(x >= p10) & (x <= p90)]
    # A region of two voxels keeps none between its interpolated percentiles.
    robust_deviation: float | Missing = float(np.abs(robust - robust.mean()).mean()) if robust.size else Missing("too_few_voxels")
    return {
        "median": median,
        "minimum": float(x.min()),
        "p10": p10,
        "p90": p90,
        "maximum": float(x.max()),
        "interquartile_range": p75 - p25,
        "range": float(x.max() - x.min()),
        "mean_absolute_deviation": float(np.abs(x - mean).mean()),
        "robust_mean_absolute_deviation": robust_deviation,
        "median_absolute_deviation": float(np.abs(x - median).mean()),
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
    mean, variance, skewness, kurtosis = _moments(x)
    energy = float(np.sum(x**2))
    features: Features = {"mean": mean, "variance": variance, "skewness": skewness, "kurtosis": kurtosis}
    features |= _dispersion(x, mean, variance)
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
    x = np.asarray(levels, dtype=np.float64)
    mean, variance, skewness, kurtosis = _moments(x)
    counts = np.bincount(levels, minlength=n_levels + 1)[1:].astype(np.float64)
    share = counts[counts > 0] / x.size
    most = np.flatnonzero(counts == counts.max()) + 1
    features: Features = {"mean": mean, "variance": variance, "skewness": skewness, "kurtosis": kurtosis}
    features |= _dispersion(x, mean, variance)
    features |= {
        # Of several equally frequent levels the one nearest to the mean counts (IBSI AMMC).
        "mode": float(most[np.argmin(np.abs(most - mean))]),
        "entropy": float(-np.sum(share * np.log2(share))) + 0.0,
        "uniformity": float(np.sum(share**2)),
    }
    features |= _histogram_gradient(counts)
    return {f"histogram_{name}": value for name, value in features.items()}


def _histogram_gradient(counts: FloatArray) -> Features:
    names = ("maximum_gradient", "maximum_gradient_level", "minimum_gradient", "minimum_gradient_level")
    if counts.size < 2:
        return dict.fromkeys(names, Missing("constant"))
    gradient = np.gradient(counts)
    steepest, lowest = int(np.argmax(gradient)), int(np.argmin(gradient))
    return dict(zip(names, (float(gradient[steepest]), steepest + 1.0, float(gradient[lowest]), lowest + 1.0), strict=True))
