"""Intensity statistics (IBSI UHIW) and grey level shares around every voxel of a region, compiled."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, FloatArray, IntArray
from idx.kernels.compiled import compiled
from idx.kernels.neighbourhood import Neighbourhoods, in_threads

STATISTICS = (
    "mean_intensity",
    "intensity_variance",
    "intensity_skewness",
    "intensity_kurtosis",
    "median_intensity",
    "minimum_intensity",
    "intensity_p10",
    "intensity_p90",
    "maximum_intensity",
    "intensity_interquartile_range",
    "intensity_range",
    "intensity_mean_absolute_deviation",
    "intensity_robust_mean_absolute_deviation",
    "intensity_median_absolute_deviation",
    "intensity_coefficient_of_variation",
    "intensity_quartile_coefficient_of_dispersion",
    "intensity_energy",
    "intensity_root_mean_square",
)
"""The 18 statistics in the order of the columns, by catalogue key."""
SHARES = ("histogram_entropy", "histogram_uniformity")
"""What is measured of the grey levels' shares, in the order of the columns, by catalogue key."""


def local_statistics(around: Neighbourhoods, intensities: FloatArray, *, workers: int = 1) -> FloatArray:
    """Measure the 18 intensity statistics around every voxel.

    Parameters
    ----------
    around : Neighbourhoods
        Of n voxels.
    intensities : array (n,)
        Finite intensities of the voxels.
    workers : int
        Threads.

    Returns
    -------
    array (n, 18)
        Columns as in ``STATISTICS``; NaN where a statistic is undefined. Percentiles are interpolated linearly, as numpy does.
    """
    placed = around.place(intensities, np.nan, np.float64)
    out = np.empty((len(around.positions), len(STATISTICS)))
    in_threads(lambda start, stop: _statistics(placed, around.positions[start:stop], around.steps, out[start:stop]), len(out), workers)
    return out


def local_shares(around: Neighbourhoods, levels: IntArray, *, workers: int = 1) -> FloatArray:
    """Measure entropy (bits) and uniformity of the grey levels around every voxel.

    Parameters
    ----------
    around : Neighbourhoods
        Of n voxels.
    levels : array (n,)
        Grey level of each voxel, 1 or more.
    workers : int
        Threads.

    Returns
    -------
    array (n, 2)
        Columns as in ``SHARES``.
    """
    placed = around.place(levels, 0, np.int32)
    out = np.empty((len(around.positions), len(SHARES)))
    n_log_n = n_log2_n(len(around.steps))
    top = int(levels.max())
    in_threads(lambda start, stop: _shares(placed, around.positions[start:stop], around.steps, top, n_log_n, out[start:stop]), len(out), workers)
    return out


def n_log2_n(largest: int) -> FloatArray:
    """Table of n log2(n) for counts 0..largest: the entropy of counts needs no other logarithm than that of their sum."""
    n = np.arange(largest + 1, dtype=np.float64)
    return np.asarray(n * np.log2(np.maximum(n, 1.0)))


@compiled()
def _statistics(placed: FloatArray, positions: IntArray, steps: IntArray, out: FloatArray) -> None:
    gathered = np.empty(len(steps))
    for v in range(len(positions)):
        n = 0
        for step in steps:
            value = placed[positions[v] + step]
            if not np.isnan(value):
                gathered[n] = value
                n += 1
        x = gathered[:n]
        _sort(x)
        row = out[v]
        _moments(x, row)
        _order_statistics(x, row)


@compiled()
def _sort(x: FloatArray) -> None:
    # For the few values of a small neighbourhood insertion is twice as fast as the general sort.
    if len(x) > 64:
        x.sort()
        return
    for i in range(1, len(x)):
        value = x[i]
        j = i
        while j > 0 and x[j - 1] > value:
            x[j] = x[j - 1]
            j -= 1
        x[j] = value


@compiled()
def _moments(x: FloatArray, row: FloatArray) -> None:
    n = len(x)
    mean = 0.0
    energy = 0.0
    for value in x:
        mean += value
        energy += value * value
    mean /= n
    second = 0.0
    third = 0.0
    fourth = 0.0
    absolute = 0.0
    for value in x:
        deviation = value - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
        absolute += abs(deviation)
    constant = x[0] == x[n - 1]
    variance = 0.0 if constant else second / n
    row[0] = mean
    row[1] = variance
    row[2] = np.nan if constant else third / n / variance**1.5
    row[3] = np.nan if constant else fourth / n / variance**2 - 3.0
    row[11] = absolute / n
    row[14] = np.nan if mean == 0.0 else variance**0.5 / mean
    row[16] = energy
    row[17] = (energy / n) ** 0.5


@compiled()
def _percentile(x: FloatArray, share: float) -> float:
    # Rounded exactly as numpy's: whether a voxel equals a percentile decides what the robust deviation counts.
    place = share * (len(x) - 1)
    below = int(np.floor(place))
    weight = place - below
    low = x[below]
    high = x[min(below + 1, len(x) - 1)]
    return low + (high - low) * weight if weight < 0.5 else high - (high - low) * (1.0 - weight)


@compiled()
def _order_statistics(x: FloatArray, row: FloatArray) -> None:
    n = len(x)
    p10 = _percentile(x, 0.10)
    p25 = _percentile(x, 0.25)
    median = _percentile(x, 0.50)
    p75 = _percentile(x, 0.75)
    p90 = _percentile(x, 0.90)
    from_median = 0.0
    kept = 0
    kept_mean = 0.0
    for value in x:
        from_median += abs(value - median)
        if p10 <= value <= p90:
            kept += 1
            kept_mean += value
    robust = np.nan
    if kept:
        kept_mean /= kept
        robust = 0.0
        for value in x:
            if p10 <= value <= p90:
                robust += abs(value - kept_mean)
        robust /= kept
    row[4] = median
    row[5] = x[0]
    row[6] = p10
    row[7] = p90
    row[8] = x[n - 1]
    row[9] = p75 - p25
    row[10] = x[n - 1] - x[0]
    row[12] = robust
    row[13] = from_median / n
    row[15] = np.nan if p75 + p25 == 0.0 else (p75 - p25) / (p75 + p25)


@compiled()
def _shares(placed: Array, positions: IntArray, steps: IntArray, n_levels: int, n_log_n: FloatArray, out: FloatArray) -> None:
    counts = np.zeros(n_levels + 1, dtype=np.int64)
    gathered = np.empty(len(steps), dtype=np.int64)
    for v in range(len(positions)):
        n = 0
        for step in steps:
            level = placed[positions[v] + step]
            if level:
                gathered[n] = level
                counts[level] += 1
                n += 1
        logs = 0.0
        squares = 0.0
        for level in gathered[:n]:
            count = counts[level]
            # Emptied as it is read, so that the table serves the next voxel and a repeated level counts once.
            counts[level] = 0
            logs += n_log_n[count]
            squares += count * count
        out[v, 0] = max(np.log2(n) - logs / n, 0.0)
        out[v, 1] = squares / (n * n)
