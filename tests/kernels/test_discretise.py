import numpy as np

from idx.kernels.discretise import fixed_bin_number, fixed_bin_size


def test_fixed_size_is_anchored_at_the_origin():
    values = np.array([-1100.0, -1000.0, -975.001, -975.0, 399.0, 400.0])
    assert fixed_bin_size(values, width=25.0, origin=-1000.0).tolist() == [1, 1, 1, 2, 56, 57]


def test_fixed_number_puts_the_largest_value_in_the_last_level():
    values = np.array([0.0, 2.49, 2.5, 7.5, 10.0])
    assert fixed_bin_number(values, n_bins=4).tolist() == [1, 1, 2, 4, 4]
    assert fixed_bin_number(np.full(3, 7.0), n_bins=4).tolist() == [1, 1, 1]
