"""Moments and mean distances of many values in two compiled passes."""

from __future__ import annotations

import numpy as np

from idx._typing import FloatArray
from idx.kernels.compiled import compiled


@compiled(reorder_sums=True)
def spread_about(x: FloatArray, share: FloatArray, mean: float, median: float, low: float, high: float) -> tuple[float, float, float, float, float, float]:
    """Spread of values about their mean and median.

    Parameters
    ----------
    x : array (n,)
    share : array (n,) or (0,)
        Share of each value; empty where each counts once.
    mean, median : float
    low, high : float
        Range of the values, both included, for the last result.

    Returns
    -------
    tuple of float
        Second, third and fourth central moment, mean distance from the mean, mean distance from the median, and the mean distance of the values
        within the range from their own mean (NaN where there are none).
    """
    n = len(x)
    second, third, fourth, absolute, from_median, kept, kept_sum = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    weighted = len(share) > 0
    for i in range(n):
        weight = share[i] if weighted else 1.0
        apart = x[i] - mean
        square = apart * apart
        second += weight * square
        third += weight * square * apart
        fourth += weight * square * square
        absolute += weight * abs(apart)
        from_median += weight * abs(x[i] - median)
        inside = weight if low <= x[i] <= high else 0.0
        kept += inside
        kept_sum += inside * apart
    total = 1.0 if weighted else float(n)
    robust = np.nan
    if kept > 0.0:
        middle, distance = mean + kept_sum / kept, 0.0
        for i in range(n):
            weight = share[i] if weighted else 1.0
            distance += weight * abs(x[i] - middle) if low <= x[i] <= high else 0.0
        robust = distance / kept
    return second / total, third / total, fourth / total, absolute / total, from_median / total, robust
