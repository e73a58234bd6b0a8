import numpy as np
import pytest

from idx.errors import UnitError
from idx.io.hounsfield import rescale, to_hu


def test_values_that_are_no_integers_are_rounded_half_to_even():
    assert to_hu(np.array([-0.5, 0.5, 1.5, -1000.51]), where="f").tolist() == [0, 0, 2, -1001]


def test_the_ends_of_int16_pass():
    assert to_hu(np.array([-32768.4, 32767.4]), where="f").tolist() == [-32768, 32767]
    assert to_hu(np.array([-32768, 32767]), where="f").dtype == np.int16


@pytest.mark.parametrize("value", [-32769, 32768, 32767.6, 65535])
def test_values_beyond_int16_are_refused(value):
    with pytest.raises(UnitError, match=r"-32768 to 32767.*scan\.nii.*read_volume"):
        to_hu(np.array([0, value]), where="scan.nii")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_must_be_finite(value):
    with pytest.raises(UnitError, match=r"finite.*scan\.nii"):
        to_hu(np.array([0.0, value]), where="scan.nii")


def test_whole_numbers_are_rescaled_exactly_and_fractions_in_float64():
    stored = np.array([0, 65535], dtype=np.uint16)
    assert rescale(stored, 1.0, -1024.0).tolist() == [-1024, 64511]
    assert rescale(stored, 1.0, -1024.0).dtype == np.int64
    assert rescale(stored, 0.1, 0.5).tolist() == [0.5, 6554.0]
