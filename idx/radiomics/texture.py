"""Texture of a lesion: features of the grey level co-occurrence matrix (IBSI LFYI)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from idx._typing import Array, FloatArray, IntArray
from idx.kernels.cooccurrence import DIRECTIONS_2D, DIRECTIONS_3D, count_cooccurrences
from idx.table import Missing

Features = dict[str, float | Missing]

_SLICES, _DIRECTIONS = 0, 1
AGGREGATIONS: dict[str, tuple[bool, tuple[int, ...]]] = {
    "2d_averaged": (True, ()),
    "2d_slice_merged": (True, (_DIRECTIONS,)),
    "2.5d_direction_merged": (True, (_SLICES,)),
    "2.5d_merged": (True, (_SLICES, _DIRECTIONS)),
    "3d_averaged": (False, ()),
    "3d_merged": (False, (_SLICES, _DIRECTIONS)),
}
"""IBSI aggregation: whether pairs stay in a slice, and which axes (slices, directions) of the counts are summed; the rest is averaged over."""


def glcm_features(levels: Array, n_levels: int, *, aggregation: str) -> Features:
    """Measure the 25 features of the grey level co-occurrence matrix (IBSI LFYI), distance 1.

    Parameters
    ----------
    levels : array (z, y, x) of int
        Levels 1..n_levels; 0 outside the region.
    n_levels : int
        Number of levels.
    aggregation : str
        A key of ``AGGREGATIONS``.

    Returns
    -------
    dict
        Value or :class:`~idx.table.Missing` for every key of the catalogue's family "glcm". A feature that is undefined for one
        matrix of an average (the correlation of a slice of one level) is averaged over the others.
    """
    in_slice, merged = AGGREGATIONS[aggregation]
    counts = count_cooccurrences(levels, n_levels, directions=DIRECTIONS_2D if in_slice else DIRECTIONS_3D, per_slice=in_slice)
    matrices = counts.sum(axis=merged).reshape(-1, n_levels, n_levels)
    measured = [matrix_features(matrix) for matrix in matrices if matrix.any()]
    if not measured:
        return dict.fromkeys(_NAMES, Missing("no_pairs"))
    return {name: _average([features[name] for features in measured]) for name in _NAMES}


def _average(values: Sequence[float | Missing]) -> float | Missing:
    numbers = [value for value in values if not isinstance(value, Missing)]
    return float(np.mean(numbers)) if numbers else values[0]


def matrix_features(counts: IntArray) -> Features:
    """Measure the 25 features of one co-occurrence matrix.

    Parameters
    ----------
    counts : array (n_levels, n_levels)
        Symmetric counts, at least one pair.
    """
    n_levels = len(counts)
    p = counts / counts.sum()
    level = np.arange(1, n_levels + 1, dtype=np.float64)
    i, j = level[:, None], level[None, :]
    # Every diagonal of the matrix is one difference, every antidiagonal one sum: most features need no more than these.
    apart = np.arange(n_levels, dtype=np.float64)
    together = np.arange(2, 2 * n_levels + 1, dtype=np.float64)
    p_apart: FloatArray = np.bincount(np.abs(i - j).astype(np.int64).ravel(), p.ravel(), n_levels).astype(np.float64)
    p_together: FloatArray = np.bincount((i + j - 2).astype(np.int64).ravel(), p.ravel(), 2 * n_levels - 1).astype(np.float64)
    marginal = p.sum(axis=1)
    mean = float(level @ marginal)
    variance = float((level - mean) ** 2 @ marginal)
    autocorrelation = float(level @ p @ level)
    difference_mean = float(apart @ p_apart)
    contrast = float(apart**2 @ p_apart)
    from_middle = together - 2.0 * mean
    entropy = _entropy(p)
    features: Features = {
        "joint_maximum": float(p.max()),
        "joint_average": mean,
        "joint_variance": variance,
        "joint_entropy": entropy,
        "difference_average": difference_mean,
        "difference_variance": float((apart - difference_mean) ** 2 @ p_apart),
        "difference_entropy": _entropy(p_apart),
        "sum_average": float(together @ p_together),
        "sum_variance": float(from_middle**2 @ p_together),
        "sum_entropy": _entropy(p_together),
        "angular_second_moment": float(np.sum(p**2)),
        "contrast": contrast,
        "dissimilarity": difference_mean,
        "inverse_difference": float(np.sum(p_apart / (1.0 + apart))),
        "inverse_difference_normalised": float(np.sum(p_apart / (1.0 + apart / n_levels))),
        "inverse_difference_moment": float(np.sum(p_apart / (1.0 + apart**2))),
        "inverse_difference_moment_normalised": float(np.sum(p_apart / (1.0 + (apart / n_levels) ** 2))),
        "inverse_variance": float(np.sum(p_apart[1:] / apart[1:] ** 2)),
        "autocorrelation": autocorrelation,
        "cluster_tendency": float(from_middle**2 @ p_together),
        "cluster_shade": float(from_middle**3 @ p_together),
        "cluster_prominence": float(from_middle**4 @ p_together),
    }
    one_level = np.count_nonzero(marginal) == 1
    features["correlation"] = Missing("constant") if one_level else (autocorrelation - mean**2) / variance
    features |= _information_correlation(entropy, _entropy(marginal), one_level)
    return {f"glcm_{name}": value for name, value in features.items()}


def _entropy(p: FloatArray) -> float:
    """Entropy in bits."""
    some = p[p > 0]
    return float(-np.sum(some * np.log2(some))) + 0.0


def _information_correlation(joint: float, marginal: float, one_level: bool) -> Features:
    """Both information correlations from the entropies: in a symmetric matrix HXY1 = HXY2 = 2 HX."""
    first = Missing("constant") if one_level else (joint - 2.0 * marginal) / marginal
    # Independent levels have 2 HX = HXY, up to rounding of either sign.
    second = float(np.sqrt(1.0 - np.exp(-2.0 * max(2.0 * marginal - joint, 0.0))))
    return {"information_correlation_1": first, "information_correlation_2": second}


_NAMES = tuple(matrix_features(np.ones((2, 2), dtype=np.int64)))
