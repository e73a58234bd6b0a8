"""Sums over squares and their means against plain numpy, to the limits of each integer type."""

import numpy as np
import pytest

from idx.kernels.halving import means_of_sums, sum_squares


@pytest.mark.parametrize(("fine", "coarse"), [(np.uint8, np.uint16), (np.uint16, np.uint16), (np.uint16, np.uint32), (np.uint32, np.uint32)])
def test_sums_of_squares(fine, coarse):
    most = min(np.iinfo(fine).max, np.iinfo(coarse).max // 4)
    values = np.random.default_rng(0).integers(0, most, (12, 20, 3), endpoint=True).astype(fine)
    values[:2, :2] = most
    out = np.empty((6, 10, 3), dtype=coarse)
    sum_squares(values, out)
    np.testing.assert_array_equal(out, values.astype(np.int64).reshape(6, 2, 10, 2, 3).sum(axis=(1, 3)))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_means_are_rounded_half_up_whatever_was_summed(dtype):
    rows, columns = np.array([16, 16, 7, 1, 0]), np.array([16, 16, 16, 3, 2, 0, 0])
    n = rows[:, None] * columns
    sums = (np.random.default_rng(0).random((5, 7, 3)) * 255 * n[..., None]).astype(dtype)
    sums[0, 0] = 255 * 256
    out = np.full((5, 7, 3), 99, dtype=np.uint8)
    means_of_sums(sums, out, rows=rows, columns=columns)
    expected = np.floor(sums / np.maximum(n, 1)[..., None] + 0.5) * (n > 0)[..., None]
    np.testing.assert_array_equal(out, expected)
