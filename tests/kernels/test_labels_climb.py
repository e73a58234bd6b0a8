import numpy as np
from scipy.ndimage import gaussian_filter

from idx.kernels.labels import climb, largest_parts, select


def two_hills(gap: float) -> np.ndarray:
    y, x = np.mgrid[:41, :61]
    return np.exp(-((x - 30 + gap / 2) ** 2 + (y - 20) ** 2) / 40) + np.exp(-((x - 30 - gap / 2) ** 2 + (y - 20) ** 2) / 40)


def test_each_hill_is_one_object_and_the_border_lies_halfway():
    hills = two_hills(24.0)
    labels = climb(hills, hills > 0.05, radius_px=3)
    assert labels.max() == 2
    assert len(np.unique(labels[:, :30][labels[:, :30] > 0])) == 1
    assert (labels[:, :30] > 0).sum() == (labels[:, 31:] > 0).sum()


def test_a_shallow_second_peak_joins_the_higher_one():
    hills = two_hills(14.0)
    hills[20, 37] += 1e-3
    assert climb(hills, hills > 0.05, radius_px=3, min_depth=0.0).max() == 2
    assert climb(hills, hills > 0.05, radius_px=16, min_depth=2.0).max() == 1


def test_a_part_of_the_picture_gives_the_same_objects():
    hills = gaussian_filter(np.random.default_rng(0).random((120, 150)), 3)
    whole = climb(hills, hills > 0.5, radius_px=4, min_depth=0.01)
    part = climb(hills[20:100, 30:130], (hills > 0.5)[20:100, 30:130], radius_px=4, min_depth=0.01)
    inner_whole, inner_part = whole[50:70, 60:100], part[30:50, 30:70]
    assert len({*zip(inner_whole.ravel().tolist(), inner_part.ravel().tolist(), strict=True)}) == len(np.unique(inner_whole)) == len(np.unique(inner_part))


def test_the_largest_part_of_each_label_stays():
    labels = np.array([[7, 7, 0, 7, 3], [7, 0, 3, 0, 3], [0, 3, 0, 3, 3]])
    expected = np.array([[2, 2, 0, 0, 1], [2, 0, 0, 0, 1], [0, 0, 0, 1, 1]])
    np.testing.assert_array_equal(largest_parts(labels), expected)
    np.testing.assert_array_equal(select(expected, np.array([False, True])), np.where(expected == 2, 1, 0))


def test_nothing_gives_nothing():
    assert climb(np.ones((4, 5)), np.zeros((4, 5), dtype=bool), radius_px=2).max() == 0
    assert largest_parts(np.zeros((4, 5), dtype=int)).max() == 0
