"""Kernels along one axis against their definitions."""

import numpy as np
import pytest
import pywt

from idx.kernels.axis_kernels import LAWS_NAMES, box_kernel, chain_reach, gaussian_kernels, laws_kernel, wavelet_chain, wavelet_names


@pytest.mark.parametrize("name", LAWS_NAMES)
def test_laws_kernels_have_unit_length_and_all_but_the_level_sum_to_nothing(name):
    kernel = np.array(laws_kernel(name))
    assert len(kernel) == int(name[1])
    assert np.sum(kernel**2) == pytest.approx(1.0)
    assert (abs(kernel.sum()) < 1e-15) == (name[0] != "L")


def test_five_voxels_are_two_threes():
    """Laws made his kernels of five by convolving those of three."""
    for five, (a, b) in {"L5": ("L3", "L3"), "E5": ("L3", "E3"), "R5": ("S3", "S3")}.items():
        long = np.convolve(laws_kernel(a), laws_kernel(b))
        assert np.allclose(long / np.linalg.norm(long), laws_kernel(five))


@pytest.mark.parametrize("sigma", [1.0, 1.7, 4.0])
def test_products_sum_to_the_sampled_laplacian_of_gaussian(sigma):
    gaussian, second = (np.array(kernel) for kernel in gaussian_kernels(sigma, 4.0))
    reach = int(np.floor(4 * sigma + 0.5))
    z, y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1]
    squared = x**2 + y**2 + z**2
    # IBSI L6PA in three dimensions.
    want = -(1 / sigma**2) * (1 / np.sqrt(2 * np.pi) / sigma) ** 3 * (3 - squared / sigma**2) * np.exp(-squared / (2 * sigma**2))
    parts = [(second, gaussian, gaussian), (gaussian, second, gaussian), (gaussian, gaussian, second)]
    assert np.allclose(sum(np.einsum("i,j,k", *part) for part in parts), want, atol=1e-15)


def test_a_box_is_a_mean():
    assert box_kernel(3) == (1 / 3, 1 / 3, 1 / 3)


@pytest.mark.parametrize("wavelet", ["haar", "db3", "coif1", "bior1.3"])
def test_wavelet_kernels_are_pywavelets_with_a_middle(wavelet):
    (high,) = wavelet_chain(wavelet, "H", 1)
    assert high[:-1] == tuple(pywt.Wavelet(wavelet).dec_hi)
    assert high[-1] == 0.0
    low, high = wavelet_chain(wavelet, "H", 2)
    assert low[:-1] == tuple(pywt.Wavelet(wavelet).dec_lo)
    assert high[::2][:-1] == tuple(pywt.Wavelet(wavelet).dec_hi)
    assert set(high[1::2]) == {0.0}
    assert chain_reach((low, high)) == 3 * (len(low) // 2)


def test_wavelet_names_are_known():
    assert {"haar", "db3", "coif1"} <= set(wavelet_names())
