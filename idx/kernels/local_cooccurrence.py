"""Features of the grey level co-occurrence matrix (IBSI LFYI) around every voxel of a region, compiled."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, FloatArray, IntArray
from idx.kernels.compiled import compiled
from idx.kernels.engine import DIRECTIONS_3D
from idx.kernels.local_statistics import n_log2_n
from idx.kernels.neighbourhood import Neighbourhoods, in_threads

COOCCURRENCE = (
    "glcm_joint_maximum",
    "glcm_joint_average",
    "glcm_joint_variance",
    "glcm_joint_entropy",
    "glcm_difference_average",
    "glcm_difference_variance",
    "glcm_difference_entropy",
    "glcm_sum_average",
    "glcm_sum_variance",
    "glcm_sum_entropy",
    "glcm_angular_second_moment",
    "glcm_contrast",
    "glcm_dissimilarity",
    "glcm_inverse_difference",
    "glcm_inverse_difference_normalised",
    "glcm_inverse_difference_moment",
    "glcm_inverse_difference_moment_normalised",
    "glcm_inverse_variance",
    "glcm_correlation",
    "glcm_autocorrelation",
    "glcm_cluster_tendency",
    "glcm_cluster_shade",
    "glcm_cluster_prominence",
    "glcm_information_correlation_1",
    "glcm_information_correlation_2",
)
"""The 25 features in the order of the columns, by catalogue key."""
NEED_VARIETY = (COOCCURRENCE.index("glcm_correlation"), COOCCURRENCE.index("glcm_information_correlation_1"))
"""Columns that are undefined for a matrix of one level."""
INDEPENDENT_BITS = 1e-13
"""Mutual information of levels that are independent but for rounding; unrounded, its root would be noise of 1e-8 in information correlation 2."""


def direction_pairs(around: Neighbourhoods, *, merged: bool) -> tuple[IntArray, IntArray]:
    """Pairs of members one step apart (p, 2), and where the pairs of each matrix start (m + 1,): one matrix, or one per direction."""
    pairs, starts = around.pairs(np.array(DIRECTIONS_3D))
    return pairs, starts[[0, -1]] if merged else starts


def local_cooccurrence(around: Neighbourhoods, levels: IntArray, n_levels: int, *, merged: bool = False, workers: int = 1) -> FloatArray:
    """Measure the 25 features of the co-occurrence matrices around every voxel, distance 1, 13 directions.

    Parameters
    ----------
    around : Neighbourhoods
        Of n voxels.
    levels : array (n,)
        Grey level 1..n_levels of each voxel.
    n_levels : int
        Number of levels of the whole region.
    merged : bool
        Whether the directions' matrices are summed before they are measured (IBSI IAZD); otherwise features are averaged over them (ITBB).
    workers : int
        Threads.

    Returns
    -------
    array (n, 25)
        Columns as in ``COOCCURRENCE``. A row of NaN where no two neighbours lie in the region; a feature that is undefined for one direction
        is averaged over the others, and NaN if undefined for all.

    Notes
    -----
    No matrix is laid out: the pairs of a direction, few beside the squared number of levels, are counted in one table per thread, which is
    emptied pair by pair. Each feature is a sum over the different pairs, or over the counts of their sums, differences and levels.
    """
    placed = around.place(levels, 0, np.int32)
    pairs, starts = direction_pairs(around, merged=merged)
    out = np.empty((len(around.positions), len(COOCCURRENCE)))
    n_log_n = n_log2_n(2 * int(np.diff(starts).max()))
    weights = difference_weights(n_levels)
    in_threads(
        lambda start, stop: _cooccurrence(placed, around.positions[start:stop], around.steps, pairs, starts, n_log_n, weights, out[start:stop]),
        len(out),
        workers,
    )
    return out


def difference_weights(n_levels: int) -> FloatArray:
    """Weights (5, n_levels) of a difference of levels: inverse, normalised inverse, both squared, and one over its square (0 for 0)."""
    d = np.arange(n_levels, dtype=np.float64)
    inverse_square = np.divide(1.0, d**2, out=np.zeros_like(d), where=d > 0)
    return np.stack([1 / (1 + d), 1 / (1 + d / n_levels), 1 / (1 + d**2), 1 / (1 + (d / n_levels) ** 2), inverse_square])


@compiled()
def _cooccurrence(
    placed: Array, positions: IntArray, steps: IntArray, pairs: IntArray, starts: IntArray, n_log_n: FloatArray, weights: FloatArray, out: FloatArray
) -> None:
    n_levels = weights.shape[1]
    most = 0
    for m in range(len(starts) - 1):
        most = max(most, starts[m + 1] - starts[m])
    around = np.empty(len(steps), dtype=np.int32)
    table = np.zeros((n_levels + 1, n_levels + 1), dtype=np.int32)
    cells = np.empty((most, 2), dtype=np.int32)
    counts = np.empty(most, dtype=np.int64)
    marginals = np.zeros((3, 2 * n_levels + 1), dtype=np.int64)
    features = np.empty(out.shape[1])
    for v in range(len(positions)):
        for k in range(len(steps)):
            around[k] = placed[positions[v] + steps[k]]
        out[v] = 0.0
        n_matrices = 0
        n_varied = 0
        for m in range(len(starts) - 1):
            n_pairs, n_cells = _count(around, pairs[starts[m] : starts[m + 1]], table, cells, counts)
            if n_pairs == 0:
                continue
            n_matrices += 1
            varied = _measure(cells[:n_cells], counts[:n_cells], n_pairs, marginals, n_log_n, weights, features)
            n_varied += varied
            for f in range(len(features)):
                if varied or f not in NEED_VARIETY:
                    out[v, f] += features[f]
        for f in range(len(features)):
            n = n_varied if f in NEED_VARIETY else n_matrices
            out[v, f] = out[v, f] / n if n else np.nan


@compiled()
def _count(around: Array, pairs: IntArray, table: Array, cells: Array, counts: IntArray) -> tuple[int, int]:
    """Count the pairs of levels (lower, higher), and leave the table empty."""
    n_pairs = 0
    n_cells = 0
    for p in range(len(pairs)):
        first = around[pairs[p, 0]]
        second = around[pairs[p, 1]]
        if first == 0 or second == 0:
            continue
        low = min(first, second)
        high = max(first, second)
        n_pairs += 1
        if table[low, high] == 0:
            cells[n_cells, 0] = low
            cells[n_cells, 1] = high
            n_cells += 1
        table[low, high] += 1
    for c in range(n_cells):
        counts[c] = table[cells[c, 0], cells[c, 1]]
        table[cells[c, 0], cells[c, 1]] = 0
    return n_pairs, n_cells


@compiled()
def _measure(cells: Array, counts: IntArray, n_pairs: int, marginals: IntArray, n_log_n: FloatArray, weights: FloatArray, features: FloatArray) -> bool:
    """Measure one symmetric matrix: a pair of equal levels is one cell of twice its count, another two cells of its count, of 2 n_pairs in all."""
    levels_sum = 0
    product = 0
    difference = 0
    squared_difference = 0
    largest = 0
    joint_logs = 0.0
    squares = 0.0
    id_ = idn = idm = idmn = iv = 0.0
    for c in range(len(cells)):
        low, high, n = np.int64(cells[c, 0]), np.int64(cells[c, 1]), counts[c]
        d = high - low
        marginals[0, low] += n
        marginals[0, high] += n
        marginals[1, d] += n
        marginals[2, low + high] += n
        levels_sum += n * (low + high)
        product += n * low * high
        difference += n * d
        squared_difference += n * d * d
        in_cell = 2 * n if d == 0 else n
        largest = max(largest, in_cell)
        joint_logs += n_log_n[in_cell] if d == 0 else 2.0 * n_log_n[n]
        squares += 4.0 * n * n if d == 0 else 2.0 * n * n
        id_ += n * weights[0, d]
        idn += n * weights[1, d]
        idm += n * weights[2, d]
        idmn += n * weights[3, d]
        iv += n * weights[4, d]
    total = 2.0 * n_pairs
    mean = levels_sum / total
    difference_mean = difference / n_pairs
    variance = covariance = difference_variance = tendency = shade = prominence = 0.0
    level_logs = difference_logs = sum_logs = 0.0
    for c in range(len(cells)):
        low, high, n = np.int64(cells[c, 0]), np.int64(cells[c, 1]), counts[c]
        a = low - mean
        b = high - mean
        d = high - low
        s = a + b
        variance += n * (a * a + b * b)
        covariance += n * a * b
        difference_variance += n * (d - difference_mean) ** 2
        tendency += n * s * s
        shade += n * s * s * s
        prominence += n * s * s * s * s
        # Each count is emptied as it is read: a level that occurs in several cells adds its logarithm once.
        level_logs += n_log_n[marginals[0, low]]
        marginals[0, low] = 0
        level_logs += n_log_n[marginals[0, high]]
        marginals[0, high] = 0
        difference_logs += n_log_n[marginals[1, d]]
        marginals[1, d] = 0
        sum_logs += n_log_n[marginals[2, low + high]]
        marginals[2, low + high] = 0
    log_pairs = np.log2(n_pairs)
    joint_entropy = max(log_pairs + 1.0 - joint_logs / total, 0.0)
    level_entropy = max(log_pairs + 1.0 - level_logs / total, 0.0)
    varied = len(cells) > 1 or cells[0, 0] != cells[0, 1]
    features[0] = largest / total
    features[1] = mean
    features[2] = variance / total
    features[3] = joint_entropy
    features[4] = difference_mean
    features[5] = difference_variance / n_pairs
    features[6] = max(log_pairs - difference_logs / n_pairs, 0.0)
    features[7] = 2.0 * mean
    features[8] = tendency / n_pairs
    features[9] = max(log_pairs - sum_logs / n_pairs, 0.0)
    features[10] = squares / (total * total)
    features[11] = squared_difference / n_pairs
    features[12] = difference_mean
    features[13] = id_ / n_pairs
    features[14] = idn / n_pairs
    features[15] = idm / n_pairs
    features[16] = idmn / n_pairs
    features[17] = iv / n_pairs
    features[18] = 2.0 * covariance / variance if varied else np.nan
    features[19] = product / n_pairs
    features[20] = tendency / n_pairs
    features[21] = shade / n_pairs
    features[22] = prominence / n_pairs
    features[23] = (joint_entropy - 2.0 * level_entropy) / level_entropy if varied else np.nan
    information = 2.0 * level_entropy - joint_entropy
    features[24] = np.sqrt(-np.expm1(-2.0 * information)) if information > INDEPENDENT_BITS else 0.0
    return varied
