"""Sums over many grey level co-occurrence matrices at once: the loops behind the features of IBSI LFYI."""

from __future__ import annotations

import numpy as np

from idx._typing import FloatArray, IntArray
from idx.kernels.compiled import compiled

INDEPENDENT_BITS = 1e-13
"""Less mutual information than this is rounding."""
GLCM_FEATURES = (
    "joint_maximum",
    "joint_average",
    "joint_variance",
    "joint_entropy",
    "difference_average",
    "difference_variance",
    "difference_entropy",
    "sum_average",
    "sum_variance",
    "sum_entropy",
    "angular_second_moment",
    "contrast",
    "dissimilarity",
    "inverse_difference",
    "inverse_difference_normalised",
    "inverse_difference_moment",
    "inverse_difference_moment_normalised",
    "inverse_variance",
    "correlation",
    "autocorrelation",
    "cluster_tendency",
    "cluster_shade",
    "cluster_prominence",
    "information_correlation_1",
    "information_correlation_2",
)


@compiled()
def _bits(p: FloatArray) -> float:
    """Entropy in bits."""
    total = 0.0
    for share in p:
        if share > 0.0:
            total -= share * np.log2(share)
    return total


@compiled()
def glcm_features(counts: IntArray) -> FloatArray:
    """Features of symmetric co-occurrence matrices.

    Parameters
    ----------
    counts : array (m, n_levels, n_levels) of int64
        Each with at least one pair.

    Returns
    -------
    array (m, 25)
        In the order of ``GLCM_FEATURES``; NaN for the correlation and the first information correlation of a matrix of one level, which
        have no definition.

    Notes
    -----
    Every diagonal of a matrix is one difference of levels and every antidiagonal one sum: most features need no more than their totals. In a
    symmetric matrix both marginals are equal, so that HXY1 = HXY2 = 2 HX.
    """
    result = np.empty((len(counts), 25))
    for m in range(len(counts)):
        result[m] = _features(counts[m])
    return result


@compiled()
def _features(counts: IntArray) -> FloatArray:
    n = len(counts)
    apart, together, marginal = np.zeros(n), np.zeros(2 * n - 1), np.zeros(n)
    total = 0.0
    for i in range(n):
        for j in range(n):
            total += counts[i, j]
    largest, energy, entropy, product = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            if counts[i, j] == 0:
                continue
            p = counts[i, j] / total
            apart[abs(i - j)] += p
            together[i + j] += p
            marginal[i] += p
            largest = max(largest, p)
            energy += p * p
            entropy -= p * np.log2(p)
            product += (i + 1.0) * (j + 1.0) * p
    mean, variance = 0.0, 0.0
    for i in range(n):
        mean += (i + 1.0) * marginal[i]
    for i in range(n):
        variance += (i + 1.0 - mean) ** 2 * marginal[i]
    inverse, inverse_n, moment, moment_n, inverse_variance = 0.0, 0.0, 0.0, 0.0, 0.0
    difference, contrast = 0.0, 0.0
    for d in range(n):
        p = apart[d]
        difference += d * p
        contrast += d * d * p
        inverse += p / (1.0 + d)
        inverse_n += p / (1.0 + d / n)
        moment += p / (1.0 + d * d)
        moment_n += p / (1.0 + (d / n) ** 2)
        if d > 0:
            inverse_variance += p / (d * d)
    spread = 0.0
    for d in range(n):
        spread += (d - difference) ** 2 * apart[d]
    total_mean, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for s in range(2 * n - 1):
        p, from_middle = together[s], s + 2.0 - 2.0 * mean
        total_mean += (s + 2.0) * p
        second += from_middle**2 * p
        third += from_middle**3 * p
        fourth += from_middle**4 * p
    levels_present = 0
    for i in range(n):
        levels_present += marginal[i] > 0.0
    single = _bits(marginal)
    # Independent levels have 2 HX = HXY up to rounding, which the root would make 1e-8 of.
    shared = 2.0 * single - entropy
    second_correlation = np.sqrt(1.0 - np.exp(-2.0 * shared)) if shared > INDEPENDENT_BITS else 0.0
    correlation, first_correlation = np.nan, np.nan
    if levels_present > 1:
        correlation = (product - mean * mean) / variance
        first_correlation = (entropy - 2.0 * single) / single
    features = np.empty(25)
    features[:5] = np.array([largest, mean, variance, entropy, difference])
    features[5:12] = np.array([spread, _bits(apart), total_mean, second, _bits(together), energy, contrast])
    features[12:18] = np.array([difference, inverse, inverse_n, moment, moment_n, inverse_variance])
    features[18:] = np.array([correlation, product, second, third, fourth, first_correlation, second_correlation])
    return features
