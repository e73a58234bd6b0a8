"""Features around a voxel the plain way: cut the neighbourhood out, count every pair into a full matrix, write the formulas down as printed."""

import numpy as np

DIRECTIONS = [(z, y, x) for z in (0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0)]


def ball(inside, voxel, radius_mm, spacing_mm):
    """Voxels (z, y, x) of the region within a radius of one of them."""
    away = (np.indices(inside.shape).transpose(1, 2, 3, 0) - voxel) * spacing_mm[::-1]
    return inside & (np.linalg.norm(away, axis=-1) <= radius_mm)


def cube(inside, voxel, radius_voxels):
    """Voxels (z, y, x) of the region in a cube around one of them."""
    return inside & (np.abs(np.indices(inside.shape).transpose(1, 2, 3, 0) - voxel).max(axis=-1) <= radius_voxels)


def matrices(levels, n_levels, merged):
    """Symmetric co-occurrence matrices of the directions that have pairs; ``levels`` is 0 outside."""
    counts = np.zeros((len(DIRECTIONS), n_levels, n_levels))
    for voxel in np.argwhere(levels):
        for d, direction in enumerate(DIRECTIONS):
            other = voxel + direction
            if (other >= 0).all() and (other < levels.shape).all() and levels[tuple(other)]:
                i, j = levels[tuple(voxel)] - 1, levels[tuple(other)] - 1
                counts[d, i, j] += 1
                counts[d, j, i] += 1
    counts = counts.sum(axis=0, keepdims=True) if merged else counts
    return [matrix / matrix.sum() for matrix in counts if matrix.any()]


def entropy(p):
    return -np.sum(p[p > 0] * np.log2(p[p > 0]))


def cooccurrence(levels, n_levels, *, merged=False):
    """The 25 features of IBSI section 3.6 by catalogue key, NaN where undefined."""
    measured = [_of_matrix(p) for p in matrices(levels, n_levels, merged)]
    if not measured:
        return {}
    columns = {key: np.array([features[key] for features in measured]) for key in measured[0]}
    return {f"glcm_{key}": column[~np.isnan(column)].mean() if not np.isnan(column).all() else np.nan for key, column in columns.items()}


def _of_matrix(p):
    n = len(p)
    i, j = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)[None, :]
    p_difference = np.array([p[np.abs(i - j) == k].sum() for k in range(n)])
    p_sum = np.array([p[i + j == k].sum() for k in range(2, 2 * n + 1)])
    k, s = np.arange(n), np.arange(2, 2 * n + 1)
    p_level = p.sum(axis=1)
    mean = np.sum(i * p)
    variance = np.sum((i - mean) ** 2 * p)
    varied = np.count_nonzero(p_level) > 1
    product = p_level[:, None] * p_level[None, :]
    h_xy_1 = -np.sum(p[p > 0] * np.log2(product[p > 0]))
    h_xy_2 = entropy(product)
    return {
        "joint_maximum": p.max(),
        "joint_average": mean,
        "joint_variance": variance,
        "joint_entropy": entropy(p),
        "difference_average": np.sum(k * p_difference),
        "difference_variance": np.sum((k - np.sum(k * p_difference)) ** 2 * p_difference),
        "difference_entropy": entropy(p_difference),
        "sum_average": np.sum(s * p_sum),
        "sum_variance": np.sum((s - np.sum(s * p_sum)) ** 2 * p_sum),
        "sum_entropy": entropy(p_sum),
        "angular_second_moment": np.sum(p**2),
        "contrast": np.sum((i - j) ** 2 * p),
        "dissimilarity": np.sum(np.abs(i - j) * p),
        "inverse_difference": np.sum(p / (1 + np.abs(i - j))),
        "inverse_difference_normalised": np.sum(p / (1 + np.abs(i - j) / n)),
        "inverse_difference_moment": np.sum(p / (1 + (i - j) ** 2)),
        "inverse_difference_moment_normalised": np.sum(p / (1 + (i - j) ** 2 / n**2)),
        "inverse_variance": 2 * sum(p[a, b] / (a - b) ** 2 for a in range(n) for b in range(a + 1, n)),
        "correlation": np.sum((i - mean) * (j - mean) * p) / variance if varied else np.nan,
        "autocorrelation": np.sum(i * j * p),
        "cluster_tendency": np.sum((i + j - 2 * mean) ** 2 * p),
        "cluster_shade": np.sum((i + j - 2 * mean) ** 3 * p),
        "cluster_prominence": np.sum((i + j - 2 * mean) ** 4 * p),
        "information_correlation_1": (entropy(p) - h_xy_1) / entropy(p_level) if varied else np.nan,
        "information_correlation_2": np.sqrt(1 - np.exp(-2 * max(h_xy_2 - entropy(p), 0.0))),
    }
