"""Gabor responses against direct sums over the kernel."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from idx.kernels.gabor import gabor_kernel, gabor_reach, modulus_responses

SCIPY_MODE = {"zero": "constant", "nearest": "nearest", "periodic": "wrap", "mirror": "reflect"}


def direct(plane, kernel, mode):
    real, imaginary = (ndimage.convolve(plane, part, mode=mode) for part in (kernel.real, kernel.imag))
    return np.hypot(real, imaginary)


@pytest.mark.parametrize(("boundary", "mode"), SCIPY_MODE.items())
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_responses_are_direct_sums(boundary, mode, axis):
    image = np.random.default_rng(1).normal(size=(7, 9, 8))
    kernels = [gabor_kernel(0.8, 3.0, 1.4, theta) for theta in (0.3, 1.9)]
    planes = np.moveaxis(image, axis, 0)
    each = [np.moveaxis(np.stack([direct(plane, kernel, mode) for plane in planes]), 0, axis) for kernel in kernels]
    for pooling, pool in (("max", np.max), ("average", np.mean)):
        got = modulus_responses(torch.from_numpy(image), kernels, axis, boundary, pooling).numpy()
        assert np.allclose(got, pool(each, axis=0), atol=1e-12)


def test_the_wave_runs_along_its_direction():
    kernel = gabor_kernel(4.0, 8.0, 1.0, 0.0)
    middle = kernel.shape[0] // 2
    along, across = kernel[middle, middle:], kernel[middle:, middle]
    assert along[4] == pytest.approx(-np.exp(-16 / 32))  # half a wavelength in columns
    assert np.allclose(across.imag, 0.0)
    turned = gabor_kernel(4.0, 8.0, 1.0, np.pi / 2)
    assert np.allclose(turned, kernel.T)


@pytest.mark.parametrize("theta", [0.0, 0.7, 2.5])
def test_the_kernel_ends_where_its_envelope_has_vanished(theta):
    kernel = np.abs(gabor_kernel(3.0, 5.0, 0.5, theta))
    rows, columns = gabor_reach(3.0, 0.5, theta)
    assert kernel.shape == (2 * rows + 1, 2 * columns + 1)
    border = np.concatenate([kernel[0], kernel[-1], kernel[:, 0], kernel[:, -1]])
    assert 1e-10 < border.max() < 2e-8
