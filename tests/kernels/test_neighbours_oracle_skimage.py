"""Counts of level pairs against scikit-image, and features against its formulas."""

import numpy as np
import pytest
from skimage.feature import graycomatrix, graycoprops

from idx.kernels.engine import DIRECTIONS_2D, DIRECTIONS_3D
from idx.kernels.matrix_features import GLCM_FEATURES, glcm_features
from idx.kernels.neighbours import count_neighbours

N_LEVELS = 7


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(3).integers(1, N_LEVELS + 1, (23, 31))


def skimage_counts(picture, step):
    """Symmetric counts of one in-slice step, by scikit-image's angles (row step = sin, column step = cos)."""
    angle = np.arctan2(step[1], step[2])
    return graycomatrix((picture - 1).astype(np.uint8), [1], [angle], levels=N_LEVELS, symmetric=True)[:, :, 0, 0]


@pytest.mark.parametrize("d", range(len(DIRECTIONS_2D)))
def test_counts_of_each_direction(picture, d):
    counts = count_neighbours(picture[None], N_LEVELS, in_slice=True).pairs
    np.testing.assert_array_equal(counts[0, d], skimage_counts(picture, DIRECTIONS_2D[d]))


def test_features(picture):
    counts = skimage_counts(picture, DIRECTIONS_2D[0]).astype(np.int64)
    features = dict(zip(GLCM_FEATURES, glcm_features(counts[None])[0], strict=True))
    p = (counts / counts.sum())[:, :, None, None]
    pairs = {
        "contrast": "contrast",
        "dissimilarity": "dissimilarity",
        "inverse_difference_moment": "homogeneity",
        "angular_second_moment": "ASM",
        "correlation": "correlation",
    }
    for name, theirs in pairs.items():
        assert features[name] == pytest.approx(graycoprops(p, theirs).item(), rel=1e-12)


def test_directions_are_one_of_each_opposite_pair():
    every = set(DIRECTIONS_3D) | {tuple(-np.array(d)) for d in DIRECTIONS_3D}
    assert len(every) == 26
    assert all(dz == 0 for dz, _, _ in DIRECTIONS_2D)


@pytest.mark.parametrize("in_slice", [False, True])
def test_irregular_regions_equal_a_double_loop(in_slice):
    rng = np.random.default_rng(5)
    levels = rng.integers(0, N_LEVELS + 1, (3, 5, 4))
    directions = DIRECTIONS_2D if in_slice else DIRECTIONS_3D
    expected = np.zeros((3 if in_slice else 1, len(directions), N_LEVELS, N_LEVELS), dtype=np.int64)
    for d, step in enumerate(directions):
        for index in np.ndindex(levels.shape):
            other = tuple(np.add(index, step))
            if all(0 <= o < n for o, n in zip(other, levels.shape, strict=True)) and levels[index] and levels[other]:
                i, j = levels[index] - 1, levels[other] - 1
                expected[index[0] if in_slice else 0, d, i, j] += 1
                expected[index[0] if in_slice else 0, d, j, i] += 1
    np.testing.assert_array_equal(count_neighbours(levels, N_LEVELS, in_slice=in_slice).pairs, expected)
